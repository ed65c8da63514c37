//! The audit log: who did what to which target, when, by whose approval, with what result. Append-only
//! JSON lines, each carrying the hash of the one before, so that a change of the past shows.
//!
//! Must not: be written other than by [`Audit::append`], or let a secret through: the redactor stands
//! here, at the sink. What the chain cannot show is that its end was cut off, or that all of it was written
//! anew: for that, keep the last hash elsewhere ([`Summary::last_hash`]; it is logged at every start).

mod cut;
mod read;

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

pub use cut::CUT;
pub use read::{
    Broken, Cut, Filter, Format, Summary, VerifyError, each, export, is_there, of_run, tail, verify,
};

use crate::clock::Clock;
use crate::digest::Digest;
use crate::ids::{RunId, UserId};
use crate::secret::Redactor;

/// The file begins anew at this size; the chain goes on.
const ROTATE_AT: u64 = 64 * 1024 * 1024;

/// Of one text in an entry, in UTF-16 units.
const LONGEST_TEXT: usize = 16 * 1024;

/// What the first entry's `previous` is: no hash.
const BEGINNING: &str = "";

/// A person, as they were called then; Houston itself where nobody asked (`schedule`, a restart).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    pub id: UserId,
    pub name: String,
}

/// Something that happened, as callers tell it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub who: Who,
    /// What kind of thing: `command`, `approval`, `denial`, `start`, `end`, `cancel`, `config`, `denied`…
    pub action: String,
    /// The canonical command: `deploy prod web 1.8`.
    pub command: String,
    /// What it is about: `prod/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Whose consent, to which plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// `succeeded`, `failed: …`, `refused: …`; absent while it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The event of a run's journal that this tells of, `R-1/17`, or a name of its own for what is no run's. It
    /// stands here once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// When it happened, where this was written only after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub happened_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    pub by: Vec<Who>,
    /// Of the plan.
    pub digest: Digest,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without gaps.
    pub number: u64,
    pub time: Timestamp,
    #[serde(flatten)]
    pub event: Event,
    /// `hash` of the entry before; empty in the first.
    pub previous: String,
    /// SHA-256 over the line without this field. On disk it is always the last field.
    pub hash: Digest,
}

/// Could not be written: whoever wants to act on it must not.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AuditError {
    #[error("cannot {what} the audit log `{path}`: {reason}")]
    Io { what: &'static str, path: PathBuf, reason: String },
    #[error("the audit log `{path}` is broken: {reason}")]
    Broken { path: PathBuf, reason: String },
}

/// The log, open for appending. Clones share it.
#[derive(Clone, Debug)]
pub struct Audit {
    path: PathBuf,
    requests: mpsc::UnboundedSender<Request>,
}

#[derive(Debug)]
struct Request {
    time: Timestamp,
    event: Event,
    done: oneshot::Sender<Result<u64, AuditError>>,
}

impl Audit {
    /// Opens `<state>/audit.jsonl`, made if absent. A last line that a crash cut off is set aside beside
    /// it, and an entry says so. The state folder's lock keeps a second writer out.
    pub fn open(state: &Path, clock: &Clock, redactor: Redactor) -> Result<Self, AuditError> {
        Self::open_rotating(state, clock, redactor, ROTATE_AT)
    }

    fn open_rotating(
        state: &Path,
        clock: &Clock,
        redactor: Redactor,
        rotate_at: u64,
    ) -> Result<Self, AuditError> {
        let path = state.join("audit.jsonl");
        let mut writer = Writer::open(path.clone(), redactor, rotate_at)?;
        if let Some((aside, bytes)) = writer.set_aside_torn_line(clock.now())? {
            let event = Event {
                who: Who { id: UserId::from("houston"), name: "Houston".into() },
                action: "torn".into(),
                command: String::new(),
                target: Some(aside.display().to_string()),
                run: None,
                approval: None,
                result: Some(format!(
                    "the last line was cut off by a crash; its {} were set aside",
                    crate::text::count(bytes, "byte")
                )),
                event: None,
                happened_at: None,
            };
            writer.write(clock.now(), &event)?;
            writer.sync()?;
        }
        tracing::info!(entries = writer.number, last_hash = %writer.previous, "audit log opened");
        let (requests, incoming) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || write_loop(writer, incoming))
            .map_err(|e| io_error("start the writer of", &path, &e))?;
        Ok(Self { path, requests })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The last `count` entries, oldest first.
    pub fn tail(&self, count: usize) -> io::Result<Vec<Entry>> {
        tail(&self.path, count)
    }

