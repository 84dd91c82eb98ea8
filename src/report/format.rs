//! Formats numbers, names and external texts for reports.
//!
//! Knows Markdown and the terminal, nothing of what an analysis is.

use crate::evidence::accuracy_error;

/// Below this, a statistic of order one is round-off of double precision after a training run, which differs between
/// processors and is never printed.
pub(super) const ROUND_OFF: f64 = 1e-9;

/// A fraction as a percentage with one decimal; in scientific notation if very large.
pub(super) fn percent(share: f64) -> String {
    let value = 100.0 * share;
    if value.is_finite() && value.abs() < 1e5 {
        return format!("{}%", unsigned_zero(format!("{value:.1}")));
    }
    if value.is_finite() { format!("{}%", number(value)) } else { format!("{} times 100%", number(share)) }
}

/// A number with three significant digits (whole numbers in full); in scientific notation below 1e-3 and from 1e5.
pub(super) fn number(value: f64) -> String {
    significant(value, 3)
}

/// The same with another number of significant digits, at least one.
pub(super) fn significant(value: f64, digits: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.*e}", digits - 1);
    let exponent: i32 = scientific.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(i32::MAX);
    if !(-3..5).contains(&exponent) {
        return scientific;
    }
    if value.fract() == 0.0 {
        format!("{value}")
    } else {
        format!("{value:.*}", (digits as i32 - 1 - exponent).max(0) as usize)
    }
}

/// The unit of the last meaningful digit of a number with an interval: the second digit of half the interval's width. Never
/// finer than `finest`, the relevant unit; than a millionth of the number; or than round-off of a statistic of order one,
/// which differs between processors.
pub(super) fn unit(low: f64, high: f64, finest: Option<f64>) -> f64 {
    let half = (high - low) / 2.0;
    let floor = [finest.unwrap_or(0.0), 1e-6 * low.abs().max(high.abs()), ROUND_OFF].into_iter().fold(0.0, f64::max);
    if half > 0.0 && half.is_finite() { floor.max(half / 10.0) } else { floor }
}

/// A number rounded to the decimal place of a unit: the power of ten at or below it. Zero has no sign.
pub(super) fn resolved(value: f64, unit: f64) -> String {
    if !value.is_finite() {
        return format!("{value}");
    }
    let place = unit.log10().floor() as i32;
    if place < -6 && value.abs() < 1e-3 {
        // In scientific notation, with digits up to that place.
        let lead = if value == 0.0 { place } else { value.abs().log10().floor() as i32 };
        let digits = (lead - place).max(0) as usize;
        return if lead < place { "0".to_owned() } else { format!("{value:.digits$e}") };
    }
    if place >= 0 {
        let step = 10f64.powi(place);
        let rounded = (value / step).round() * step;
        return if rounded.abs() < 1e6 { unsigned_zero(format!("{rounded:.0}")) } else { number(value) };
    }
    unsigned_zero(format!("{value:.*}", place.unsigned_abs() as usize))
}

/// A number with the ends of its interval, rounded to its [`unit`]; as a plain [`number`] if the interval has no width or is
/// the whole line.
pub(super) fn interval(value: f64, low: f64, high: f64, finest: Option<f64>) -> (String, String, String) {
    let unit = unit(low, high, finest);
    if finest.is_none() && !(low < high && (high - low).is_finite()) {
        let text = |x: f64| if x.abs() < ROUND_OFF { "0".to_owned() } else { number(x) };
        return (text(value), text(low), text(high));
    }
    (resolved(value, unit), resolved(low, unit), resolved(high, unit))
}

/// A chosen number in its shortest form: `0.05`, `1e-10`.
pub(super) fn chosen(value: f64) -> String {
    let plain = format!("{value}");
    if plain.len() <= 6 {
        return plain;
    }
    let scientific = format!("{value:e}");
    if scientific.len() <= 6 { scientific } else { number(value) }
}

