//! The parts of a template.

use std::fmt;

/// What happens to the first character of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FirstLetter {
    /// Unchanged (`sent`).
    #[default]
    Keep,
    /// Becomes lower case (`sentl`).
    Lower,
    /// Becomes upper case (`sentu`).
    Upper,
}

/// A text of the example, and its modifications before tokenization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sentence {
    /// Which text, counted from 0.
    pub index: usize,
    /// `+`: with a preceding space.
    pub space_before: bool,
    /// `l` or `u` after `sent`.
    pub first_letter: FirstLetter,
    /// `-`: the last character is dropped, whatever it is (usually the final full stop).
    pub drop_last: bool,
}

impl Sentence {
    /// The modified text.
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

/// Modifications of a row's choices before tokenization.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Choice {
    /// `l` or `u` after `choice`.
    pub first_letter: FirstLetter,
    /// `-`: the last character is dropped, whatever it is.
    pub drop_last: bool,
}

impl Choice {
    /// The modified choice, without the space before it.
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
    /// The mask, whose position is read, or the place of the row's choices.
    Mask,
    /// A separator (`sep`), after which the segment id may grow by one (`sep+`).
    Sep {
        /// Whether the following parts belong to the next segment.
        next_segment: bool,
    },
    /// A text of the example.
    Sentence(Sentence),
    /// The word of the Nth label.
    Label(usize),
    /// Literal text in template syntax, never empty: see [`super::literal_text`]. A single character is looked up in the
    /// vocabulary unchanged.
    Literal(String),
    /// Where the answer of a chat begins: what follows is written in the assistant's name.
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
