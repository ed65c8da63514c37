//! One task's life: its process is started, watched, asked for its health and ended.
//!
//! Must not: decide whether a task is wanted; `orchestrate` does, and is told when a task has ended.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::logs::Stream;
use super::spec::{self, HealthCheck};
use super::world::{Container, Shared, State, hex_id};
use super::{Behaviour, STOP_GRACE, TASK_SUBCOMMAND, orchestrate, task};

/// Lives the whole life of a task, and tells the orchestrator of its end.
pub fn launch(shared: &Arc<Shared>, id: String) {
    let shared = shared.clone();
    shared.tracker.clone().spawn(async move {
        live(&shared, &id).await;
        orchestrate::after_end(&shared, &id).await;
    });
}

/// Why a task's process is ended from here.
enum End {
    /// It ended by itself.
    Exited(ExitStatus),
    Unhealthy,
    Stopped,
}

async fn live(shared: &Arc<Shared>, id: &str) {
    let Some((service, part, placed)) = shared.read(|world| {
        let task = world.tasks.get(id)?;
        let service = world.services.get(&task.service)?;
        Some((spec::name(&service.spec).to_owned(), task.part.clone(), task.node.is_some()))
    }) else {
        return;
    };
    let stop = shared.read(|world| world.tasks.get(id).map(|task| task.stop.clone()));
    let Some(stop) = stop else { return };
    if !placed {
        // It waits for a node until its service changes; then it is replaced.
        stop.cancelled().await;
        return end(shared, id, State::Shutdown, "shutdown", String::new());
    }
    shared.change_task(id, |task| {
        task.state = State::Preparing;
        task.message = "preparing".to_owned();
    });
    let image = spec::image(&part).to_owned();
    let key = spec::image_key(&image);
    let Some(behaviour) = shared.options.images.get(&key).copied() else {
        return end(shared, id, State::Rejected, "preparing", format!("No such image: {image}"));
    };
    let mut child = match spawn(shared, id, &service, &key, behaviour) {
        Ok(child) => child,
        Err(error) => {
            let error = format!("starting container failed: {error}");
            return end(shared, id, State::Rejected, "preparing", error);
        }
    };
    let pid = child.id().unwrap_or(0);
    // Held here until the task's end: `wait` would close it, and the process would take that for our death.
    let _lifeline = child.stdin.take();
    let template = part.get("TaskTemplate").cloned().unwrap_or_default();
    let health = spec::health(&template, image_health(behaviour));
    shared.change_task(id, |task| {
        task.state = State::Starting;
        task.message = "starting".to_owned();
        task.container = Some(Container {
            id: hex_id(),
            pid,
            exit: None,
            health: health.map(|_| "starting"),
            failing_streak: 0,
        });
    });
    let (found, port) = oneshot::channel();
    let out = child
        .stdout
        .take()
        .map(|pipe| collect(shared.clone(), id.to_owned(), Stream::Out, pipe, Some(found)));
    let err = child.stderr.take().map(|pipe| collect(shared.clone(), id.to_owned(), Stream::Err, pipe, None));
    let readers = futures_util::future::join_all(out.into_iter().map(tokio::spawn));
    let more_readers = futures_util::future::join_all(err.into_iter().map(tokio::spawn));

    let ended = tokio::select! {
        biased;
        () = stop.cancelled() => End::Stopped,
        status = child.wait() => status.map_or(End::Stopped, End::Exited),
        () = watch_health(shared, id, port, health) => End::Unhealthy,
    };
    let status = match &ended {
        End::Exited(status) => Some(*status),
        End::Stopped | End::Unhealthy => terminate(shared, id, &mut child, pid).await,
    };
    // The pipes end with the process; a grandchild that holds them open is not waited for.
    let _ = timeout(Duration::from_millis(500), async { tokio::join!(readers, more_readers) }).await;
    let code = status.map_or(137, exit_code);
    shared.change_task(id, |task| {
        if let Some(container) = &mut task.container {
            container.exit = Some(code);
        }
    });
    match ended {
        End::Stopped => end(shared, id, State::Shutdown, "shutdown", String::new()),
        End::Unhealthy => {
            let error = format!("task: non-zero exit ({code}): dockerexec: unhealthy container");
            end(shared, id, State::Failed, "started", error);
        }
        End::Exited(_) if code == 0 => end(shared, id, State::Complete, "finished", String::new()),
        End::Exited(_) => end(shared, id, State::Failed, "started", format!("task: non-zero exit ({code})")),
    }
}

fn end(shared: &Shared, id: &str, state: State, message: &str, error: String) {
    shared.change_task(id, |task| {
        task.state = state;
        task.message = message.to_owned();
        task.error = error;
        task.port = None;
        if task.desired == State::Running {
            task.desired = State::Shutdown;
        }
    });
}

/// As a shell and Docker count: 128 and the signal for a process that was killed.
fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(9))
}

