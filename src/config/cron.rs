//! Times that come again, written as a cron expression in a time zone. Pure calendar.
//!
//! The expression is matched in local time, and one rule says what a changed clock makes of that ([`RULE`]).
//!
//! Must not: read the clock, or know what is done at these times.

use croner::parser::{CronParser, Seconds, Year};
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, ToSpan as _, Zoned};

/// For people: `houston check`, `schedules` and the reference say it.
pub const RULE: &str = "Where a clock is set on, what falls into the gap is due once, right after it. Where it is set \
                        back, a time that comes twice is due the first time; what is due in every hour is due in both.";

pub(super) const HINT: &str = "minute, hour, day of the month, month, day of the week: \"30 1 * * *\" is 01:30 every day, \
                               \"0 9 * * mon-fri\" 09:00 on working days, \"*/15 * * * *\" every quarter of an hour";

/// No clock is set back by more.
const LONGEST_FOLD: SignedDuration = SignedDuration::from_hours(3);

/// Looked at for clocks that are set.
const A_YEAR: SignedDuration = SignedDuration::from_hours(366 * 24);

/// An expression and its zone.
#[derive(Clone)]
pub struct Cron {
    written: String,
    parsed: croner::Cron,
    /// It is due in every hour of a day.
    hourly: bool,
    zone: TimeZone,
}

impl std::fmt::Debug for Cron {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.timing())
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.timing() == other.timing()
    }
}

/// What a clock that is set makes of one of the times.
#[derive(Clone, Debug, PartialEq)]
pub struct Moved {
    /// As the expression says.
    pub local: DateTime,
    /// When that is.
    pub at: Zoned,
    /// It comes twice; else it does not exist.
    pub twice: bool,
}

impl Cron {
    /// Five fields, as in a crontab. The error is a sentence.
    pub fn parse(written: &str, zone: &TimeZone) -> Result<Self, String> {
        let written = written.split_whitespace().collect::<Vec<_>>().join(" ");
        let fields: Vec<&str> = written.split(' ').collect();
        if fields.len() != 5 {
            let found = if written.is_empty() { "none" } else { &written };
            return Err(format!("a cron expression has five fields, and this is `{found}`"));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let parsed = parser.parse(&written).map_err(|error| {
            let why = error.to_string();
            let why = why.rsplit(": ").next().unwrap_or_default().trim_end_matches('.').to_owned();
            format!("`{written}` is no cron expression: {}", lower(&why))
        })?;
        let hourly = fields[1] == "*";
        let cron = Self { written, parsed, hourly, zone: zone.clone() };
        match cron.after(Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(cron),
            None => Err(format!("`{}` never comes", cron.written)),
        }
    }

    pub fn written(&self) -> &str {
        &self.written
    }

    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// `Europe/Lisbon`
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// Another text when it means other times.
    pub fn timing(&self) -> String {
        format!("{} {}", self.written, self.zone_name())
    }

    /// The first time that is due after this moment.
    pub fn after(&self, after: Timestamp) -> Option<Timestamp> {
        let local = self.zone.to_datetime(after);
        // Of times that come twice, the second ones may still be ahead when the first ones are over.
        let mut from = if self.hourly && self.is_set_back_soon(after) {
            local.checked_sub(LONGEST_FOLD).ok()?
        } else {
            local
        };
        let mut found: Option<Timestamp> = None;
        let mut inclusive = true;
        loop {
            from = self.parsed.find_next_occurrence(&from, inclusive).ok()?;
            inclusive = false;
            let (first, second) = self.moments(from)?;
            let ahead = [Some(first), second].into_iter().flatten().filter(|moment| *moment > after);
            found = found.into_iter().chain(ahead).min();
            // The first ones come in order, so nothing later is earlier.
            if first > after {
                return found;
            }
        }
    }

    /// Those that are due after one moment and not after another, at most `most` of them; and whether that is all.
    pub fn between(&self, after: Timestamp, until: Timestamp, most: usize) -> (Vec<Timestamp>, bool) {
        let mut times = Vec::new();
        let mut at = after;
        while let Some(next) = self.after(at).filter(|next| *next <= until) {
            if times.len() == most {
                return (times, false);
            }
            times.push(next);
            at = next;
        }
        (times, true)
    }

    /// The last that was due up to a moment, if that is not before `from`.
    pub fn last_before(&self, from: Timestamp, until: Timestamp) -> Option<Timestamp> {
        // Backwards in growing strides: what comes every minute is found in the first one.
        let mut stride = SignedDuration::from_mins(2);
        loop {
            let start = until.checked_sub(stride).unwrap_or(Timestamp::MIN).max(from);
            let (mut at, mut last) = (start, None);
            while let Some(next) = self.after(at).filter(|next| *next <= until) {
                (at, last) = (next, Some(next));
            }
            if last.is_some() || start == from {
                return last;
            }
            stride = stride.checked_mul(4)?;
        }
    }

    /// What clocks that are set within a year make of it.
    pub fn moved(&self, now: Timestamp) -> Vec<Moved> {
        let until = now.checked_add(A_YEAR).unwrap_or(Timestamp::MAX);
        let changes = self.zone.following(now).take_while(|change| change.timestamp() <= until);
        changes.filter_map(|change| self.moved_by(change.timestamp())).collect()
    }

    fn moved_by(&self, change: Timestamp) -> Option<Moved> {
        let before = change.checked_sub(SignedDuration::from_secs(1)).ok()?;
        let before = self.zone.to_datetime(before).checked_add(1.second()).ok()?;
        let from = before.min(self.zone.to_datetime(change));
        let local = self.parsed.find_next_occurrence(&from, true).ok()?;
        let ambiguous = self.zone.to_ambiguous_zoned(local);
        let twice = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => return None,
            AmbiguousOffset::Gap { .. } => false,
            AmbiguousOffset::Fold { .. } => true,
        };
        let (at, _) = self.moments(local)?;
        Some(Moved { local, at: at.to_zoned(self.zone.clone()), twice: twice && !self.hourly })
            .filter(|moved| moved.twice || !twice)
    }

