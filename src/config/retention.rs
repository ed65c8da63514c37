//! `retention:` in `houston.yaml`: how long what is kept is kept, and how much of it.
//!
//! Must not: read the clock, or remove anything.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::diagnostic::Diagnostics;
use crate::text;
use crate::yaml::{Map, Node};

const DAY: Duration = Duration::from_secs(86_400);

/// Of everything but marks. Below an hour nobody would have read what a run left.
const AGES: RangeInclusive<Duration> = Duration::from_secs(3600)..=Duration::from_secs(36_500 * 86_400);

/// Of marks: an absence that is longer leaves what was said in its beginning unheard.
const MARKS: RangeInclusive<Duration> = DAY..=Duration::from_secs(3650 * 86_400);

const MEGABYTES: RangeInclusive<i64> = 1..=1_000_000_000;

/// What of one kind is kept: both limits hold, an absent one is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    pub age: Option<Duration>,
    pub megabytes: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The journal of a run, since its end.
    pub runs: Keep,
    /// What its steps wrote, likewise.
    pub transcripts: Keep,
    /// Whole files of the audit log, since their last entry.
    pub audit: Keep,
    /// That a message was obeyed.
    pub marks: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            runs: Keep { age: Some(365 * DAY), megabytes: Some(1024) },
            transcripts: Keep { age: Some(180 * DAY), megabytes: Some(4096) },
            audit: Keep { age: None, megabytes: None },
            marks: 30 * DAY,
        }
    }
}

/// One limit of one kind, as it stands in `houston.yaml`: `retention.runs.for: 365d`.
pub fn rule(kind: &str, keep: Keep, by_size: bool) -> String {
    if by_size {
        let most = keep.megabytes.map_or_else(|| "unlimited".to_owned(), |most| most.to_string());
        return format!("retention.{kind}.megabytes: {most}");
    }
    let age = keep.age.map_or_else(|| "forever".to_owned(), text::written_duration);
    format!("retention.{kind}.for: {age}")
}

pub(super) fn read(node: &Node, found: &mut Diagnostics) -> Retention {
    let mut retention = Retention::default();
    let Some(mut map) = node.map(found) else { return retention };
    keep(&mut map, "runs", &mut retention.runs, found);
    keep(&mut map, "transcripts", &mut retention.transcripts, found);
    keep(&mut map, "audit", &mut retention.audit, found);
    if let Some(mut marks) = map.take("marks").and_then(|node| node.map(found)) {
        if let Some(age) = marks.take("for").and_then(|node| node.duration(MARKS, found)) {
            retention.marks = age;
        }
        marks.finish(found);
    }
    map.finish(found);
    retention
}

fn keep(map: &mut Map<'_>, name: &'static str, keep: &mut Keep, found: &mut Diagnostics) {
    let Some(mut map) = map.take(name).and_then(|node| node.map(found)) else { return };
    if let Some(node) = map.take("for") {
        match node.word() {
            Some("forever") => keep.age = None,
            written => match written.and_then(text::parse_duration).filter(|age| AGES.contains(age)) {
                Some(age) => keep.age = Some(age),
                None => found.push(
                    node.expected("a duration from 1 h to 36500 d, or `forever`").hint("write it as 90d"),
                ),
            },
        }
    }
    if let Some(node) = map.take("megabytes") {
        keep.megabytes = megabytes(node, keep.megabytes, found);
    }
    map.finish(found);
}

/// At most so many, or `unlimited`; what was so before where something else is written.
pub(super) fn megabytes(node: &Node, before: Option<u64>, found: &mut Diagnostics) -> Option<u64> {
    if node.word() == Some("unlimited") {
        return None;
    }
    let most = node.integer(MEGABYTES, found).and_then(|most| u64::try_from(most).ok());
    most.or(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_told_as_it_is_written() {
        let keep = Keep { age: Some(90 * DAY), megabytes: Some(7) };
        assert_eq!(rule("runs", keep, false), "retention.runs.for: 90d");
        assert_eq!(rule("transcripts", keep, true), "retention.transcripts.megabytes: 7");
    }
}
