//! The family in the program's sources, `fixtures/family`, or another in its place.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::lm::ModelConfig;

/// Environment variable with the directory of another family: networks `NAME-WIDTH`, as made by pre-training.
pub const FAMILY_VARIABLE: &str = "KERNELVIEW_FAMILY";

/// Names of the family's networks in the program's sources.
pub const BUILT_IN: [&str; 3] = ["prose-64", "prose-128", "prose-256"];

/// A network of the family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Its width.
    pub width: i64,
    /// Its checkpoint directory.
    pub directory: PathBuf,
}

/// Directory of the family, whether it exists or not: `KERNELVIEW_FAMILY`, else `fixtures/family` of the sources.
pub fn family_directory() -> PathBuf {
    std::env::var_os(FAMILY_VARIABLE)
        .filter(|v| !v.is_empty())
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/family"), PathBuf::from)
}

/// The family's networks by width, at least two.
///
/// # Errors
/// [`Error::Format`] if there are fewer, or if a network's `config.json` is wrong.
pub fn family_members() -> Result<Vec<Member>> {
    let directory = family_directory();
    let entries = std::fs::read_dir(&directory).into_iter().flatten();
    let mut members: Vec<Member> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("config.json").exists())
        .map(|directory| Ok(Member { width: ModelConfig::read(&directory)?.hidden_size, directory }))
        .collect::<Result<_>>()?;
    if members.len() < 2 {
        return Err(Error::format(
            directory,
            format!(
                "{} pre-trained network(s) here, two widths are needed; set {FAMILY_VARIABLE} to a directory that \
                 `kernelview pretrain` made",
                members.len()
            ),
        ));
    }
    members.sort();
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_models_are_those_of_the_sources() {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/family");
        let entries = std::fs::read_dir(directory).expect("the family").flatten();
        let mut found: Vec<String> = entries
            .filter(|entry| entry.path().join("config.json").exists())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        found.sort_unstable();
        let mut named = BUILT_IN.to_vec();
        named.sort_unstable();
        assert_eq!(found, named);
    }
}