    /// When it is this time there; and when it is once more, where that counts.
    fn moments(&self, local: DateTime) -> Option<(Timestamp, Option<Timestamp>)> {
        let ambiguous = self.zone.to_ambiguous_zoned(local);
        let offset = ambiguous.offset();
        let earlier = ambiguous.clone().earlier().ok()?.timestamp();
        match offset {
            AmbiguousOffset::Unambiguous { .. } => Some((earlier, None)),
            // The first moment after it.
            AmbiguousOffset::Gap { .. } => {
                let change = self.zone.following(earlier).next();
                Some((change.map_or(ambiguous.later().ok()?.timestamp(), |change| change.timestamp()), None))
            }
            AmbiguousOffset::Fold { .. } => {
                let later = ambiguous.later().ok()?.timestamp();
                Some((earlier, self.hourly.then_some(later)))
            }
        }
    }

    fn is_set_back_soon(&self, at: Timestamp) -> bool {
        let Ok(later) = at.checked_add(LONGEST_FOLD) else { return false };
        let passed = self.zone.to_datetime(later).duration_since(self.zone.to_datetime(at));
        passed < LONGEST_FOLD
    }
}

fn lower(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cron(written: &str, zone: &str) -> Cron {
        Cron::parse(written, &TimeZone::get(zone).expect("a zone")).unwrap_or_else(|e| panic!("{e}"))
    }

    fn time(at: &str) -> Timestamp {
        at.parse().expect("a time")
    }

    /// Those that follow on a moment.
    fn times(written: &str, zone: &str, after: &str, most: usize) -> Vec<String> {
        let cron = cron(written, zone);
        let mut at = time(after);
        let next = || {
            at = cron.after(at)?;
            Some(at.to_string())
        };
        std::iter::from_fn(next).take(most).collect()
    }

    #[test]
    fn every_day_at_a_local_time() {
        assert_eq!(
            times("30 1 * * *", "Europe/Lisbon", "2026-11-25T01:30:00Z", 2),
            ["2026-11-26T01:30:00Z", "2026-11-27T01:30:00Z"]
        );
        assert_eq!(
            times("30 1 * * *", "Europe/Lisbon", "2026-07-01T00:29:59.9Z", 1),
            ["2026-07-01T00:30:00Z"]
        );
        assert_eq!(
            times("0 0 1 1 *", "Europe/Berlin", "2026-12-31T22:59:59Z", 2),
            ["2026-12-31T23:00:00Z", "2027-12-31T23:00:00Z"]
        );
        assert_eq!(
            times("30 23 31 12 *", "America/New_York", "2026-12-31T00:00:00Z", 1),
            ["2027-01-01T04:30:00Z"]
        );
        assert_eq!(times("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", 1), ["2028-02-29T00:00:00Z"]);
    }

    /// Lisbon, 2026-03-29: 01:00 WET is followed by 02:00 WEST. 2026-10-25: 02:00 WEST is followed by 01:00 WET.
    /// Berlin, the same days: 02:00 CET is followed by 03:00 CEST, 03:00 CEST by 02:00 CET.
    #[test]
    fn what_falls_into_a_gap_is_due_once_right_after_it() {
        for (written, zone) in [("30 1 * * *", "Europe/Lisbon"), ("30 2 * * *", "Europe/Berlin")] {
            let found = times(written, zone, "2026-03-28T12:00:00Z", 2);
            assert_eq!(found[0], "2026-03-29T01:00:00Z", "{written} {zone}");
            assert_ne!(found[1], "2026-03-29T01:30:00Z", "{written} {zone}");
        }
        assert_eq!(
            times("30 1 * * *", "Europe/Lisbon", "2026-03-28T12:00:00Z", 3)[1..],
            ["2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"]
        );
        // Four of them are one, and the one that is due there anyway is the same.
        assert_eq!(
            times("*/15 * * * *", "Europe/Berlin", "2026-03-29T00:40:00Z", 3),
            ["2026-03-29T00:45:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:15:00Z"]
        );
        assert_eq!(
            times("*/15 2 * * *", "Europe/Berlin", "2026-03-29T00:40:00Z", 2),
            ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]
        );
        // A whole day that was left out: Samoa had no 30 December 2011.
        assert_eq!(
            times("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", 1),
            ["2011-12-30T10:00:00Z"]
        );
    }

    #[test]
    fn what_comes_twice_is_due_once() {
        assert_eq!(
            times("30 1 * * *", "Europe/Lisbon", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        assert_eq!(
            times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
        // Asked between the two.
        assert_eq!(times("30 1 * * *", "Europe/Lisbon", "2026-10-25T01:10:00Z", 1), ["2026-10-26T01:30:00Z"]);
        assert_eq!(
            times("0,30 1,2 * * *", "Europe/Lisbon", "2026-10-24T23:59:00Z", 4),
            ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z", "2026-10-25T02:30:00Z"]
        );
    }

    #[test]
    fn what_is_due_in_every_hour_is_due_in_both() {
        assert_eq!(
            times("20 * * * *", "Europe/Lisbon", "2026-10-24T23:00:00Z", 4),
            ["2026-10-24T23:20:00Z", "2026-10-25T00:20:00Z", "2026-10-25T01:20:00Z", "2026-10-25T02:20:00Z"]
        );
        let quarters = times("*/15 * * * *", "Europe/Berlin", "2026-10-24T23:59:00Z", 12);
        let expected: Vec<String> = (0..12)
            .map(|n| (time("2026-10-25T00:00:00Z") + SignedDuration::from_mins(15 * n)).to_string())
            .collect();
        assert_eq!(quarters, expected);
    }

    #[test]
    fn what_was_missed_is_counted_up_to_a_bound() {
        let quarters = cron("*/15 * * * *", "UTC");
        let (from, to) = (time("2026-11-25T00:00:00Z"), time("2026-11-25T01:00:00Z"));
        let (times, all) = quarters.between(from, to, 10);
        assert_eq!((times.len(), all), (4, true));
        assert_eq!(quarters.between(from, to, 3), (times[..3].to_vec(), false));
        assert_eq!(
            quarters.last_before(from, time("2026-11-25T00:59:00Z")),
            Some(time("2026-11-25T00:45:00Z"))
        );
        assert_eq!(quarters.last_before(from, time("2026-11-25T00:14:00Z")), None);
        let yearly = cron("0 0 1 1 *", "UTC");
        let last = yearly.last_before(time("2020-06-01T00:00:00Z"), time("2026-11-25T00:00:00Z"));
        assert_eq!(last, Some(time("2026-01-01T00:00:00Z")));
    }

    #[test]
    fn what_a_set_clock_makes_of_it_can_be_said_before() {
        let moved = |written: &str, zone: &str| -> Vec<String> {
            let moved = cron(written, zone).moved(time("2026-11-25T00:00:00Z"));
            moved
                .iter()
                .map(|moved| format!("{} at {} {}", moved.local, moved.at.datetime(), moved.twice))
                .collect()
        };
        assert_eq!(
            moved("30 1 * * *", "Europe/Lisbon"),
            [
                "2027-03-28T01:30:00 at 2027-03-28T02:00:00 false",
                "2027-10-31T01:30:00 at 2027-10-31T01:30:00 true"
            ]
        );
        assert_eq!(moved("30 4 * * *", "Europe/Lisbon"), [] as [String; 0]);
        assert_eq!(moved("30 1 * * mon", "Europe/Lisbon"), [] as [String; 0]);
    }

    #[test]
    fn what_is_no_expression_is_refused_in_a_sentence() {
        for (written, says) in [
            ("", "five fields"),
            ("30 1 * *", "five fields"),
            ("0 30 1 * * *", "five fields"),
            ("@daily", "five fields"),
            ("61 1 * * *", "no cron expression"),
            ("x 1 * * *", "no cron expression"),
            ("0 0 30 2 *", "never comes"),
        ] {
            let why = Cron::parse(written, &TimeZone::UTC).expect_err(written);
            assert!(why.contains(says), "{written}: {why}");
        }
    }
}
