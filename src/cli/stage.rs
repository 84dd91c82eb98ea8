//! The look of a stage's progress bar, alone or among others.

use std::fmt::Write;

use indicatif::{ProgressState, ProgressStyle};

/// A stage's name in `message`, its bar, units done and of how many, their rate and the time left.
pub(super) fn stage_style() -> ProgressStyle {
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        // Fails only where the bar's own text does.
        let _ = out.write_str(&spoken_rate(state.per_sec()));
    };
    style(TEMPLATE).with_key("rate", rate)
}

/// As wide as the terminal: a line that wraps is not overwritten by the next one.
const TEMPLATE: &str = "{wide_msg} {bar:16} {pos:>5}/{len:<5} {rate:>10} {eta:>5} left";

/// A style of its own.
pub(super) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Units per second, or seconds per unit where these are longer than one.
fn spoken_rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 1.0 {
        return format!("{} s each", digits(1.0 / per_second));
    }
    format!("{}/s", digits(per_second))
}

/// Two digits and more: as many as a rate is steady to.
fn digits(number: f64) -> String {
    if number < 10.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressStyle;

    use super::{TEMPLATE, spoken_rate};

    #[test]
    fn rates_have_two_digits_and_slow_ones_are_times() {
        let said = [0.0, 0.004, 0.125, 0.999, 1.0, 3.99, 9.99, 226.6, 41_000.0].map(spoken_rate);
        let expected =
            ["0.0/s", "250 s each", "8.0 s each", "1.0 s each", "1.0/s", "4.0/s", "10.0/s", "227/s", "41000/s"];
        assert_eq!(said, expected);
    }

    #[test]
    fn the_library_reads_the_template() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
