//! Removes old runs, and what they wrote. A death at any point leaves each of them whole or gone: the journal of a run
//! goes in one batch with the note that it is gone and with what the audit log has to be told; a file goes when its
//! note is on the device, and is removed by the next look if a death came in between.
//!
//! Must not: decide which of them may go.

use std::sync::Arc;

use jiff::Timestamp;

use super::Engine;
use crate::config::retention::{Keep, Retention, rule};
use crate::ids::RunId;
use crate::runs::journal::Header;
use crate::runs::owed::OwedEntry;
use crate::runs::retention::{self, Needed, What};
use crate::runs::transcripts::Kept;
use crate::store::{Batch, StoreError, Tree};

/// Runs that are removed at once: whoever writes waits for no more.
const AT_ONCE: usize = 100;

/// Runs that one entry of the audit log tells of.
const IN_AN_ENTRY: usize = 1000;

/// How many of each kind were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gone {
    pub runs: usize,
    pub transcripts: usize,
}

/// What the audit log will be told of, growing with each batch.
#[derive(Default)]
struct Account {
    runs: Vec<RunId>,
    owed: Option<OwedEntry>,
}

impl Account {
    /// Adds `runs`, and puts the entry as it is then into `batch`.
    fn add(&mut self, what: What, runs: &[RunId], rule: &str, now: Timestamp, batch: &mut Batch) {
        self.runs.extend(runs);
        let entry = retention::entry(what, &self.runs, rule);
        let owed = match self.owed.take() {
            None => OwedEntry::new(entry, now),
            Some(before) => before.with(entry),
        };
        owed.put(batch);
        self.owed = Some(owed);
    }
}

impl Engine {
    /// Removes what is older than it has to be kept; with `by_size` also what is more, for which everything is read.
    pub async fn keep_to(&self, keep: &Retention, by_size: bool) -> Result<Gone, StoreError> {
        let mut gone = Gone::default();
        gone.runs += self.remove_old_runs(keep.runs).await?;
        if let (true, Some(most)) = (by_size, keep.runs.megabytes) {
            gone.runs += self.remove_runs_over(keep.runs, most.saturating_mul(1_000_000)).await?;
        }
        gone.transcripts += self.remove_transcripts(keep.transcripts).await?;
        Ok(gone)
    }

    async fn remove_old_runs(&self, keep: Keep) -> Result<usize, StoreError> {
        let Some(age) = keep.age else { return Ok(0) };
        let rule = rule("runs", keep, false);
        let store = self.0.parts.store.clone();
        let needed = Arc::new(blocking(move || Needed::look(&store)).await?);
        let (mut gone, mut from) = (0, Some(RunId(0)));
        let mut account = Account::default();
        while let (Some(at), false) = (from, self.0.shutdown.is_cancelled()) {
            let (store, needed_here, now) = (self.0.parts.store.clone(), Arc::clone(&needed), self.now());
            let (old, next) =
                blocking(move || retention::old_runs(&store, &needed_here, at, AT_ONCE, now, age)).await?;
            from = next;
            gone += self.remove_some(&old, &needed, &rule, &mut account).await?;
        }
        self.account_for(&mut account).await;
        Ok(gone)
    }

    async fn remove_runs_over(&self, keep: Keep, most: u64) -> Result<usize, StoreError> {
        // What is in it cannot be more than it takes.
        if self.0.parts.store.size() <= most {
            return Ok(0);
        }
        let store = self.0.parts.store.clone();
        let look = move || {
            let needed = Needed::look(&store)?;
            Ok((retention::too_many_runs(&store, &needed, most)?, needed))
        };
        let (old, needed) = blocking(look).await?;
        let rule = rule("runs", keep, true);
        let (mut gone, mut account) = (0, Account::default());
        for some in old.chunks(AT_ONCE) {
            if self.0.shutdown.is_cancelled() {
                break;
            }
            gone += self.remove_some(some, &needed, &rule, &mut account).await?;
        }
        self.account_for(&mut account).await;
        Ok(gone)
    }

