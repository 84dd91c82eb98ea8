//! The regression gate: have the figures of an analysis or of the claims moved since a baseline was written?
//!
//! Knows evidence and numbers; knows no tensors, no terminal and no report. Evidence is flattened into named
//! [`Metric`]s; a [`Baseline`] holds them for several seeds, as a versioned file; [`compare`] says of each metric
//! whether it is the same, and what it was allowed to differ by. How much that is follows from what the metric is
//! ([`Rule`]): nothing for a name or a digest, rounding for what weights and prompts determine, and the spread over
//! the baseline's own seeds for what is random.

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
