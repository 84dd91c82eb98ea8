//! The pre-trained family of the claims on prompts: networks of one recipe that differ in width, with the built-in cloze tasks.

use tch::Device;

use super::context::Context;
use super::scan::list;
use crate::analysis::{Pretrained, Study, StudyRequest};
use crate::device::Dtype;
use crate::error::Result;
use crate::evidence::Profile;
use crate::lm::OutputMode;
use crate::pretrain::{Member, family_members};
use crate::task::OwnSplit;
use crate::task::cloze::BuiltinCloze;

pub(super) use crate::task::cloze::builtin as tasks;

/// Training examples per label word.
pub(super) const PER_WORD: usize = 8;

/// The family's networks, by width.
pub(super) struct Family {
    pub members: Vec<Member>,
}

impl Family {
    /// The networks for a profile: the two smallest in the quick profile, otherwise all.
    ///
    /// # Errors
    /// [`crate::error::Error::Format`] if there are fewer than two.
    pub fn open(context: &Context<'_>) -> Result<Self> {
        let mut family = Self::whole()?;
        if context.profile == Profile::Quick {
            family.members.truncate(2);
        }
        Ok(family)
    }

    /// All networks, in any profile.
    ///
    /// # Errors
    /// Those of [`Self::open`].
    pub fn whole() -> Result<Self> {
        Ok(Self { members: family_members()? })
    }

    /// The widths.
    pub fn widths(&self) -> Vec<f64> {
        self.members.iter().map(|m| m.width as f64).collect()
    }

    /// The networks, for a report's settings.
    pub fn setting(&self) -> (String, String) {
        ("networks".into(), format!("RoBERTa, muP, widths {}", list(&self.widths())))
    }

    /// A network with a cloze task, whose examples are split by a seed.
    pub fn study(&self, member: usize, task: &BuiltinCloze, seed: u64, device: Device) -> Result<Study> {
        let own = OwnSplit { k: PER_WORD, seed, test_limit: None, dev: None, test: None };
        let (definition, splits) = (task.definition()?, task.splits(&own)?);
        let network = Pretrained::load(&self.members[member].directory, Dtype::F64, device)?;
        Study::new(StudyRequest {
            output_mode: Some(OutputMode::Difference),
            k: Some(PER_WORD),
            split_seed: Some(seed),
            ..StudyRequest::new(&network, &definition, &splits)
        })
    }
}

/// The tasks, for a report's settings.
pub(super) fn tasks_setting() -> (String, String) {
    ("tasks".into(), tasks().iter().map(|t| t.name).collect::<Vec<_>>().join(", "))
}
