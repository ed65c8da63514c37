//! `exports:` in `houston.yaml`: when the store is written out by itself, and how many of these files are kept.
//!
//! Must not: read the clock, or write anything.

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

use super::window::time_of_day;
use crate::diagnostic::Diagnostics;
use crate::yaml::Node;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exports {
    /// Of each day; `None`: only by hand.
    pub at: Option<Time>,
    /// The newest ones; what is older is removed once there is a newer one.
    pub keep: usize,
    /// Of all together; the newest one stays in any case. `None`: no limit.
    pub megabytes: Option<u64>,
}

impl Default for Exports {
    fn default() -> Self {
        Self { at: Some(jiff::civil::time(3, 15, 0, 0)), keep: 14, megabytes: None }
    }
}

impl Exports {
    /// The first moment after `since` at which one is due. A time that a changed clock leaves out that day is as much
    /// later as the clock was set on; one that it shows twice is the first.
    pub fn due(&self, since: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let at = self.at?;
        let mut day = since.to_zoned(zone.clone()).date();
        // Today's, tomorrow's, or that of the day after where a zone leaves a whole day out.
        for _ in 0..3 {
            let due = day.to_datetime(at).to_zoned(zone.clone()).ok()?.timestamp();
            if due > since {
                return Some(due);
            }
            day = day.tomorrow().ok()?;
        }
        None
    }
}

pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Exports {
    let mut exports = Exports::default();
    let Some(mut map) = node.map(found) else { return exports };
    if let Some(node) = map.take("at") {
        match node.text(found).map(str::trim) {
            Some("never") => exports.at = None,
            Some(written) => match time_of_day(written) {
                Some(at) => exports.at = Some(at),
                None => found.push(node.expected("a time of day").hint("write at: 03:15, or at: never")),
            },
            None => {}
        }
    }
    if let Some(n) = map.take("keep").and_then(|node| node.integer(1..=1000, found)) {
        exports.keep = usize::try_from(n).unwrap_or(usize::MAX);
    }
    if let Some(node) = map.take("megabytes") {
        exports.megabytes = super::retention::megabytes(node, None, found);
    }
    map.finish(found);
    exports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_due_each_night_also_when_clocks_are_changed() {
        let zone = TimeZone::get("Europe/Berlin").expect("is known");
        let exports = Exports { at: Some(jiff::civil::time(2, 30, 0, 0)), keep: 1, megabytes: None };
        let due = |since: &str| {
            exports.due(since.parse().expect("a time"), &zone).expect("there is one").to_string()
        };
        assert_eq!(due("2026-11-25T00:00:00Z"), "2026-11-25T01:30:00Z");
        assert_eq!(due("2026-11-25T01:30:00Z"), "2026-11-26T01:30:00Z");
        assert_eq!(due("2026-03-28T12:00:00Z"), "2026-03-29T01:30:00Z", "there is no half past two");
        assert_eq!(due("2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z", "there are two");
        assert_eq!(due("2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
        assert_eq!(Exports { at: None, keep: 1, megabytes: None }.due(Timestamp::UNIX_EPOCH, &zone), None);
    }
}
