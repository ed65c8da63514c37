//! Spans of local time that come again, as environment files write them: every Friday from 16:00 to 08:00. Pure
//! calendar.
//!
//! Where a clock is set forth or back, a span is never shorter than it reads: a beginning that does not exist
//! or exists twice is the earlier of the two moments, an end the later one.
//!
//! Must not: read the clock, or know what a window is for.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, ToSpan as _, Zoned};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::yaml::{Map, Node};

const HINT: &str = "write {days: [fri], from: \"16:00\", to: \"08:00\"}, {from: \"fri 16:00\", to: \"mon 08:00\"} or \
                    {from: \"2026-12-24 12:00\", to: \"2027-01-02 08:00\"}";

/// Enough to meet the next occurrence of anything weekly.
const LOOK_AHEAD: i64 = 9;

/// Of one window, where all of some time are asked for.
const MOST_AT_ONCE: usize = 32;

/// `from` on each day on which it starts, to `to` some days later.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    starts: Starts,
    from: Time,
    to: Time,
    days_later: i64,
    zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq)]
enum Starts {
    /// Each of these days of every week.
    Weekly(Vec<Weekday>),
    /// Once.
    On(Date),
}

impl Window {
    /// The first occurrence that is not over at `now`: it may have begun.
    pub fn next(&self, now: Timestamp) -> Option<(Zoned, Zoned)> {
        let candidates: Vec<Date> = match &self.starts {
            Starts::On(date) => vec![*date],
            Starts::Weekly(days) => {
                let today = now.to_zoned(self.zone.clone()).date();
                // A day more at both ends: around a change of the clock a moment may fall on another date.
                (-self.days_later - 1..=LOOK_AHEAD)
                    .filter_map(|days| today.checked_add(Span::new().days(days)).ok())
                    .filter(|date| days.contains(&date.weekday()))
                    .collect()
            }
        };
        candidates.into_iter().filter_map(|date| self.starting(date)).find(|(_, end)| end.timestamp() > now)
    }

    /// Those that are not over at `after` and begin by `until`, not endlessly many.
    pub fn between(&self, after: Timestamp, until: Timestamp) -> Vec<(Zoned, Zoned)> {
        let mut found = Vec::new();
        let mut at = after;
        while found.len() < MOST_AT_ONCE
            && let Some((begin, end)) = self.next(at).filter(|(begin, _)| begin.timestamp() <= until)
        {
            at = end.timestamp();
            found.push((begin, end));
        }
        found
    }

    /// Until when `now` is inside.
    pub fn until(&self, now: Timestamp) -> Option<Zoned> {
        self.next(now).filter(|(begin, _)| begin.timestamp() <= now).map(|(_, end)| end)
    }

    fn starting(&self, date: Date) -> Option<(Zoned, Zoned)> {
        let last = date.checked_add(self.days_later.days()).ok()?;
        let begin = begin_at(&self.zone, date.to_datetime(self.from))?;
        Some((begin, end_at(&self.zone, last.to_datetime(self.to))?))
    }
}

/// The moment at which something begins that is to begin at this local time.
pub fn begin_at(zone: &TimeZone, at: DateTime) -> Option<Zoned> {
    zone.to_ambiguous_zoned(at).earlier().ok()
}

/// The moment at which something ends that is to end at this local time.
pub fn end_at(zone: &TimeZone, at: DateTime) -> Option<Zoned> {
    zone.to_ambiguous_zoned(at).later().ok()
}

