//! What restic and our script say, line by line: progress, results, errors.
//!
//! Must not: fail over a line that it does not know; every version of restic says something new.

use serde::Deserialize;
use serde_json::Value as Json;

/// What a backup came to.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Summary {
    pub snapshot_id: String,
    pub files_new: u64,
    pub files_changed: u64,
    pub files_unmodified: u64,
    /// New in the repository, before compression; in bytes.
    pub data_added: u64,
    pub total_files_processed: u64,
    /// In bytes.
    pub total_bytes_processed: u64,
    /// In seconds.
    pub total_duration: f64,
}

/// A snapshot, as `restic snapshots --json` lists it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Snapshot {
    pub time: jiff::Timestamp,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub paths: Vec<String>,
    pub id: String,
    pub short_id: String,
}

impl Snapshot {
    /// Of which source it is.
    pub fn source(&self) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.strip_prefix("source="))
    }
}

/// How a sample of a snapshot compares with what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Compared {
    /// In the snapshot.
    pub files: u64,
    /// Of them restored, and the same.
    pub compared: u64,
    /// Restored, and written to since.
    pub changed: u64,
    /// Restored.
    pub bytes: u64,
}

/// Everything that was said, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// `restic 0.14.0 compiled with …`
    pub version: Option<String>,
    pub summary: Option<Summary>,
    /// Oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Of the dump that was saved.
    pub sha256: Option<String>,
    /// The exit status of a dump that failed.
    pub dump_failed: Option<i64>,
    /// Locks of processes that are gone, which were removed.
    pub unlocked: u64,
    pub absent: bool,
    /// What came of a comparison.
    pub compared: Option<Compared>,
    /// Of a dump that was read back.
    pub read_back: Option<String>,
    /// The exit status of a command that did not take a dump back.
    pub restore_failed: Option<i64>,
    /// Files that could not be read.
    pub unread: Vec<String>,
    /// What `forget` keeps and removes.
    pub kept: Option<u64>,
    pub removed: Option<u64>,
    /// Lines for people.
    pub text: Vec<String>,
}

/// More unread files than anybody reads.
const MOST_UNREAD: usize = 20;
/// Of what is not JSON.
const MOST_TEXT: usize = 200;

/// A line, as it is shown: `None` where it is only progress or data.
pub enum Shown {
    /// The present state, in place of the last one.
    Status(String),
    Line(String),
    Nothing,
}

impl Said {
    pub fn line(&mut self, line: &str) -> Shown {
        match serde_json::from_str::<Json>(line) {
            Ok(said @ Json::Object(_)) => self.object(&said),
            // No snapshots.
            Ok(Json::Array(_)) => Shown::Nothing,
            _ => self.words(line),
        }
    }

    fn object(&mut self, said: &Json) -> Shown {
        let text = |name: &str| said.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
        match said.get("message_type").and_then(Json::as_str).unwrap_or_default() {
            "status" => return status(said),
            "summary" => self.summary = serde_json::from_value(said.clone()).ok(),
            "houston_version" => self.version = Some(text("text")),
            "houston_absent" => self.absent = true,
            "houston_unlocked" => {
                self.unlocked = said.get("removed").and_then(Json::as_u64).unwrap_or(1);
                return Shown::Line(
                    "a lock whose process is gone was removed from the repository".to_owned(),
                );
            }
            "houston_compared" => self.compared = serde_json::from_value(said.clone()).ok(),
            "houston_read_back" => self.read_back = Some(text("sha256")),
            "houston_restore_failed" => self.restore_failed = said.get("code").and_then(Json::as_i64),
            "houston_dumped" => self.sha256 = Some(text("sha256")),
            "houston_dump_failed" => self.dump_failed = said.get("code").and_then(Json::as_i64),
            "error" => {
                let why = said.pointer("/error/message").or_else(|| said.pointer("/error/Err"));
                let why = why.and_then(Json::as_str).unwrap_or("cannot be read");
                let line = format!("{}: {why}", text("item"));
                if self.unread.len() < MOST_UNREAD {
                    self.unread.push(line.clone());
                }
                return Shown::Line(line);
            }
            "exit_error" => return self.words(&text("message")),
            "" => self.snapshots.extend(serde_json::from_value(said.clone()).ok()),
            _ => {}
        }
        Shown::Nothing
    }

    fn words(&mut self, line: &str) -> Shown {
        // `forget` without --json, which a long list of snapshots makes a line longer than any that is kept whole.
        // These two are the same in 0.9 to 0.18.
        if let Some(n) = number_in(line, "keep ", " snapshots") {
            self.kept = Some(self.kept.unwrap_or(0) + n);
        }
        if let Some(n) = number_in(line, "remove ", " snapshots") {
            self.removed = Some(self.removed.unwrap_or(0) + n);
        }
        if self.text.len() == MOST_TEXT {
            self.text.remove(0);
        }
        self.text.push(line.to_owned());
        Shown::Line(line.to_owned())
    }

    /// Whether a line of what was said contains this; case does not count.
    pub fn says(&self, what: &str) -> bool {
        self.text.iter().any(|line| line.to_lowercase().contains(what))
    }
}

fn number_in(line: &str, before: &str, after: &str) -> Option<u64> {
    line.strip_prefix(before)?.split_once(after)?.0.trim().parse().ok()
}

/// `62 %, 1.2 GiB of 1.9 GiB`
fn status(said: &Json) -> Shown {
    let number = |name: &str| said.get(name).and_then(Json::as_u64).unwrap_or(0);
    let done = said.get("percent_done").and_then(Json::as_f64).unwrap_or(0.0);
    if number("total_bytes") == 0 {
        return Shown::Nothing;
    }
    Shown::Status(format!(
        "{:.0} %, {} of {}",
        done * 100.0,
        crate::text::bytes(number("bytes_done")),
        crate::text::bytes(number("total_bytes"))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_versions_are_read() {
        let mut said = Said::default();
        for line in [
            r#"{"message_type":"houston_version","text":"restic 0.14.0 compiled with go1.19"}"#,
            r#"{"message_type":"status","percent_done":0.5,"total_bytes":2048,"bytes_done":1024}"#,
            r#"{"message_type":"error","error":{"Op":"open","Path":"/x","Err":13},"during":"scan","item":"/x"}"#,
            r#"{"message_type":"error","error":{"message":"open /y: permission denied"},"during":"archival","item":"/y"}"#,
            r#"{"message_type":"summary","files_new":3,"data_added":10,"total_files_processed":4,"total_bytes_processed":12,"total_duration":0.5,"snapshot_id":"abc"}"#,
            r#"{"time":"2026-11-25T17:22:49.85+01:00","paths":["/srv"],"tags":["houston","source=up"],"id":"98ef852a5f","short_id":"98ef852a"}"#,
            "keep 14 snapshots:",
            "remove 16 snapshots:",
        ] {
            said.line(line);
        }
        assert!(said.version.as_deref().is_some_and(|version| version.starts_with("restic 0.14.0")));
        assert_eq!(said.unread, ["/x: cannot be read", "/y: open /y: permission denied"]);
        assert_eq!((said.kept, said.removed), (Some(14), Some(16)));
        assert_eq!(said.snapshots[0].source(), Some("up"));
        let summary = said.summary.expect("a summary");
        assert_eq!((summary.snapshot_id.as_str(), summary.total_files_processed), ("abc", 4));
    }
}
