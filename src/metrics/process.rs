//! What the kernel says about this process.
//!
//! Must not: fail. Where there is no `/proc`, a number is 0.

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};

/// User and system time, in seconds.
pub fn cpu() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let seconds = |time: nix::sys::time::TimeVal| {
        #[expect(clippy::cast_precision_loss, reason = "a process does not run for so long")]
        let (whole, micros) = (time.tv_sec() as f64, time.tv_usec() as f64);
        whole + micros / 1e6
    };
    Some(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// In bytes.
pub fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Without the one that looks.
pub fn open_fds() -> Option<u64> {
    let all = std::fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(all.saturating_sub(1)).ok()
}

pub fn max_fds() -> Option<u64> {
    getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft)
}
