//! LM-BFF's template language, which turns an example's texts into a prompt with one mask.
//!
//! A template is text cut at every `*`. Each piece is a variable (the table below) or literal text in which `_` stands for a
//! space: `*cls**sent_0*_It_was*mask*.*sep+*` reads “⟨cls⟩ first text, ` It was`, ⟨mask⟩, `.`, ⟨sep⟩”. A backslash escapes
//! the next character (`\_`, `\*`, `\\`) or writes a newline or tab (`\n`, `\t`, `\r`); names of the tokenizer's special or
//! added tokens keep their underscores (`<|im_start|>`). A literal that resembles a variable's name is refused. This module
//! knows only the language; it may not know tokenizers, tasks or data.
//!
//! Source: the prompts of Gao et al., "Making Pre-trained Language Models Better Few-shot Learners" (ACL 2021), which
//! Malladi et al. (ICML 2023) use unchanged.

mod literal;
mod parse;
mod part;
#[cfg(test)]
mod tests;
mod typos;

use std::fmt;
use std::str::FromStr;

pub use literal::literal_text;
pub use part::{Choice, FirstLetter, Part, Sentence};

use self::parse::{Parsed, parse_piece, pieces};
use self::typos::meant_mask;

use crate::error::{Error, Result};

/// The list of variables for error messages and help texts.
pub const KNOWN_VARIABLES: &str = "cls, mask, sep, sep+ (a separator after which the segment id grows), sent_N (the \
                                   Nth text, counted from 0), +sent_N (with a preceding space), sent-_N (without its \
                                   last character), sentl_N or sentu_N (first character lower or upper case), their \
                                   combinations such as +sentl_N and sentl-_N, label_N (the Nth label word), reply \
                                   (where the answer of a chat begins), choice (instead of the mask: each of the \
                                   row's choices; choicel, choiceu and choice- as for sent)";

/// A parsed template: its parts in order, with exactly one mask or place for choices.
///
/// `Display` writes a string that parses to an equal template; for the paper's templates it is the original string.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    parts: Vec<Part>,
    choice: Option<Choice>,
}

impl Template {
    /// Parses a template. The error names the piece that is wrong and lists the variables.
    pub fn parse(source: &str) -> Result<Self> {
        let fail = |problem: String| {
            Err(Error::Syntax {
                what: "template",
                text: source.into(),
                problem,
                expected: format!("the variables are {KNOWN_VARIABLES}"),
            })
        };
        let (mut parts, mut choice) = (Vec::new(), None);
        for piece in pieces(source).filter(|piece| !piece.is_empty()) {
            match parse_piece(piece) {
                Ok(Parsed::Part(part)) => parts.push(part),
                Ok(Parsed::Choice(found)) => {
                    parts.push(Part::Mask);
                    choice = Some(found);
                }
                Err(problem) => return fail(problem),
            }
        }
        if parts.iter().filter(|part| **part == Part::Reply).count() > 1 {
            return fail("it has several `reply` parts, but a chat has one answer".to_string());
        }
        let what = if choice.is_some() { "`mask` and `choice`" } else { "`mask`" };
        match parts.iter().filter(|part| **part == Part::Mask).count() {
            1 => Ok(Self { parts, choice }),
            0 => fail(format!("it has no `mask` part, but exactly one is needed{}", mask_hint(&parts))),
            count => fail(format!("it has {count} {what} parts, but exactly one is needed")),
        }
    }

    /// How the row's choices are modified, if they take the mask's place.
    pub fn choice(&self) -> Option<Choice> {
        self.choice
    }

    /// The parts in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The number of texts that an example needs for this template: the highest text index plus one.
    pub fn text_count(&self) -> usize {
        let index = |part: &Part| if let Part::Sentence(sentence) = part { sentence.index + 1 } else { 0 };
        self.parts.iter().map(index).max().unwrap_or(0)
    }

    /// The number of labels that the template's `label_N` parts need: the highest label index plus one.
    pub fn label_count(&self) -> usize {
        let index = |part: &Part| if let Part::Label(index) = part { index + 1 } else { 0 };
        self.parts.iter().map(index).max().unwrap_or(0)
    }

    /// The number of different segment ids if segments are on; a model's `type_vocab_size` must be at least that.
    pub fn segment_count(&self) -> usize {
        let last = self.parts.len().saturating_sub(1);
        1 + self.parts[..last].iter().filter(|part| **part == Part::Sep { next_segment: true }).count()
    }
}

/// What may have been meant as the mask, in parentheses.
fn mask_hint(parts: &[Part]) -> String {
    let found = parts.iter().find_map(|part| {
        let Part::Literal(literal) = part else { return None };
        Some((literal, meant_mask(literal)?))
    });
    found.map_or_else(String::new, |(literal, name)| format!(" (did you mean `*{name}*` by `{literal}`?)"))
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
            if let (Part::Mask, Some(choice)) = (part, self.choice) {
                write!(f, "*{choice}*")?;
                after_literal = false;
            } else if let Part::Literal(_) = part {
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
