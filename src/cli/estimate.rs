//! The estimated cost of a kernel computation, as text.

use crate::analysis::RegressionCost;
use crate::kernel::KernelEstimate;

fn number(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.2}") } else { format!("{seconds:.0}") }
}

fn mega(bytes: f64) -> String {
    format!("{:.0}", bytes / 1e6)
}

/// The cost of kernel regression with the kernels of all splits, as a sentence.
pub(super) fn regression(cost: &RegressionCost, rate: f64) -> String {
    let (seconds, bytes) = (number(cost.seconds(rate)), mega(cost.bytes));
    format!(
        "\nRegression with the kernels of train, dev and test ({} rows): about {seconds} s and {bytes} MB.\n",
        cost.rows
    )
}

/// An estimate as Markdown: total time and memory, then per layer.
pub(super) fn markdown(estimate: &KernelEstimate) -> String {
    let memory = &estimate.memory;
    let mut lines = vec![
        format!(
            "About {} s and {} MB at {:.0} GFLOP/s (measured now). {} examples are recorded, in panels of {} held \
             and {} streamed.",
            number(estimate.seconds()),
            mega(memory.total()),
            estimate.rate / 1e9,
            estimate.recorded,
            estimate.panels.0,
            estimate.panels.1
        ),
        String::new(),
        "| memory | MB |".into(),
        "|---|---:|".into(),
        format!("| libtorch and parameters | {} |", mega(memory.fixed)),
        format!("| gradient factors kept | {} |", mega(memory.factors)),
        format!("| passes | {} |", mega(memory.pass)),
        format!("| tiles | {} |", mega(memory.tiles)),
        format!("| kernel matrices | {} |", mega(memory.results)),
        String::new(),
        "| layer | parameters | method | factors, MB | seconds |".into(),
        "|---|---:|---|---:|---:|".into(),
        format!("| all layers | | forward and backward passes | | {} |", number(estimate.pass_seconds)),
    ];
    for layer in &estimate.layers {
        let methods: Vec<String> = layer.methods.iter().map(|(method, count)| format!("{method} ({count})")).collect();
        lines.push(format!(
            "| {} | {} | {} | {} | {} |",
            layer.layer,
            layer.entries,
            methods.join(", "),
            mega(layer.bytes),
            number(layer.seconds)
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}
