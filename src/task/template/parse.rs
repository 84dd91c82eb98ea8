//! Parses the pieces of a template: variables, and errors in pieces that look like one.

use super::literal::normal_literal;
use super::part::{Choice, FirstLetter, Part, Sentence};
use super::typos::meant;

/// A parsed piece.
pub(super) enum Parsed {
    /// A part.
    Part(Part),
    /// The place for a choice of the row, instead of the mask.
    Choice(Choice),
}

/// The pieces between unescaped stars.
pub(super) fn pieces(source: &str) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    source.split(move |character| {
        let plain = !std::mem::take(&mut escaped);
        escaped = plain && character == '\\';
        plain && character == '*'
    })
}

/// One piece between two `*`; the error says what is wrong with it.
pub(super) fn parse_piece(piece: &str) -> Result<Parsed, String> {
    if let Some(choice) = parse_choice(piece) {
        return Ok(Parsed::Choice(choice));
    }
    let part = match piece {
        "cls" => Part::Cls,
        "mask" => Part::Mask,
        "sep" => Part::Sep { next_segment: false },
        "sep+" => Part::Sep { next_segment: true },
        "reply" => Part::Reply,
        _ => match parse_indexed(piece) {
            Some(part) => part,
            None => Part::Literal(parse_literal(piece)?),
        },
    };
    Ok(Parsed::Part(part))
}

/// Literal text in canonical form; an error if it looks like a misspelt variable.
fn parse_literal(piece: &str) -> Result<String, String> {
    let literal = normal_literal(piece)?;
    if let Some(problem) = misspelt(&literal) {
        return Err(problem);
    }
    match meant(&literal) {
        None => Ok(literal),
        Some(name) => Err(format!(
            "`{literal}` is not a variable (did you mean `*{name}*`? as text it needs a space in front: `_{literal}`)"
        )),
    }
}

/// `choice[l|u][-]`.
fn parse_choice(piece: &str) -> Option<Choice> {
    let (first_letter, drop_last, rest) = parse_changes(piece.strip_prefix("choice")?);
    rest.is_empty().then_some(Choice { first_letter, drop_last })
}

/// `[l|u][-]` before the rest.
fn parse_changes(rest: &str) -> (FirstLetter, bool, &str) {
    let (lower, rest) = strip(rest, "l");
    let (upper, rest) = if lower { (false, rest) } else { strip(rest, "u") };
    let (drop_last, rest) = strip(rest, "-");
    let first_letter = match (lower, upper) {
        (true, _) => FirstLetter::Lower,
        (_, true) => FirstLetter::Upper,
        _ => FirstLetter::Keep,
    };
    (first_letter, drop_last, rest)
}

/// `[+]sent[l|u][-]_N` and `label_N`.
fn parse_indexed(piece: &str) -> Option<Part> {
    if let Some(number) = piece.strip_prefix("label_") {
        return parse_index(number).map(Part::Label);
    }
    let (space_before, rest) = strip(piece, "+");
    let rest = rest.strip_prefix("sent")?;
    let (first_letter, drop_last, rest) = parse_changes(rest);
    let index = parse_index(rest.strip_prefix('_')?)?;
    Some(Part::Sentence(Sentence { index, space_before, first_letter, drop_last }))
}

/// Removes `prefix` if present, and returns whether it was.
fn strip<'a>(text: &'a str, prefix: &str) -> (bool, &'a str) {
    text.strip_prefix(prefix).map_or((false, text), |rest| (true, rest))
}

/// A text or label number: digits only, at most three.
fn parse_index(digits: &str) -> Option<usize> {
    let plain = (1..=3).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// Says why a piece that is not a variable cannot be literal text either: a variable's name in capitals or with stray
/// characters around it, or `sent`, `label` with a bad number. `sentence` or `_sent_away` are ordinary English.
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
