//! Commands on other machines: one multiplexed OpenSSH connection per host, made when it is needed and
//! made again when it was lost.
//!
//! Must not: accept an unknown or changed host key, ask for a password, or read the user's `ssh_config`:
//! what Houston does stands in the environment file.

mod config;
mod detached;
mod error;
mod remote;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use openssh::{ControlPersist, ForwardType, KnownHosts, Session, SessionBuilder, Socket};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Command, Detached, ExecError, Exit, Follow, Runner, Standing, Stream};
use crate::config::environment::Host;
use crate::ids::EnvName;
use crate::secret::Redactor;
use crate::text;

/// A Unix socket's path has 107 bytes at most; ssh and openssh add up to 55 below this folder.
const LONGEST_BASE: usize = 52;

/// Sessions at once on one connection. sshd's `MaxSessions` is 10: two are left to stop commands with.
const CHANNELS: usize = 8;

/// For the process of ours that holds a connection to say whether it does.
const LOCAL_ANSWER: Duration = Duration::from_secs(2);

/// What holds for every host of a pool.
#[derive(Clone, Copy, Debug)]
pub struct SshOptions {
    /// To be connected and logged in. Default 10 s.
    pub connect_timeout: Duration,
    /// Silence after which the server is asked whether it lives; the connection counts as lost after three
    /// times that. Whole seconds. Default 5 s.
    pub alive_interval: Duration,
    /// A connection without commands or forwarded traffic closes itself after this time, also when Houston
    /// was killed. Whole seconds. Default 10 min.
    pub idle: Duration,
    /// From TERM to KILL for a command that is stopped. Default 10 s.
    pub grace: Duration,
}

impl Default for SshOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            alive_interval: Duration::from_secs(5),
            idle: Duration::from_secs(600),
            grace: Duration::from_secs(10),
        }
    }
}

/// All hosts of this process. Clones share the connections.
#[derive(Clone, Debug)]
pub struct SshPool(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    /// `<dir>/p<process id>-<n>`: control sockets, ssh's configuration, forwarded sockets.
    base: PathBuf,
    options: SshOptions,
    redactor: Redactor,
    hosts: Mutex<BTreeMap<String, SshHost>>,
}

