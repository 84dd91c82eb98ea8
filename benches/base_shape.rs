//! Whole-process time and peak memory of both kernel engines at the shape of BERT-base (110M parameters, random
//! weights), 64 tokens, one output, single precision. Every row of the table is a process of its own, so that peak
//! memory is that row's. Prints a markdown table for `benches/record/`.
//!
//! usage: cargo bench --bench `base_shape` \[-- rows like `structured:32:sgd`\]

use std::process::Command;
use std::time::Instant;

use kernelview::kernel::{FormulaSet, GramOptions, reference_gram, structured_gram};
use kernelview::lm::{MaskedLm, OutputMode, PromptExample, PromptExamples, random};
use kernelview::progress::Silent;
use tch::{Device, Kind};

const TOKENS: usize = 64;
const ROWS: [&str; 5] =
    ["structured:32:sgd", "structured:32:all", "structured:8:sgd", "reference:8:sgd", "reference:32:sgd"];

fn main() {
    kernelview::device::prepare_process();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [flag, row] = arguments.as_slice()
        && flag == "--row"
    {
        measure(row);
        return;
    }
    let rows = if arguments.is_empty() { ROWS.map(str::to_owned).to_vec() } else { arguments };
    println!("| engine | examples | formulas | seconds | peak memory, MB |\n|---|---|---|---|---|");
    for row in rows {
        let program = std::env::current_exe().expect("the path of this program");
        let status = Command::new(program).args(["--row", &row]).status().expect("a child process");
        if !status.success() {
            println!("| {} | failed: {status} |", row.replace(':', " | "));
        }
    }
}

fn measure(row: &str) {
    let fields: Vec<&str> = row.split(':').collect();
    let [engine, n, formulas] = fields.as_slice() else { panic!("a row is ENGINE:EXAMPLES:sgd|all") };
    let n: usize = n.parse().expect("a number of examples");
    let set = if *formulas == "all" { FormulaSet::ALL } else { FormulaSet::SGD };
    let model = MaskedLm::new(random::bert_base());
    let parameters = random::parameters(&model, 1, 1.0, Kind::Float, Device::Cpu);
    let prompts = (0..n)
        .map(|i| PromptExample {
            input_ids: (0..TOKENS).map(|t| ((i * 7919 + t * 104_729) % 30_000 + 5) as i64).collect(),
            segment_ids: vec![0; TOKENS],
            mask_position: TOKENS - 3,
        })
        .collect();
    let examples =
        PromptExamples::new(&model, prompts, &[7, 11], OutputMode::Difference, Device::Cpu).expect("valid prompts");
    let start = Instant::now();
    if *engine == "reference" {
        let include = vec![true; parameters.len()];
        reference_gram(&parameters, &examples, None, set, &include).expect("finite");
    } else {
        let options = GramOptions::new(set, parameters.len());
        structured_gram(&parameters, &examples, None, &options, &Silent).expect("finite");
    }
    println!("| {engine} | {n} | {formulas} | {:.1} | {} |", start.elapsed().as_secs_f64(), peak_megabytes());
}

/// Peak resident memory of this process from the system's own account; 0 where there is none.
fn peak_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}
