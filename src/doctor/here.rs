//! This machine: the state folder and what is in it, the address to listen on, the programs that are needed.
//!
//! Must not: open the store of a running Houston, or anybody else's: what root opens may be root's afterwards.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::AccessFlags;
use tokio_util::sync::CancellationToken;

use super::{Check, Daemon, Look, Patient, within};
use crate::audit::{self, VerifyError};
use crate::config::Limits;
use crate::exec::local::Local;
use crate::exec::{Command, Runner as _};
use crate::holder::Holder;
use crate::store::{Store, StoreError};
use crate::text;

/// A Unix socket's path has so many bytes at most.
const LONGEST_SOCKET: usize = 107;

/// With less free space it is time to think of it.
const LITTLE_SPACE: u64 = 1000;

pub(super) fn looks(patient: &Arc<Patient>) -> Vec<Look> {
    let mut looks = Vec::new();
    let p = Arc::clone(patient);
    looks.push(Look::new("state folder", async move { folder(&p) }));
    let p = Arc::clone(patient);
    looks.push(Look::new("store", async move { store(&p).await }));
    let p = Arc::clone(patient);
    looks.push(Look::new("audit log", async move { audit_log(&p).await }));
    let Some(config) = &patient.config else { return looks };
    if let Some(http) = &config.http {
        let (p, listen) = (Arc::clone(patient), http.listen);
        looks.push(Look::new("http.listen", async move { listening(listen, &p.daemon).await }));
    }
    if config
        .environments
        .values()
        .any(|environment| !environment.hosts.is_empty() || !environment.temporary.is_empty())
    {
        let p = Arc::clone(patient);
        looks.push(Look::new("ssh", async move { within(p.limit, "ssh", ssh_client(&p)).await }));
    }
    looks
}

fn may(path: &Path, flags: AccessFlags) -> bool {
    nix::unistd::access(path, flags).is_ok()
}

fn own_user() -> String {
    name_of(nix::unistd::geteuid().as_raw())
}

/// A user's name, or their number.
fn name_of(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| uid.to_string(), |user| user.name)
}

fn is_ours(state: &Path) -> bool {
    std::fs::metadata(state).is_ok_and(|found| found.uid() == nix::unistd::geteuid().as_raw())
}

