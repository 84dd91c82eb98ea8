//! When the gate must be silent: 20 seeds without a change, compared at the same seed and at others.

use kernelview::evidence::Analysis;

use super::{AS_BEFORE, analysis, baseline, compared, findings, scratch};

/// Every seed draws other examples, other mini-batches and so another kernel. If all figures were normal, one of the 20
/// comparisons would report a change by chance with probability 20 · 10⁻³.
#[test]
fn twenty_seeds_of_no_change() {
    let scratch = scratch();
    let runs = |seeds: std::ops::Range<u64>| -> Vec<Analysis> {
        seeds.map(|seed| analysis(&scratch, AS_BEFORE, seed)).collect()
    };
    let old = baseline(&runs(1..9));
    for (i, run) in runs(100..120).iter().enumerate() {
        let comparison = compared(&old, &baseline(std::slice::from_ref(run)));
        assert!(comparison.passed(), "seed {}: {:?}", 100 + i, comparison.findings().collect::<Vec<_>>());
        // Metrics are judged by a spread: prompts and kernels do change with the seed.
        assert!(comparison.judged_by_spread > 20);
    }
    // The same seed again, as a single run and as all of them.
    for seed in 1..9 {
        let again = analysis(&scratch, AS_BEFORE, seed);
        let comparison = compared(&old, &baseline(&[again]));
        assert!(comparison.passed() && comparison.rows.iter().all(|r| r.status.text() == "same"), "{comparison:?}");
    }
    assert_eq!(findings(&compared(&old, &old)), [""; 0]);
}
