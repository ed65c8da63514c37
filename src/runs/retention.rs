//! What of old runs is not kept any more: which of them that may be, and what is known of one that is gone.
//!
//! Must not: remove anything itself. [`super::engine`] does, under the journal's lock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::journal::Header;
use super::outbox;
use super::owed::Owed;
use super::releases::{self, Release};
use crate::audit;
use crate::ids::{EnvName, RunId, ServiceName, UserId};
use crate::store::{Batch, Store, StoreError, Tree};

/// What the audit log calls it.
pub(super) const REMOVED: &str = "removed";

/// Between the two ends of runs that were removed together.
const TO: char = '…';

/// What of a run is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Its journal.
    Run = 0,
    /// What its steps wrote.
    Transcript = 1,
}

impl What {
    fn key(self, run: RunId) -> [u8; 9] {
        let mut key = [self as u8; 9];
        key[1..].copy_from_slice(&run.0.to_be_bytes());
        key
    }
}

/// Runs without a gap between them, of which the same was removed by the same rule on one day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    pub from: RunId,
    pub to: RunId,
    pub at: Timestamp,
    /// As it stood in `houston.yaml`: `retention.runs.for: 365d`.
    pub rule: String,
}

impl Removed {
    /// `removed on 3 Nov 2026 by …`.
    pub fn words(&self) -> String {
        format!("removed on {} by `{}`", self.at.strftime("%-d %b %Y"), self.rule)
    }
}

/// Whether, when and why it was removed.
pub fn of(store: &Store, what: What, run: RunId) -> Result<Option<Removed>, StoreError> {
    let found = store.from::<Removed>(Tree::Removed, &what.key(run))?;
    let here = found.filter(|(key, removed)| key.first() == Some(&(what as u8)) && removed.from <= run);
    Ok(here.map(|(_, removed)| removed))
}

/// Notes it in `batch`. What stands there already stays as it is.
pub(super) fn note(
    store: &Store,
    batch: &mut Batch,
    what: What,
    runs: &[RunId],
    rule: &str,
    at: Timestamp,
) -> Result<(), StoreError> {
    let mut new = Vec::new();
    for run in runs {
        if of(store, what, *run)?.is_none() {
            new.push(*run);
        }
    }
    for (from, to) in without_gaps(&new) {
        let mut removed = Removed { from, to, at, rule: rule.to_owned() };
        let before = RunId(from.0.saturating_sub(1));
        let key = what.key(before);
        // One record for the runs of a day, however many times of it they were removed at.
        if let Some(earlier) = store.get::<Removed>(Tree::Removed, &key)?
            && earlier.rule == rule
            && earlier.at.strftime("%F").to_string() == at.strftime("%F").to_string()
        {
            batch.delete(Tree::Removed, &key);
            removed.from = earlier.from;
        }
        batch.put(Tree::Removed, &what.key(to), &removed);
    }
    Ok(())
}

/// Runs in order as first and last of those without a gap between them.
fn without_gaps(runs: &[RunId]) -> Vec<(RunId, RunId)> {
    let mut spans: Vec<(RunId, RunId)> = Vec::new();
    for run in runs {
        match spans.last_mut() {
            Some((_, to)) if to.0 + 1 == run.0 => *to = *run,
            _ => spans.push((*run, *run)),
        }
    }
    spans
}

/// What the audit log is told of runs in order.
pub(super) fn entry(what: What, runs: &[RunId], rule: &str) -> audit::Event {
    let spans = without_gaps(runs).into_iter();
    let spans: Vec<String> = spans
        .map(|(from, to)| if from == to { from.to_string() } else { format!("{from}{TO}{to}") })
        .collect();
    let noun = match what {
        What::Run => "run",
        What::Transcript => "transcript",
    };
    audit::Event {
        who: audit::Who { id: UserId::from("houston"), name: "Houston".to_owned() },
        action: REMOVED.to_owned(),
        command: String::new(),
        target: Some(spans.join(" ")),
        run: None,
        approval: None,
        result: Some(format!("{} by `{rule}`", crate::text::count(runs.len(), noun))),
        event: None,
        happened_at: None,
    }
}