    /// Durable when it returns, with what is owed to the audit log.
    async fn remove_some(
        &self,
        runs: &[RunId],
        needed: &Needed,
        rule: &str,
        account: &mut Account,
    ) -> Result<usize, StoreError> {
        if runs.is_empty() {
            return Ok(0);
        }
        let now = self.now();
        let mut journal = self.0.journal.lock().await;
        let store = &self.0.parts.store;
        // Anew: something may have been asked or said of one of them since.
        let mut busy = retention::untold(store)?;
        busy.extend(self.live_map().keys());
        let runs: Vec<RunId> = runs.iter().filter(|run| !busy.contains(run)).copied().collect();
        let going = journal.remove(&runs, needed, |going| {
            let mut batch = Batch::new();
            if !going.is_empty() {
                retention::note(store, &mut batch, What::Run, going, rule, now)?;
                account.add(What::Run, going, rule, now, &mut batch);
            }
            Ok(batch)
        })?;
        drop(journal);
        store.sync().await?;
        if account.runs.len() >= IN_AN_ENTRY {
            self.account_for(account).await;
        }
        Ok(going.len())
    }

    async fn account_for(&self, account: &mut Account) {
        if let Some(owed) = std::mem::take(account).owed {
            tracing::info!(
                "removed: {} ({})",
                owed.entry.result.as_deref().unwrap_or_default(),
                owed.entry.target.as_deref().unwrap_or_default()
            );
            self.pay_entry(&owed).await;
        }
    }

    async fn remove_transcripts(&self, keep: Keep) -> Result<usize, StoreError> {
        let (store, transcripts, now) =
            (self.0.parts.store.clone(), self.0.parts.transcripts.clone(), self.now());
        let due = blocking(move || {
            let files = transcripts.list().unwrap_or_else(|error| {
                tracing::warn!("transcripts stay, since they cannot be listed: {error}");
                Vec::new()
            });
            due_transcripts(&store, files, keep, now)
        })
        .await?;
        let mut gone = 0;
        for (by_size, runs) in [(false, due.old), (true, due.too_many)] {
            let rule = rule("transcripts", keep, by_size);
            for some in runs.chunks(IN_AN_ENTRY) {
                gone += self.remove_files(some, &rule).await?;
            }
        }
        for run in due.told {
            gone += usize::from(self.remove_file(run).await);
        }
        Ok(gone)
    }

    async fn remove_files(&self, runs: &[RunId], rule: &str) -> Result<usize, StoreError> {
        let (mut batch, mut account, now) = (Batch::new(), Account::default(), self.now());
        retention::note(&self.0.parts.store, &mut batch, What::Transcript, runs, rule, now)?;
        account.add(What::Transcript, runs, rule, now, &mut batch);
        self.0.parts.store.commit(batch).await?;
        let mut gone = 0;
        for run in runs {
            gone += usize::from(self.remove_file(*run).await);
        }
        self.account_for(&mut account).await;
        Ok(gone)
    }

    async fn remove_file(&self, run: RunId) -> bool {
        let transcripts = self.0.parts.transcripts.clone();
        let removed = tokio::task::spawn_blocking(move || transcripts.remove(run)).await;
        match removed.map_err(std::io::Error::other).and_then(|removed| removed) {
            Ok(removed) => removed,
            Err(error) => {
                tracing::warn!(run.id = %run, "the transcript of {run} stays until the next look: {error}");
                false
            }
        }
    }
}

/// Transcripts that have to go.
#[derive(Default)]
struct Due {
    old: Vec<RunId>,
    too_many: Vec<RunId>,
    /// Whoever has to be told that they are gone was told: they or their runs were removed before.
    told: Vec<RunId>,
}

