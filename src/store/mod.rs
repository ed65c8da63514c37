//! Durable state: the only `use sled`.
//!
//! sled 0.34's `flush()` hands pages to the kernel without waiting for the device. So there is one commit
//! path: apply a batch, flush, `fdatasync` the database file, acknowledge; commits that wait at the same
//! time share one flush. What [`Store::commit`] has returned from survives loss of power.
//!
//! Must not: know what the records mean. Logical trees are one-byte prefixes in one sled tree, so that a
//! batch over several of them is atomic.

pub mod compact;
pub mod exports;
mod folder;
pub mod home;
mod record;
mod snapshot;
pub mod stat;
pub mod transfer;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

pub use snapshot::{Raw, Snapshot};

/// Of every key and value layout together; checked before the database is opened, and in it. Layout 1 had no
/// version in each record and no tally.
const SCHEMA_VERSION: u32 = 2;

/// Where the tally of acknowledged changes stands.
const TALLY: &[u8] = b"\0tally";

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
    /// environment ‖ beginning ‖ end → maintenance that was declared, or that something was said of
    Maintenance = 16,
    /// its reference → an entry that the audit log has not been told yet, of no run
    OwedEntries = 17,
    /// schedule → when it is due next, whether it is paused, what became of it last
    Schedules = 18,
    /// schedule ‖ time → what became of it then
    Fires = 19,
    /// environment/source ‖ time → what a backup came to
    Saved = 22,
    /// what ‖ the last run of several → which runs, since when, and by which rule that is not kept any more
    Removed = 20,
    /// run id → it is not done, or has to be reviewed; written with its header
    Unfinished = 21,
}

impl Tree {
    pub const ALL: [Self; 23] = [
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
        Self::Maintenance,
        Self::OwedEntries,
        Self::Schedules,
        Self::Fires,
        Self::Saved,
        Self::Removed,
        Self::Unfinished,
    ];

    fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|tree| *tree as u8 == number)
    }

    /// In exports and tables.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

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
    #[error("`{path}` is no folder of Houston's: it holds `{found}`")]
    Foreign { path: PathBuf, found: String },
    #[error("`{path}` belongs to user {owner}, and this Houston runs as user {me}")]
    Owner { path: PathBuf, owner: u32, me: u32 },
    #[error("the database in `{0}` is gone, and the audit log beside it tells of runs")]
    Gone(PathBuf),
    #[error("a record of {tree:?} cannot be read: {reason}")]
    Record { tree: Tree, reason: String },
    #[error("the database cannot be read as a whole: {0}")]
    Read(String),
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
        self.ops.push((tree.key(key), Some(record::encode(tree, value))));
        self
    }
    /// As it was read.
    fn put_raw(&mut self, raw: &Raw) -> &mut Self {
        let mut value = vec![raw.version];
        value.extend_from_slice(&raw.json);
        self.ops.push((raw.tree.key(&raw.key), Some(value)));
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
    applied: Arc<Mutex<Applied>>,
    /// `None` only while dropping.
    syncs: Option<mpsc::UnboundedSender<oneshot::Sender<Result<(), String>>>>,
    sync_thread: Option<std::thread::JoinHandle<()>>,
    path: PathBuf,
    /// The last, so that the folder is free when the last handle is gone.
    _free: folder::Free,
}

/// What was written so far; whoever writes holds it.
struct Applied {
    /// How many batches, ever.
    tally: u64,
    before: Option<snapshot::Before>,
}

