//! The position at which a network's answer is read.

/// The position at which a model's answer is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// At the mask.
    #[default]
    Mask,
    /// At the last token before the mask, which the answer follows.
    LastToken,
    /// At the first token of the texts, without a prompt, by a new head.
    FirstTokenAlone,
    /// At the last token of the texts, without a prompt.
    LastTokenAlone,
}

impl Reading {
    /// Whether the template and label words are used.
    pub fn prompted(self) -> bool {
        matches!(self, Self::Mask | Self::LastToken)
    }

    /// Whether the model is causal, so that the last token is read.
    pub fn continues(self) -> bool {
        matches!(self, Self::LastToken | Self::LastTokenAlone)
    }
}
