//! The template language of LM-BFF: how the texts of an example become one prompt around a mask.
//!
//! A template is text cut at every `*`. Each piece is a variable (the table below) or literal text in which `_` stands
//! for a space: `*cls**sent_0*_It_was*mask*.*sep+*` reads “⟨cls⟩ first text, ` It was`, ⟨mask⟩, `.`, ⟨sep⟩”. A backslash makes
//! the next character plain (`\_`, `\*`, `\\`) or stands for a line end or a tab (`\n`, `\t`, `\r`); the name of a special or
//! added token of the tokenizer keeps its underscores (`<|im_start|>`).
//! This module knows the language only; it may not know tokenizers, tasks or data.
//!
//! Source: the prompts of Gao et al., "Making Pre-trained Language Models Better Few-shot Learners" (ACL 2021), which
//! Malladi et al. (ICML 2023) use unchanged.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The variables, as error messages and help texts list them.
pub const KNOWN_VARIABLES: &str = "cls, mask, sep, sep+ (a separator after which the segment id grows), \
sent_N (the Nth text, counted from 0), +sent_N (a space in front), sent-_N (without its last character), \
sentl_N or sentu_N (first character lower or upper case), their combinations such as +sentl_N and sentl-_N, \
label_N (the Nth label word), reply (where the answer of a chat begins)";

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

/// One piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The token that starts a sequence.
    Cls,
    /// The mask, whose position is read.
    Mask,
    /// A separator (`sep`), after which the segment id may grow by one (`sep+`).
    Sep {
        /// Whether the parts after it belong to the next segment.
        next_segment: bool,
    },
    /// A text of the example.
    Sentence(Sentence),
    /// The word of the Nth label, as one token.
    Label(usize),
    /// Literal text as templates write it, never empty: see [`literal_text`]. One character alone is looked up in the
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
                let letter = match sentence.first_letter {
                    FirstLetter::Keep => "",
                    FirstLetter::Lower => "l",
                    FirstLetter::Upper => "u",
                };
                let minus = if sentence.drop_last { "-" } else { "" };
                write!(f, "{plus}sent{letter}{minus}_{}", sentence.index)
            }
            Self::Label(index) => write!(f, "label_{index}"),
            Self::Literal(source) => f.write_str(source),
            Self::Reply => f.write_str("reply"),
        }
    }
}

/// A parsed template: its parts in order, with exactly one mask.
///
/// `Display` writes it back so that parsing gives an equal template; for the paper's templates it is the same string.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    parts: Vec<Part>,
}

impl Template {
    /// Parses a template. The error names the piece that is wrong and lists the variables.
    pub fn parse(source: &str) -> Result<Self> {
        let fail = |problem: String| {
            Err(Error::Settings(format!("template `{source}`: {problem}; the variables are {KNOWN_VARIABLES}")))
        };
        let mut parts = Vec::new();
        for piece in pieces(source).filter(|piece| !piece.is_empty()) {
            match parse_part(piece) {
                Ok(part) => parts.push(part),
                Err(problem) => return fail(problem),
            }
        }
        if parts.iter().filter(|part| **part == Part::Reply).count() > 1 {
            return fail("it has several `reply` parts, but a chat has one answer".to_string());
        }
        match parts.iter().filter(|part| **part == Part::Mask).count() {
            1 => Ok(Self { parts }),
            0 => fail("it has no `mask` part, but exactly one is needed".to_string()),
            count => fail(format!("it has {count} `mask` parts, but exactly one is needed")),
        }
    }

    /// The parts in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How many texts an example must have for this template: the highest text index plus one.
    pub fn text_count(&self) -> usize {
        let index = |part: &Part| if let Part::Sentence(sentence) = part { sentence.index + 1 } else { 0 };
        self.parts.iter().map(index).max().unwrap_or(0)
    }

    /// How many labels the template's `label_N` parts refer to: the highest label index plus one.
    pub fn label_count(&self) -> usize {
        let index = |part: &Part| if let Part::Label(index) = part { index + 1 } else { 0 };
        self.parts.iter().map(index).max().unwrap_or(0)
    }