impl Drop for Inner {
    /// Waits for the last sync.
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
        folder::look_before(dir)?;
        let db = open_sled(dir)?;
        let file = File::open(dir.join("db")).map_err(io("open the database in"))?;
        // sled never syncs the folder entry of the file that it made.
        for folder in [Some(dir), dir.parent()].into_iter().flatten() {
            if let Ok(folder) = File::open(folder) {
                folder.sync_all().map_err(io("sync"))?;
            }
        }
        let acknowledged = folder::acknowledged_file(dir).map_err(io("open a file in"))?;
        let applied = Arc::new(Mutex::new(Applied { tally: 0, before: None }));
        let (syncs, requests) = mpsc::unbounded_channel();
        let sync_thread = std::thread::Builder::new()
            .name("store-sync".to_owned())
            .spawn({
                let (db, applied) = (db.clone(), applied.clone());
                move || sync_loop(&SyncFiles { db, file, acknowledged, applied }, requests, watch)
            })
            .map_err(io("start the sync thread for"))?;
        let store = Self(Arc::new(Inner {
            db,
            applied,
            syncs: Some(syncs),
            sync_thread: Some(sync_thread),
            path: dir.to_owned(),
            _free: folder::Free(dir.to_owned()),
        }));
        folder::look_inside(&store)?;
        Ok(store)
    }

    pub fn path(&self) -> &Path {
        &self.0.path
    }

    pub fn get<T: DeserializeOwned>(&self, tree: Tree, key: &[u8]) -> Result<Option<T>, StoreError> {
        let found = self.raw(&tree.key(key))?;
        found.map(|bytes| record::decode(tree, &bytes)).transpose()
    }

    pub fn contains(&self, tree: Tree, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.raw(&tree.key(key))?.is_some())
    }

    fn raw(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        self.guard(|| self.0.db.get(key).map_err(|e| self.damaged(&e)))?
    }

    /// Every record whose key begins with `prefix`, in the order of the keys; keys without the tree.
    pub fn scan<T: DeserializeOwned>(
        &self,
        tree: Tree,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(Vec<u8>, T), StoreError>> + use<'_, T> {
        self.0.db.scan_prefix(tree.key(prefix)).filter(|entry| !is_tally(entry)).map(move |entry| {
            let (key, value) = entry.map_err(|e| self.damaged(&e))?;
            Ok((key[1..].to_vec(), record::decode(tree, &value)?))
        })
    }

    /// Every key that begins with `prefix`, in order and without the tree, and how many bytes it and its record take.
    pub fn sizes(
        &self,
        tree: Tree,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, u64), StoreError>> + use<'_> {
        self.0.db.scan_prefix(tree.key(prefix)).filter(|entry| !is_tally(entry)).map(move |entry| {
            let (key, value) = entry.map_err(|e| self.damaged(&e))?;
            Ok((key[1..].to_vec(), (key.len() + value.len()) as u64))
        })
    }

    /// The first record of the tree whose key is not before `key`.
    pub fn from<T: DeserializeOwned>(
        &self,
        tree: Tree,
        key: &[u8],
    ) -> Result<Option<(Vec<u8>, T)>, StoreError> {
        self.scan_from(tree, key).next().transpose()
    }

    /// Every record of the tree whose key is not before `key`, as [`Self::scan`].
    pub fn scan_from<T: DeserializeOwned>(
        &self,
        tree: Tree,
        key: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, T), StoreError>> + use<'_, T> {
        let range = tree.key(key)..vec![tree as u8 + 1];
        self.0.db.range(range).filter(|entry| !is_tally(entry)).map(move |entry| {
            let (key, value) = entry.map_err(|e| self.damaged(&e))?;
            Ok((key[1..].to_vec(), record::decode(tree, &value)?))
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
        // Of several changes to one key the last one stands.
        let ops: BTreeMap<Vec<u8>, Option<Vec<u8>>> = batch.ops.into_iter().collect();
        let mut applied = self.applied();
        let mut sled_batch = sled::Batch::default();
        for (key, value) in ops {
            if applied.before.as_ref().is_some_and(|before| before.wants(&key)) {
                let old = self.raw(&key)?;
                if let Some(before) = &mut applied.before {
                    before.remember(&key, old);
                }
            }
            match value {
                Some(value) => sled_batch.insert(key, value),
                None => sled_batch.remove(key),
            }
        }
        sled_batch.insert(TALLY, &(applied.tally + 1).to_be_bytes());
        self.guard(|| self.0.db.apply_batch(sled_batch).map_err(|e| StoreError::Write(e.to_string())))??;
        applied.tally += 1;
        Ok(())
    }

    fn applied(&self) -> MutexGuard<'_, Applied> {
        self.0.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Damage shows as panics as well as errors.
    fn guard<T>(&self, act: impl FnOnce() -> T) -> Result<T, StoreError> {
        catch_unwind(AssertUnwindSafe(act)).map_err(|_| StoreError::Damaged {
            path: self.0.path.clone(),
            reason: "a page of it makes no sense".to_owned(),
        })
    }

    /// Returns when everything applied before is on the device.
    pub async fn sync(&self) -> Result<(), StoreError> {
        let (done, synced) = oneshot::channel();
        let gone = || StoreError::Write("the sync thread has ended".to_owned());
        self.0.syncs.as_ref().ok_or_else(gone)?.send(done).map_err(|_| gone())?;
        synced.await.map_err(|_| gone())?.map_err(StoreError::Write)
    }

    /// As [`Store::sync`], for who may block.
    fn sync_now(&self) -> Result<(), StoreError> {
        let path = self.0.path.join("db");
        self.0.db.flush().map_err(|e| StoreError::Write(e.to_string()))?;
        let synced = File::open(&path).and_then(|db| db.sync_data());
        synced.map_err(|source| StoreError::Io { what: "sync", path, source })
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

fn open_sled(dir: &Path) -> Result<sled::Db, StoreError> {
    let config = sled::Config::default()
        .path(dir)
        .mode(sled::Mode::HighThroughput)
        // What is read again and again is kept in memory by those who read it.
        .cache_capacity(4 * 1024 * 1024)
        // Segment collection, and sled's only own fsync, happen in this thread.
        .flush_every_ms(Some(500));
    let damaged = |reason: String| StoreError::Damaged { path: dir.to_owned(), reason };
    // Damage shows as panics as well as errors.
    match catch_unwind(AssertUnwindSafe(|| config.open())) {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(sled::Error::Io(e))) if e.to_string().contains("could not acquire lock") => {
            Err(StoreError::InUse(dir.to_owned()))
        }
        Ok(Err(sled::Error::Io(source))) => {
            Err(StoreError::Io { what: "open the database in", path: dir.to_owned(), source })
        }
        Ok(Err(other)) => Err(damaged(other.to_string())),
        Err(_) => Err(damaged("its log is damaged".to_owned())),
    }
}

fn is_tally(entry: &sled::Result<(sled::IVec, sled::IVec)>) -> bool {
    entry.as_ref().is_ok_and(|(key, _)| key == TALLY)
}

/// What the sync thread works with.
struct SyncFiles {
    db: sled::Db,
    file: File,
    acknowledged: File,
    applied: Arc<Mutex<Applied>>,
}

impl SyncFiles {
    fn sync(&self) -> Result<(), String> {
        let tally = self.applied.lock().unwrap_or_else(PoisonError::into_inner).tally;
        self.db.flush().map_err(|e| e.to_string())?;
        self.file.sync_data().map_err(|e| e.to_string())?;
        // Not synced: after a loss of power it may be behind, which does no harm.
        let _ = self.acknowledged.write_all_at(&folder::acknowledged(tally), 0);
        Ok(())
    }
}

/// Everybody who asked while the last sync was under way is served by the next one.
fn sync_loop(
    files: &SyncFiles,
    mut requests: mpsc::UnboundedReceiver<oneshot::Sender<Result<(), String>>>,
    watch: impl Fn(SyncPoint),
) {
    while let Some(first) = requests.blocking_recv() {
        let mut waiting = vec![first];
        while let Ok(next) = requests.try_recv() {
            waiting.push(next);
        }
        watch(SyncPoint::Before);
        let result = files.sync();
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
