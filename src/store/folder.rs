//! The folder of a database: what is looked at before sled touches it, and what is compared once it is open.
//!
//! sled passes over what it cannot make sense of: of a file that is noise it makes an empty database, and of a
//! log that is damaged near its end an older one. So two small files beside it say what has to be in it: `made`
//! the layout of its records, `acknowledged` how many changes somebody was told are durable.
//!
//! Must not: change anything in a folder that it refuses.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use super::{Batch, SCHEMA_VERSION, Store, StoreError, TALLY, Tree};

/// There were records in it once, of this layout; layout 1 wrote an empty file.
const MADE: &str = "made";

/// The tally of the last change that somebody was told is durable.
const ACKNOWLEDGED: &str = "acknowledged";

/// Looks at whether a database that was dropped is free, ten milliseconds apart.
const PATIENCE: u32 = 500;

/// sled's own.
const DATABASE: &str = "db";

/// Refuses what must not be opened.
pub(super) fn look_before(dir: &Path) -> Result<(), StoreError> {
    let io = |source| StoreError::Io { what: "read", path: dir.to_owned(), source };
    let database = dir.join(DATABASE);
    let there = match std::fs::metadata(&database) {
        Ok(found) => {
            let me = nix::unistd::geteuid().as_raw();
            if found.uid() != me {
                return Err(StoreError::Owner { path: database, owner: found.uid(), me });
            }
            true
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(io(error)),
    };
    match std::fs::read_to_string(dir.join(MADE)) {
        Ok(made) => {
            let layout = match made.trim() {
                "" => Some(1),
                written => written.strip_prefix("layout ").and_then(|layout| layout.parse().ok()),
            };
            // What it says is compared with the database itself: a file that makes no sense is written anew.
            if let Some(found) = layout.filter(|layout| *layout > SCHEMA_VERSION) {
                return Err(StoreError::Version { path: dir.to_owned(), found, known: SCHEMA_VERSION });
            }
            if !there {
                return Err(damaged(dir, "its file `db` is missing"));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !there && let Some(found) = std::fs::read_dir(dir).map_err(io)?.flatten().find(not_ours) {
                let found = found.file_name().to_string_lossy().into_owned();
                return Err(StoreError::Foreign { path: dir.to_owned(), found });
            }
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
        Err(error) => return Err(io(error)),
    }
    Ok(())
}

/// Whether it has nothing to do in a database that is about to be made.
fn not_ours(entry: &std::fs::DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    // A first start that was cut off leaves some of them.
    let ours = ["conf", "blobs", ACKNOWLEDGED].contains(&&*name) || name.starts_with("snap.");
    !ours && name != "lost+found" && !name.starts_with('.')
}

/// Compares what is in it with what has to be, and makes of a folder without records a database.
pub(super) fn look_inside(store: &Store) -> Result<(), StoreError> {
    let dir = store.path();
    let io = |what| move |source| StoreError::Io { what, path: dir.to_owned(), source };
    let made = dir.join(MADE);
    let layout = store.get::<u32>(Tree::Meta, b"schema_version")?;
    let tally = store.raw(TALLY)?.and_then(|bytes| Some(u64::from_be_bytes(bytes.as_ref().try_into().ok()?)));
    store.0.applied.lock().unwrap_or_else(PoisonError::into_inner).tally = tally.unwrap_or_default();
    let acknowledged = read_acknowledged(dir).map_err(io("read a file in"))?;
    let lost = acknowledged.unwrap_or_default().saturating_sub(tally.unwrap_or_default());
    match layout {
        Some(found) if found > SCHEMA_VERSION => {
            return Err(StoreError::Version { path: dir.to_owned(), found, known: SCHEMA_VERSION });
        }
        None if made.exists() => return Err(damaged(dir, "records that were in it are gone")),
        _ if lost > 0 => {
            let lost = crate::text::count(usize::try_from(lost).unwrap_or(usize::MAX), "change");
            return Err(damaged(dir, &format!("the last {lost} that it had taken are gone")));
        }
        Some(SCHEMA_VERSION) => {}
        // A new one; or of layout 1, whose records stay as they are and are read as what they are.
        Some(_) | None => {
            let mut batch = Batch::new();
            batch.put(Tree::Meta, b"schema_version", &SCHEMA_VERSION);
            store.apply(batch)?;
            store.sync_now()?;
        }
    }
    let written = format!("layout {SCHEMA_VERSION}\n");
    if std::fs::read(&made).is_ok_and(|found| found == written.as_bytes()) {
        return Ok(());
    }
    write_durably(&made, written.as_bytes()).map_err(io("write into"))
}

fn damaged(dir: &Path, reason: &str) -> StoreError {
    StoreError::Damaged { path: dir.to_owned(), reason: reason.to_owned() }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Open for writing, made if absent.
pub(super) fn acknowledged_file(dir: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(dir.join(ACKNOWLEDGED))
}

/// What is in that file: the number, and its complement, so that half a write is known as one.
pub(super) fn acknowledged(tally: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&tally.to_be_bytes());
    bytes[8..].copy_from_slice(&(!tally).to_be_bytes());
    bytes
}

/// `None`: it says nothing that makes sense, as after a loss of power, which takes what was not synced.
fn read_acknowledged(dir: &Path) -> io::Result<Option<u64>> {
    let bytes = match std::fs::read(dir.join(ACKNOWLEDGED)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let tally = bytes.first_chunk::<8>().map(|tally| u64::from_be_bytes(*tally));
    Ok(tally.filter(|tally| bytes == acknowledged(*tally)))
}

/// sled's own threads let go of a database a moment after its last handle: this waits for it, blocking. An error
/// says that they did not.
pub(super) fn wait_until_free(dir: &Path) -> Result<(), StoreError> {
    let failed = |what| move |source| StoreError::Io { what, path: dir.to_owned(), source };
    let file = File::open(dir.join(DATABASE)).map_err(failed("open the database in"))?;
    for _ in 0..PATIENCE {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(std::fs::TryLockError::WouldBlock) => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "whoever drops a store is told that it blocks"
                )]
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(failed("lock the database in")(error)),
        }
    }
    Err(StoreError::InUse(dir.to_owned()))
}

/// Waits until the database is free when it is dropped.
pub(super) struct Free(pub(super) PathBuf);

impl Drop for Free {
    fn drop(&mut self) {
        // One that was moved away, or could not be opened, holds nobody up.
        if let Err(error @ StoreError::InUse(_)) = wait_until_free(&self.0) {
            tracing::warn!("{error} although this one has closed it");
        }
    }
}
