//! Variables that a literal resembles: a typing error would silently become text of the prompt.
//!
//! Knows only names; may not know how pieces are parsed.

use crate::error::nearest;

/// Texts, without the `+` before and the number after them.
const TEXTS: [&str; 6] = ["sent", "sentl", "sentu", "sent-", "sentl-", "sentu-"];

/// Literals of at most this many characters are text.
const SHORT: usize = 3;

/// The variable that a literal would be without a slip. Only literals with a variable's marks are taken for one: a `+`, or a number
/// behind a `_`; with its first letter, and without a space at either end or an escape, which are meant as text.
pub(super) fn meant(literal: &str) -> Option<String> {
    let short = literal.chars().count() <= SHORT;
    if short || literal.starts_with('_') || literal.ends_with('_') || literal.contains('\\') {
        return None;
    }
    let first = |name: &str| name.trim_start_matches('+').chars().next();
    let alike = |name: &&str| first(name) == first(literal);
    let start = literal.trim_end_matches(|character: char| character.is_ascii_digit()).len();
    let (name, number) = literal.split_at(start);
    if !(1..=3).contains(&number.len()) {
        let of_separator = ["sep+"].into_iter().filter(|name| literal.contains('+') && alike(name));
        return nearest(literal, of_separator, 1).map(str::to_owned);
    }
    if !name.contains('_') {
        return None;
    }
    let texts = TEXTS.iter().flat_map(|text| [format!("{text}_{number}"), format!("+{text}_{number}")]);
    let names: Vec<String> = texts.chain([format!("label_{number}")]).collect();
    nearest(literal, names.iter().map(String::as_str).filter(alike), 1).map(str::to_owned)
}

/// The mask or the choice, if a literal would be its name without a slip.
pub(super) fn meant_mask(literal: &str) -> Option<&'static str> {
    nearest(literal.trim_matches('_'), ["mask", "choice"].into_iter(), 1)
}
