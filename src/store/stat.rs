//! How large the database is, tree by tree.
//!
//! Must not: hold writers up. It is a look at what moves: trees are read one after another.

use serde::{Deserialize, Serialize};

use super::{Store, StoreError, TALLY, Tree};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeStat {
    pub tree: String,
    pub records: u64,
    /// Of keys and values.
    pub bytes: u64,
}

/// Every tree, in their order. Blocking: it reads everything.
pub fn trees(store: &Store) -> Result<Vec<TreeStat>, StoreError> {
    Tree::ALL.into_iter().map(|tree| one(store, tree)).collect()
}

/// Of all records together. Blocking: it reads everything.
pub(super) fn live_bytes(store: &Store) -> Result<u64, StoreError> {
    Ok(trees(store)?.iter().map(|tree| tree.bytes).sum())
}

/// Beside the database: what [`measure`] found last.
const MEASURED: &str = "measured";

/// [`live_bytes`], put down for the next start. Blocking: it reads everything.
pub fn measure(store: &Store) -> Result<u64, StoreError> {
    let live = live_bytes(store)?;
    let path = store.path().join(MEASURED);
    // Not synced: without it a start leaves the database as it is.
    std::fs::write(&path, format!("{live}\n")).map_err(|source| StoreError::Io {
        what: "write",
        path,
        source,
    })?;
    Ok(live)
}

/// What was measured last, if that is known.
pub(super) fn measured(dir: &std::path::Path) -> Option<u64> {
    std::fs::read_to_string(dir.join(MEASURED)).ok()?.trim().parse().ok()
}

fn one(store: &Store, tree: Tree) -> Result<TreeStat, StoreError> {
    let (mut records, mut bytes) = (0, 0);
    let mut read = || {
        for entry in store.0.db.scan_prefix([tree as u8]) {
            let (key, value) = entry.map_err(|e| store.damaged(&e))?;
            if key != TALLY {
                records += 1;
                bytes += (key.len() + value.len()) as u64;
            }
        }
        Ok(())
    };
    store.guard(&mut read).and_then(|read| read)?;
    Ok(TreeStat { tree: tree.name(), records, bytes })
}

/// Bytes on disk of the files in a folder and below.
pub fn on_disk(dir: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => on_disk(&entry.path()),
            Ok(found) => std::os::unix::fs::MetadataExt::blocks(&found) * 512,
            Err(_) => 0,
        })
        .sum()
}
