//! The baseline: the metrics of one or more runs with different seeds, as a versioned file with one line per metric, so that
//! its changes can be reviewed. A report is a baseline of one run.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::analysis::{analysis_identity, analysis_metrics};
use super::claims::{claims_identity, claims_metrics};
use super::metric::{Line, Metric, Reading};
use crate::error::{Error, Result};
use crate::evidence::{Analysis, SCHEMA_VERSION, Verification};
use crate::files::{read_text, write_atomic};

/// Version of the file's layout and of the metrics' meaning; incremented with every change of either.
pub const BASELINE_VERSION: u32 = 1;

/// What was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `kernelview analyze`.
    Analysis,
    /// `kernelview verify`.
    Claims,
}

impl Kind {
    /// Name in messages.
    pub fn text(self) -> &'static str {
        match self {
            Self::Analysis => "an analysis",
            Self::Claims => "a run of the claims",
        }
    }
}

/// Metrics over seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// What was run.
    pub kind: Kind,
    /// Version of the program that ran it.
    pub program_version: String,
    /// Names and values that another run must share to be comparable.
    pub identity: Vec<(String, String)>,
    /// The seeds of the runs.
    pub seeds: Vec<u64>,
    /// The metrics, in the order in which a report has them.
    pub metrics: Vec<Metric>,
}

/// A run from which a baseline is made.
struct Run {
    seed: u64,
    identity: Vec<(String, String)>,
    readings: Vec<Reading>,
}

impl Baseline {
    /// From analyses with different seeds.
    ///
    /// # Errors
    /// [`Error::Incomparable`] if they differ in anything else; [`Error::Duplicate`] if two have the same seed.
    pub fn of_analyses(runs: &[Analysis]) -> Result<Self> {
        let version = runs.first().map(|a| a.run.program_version.clone());
        let run =
            |a: &Analysis| Run { seed: a.run.seed, identity: analysis_identity(a), readings: analysis_metrics(a) };
        Self::of(Kind::Analysis, version, runs.iter().map(run).collect())
    }

    /// From runs of the suite of claims with different seeds.
    ///
    /// # Errors
    /// As above.
    pub fn of_claims(runs: &[Verification]) -> Result<Self> {
        let version = runs.first().map(|v| v.run.version.clone());
        let run =
            |v: &Verification| Run { seed: v.run.seed, identity: claims_identity(v), readings: claims_metrics(v) };
        Self::of(Kind::Claims, version, runs.iter().map(run).collect())
    }

    fn of(kind: Kind, version: Option<String>, runs: Vec<Run>) -> Result<Self> {
        let seeds: Vec<u64> = runs.iter().map(|r| r.seed).collect();
        if let Some(seed) = seeds.iter().enumerate().find(|(i, s)| seeds[..*i].contains(s)).map(|(_, s)| s) {
            return Err(Error::Duplicate { what: "in a baseline the run of seed".into(), name: seed.to_string() });
        }
        let (Some(program_version), Some(first)) = (version, runs.first()) else {
            return Err(Error::Missing { what: "runs".into(), needed: "a baseline needs at least one".into() });
        };
        let identity = first.identity.clone();
        if let Some(other) = runs.iter().find(|r| r.identity != identity) {
            let pairs = identity.iter().zip(&other.identity);
            let (aspect, first, second) = pairs
                .filter(|(a, b)| a != b)
                .map(|((name, a), (_, b))| (name.clone(), a.clone(), b.clone()))
                .next()
                .unwrap_or_else(|| ("command".into(), "one".into(), "another".into()));
            let advice =
                format!("a baseline's runs may differ only in their seeds (here {} and {})", seeds[0], other.seed);
            return Err(Error::Incomparable { aspect, first, second, advice });
        }
        let count = runs.len();
        let mut metrics: Vec<Metric> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for (run, readings) in runs.into_iter().map(|r| r.readings).enumerate() {
            let mut seen: HashMap<String, usize> = HashMap::new();
            for Reading { name, rule, optional, value } in readings {
                // Two checks of a claim may have one name: the second is `name (2)`.
                let times = *seen.entry(name.clone()).and_modify(|n| *n += 1).or_insert(1);
                let name = if times > 1 { format!("{name} ({times})") } else { name };
                let place = *places.entry(name.clone()).or_insert(metrics.len());
                if place == metrics.len() {
                    metrics.push(Metric { name, rule, optional, values: vec![None; count] });
                }
                metrics[place].values[run] = Some(value);
            }
        }
        Ok(Self { kind, program_version, identity, seeds, metrics })
    }

