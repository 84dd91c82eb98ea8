//! The plan of a kernel computation, for reading.

use crate::analysis::RegressionCost;
use crate::kernel::KernelPlan;

fn number(seconds: f64) -> String {
    if seconds < 10.0 { format!("{seconds:.2}") } else { format!("{seconds:.0}") }
}

fn mega(bytes: f64) -> String {
    format!("{:.0}", bytes / 1e6)
}

/// What it costs to solve the task with the kernels of all splits, in a sentence.
pub(super) fn regression(cost: &RegressionCost, rate: f64) -> String {
    let (seconds, bytes) = (number(cost.seconds(rate)), mega(cost.bytes));
    format!(
        "\nRegression with the kernels of train, dev and test ({} rows): about {seconds} s and {bytes} MB.\n",
        cost.rows
    )
}

/// A plan as Markdown: time and memory in all, then by layer.
pub(super) fn markdown(plan: &KernelPlan) -> String {
    let memory = &plan.memory;
    let mut lines = vec![
        format!(
            "About {} s and {} MB at {:.0} GFLOP/s (measured now). {} examples are recorded; panels of {} held and {} \
             passing.",
            number(plan.seconds()),
            mega(memory.total()),
            plan.rate / 1e9,
            plan.recorded,
            plan.panels.0,
            plan.panels.1
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
        format!("| all layers | | forward and backward passes | | {} |", number(plan.pass_seconds)),
    ];
    for layer in &plan.layers {
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