    /// Returns the entry's number when it is on the device. Entries that wait at the same time share one
    /// sync. A caller that is dropped meanwhile leaves the entry written.
    pub async fn append(&self, clock: &Clock, event: Event) -> Result<u64, AuditError> {
        let (done, written) = oneshot::channel();
        let gone = || AuditError::Io {
            what: "append to",
            path: self.path.clone(),
            reason: "its writer has ended".into(),
        };
        self.requests.send(Request { time: clock.now(), event, done }).map_err(|_| gone())?;
        written.await.map_err(|_| gone())?
    }
}

/// Everybody who asked while the last sync was under way is served by the next one.
fn write_loop(mut writer: Writer, mut incoming: mpsc::UnboundedReceiver<Request>) {
    while let Some(first) = incoming.blocking_recv() {
        let mut written = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            let result = writer.write(request.time, &request.event);
            written.push((request.done, result));
            next = incoming.try_recv().ok();
        }
        let synced = writer.sync();
        for (done, result) in written {
            let _ = done.send(result.and_then(|number| synced.clone().map(|()| number)));
        }
    }
}

struct Writer {
    path: PathBuf,
    file: File,
    size: u64,
    rotate_at: u64,
    /// Of the last entry.
    number: u64,
    previous: String,
    redactor: Redactor,
    /// After a failed write nobody knows what is in the file: nothing is written until it is read again.
    doubtful: bool,
}

impl Writer {
    fn open(path: PathBuf, redactor: Redactor, rotate_at: u64) -> Result<Self, AuditError> {
        let file = open_file(&path)?;
        let mut writer = Self {
            path,
            file,
            size: 0,
            rotate_at,
            number: 0,
            previous: BEGINNING.into(),
            redactor,
            doubtful: false,
        };
        writer.find_end()?;
        Ok(writer)
    }

    /// Takes number and hash from the last whole line, of this file or the one rotated before it.
    fn find_end(&mut self) -> Result<(), AuditError> {
        self.size = self.file.metadata().map_err(|e| io_error("look at", &self.path, &e))?.len();
        let mut last = read::last_entry(&self.path).map_err(|e| self.broken(&e))?;
        if last.is_none()
            && let Some(before) =
                read::rotated(&self.path).map_err(|e| io_error("look for", &self.path, &e))?.last()
        {
            last = read::last_entry(before).map_err(|e| self.broken(&e))?;
        }
        if let Some(entry) = last {
            self.number = entry.number;
            self.previous = entry.hash.as_str().to_owned();
        }
        self.doubtful = false;
        Ok(())
    }

    fn broken(&self, reason: &io::Error) -> AuditError {
        AuditError::Broken {
            path: self.path.clone(),
            reason: format!("{reason}; `houston audit verify` says where"),
        }
    }