    /// How many different segment ids the parts get when segments are on; a model's `type_vocab_size` must reach it.
    pub fn segment_count(&self) -> usize {
        let last = self.parts.len().saturating_sub(1);
        1 + self.parts[..last].iter().filter(|part| **part == Part::Sep { next_segment: true }).count()
    }
}

impl FromStr for Template {
    type Err = Error;

    fn from_str(source: &str) -> Result<Self> {
        Self::parse(source)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut after_literal = false;
        for part in &self.parts {
            if let Part::Literal(_) = part {
                write!(f, "{}{part}", if after_literal { "*" } else { "" })?;
                after_literal = true;
            } else {
                write!(f, "*{part}*")?;
                after_literal = false;
            }
        }
        Ok(())
    }
}

/// The pieces between the stars that no backslash stands in front of.
fn pieces(source: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    source.split(move |character| {
        let plain = !std::mem::take(&mut escaped);
        escaped = plain && character == '\\';
        plain && character == '*'
    })
}

/// The text that a literal stands for: `_` is a space, except in the names of tokens (`names`, longest first), and a backslash
/// makes the next character plain or a line end or tab.
pub fn literal_text(literal: &str, names: &[String]) -> String {
    let mut text = String::with_capacity(literal.len());
    let mut rest = literal;
    while let Some(character) = rest.chars().next() {
        let underscored = |name: &&String| name.contains('_') && name.chars().any(|other| other != '_');
        if let Some(name) = names.iter().filter(underscored).find(|name| rest.starts_with(name.as_str())) {
            text.push_str(name);
            rest = &rest[name.len()..];
            continue;
        }
        rest = &rest[character.len_utf8()..];
        match character {
            '_' => text.push(' '),
            '\\' => {
                let next = rest.chars().next().unwrap_or('\\');
                rest = &rest[next.len_utf8().min(rest.len())..];
                text.push(match next {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    plain => plain,
                });
            }
            plain => text.push(plain),
        }
    }
    text
}

/// A text as a literal writes it.
pub fn literal_source(text: &str) -> String {
    let mut source = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ' ' => source.push('_'),
            '\n' => source.push_str("\\n"),
            '\t' => source.push_str("\\t"),
            '\r' => source.push_str("\\r"),
            '_' | '*' | '\\' => source.extend(['\\', character]),
            plain => source.push(plain),
        }
    }
    source
}

/// A literal written in one way only: spaces, line ends and tabs as in [`literal_source`].
fn normal_literal(piece: &str) -> std::result::Result<String, String> {
    let mut source = String::with_capacity(piece.len());
    let mut characters = piece.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some(next @ ('n' | 't' | 'r' | '_' | '*' | '\\')) => source.extend(['\\', next]),
                Some(next) => {
                    return Err(format!("`\\{next}` is not known; known are \\n, \\t, \\r, \\_, \\* and \\\\"));
                }
                None => return Err("it ends in a single `\\`; write `\\\\` for one".to_string()),
            },
            '_' => source.push('_'),
            plain => source.push_str(&literal_source(&plain.to_string())),
        }
    }
    Ok(source)
}

/// One piece between two `*`; the error says what is wrong with it.
fn parse_part(piece: &str) -> std::result::Result<Part, String> {
    let part = match piece {
        "cls" => Part::Cls,
        "mask" => Part::Mask,
        "sep" => Part::Sep { next_segment: false },
        "sep+" => Part::Sep { next_segment: true },
        "reply" => Part::Reply,
        _ => {
            if let Some(part) = parse_indexed(piece) {
                part
            } else if let Some(problem) = misspelt(piece) {
                return Err(problem);
            } else {
                Part::Literal(normal_literal(piece)?)
            }
        }
    };
    Ok(part)
}

/// `[+]sent[l|u][-]_N` and `label_N`.
fn parse_indexed(piece: &str) -> Option<Part> {
    if let Some(number) = piece.strip_prefix("label_") {
        return parse_index(number).map(Part::Label);
    }
    let (space_before, rest) = strip(piece, "+");
    let rest = rest.strip_prefix("sent")?;
    let (lower, rest) = strip(rest, "l");
    let (upper, rest) = if lower { (false, rest) } else { strip(rest, "u") };
    let (drop_last, rest) = strip(rest, "-");
    let index = parse_index(rest.strip_prefix('_')?)?;
    let first_letter = match (lower, upper) {
        (true, _) => FirstLetter::Lower,
        (_, true) => FirstLetter::Upper,
        _ => FirstLetter::Keep,
    };
    Some(Part::Sentence(Sentence { index, space_before, first_letter, drop_last }))
}

