//! The regression gate: compares the figures of an analysis or of the claims with a baseline.
//!
//! Knows evidence and numbers; knows no tensors, no terminal and no report. Evidence is flattened into named [`Metric`]s; a
//! [`Baseline`] holds them for several seeds, as a versioned file; [`compare`] determines for each metric whether it moved,
//! and by how much it was allowed to. That depends on the metric ([`Rule`]): not at all for a name or digest, by rounding
//! for what weights and prompts determine, and by the spread over the baseline's seeds for what is random.

mod analysis;
mod baseline;
mod claims;
mod compare;
mod ignore;
mod metric;
mod rounding;

pub use analysis::{analysis_identity, analysis_metrics};
pub use baseline::{BASELINE_VERSION, Baseline, Kind};
pub use claims::{claims_identity, claims_metrics};
pub use compare::{Basis, Comparison, FALSE_ALARMS, Options, Row, Status, compare};
pub use ignore::Ignored;
pub use metric::{Metric, Reading, Rule, Scale, Value};