    /// Cuts a line without an end off the file into one of its own. Its name and length.
    fn set_aside_torn_line(&mut self, now: Timestamp) -> Result<Option<(PathBuf, usize)>, AuditError> {
        let fail = |e: io::Error| io_error("mend", &self.path, &e);
        let torn = read::torn_end(&self.path).map_err(fail)?;
        if torn.is_empty() {
            return Ok(None);
        }
        let aside = self.path.with_file_name(format!("audit-torn-{}.txt", now.as_millisecond()));
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&aside).map_err(fail)?;
        file.write_all(&torn).and_then(|()| file.sync_all()).map_err(fail)?;
        // Of the file as it is: what a write counted that went wrong is not known.
        let end = self.file.metadata().map_err(fail)?.len();
        self.size = end.saturating_sub(torn.len() as u64);
        self.file.set_len(self.size).and_then(|()| self.file.sync_all()).map_err(fail)?;
        Ok(Some((aside, torn.len())))
    }

    fn write(&mut self, time: Timestamp, event: &Event) -> Result<u64, AuditError> {
        if self.doubtful {
            // Whoever makes room may have put the file elsewhere. One that is gone is not begun anew.
            let again = OpenOptions::new().append(true).read(true).open(&self.path);
            self.file = again.map_err(|e| io_error("open", &self.path, &e))?;
            self.set_aside_torn_line(time)?;
            self.find_end()?;
        }
        if self.size >= self.rotate_at {
            self.rotate()?;
        }
        let number = self.number + 1;
        let (line, hash) = self.line(number, time, event)?;
        if let Err(error) = self.file.write_all(&line) {
            self.doubtful = true;
            return Err(io_error("append to", &self.path, &error));
        }
        self.size += line.len() as u64;
        self.number = number;
        self.previous = hash.as_str().to_owned();
        Ok(number)
    }

    fn line(&self, number: u64, time: Timestamp, event: &Event) -> Result<(Vec<u8>, Digest), AuditError> {
        #[derive(Serialize)]
        struct Unhashed<'a> {
            number: u64,
            time: Timestamp,
            #[serde(flatten)]
            event: serde_json::Value,
            previous: &'a str,
        }
        let plain = |e: serde_json::Error| AuditError::Io {
            what: "write",
            path: self.path.clone(),
            reason: e.to_string(),
        };
        let mut event = self.redactor.redact_json(&serde_json::to_value(event).map_err(plain)?);
        shorten(&mut event);
        let unhashed = Unhashed { number, time, event, previous: &self.previous };
        let mut line = serde_json::to_vec(&unhashed).map_err(plain)?;
        let hash = Digest::of(&line);
        line.pop();
        line.extend_from_slice(format!(",\"hash\":\"{hash}\"}}\n").as_bytes());
        Ok((line, hash))
    }

    fn sync(&mut self) -> Result<(), AuditError> {
        self.file.sync_data().map_err(|e| {
            self.doubtful = true;
            io_error("sync", &self.path, &e)
        })
    }

    /// `audit.jsonl` becomes `audit-<number of its last entry>.jsonl`.
    fn rotate(&mut self) -> Result<(), AuditError> {
        self.sync()?;
        let old = self.path.with_file_name(format!("audit-{:012}.jsonl", self.number));
        match std::fs::rename(&self.path, &old) {
            // Renamed before, when the new one could not be made.
            Err(error) if error.kind() == io::ErrorKind::NotFound && old.exists() => {}
            renamed => renamed.map_err(|e| io_error("rotate", &self.path, &e))?,
        }
        self.file = open_file(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

/// Cuts every text to [`LONGEST_TEXT`], so that a line stays one that can be read back.
fn shorten(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => *text = crate::text::ellipsis(text, LONGEST_TEXT).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        _ => {}
    }
}

fn open_file(path: &Path) -> Result<File, AuditError> {
    let fail = |e: io::Error| io_error("open", path, &e);
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).map_err(fail)?;
    let file =
        OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path).map_err(fail)?;
    // The name of a new file is only durable when its folder is.
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(fail)?;
    Ok(file)
}