/// Removes `prefix` if it is there, and says whether it was.
fn strip<'a>(text: &'a str, prefix: &str) -> (bool, &'a str) {
    text.strip_prefix(prefix).map_or((false, text), |rest| (true, rest))
}

/// A text or label number: digits only, at most three.
fn parse_index(digits: &str) -> Option<usize> {
    let plain = (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// Says why a piece that is no variable cannot be meant as literal text either: a variable's name in capitals or with
/// stray characters around it, or `sent`, `label` with a bad number. `sentence` or `_sent_away` are ordinary English.
fn misspelt(piece: &str) -> Option<String> {
    let trimmed = piece.trim_matches(['_', ' ', '+', '-']);
    let lower = trimmed.to_lowercase();
    if matches!(lower.as_str(), "cls" | "mask" | "sep") {
        return Some(format!("`{piece}` is not a variable (write `{lower}`)"));
    }
    if parse_indexed(&lower).is_some() {
        return Some(format!("`{piece}` is not a variable (write `{lower}`)"));
    }
    let name = piece.strip_prefix('+').unwrap_or(piece);
    let name = name.split_once('_').map_or(name, |(name, _)| name);
    let tail = name.strip_prefix("sent").or_else(|| name.strip_prefix("label").filter(|_| piece != "label"))?;
    let like_a_variable = tail.chars().all(|character| matches!(character, 'l' | 'u' | 'x' | '-' | '+' | '0'..='9'));
    like_a_variable.then(|| format!("`{piece}` is not a variable (a number counted from 0 must follow its `_`)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part() -> impl Strategy<Value = Part> {
        let letter = prop_oneof![Just(FirstLetter::Keep), Just(FirstLetter::Lower), Just(FirstLetter::Upper)];
        prop_oneof![
            Just(Part::Cls),
            any::<bool>().prop_map(|next_segment| Part::Sep { next_segment }),
            (0..1000_usize, any::<bool>(), letter, any::<bool>()).prop_map(
                |(index, space_before, first_letter, drop_last)| {
                    Part::Sentence(Sentence { index, space_before, first_letter, drop_last })
                }
            ),
            (0..1000_usize).prop_map(Part::Label),
            r"[ a-zäß.,:?_*\\\n\t\r]{1,12}"
                .prop_map(|text| literal_source(&text))
                .prop_filter("reads as a variable", |source| matches!(parse_part(source), Ok(Part::Literal(_))))
                .prop_map(Part::Literal),
        ]
    }

    proptest! {
        /// Whatever parses is written so that it parses to the same; any parts around a mask can be written.
        #[test]
        fn display_and_parse_are_inverse(
            before in prop::collection::vec(part(), 0..6),
            after in prop::collection::vec(part(), 0..6),
        ) {
            let parts: Vec<_> = before.into_iter().chain([Part::Mask]).chain(after).collect();
            let written = Template { parts: parts.clone() }.to_string();
            prop_assert_eq!(Template::parse(&written).unwrap().parts, parts);
        }

        /// No string makes the parser panic, and what it accepts it writes back.
        #[test]
        fn any_string_is_parsed_or_refused(source in r"(\*|_|\\|\n|cls|mask|sep|\+|sent|label|reply|l|u|-|[0-9]|é|.){0,14}") {
            if let Ok(template) = Template::parse(&source) {
                prop_assert_eq!(Template::parse(&template.to_string()).unwrap(), template);
            }
        }

        /// A literal's source stands for its text, and can be parsed.
        #[test]
        fn literals_stand_for_their_texts(text in r"[ a-z_*\\\n\t\r|<>é]{1,12}") {
            let source = literal_source(&text);
            prop_assert_eq!(literal_text(&source, &[]), text.clone());
            prop_assert_eq!(normal_literal(&source).unwrap(), source);
        }

        /// A text part changes its text as its name says, for any Unicode text.
        #[test]
        fn sentence_parts_follow_their_names(text in ".{0,12}") {
            let apply = |name: &str| match parse_part(name).unwrap() {
                Part::Sentence(sentence) => sentence.apply(&text),
                other => panic!("{other:?}"),
            };
            let characters: Vec<char> = text.chars().collect();
            let shorter: String = characters[..characters.len().saturating_sub(1)].iter().collect();
            let rest: String = characters.iter().skip(1).collect();
            let first: String = characters.iter().take(1).collect();
            prop_assert_eq!(apply("sent_0"), text.clone());
            prop_assert_eq!(apply("+sent_0"), format!(" {text}"));
            prop_assert_eq!(apply("sent-_0"), shorter);
            prop_assert_eq!(apply("sentl_0"), format!("{}{rest}", first.to_lowercase()));
            prop_assert_eq!(apply("+sentu_0"), format!(" {}{rest}", first.to_uppercase()));
        }
    }

    #[test]
    fn the_language_in_examples() {
        let template = Template::parse("*cls**sent-_0*?*mask*,*+sentl_1**sep+*").unwrap();
        assert_eq!(template.parts().len(), 7);
        assert_eq!((template.text_count(), template.label_count(), template.segment_count()), (2, 0, 1));
        assert_eq!(template.parts()[2], Part::Literal("?".to_string()));
        let two = Template::parse("*cls**sent_0**sep+**mask**label_1*a*b*sep*").unwrap();
        assert_eq!((two.segment_count(), two.label_count()), (2, 2));
        for english in ["*mask*sentence", "*mask*_sent_away", "*mask*label", "*mask*_masked", "*mask*_labels_are"] {
            assert!(Template::parse(english).is_ok(), "{english}");
        }
    }

    #[test]
    fn tokens_by_name_line_ends_and_plain_characters() {
        let names = ["<|im_start|>".to_string(), "__".to_string(), "[E_1]".to_string()];
        let text = |source: &str| {
            let template = Template::parse(&format!("{source}*mask*")).unwrap();
            let Part::Literal(literal) = &template.parts()[0] else { panic!("{template:?}") };
            assert_eq!(template.to_string(), format!("{literal}*mask*"));
            literal_text(literal, &names)
        };
        assert_eq!(text("<|im_start|>user\n"), "<|im_start|>user\n");
        assert_eq!(text(r"<|im_start|>user\nIt_was"), "<|im_start|>user\nIt was");
        assert_eq!(text(r"a\_b\*c\\d__e"), r"a_b*c\d  e");
        assert_eq!(text("a_[E_1]_b_[E_2]"), "a [E_1] b [E 2]");
    }

    #[test]
    fn errors_name_the_part_and_list_the_variables() {
        let problem = |source: &str| {
            let message = Template::parse(source).unwrap_err().to_string();
            assert!(message.contains(KNOWN_VARIABLES) && message.contains(source), "{message}");
            message
        };
        for (source, part) in [
            ("*cls**sent_x**mask*", "`sent_x` is not a variable (a number counted from 0 must follow its `_`)"),
            ("*sent0**mask*", "`sent0` is not a variable"),
            ("*+sentl**mask*", "`+sentl` is not a variable"),
            ("*sent_1234**mask*", "`sent_1234` is not a variable"),
            ("*label_yes**mask*", "`label_yes` is not a variable"),
            ("*_sent_0**mask*", "`_sent_0` is not a variable (write `sent_0`)"),
            ("*MASK*", "`MASK` is not a variable (write `mask`)"),
            ("*cls**sent_0*", "it has no `mask` part, but exactly one is needed"),
            ("", "it has no `mask` part"),
            ("*mask**mask*", "it has 2 `mask` parts, but exactly one is needed"),
            (r"a\x*mask*", r"`\x` is not known; known are \n, \t, \r, \_, \* and \\"),
            (r"*mask*a\", r"it ends in a single `\`"),
            ("*reply**reply**mask*", "it has several `reply` parts"),
        ] {
            assert!(problem(source).contains(part), "{}", problem(source));
        }
    }
}
