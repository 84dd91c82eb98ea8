//! Tables of whole-process measurements: every row is measured in a separate process, so that peak memory is the row's own.

use std::process::Command;

/// Prints the heading, and a row for each argument of this program, or for each of `usual` if there are none: the program runs
/// itself with `--row ROW`, and `measure` prints the row.
pub fn run(usual: &[&str], heading: &str, measure: impl Fn(&str)) {
    kernelview::device::prepare_process();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [flag, row] = arguments.as_slice()
        && flag == "--row"
    {
        measure(row);
        return;
    }
    let rows = if arguments.is_empty() { usual.iter().map(|row| (*row).to_owned()).collect() } else { arguments };
    println!("{heading}");
    for row in rows {
        let program = std::env::current_exe().expect("the path of this program");
        let status = Command::new(program).args(["--row", &row]).status().expect("a child process");
        if !status.success() {
            println!("| {} | failed: {status} |", row.replace(':', " | "));
        }
    }
}

/// Peak resident memory of this process, as reported by the system; 0 if it reports none.
pub fn peak_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}
