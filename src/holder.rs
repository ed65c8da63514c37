//! Who holds a state folder: one process at a time. The kernel ends the lock with the process, so what a dead one
//! left is in nobody's way; the locked file says who it is, for whoever comes second.
//!
//! Must not: touch anything else in the folder, or take what its file says for the lock itself.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::text;

/// Below the state folder.
const FILE: &str = "holder";

/// Another after each boot; containers see that of their machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A process that is about to end, or to write who it is, is given this long.
const A_MOMENT: Duration = Duration::from_millis(300);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A process, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub host: String,
    pub since: Timestamp,
    /// What it was started for: `houston serve`.
    pub doing: String,
}

impl Process {
    /// This one.
    pub fn this(doing: &str, clock: &Clock) -> Self {
        let host = nix::unistd::gethostname().map_or_else(
            |_| "an unknown host".to_owned(),
            |name| text::ellipsis(&name.to_string_lossy(), 100).into_owned(),
        );
        Self { pid: std::process::id(), host, since: clock.now(), doing: doing.to_owned() }
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.since.strftime("%Y-%m-%d %H:%M:%S UTC");
        write!(f, "`{}`, process {} on {}, since {since}", self.doing, self.pid, self.host)
    }
}

/// The folder is this process's until this is dropped.
#[derive(Debug)]
pub struct Holder(File);

/// Why it is not.
#[derive(Debug, thiserror::Error)]
pub enum NotHeld {
    #[error("the state folder `{}` is in use by another Houston{}", dir.display(), named(who.as_ref()))]
    ByAnother { dir: PathBuf, who: Option<Process> },
    #[error("the state folder `{}` cannot be used", dir.display())]
    Io { dir: PathBuf, source: io::Error },
}

fn named(who: Option<&Process>) -> String {
    who.map(|who| format!(": {who}")).unwrap_or_default()
}

impl Holder {
    /// Makes the folder if it is not there. Waits for a moment, so that whoever is just ending may end.
    pub async fn take(dir: &Path, doing: &str, clock: &Clock) -> Result<Self, NotHeld> {
        let failed = |source| NotHeld::Io { dir: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(FILE))
            .map_err(failed)?;
        let deadline = tokio::time::Instant::now() + A_MOMENT;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(failed(source)),
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(TryLockError::WouldBlock) => {
                    let mut written = String::new();
                    let read = file.read_to_string(&mut written);
                    let who = read.ok().and_then(|_| serde_json::from_str(&written).ok());
                    return Err(NotHeld::ByAnother { dir: dir.to_owned(), who });
                }
            }
        }
        let mut holder = Self(file);
        let this = serde_json::to_string(&Process::this(doing, clock)).expect("plain data");
        holder.say(&format!("{this}\n")).map_err(failed)?;
        Ok(holder)
    }

    /// Tells this folder from every other, and from every copy of it: the inode that is locked, and the boot of the
    /// kernel that keeps the lock. Whoever held the folder under the same words before is gone. `None`: it cannot be
    /// told here.
    pub fn folder(&self) -> Option<String> {
        use std::os::unix::fs::MetadataExt as _;
        let boot = std::fs::read_to_string(BOOT_ID).ok()?;
        let file = self.0.metadata().ok()?;
        Some(format!("{}/{}/{}", boot.trim(), file.dev(), file.ino()))
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.rewind()?;
        self.0.write_all(text.as_bytes())
    }
}

impl Drop for Holder {
    /// Whoever is next need not read of somebody who is gone. The lock ends when the file is closed.
    fn drop(&mut self) {
        let _ = self.0.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_is_told_who_holds_the_folder_and_what_a_dead_one_left_is_no_obstacle() {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Clock::manual("2026-11-25T10:00:00Z".parse().expect("a time"));
        // As a killed process leaves it: a file that names it, and no lock.
        let dead = r#"{"pid":1,"host":"gone","since":"2020-01-01T00:00:00Z","doing":"houston serve"}"#;
        std::fs::write(dir.path().join(FILE), dead.repeat(3)).expect("written");
        let first = Holder::take(dir.path(), "houston serve", &clock).await.expect("nobody holds it");
        let refused = Holder::take(dir.path(), "houston store", &clock).await.expect_err("it is held");
        let told = refused.to_string();
        let own = format!("process {} on ", std::process::id());
        assert!(told.contains(&own) && told.ends_with(", since 2026-11-25 10:00:00 UTC"), "{told}");
        drop(first);
        Holder::take(dir.path(), "houston serve", &clock).await.expect("it is free again");
    }

    #[tokio::test]
    async fn whoever_is_just_ending_is_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let clock = Clock::system();
        let first = Holder::take(dir.path(), "houston serve", &clock).await.expect("nobody holds it");
        let (second, ()) = tokio::join!(Holder::take(dir.path(), "houston serve", &clock), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        second.expect("it was let go in time");
    }
}