/// `days`, `from`, `to` and `time_zone` of a mapping whose other keys the caller knows.
pub(super) fn read(
    map: &mut Map<'_>,
    node: &Node,
    zone: &TimeZone,
    found: &mut Diagnostics,
) -> Option<Window> {
    let zone_here = map.take("time_zone").map(|node| read_zone(node, found));
    let days = map.take("days").map(|node| read_days(node, found));
    let from = map.need("from", HINT, found).map(|node| read_moment(node, found));
    let to = map.need("to", HINT, found).map(|node| read_moment(node, found));
    let zone = match zone_here {
        Some(zone) => zone?,
        None => zone.clone(),
    };
    let (from, to) = (from??, to??);
    let overnight = i64::from(to.time <= from.time);
    let (starts, days_later) = match (from.day, to.day, days) {
        (Day::Any, Day::Any, days) => {
            let every = || {
                vec![0, 1, 2, 3, 4, 5, 6].into_iter().filter_map(|d| Weekday::from_sunday_zero_offset(d).ok())
            };
            (Starts::Weekly(days.unwrap_or_else(|| Some(every().collect()))?), overnight)
        }
        (Day::OfWeek(first), Day::OfWeek(last), None) => {
            let later = i64::from(first.until(last));
            (Starts::Weekly(vec![first]), if later == 0 && overnight == 1 { 7 } else { later })
        }
        (Day::On(first), Day::On(last), None) if first.to_datetime(from.time) < last.to_datetime(to.time) => {
            (Starts::On(first), i64::from(first.until(last).ok()?.get_days()))
        }
        (Day::On(_), Day::On(_), None) => {
            found.push(Diagnostic::error(node.at.clone(), "this ends before it begins").hint(HINT));
            return None;
        }
        _ => {
            found.push(
                Diagnostic::error(node.at.clone(), "`from` and `to` are not of the same kind").hint(HINT),
            );
            return None;
        }
    };
    Some(Window { starts, from: from.time, to: to.time, days_later, zone })
}

/// `Europe/Lisbon`.
pub(super) fn read_zone(node: &Node, found: &mut Diagnostics) -> Option<TimeZone> {
    let name = node.text(found)?;
    let zone = TimeZone::get(name).ok();
    if zone.is_none() {
        found.push(
            node.expected("the name of a time zone").hint("write Europe/Lisbon, America/New_York or UTC"),
        );
    }
    zone
}

fn read_days(node: &Node, found: &mut Diagnostics) -> Option<Vec<Weekday>> {
    let mut days = Vec::new();
    for (word, at) in node.one_or_more_texts(found)? {
        match weekday(&word) {
            Some(day) => days.push(day),
            None => found.push(
                Diagnostic::error(
                    at,
                    format!("`{}` is no day of the week", crate::text::ellipsis(&word, 40)),
                )
                .hint("mon, tue, wed, thu, fri, sat, sun"),
            ),
        }
    }
    (!days.is_empty()).then_some(days)
}

/// A time of day, and which day is meant as far as it says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    pub day: Day,
    pub time: Time,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Day {
    Any,
    OfWeek(Weekday),
    On(Date),
}

impl Moment {
    /// `16:00`, `fri 16:00`, `2026-12-24 16:00`, `2026-12-24T16:00`.
    pub fn parse(written: &str) -> Option<Self> {
        let words: Vec<&str> = written.split_whitespace().collect();
        let (day, time) = match words.as_slice() {
            [one] => match one.split_once('T') {
                Some((date, time)) => (Day::On(date.parse().ok()?), time),
                None => (Day::Any, *one),
            },
            [day, time] => match weekday(day) {
                Some(day) => (Day::OfWeek(day), *time),
                // What has a time already is no date.
                None if day.contains(':') => return None,
                None => (Day::On(day.parse().ok()?), *time),
            },
            _ => return None,
        };
        Some(Self { day, time: time_of_day(time)? })
    }

    /// The first such moment after `now` at which something ends; a date that is over is none.
    pub fn after(self, now: Timestamp, zone: &TimeZone) -> Option<Zoned> {
        self.first(now, zone, end_at)
    }

    /// The first such moment after `now` at which something begins.
    pub fn beginning_after(self, now: Timestamp, zone: &TimeZone) -> Option<Zoned> {
        self.first(now, zone, begin_at)
    }

    fn first(
        self,
        now: Timestamp,
        zone: &TimeZone,
        at: fn(&TimeZone, DateTime) -> Option<Zoned>,
    ) -> Option<Zoned> {
        let today = now.to_zoned(zone.clone()).date();
        let dates: Vec<Date> = match self.day {
            Day::On(date) => vec![date],
            Day::Any | Day::OfWeek(_) => {
                (0..LOOK_AHEAD).filter_map(|days| today.checked_add(days.days()).ok()).collect()
            }
        };
        dates
            .into_iter()
            .filter(|date| !matches!(self.day, Day::OfWeek(day) if day != date.weekday()))
            .filter_map(|date| at(zone, date.to_datetime(self.time)))
            .find(|at| at.timestamp() > now)
    }
}