/// Those of runs that go on are never among them. Of a run that the store does not know and never removed, as after an
/// import, the file's own age counts.
fn due_transcripts(
    store: &crate::store::Store,
    files: Vec<Kept>,
    keep: Keep,
    now: Timestamp,
) -> Result<Due, StoreError> {
    let mut due = Due::default();
    let mut left = Vec::new();
    for file in files {
        let header: Option<Header> = store.get(Tree::Runs, &file.run.0.to_be_bytes())?;
        let ended = match header {
            Some(header) if !header.done => continue,
            Some(header) => header.ended_at.unwrap_or(header.created_at),
            None if retention::of(store, What::Run, file.run)?.is_some() => {
                due.told.push(file.run);
                continue;
            }
            None => file.written,
        };
        // A death came between the note and the file.
        if retention::of(store, What::Transcript, file.run)?.is_some() {
            due.told.push(file.run);
            continue;
        }
        if keep.age.is_some_and(|age| retention::is_old(ended, now, age)) {
            due.old.push(file.run);
        } else {
            left.push((ended, file.run, file.bytes));
        }
    }
    left.sort();
    let mut together: u64 = left.iter().map(|(_, _, bytes)| bytes).sum();
    let most = keep.megabytes.map(|most| most.saturating_mul(1_000_000));
    for (_, run, bytes) in left {
        if most.is_none_or(|most| together <= most) {
            break;
        }
        together -= bytes;
        due.too_many.push(run);
    }
    for runs in [&mut due.old, &mut due.too_many] {
        runs.sort();
    }
    Ok(due)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| StoreError::Read(error.to_string()))?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::Store;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn transcripts_go_by_the_end_of_their_runs_and_by_size_the_oldest_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("opens");
        let now: Timestamp = "2026-11-25T00:00:00Z".parse().expect("a time");
        let days_ago = |days: u32| now - days * DAY;
        let mut batch = Batch::new();
        for (run, ended) in [(1, Some(40)), (2, None), (3, Some(20)), (4, Some(10)), (5, Some(5))] {
            let header = Header {
                run: RunId(run),
                command: String::new(),
                by: String::new(),
                environment: None,
                state: String::new(),
                done: ended.is_some(),
                created_at: days_ago(50),
                ended_at: ended.map(days_ago),
                review_open: false,
            };
            batch.put(Tree::Runs, &run.to_be_bytes(), &header);
        }
        retention::note(&store, &mut batch, What::Run, &[RunId(6)], "rule", now).expect("is noted");
        store.apply(batch).expect("applies");
        // came with files of another store.
        let written = |run| if run == 7 { days_ago(60) } else { days_ago(1) };
        let files: Vec<Kept> =
            (1..=8).map(|run| Kept { run: RunId(run), bytes: 600_000, written: written(run) }).collect();
        let due = |age: Option<u32>, megabytes| {
            let keep = Keep { age: age.map(|days| days * DAY), megabytes };
            let due = due_transcripts(&store, files.clone(), keep, now).expect("looks");
            let numbers = |runs: Vec<RunId>| runs.into_iter().map(|run| run.0).collect::<Vec<_>>();
            (numbers(due.old), numbers(due.too_many), numbers(due.told))
        };
        assert_eq!(due(None, None), (vec![], vec![], vec![6]));
        assert_eq!(due(Some(30), None), (vec![1, 7], vec![], vec![6]));
        assert_eq!(due(Some(30), Some(2)), (vec![1, 7], vec![3], vec![6]), "three are 1.8 MB");
        assert_eq!(due(Some(30), Some(1)), (vec![1, 7], vec![3, 4, 5], vec![6]));
        let mut batch = Batch::new();
        retention::note(&store, &mut batch, What::Transcript, &[RunId(1)], "rule", now).expect("is noted");
        store.apply(batch).expect("applies");
        assert_eq!(due(Some(30), Some(2)), (vec![7], vec![3], vec![1, 6]), "it is told of once");
    }
}
