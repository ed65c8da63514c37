//! Durable state: the only `use sled`.
//!
//! sled 0.34's `flush()` hands pages to the kernel without waiting for the device. So there is one commit
//! path: apply a batch, flush, `fdatasync` the database file, acknowledge; commits that wait at the same
//! time share one flush. What [`Store::commit`] has returned from survives loss of power.
//!
//! Must not: know what the records mean. Logical trees are one-byte prefixes in one sled tree, so that a
//! batch over several of them is atomic.

pub mod transfer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

/// Of every key and value layout together; checked at open.
const SCHEMA_VERSION: u32 = 1;

/// A file beside the database: there were records in it once.
const MADE: &str = "made";

/// A logical tree. The number is on disk: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Tree {
    Meta = 0,
    /// run id ‖ sequence number → event
    Events = 1,
    /// run id → header, written with the event that changed it
    Runs = 2,
    /// sequence number → a message that has to be said
    Outbox = 3,
    /// message id → what became of it
    Ledger = 4,
    /// room id → how far it was read
    Cursors = 5,
    /// lock name → who holds it by hand
    Locks = 6,
    /// environment/service ‖ time → a release and its verdict
    Releases = 7,
    /// user name of the configuration → user id that it was first seen with
    Principals = 8,
    /// room id ‖ person → a question that waits for an answer
    Dialogues = 9,
    /// user id → names and their times
    People = 10,
    /// message id of Houston's own → who reacted to it, as ids
    Watches = 11,
    /// run id ‖ sequence number → what the audit log has not been told yet
    Owed = 12,
    /// run id ‖ step ‖ whether it is the undo → how far a command's output was followed
    Followed = 13,
    /// environment → until when nothing begins in it, and who says so
    Freezes = 14,
    /// message id → an act that has no answer yet
    Begun = 15,
}

impl Tree {
    pub const ALL: [Self; 16] = [
        Self::Meta,
        Self::Events,
        Self::Runs,
        Self::Outbox,
        Self::Ledger,
        Self::Cursors,
        Self::Locks,
        Self::Releases,
        Self::Principals,
        Self::Dialogues,
        Self::People,
        Self::Watches,
        Self::Owed,
        Self::Followed,
        Self::Freezes,
        Self::Begun,
    ];

    fn key(self, key: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(key.len() + 1);
        full.push(self as u8);
        full.extend_from_slice(key);
        full
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the state folder `{0}` is in use by another Houston")]
    InUse(PathBuf),
    #[error("cannot {what} `{path}`")]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the database in `{path}` cannot be read: {reason}")]
    Damaged { path: PathBuf, reason: String },
    #[error("the database in `{path}` has layout {found}, this Houston knows layout {known}")]
    Version { path: PathBuf, found: u32, known: u32 },
    #[error("a record of {tree:?} cannot be read: {reason}")]
    Record { tree: Tree, reason: String },
    #[error("cannot write to the database: {0}")]
    Write(String),
}

/// Changes that become visible and durable together.
#[derive(Clone, Default, Debug)]
pub struct Batch {
    ops: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn put<T: Serialize>(&mut self, tree: Tree, key: &[u8], value: &T) -> &mut Self {
        let value = serde_json::to_vec(value).expect("records are plain data");
        self.ops.push((tree.key(key), Some(value)));
        self
    }
    pub fn delete(&mut self, tree: Tree, key: &[u8]) -> &mut Self {
        self.ops.push((tree.key(key), None));
        self
    }
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
    /// Moves the changes of `other` to the end of this one.
    pub fn append(&mut self, mut other: Self) -> &mut Self {
        self.ops.append(&mut other.ops);
        self
    }
}

/// A moment of the one commit path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPoint {
    /// What was applied is in memory only.
    Before,
    /// It is on the device, and nobody was told.
    After,
}

/// The handle; clones share one database.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    db: sled::Db,
    /// `None` only while dropping.
    syncs: Option<mpsc::UnboundedSender<oneshot::Sender<Result<(), String>>>>,
    sync_thread: Option<std::thread::JoinHandle<()>>,
    path: PathBuf,
}

