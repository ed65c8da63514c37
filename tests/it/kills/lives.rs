//! Houston's lives: the real `houston serve` in a process of its own, killed as a trial says, and started again at
//! once as a service manager would.
//!
//! Must not: know what it does meanwhile.

use std::fmt;
use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use houston::store::SyncPoint;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::stage::{PATIENCE, ask};

/// When Houston is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// At this sync of its life, counted from 1: `before:3`, `after:3`.
    At(SyncPoint, u64),
    /// This long after its start: `250ms`.
    After(Duration),
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(SyncPoint::Before, number) => write!(f, "before:{number}"),
            Self::At(SyncPoint::After, number) => write!(f, "after:{number}"),
            Self::After(time) => write!(f, "{}ms", time.as_millis()),
        }
    }
}

impl FromStr for Kill {
    type Err = ParseIntError;
    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        if let Some(number) = text.strip_prefix("before:") {
            return Ok(Self::At(SyncPoint::Before, number.parse()?));
        }
        if let Some(number) = text.strip_prefix("after:") {
            return Ok(Self::At(SyncPoint::After, number.parse()?));
        }
        Ok(Self::After(Duration::from_millis(text.trim_end_matches("ms").parse()?)))
    }
}

/// Starts Houston, and starts it again whenever it was killed, until it is told to stop it.
pub struct Keeper {
    pub stop: CancellationToken,
    pub deaths: Arc<AtomicUsize>,
    problem: Arc<Mutex<Option<String>>>,
    pub task: JoinHandle<()>,
}

impl Keeper {
    pub fn start(dir: &Path, kills: Vec<Kill>) -> Self {
        let stop = CancellationToken::new();
        let (deaths, problem) = (Arc::<AtomicUsize>::default(), Arc::<Mutex<Option<String>>>::default());
        let lives = Lives {
            dir: dir.to_owned(),
            kills: kills.into_iter(),
            stop: stop.clone(),
            deaths: deaths.clone(),
            problem: problem.clone(),
        };
        Self { stop, deaths, problem, task: tokio::spawn(lives.live()) }
    }

    pub fn failed(&self) -> bool {
        self.problem.lock().expect("no panic").is_some()
    }

    pub fn problem(&self) -> String {
        self.problem.lock().expect("no panic").clone().unwrap_or_default()
    }
}

impl Drop for Keeper {
    /// With it goes the process.
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Lives {
    dir: PathBuf,
    /// Of the lives to come; those after them die of nothing but SIGTERM.
    kills: std::vec::IntoIter<Kill>,
    stop: CancellationToken,
    deaths: Arc<AtomicUsize>,
    problem: Arc<Mutex<Option<String>>>,
}

impl Lives {
    async fn live(mut self) {
        loop {
            let kill_it = self.kills.next();
            let mut child = self.spawn(kill_it);
            let process = child.id();
            tokio::select! {
                _ = child.wait() => {}
                () = kill_later(process, kill_it) => {}
                () = self.stop.cancelled() => signal(process, Signal::SIGTERM),
            }
            let status = child.wait().await.expect("it ends");
            if was_killed(status) {
                self.deaths.fetch_add(1, Ordering::SeqCst);
                if self.stop.is_cancelled() {
                    self.once_more().await;
                    return;
                }
                continue;
            }
            if !self.stop.is_cancelled() || !status.success() {
                self.failed(format!("it ended by itself: {status}"));
            }
            return;
        }
    }

    /// Killed while it stopped: somebody starts it, and stops it again.
    async fn once_more(&self) {
        let mut child = self.spawn(None);
        let socket = self.dir.join("state/admin.sock");
        let deadline = Instant::now() + PATIENCE;
        while ask(&socket, "GET", "/readyz", None).await.is_none() {
            if Instant::now() > deadline {
                return self.failed("it does not start after it was killed while it stopped".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        signal(child.id(), Signal::SIGTERM);
        let status = child.wait().await.expect("it ends");
        if !status.success() {
            self.failed(format!("it stopped so: {status}"));
        }
    }

    fn spawn(&self, kill_it: Option<Kill>) -> Child {
        let mut command = serve(&self.dir);
        if let Some(at @ Kill::At(..)) = kill_it {
            command.env("HOUSTON_KILL_AT", at.to_string());
        }
        command.spawn().expect("the program starts")
    }

    fn failed(&self, why: String) {
        *self.problem.lock().expect("no panic") = Some(why);
    }
}

fn was_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal() == Some(Signal::SIGKILL as i32)
}

async fn kill_later(process: Option<u32>, kill_it: Option<Kill>) {
    let Some(Kill::After(time)) = kill_it else { return std::future::pending().await };
    tokio::time::sleep(time).await;
    signal(process, Signal::SIGKILL);
}

fn signal(process: Option<u32>, signal: Signal) {
    if let Some(process) = process.and_then(|id| id.try_into().ok()) {
        let _ = kill(Pid::from_raw(process), signal);
    }
}

/// With what lies in `dir`.
pub fn serve(dir: &Path) -> Command {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).expect("a log");
    let mut command = program();
    command.arg("serve").arg("--config").arg(dir.join("config"));
    command.arg("--state").arg(dir.join("state"));
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a handle")).stderr(log);
    command.kill_on_drop(true);
    command
}

pub fn program() -> Command {
    #[expect(clippy::disallowed_methods, reason = "a test starts the program that it tests")]
    Command::new(env!("CARGO_BIN_EXE_houston"))
}
