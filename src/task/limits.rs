//! The limits of a prompt's length, and which of them to change if the token to read lies beyond them.
//!
//! Knows lengths only; may not know tokenizers, data or models.

use super::reading::Reading;
use crate::setting::Field;

/// What limits a prompt together with its answer.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// The task's maximum number of tokens.
    pub max_length: usize,
    /// The model's number of positions, if known.
    pub positions: Option<usize>,
    /// Number of the answer's tokens after the first.
    pub more: usize,
}

impl Limits {
    /// The maximum number of tokens of a prompt without its answer.
    pub fn prompt(&self) -> usize {
        self.max_length.saturating_sub(self.more)
    }

    /// What is wrong and which limits to change, if the first `needed` tokens, which end with the token to read and its
    /// answer, do not fit. `texts` has the number and length of each text among them that could be shorter.
    pub fn problem(&self, reading: Reading, needed: usize, texts: &[(usize, usize)]) -> Option<String> {
        let what = match reading {
            Reading::Mask => "mask",
            Reading::LastToken => "token before the mask",
            Reading::FirstTokenAlone | Reading::LastTokenAlone => "token to read",
        };
        if let Some(positions) = self.positions.filter(|positions| needed > *positions) {
            let advice = together(positions, needed, texts);
            return Some(format!(
                "the {what} would be token {needed}, but the model has only {positions} positions: {advice}"
            ));
        }
        let excess = needed.checked_sub(self.max_length).filter(|excess| *excess > 0)?;
        let message = format!(
            "the {what} would be token {needed} of a prompt truncated to {} tokens: {} must be at least {needed}",
            self.max_length,
            Field::MaxLength
        );
        let longest = texts.iter().filter(|(_, length)| *length > excess).max_by_key(|text| text.1);
        Some(match longest {
            Some((number, length)) => format!("{message}, or {} {} at most", limit_of(*number), length - excess),
            None => message,
        })
    }
}

/// The limit of a text.
fn limit_of(number: usize) -> Field {
    if number == 0 { Field::FirstSentenceLimit } else { Field::OtherSentenceLimit }
}

/// Limits with which the token to read is within the model's positions, whatever the lengths of a row's texts.
fn together(positions: usize, needed: usize, texts: &[(usize, usize)]) -> String {
    let fixed = needed.saturating_sub(texts.iter().map(|(_, length)| length).sum());
    let each = positions.saturating_sub(fixed).checked_div(texts.len()).unwrap_or(0);
    if each == 0 {
        return format!("shorten {} or the answers, which take {fixed} without any text", Field::Template);
    }
    let mut limits = vec![format!("{} {positions}", Field::MaxLength)];
    for (number, _) in texts {
        let limit = format!("{} {each}", limit_of(*number));
        if !limits.contains(&limit) {
            limits.push(limit);
        }
    }
    format!("give {} together", limits.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(max_length: usize, needed: usize, texts: &[(usize, usize)]) -> Option<String> {
        Limits { max_length, positions: Some(64), more: 0 }.problem(Reading::Mask, needed, texts)
    }

    #[test]
    fn beyond_the_models_positions_limits_are_named_that_work_together() {
        let beyond = |needed: usize, advice: &str| {
            Some(format!("the mask would be token {needed}, but the model has only 64 positions: {advice}"))
        };
        for max_length in [32, 64, 128, 400] {
            let one = "give setting `max_length` 64 and setting `first_sentence_limit` 60 together";
            assert_eq!(problem(max_length, 208, &[(0, 204)]), beyond(208, one));
        }
        let two = "give setting `max_length` 64 and setting `first_sentence_limit` 30 and setting \
                   `other_sentence_limit` 30 together";
        assert_eq!(problem(128, 104, &[(0, 80), (1, 20)]), beyond(104, two));
        let twice = "give setting `max_length` 64 and setting `other_sentence_limit` 27 together";
        assert_eq!(problem(128, 90, &[(1, 40), (1, 40)]), beyond(90, twice));
        let none = "shorten setting `template` or the answers, which take 70 without any text";
        assert_eq!(problem(128, 70, &[]), beyond(70, none));
        assert_eq!(problem(128, 90, &[(0, 20)]), beyond(90, none));
    }

    #[test]
    fn within_them_either_limit_is_enough() {
        assert_eq!((problem(64, 64, &[(0, 60)]), problem(400, 60, &[(0, 56)])), (None, None));
        let short = "the mask would be token 60 of a prompt truncated to 32 tokens: setting `max_length` must be at \
                     least 60, or setting `first_sentence_limit` 28 at most";
        assert_eq!(problem(32, 60, &[(0, 56)]).as_deref(), Some(short));
    }

    #[test]
    fn an_answers_further_tokens_shorten_the_prompt() {
        let limits = Limits { max_length: 10, positions: None, more: 3 };
        assert_eq!(limits.prompt(), 7);
        assert_eq!(limits.problem(Reading::Mask, 10, &[]), None);
        assert!(limits.problem(Reading::Mask, 11, &[]).is_some());
    }
}