impl Drop for Inner {
    /// Waits for the last sync, so that the folder is free when the last handle is gone.
    fn drop(&mut self) {
        drop(self.syncs.take());
        if let Some(thread) = self.sync_thread.take() {
            let _ = thread.join();
        }
    }
}

impl Store {
    /// Opens or creates the database in `dir`. Blocking: call it before the runtime has work, or on a
    /// blocking thread.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_watched(dir, |_| {})
    }

    /// [`Store::open`], with somebody who is told of every sync on the thread that makes it: who takes the time,
    /// or a test that pulls the plug.
    pub fn open_watched(dir: &Path, watch: impl Fn(SyncPoint) + Send + 'static) -> Result<Self, StoreError> {
        let io = |what| move |source| StoreError::Io { what, path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(io("create the state folder"))?;
        let config = sled::Config::default()
            .path(dir)
            .mode(sled::Mode::HighThroughput)
            // What is read again and again is kept in memory by those who read it.
            .cache_capacity(4 * 1024 * 1024)
            // Segment collection, and sled's only own fsync, happen in this thread.
            .flush_every_ms(Some(500));
        // Damage shows as panics as well as errors.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
        let db = match opened {
            Ok(Ok(db)) => db,
            Ok(Err(sled::Error::Io(e))) if e.to_string().contains("could not acquire lock") => {
                return Err(StoreError::InUse(dir.to_owned()));
            }
            Ok(Err(sled::Error::Io(source))) => return Err(io("open the database in")(source)),
            Ok(Err(other)) => {
                return Err(StoreError::Damaged { path: dir.to_owned(), reason: other.to_string() });
            }
            Err(_) => {
                return Err(StoreError::Damaged {
                    path: dir.to_owned(),
                    reason: "its log is damaged".to_owned(),
                });
            }
        };
        let file = File::open(dir.join("db")).map_err(io("open the database in"))?;
        // sled never syncs the folder entry of the file that it made.
        for folder in [Some(dir), dir.parent()].into_iter().flatten() {
            if let Ok(folder) = File::open(folder) {
                folder.sync_all().map_err(io("sync"))?;
            }
        }
        let (syncs, requests) = mpsc::unbounded_channel();
        let sync_thread = std::thread::Builder::new()
            .name("store-sync".to_owned())
            .spawn({
                let db = db.clone();
                move || sync_loop(&db, &file, requests, watch)
            })
            .map_err(io("start the sync thread for"))?;
        let store = Self(Arc::new(Inner {
            db,
            syncs: Some(syncs),
            sync_thread: Some(sync_thread),
            path: dir.to_owned(),
        }));
        // sled skips what it cannot make sense of: a database whose file is noise opens, and is empty.
        let made = dir.join(MADE);
        match store.get::<u32>(Tree::Meta, b"schema_version")? {
            Some(SCHEMA_VERSION) if made.exists() => {}
            Some(SCHEMA_VERSION) => make_durably(&made).map_err(io("write into"))?,
            Some(found) => {
                return Err(StoreError::Version { path: dir.to_owned(), found, known: SCHEMA_VERSION });
            }
            None if made.exists() => {
                return Err(StoreError::Damaged {
                    path: dir.to_owned(),
                    reason: "records that were in it are gone".to_owned(),
                });
            }
            None => {
                let mut batch = Batch::new();
                batch.put(Tree::Meta, b"schema_version", &SCHEMA_VERSION);
                store.apply(batch)?;
                store.0.db.flush().map_err(|e| StoreError::Write(e.to_string()))?;
                File::open(dir.join("db")).and_then(|db| db.sync_data()).map_err(io("sync"))?;
                make_durably(&made).map_err(io("write into"))?;
            }
        }
        Ok(store)
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    pub fn get<T: DeserializeOwned>(&self, tree: Tree, key: &[u8]) -> Result<Option<T>, StoreError> {
        let found = self.0.db.get(tree.key(key)).map_err(|e| self.damaged(&e))?;
        found.map(|bytes| decode(tree, &bytes)).transpose()
    }

    pub fn contains(&self, tree: Tree, key: &[u8]) -> Result<bool, StoreError> {
        self.0.db.contains_key(tree.key(key)).map_err(|e| self.damaged(&e))
    }

    /// Every record whose key begins with `prefix`, in the order of the keys; keys without the tree.
    pub fn scan<T: DeserializeOwned>(
        &self,
        tree: Tree,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Vec<u8>, T), StoreError>> + use<'_, T> {
        self.0.db.scan_prefix(tree.key(prefix)).map(move |entry| {
            let (key, value) = entry.map_err(|e| self.damaged(&e))?;
            Ok((key[1..].to_vec(), decode(tree, &value)?))
        })
    }

    /// The record with the greatest key.
    pub fn last<T: DeserializeOwned>(&self, tree: Tree) -> Result<Option<(Vec<u8>, T)>, StoreError> {
        self.scan(tree, &[]).next_back().transpose()
    }

    /// Applies the batch and returns when it is on the device. A caller that is dropped meanwhile leaves
    /// the batch applied, and durable soon after.
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.apply(batch)?;
        self.sync().await
    }

    /// Applies the batch at once; it is durable within about half a second, or with the next commit. For
    /// what may be found again after a crash: cursors, the ledger of answered questions.
    pub fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let mut sled_batch = sled::Batch::default();
        for (key, value) in batch.ops {
            match value {
                Some(value) => sled_batch.insert(key, value),
                None => sled_batch.remove(key),
            }
        }
        self.0.db.apply_batch(sled_batch).map_err(|e| StoreError::Write(e.to_string()))
    }

    /// Returns when everything applied before is on the device.
    pub async fn sync(&self) -> Result<(), StoreError> {
        let (done, synced) = oneshot::channel();
        let gone = || StoreError::Write("the sync thread has ended".to_owned());
        self.0.syncs.as_ref().ok_or_else(gone)?.send(done).map_err(|_| gone())?;
        synced.await.map_err(|_| gone())?.map_err(StoreError::Write)
    }

    /// Megabytes that may still be written to the file system of the database; `None` where it does not say.
    pub fn free_megabytes(&self) -> Option<u64> {
        let space = nix::sys::statvfs::statvfs(self.path()).ok()?;
        Some(space.blocks_available() * space.fragment_size() / 1_000_000)
    }

    /// Bytes on disk.
    pub fn size(&self) -> u64 {
        self.0.db.size_on_disk().unwrap_or(0)
    }

    fn damaged(&self, error: &sled::Error) -> StoreError {
        StoreError::Damaged { path: self.0.path.clone(), reason: error.to_string() }
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.0.path.display())
    }
}

