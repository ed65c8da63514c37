//! Notices that the configuration folder has changed, by looking at it every few seconds: that sees what
//! notifications of the kernel do not, such as bind mounts from another system and the swapped links of
//! Kubernetes' volumes.
//!
//! Must not: read a file's content, or decide what a change means.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::chat::dispatch::Dispatcher;
use crate::config::{Auth, Config};
use crate::secret::SecretRef;

/// Between two looks.
pub const EVERY: Duration = Duration::from_secs(2);

/// More than anybody keeps.
const MOST_FILES: usize = 10_000;

/// Until `stop`. A folder that was changed is reloaded once two looks in a row see the same: who writes
/// several files, or a long one, is given the time.
pub async fn watch(dispatcher: Dispatcher, every: Duration, stop: CancellationToken) {
    let mut in_force = None;
    let mut last = None;
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let config = dispatcher.config();
        let Ok(now) = tokio::task::spawn_blocking(move || look(&config)).await else { continue };
        // What changed between the load and the first look is found by comparing once.
        if in_force != Some(now) && last == Some(now) {
            in_force = Some(now);
            dispatcher.reload(None).await;
        }
        last = Some(now);
    }
}

/// Another number when a file has come, gone, or been written; links are followed. The file of the login's secret
/// is one of them, wherever it lies.
fn look(config: &Config) -> u64 {
    let dir = &config.dir;
    let mut hasher = DefaultHasher::new();
    let folders = ["", "environments", "commands", "playbooks", "prompts"];
    for folder in folders {
        let mut files: Vec<_> = std::fs::read_dir(dir.join(folder))
            .into_iter()
            .flatten()
            .filter_map(Result::ok)
            .take(MOST_FILES)
            .map(|entry| entry.path())
            .collect();
        files.sort();
        for path in files {
            look_at(&path, &mut hasher);
        }
    }
    let (Auth::Token { token: secret, .. } | Auth::Password { password: secret, .. }) =
        &config.rocketchat.auth;
    if let SecretRef::File(path) = secret {
        look_at(&dir.join(path), &mut hasher);
    }
    hasher.finish()
}

fn look_at(path: &Path, hasher: &mut DefaultHasher) {
    path.hash(hasher);
    // A folder's own times change with files in it that are not read, such as an editor's.
    if let Ok(file) = std::fs::metadata(path)
        && !file.is_dir()
    {
        let times = (file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec());
        (file.dev(), file.ino(), file.size(), times).hash(hasher);
    }
}