/// A slope as a fraction, `-1/2`, if it is one of small numbers.
pub(super) fn fraction(value: f64) -> String {
    for denominator in [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0] {
        let numerator = value * denominator;
        if (numerator - numerator.round()).abs() < 1e-9 && numerator.abs() < 100.0 {
            // Adding zero takes the sign from -0.
            let numerator = numerator.round() + 0.0;
            return if denominator == 1.0 { format!("{numerator}") } else { format!("{numerator}/{denominator}") };
        }
    }
    number(value)
}

/// A learning rate in its shortest form, e.g. `1e-5`.
pub(super) fn rate(value: f64) -> String {
    format!("{value:e}")
}

/// A count with commas between thousands.
pub(super) fn count(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("-{text}") } else { text }
}

/// An accuracy with its standard error in percentage points, e.g. `78.1% ± 1.4`.
pub(super) fn with_error(accuracy: f64, n: usize) -> String {
    match accuracy_error(accuracy, n) {
        Some(error) => format!("{} ± {:.1}", percent(accuracy), 100.0 * error),
        None => percent(accuracy),
    }
}

fn unsigned_zero(text: String) -> String {
    if text.starts_with('-') && text.bytes().all(|b| !(b'1'..=b'9').contains(&b)) { text[1..].to_owned() } else { text }
}

/// The paper's name of an optimizer.
pub(super) fn optimizer_title(name: &str) -> String {
    match name {
        "sgd" => "SGD".to_owned(),
        "signgd" => "SignGD".to_owned(),
        "adam" => "Adam".to_owned(),
        other => plain(other),
    }
}

/// The paper's name of a kernel formula.
pub(super) fn kernel_title(formula: &str) -> String {
    match formula {
        "sgd" => "K(SGD)".to_owned(),
        "signgd" => "K(SignGD)".to_owned(),
        "asymmetric" => "K(A-SignGD)".to_owned(),
        other => format!("K({})", plain(other)),
    }
}

/// One line without control characters, so that external text cannot break a table, an XML file or a terminal.
pub(super) fn plain(text: &str) -> String {
    let harmless = |c: char| {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}') { ' ' } else { c }
    };
    text.chars().map(harmless).collect::<String>().trim().to_owned()
}

/// At most `limit` characters, ending in an ellipsis if truncated.
pub(super) fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

/// Text escaped for Markdown, including tables.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in plain(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '~' | '$' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

