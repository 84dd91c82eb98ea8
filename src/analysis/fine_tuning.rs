//! Fine-tuning over a grid of learning rates, and the measures of the selected run.
//!
//! Every run is trained once: residuals along it are measured during training, and each optimizer's best network is kept in a
//! file (`kept.rs`) until it is measured.

mod grid;
mod measured;

use super::Start;
use super::plan::Plan;
use super::store::ResultStore;
use super::study::Study;
use crate::error::{Error, Result};
use crate::evidence::{Candidate, FineTuningResult, OwnPrecision};
use crate::lm::save_adapter;
use crate::progress::Monitor;
use grid::{Chosen, Grid, TrainingData};
use measured::Measured;

/// Runs the grids of all optimizers and measures each optimizer's best run; stores every run and its measures.
pub(super) fn fine_tuning(
    study: &Study,
    plan: &Plan,
    start: &Start<'_>,
    store: &ResultStore,
    monitor: &dyn Monitor,
) -> Result<Vec<FineTuningResult>> {
    let data = TrainingData::of(study)?;
    let grid = Grid::of(study, plan, &data, store, monitor)?;
    let depends = |c: &Chosen| {
        let candidates: Vec<Candidate> = c.runs.iter().map(|r| r.candidate.clone()).collect();
        serde_json::json!(("measures of a run", &c.settings, &plan.settings.formulas, candidates, grid.watched()))
    };
    let name = |c: &Chosen| format!("{}-measures", c.settings.optimizer.name());
    let stored: Vec<Option<FineTuningResult>> =
        grid.chosen.iter().map(|c| store.get(&name(c), &depends(c), monitor)).collect();
    let missing: Vec<&Chosen> = grid.chosen.iter().zip(&stored).filter(|(_, s)| s.is_none()).map(|(c, _)| c).collect();
    grid.repeat(&missing, monitor)?;
    let mut measured = Measured::new(study, plan, (start, &data, &grid.probes));
    let mut results = Vec::new();
    for (chosen, stored) in grid.chosen.iter().zip(stored) {
        let optimizer = chosen.settings.optimizer.name();
        let result = if let Some(result) = stored {
            result
        } else {
            let network = grid.kept.read(&chosen.settings, &study.parameters)?.ok_or_else(|| {
                Error::format(grid.kept.path(optimizer), "was removed while the analysis ran; start it again")
            })?;
            if let Some(lora) = study.adapters() {
                let facts = &study.model_facts;
                save_adapter(&store.adapter_path(optimizer), &facts.architecture, &facts.name, lora, &network)?;
            }
            let mut result = measured.end_of(chosen, &network, monitor)?;
            if let Some(parts) = chosen.settings.parts {
                let own = chosen.in_own_precision();
                let network = grid.train(&own, monitor)?;
                let own = measured.end_of(&own, &network, monitor)?;
                result.own_precision = Some(OwnPrecision::of(parts.name(), &result, &own));
            }
            store.put(&name(chosen), &depends(chosen), &result)?;
            result
        };
        grid.kept.remove(optimizer);
        results.push(result);
    }
    Ok(results)
}
