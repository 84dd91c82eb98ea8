//! Kinds of failures: exit statuses, and failures of numbers.

use super::Error;

impl Error {
    /// Whether the failure is numerical: with other numbers the computation may succeed.
    pub fn is_numeric(&self) -> bool {
        matches!(self, Self::NotFinite { .. } | Self::Diverged { .. } | Self::NoSolution { .. })
    }

    /// The process's exit status: 2 for bad input or settings, 130 for an interruption, 1 for a failed computation.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Interrupted => 130,
            Self::NotFinite { .. }
            | Self::Diverged { .. }
            | Self::NoSolution { .. }
            | Self::Document { .. }
            | Self::Torch(_) => 1,
            Self::Io { .. }
            | Self::Format { .. }
            | Self::Row { .. }
            | Self::TensorMissing { .. }
            | Self::TensorShape { .. }
            | Self::Setting { .. }
            | Self::Value { .. }
            | Self::Environment { .. }
            | Self::Arguments { .. }
            | Self::Syntax { .. }
            | Self::Unknown { .. }
            | Self::Duplicate { .. }
            | Self::Missing { .. }
            | Self::Shape { .. }
            | Self::Length { .. }
            | Self::NotSymmetric { .. }
            | Self::OneClass { .. }
            | Self::Label { .. }
            | Self::Task { .. }
            | Self::Example { .. }
            | Self::TooLong { .. }
            | Self::NotInVocabulary { .. }
            | Self::Model { .. }
            | Self::Adapter { .. }
            | Self::Program(_)
            | Self::Incomparable { .. }
            | Self::Busy { .. }
            | Self::Shard { .. }
            | Self::Hub { .. }
            | Self::Memory { .. } => 2,
        }
    }
}