/// Whether it tells of what was not kept any more: nobody's doing, and nothing that an export could lack.
pub(super) fn is_housekeeping(event: &audit::Event) -> bool {
    [REMOVED, audit::CUT].contains(&event.action.as_str())
}

/// The runs that an entry of the audit log says were removed, and by which rule.
pub(super) fn told(event: &audit::Event) -> Option<(Vec<(RunId, RunId)>, &str)> {
    let (counted, rule) = event.result.as_deref()?.strip_suffix('`')?.split_once(" by `")?;
    if event.action != REMOVED || !counted.contains(" run") {
        return None;
    }
    let spans = event.target.as_deref()?.split(' ').map(|span| {
        let (from, to) = span.split_once(TO).unwrap_or((span, span));
        Some((from.parse().ok()?, to.parse().ok()?))
    });
    Some((spans.collect::<Option<_>>()?, rule))
}

/// Runs that stay whatever their age, beside those that are not done or have to be reviewed, which their headers tell.
#[derive(Debug, Default)]
pub(super) struct Needed {
    runs: BTreeSet<RunId>,
    /// What each run released.
    releases: BTreeMap<RunId, Vec<Vec<u8>>>,
}

/// Of which something has still to be said, or told to the audit log.
pub(super) fn untold(store: &Store) -> Result<BTreeSet<RunId>, StoreError> {
    let mut untold: BTreeSet<RunId> =
        outbox::waiting(store)?.iter().filter_map(|entry| entry.notice.run()).collect();
    for owed in store.scan::<Owed>(Tree::Owed, &[]) {
        untold.insert(owed?.1.run);
    }
    Ok(untold)
}

impl Needed {
    /// What `rollback` goes back to, and what is [`untold`]. Whatever is released from here on takes nothing out of
    /// the first.
    pub(super) fn look(store: &Store) -> Result<Self, StoreError> {
        let mut needed = Self { runs: untold(store)?, ..Self::default() };
        let mut of_service: BTreeMap<(EnvName, ServiceName), Vec<Release>> = BTreeMap::new();
        for release in store.scan::<Release>(Tree::Releases, &[]).rev() {
            let (key, release) = release?;
            needed.releases.entry(release.run).or_default().push(key);
            let service = (release.environment.clone(), release.service.clone());
            of_service.entry(service).or_default().push(release);
        }
        for newest_first in of_service.values() {
            needed.runs.extend(releases::to_go_back(newest_first).map(|release| release.run));
        }
        Ok(needed)
    }

    pub(super) fn keeps(&self, header: &Header) -> bool {
        !header.done || header.review_open || self.runs.contains(&header.run)
    }

    /// Keys of what the run released, which goes with it.
    pub(super) fn releases_of(&self, run: RunId) -> &[Vec<u8>] {
        self.releases.get(&run).map_or(&[], Vec::as_slice)
    }
}

/// Whether what ended then is older than `age`.
pub(super) fn is_old(ended: Timestamp, now: Timestamp, age: Duration) -> bool {
    SignedDuration::try_from(age).is_ok_and(|age| now.duration_since(ended) > age)
}

/// From `from` on, at most `most` runs that are over for longer than `age`; and where to look on, unless all that
/// follow are younger.
pub(super) fn old_runs(
    store: &Store,
    needed: &Needed,
    from: RunId,
    most: usize,
    now: Timestamp,
    age: Duration,
) -> Result<(Vec<RunId>, Option<RunId>), StoreError> {
    let mut old = Vec::new();
    for header in store.scan_from::<Header>(Tree::Runs, &from.0.to_be_bytes()) {
        let (_, header) = header?;
        // Numbers are given in the order of time: what follows began later, and ended later still. A clock that was set
        // on for a while says nothing.
        if header.created_at <= now && !is_old(header.created_at, now, age) {
            return Ok((old, None));
        }
        let ended = header.ended_at.unwrap_or(header.created_at);
        if is_old(ended, now, age) && !needed.keeps(&header) {
            old.push(header.run);
            if old.len() == most {
                return Ok((old, Some(RunId(header.run.0 + 1))));
            }
        }
    }
    Ok((old, None))
}