fn decode<T: DeserializeOwned>(tree: Tree, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|e| StoreError::Record { tree, reason: e.to_string() })
}

fn make_durably(path: &Path) -> std::io::Result<()> {
    File::create(path)?.sync_all()?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Everybody who asked while the last sync was under way is served by the next one.
fn sync_loop(
    db: &sled::Db,
    file: &File,
    mut requests: mpsc::UnboundedReceiver<oneshot::Sender<Result<(), String>>>,
    watch: impl Fn(SyncPoint),
) {
    while let Some(first) = requests.blocking_recv() {
        let mut waiting = vec![first];
        while let Ok(next) = requests.try_recv() {
            waiting.push(next);
        }
        watch(SyncPoint::Before);
        let result =
            db.flush().map_err(|e| e.to_string()).and_then(|_| file.sync_data().map_err(|e| e.to_string()));
        watch(SyncPoint::After);
        for done in waiting {
            let _ = done.send(result.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_over_several_trees_is_there_after_reopening() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("opens");
        let mut batch = Batch::new();
        batch.put(Tree::Events, b"1", &"created").put(Tree::Runs, b"1", &7).put(Tree::Ledger, b"m", &true);
        store.commit(batch).await.expect("commits");
        drop(store);
        let store = Store::open(dir.path()).expect("opens again");
        assert_eq!(store.get::<String>(Tree::Events, b"1").expect("reads").as_deref(), Some("created"));
        assert_eq!(store.get::<u32>(Tree::Runs, b"1").expect("reads"), Some(7));
        assert_eq!(store.scan::<String>(Tree::Events, b"").count(), 1);
    }

    #[tokio::test]
    async fn a_second_houston_on_one_folder_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let _store = Store::open(dir.path()).expect("opens");
        assert!(matches!(Store::open(dir.path()), Err(StoreError::InUse(_))));
    }
}