/// What the sample images declare as their HEALTHCHECK.
fn image_health(behaviour: Behaviour) -> HealthCheck {
    HealthCheck {
        interval: Duration::from_millis(200),
        timeout: Duration::from_secs(1),
        retries: 3,
        start_period: match behaviour {
            Behaviour::Slow(millis) => Duration::from_millis(millis) + Duration::from_secs(1),
            _ => Duration::ZERO,
        },
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the engine's tasks are its own children, not Houston's commands"
)]
fn spawn(
    shared: &Shared,
    id: &str,
    service: &str,
    key: &str,
    behaviour: Behaviour,
) -> std::io::Result<Child> {
    let version = key.rsplit(':').next().unwrap_or(key);
    let mut command = Command::new(&shared.options.program);
    command.args([TASK_SUBCOMMAND, "--version", version, "--port", "0", "--service", service, "--task", id]);
    match behaviour {
        Behaviour::Healthy => {}
        Behaviour::Crash => {
            command.args(["--fail", "crash"]);
        }
        Behaviour::Unhealthy => {
            command.args(["--fail", "health"]);
        }
        Behaviour::Slow(millis) => {
            command.args(["--slow-ms", &millis.to_string()]);
        }
    }
    // A group of its own: Ctrl-C in the terminal is for the engine's owner. The pipe to its standard
    // input is how a task notices that this process has died.
    command
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Lets the front's connections finish, then SIGTERM, then SIGKILL for the whole group.
async fn terminate(shared: &Shared, id: &str, child: &mut Child, pid: u32) -> Option<ExitStatus> {
    let idle =
        shared.wait_for(|world| world.tasks.get(id).is_none_or(|task| task.connections == 0).then_some(()));
    if !shared.read(|world| world.stopping) {
        let _ = timeout(STOP_GRACE, idle).await;
    }
    let group = i32::try_from(pid).ok().filter(|pid| *pid > 1).map(Pid::from_raw);
    if let Some(group) = group {
        let _ = killpg(group, Signal::SIGTERM);
    }
    if let Ok(status) = timeout(STOP_GRACE, child.wait()).await {
        return status.ok();
    }
    if let Some(group) = group {
        let _ = killpg(group, Signal::SIGKILL);
    }
    child.wait().await.ok()
}

/// Reads a stream into the task's log. The port line is not log, but the answer to `found`.
async fn collect(
    shared: Arc<Shared>,
    id: String,
    stream: Stream,
    pipe: impl AsyncRead + Unpin,
    mut found: Option<oneshot::Sender<u16>>,
) {
    let mut lines = BufReader::new(pipe).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).into_owned();
        let port = line.strip_prefix(task::PORT_LINE).and_then(|port| port.parse().ok());
        if let (Some(port), Some(found)) = (port, found.take()) {
            let _ = found.send(port);
            continue;
        }
        let at = shared.now();
        shared.touch(|world| {
            if let Some(task) = world.tasks.get_mut(&id) {
                task.log.push(at, stream, line);
            }
        });
    }
}

/// Marks the task running when it is healthy (without a health check: when it listens). Returns when it
/// has become unhealthy.
async fn watch_health(shared: &Shared, id: &str, port: oneshot::Receiver<u16>, check: Option<HealthCheck>) {
    let Ok(port) = port.await else { return std::future::pending().await };
    shared.change_task(id, |task| task.port = Some(port));
    let running = |health: Option<&'static str>| {
        shared.change_task(id, |task| {
            task.state = State::Running;
            task.message = "started".to_owned();
            if let Some(container) = &mut task.container {
                container.health = health;
            }
        });
    };
    let Some(check) = check else {
        running(None);
        return std::future::pending().await;
    };
    let started = Instant::now();
    let (mut healthy, mut failures) = (false, 0u32);
    loop {
        let answer = matches!(timeout(check.timeout, ask(port)).await, Ok(Ok(200)));
        match (answer, healthy) {
            (true, false) => {
                healthy = true;
                running(Some("healthy"));
            }
            (true, true) if failures > 0 => note_failures(shared, id, 0),
            (true, true) => {}
            (false, false) if started.elapsed() < check.start_period => {}
            (false, _) => {
                failures += 1;
                note_failures(shared, id, failures);
                if failures >= check.retries {
                    shared.change_task(id, |task| {
                        if let Some(container) = &mut task.container {
                            container.health = Some("unhealthy");
                        }
                    });
                    return;
                }
            }
        }
        if answer {
            failures = 0;
        }
        sleep(check.interval).await;
    }
}

fn note_failures(shared: &Shared, id: &str, failures: u32) {
    shared.touch(|world| {
        if let Some(container) = world.tasks.get_mut(id).and_then(|task| task.container.as_mut()) {
            container.failing_streak = failures;
        }
    });
}

/// `GET /health` of a task: the status code.
async fn ask(port: u16) -> std::io::Result<u16> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut head = [0u8; 12]; // `HTTP/1.1 200`
    connection.read_exact(&mut head).await?;
    let code = std::str::from_utf8(&head[9..]).ok().and_then(|code| code.parse().ok());
    code.ok_or_else(|| std::io::Error::other("not HTTP"))
}
