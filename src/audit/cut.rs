//! Cuts the beginning of the audit log off: whole files of it that are older, or more, than is to be kept.
//!
//! What stays can still be checked: before a file goes, an entry says which entries went, by which rule, and the hash
//! that the next one names. A death in between leaves a file that the entry tells of, and the next cut removes it.
//!
//! Must not: cut what does not hold, or the file that is written into.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::{Audit, AuditError, Entry, Event, VerifyError, Who, io_error, read};
use crate::clock::Clock;
use crate::config::retention::{Keep, rule};
use crate::ids::UserId;

/// What the log calls it.
pub const CUT: &str = "cut";

/// Entries at the end of the log among which one about a cut that was not finished stands.
const LATELY: usize = 10_000;

/// A file that has to go.
struct Due {
    path: PathBuf,
    by_size: bool,
}

impl Audit {
    /// How many files went.
    pub async fn cut(&self, clock: &Clock, keep: Keep) -> Result<usize, AuditError> {
        let now = clock.now();
        let failed = |error: io::Error| io_error("cut", self.path(), &error);
        let path = self.path().to_owned();
        let due = blocking(move || due(&path, keep, now)).await.map_err(failed)?;
        let mut cut = 0;
        for Due { path, by_size } in due {
            let file = path.clone();
            let whole = blocking(move || Ok(read::whole(&file))).await.map_err(failed)?;
            let (first, last) = match whole {
                Ok(Some(ends)) => ends,
                Ok(None) => return Ok(cut),
                Err(VerifyError::Broken(broken)) => {
                    return Err(AuditError::Broken {
                        path: self.path().to_owned(),
                        reason: format!("{broken}; it is not cut off, so that it can be looked at"),
                    });
                }
                Err(VerifyError::Io(error)) => return Err(failed(error)),
            };
            let event = event(&first, &last, &rule("audit", keep, by_size));
            let tail = self.tail(LATELY).map_err(failed)?;
            if !tail.iter().any(|entry| entry.event.event == event.event) {
                self.append(clock, event).await?;
            }
            blocking(move || remove(&path)).await.map_err(failed)?;
            cut += 1;
        }
        Ok(cut)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Oldest first, and none without those before it.
fn due(path: &Path, keep: Keep, now: Timestamp) -> io::Result<Vec<Due>> {
    let rotated = read::rotated(path)?;
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let mut together: u64 = rotated.iter().map(|path| size(path)).sum::<u64>() + size(path);
    let age = keep.age.and_then(|age| SignedDuration::try_from(age).ok());
    let most = keep.megabytes.map(|most| most.saturating_mul(1_000_000));
    let mut due = Vec::new();
    for path in rotated {
        let old = match age {
            Some(age) => {
                let last = read::last_entry(&path)?;
                last.is_some_and(|last| now.duration_since(last.time) > age)
            }
            None => false,
        };
        let too_much = most.is_some_and(|most| together > most);
        if !old && !too_much {
            break;
        }
        together -= size(&path);
        due.push(Due { path, by_size: !old });
    }
    Ok(due)
}

fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn event(first: &Entry, last: &Entry, rule: &str) -> Event {
    Event {
        who: Who { id: UserId::from("houston"), name: "Houston".to_owned() },
        action: CUT.to_owned(),
        command: String::new(),
        target: Some(format!("entries {} to {}", first.number, last.number)),
        run: None,
        approval: None,
        result: Some(format!("by `{rule}`; the last of them has the hash {}", last.hash)),
        event: Some(reference(last.number)),
        happened_at: None,
    }
}

/// Names the cut behind the entry `last`.
fn reference(last: u64) -> String {
    format!("cut/{last}")
}

/// What an entry says of a cut: behind which entry, and that one's hash.
pub(super) fn told(event: &Event) -> Option<(u64, &str)> {
    let last = event.event.as_deref()?.strip_prefix("cut/")?.parse().ok()?;
    let hash = event.result.as_deref()?.rsplit_once(' ')?.1;
    (event.action == CUT).then_some((last, hash))
}

/// The rule that an entry says it was done by.
pub(super) fn rule_of(event: &Event) -> Option<String> {
    Some(event.result.as_deref()?.split('`').nth(1)?.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::audit::{Broken, verify};
    use crate::secret::Redactor;

    const DAY: Duration = Duration::from_secs(86_400);

    /// Four entries in files of their own, a day between them, and one in the present file.
    async fn filled(dir: &Path) -> (Audit, Clock) {
        let clock = Clock::manual("2026-11-01T10:00:00Z".parse().expect("a time"));
        let audit = Audit::open_rotating(dir, &clock, Redactor::new(), 1).expect("opens");
        for day in 1..=5 {
            audit.append(&clock, said(day)).await.expect("appends");
            clock.advance(DAY);
        }
        (audit, clock)
    }

    fn said(day: u32) -> Event {
        Event {
            who: Who { id: UserId::from("a1"), name: "alice".into() },
            action: "locked".into(),
            command: format!("lock prod {day}"),
            target: None,
            run: None,
            approval: None,
            result: None,
            event: None,
            happened_at: None,
        }
    }

    fn older_than(days: u32) -> Keep {
        Keep { age: Some(days * DAY), megabytes: None }
    }

    fn entries(audit: &Audit, action: &str) -> Vec<String> {
        let all = audit.tail(100).expect("reads").into_iter().map(|entry| entry.event);
        all.filter(|event| event.action == action)
            .filter_map(|event| event.target.or(Some(event.command)))
            .collect()
    }

    #[tokio::test]
    async fn what_is_cut_off_is_told_by_an_entry_and_the_rest_still_holds() {
        let dir = tempfile::tempdir().expect("a folder");
        let (audit, clock) = filled(dir.path()).await;
        assert_eq!(audit.cut(&clock, older_than(30)).await.expect("looks"), 0);
        assert_eq!(verify(audit.path()).expect("holds").first, 1);
        // The first was written five days ago, the fourth two.
        assert_eq!(audit.cut(&clock, older_than(3)).await.expect("cuts"), 2);
        let summary = verify(audit.path()).expect("holds");
        assert_eq!((summary.first, summary.entries), (3, 5));
        let cut = summary.cut.expect("is told");
        assert_eq!((cut.rule.as_str(), cut.at), ("retention.audit.for: 3d", clock.now()));
        assert_eq!(entries(&audit, CUT), ["entries 1 to 1", "entries 2 to 2"]);
        assert_eq!(entries(&audit, "locked"), ["lock prod 3", "lock prod 4", "lock prod 5"]);
        // All but what is written into: there is still an entry that says so.
        clock.advance(30 * DAY);
        audit.cut(&clock, older_than(1)).await.expect("cuts");
        drop(audit);
        let audit = Audit::open_rotating(dir.path(), &clock, Redactor::new(), 1).expect("opens");
        assert!(verify(audit.path()).expect("holds").cut.is_some());
        assert!(entries(&audit, "locked").is_empty());
    }

    #[tokio::test]
    async fn a_death_between_the_entry_and_the_file_leaves_what_the_next_cut_removes() {
        let dir = tempfile::tempdir().expect("a folder");
        let (audit, clock) = filled(dir.path()).await;
        let first = dir.path().join("audit-000000000001.jsonl");
        let bytes = std::fs::read(&first).expect("is there");
        audit.cut(&clock, older_than(4)).await.expect("cuts");
        assert!(!first.exists());
        std::fs::write(&first, bytes).expect("written");
        assert_eq!(verify(audit.path()).expect("holds").first, 1);
        assert_eq!(audit.cut(&clock, older_than(4)).await.expect("cuts"), 1);
        assert_eq!(entries(&audit, CUT), ["entries 1 to 1"], "it is told once");
        assert!(verify(audit.path()).expect("holds").cut.is_some());
    }

    #[tokio::test]
    async fn what_does_not_hold_stays_to_be_looked_at() {
        let dir = tempfile::tempdir().expect("a folder");
        let (audit, clock) = filled(dir.path()).await;
        let second = dir.path().join("audit-000000000002.jsonl");
        let text = std::fs::read_to_string(&second).expect("is there").replace("alice", "mallory");
        std::fs::write(&second, text).expect("written");
        let error = audit.cut(&clock, older_than(1)).await.expect_err("is refused");
        assert!(error.to_string().contains("its hash is not that of its content"), "{error}");
        assert!(second.exists() && dir.path().join("audit-000000000003.jsonl").exists());
    }

    #[tokio::test]
    async fn by_size_the_oldest_files_go_and_what_was_taken_away_by_hand_is_told_from_that() {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Clock::manual("2026-11-01T10:00:00Z".parse().expect("a time"));
        let audit = Audit::open_rotating(dir.path(), &clock, Redactor::new(), 400_000).expect("opens");
        let long = Event { result: Some("x".repeat(16_000)), ..said(1) };
        for _ in 0..100 {
            audit.append(&clock, long.clone()).await.expect("appends");
        }
        let keep = Keep { age: None, megabytes: Some(1) };
        assert_eq!(audit.cut(&clock, keep).await.expect("cuts"), 2);
        let cut = verify(audit.path()).expect("holds").cut.expect("is told");
        assert_eq!(cut.rule, "retention.audit.megabytes: 1");
        assert_eq!(audit.cut(&clock, keep).await.expect("cuts"), 0);
        let oldest = read::rotated(audit.path()).expect("reads").remove(0);
        std::fs::remove_file(oldest).expect("removed by hand");
        let summary = verify(audit.path()).expect("holds");
        assert_eq!((summary.cut, summary.first > 1), (None, true));
        for left in read::rotated(audit.path()).expect("reads") {
            std::fs::remove_file(left).expect("removed by hand");
        }
        let broken: Broken = match verify(audit.path()) {
            Err(VerifyError::Broken(broken)) => broken,
            other => panic!("{other:?}"),
        };
        assert!(broken.why.contains("are missing"), "{broken}");
    }
}