    /// Reads a baseline, or a `report.json` of `kernelview analyze` or `kernelview verify` as a baseline of one run.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Format`] if it is none of the three, or of an unsupported version.
    pub fn read(path: &Path) -> Result<Self> {
        /// The fields that distinguish the kinds of files.
        #[derive(Deserialize)]
        struct Header {
            kernelview_baseline: Option<u32>,
            schema_version: Option<u32>,
            zero_shot: Option<serde_json::Value>,
            claims: Option<serde_json::Value>,
        }
        let text = read_text(path)?;
        let none = |reason: &dyn std::fmt::Display| {
            Error::format(path, format!("neither a baseline nor a report.json of `analyze` or `verify`: {reason}"))
        };
        let header: Header = serde_json::from_str(&text).map_err(|e| none(&e))?;
        let damaged = |e: serde_json::Error| Error::format(path, format!("damaged or edited: {e}"));
        let version = |field: &str, found: u32, reads: u32| {
            let message = format!(
                "field `{field}` is {found}, but kernelview {} reads version {reads}: write it again with this \
                 program, or compare with the program that wrote it",
                env!("CARGO_PKG_VERSION")
            );
            if found == reads { Ok(()) } else { Err(Error::format(path, message)) }
        };
        if let Some(found) = header.kernelview_baseline {
            version("kernelview_baseline", found, BASELINE_VERSION)?;
            let file: File = serde_json::from_str(&text).map_err(damaged)?;
            return file.baseline().map_err(|message| Error::format(path, message));
        }
        let Some(found) = header.schema_version else {
            return Err(none(&"it has neither `kernelview_baseline` nor `schema_version`"));
        };
        version("schema_version", found, SCHEMA_VERSION)?;
        if header.zero_shot.is_some() {
            Self::of_analyses(&[serde_json::from_str(&text).map_err(damaged)?])
        } else if header.claims.is_some() {
            Self::of_claims(&[serde_json::from_str(&text).map_err(damaged)?])
        } else {
            Err(none(&"it is a report of another command"))
        }
    }

    /// Writes the file, one line per metric.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let metrics: Vec<String> = self.metrics.iter().map(|m| format!("    {}", line(&Line::of(m)))).collect();
        let text = format!(
            "{{\n  \"kernelview_baseline\": {},\n  \"kind\": {},\n  \"program_version\": {},\n  \"identity\": {},\n  \
             \"seeds\": {},\n  \"metrics\": [\n{}\n  ]\n}}\n",
            BASELINE_VERSION,
            line(&self.kind),
            line(&self.program_version),
            line(&self.identity),
            line(&self.seeds),
            metrics.join(",\n")
        );
        write_atomic(path, text.as_bytes())
    }
}

/// A baseline's file without the version.
#[derive(Deserialize)]
struct File {
    kind: Kind,
    program_version: String,
    identity: Vec<(String, String)>,
    seeds: Vec<u64>,
    metrics: Vec<Line>,
}

impl File {
    /// The baseline, or what is wrong with it.
    fn baseline(self) -> std::result::Result<Baseline, String> {
        let Self { kind, program_version, identity, seeds, metrics } = self;
        if seeds.is_empty() {
            return Err("field `seeds` is empty: a baseline needs at least one run".into());
        }
        let metrics =
            metrics.into_iter().map(|line| line.metric(seeds.len())).collect::<std::result::Result<_, _>>()?;
        Ok(Baseline { kind, program_version, identity, seeds, metrics })
    }
}

/// A value as JSON on one line.
fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a baseline is plain data")
}
