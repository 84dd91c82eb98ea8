//! Memory available to this process. Knows no computation.

use std::fs;

/// Bytes that the process may still allocate: free system memory, within the limits of its control group (a container's or a
/// job's) and on its address space. `None` if the system does not say.
pub fn free_memory() -> Option<u64> {
    [system(), group(), address_space()].into_iter().flatten().min()
}

fn system() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

fn group() -> Option<u64> {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let rest = |most: &str, taken: &str| Some(number(most)?.saturating_sub(number(taken)?));
    rest("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current").or_else(|| {
        let directory = "/sys/fs/cgroup/memory/memory";
        rest(&format!("{directory}.limit_in_bytes"), &format!("{directory}.usage_in_bytes"))
    })
}

fn address_space() -> Option<u64> {
    let most = crate::device::address_space()?;
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let taken = line.split_whitespace().next()?.parse::<u64>().ok()? << 10;
    Some(most.saturating_sub(taken))
}