fn folder(patient: &Patient) -> Vec<Check> {
    const ABOUT: &str = "state folder";
    let state = &patient.state;
    let shown = state.display();
    let path = std::path::absolute(state).unwrap_or_else(|_| state.clone());
    let mut checks = Vec::new();
    if path.join("admin.sock").as_os_str().len() > LONGEST_SOCKET {
        let message = format!("`{}` is too long for the socket in it", path.display());
        checks.push(Check::problem(ABOUT, message).fix(format!(
            "choose a path with at most {} bytes for `--state`",
            LONGEST_SOCKET - "/admin.sock".len()
        )));
    }
    match std::fs::metadata(state) {
        Ok(found) if !found.is_dir() => {
            let message = format!("`{shown}` is not a folder");
            checks.push(Check::problem(ABOUT, message).fix("name a folder with `--state`"));
            return checks;
        }
        Ok(found) => checks.push(existing(state, &found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.ancestors().skip(1).find(|dir| dir.exists()).unwrap_or(Path::new("/"));
            checks.push(if may(parent, AccessFlags::W_OK | AccessFlags::X_OK) {
                Check::ok(ABOUT, format!("`{shown}` is not there yet; the first start makes it"))
            } else {
                let message = format!(
                    "`{shown}` is not there, and `{}` may not write to `{}`",
                    own_user(),
                    parent.display()
                );
                Check::problem(ABOUT, message).fix(format!(
                    "as root: `install -d -m 0700 -o {} {}`",
                    own_user(),
                    path.display()
                ))
            });
        }
        Err(error) => {
            let message = format!("`{shown}` cannot be looked at: {error}");
            checks.push(Check::problem(ABOUT, message).fix("run this as the user that Houston runs as"));
            return checks;
        }
    }
    let near = path.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let least = patient.config.as_ref().map_or(Limits::default().free_megabytes, |c| c.limits.free_megabytes);
    checks.extend(space(near, u64::from(least)));
    checks
}

fn existing(state: &Path, found: &std::fs::Metadata) -> Check {
    const ABOUT: &str = "state folder";
    let (shown, owner) = (state.display(), name_of(found.uid()));
    let mode = found.permissions().mode() & 0o7777;
    if !is_ours(state) {
        let message = format!(
            "`{shown}` belongs to `{owner}`, and this runs as `{}`: what they may read and reach is not the same",
            own_user()
        );
        return Check::warning(ABOUT, message).fix(format!(
            "run it as the user that Houston runs as: `sudo -u {owner} houston doctor …`; if the folder is to be \
             another's: `chown -R USER {shown}`"
        ));
    }
    if !may(state, AccessFlags::W_OK | AccessFlags::X_OK) {
        let message = format!("`{owner}` may not write to `{shown}` (mode {mode:04o})");
        return Check::problem(ABOUT, message)
            .fix(format!("`chmod 700 {shown}`; is it on a file system that is mounted read-only?"));
    }
    if mode & 0o077 != 0 {
        let message =
            format!("`{shown}` can be read by others (mode {mode:04o}): private rooms and output are in it");
        return Check::warning(ABOUT, message)
            .fix(format!("`chmod 700 {shown}`; `houston serve` does it at its start"));
    }
    Check::ok(ABOUT, format!("`{shown}` belongs to `{owner}`, and to nobody else"))
}

fn space(dir: &Path, least: u64) -> Option<Check> {
    const ABOUT: &str = "free space";
    let space = nix::sys::statvfs::statvfs(dir).ok()?;
    let free = space.blocks_available() * space.fragment_size() / 1_000_000;
    let here = format!("{free} MB are free for the state folder");
    let fix = "free some space there, move the state folder, or set `limits.free_megabytes` lower";
    Some(if free < least {
        let message = format!("{here}: with less than {least} MB (`limits.free_megabytes`) no run begins");
        Check::problem(ABOUT, message).fix(fix)
    } else if free < LITTLE_SPACE {
        let message = format!("{here}; with less than {least} MB no run begins");
        Check::warning(ABOUT, message).fix(fix)
    } else {
        Check::ok(ABOUT, here)
    })
}

async fn store(patient: &Patient) -> Vec<Check> {
    const ABOUT: &str = "store";
    let dir = patient.state.join("journal");
    let check = match &patient.daemon {
        Daemon::Runs => Check::ok(ABOUT, "in use by a Houston that runs and answers"),
        Daemon::Silent(why) => {
            Check::problem(ABOUT, format!("a Houston has the state folder, and does not answer: {why}"))
                .fix("look at its log; a restart takes up what was under way")
        }
        Daemon::Absent if !dir.exists() => Check::ok(ABOUT, "nothing is in it yet"),
        Daemon::Absent if !is_ours(&patient.state) => {
            let message = "not opened: the state folder is another user's, who could not open it afterwards";
            Check::ok(ABOUT, message)
        }
        Daemon::Absent => {
            // As `houston serve` does: whoever starts meanwhile waits a moment, and is told who this is.
            let _holder = match Holder::take(&patient.state, "houston doctor", &patient.clock).await {
                Ok(holder) => holder,
                Err(error) => {
                    let fix = "stop that one and start it again: it has no socket at which it could be asked";
                    return vec![Check::problem(ABOUT, error.to_string()).fix(fix)];
                }
            };
            let opening = tokio::task::spawn_blocking(move || Store::open(&dir));
            match tokio::time::timeout(patient.limit, opening).await {
                Ok(Ok(Ok(store))) => {
                    Check::ok(ABOUT, format!("opens; {} KiB, no Houston runs on it", store.size() / 1024))
                }
                Ok(Ok(Err(error))) => unopened(ABOUT, &error),
                Ok(Err(error)) => Check::problem(ABOUT, format!("opening it failed: {error}"))
                    .fix("move `journal` in the state folder aside, and restore it from a backup"),
                Err(_) => Check::warning(ABOUT, format!("not open after {}", text::duration(patient.limit)))
                    .fix("is the disk slow? `houston store stat` waits for it"),
            }
        }
    };
    vec![check]
}

fn unopened(about: &str, error: &StoreError) -> Check {
    let check = Check::problem(about, crate::text::with_causes(error));
    match error {
        StoreError::InUse(_) => check.fix(
            "its socket is gone, so that nobody can ask it: stop that Houston and start it again \
             (`fuser` on the file `journal/db` names the process)",
        ),
        StoreError::Version { .. } => check.fix("start the version of Houston that wrote it"),
        StoreError::Damaged { .. } | StoreError::Gone(_) | StoreError::Record { .. } => check.fix(
            "move `journal` in the state folder aside, and `houston store import` the last export; the audit log \
             beside it is plain text and is not touched",
        ),
        StoreError::Foreign { .. } => check.fix("`--state DIR` names a folder of Houston's own, or an empty one"),
        StoreError::Io { .. } | StoreError::Owner { .. } | StoreError::Read(_) | StoreError::Write(_) => {
            check.fix("let Houston's user read and write everything in the state folder")
        }
    }
}

async fn audit_log(patient: &Patient) -> Vec<Check> {
    const ABOUT: &str = "audit log";
    let path = patient.state.join("audit.jsonl");
    if !path.exists() {
        return vec![Check::ok(ABOUT, "nothing is in it yet")];
    }
    let verifying = async {
        let mut tries = 0;
        loop {
            let path = path.clone();
            let verified = tokio::task::spawn_blocking(move || audit::verify(&path)).await;
            let half_written =
                matches!(verified, Ok(Err(VerifyError::Broken(_)))) && patient.daemon == Daemon::Runs;
            if !half_written || tries == 3 {
                return verified;
            }
            // The last line may be one that is just being written.
            tries += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let check = match tokio::time::timeout(patient.limit, verifying).await {
        Ok(Ok(Ok(summary))) => {
            let entries = if summary.entries == 1 { "entry" } else { "entries" };
            Check::ok(ABOUT, format!("{} {entries}, and the chain holds", summary.entries))
        }
        Ok(Ok(Err(VerifyError::Broken(broken)))) => {
            Check::problem(ABOUT, format!("it was tampered with or damaged: {broken}"))
                .fix("compare it with an export that you kept elsewhere; then move it aside, so that a new chain begins")
        }
        Ok(Ok(Err(VerifyError::Io(error)))) => Check::problem(ABOUT, format!("it cannot be read: {error}"))
            .fix("let Houston's user read and write it: without it no run starts"),
        Ok(Err(error)) => Check::problem(ABOUT, format!("it cannot be verified: {error}"))
            .fix("`houston audit verify` tries again"),
        Err(_) => Check::warning(ABOUT, format!("not verified within {}", text::duration(patient.limit)))
            .fix("`houston audit verify` takes the time that it needs"),
    };
    vec![check]
}

async fn listening(listen: SocketAddr, daemon: &Daemon) -> Vec<Check> {
    const ABOUT: &str = "http.listen";
    if *daemon == Daemon::Runs {
        let reached =
            tokio::time::timeout(Duration::from_secs(5), tokio::net::TcpStream::connect(listen)).await;
        return vec![match reached {
            Ok(Ok(_)) => Check::ok(ABOUT, format!("the running Houston listens on {listen}")),
            _ => Check::warning(ABOUT, format!("a Houston runs, and nobody listens on {listen}"))
                .fix("restart it: a changed `http.listen` is not taken up by a reload"),
        }];
    }
    vec![match tokio::net::TcpListener::bind(listen).await {
        Ok(_) => Check::ok(ABOUT, format!("{listen} is free")),
        Err(error) => Check::problem(ABOUT, format!("Houston could not listen on {listen}: {error}")).fix(
            match error.kind() {
                io::ErrorKind::AddrInUse => format!(
                    "another program has it (`ss -ltnp 'sport = :{}'`): stop that one, or choose another port in \
                     houston.yaml",
                    listen.port()
                ),
                io::ErrorKind::AddrNotAvailable => {
                    "choose an address of this machine in houston.yaml, such as 127.0.0.1".to_owned()
                }
                _ => "choose another address or port in houston.yaml".to_owned(),
            },
        ),
    }]
}

async fn ssh_client(patient: &Patient) -> Vec<Check> {
    const ABOUT: &str = "ssh";
    let command =
        Command { program: "ssh".into(), args: vec!["-V".into()], stdin: None, timeout: Some(patient.limit) };
    let local = Local::new(patient.redactor.clone());
    let install = "install OpenSSH's client where Houston runs (Debian: `apt-get install openssh-client`)";
    vec![match local.run(&command, &|_, _| {}, &CancellationToken::new()).await {
        Ok(exit) if exit.code == Some(0) => Check::ok(ABOUT, exit.tail.trim().to_owned()),
        Ok(exit) => Check::problem(ABOUT, format!("`ssh -V` fails: {}", exit.tail.trim())).fix(install),
        Err(error) => Check::problem(ABOUT, error.to_string()).fix(install),
    }]
}