/// The oldest runs that have to go so that the journals of all take at most `most` bytes. Reads all of them.
pub(super) fn too_many_runs(store: &Store, needed: &Needed, most: u64) -> Result<Vec<RunId>, StoreError> {
    let mut bytes: BTreeMap<RunId, u64> = BTreeMap::new();
    for tree in [Tree::Events, Tree::Runs] {
        for entry in store.sizes(tree, &[]) {
            let (key, size) = entry?;
            if let Some(run) = key.first_chunk::<8>() {
                *bytes.entry(RunId(u64::from_be_bytes(*run))).or_default() += size;
            }
        }
    }
    let mut together: u64 = bytes.values().sum();
    let mut old = Vec::new();
    for (run, size) in bytes {
        if together <= most {
            break;
        }
        let header = store.get::<Header>(Tree::Runs, &run.0.to_be_bytes())?;
        if header.is_some_and(|header| !needed.keeps(&header)) {
            old.push(run);
            together -= size;
        }
    }
    Ok(old)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "retention.runs.for: 90d";

    fn runs(numbers: &[u64]) -> Vec<RunId> {
        numbers.iter().map(|number| RunId(*number)).collect()
    }

    #[test]
    fn of_each_run_that_is_gone_it_is_known_and_of_no_other() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("opens");
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let remove = |what, numbers: &[u64], rule: &str, when: &str| {
            let mut batch = Batch::new();
            note(&store, &mut batch, what, &runs(numbers), rule, at(when)).expect("is noted");
            store.apply(batch).expect("applies");
        };
        remove(What::Run, &[1, 2, 4, 5], RULE, "2026-11-03T01:00:00Z");
        remove(What::Run, &[6, 7], RULE, "2026-11-03T02:00:00Z");
        remove(What::Run, &[8], RULE, "2026-11-04T02:00:00Z");
        remove(What::Run, &[3], "retention.runs.megabytes: 1", "2026-11-04T03:00:00Z");
        remove(What::Transcript, &[9], "x", "2026-11-04T03:00:00Z");
        // As after a death between the note and what it is about.
        remove(What::Run, &[6, 7, 8], RULE, "2026-11-05T02:00:00Z");
        let day =
            |run| of(&store, What::Run, RunId(run)).expect("reads").map(|r| (r.words(), r.from.0, r.to.0));
        let by_age = |day: &str, from, to| Some((format!("removed on {day} Nov 2026 by `{RULE}`"), from, to));
        assert_eq!(day(1), by_age("3", 1, 2));
        assert_eq!(day(2), by_age("3", 1, 2));
        assert_eq!(day(3), Some(("removed on 4 Nov 2026 by `retention.runs.megabytes: 1`".to_owned(), 3, 3)));
        assert_eq!(day(4), by_age("3", 4, 7));
        assert_eq!(day(7), by_age("3", 4, 7));
        assert_eq!(day(8), by_age("4", 8, 8));
        assert_eq!(day(9), None);
        assert_eq!(
            of(&store, What::Transcript, RunId(9)).expect("reads").map(|r| r.rule).as_deref(),
            Some("x")
        );
        assert_eq!(of(&store, What::Transcript, RunId(8)).expect("reads").map(|r| r.from), None);
        assert_eq!(store.scan::<Removed>(Tree::Removed, &[]).count(), 5, "the runs of a day are one record");
    }

    fn header(run: u64, created: &str, ended: Option<&str>) -> Header {
        Header {
            run: RunId(run),
            command: "deploy prod web 1.8".to_owned(),
            by: "alice".to_owned(),
            environment: Some("prod".into()),
            state: "succeeded".to_owned(),
            done: ended.is_some(),
            created_at: created.parse().expect("a time"),
            ended_at: ended.map(|at| at.parse().expect("a time")),
            review_open: false,
        }
    }

    fn put(store: &Store, header: &Header, bytes: usize) {
        let mut batch = Batch::new();
        batch.put(Tree::Runs, &header.run.0.to_be_bytes(), header);
        batch.put(Tree::Events, &super::super::journal::event_key(header.run, 0), &"x".repeat(bytes));
        store.apply(batch).expect("applies");
    }

    #[test]
    fn what_is_over_for_long_may_go_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("opens");
        put(&store, &header(1, "2026-01-01T00:00:00Z", Some("2026-01-01T01:00:00Z")), 10);
        put(&store, &header(2, "2026-01-02T00:00:00Z", None), 10);
        put(
            &store,
            &Header { review_open: true, ..header(3, "2026-01-03T00:00:00Z", Some("2026-01-03T01:00:00Z")) },
            10,
        );
        put(&store, &header(4, "2026-01-04T00:00:00Z", Some("2026-11-20T00:00:00Z")), 10);
        // Of a moment at which the clock was wrong.
        put(&store, &header(5, "2027-01-01T00:00:00Z", Some("2026-01-05T00:00:00Z")), 10);
        put(&store, &header(6, "2026-01-06T00:00:00Z", Some("2026-01-06T00:00:00Z")), 10);
        put(&store, &header(7, "2026-01-07T00:00:00Z", Some("2026-01-07T00:00:00Z")), 10);
        put(&store, &header(8, "2026-11-20T00:00:00Z", Some("2026-11-20T01:00:00Z")), 10);
        let mut batch = Batch::new();
        let entry = outbox::OutboxEntry { id: 1, at: None, notice: outbox::Notice::result(RunId(6)) };
        batch.put(Tree::Outbox, &1_u64.to_be_bytes(), &entry);
        store.apply(batch).expect("applies");
        let now = "2026-11-25T00:00:00Z".parse().expect("a time");
        let needed = Needed::look(&store).expect("reads");
        let month = Duration::from_secs(30 * 86_400);
        let old = |from, most| old_runs(&store, &needed, RunId(from), most, now, month).expect("reads");
        assert_eq!(old(0, 9), (runs(&[1, 5, 7]), None));
        assert_eq!(old(0, 2), (runs(&[1, 5]), Some(RunId(6))));
        assert_eq!(old(6, 2), (runs(&[7]), None));
    }

    #[test]
    fn by_size_the_oldest_go_until_the_rest_fits() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("opens");
        for run in 1..=5 {
            let ended = (run != 2).then_some("2026-01-01T01:00:00Z");
            put(&store, &header(run, "2026-01-01T00:00:00Z", ended), 10_000);
        }
        let needed = Needed::look(&store).expect("reads");
        let over = |most| too_many_runs(&store, &needed, most).expect("reads");
        assert_eq!(over(100_000), []);
        assert_eq!(over(45_000), runs(&[1]));
        assert_eq!(over(35_000), runs(&[1, 3]));
        assert_eq!(over(1), runs(&[1, 3, 4, 5]));
    }

    #[test]
    fn what_the_audit_log_is_told_can_be_read_back() {
        let event = entry(What::Run, &runs(&[1, 2, 3, 7]), RULE);
        assert_eq!(event.target.as_deref(), Some("R-1…R-3 R-7"));
        assert_eq!(event.result.as_deref(), Some("4 runs by `retention.runs.for: 90d`"));
        let spans = vec![(RunId(1), RunId(3)), (RunId(7), RunId(7))];
        assert_eq!(told(&event), Some((spans, RULE)));
        assert_eq!(told(&entry(What::Transcript, &runs(&[1]), RULE)), None);
    }
}
