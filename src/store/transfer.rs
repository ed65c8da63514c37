//! The store as lines of JSON, and back: how it is backed up and moved. A line for each record, then one
//! that says how many they were and what their digest is, so that a file that was cut off is not taken for
//! a whole one.
//!
//! It is of one moment, also when others go on writing.
//!
//! Must not: write into a database that is there, or leave a half-filled one where Houston would open it.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::{Batch, Raw, SCHEMA_VERSION, Store, StoreError, Tree};

/// Records that are made durable together.
const AT_ONCE: usize = 1000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    tree: String,
    /// Hexadecimal.
    key: String,
    /// Of the record.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    v: u8,
    value: Json,
}

fn first() -> u8 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_first(version: &u8) -> bool {
    *version == first()
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    records: u64,
    /// Of the lines before, their line ends included.
    sha256: String,
    /// When it was made; exports of layout 1 do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    pub records: u64,
    /// Of which moment it is.
    pub at: Option<Timestamp>,
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("there is a database in `{0}` already: move it away first")]
    Exists(PathBuf),
    #[error("line {line} is no record of an export: {reason}")]
    Line { line: u64, reason: String },
    #[error("the export is not whole: {0}")]
    NotWhole(String),
    #[error("cannot {what} `{path}`: {source}")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("what was brought back cannot be used: {0}")]
    Unfit(String),
}

/// Writes an export of this moment; how many records it holds.
pub fn export(store: &Store, at: Timestamp, out: &mut dyn Write) -> Result<u64, ExportError> {
    let (mut records, mut digest) = (0, Sha256::new());
    for raw in store.snapshot()? {
        let Raw { tree, key, version, json } = raw?;
        let value =
            serde_json::from_slice(&json).map_err(|e| StoreError::Record { tree, reason: e.to_string() })?;
        let record = Record { tree: tree.name(), key: hex(&key), v: version, value };
        let mut text = serde_json::to_string(&record).expect("records are plain data");
        text.push('\n');
        digest.update(text.as_bytes());
        records += 1;
        out.write_all(text.as_bytes())?;
    }
    let end = End { records, sha256: hex(&digest.finalize()), at: Some(at) };
    writeln!(out, "{}", serde_json::to_string(&end).expect("plain data"))?;
    out.flush()?;
    Ok(records)
}

/// Makes the database `dir` out of an export. It appears whole or not at all, and after `finish` has seen it.
pub async fn import(
    dir: &Path,
    lines: impl BufRead,
    finish: impl FnOnce(&Store, Option<Timestamp>) -> Result<(), ImportError>,
) -> Result<Imported, ImportError> {
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| ImportError::Io { what, path, source }
    };
    if dir.exists() {
        return Err(ImportError::Exists(dir.to_owned()));
    }
    let beside = dir.with_extension("import");
    match std::fs::remove_dir_all(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io("remove what an earlier import left,", &beside)(error));
        }
        _ => {}
    }
    let filled = fill(&beside, lines, finish).await;
    if let Ok(imported) = filled {
        std::fs::rename(&beside, dir).map_err(io("move the database to", dir))?;
        let folder = dir.parent().unwrap_or(Path::new("."));
        std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(io("sync", folder))?;
        return Ok(imported);
    }
    let _ = std::fs::remove_dir_all(&beside);
    filled
}

