//! Where a network's answer to a prompt is read.

/// Where a model's answer is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// At the mask.
    #[default]
    Mask,
    /// At the last token in front of the mask: what follows it is the answer.
    LastToken,
    /// At the first token of the texts alone, without a prompt, by a head that is new.
    FirstTokenAlone,
    /// At the last token of the texts alone.
    LastTokenAlone,
}

impl Reading {
    /// Whether the template and the label words take part.
    pub fn prompted(self) -> bool {
        matches!(self, Self::Mask | Self::LastToken)
    }

    /// Whether the model continues texts, so that the last token is read.
    pub fn continues(self) -> bool {
        matches!(self, Self::LastToken | Self::LastTokenAlone)
    }
}
