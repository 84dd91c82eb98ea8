//! Which examples were answered correctly.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whether each test example was answered correctly, in the set's order. Empty if not recorded. In files, a text of `1` and
/// `0`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers(pub Vec<bool>);

impl Answers {
    /// From predicted and true classes.
    pub fn of(pairs: impl Iterator<Item = (usize, usize)>) -> Self {
        Self(pairs.map(|(found, label)| found == label).collect())
    }
}

impl Serialize for Answers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|right| if *right { '1' } else { '0' }).collect();
        text.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Answers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let right = |c| match c {
            '1' => Ok(true),
            '0' => Ok(false),
            other => Err(D::Error::custom(format!("answers must be `1` or `0` per example, not `{other}`"))),
        };
        text.chars().map(right).collect::<Result<_, _>>().map(Self)
    }
}
