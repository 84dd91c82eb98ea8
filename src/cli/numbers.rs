//! Numbers on the command line: what is said of text that is none, for every option of every command, and of counts of nothing.

use std::any::TypeId;
use std::fmt::Display;
use std::num::NonZeroUsize;
use std::str::FromStr;

use bytesize::ByteSize;
use clap::{Arg, Command};

use crate::error::{Error, Result};

/// A command and all below it. Their numbers may begin with a minus sign, so that a negative one is refused as such, and not as an
/// option of that name; an option in place of a number is refused as no number.
pub(super) fn with_numbers(command: Command) -> Command {
    command.mut_args(of_number).mut_subcommands(with_numbers)
}

fn of_number(option: Arg) -> Arg {
    let of = option.get_value_parser().type_id();
    let signed = |option: Arg| option.allow_hyphen_values(true);
    if of == TypeId::of::<usize>() {
        signed(option).value_parser(whole::<usize>)
    } else if of == TypeId::of::<u64>() {
        signed(option).value_parser(whole::<u64>)
    } else if of == TypeId::of::<i64>() {
        signed(option).value_parser(whole::<i64>)
    } else if of == TypeId::of::<NonZeroUsize>() {
        signed(option).value_parser(count)
    } else if of == TypeId::of::<f64>() {
        signed(option).value_parser(number)
    } else if of == TypeId::of::<ByteSize>() {
        signed(option).value_parser(size)
    } else {
        option
    }
}

/// A whole number that is not negative.
fn whole<T: FromStr + PartialOrd + Default>(text: &str) -> std::result::Result<T, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    match text.parse::<T>() {
        Ok(number) if number >= T::default() => Ok(number),
        Err(_) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            Err("the number is too large".to_owned())
        }
        _ => Err("expected a whole number, 0 or more".to_owned()),
    }
}

fn count(text: &str) -> std::result::Result<NonZeroUsize, String> {
    NonZeroUsize::new(whole(text)?).ok_or_else(|| "expected a whole number, 1 or more".to_owned())
}

fn number(text: &str) -> std::result::Result<f64, String> {
    text.parse().map_err(|_| "expected a number, for example 0.001 or 1e-3".to_owned())
}

fn size(text: &str) -> std::result::Result<ByteSize, String> {
    text.parse().map_err(|_| "expected a size, for example 800MB or 6GB".to_owned())
}

/// Refuses counts of nothing: an option, and its value if it has one.
///
/// # Errors
/// [`Error::Arguments`] for the first that is below 1.
pub(super) fn check_counts<T: PartialOrd + From<u8> + Display>(counts: &[(&str, Option<T>)]) -> Result<()> {
    for (flag, value) in counts {
        if let Some(value) = value.as_ref().filter(|value| **value < T::from(1)) {
            return Err(Error::argument(*flag, format!("it is {value}, expected 1 or more")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::command::commands;

    /// Of every option that takes a number, whichever command it belongs to. Fails for: a command whose options are left as they
    /// were, a type of numbers that is not known here.
    #[test]
    fn what_is_no_number_is_refused_with_what_is_expected() {
        const WHOLE: [TypeId; 4] =
            [TypeId::of::<usize>(), TypeId::of::<u64>(), TypeId::of::<i64>(), TypeId::of::<NonZeroUsize>()];
        let mut seen = 0;
        for command in commands().get_subcommands() {
            for option in command.get_arguments() {
                let of = option.get_value_parser().type_id();
                let expected = if of == TypeId::of::<f64>() {
                    "expected a number, for example"
                } else if of == TypeId::of::<ByteSize>() {
                    "expected a size, for example 800MB or 6GB"
                } else if WHOLE.iter().any(|t| of == *t) {
                    "expected a whole number, 0 or more"
                } else {
                    continue;
                };
                seen += 1;
                let flag = format!("--{}", option.get_long().expect("an option"));
                let said = |value: &str| {
                    let refused = commands().try_get_matches_from(["kernelview", command.get_name(), &flag, value]);
                    refused.expect_err("a refusal").to_string()
                };
                for value in ["x", "", "1,5x", "-", "-x", "--k"] {
                    assert!(said(value).contains(expected), "{} {flag} {value}: {}", command.get_name(), said(value));
                }
                if expected.contains("whole") {
                    assert!(["-1", "1.5", "-1,2", "-1e3", "-inf"].iter().all(|value| said(value).contains(expected)));
                    assert!(said("99999999999999999999").contains("too large"));
                }
            }
        }
        assert!(seen > 40, "{seen} options");
    }

    #[test]
    fn sizes_and_signs_are_read() {
        let found =
            commands().try_get_matches_from("kernelview analyze --memory 6GB --k +3 --lr-sgd -1e-3,2".split(' '));
        let found = found.expect("numbers");
        let (_, found) = found.subcommand().expect("a command");
        assert_eq!(found.get_one::<ByteSize>("memory"), Some(&ByteSize::gb(6)));
        assert_eq!(found.get_one::<usize>("k"), Some(&3));
        let rates: Vec<f64> = found.get_many("lr_sgd").expect("rates").copied().collect();
        assert_eq!(rates, [-1e-3, 2.0], "refused with the setting, which names what is expected of it");
    }

    #[test]
    fn counts_of_nothing_are_refused() {
        assert!(check_counts(&[("--a", Some(1usize)), ("--b", None)]).is_ok());
        let refused = check_counts(&[("--a", Some(1i64)), ("--b", Some(0))]).expect_err("a refusal").to_string();
        assert_eq!(refused, "--b: it is 0, expected 1 or more");
    }
}
