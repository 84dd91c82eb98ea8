//! The estimated cost of a cell: the kernel engine's estimate, and operations of kernel regression and fine-tuning at the
//! measured rate.

use crate::analysis::{Plan, SplitName, Study, check_room, regression_cost};
use crate::error::Result;
use crate::jacobian::{Examples, Role};
use crate::kernel::{FormulaSet, estimate_gram};

/// Approximate time and memory of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Seconds.
    pub seconds: f64,
    /// Peak bytes.
    pub bytes: f64,
}

/// Fraction of the rate of large products that whole passes of a network reach, measured on two cores.
const REACHED: f64 = 0.5;

/// Estimates an analysis.
///
/// # Errors
/// As the kernel engine's estimate; [`Error::Memory`] if kernel regression needs more memory than is free.
pub(super) fn estimate(study: &Study, plan: &Plan) -> Result<Estimate> {
    let train = study.examples(SplitName::Train, study.mode)?;
    let formulas = FormulaSet::of(&plan.settings.formulas);
    let regression = regression_cost(study, &plan.settings.formulas)?;
    check_room(&regression, study)?;
    let (mut seconds, mut bytes, mut rate) = (0.0, regression.bytes, 1.0);
    for other in [None, Some(SplitName::Dev), Some(SplitName::Test)] {
        let other = other.map(|split| study.examples(split, study.mode)).transpose()?;
        let other = other.as_ref().map(|e| e as &dyn Examples);
        let options = plan.engine().options(study, &study.parameters, formulas, &train, other)?;
        let kernel = estimate_gram(&study.parameters, &train, other, &options);
        // The training kernel is computed again after each optimizer's run.
        let times = if other.is_none() { 1 + plan.settings.optimizers.len() } else { 1 };
        seconds += times as f64 * kernel.seconds();
        bytes = bytes.max(kernel.memory.total());
        rate = kernel.rate;
    }
    seconds += regression.seconds(rate);
    let tokens = |split| study.prompts(split).iter().map(|p| p.input_ids.len()).sum::<usize>() as f64;
    let (train, dev, test) = (tokens(SplitName::Train), tokens(SplitName::Dev), tokens(SplitName::Test));
    let per_token: f64 = study
        .parameters
        .specs()
        .iter()
        .filter(|s| s.role == Role::Body && s.shape.len() == 2)
        .map(|s| 2.0 * s.numel() as f64)
        .sum();
    let runs: f64 = plan.settings.optimizers.iter().map(|o| o.learning_rates.len() as f64).sum();
    let step = 3.0 * train / study.labels(SplitName::Train).len() as f64 * plan.settings.batch_size as f64;
    let training = runs * plan.settings.steps as f64 * (step + dev / plan.settings.eval_every as f64);
    // Outputs before; after, and at one or two points between, in double precision in the worst case.
    let measures = test * (1.0 + plan.settings.optimizers.len() as f64 * 6.0);
    seconds += (training + measures) * per_token / (REACHED * rate);
    // Parameters before and after, gradients, two moments.
    let parameters = study.model_facts.parameters as f64 * study.dtype.kind().elt_size_in_bytes() as f64;
    Ok(Estimate { seconds, bytes: bytes.max(6.0 * parameters) })
}