/// A code span, safe in a table and for text with backticks.
pub(super) fn code(text: &str) -> String {
    let text = plain(text);
    if text.is_empty() {
        return "(empty)".to_owned();
    }
    if text.contains('|') {
        // Tables are split at bars before code spans are parsed; only character references avoid that.
        let literal = |c: char| if c.is_ascii_punctuation() { format!("&#{};", c as u32) } else { c.to_string() };
        return format!("<code>{}</code>", text.chars().map(literal).collect::<String>());
    }
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A name safe for file names and links.
pub(super) fn slug(text: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let slug: String = text.chars().take(40).map(letter).collect();
    let slug = slug.trim_matches('-');
    if slug.is_empty() { "unnamed".to_owned() } else { slug.to_owned() }
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn join(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_go_scientific_at_the_ends() {
        let cases = [
            (0.0, "0"),
            (0.5, "0.500"),
            (2.0, "2"),
            (-3.216_59, "-3.22"),
            (9.999, "10.0"),
            (123.456, "123"),
            (99_999.9, "1.00e5"),
            (43_211.0, "43211"),
            (0.001_234, "0.00123"),
            (0.000_999_9, "0.00100"),
            (0.000_12, "1.20e-4"),
            (1e-300, "1.00e-300"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text, "{value:e}");
        }
    }

    #[test]
    fn intervals_are_printed_to_what_they_resolve() {
        let texts = |value, low, high, finest| {
            let (value, low, high) = interval(value, low, high, finest);
            format!("{value} [{low}, {high}]")
        };
        // Half a width of 0.01 is told to its second digit.
        assert_eq!(texts(-0.5, -0.51, -0.49, None), "-0.500 [-0.510, -0.490]");
        assert_eq!(texts(118.3, 90.1, 143.9, None), "118 [90, 144]");
        assert_eq!(texts(7_341.0, 6_012.0, 8_670.0, None), "7300 [6000, 8700]");
        assert_eq!(texts(2.1e-8, 1.9e-8, 2.4e-8, None), "2.1e-8 [1.9e-8, 2.4e-8]");
        assert_eq!(texts(0.999_91, 0.999_81, 1.000_01, None), "0.99991 [0.99981, 1.00001]");
        // A reader who asks about 0.002 learns nothing from a finer digit, and round-off differs between processors.
        assert_eq!(texts(0.999_91, 0.999_81, 1.000_01, Some(0.002)), "1.000 [1.000, 1.000]");
        assert_eq!(texts(-6.37e-8, -6.68e-7, 5.41e-7, Some(0.002)), "0.000 [0.000, 0.000]");
        assert_eq!(texts(0.0, 0.0, 0.0, Some(0.002)), "0.000 [0.000, 0.000]");
        assert_eq!(texts(3e-17, -2e-16, 2e-16, None), "0 [0, 0]");
        // No more than six digits, whatever the interval.
        assert_eq!(texts(1.0 / 3.0, 1.0 / 3.0 - 1e-9, 1.0 / 3.0 + 1e-9, None), "0.3333333 [0.3333333, 0.3333333]");
        assert_eq!(texts(2.5, 2.5, 2.5, None), "2.50 [2.50, 2.50]");
        assert_eq!(texts(f64::NAN, f64::NEG_INFINITY, f64::INFINITY, None), "NaN [-inf, inf]");
        assert_eq!(texts(0.25, f64::NEG_INFINITY, f64::INFINITY, None), "0.250 [-inf, inf]");
        assert_eq!(texts(0.25, f64::NEG_INFINITY, f64::INFINITY, Some(0.002)), "0.250 [-inf, inf]");
    }

    #[test]
    fn chosen_numbers_are_short_and_slopes_are_fractions() {
        assert_eq!([0.05, 1e-10, -0.5, 1.0 / 3.0, 10.0].map(chosen), ["0.05", "1e-10", "-0.5", "0.333", "10"]);
        let slopes = [-0.5, 0.0, -0.0, 1.0, -1.0 / 3.0, 0.75, 0.37];
        assert_eq!(slopes.map(fraction), ["-1/2", "0", "0", "1", "-1/3", "3/4", "0.370"]);
    }

    #[test]
    fn percentages_have_one_decimal() {
        let cases = [(0.78125, "78.1%"), (1.0, "100.0%"), (-0.0001, "0.0%"), (-0.5, "-50.0%"), (1e6, "1.00e8%")];
        for (value, text) in cases {
            assert_eq!(percent(value), text);
        }
        // By hand, with two right and two wrong answers added: √(52/104 · 52/104 / 104) = 0.0490, √(12/14 · 2/14 / 14) =
        // 0.0935.
        assert_eq!(with_error(0.5, 100), "50.0% ± 4.9");
        assert_eq!(with_error(1.0, 10), "100.0% ± 9.4");
        assert_eq!(with_error(0.5, 0), "50.0%");
        assert_eq!(count(4_385_920), "4,385,920");
        assert_eq!(count(-12), "-12");
    }

    #[test]
    fn texts_of_others_stay_literal() {
        assert_eq!(escape("a*b_c <d> | e\nf"), r"a\*b\_c &lt;d&gt; \| e f");
        assert_eq!(code("*cls**sent_0*"), "`*cls**sent_0*`");
        assert_eq!(code("a`b"), "``a`b``");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code("a|b"), "<code>a&#124;b</code>");
        assert_eq!(slug("../A b"), "a-b");
        assert_eq!(shorten("abcdef", 4), "abc…");
    }
}
