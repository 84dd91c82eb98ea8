//! The parts of a template, as templates write them.

use std::fmt;

/// What happens to the first character of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FirstLetter {
    /// Stays as it is (`sent`).
    #[default]
    Keep,
    /// Becomes lower case (`sentl`).
    Lower,
    /// Becomes upper case (`sentu`).
    Upper,
}

/// A text of the example, and how it is changed before it is tokenized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sentence {
    /// Which text, counted from 0.
    pub index: usize,
    /// `+`: a space in front.
    pub space_before: bool,
    /// `l` or `u` after `sent`.
    pub first_letter: FirstLetter,
    /// `-`: the last character is dropped, whatever it is (usually the final full stop).
    pub drop_last: bool,
}

impl Sentence {
    /// The text as the tokenizer gets it.
    pub fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len() + 1);
        if self.space_before {
            out.push(' ');
        }
        let mut rest = text;
        if self.drop_last
            && let Some((at, _)) = rest.char_indices().next_back()
        {
            rest = &rest[..at];
        }
        let mut characters = rest.chars();
        match (self.first_letter, characters.next()) {
            (_, None) => {}
            (FirstLetter::Keep, Some(first)) => out.push(first),
            (FirstLetter::Lower, Some(first)) => out.extend(first.to_lowercase()),
            (FirstLetter::Upper, Some(first)) => out.extend(first.to_uppercase()),
        }
        out.push_str(characters.as_str());
        out
    }
}

impl FirstLetter {
    /// Its letter in names of variables.
    fn letter(self) -> &'static str {
        match self {
            Self::Keep => "",
            Self::Lower => "l",
            Self::Upper => "u",
        }
    }
}

/// How the choices of a row are changed before they are tokenized, where a template has them in its mask's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// `l` or `u` after `choice`.
    pub first_letter: FirstLetter,
    /// `-`: the last character is dropped, whatever it is.
    pub drop_last: bool,
}

impl Choice {
    /// A choice as it answers the prompt, without the space in front of it.
    pub fn apply(&self, text: &str) -> String {
        let Self { first_letter, drop_last } = *self;
        Sentence { index: 0, space_before: false, first_letter, drop_last }.apply(text)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "choice{}{}", self.first_letter.letter(), if self.drop_last { "-" } else { "" })
    }
}

/// One piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The token that starts a sequence.
    Cls,
    /// The mask, whose position is read, or the row's choices in its place.
    Mask,
    /// A separator (`sep`), after which the segment id may grow by one (`sep+`).
    Sep {
        /// Whether the parts after it belong to the next segment.
        next_segment: bool,
    },
    /// A text of the example.
    Sentence(Sentence),
    /// The word of the Nth label.
    Label(usize),
    /// Literal text as templates write it, never empty: see [`super::literal_text`]. One character alone is looked up in the
    /// vocabulary as it is.
    Literal(String),
    /// Where the answer of a chat begins: what stands behind it is written in the assistant's name.
    Reply,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cls => f.write_str("cls"),
            Self::Mask => f.write_str("mask"),
            Self::Sep { next_segment } => f.write_str(if *next_segment { "sep+" } else { "sep" }),
            Self::Sentence(sentence) => {
                let plus = if sentence.space_before { "+" } else { "" };
                let letter = sentence.first_letter.letter();
                let minus = if sentence.drop_last { "-" } else { "" };
                write!(f, "{plus}sent{letter}{minus}_{}", sentence.index)
            }
            Self::Label(index) => write!(f, "label_{index}"),
            Self::Literal(source) => f.write_str(source),
            Self::Reply => f.write_str("reply"),
        }
    }
}
