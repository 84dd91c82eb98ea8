//! Texts common to all formats of a comparison: values, accepted ranges and the summary.

use super::super::format::{plain, shorten, significant};
use crate::gate::{Basis, Comparison, FALSE_ALARMS, Row, Status, Value};

/// Maximum length of a value: digests are distinguished by their beginning.
const LONGEST: usize = 60;

/// A value; numbers with as many digits (three to nine) as needed to distinguish it from `other`.
pub(super) fn value(value: Option<&Value>, other: Option<&Value>) -> String {
    match value {
        None => "—".to_owned(),
        Some(Value::Number(number)) => {
            let other = other.and_then(Value::as_number).filter(|o| o != number);
            let digits = (3..9).find(|d| other.is_none_or(|o| significant(*number, *d) != significant(o, *d)));
            significant(*number, digits.unwrap_or(9))
        }
        Some(Value::Text(text)) => {
            let text = plain(text);
            let digest = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
            if digest { format!("{}…", &text[..12]) } else { shorten(&text, LONGEST) }
        }
    }
}

/// Old and new value of a row.
pub(super) fn values(row: &Row) -> (String, String) {
    (value(row.old.as_ref(), row.new.as_ref()), value(row.new.as_ref(), row.old.as_ref()))
}

/// The change relative to the old value, if both are numbers.
pub(super) fn change(row: &Row) -> String {
    let numbers = row.old.as_ref().and_then(Value::as_number).zip(row.new.as_ref().and_then(Value::as_number));
    match numbers {
        Some((old, new)) if old != 0.0 && old != new => {
            let percent = 100.0 * (new - old) / old.abs();
            if percent.abs() >= 0.01 { format!("{percent:+.2}%") } else { format!("{percent:+.1e}%") }
        }
        _ => String::new(),
    }
}

/// The accepted range, and its criterion.
pub(super) fn accepted(row: &Row) -> String {
    let seed = row.seed.map_or_else(String::new, |seed| format!(" at seed {seed}"));
    let range = row.accepted.map_or_else(String::new, |(low, high)| {
        let digits = (3..9).find(|d| significant(low, *d) != significant(high, *d)).unwrap_or(9);
        format!("{} to {}", significant(low, digits), significant(high, digits))
    });
    match (row.status, row.basis) {
        (Status::New, _) => "not in the baseline".to_owned(),
        (Status::Vanished, _) => "no longer measured".to_owned(),
        (_, Basis::Equality) => format!("the same{seed}"),
        (_, Basis::Rounding) if range.is_empty() => format!("the same{seed}"),
        (_, Basis::Rounding) => format!("{range} (rounding{seed})"),
        (_, Basis::Spread(runs)) if range.is_empty() => format!("as in {runs} runs"),
        (_, Basis::Spread(runs)) => format!("{range} (spread of {runs} runs)"),
    }
}

/// One line: whether it passed, and the number of metrics per outcome.
pub(super) fn headline(comparison: &Comparison) -> String {
    let findings: Vec<String> = [Status::Moved, Status::New, Status::Vanished]
        .into_iter()
        .map(|s| (s, comparison.count(s)))
        .filter(|(_, n)| *n > 0)
        .map(|(s, n)| format!("{n} {}", s.text()))
        .collect();
    let total = comparison.rows.len();
    if findings.is_empty() {
        format!("nothing moved: {total} metrics compared")
    } else {
        format!("{}: {total} metrics compared", findings.join(", "))
    }
}

/// Remarks, one sentence each.
pub(super) fn remarks(comparison: &Comparison) -> Vec<String> {
    let seeds = |seeds: &[u64]| seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let mut remarks =
        vec![format!("Seeds: {} before, {} now.", seeds(&comparison.old_seeds), seeds(&comparison.new_seeds))];
    let count = |status| comparison.count(status);
    if comparison.judged_by_spread > 0 {
        remarks.push(format!(
            "{} metrics are judged by their spread over {} seeds, with a probability of {FALSE_ALARMS} that any of them \
             is said to have moved by chance.",
            comparison.judged_by_spread,
            comparison.old_seeds.len()
        ));
    }
    if count(Status::Within) > 0 {
        remarks.push(format!(
            "{} are not what they were at the same seed, but within the spread over seeds.",
            count(Status::Within)
        ));
    }
    if count(Status::NotCompared) > 0 {
        remarks.push(format!("{} have nothing to be compared with at these seeds.", count(Status::NotCompared)));
    }
    for row in comparison.rows.iter().filter(|r| r.status == Status::Noted) {
        let (old, new) = values(row);
        remarks.push(format!("{}: {old} before, {new} now.", plain(&row.name)));
    }
    if comparison.ignored > 0 {
        remarks.push(format!("{} metrics were left out, as asked.", comparison.ignored));
    }
    remarks
}
