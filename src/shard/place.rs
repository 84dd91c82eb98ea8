//! Which part of a job this process is: from a flag, Slurm's environment, or torchrun's.

use crate::error::{Error, Result};

/// A part of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub index: usize,
    /// Number of parts.
    pub count: usize,
}

impl Place {
    /// Whether a job's piece of this number is this part's: every `count`th one is.
    pub fn has(self, piece: usize) -> bool {
        piece % self.count == self.index
    }
}

/// This process's environment, as [`place`] and [`local_rank`] read it. A variable that is not text counts as absent.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What `I/N` or `auto` means in an environment.
///
/// Under Slurm the tasks of an array's members count on: member m's task p of n is part `m n + p`. torchrun's ranks come next.
///
/// # Errors
/// [`Error::Settings`] where the text is neither, `auto` finds nothing, or what it finds contradicts itself.
pub fn place(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Place> {
    let fail = |message: String| Err(Error::Settings(format!("--shard {text}: {message}")));
    let found = if text == "auto" {
        let number = |name: &str| -> Result<Option<usize>> {
            match variable(name) {
                None => Ok(None),
                Some(value) => value
                    .parse()
                    .map(Some)
                    .map_err(|_| Error::Settings(format!("--shard auto: {name} is `{value}`, expected a number"))),
            }
        };
        let array = (number("SLURM_ARRAY_TASK_ID")?, number("SLURM_ARRAY_TASK_COUNT")?);
        let start = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
        let tasks = number("SLURM_PROCID")?.zip(number("SLURM_NTASKS")?);
        let (task, per_member) = tasks.unwrap_or((0, 1));
        match (array, tasks, number("RANK")?.zip(number("WORLD_SIZE")?)) {
            ((Some(id), Some(count)), _, _) => {
                let Some(member) = id.checked_sub(start) else {
                    return fail(format!("SLURM_ARRAY_TASK_ID {id} is below SLURM_ARRAY_TASK_MIN {start}"));
                };
                Place { index: member * per_member + task, count: count * per_member }
            }
            (_, Some((index, count)), _) | (_, None, Some((index, count))) => Place { index, count },
            _ => {
                return fail(
                    "no part is set: neither SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT, SLURM_PROCID and \
                     SLURM_NTASKS, nor RANK and WORLD_SIZE; give --shard I/N"
                        .into(),
                );
            }
        }
    } else {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) => Place { index, count },
            None => return fail("write I/N with I from 0 to N - 1, e.g. 0/4, or auto".into()),
        }
    };
    if found.index < found.count {
        return Ok(found);
    }
    fail(format!("part {} of {}: parts are counted from 0 (an array must have no gaps)", found.index, found.count))
}

/// The GPU that this process should take on its machine: `LOCAL_RANK` (torchrun) or `SLURM_LOCALID`.
pub fn local_rank(variable: &dyn Fn(&str) -> Option<String>) -> Option<usize> {
    ["LOCAL_RANK", "SLURM_LOCALID"].into_iter().find_map(|name| variable(name)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, set: &[(&str, &str)]) -> Result<(usize, usize)> {
        let variable = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        place(text, &variable).map(|p| (p.index, p.count))
    }

    #[test]
    fn parts_from_flags_and_environments() {
        let array = [("SLURM_ARRAY_TASK_ID", "7"), ("SLURM_ARRAY_TASK_COUNT", "4"), ("SLURM_ARRAY_TASK_MIN", "5")];
        assert_eq!(found("2/5", &[]).expect("plain"), (2, 5));
        assert_eq!(found("auto", &array).expect("an array"), (2, 4));
        let both = [&array[..], &[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "3")]].concat();
        assert_eq!(found("auto", &both).expect("tasks of an array"), (7, 12));
        assert_eq!(found("auto", &[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "3")]).expect("tasks"), (1, 3));
        assert_eq!(found("auto", &[("RANK", "3"), ("WORLD_SIZE", "8")]).expect("torchrun"), (3, 8));
    }

    #[test]
    fn contradictions_are_named() {
        for (text, set, message) in [
            ("5/5", &[][..], "part 5 of 5"),
            ("x", &[], "write I/N"),
            ("auto", &[], "no part is set"),
            ("auto", &[("RANK", "a"), ("WORLD_SIZE", "2")], "RANK is `a`"),
            ("auto", &[("SLURM_ARRAY_TASK_ID", "9"), ("SLURM_ARRAY_TASK_COUNT", "4")], "no gaps"),
        ] {
            let error = found(text, set).expect_err(message).to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn the_gpu_of_a_local_rank() {
        let one = |name: &'static str| move |n: &str| (n == name).then(|| "3".to_owned());
        assert_eq!(local_rank(&one("LOCAL_RANK")), Some(3));
        assert_eq!(local_rank(&one("SLURM_LOCALID")), Some(3));
        assert_eq!(local_rank(&|_| None), None);
    }
}
