//! The built-in demonstration: short remarks, positive or negative, embedded in the binary so that it needs no data.
//!
//! The texts were written for this project; the layout is that of SST-2. May not read files.

use std::path::PathBuf;

use super::builtin::builtin;
use super::definition::TaskDefinition;
use super::split::{Split, Splits};
use crate::error::Result;

/// The demonstration's name.
pub const DEMO_NAME: &str = "remarks";

const TRAIN: &str = include_str!("../../fixtures/tasks/SST-2/16-13/train.tsv");
const DEV: &str = include_str!("../../fixtures/tasks/SST-2/16-13/dev.tsv");
const TEST: &str = include_str!("../../fixtures/tasks/SST-2/16-13/test.tsv");

/// SST-2's definition under the name `remarks`.
pub fn demo_definition() -> Result<TaskDefinition> {
    Ok(TaskDefinition { name: DEMO_NAME.to_string(), ..builtin("SST-2")? })
}

/// 32 remarks for train, 32 for dev, 96 for test; half of each positive.
pub fn demo() -> Result<Splits> {
    let task = demo_definition()?;
    let split = |file: &str, text: &str| -> Result<Split> {
        let source = PathBuf::from(format!("(built in)/{DEMO_NAME}/{file}"));
        Split::parse(&source, text.as_bytes(), &task)
    };
    let (train, dev, test) = (split("train.tsv", TRAIN)?, split("dev.tsv", DEV)?, split("test.tsv", TEST)?);
    Ok(Splits { train, dev, test, notes: Vec::new() })
}
