//! Variables that a literal resembles: a typing error would silently become text of the prompt.
//!
//! Knows only names; may not know how pieces are parsed.

use crate::error::nearest;

/// Variables without a number. The mask and a choice are not among them, because a template without either is refused anyway.
const PLAIN: [&str; 4] = ["cls", "sep", "sep+", "reply"];

/// Texts, without the `+` before and the number after them.
const TEXTS: [&str; 6] = ["sent", "sentl", "sentu", "sent-", "sentl-", "sentu-"];

/// Literals of at most this many characters are text.
const SHORT: usize = 3;

/// The variable that a literal would be without a slip, or without two if a number ends it, which is rare in words. Text with
/// a space at either end, or with an escape, is meant as text.
pub(super) fn meant(literal: &str) -> Option<String> {
    if literal.chars().count() <= SHORT || literal.starts_with('_') || literal.ends_with('_') || literal.contains('\\')
    {
        return None;
    }
    let start = literal.trim_end_matches(|character: char| character.is_ascii_digit()).len();
    let number = &literal[start..];
    if !(1..=3).contains(&number.len()) {
        return nearest(literal, PLAIN.into_iter(), 1).map(str::to_owned);
    }
    let texts = TEXTS.iter().flat_map(|text| [format!("{text}_{number}"), format!("+{text}_{number}")]);
    let names: Vec<String> = texts.chain([format!("label_{number}")]).collect();
    nearest(literal, names.iter().map(String::as_str), 2).map(str::to_owned)
}

/// The mask or the choice, if a literal would be its name without a slip.
pub(super) fn meant_mask(literal: &str) -> Option<&'static str> {
    nearest(literal.trim_matches('_'), ["mask", "choice"].into_iter(), 1)
}
