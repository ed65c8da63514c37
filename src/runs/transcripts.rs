//! The whole output of each run, in a file of its own; chat shows head and tail.
//!
//! Must not: decide what of it is shown.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::exec::transcript::{self, HeadAndTail, Piece, Transcript, packed};
use crate::ids::RunId;
use crate::secret::Redactor;

/// What is kept of a run's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub run: RunId,
    pub bytes: u64,
    /// When something was added last.
    pub written: Timestamp,
}

/// Clones write to the same files.
#[derive(Clone)]
pub struct Transcripts(Arc<Inner>);

struct Inner {
    dir: PathBuf,
    redactor: Redactor,
    open: Mutex<HashMap<RunId, Transcript>>,
    /// Runs of which the log was told that nothing can be written: once, or a full disk would be filled by saying so.
    failing: Mutex<HashSet<RunId>>,
}

impl Transcripts {
    pub fn new(dir: impl Into<PathBuf>, redactor: Redactor) -> Self {
        Self(Arc::new(Inner { dir: dir.into(), redactor, open: Mutex::default(), failing: Mutex::default() }))
    }

    /// Adds a line. A transcript that cannot be written does not stop the run; the log says so, and when it can again.
    pub fn line(&self, run: RunId, line: &str) {
        let written = self.write(run, line);
        let mut failing = self.0.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match written {
            Ok(()) if failing.is_empty() => {}
            Ok(()) => {
                if failing.remove(&run) {
                    tracing::warn!(run.id = %run, "the transcript of {run} is written again; what came meanwhile is not in it");
                }
            }
            Err(error) => {
                if failing.insert(run) {
                    tracing::error!(run.id = %run, "the transcript of {run} cannot be written: {error}");
                }
            }
        }
    }

    fn write(&self, run: RunId, line: &str) -> io::Result<()> {
        let mut open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        let transcript = match open.entry(run) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Transcript::open(&self.0.dir, &run.to_string(), self.0.redactor.clone())?)
            }
        };
        transcript.line(line)
    }

    /// A line of Houston's own, which is worded for chat: here it is plain text, in which marks would stand as they are.
    pub fn remark(&self, run: RunId, line: &str) {
        self.line(run, &line.replace('`', ""));
    }

    /// The run has ended: its file is closed.
    pub fn close(&self, run: RunId) {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
        self.0.failing.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    /// `None`: nothing was ever written.
    pub fn read(&self, run: RunId, head: usize, tail: usize) -> io::Result<Option<HeadAndTail>> {
        match transcript::head_and_tail(&self.path(run), head, tail) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The last lines; empty where nothing was ever written.
    pub fn last(&self, run: RunId, most: usize) -> io::Result<Piece> {
        or_nothing(transcript::last(&self.path(run), most), 0)
    }

    /// What follows the first `from` bytes.
    pub fn after(&self, run: RunId, from: u64, most: usize) -> io::Result<Piece> {
        or_nothing(transcript::after(&self.path(run), from, most), from)
    }

    /// Packs those of runs that have ended, as `ended` says. Blocking. How many there were.
    pub fn pack(&self, ended: impl Fn(RunId) -> bool) -> io::Result<usize> {
        let entries = match std::fs::read_dir(&self.0.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let runs = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".log")?.parse::<RunId>().ok());
        let mut packed = 0;
        for run in runs.filter(|run| ended(*run)) {
            let copy = packed::pack(&self.path(run))?;
            // Nobody opens it meanwhile.
            let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.contains_key(&run) {
                copy.give_up()?;
            } else if copy.take_place()? {
                packed += 1;
            }
        }
        Ok(packed)
    }

    /// All of them, by their runs.
    pub fn list(&self) -> io::Result<Vec<Kept>> {
        let entries = match std::fs::read_dir(&self.0.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found: BTreeMap<RunId, Kept> = BTreeMap::new();
        for entry in entries.flatten() {
            let (name, Ok(file)) = (entry.file_name(), entry.metadata()) else { continue };
            let run = name.to_str().and_then(|name| name.split_once(".log")?.0.parse().ok());
            let written = file.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
            let (Some(run), Some(written)) = (run, written) else { continue };
            let kept = found.entry(run).or_insert(Kept { run, bytes: 0, written });
            kept.bytes += file.len();
            kept.written = kept.written.max(written);
        }
        Ok(found.into_values().collect())
    }

    /// Blocking; whether there was one. One that is written into stays.
    pub fn remove(&self, run: RunId) -> io::Result<bool> {
        // Nobody opens it meanwhile.
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.contains_key(&run) { Ok(false) } else { packed::remove(&self.path(run)) }
    }

    /// The whole, packed or not; `None`: nothing was ever written.
    pub fn whole(&self, run: RunId) -> io::Result<Option<Box<dyn io::Read + Send>>> {
        match packed::open(&self.path(run)) {
            Ok(whole) => Ok(Some(whole)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn path(&self, run: RunId) -> PathBuf {
        transcript::path(&self.0.dir, &run.to_string())
    }
}

fn or_nothing(read: io::Result<Piece>, at: u64) -> io::Result<Piece> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(Piece { text: String::new(), from: at, to: at })
        }
        read => read,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::{Event, Subscriber};
    use tracing_subscriber::Layer;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    use super::*;

    /// Counts what is said to the log.
    struct Count(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_cannot_be_written_is_said_once_and_not_with_each_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let in_the_way = dir.path().join("transcripts");
        std::fs::write(&in_the_way, "no folder").expect("written");
        let said = Arc::new(AtomicUsize::new(0));
        let subscriber = tracing_subscriber::registry().with(Count(Arc::clone(&said)));
        tracing::subscriber::with_default(subscriber, || {
            let transcripts = Transcripts::new(&in_the_way, Redactor::new());
            for _ in 0..1000 {
                transcripts.line(RunId(1), "line");
            }
            assert_eq!(said.load(Ordering::SeqCst), 1);
            std::fs::remove_file(&in_the_way).expect("out of the way");
            transcripts.line(RunId(1), "again");
            transcripts.line(RunId(1), "and again");
            assert_eq!(said.load(Ordering::SeqCst), 2);
        });
    }
}
