//! `limits:` in `houston.yaml`.

use std::time::Duration;

use super::Limits;
use crate::diagnostic::Diagnostics;
use crate::yaml::Node;

pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Limits {
    let mut limits = Limits::default();
    let Some(mut map) = node.map(found) else { return limits };
    let seconds = Duration::from_secs;
    if let Some(d) = map.take("stale_after").and_then(|n| n.duration(seconds(10)..=seconds(86_400), found)) {
        limits.stale_after = d;
    }
    if let Some(d) =
        map.take("step_timeout").and_then(|n| n.duration(seconds(1)..=seconds(7 * 86_400), found))
    {
        limits.step_timeout = d;
    }
    if let Some(n) = map.take("commands_per_minute").and_then(|n| n.integer(1..=10_000, found)) {
        limits.commands_per_minute = u32::try_from(n).unwrap_or(u32::MAX);
    }
    if let Some(n) = map.take("free_megabytes").and_then(|n| n.integer(0..=i64::from(u32::MAX), found)) {
        limits.free_megabytes = u32::try_from(n).unwrap_or(u32::MAX);
    }
    map.finish(found);
    limits
}