impl SshPool {
    /// Keeps its sockets in a private folder below `dir`, or below the temporary folder where `dir` is too
    /// long for a socket's path. Connections that a process before this one left there are closed when the
    /// first host connects.
    pub fn new(dir: &Path, options: SshOptions, redactor: Redactor) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let own = std::process::id();
        let name = format!("p{own}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = std::path::absolute(dir)?;
        let dir = if dir.join(&name).as_os_str().len() <= LONGEST_BASE {
            dir
        } else {
            let digest = crate::digest::Digest::of(dir.as_os_str().as_encoded_bytes());
            std::env::temp_dir().join(format!("houston-{}", digest.short()))
        };
        private_dir(&dir)?;
        let base = dir.join(&name);
        if base.as_os_str().len() > LONGEST_BASE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{}` is too long for control sockets: choose a shorter TMPDIR", base.display()),
            ));
        }
        // An own process id with a number not yet given out is a leftover too: in a container every
        // Houston is process 1.
        remove_leftovers(&dir, own, COUNT.load(Ordering::Relaxed));
        private_dir(&base)?;
        Ok(Self(Arc::new(Pool { base, options, redactor, hosts: Mutex::default() })))
    }

    /// The host of an environment; the same connection for the same host, as long as its entry does not
    /// change. Does not connect.
    pub fn host(&self, environment: &EnvName, host: &Host) -> SshHost {
        let settings = config::Settings::of(host);
        let key = format!("{environment}/{}", host.name);
        let mut hosts = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = hosts.get(&key).filter(|known| known.0.settings == settings) {
            return known.clone();
        }
        let identity = format!("{key} {settings:?}");
        let digest = crate::digest::Digest::of(identity.as_bytes());
        let new = SshHost(Arc::new(Inner {
            dir: self.0.base.join(digest.short()),
            settings,
            options: self.0.options,
            redactor: self.0.redactor.clone(),
            channels: Semaphore::new(CHANNELS),
            live: tokio::sync::Mutex::default(),
        }));
        hosts.insert(key, new.clone());
        new
    }

    /// Closes every connection; commands that still run there lose theirs. Hosts can be used again after.
    pub async fn close(&self) {
        let hosts: Vec<_> = {
            let hosts = self.0.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.values().cloned().collect()
        };
        futures_util::future::join_all(hosts.iter().map(SshHost::close)).await;
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Hosts may outlive the pool; then their sockets go with the next process.
        if self.hosts.get_mut().is_ok_and(|hosts| hosts.values().all(|h| Arc::strong_count(&h.0) == 1)) {
            self.hosts.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
            let _ = std::fs::remove_dir_all(&self.base);
            // Fails, as it should, while others have their sockets there.
            let _ = self.base.parent().map(std::fs::remove_dir);
        }
    }
}

/// A host over SSH. Clones share the connection.
///
/// Promised by [`Runner::run`]: the arguments arrive as they are; a command that exits with 127 or 255 is
/// told from one that was not started and from a lost connection; [`ExecError::Lost`] comes within three
/// `alive_interval`s of the connection's death. After a timeout or a cancellation the command's process
/// group gets TERM and, after the grace period, KILL; if it cannot be confirmed that the group is gone the
/// error is [`ExecError::Lost`]. A process that made a session of its own is out of reach. When the future
/// is dropped or Houston is killed, the command runs on until it writes.
#[derive(Clone)]
pub struct SshHost(Arc<Inner>);

struct Inner {
    /// Of this host alone: openssh clears the whole folder of old connections.
    dir: PathBuf,
    settings: config::Settings,
    options: SshOptions,
    redactor: Redactor,
    channels: Semaphore,
    live: tokio::sync::Mutex<Live>,
}

#[derive(Default)]
struct Live {
    session: Option<Arc<Session>>,
    /// Remote socket → local one. The local path stays the same over reconnects.
    forwards: HashMap<PathBuf, Forward>,
    /// The last failure to connect, and when: whoever waited meanwhile gets it too, instead of waiting for
    /// a timeout of their own.
    failed: Option<(Instant, ExecError)>,
}

struct Forward {
    local: PathBuf,
    /// Whether the present connection serves it.
    open: bool,
}

/// A socket of the host, reachable on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedSocket {
    /// Stays the same for one host and one remote path, also after the connection was lost.
    pub local: PathBuf,
}

impl SshHost {
    /// Connects if there is no connection; for `doctor`, which wants to know whether it works.
    pub async fn connect(&self) -> Result<(), ExecError> {
        self.session().await.map(drop)
    }

    /// Whether there is a connection, as far as is known here.
    pub async fn is_connected(&self) -> bool {
        let session = self.0.live.lock().await.session.clone();
        let Some(session) = session else { return false };
        matches!(tokio::time::timeout(LOCAL_ANSWER, session.check()).await, Ok(Ok(())))
    }

    /// Makes a Unix socket of the host reachable here, for its owner only. Call it before each use: when
    /// the connection is alive that costs a look at a local socket, and after it was lost the forwarding
    /// is set up again under the same path.
    pub async fn forward_socket(&self, remote: &Path) -> Result<ForwardedSocket, ExecError> {
        let asked = Instant::now();
        let mut live = self.0.live.lock().await;
        let session = self.ensure(&mut live, asked).await?;
        let next = live.forwards.len();
        let forward = live
            .forwards
            .entry(remote.to_owned())
            .or_insert_with(|| Forward { local: self.0.dir.join(format!("f{next}.sock")), open: false });
        if !forward.open {
            let _ = std::fs::remove_file(&forward.local);
            let request = session.request_port_forward(
                ForwardType::Local,
                Socket::from(forward.local.as_path()),
                Socket::from(remote),
            );
            let what = format!("forwarding `{}` from {}", remote.display(), self.name());
            let not_started = |reason: String, transient| ExecError::NotStarted {
                what: what.clone(),
                reason,
                hint: Some("does sshd there allow it (`AllowStreamLocalForwarding yes`)?".into()),
                transient,
            };
            match tokio::time::timeout(self.0.options.connect_timeout, request).await {
                Ok(Ok(())) => forward.open = true,
                Ok(Err(error)) => {
                    let lost = matches!(error, openssh::Error::Disconnected);
                    return Err(not_started(text::with_causes(&error), lost));
                }
                Err(_) => return Err(not_started("no answer from the connection".into(), true)),
            }
        }
        Ok(ForwardedSocket { local: forward.local.clone() })
    }

    /// Closes the connection; the next use makes a new one.
    pub async fn close(&self) {
        let mut live = self.0.live.lock().await;
        forget(&mut live).await;
        for forward in live.forwards.values() {
            let _ = std::fs::remove_file(&forward.local);
        }
    }

    async fn session(&self) -> Result<Arc<Session>, ExecError> {
        let asked = Instant::now();
        let mut live = self.0.live.lock().await;
        self.ensure(&mut live, asked).await
    }

    /// The live session, or a new one. Only one task connects; the lock is held meanwhile.
    async fn ensure(&self, live: &mut Live, asked: Instant) -> Result<Arc<Session>, ExecError> {
        if let Some(session) = &live.session {
            let session = session.clone();
            if matches!(tokio::time::timeout(LOCAL_ANSWER, session.check()).await, Ok(Ok(()))) {
                return Ok(session);
            }
            forget(live).await;
        }
        if let Some((at, error)) = &live.failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        match self.open().await {
            Ok(session) => {
                live.failed = None;
                let session = Arc::new(session);
                live.session = Some(session.clone());
                Ok(session)
            }
            Err(error) => {
                live.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn open(&self) -> Result<Session, ExecError> {
        let Inner { dir, settings, options, .. } = &*self.0;
        let what = format!("connecting to {}", self.name());
        let local_failure = |reason: String, hint: Option<String>| ExecError::NotStarted {
            what: what.clone(),
            reason,
            hint,
            transient: false,
        };
        private_dir(dir).map_err(|e| local_failure(format!("`{}`: {e}", dir.display()), None))?;
        let (text, jump) = settings.ssh_config(options).map_err(|e| local_failure(e.reason, Some(e.hint)))?;
        let file = dir.join("config");
        std::fs::write(&file, text)
            .map_err(|e| local_failure(format!("cannot write `{}`: {e}", file.display()), None))?;
        let mut builder = SessionBuilder::default();
        builder
            .known_hosts_check(KnownHosts::Strict)
            .connect_timeout(options.connect_timeout)
            .server_alive_interval(options.alive_interval)
            .control_directory(dir)
            .clean_history_control_directory(true)
            .config_file(&file)
            .jump_hosts(&jump);
        let idle = usize::try_from(options.idle.as_secs()).unwrap_or(usize::MAX).max(1);
        if let Some(idle) = std::num::NonZeroUsize::new(idle) {
            builder.control_persist(ControlPersist::IdleFor(idle));
        }
        // ssh's own timeout covers the network up to the key exchange; this one covers a server that stalls
        // later, and every jump host on the way.
        let hops = u32::try_from(jump.len()).unwrap_or(u32::MAX).saturating_add(1);
        let limit = options.connect_timeout.saturating_mul(hops).saturating_add(Duration::from_secs(5));
        match tokio::time::timeout(limit, builder.connect_mux(config::ALIAS)).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(error)) => Err(error::connecting(what, settings, &error)),
            Err(_) => Err(ExecError::NotStarted {
                what,
                reason: format!("no login after {}", crate::text::duration(limit)),
                hint: None,
                transient: true,
            }),
        }
    }
}

impl Runner for SshHost {
    fn name(&self) -> String {
        self.0.settings.to_string()
    }

    fn typed(&self, command: &Command) -> String {
        self.0.settings.typed(&crate::text::shell_words(&command.words()))
    }

    fn run<'a>(
        &'a self,
        command: &'a Command,
        on_line: &'a (dyn Fn(Stream, &str) + Send + Sync),
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Exit, ExecError>> {
        Box::pin(async move {
            let what = format!("`{}` on {}", command.program, self.name());
            let ready = async {
                let permit = self.0.channels.acquire().await.expect("the semaphore is never closed");
                Ok((permit, self.session().await?))
            };
            // Waiting for a channel and connecting count as time of the command.
            let started = Instant::now();
            let deadline = command.timeout.map(|timeout| started + timeout);
            let (_permit, session) = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(ExecError::Cancelled { what }),
                ready = ready => ready?,
                () = remote::sleep_until(deadline) => {
                    return Err(ExecError::NotStarted {
                        what,
                        reason: "its time was over before it could be started".into(),
                        hint: None,
                        transient: true,
                    });
                }
            };
            let job = remote::Job {
                session: &session,
                what,
                command,
                redactor: &self.0.redactor,
                grace: self.0.options.grace,
            };
            job.run(on_line, cancel, deadline).await
        })
    }
}

impl super::Host for SshHost {
    fn follow<'a>(
        &'a self,
        job: &'a Detached<'a>,
        follow: &'a dyn Follow,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Exit, ExecError>> {
        Box::pin(async move {
            let what = format!("`{}` on {}", job.command.program, self.name());
            let _permit = tokio::select! {
                permit = self.0.channels.acquire() => permit.expect("the semaphore is never closed"),
                () = cancel.cancelled(), if !job.resumed => return Err(ExecError::Cancelled { what }),
            };
            detached::Job { host: self, job, what, follow, cancel }.run().await
        })
    }

    fn standing<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Standing, ExecError>> {
        Box::pin(detached::standing(self, name))
    }

    fn clear<'a>(&'a self, name: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(detached::clear(self, name))
    }
}

impl std::fmt::Debug for SshHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SshHost({})", self.0.settings)
    }
}

/// Drops a connection without blocking: openssh tells its master to end in `drop`.
async fn forget(live: &mut Live) {
    for forward in live.forwards.values_mut() {
        forward.open = false;
    }
    if let Some(session) = live.session.take() {
        let _ = tokio::task::spawn_blocking(move || drop(session)).await;
    }
}

/// Makes the folder if it is absent; refuses one that others could put sockets into.
fn private_dir(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let found = std::fs::symlink_metadata(dir)?;
    let safe = found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if safe {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("`{}` is not a folder that only Houston's user can write to", dir.display()),
        ))
    }
}

/// Ends the connections of processes that are gone, and removes their folders.
fn remove_leftovers(dir: &Path, own: u32, given_out: u32) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((process, number)) = name
            .to_str()
            .and_then(|name| name.strip_prefix('p')?.split_once('-'))
            .and_then(|(process, number)| Some((process.parse::<u32>().ok()?, number.parse::<u32>().ok()?)))
        else {
            continue;
        };
        let alive = i32::try_from(process).is_ok_and(|id| {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), None) != Err(nix::errno::Errno::ESRCH)
        });
        let leftover = if process == own { number >= given_out } else { !alive };
        if !leftover {
            continue;
        }
        for host in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            for connection in std::fs::read_dir(host.path()).into_iter().flatten().flatten() {
                remote::end_master(&connection.path().join("master"));
            }
        }
        let _ = std::fs::remove_dir_all(entry.path());
    }
}