fn read_moment(node: &Node, found: &mut Diagnostics) -> Option<Moment> {
    let moment = Moment::parse(node.text(found)?);
    if moment.is_none() {
        found.push(node.expected("a local time").hint(HINT));
    }
    moment
}

/// `16:00`, or `24:00` nowhere: a day ends with the `00:00` of the next.
pub(super) fn time_of_day(written: &str) -> Option<Time> {
    let (hour, minute) = written.split_once(':')?;
    let two = |digits: &str| digits.len() <= 2 && digits.bytes().all(|b| b.is_ascii_digit());
    if !two(hour) || !two(minute) || minute.len() != 2 {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

/// `fri` or `Friday`.
pub fn weekday(word: &str) -> Option<Weekday> {
    const NAMES: [(&str, Weekday); 7] = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let word = word.to_ascii_lowercase();
    NAMES.iter().find(|(name, _)| word == *name || word == name[..3]).map(|(_, day)| *day)
}

/// `Mon 30 Nov 2026 08:00 (Europe/Lisbon)`: the same whenever it is shown.
pub fn words(at: &Zoned) -> String {
    let zone = at.time_zone().iana_name().unwrap_or("UTC");
    format!("{} ({zone})", at.strftime("%a %-d %b %Y %H:%M"))
}

/// `3h`, or `1h 30m`, at the beginning of what was typed, and of how many words it is.
pub fn how_long(words: &[&str]) -> Option<(std::time::Duration, usize)> {
    let read = |taken: usize| crate::text::parse_duration(words.get(..taken)?.join(" ").as_str());
    let taken = (1..=words.len()).take_while(|taken| read(*taken).is_some()).last()?;
    read(taken).filter(|long| !long.is_zero()).map(|long| (long, taken))
}

/// A moment that is this far away, to the whole minute above.
pub fn in_a_while(now: Timestamp, away: std::time::Duration, zone: &TimeZone) -> Option<Zoned> {
    let at = now.checked_add(SignedDuration::try_from(away).ok()?).ok()?;
    Some(at.to_zoned(zone.clone()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn window(written: &str) -> Result<Window, Diagnostics> {
        let mut found = Diagnostics::new();
        let node = crate::yaml::parse(Path::new("w.yaml"), written.as_bytes(), &mut found);
        let window = node.and_then(|node| {
            let mut map = node.map(&mut found)?;
            let window = read(&mut map, &node, &TimeZone::UTC, &mut found);
            map.finish(&mut found);
            window
        });
        window.filter(|_| !found.has_errors()).ok_or(found)
    }

    fn moment(at: &str) -> Timestamp {
        at.parse().expect("a time")
    }

    /// The occurrence that is next at `now`, as UTC.
    fn next(written: &str, now: &str) -> String {
        let window = window(written).unwrap_or_else(|found| panic!("{written}: {found:?}"));
        let (begin, end) = window.next(moment(now)).expect("an occurrence");
        format!("{} to {}", begin.timestamp(), end.timestamp())
    }

    #[test]
    fn a_day_named_is_the_day_on_which_it_begins() {
        let nights = "{days: [fri, sat], from: \"16:00\", to: \"08:00\"}";
        assert_eq!(next(nights, "2026-11-25T12:00:00Z"), "2026-11-27T16:00:00Z to 2026-11-28T08:00:00Z");
        // Inside the night that began on Friday.
        assert_eq!(next(nights, "2026-11-28T07:59:59Z"), "2026-11-27T16:00:00Z to 2026-11-28T08:00:00Z");
        // The end itself is outside.
        assert_eq!(next(nights, "2026-11-28T08:00:00Z"), "2026-11-28T16:00:00Z to 2026-11-29T08:00:00Z");
        let daily = "{from: \"12:00\", to: \"13:00\"}";
        assert_eq!(next(daily, "2026-11-25T13:00:00Z"), "2026-11-26T12:00:00Z to 2026-11-26T13:00:00Z");
        let weekend = "{from: \"fri 16:00\", to: \"mon 08:00\"}";
        assert_eq!(next(weekend, "2026-11-30T07:00:00Z"), "2026-11-27T16:00:00Z to 2026-11-30T08:00:00Z");
        assert_eq!(next(weekend, "2026-11-30T08:00:00Z"), "2026-12-04T16:00:00Z to 2026-12-07T08:00:00Z");
        let once = "{from: \"2026-12-24 12:00\", to: \"2027-01-02 08:00\"}";
        assert_eq!(next(once, "2026-11-30T08:00:00Z"), "2026-12-24T12:00:00Z to 2027-01-02T08:00:00Z");
        assert!(window(once).expect("a window").next(moment("2027-01-02T08:00:00Z")).is_none());
    }

    /// Lisbon, 2026-03-29: 01:00 WET is followed by 02:00 WEST. 2026-10-25: 02:00 WEST is followed by 01:00 WET.
    #[test]
    fn a_changed_clock_makes_no_window_shorter() {
        let at = |from: &str, to: &str, now: &str| {
            next(&format!("{{from: \"{from}\", to: \"{to}\", time_zone: Europe/Lisbon}}"), now)
        };
        // The gap: 01:30 does not exist. As a beginning it is 00:30, as an end 02:30.
        assert_eq!(
            at("01:30", "06:00", "2026-03-29T00:00:00Z"),
            "2026-03-29T00:30:00Z to 2026-03-29T05:00:00Z"
        );
        assert_eq!(
            at("00:00", "01:30", "2026-03-29T00:00:00Z"),
            "2026-03-29T00:00:00Z to 2026-03-29T01:30:00Z"
        );
        // The fold: 01:30 exists twice. A beginning is the first one, an end the second one.
        assert_eq!(
            at("01:30", "06:00", "2026-10-25T00:00:00Z"),
            "2026-10-25T00:30:00Z to 2026-10-25T06:00:00Z"
        );
        assert_eq!(
            at("00:00", "01:30", "2026-10-25T00:45:00Z"),
            "2026-10-24T23:00:00Z to 2026-10-25T01:30:00Z"
        );
        // In summer and in winter the same local time.
        assert_eq!(
            at("16:00", "17:00", "2026-07-01T00:00:00Z"),
            "2026-07-01T15:00:00Z to 2026-07-01T16:00:00Z"
        );
        assert_eq!(
            at("16:00", "17:00", "2026-12-01T00:00:00Z"),
            "2026-12-01T16:00:00Z to 2026-12-01T17:00:00Z"
        );
    }

    #[test]
    fn a_moment_is_the_next_of_its_kind() {
        let lisbon = TimeZone::get("Europe/Lisbon").expect("a zone");
        let at = |written: &str, now: &str| {
            let at = Moment::parse(written)?.after(moment(now), &lisbon)?;
            Some(at.timestamp().to_string())
        };
        let wednesday = "2026-11-25T12:00:00Z";
        assert_eq!(at("17:00", wednesday).as_deref(), Some("2026-11-25T17:00:00Z"));
        assert_eq!(at("12:00", wednesday).as_deref(), Some("2026-11-26T12:00:00Z"));
        assert_eq!(at("wed 11:00", wednesday).as_deref(), Some("2026-12-02T11:00:00Z"));
        assert_eq!(at("Friday 8:30", wednesday).as_deref(), Some("2026-11-27T08:30:00Z"));
        assert_eq!(at("2026-11-24 17:00", wednesday), None);
        // It exists twice, and is the later one, also when the first is over.
        assert_eq!(at("01:30", "2026-10-25T00:00:00Z").as_deref(), Some("2026-10-25T01:30:00Z"));
        assert_eq!(at("Tue 8:30", wednesday).as_deref(), Some("2026-12-01T08:30:00Z"));
        assert_eq!(at("2026-11-26T17:00", wednesday).as_deref(), Some("2026-11-26T17:00:00Z"));
        for wrong in [
            "25:00",
            "17",
            "17:0",
            "fri",
            "2026-11-24",
            "soon 17:00",
            "+1:00",
            "",
            "T17:00",
            "2026-11-26T17:00 18:00",
        ] {
            assert_eq!(Moment::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for wrong in [
            "{from: \"fri 16:00\", to: \"08:00\"}",
            "{days: [fri], from: \"fri 16:00\", to: \"sat 08:00\"}",
            "{days: [someday], from: \"16:00\", to: \"08:00\"}",
            "{days: [], from: \"16:00\", to: \"08:00\"}",
            "{from: \"2026-12-24 12:00\", to: \"2026-12-24 12:00\"}",
            "{from: \"16:00\", to: \"08:00\", time_zone: Lisbon}",
            "{from: \"16:00\"}",
        ] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }
}
