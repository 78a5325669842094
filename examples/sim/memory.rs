//! How much memory this process has.

use std::fs;

/// Bytes that are resident now. `None` where the system does not say so in `/proc`.
pub fn resident() -> Option<u64> {
    status("VmRSS:")
}

/// The most bytes that ever were.
pub fn most_resident() -> Option<u64> {
    status("VmHWM:")
}

fn status(what: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}
