//! Tables of whole-process measurements: every row is a process of its own, so that peak memory is that row's.

use std::process::Command;

/// Prints the heading, and a row for each argument of this program, or for each of `usual` where there is none: the program
/// runs itself with `--row ROW`, and `measure` prints it.
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

/// Peak resident memory of this process from the system's own account; 0 where there is none.
pub fn peak_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}