fn io_error(what: &'static str, path: &Path, error: &io::Error) -> AuditError {
    AuditError::Io { what, path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> Clock {
        Clock::manual("2026-11-22T10:00:00Z".parse().expect("a time"))
    }

    fn event(command: &str) -> Event {
        Event {
            who: Who { id: UserId::from("a1"), name: "alice".into() },
            action: "end".into(),
            command: command.into(),
            target: Some("prod/web".into()),
            run: Some(RunId(41)),
            approval: Some(Approval {
                by: vec![Who { id: UserId::from("b2"), name: "bob".into() }],
                digest: Digest::of(b"plan"),
            }),
            result: Some("succeeded".into()),
            event: None,
            happened_at: None,
        }
    }

    async fn filled(dir: &Path, entries: usize) -> Audit {
        let audit = Audit::open(dir, &clock(), Redactor::new()).expect("opens");
        for n in 1..=entries {
            audit.append(&clock(), event(&format!("deploy prod web 1.{n}"))).await.expect("appends");
        }
        audit
    }

    fn broken_at(path: &Path) -> u64 {
        match verify(path) {
            Err(VerifyError::Broken(broken)) => broken.line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_that_a_full_disk_cut_off_takes_no_entry_with_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("audit.jsonl");
        let mut writer = Writer::open(path.clone(), Redactor::new(), ROTATE_AT).expect("opens");
        let now = clock().now();
        for _ in 0..3 {
            writer.write(now, &event("deploy prod web 1.8")).expect("written");
        }
        // As a write leaves it that found room for the half of a line.
        (&writer.file).write_all(&vec![b'{'; 700]).expect("written");
        writer.doubtful = true;
        writer.write(now, &event("rollback prod web")).expect("written");
        assert_eq!(verify(&path).expect("the chain holds").entries, 4);
        assert_eq!(writer.size, std::fs::metadata(&path).expect("is there").len());
    }

    #[tokio::test]
    async fn a_log_of_several_openings_verifies() {
        let dir = tempfile::tempdir().expect("a folder");
        drop(filled(dir.path(), 2).await);
        let audit = filled(dir.path(), 1).await;
        let summary = verify(audit.path()).expect("is whole");
        assert_eq!((summary.entries, summary.files), (3, 1));
        let entries = tail(audit.path(), 2).expect("reads");
        assert_eq!(entries.iter().map(|e| e.number).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(entries[1].event, event("deploy prod web 1.1"));
        assert_eq!(Some(&entries[1].hash), summary.last_hash.as_ref());
    }

    #[tokio::test]
    async fn entries_that_come_at_once_are_numbered_without_gaps() {
        let dir = tempfile::tempdir().expect("a folder");
        let audit = filled(dir.path(), 0).await;
        let clock = clock();
        let appends = (0..200).map(|n| audit.append(&clock, event(&n.to_string())));
        let mut numbers: Vec<u64> = futures_util::future::join_all(appends)
            .await
            .into_iter()
            .map(|number| number.expect("appends"))
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
        assert_eq!(verify(audit.path()).expect("is whole").entries, 200);
    }

    #[tokio::test]
    async fn a_changed_a_removed_and_a_moved_entry_are_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = filled(dir.path(), 4).await.path().to_owned();
        let whole = std::fs::read_to_string(&path).expect("reads");
        let lines: Vec<&str> = whole.lines().collect();
        let write = |lines: &[&str]| std::fs::write(&path, lines.join("\n") + "\n").expect("writes");
        let changed = lines[1].replace("alice", "malory");
        write(&[lines[0], &changed, lines[2], lines[3]]);
        assert_eq!(broken_at(&path), 2);
        write(&[lines[0], lines[2], lines[3]]);
        assert_eq!(broken_at(&path), 2);
        write(&[lines[1], lines[2], lines[3]]);
        assert_eq!(broken_at(&path), 1);
        write(&[lines[0], lines[2], lines[1], lines[3]]);
        assert_eq!(broken_at(&path), 2);
        write(&[lines[0], lines[1], "not json", lines[3]]);
        assert_eq!(broken_at(&path), 3);
        // Someone who recomputes the changed line's hash breaks the next one.
        let start = changed.find(",\"hash\"").expect("has a hash");
        let body = format!("{}}}", &changed[..start]);
        let forged = format!("{},\"hash\":\"{}\"}}", &changed[..start], Digest::of(body.as_bytes()));
        write(&[lines[0], &forged, lines[2], lines[3]]);
        assert_eq!(broken_at(&path), 3);
        write(&lines);
        assert_eq!(verify(&path).expect("is whole").entries, 4);
    }

    #[tokio::test]
    async fn a_line_cut_off_by_a_crash_is_set_aside_and_said() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = filled(dir.path(), 2).await.path().to_owned();
        let mut file = OpenOptions::new().append(true).open(&path).expect("opens");
        file.write_all(b"{\"number\":3,\"time\":\"2026").expect("writes");
        drop(file);
        assert_eq!(broken_at(&path), 3);
        let audit = filled(dir.path(), 1).await;
        assert_eq!(verify(audit.path()).expect("is whole").entries, 4);
        let entries = tail(audit.path(), 2).expect("reads");
        assert_eq!(entries[0].event.action, "torn");
        let aside = entries[0].event.target.clone().expect("says where");
        assert_eq!(std::fs::read_to_string(aside).expect("reads"), "{\"number\":3,\"time\":\"2026");
    }

    #[tokio::test]
    async fn rotation_goes_on_with_the_chain_and_a_missing_file_is_found() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || Audit::open_rotating(dir.path(), &clock(), Redactor::new(), 2000).expect("opens");
        let audit = open();
        for n in 0..20 {
            audit.append(&clock(), event(&n.to_string())).await.expect("appends");
        }
        drop(audit);
        let audit = open();
        audit.append(&clock(), event("last")).await.expect("appends");
        let summary = verify(audit.path()).expect("is whole");
        assert_eq!(summary.entries, 21);
        assert!(summary.files > 2, "{summary:?}");
        assert_eq!(tail(audit.path(), 21).expect("reads").len(), 21, "tail reads over several files");
        let rotated = read::rotated(audit.path()).expect("lists");
        std::fs::remove_file(&rotated[1]).expect("removes");
        assert!(matches!(verify(audit.path()), Err(VerifyError::Broken(_))));
    }

    #[tokio::test]
    async fn the_oldest_files_may_be_archived_and_the_rest_still_verifies() {
        let dir = tempfile::tempdir().expect("a folder");
        let audit = Audit::open_rotating(dir.path(), &clock(), Redactor::new(), 2000).expect("opens");
        for n in 0..20 {
            audit.append(&clock(), event(&n.to_string())).await.expect("appends");
        }
        let rotated = read::rotated(audit.path()).expect("lists");
        std::fs::remove_file(&rotated[0]).expect("removes");
        let summary = verify(audit.path()).expect("is whole from there on");
        assert!(summary.first > 1 && summary.first + summary.entries - 1 == 20, "{summary:?}");
    }

    #[tokio::test]
    async fn a_secret_does_not_reach_the_audit_log() {
        let dir = tempfile::tempdir().expect("a folder");
        let redactor = Redactor::new();
        redactor.learn("MARKER-s3cr3t");
        let audit = Audit::open(dir.path(), &clock(), redactor).expect("opens");
        let mut event = event("deploy prod web --token MARKER-s3cr3t");
        event.result = Some("failed: MARKER-s3cr3t was refused".into());
        event.who.name = "MARKER-s3cr3t".into();
        audit.append(&clock(), event).await.expect("appends");
        let text = std::fs::read_to_string(audit.path()).expect("reads");
        assert!(!text.contains("s3cr3t") && text.contains("[redacted]"), "{text}");
        assert_eq!(verify(audit.path()).expect("is whole").entries, 1);
    }

    #[tokio::test]
    async fn a_huge_text_is_cut_and_the_log_opens_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let audit = filled(dir.path(), 0).await;
        audit.append(&clock(), event(&"é".repeat(5_000_000))).await.expect("appends");
        drop(audit);
        let audit = filled(dir.path(), 1).await;
        assert_eq!(verify(audit.path()).expect("is whole").entries, 2);
        assert!(tail(audit.path(), 2).expect("reads")[0].event.command.ends_with("é…"));
    }

    #[tokio::test]
    async fn an_export_has_the_range_in_json_and_in_csv_that_no_spreadsheet_executes() {
        let dir = tempfile::tempdir().expect("a folder");
        let audit = filled(dir.path(), 3).await;
        audit.append(&clock(), event("=cmd|' /C calc'!A1, \"x\"")).await.expect("appends");
        let mut json = Vec::new();
        let range = Filter { from: Some(3), ..Filter::default() };
        assert_eq!(export(audit.path(), &range, Format::Json, &mut json).expect("exports"), 2);
        let lines: Vec<Entry> = String::from_utf8(json)
            .expect("UTF-8")
            .lines()
            .map(|l| serde_json::from_str(l).expect("an entry"))
            .collect();
        assert_eq!(lines[0].event.command, "deploy prod web 1.3");
        let mut csv = Vec::new();
        export(audit.path(), &range, Format::Csv, &mut csv).expect("exports");
        let csv = String::from_utf8(csv).expect("UTF-8");
        assert!(csv.starts_with("number,time,who_id,who,action,command,"), "{csv}");
        assert!(csv.contains("\"'=cmd|' /C calc'!A1, \"\"x\"\"\""), "{csv}");
        assert_eq!(csv.lines().count(), 3);
    }
}
