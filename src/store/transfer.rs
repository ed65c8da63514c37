//! The store as lines of JSON, and back: how it is backed up and moved. A line for each record, then one
//! that says how many they were and what their digest is, so that a file that was cut off is not taken for
//! a whole one.
//!
//! Must not: write into a database that is there, or leave a half-filled one where Houston would open it.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest as _, Sha256};

use super::{Batch, SCHEMA_VERSION, Store, StoreError, Tree};

/// Records that are made durable together.
const AT_ONCE: usize = 1000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    tree: String,
    /// Hexadecimal.
    key: String,
    value: Json,
}

/// The last line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    records: u64,
    /// Of the lines before, their line ends included.
    sha256: String,
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
}

/// Hands out every line of an export.
pub fn export(store: &Store, mut line: impl FnMut(&str)) -> Result<(), StoreError> {
    let (mut records, mut digest) = (0, Sha256::new());
    for tree in Tree::ALL {
        for entry in store.scan::<Json>(tree, &[]) {
            let (key, value) = entry?;
            let record = Record { tree: name(tree), key: hex(&key), value };
            let text = serde_json::to_string(&record).expect("records are plain data");
            digest.update(text.as_bytes());
            digest.update(b"\n");
            records += 1;
            line(&text);
        }
    }
    let end = End { records, sha256: hex(&digest.finalize()) };
    line(&serde_json::to_string(&end).expect("plain data"));
    Ok(())
}

/// Makes the database `dir` out of an export; how many records it holds then. It appears whole or not at
/// all.
pub async fn import(dir: &Path, lines: impl BufRead) -> Result<u64, ImportError> {
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
    let filled = fill(&beside, lines).await;
    if let Ok(records) = filled {
        std::fs::rename(&beside, dir).map_err(io("move the database to", dir))?;
        let folder = dir.parent().unwrap_or(Path::new("."));
        std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(io("sync", folder))?;
        return Ok(records);
    }
    let _ = std::fs::remove_dir_all(&beside);
    filled
}

async fn fill(dir: &Path, lines: impl BufRead) -> Result<u64, ImportError> {
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
        let tree = Tree::ALL.into_iter().find(|tree| name(*tree) == record.tree);
        let tree = tree.ok_or_else(|| wrong(format!("this Houston knows no tree `{}`", record.tree)))?;
        let key = unhex(&record.key).ok_or_else(|| wrong(format!("`{}` is no key", record.key)))?;
        if (tree, key.as_slice()) == (Tree::Meta, b"schema_version") && record.value != SCHEMA_VERSION {
            return Err(wrong(format!(
                "layout {}, this Houston knows layout {SCHEMA_VERSION}",
                record.value
            )));
        }
        digest.update(line.as_bytes());
        digest.update(b"\n");
        records += 1;
        batch.put(tree, &key, &record.value);
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
    Ok(records)
}

fn name(tree: Tree) -> String {
    format!("{tree:?}").to_lowercase()
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
        let mut lines = Vec::new();
        export(&store, |line| lines.push(line.to_owned())).expect("exports");
        lines
    }

    async fn imported(dir: &Path, lines: &[String]) -> Result<u64, ImportError> {
        import(dir, lines.join("\n").as_bytes()).await
    }

    #[tokio::test]
    async fn an_export_comes_back_as_it_was() {
        let dir = tempfile::tempdir().expect("a folder");
        let lines = exported(&dir.path().join("old")).await;
        let new = dir.path().join("new");
        assert_eq!(imported(&new, &lines).await.expect("imports"), 2502);
        let store = Store::open(&new).expect("opens");
        let mut again = Vec::new();
        export(&store, |line| again.push(line.to_owned())).expect("exports");
        assert_eq!(again, lines);
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
        newer[0] = newer[0].replace("\"value\":1", "\"value\":2");
        assert_ne!(newer, whole);
        let mut noise = whole.clone();
        noise[7] = "{\"tree\":\"events\"".to_owned();
        let mut longer = whole.clone();
        longer.push(whole[1].clone());
        for (what, lines) in [
            ("cut", cut),
            ("fewer", fewer),
            ("changed", changed),
            ("newer", newer),
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