async fn fill(
    dir: &Path,
    lines: impl BufRead,
    finish: impl FnOnce(&Store, Option<Timestamp>) -> Result<(), ImportError>,
) -> Result<Imported, ImportError> {
    let store = Store::open(dir)?;
    let (mut records, mut digest, mut batch, mut end) = (0_u64, Sha256::new(), Batch::new(), None);
    for (number, line) in (1..).zip(lines.lines()) {
        let wrong = |reason: String| ImportError::Line { line: number, reason };
        let line = line.map_err(|e| wrong(e.to_string()))?;
        if end.is_some() {
            return Err(wrong("it stands after the end".to_owned()));
        }
        if let Ok(last) = serde_json::from_str::<End>(&line) {
            end = Some(last);
            continue;
        }
        let record: Record = serde_json::from_str(&line).map_err(|e| wrong(e.to_string()))?;
        let tree = Tree::ALL.into_iter().find(|tree| tree.name() == record.tree);
        let tree = tree.ok_or_else(|| wrong(format!("this Houston knows no tree `{}`", record.tree)))?;
        let key = unhex(&record.key).ok_or_else(|| wrong(format!("`{}` is no key", record.key)))?;
        digest.update(line.as_bytes());
        digest.update(b"\n");
        records += 1;
        if (tree, key.as_slice()) == (Tree::Meta, b"schema_version") {
            // The database that is being made has its own.
            let found = record.value.as_u64().filter(|found| *found <= u64::from(SCHEMA_VERSION));
            found.ok_or_else(|| {
                wrong(format!("layout {}, this Houston knows layout {SCHEMA_VERSION}", record.value))
            })?;
            continue;
        }
        if record.v > tree.version() {
            return Err(wrong(format!(
                "its record is of version {}, this Houston knows version {}",
                record.v,
                tree.version()
            )));
        }
        let json = serde_json::to_vec(&record.value).expect("records are plain data");
        batch.put_raw(&Raw { tree, key, version: record.v, json });
        if records.is_multiple_of(AT_ONCE as u64) {
            store.commit(std::mem::take(&mut batch)).await?;
        }
    }
    let end = end.ok_or_else(|| ImportError::NotWhole("its last line is missing".to_owned()))?;
    if end.records != records {
        return Err(ImportError::NotWhole(format!("it has {records} records and says {}", end.records)));
    }
    if end.sha256 != hex(&digest.finalize()) {
        return Err(ImportError::NotWhole("its digest is another one: something was changed".to_owned()));
    }
    store.commit(batch).await?;
    finish(&store, end.at)?;
    store.sync().await?;
    Ok(Imported { records, at: end.at })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() % 2 == 1 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn exported(dir: &Path) -> Vec<String> {
        let store = Store::open(dir).expect("opens");
        let mut batch = Batch::new();
        for n in 0..2500_u32 {
            batch.put(Tree::Events, &n.to_be_bytes(), &serde_json::json!({ "n": n, "text": "ä\n\"x\"" }));
        }
        batch.put(Tree::Locks, b"prod", &"reason");
        store.commit(batch).await.expect("commits");
        lines_of(&store)
    }

    fn lines_of(store: &Store) -> Vec<String> {
        let mut out = Vec::new();
        let at = Timestamp::from_second(1_764_040_500).expect("a time");
        export(store, at, &mut out).expect("exports");
        String::from_utf8(out).expect("text").lines().map(str::to_owned).collect()
    }

    async fn imported(dir: &Path, lines: &[String]) -> Result<u64, ImportError> {
        let imported = import(dir, lines.join("\n").as_bytes(), |_, _| Ok(())).await?;
        assert!(imported.at.is_some());
        Ok(imported.records)
    }

    #[tokio::test]
    async fn an_export_comes_back_as_it_was() {
        let dir = tempfile::tempdir().expect("a folder");
        let lines = exported(&dir.path().join("old")).await;
        let new = dir.path().join("new");
        assert_eq!(imported(&new, &lines).await.expect("imports"), 2502);
        let store = Store::open(&new).expect("opens");
        assert_eq!(lines_of(&store), lines);
        drop(store);
        assert!(matches!(imported(&new, &lines).await, Err(ImportError::Exists(_))));
    }

    #[tokio::test]
    async fn what_is_not_a_whole_export_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a folder");
        let whole = exported(&dir.path().join("old")).await;
        let mut cut = whole.clone();
        cut.pop();
        let mut fewer = whole.clone();
        fewer.remove(1200);
        let mut changed = whole.clone();
        changed[1200] = changed[1200].replace("1199", "1198");
        assert_ne!(changed, whole);
        let mut newer = whole.clone();
        newer[0] = newer[0].replace("\"value\":2", "\"value\":3");
        assert_ne!(newer, whole);
        let mut newer_record = whole.clone();
        newer_record[7] = newer_record[7].replace(",\"value\"", ",\"v\":2,\"value\"");
        assert_ne!(newer_record, whole);
        let mut noise = whole.clone();
        noise[7] = "{\"tree\":\"events\"".to_owned();
        let mut longer = whole.clone();
        longer.push(whole[1].clone());
        for (what, lines) in [
            ("cut", cut),
            ("fewer", fewer),
            ("changed", changed),
            ("newer", newer),
            ("a newer record", newer_record),
            ("noise", noise),
            ("longer", longer),
        ] {
            let new = dir.path().join("new");
            let error = imported(&new, &lines).await.expect_err(what);
            assert!(matches!(error, ImportError::Line { .. } | ImportError::NotWhole(_)), "{what}: {error}");
            assert!(!new.exists() && !new.with_extension("import").exists(), "{what}");
        }
    }
}
