//! Which shard of a job this process computes, from a text or the environment of Slurm or torchrun.

use crate::error::{Error, Result};
use crate::setting::Field;

/// A shard of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub index: usize,
    /// Number of shards.
    pub count: usize,
}

impl Place {
    /// Whether the work item with this index belongs to the shard: every `count`th one does.
    pub fn has(self, piece: usize) -> bool {
        piece % self.count == self.index
    }
}

/// This process's environment, as [`place`] and [`local_rank`] read it. A variable that is not text counts as absent.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Parses `I/N`, or finds the shard for `auto` in an environment.
///
/// `auto` numbers the members of a Slurm array and, within each, its processes: torchrun's ranks, or else the tasks of a job
/// step. Process p of n in member m is shard `m n + p`.
///
/// # Errors
/// [`Error::Shard`] if the text is invalid, or if `auto` finds nothing or contradictory variables.
pub fn place(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Place> {
    let found = if text == "auto" {
        Launch::read(variable)?.place()
    } else {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        parts
            .map(|(index, count)| Place { index, count })
            .ok_or_else(|| "write I/N with I from 0 to N - 1, e.g. 0/4, or auto".to_owned())
    };
    let found = found.and_then(|place| {
        let Place { index, count } = place;
        let gaps = if text == "auto" { " (an array must have no gaps)" } else { "" };
        let outside = || format!("shard {index} of {count}: shards are counted from 0{gaps}");
        if index < count { Ok(place) } else { Err(outside()) }
    });
    found.map_err(|problem| Error::Shard { text: text.into(), problem })
}

/// What launchers tell a process about its place among others.
struct Launch {
    /// Member of a Slurm array, from 0, and number of members.
    member: Option<(usize, usize)>,
    /// Smallest index of the array.
    start: usize,
    /// Task of a Slurm job step, and number of tasks.
    task: Option<(usize, usize)>,
    /// torchrun's rank, and number of ranks.
    rank: Option<(usize, usize)>,
    /// Number of torchrun launchers that share the ranks.
    groups: Option<usize>,
}

impl Launch {
    fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let number = |name: &str| -> Result<Option<usize>> {
            let wrong = |value| Error::Shard {
                text: "auto".into(),
                problem: format!("{name} is `{value}`, expected a number"),
            };
            variable(name).map(|value| value.parse().map_err(|_| wrong(value))).transpose()
        };
        let pair = |index: &str, count: &str| Ok::<_, Error>(number(index)?.zip(number(count)?));
        let rank = pair("RANK", "WORLD_SIZE")?;
        // Older launchers only state how many processes each started; a single launcher started them all.
        let groups = match (number("GROUP_WORLD_SIZE")?, number("LOCAL_WORLD_SIZE")?, rank) {
            (Some(groups), ..) => Some(groups),
            (None, Some(local), Some((_, world))) if local > 0 => Some(world.div_ceil(local)),
            _ => None,
        };
        Ok(Self {
            member: pair("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")?,
            start: number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0),
            task: pair("SLURM_PROCID", "SLURM_NTASKS")?,
            rank,
            groups,
        })
    }

    fn place(&self) -> std::result::Result<Place, String> {
        let process = self.process()?;
        let Some((id, members)) = self.member else {
            return process.ok_or_else(|| {
                format!(
                    "found neither SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT, nor SLURM_PROCID and \
                     SLURM_NTASKS, nor RANK and WORLD_SIZE; give {} I/N",
                    Field::Shard
                )
            });
        };
        let Some(member) = id.checked_sub(self.start) else {
            return Err(format!("SLURM_ARRAY_TASK_ID {id} is below SLURM_ARRAY_TASK_MIN {}", self.start));
        };
        let Place { index, count } = process.unwrap_or(Place { index: 0, count: 1 });
        Ok(Place { index: member * count + index, count: members * count })
    }

    /// This process's index among those of its job, or of its array member.
    ///
    /// If Slurm starts torchrun, and torchrun this program, both state an index. Ranks are used if they span all tasks:
    /// there is only one task, each task has a launcher of the group, or each task is a rank. Otherwise two tasks may have
    /// the same ranks.
    fn process(&self) -> std::result::Result<Option<Place>, String> {
        let of = |(index, count)| Place { index, count };
        let (Some((task, tasks)), Some((rank, ranks))) = (self.task, self.rank) else {
            return Ok(self.rank.or(self.task).map(of));
        };
        let in_order = || ranks % tasks == 0 && rank / (ranks / tasks) == task;
        let over_all = match self.groups {
            _ if tasks == 1 || (task, tasks) == (rank, ranks) => true,
            Some(groups) => groups == tasks,
            None => ranks > 0 && tasks > 0 && ranks >= tasks && in_order(),
        };
        if over_all {
            return Ok(Some(of((rank, ranks))));
        }
        Err(format!(
            "SLURM_PROCID {task} of SLURM_NTASKS {tasks} and RANK {rank} of WORLD_SIZE {ranks} contradict each \
             other: it is unclear which processes share the work; start one torchrun per task (srun \
             --ntasks-per-node=1 torchrun --nnodes={tasks} …), or give {} I/N",
            Field::Shard
        ))
    }
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

    /// torchrun inside Slurm: a launcher on every node, in tasks of their own.
    #[test]
    fn ranks_inside_slurm_are_parts() {
        let set = |pairs: &[(&'static str, usize)]| -> Vec<(&'static str, String)> {
            pairs.iter().map(|(name, value)| (*name, value.to_string())).collect()
        };
        let auto = |set: &[(&'static str, String)]| {
            let pairs: Vec<(&str, &str)> = set.iter().map(|(n, v)| (*n, v.as_str())).collect();
            found("auto", &pairs).map_err(|e| e.to_string())
        };
        // srun --ntasks-per-node=1 torchrun --nproc-per-node=4, on one node and on two.
        for (nodes, told) in [(1, true), (1, false), (2, true), (2, false)] {
            let of = |rank: usize, more: &[(&'static str, usize)]| {
                let mut all = set(&[
                    ("SLURM_PROCID", rank / 4),
                    ("SLURM_NTASKS", nodes),
                    ("RANK", rank),
                    ("WORLD_SIZE", 4 * nodes),
                ]);
                if told {
                    all.extend(set(&[("LOCAL_RANK", rank % 4), ("LOCAL_WORLD_SIZE", 4)]));
                }
                all.extend(set(more));
                auto(&all)
            };
            let ranks = 4 * nodes;
            for rank in 0..ranks {
                assert_eq!(of(rank, &[]), Ok((rank, ranks)));
                // In member 2 (of 0 to 2) of an array.
                let array = [("SLURM_ARRAY_TASK_ID", 2), ("SLURM_ARRAY_TASK_COUNT", 3)];
                assert_eq!(of(rank, &array), Ok((2 * ranks + rank, 3 * ranks)));
            }
        }
        // The rendezvous may give the second task the first ranks.
        let turned =
            set(&[("SLURM_PROCID", 1), ("SLURM_NTASKS", 2), ("RANK", 0), ("WORLD_SIZE", 8), ("GROUP_WORLD_SIZE", 2)]);
        assert_eq!(auto(&turned), Ok((0, 8)));
        // A script that names Slurm's tasks as ranks.
        let same = set(&[("SLURM_PROCID", 3), ("SLURM_NTASKS", 5), ("RANK", 3), ("WORLD_SIZE", 5)]);
        assert_eq!(auto(&same), Ok((3, 5)));
    }

    /// Two tasks that each run a torchrun of their own: whatever is told of them, no part has two processes.
    #[test]
    fn no_part_is_computed_twice() {
        for groups in [None, Some(("GROUP_WORLD_SIZE", "1")), Some(("LOCAL_WORLD_SIZE", "4"))] {
            let mut parts = Vec::new();
            for (task, rank) in (0..8).map(|p| (p / 4, p % 4)) {
                let (task, rank) = (task.to_string(), rank.to_string());
                let told = [("SLURM_PROCID", &*task), ("SLURM_NTASKS", "2"), ("RANK", &*rank), ("WORLD_SIZE", "4")];
                match found("auto", &[&told[..], groups.as_slice()].concat()) {
                    Ok(part) => parts.push(part),
                    Err(error) => {
                        let error = error.to_string();
                        assert!(error.contains(&format!("SLURM_PROCID {task} of SLURM_NTASKS 2")), "{error}");
                        assert!(error.contains(&format!("RANK {rank} of WORLD_SIZE 4")), "{error}");
                    }
                }
            }
            let distinct: std::collections::BTreeSet<_> = parts.iter().collect();
            assert_eq!(distinct.len(), parts.len(), "{parts:?}");
            assert!(groups.is_none() || parts.is_empty(), "{parts:?}");
        }
    }

    #[test]
    fn contradictions_are_named() {
        for (text, set, message) in [
            ("5/5", &[][..], "shard 5 of 5"),
            ("x", &[], "write I/N"),
            ("auto", &[], "found neither SLURM_ARRAY_TASK_ID"),
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
