//! Commands over SSH, against a real sshd: the one that `tests/parts/sshd.sh start` prints, in
//! `HOUSTON_TEST_SSHD`. Without it every test here is skipped, loudly, and under `CI=true` it fails.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::parts;
use houston::config::environment::Host;
use houston::diagnostic::Location;
use houston::exec::ssh::{SshHost, SshOptions, SshPool};
use houston::exec::{Command, ExecError, Exit, Runner as _, Stream};
use houston::ids::EnvName;
use houston::secret::Redactor;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where the account is at home that commands run as.
fn part_home() -> std::path::PathBuf {
    parts::sshd().expect("the part is there").join("home")
}

/// A pool of its own, and the sshd as a host. `None`: there is no sshd.
pub struct Part {
    pub pool: SshPool,
    pub host: Host,
    pub redactor: Redactor,
    pub dir: tempfile::TempDir,
}

pub fn part() -> Option<Part> {
    let base = parts::sshd()?;
    let port = std::fs::read_to_string(base.join("port")).expect("the part says its port");
    let host = Host {
        name: "node1".into(),
        address: "127.0.0.1".into(),
        user: None,
        port: port.trim().parse().expect("a port"),
        identity: Some(base.join("id")),
        known_hosts: Some(base.join("known_hosts")),
        jump: vec![],
        at: Location::new("environments/test.yaml", 1, 1),
    };
    let dir = tempfile::tempdir().expect("a folder");
    let redactor = Redactor::new();
    let pool = SshPool::new(dir.path(), options(), redactor.clone()).expect("a pool");
    Some(Part { pool, host, redactor, dir })
}

pub fn options() -> SshOptions {
    SshOptions {
        alive_interval: Duration::from_secs(1),
        grace: Duration::from_secs(1),
        ..SshOptions::default()
    }
}

impl Part {
    pub fn ssh(&self) -> SshHost {
        self.pool.host(&EnvName::new("test"), &self.host)
    }
}

pub fn argv(words: &[&str]) -> Command {
    Command {
        program: words[0].into(),
        args: words[1..].iter().map(|w| (*w).to_owned()).collect(),
        stdin: None,
        timeout: Some(Duration::from_secs(60)),
    }
}

pub fn sh(script: &str) -> Command {
    argv(&["sh", "-c", script])
}

async fn run(ssh: &SshHost, command: &Command) -> Result<Exit, ExecError> {
    ssh.run(command, &|_, _| {}, &CancellationToken::new()).await
}

pub async fn tail(ssh: &SshHost, script: &str) -> String {
    run(ssh, &sh(script)).await.expect("runs").tail
}

/// Kills the server's end of the connection, as a crash or a cut would. The host is this machine.
pub async fn kill_connection(ssh: &SshHost) {
    // The parent of a command is the sshd that serves the connection.
    let server: i32 = tail(ssh, "echo $PPID").await.trim().parse().expect("a process id");
    kill(Pid::from_raw(server), Signal::SIGKILL).expect("the connection's sshd is there");
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn is_gone(process: i32) -> bool {
    kill(Pid::from_raw(process), None) == Err(Errno::ESRCH)
}

fn not_started(result: Result<(), ExecError>) -> (String, String, bool) {
    match result {
        Err(ExecError::NotStarted { reason, hint, transient, .. }) => {
            (reason, hint.unwrap_or_default(), transient)
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_come_back_as_they_are_127_and_255_included() {
    let Some(part) = part() else { return };
    let ssh = part.ssh();
    for code in [0, 1, 42, 126, 127, 128, 254, 255] {
        let exit = run(&ssh, &sh(&format!("exit {code}"))).await.expect("runs");
        assert_eq!(exit.code, Some(code));
    }
    let exit = run(&ssh, &argv(&["no-such-program"])).await.expect("the shell says so");
    assert_eq!(exit.code, Some(127));
    assert!(exit.tail.contains("no-such-program"), "{}", exit.tail);
    let killed = run(&ssh, &sh("kill -KILL $$")).await.expect("is told from a lost connection");
    assert_eq!(killed.code, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_arrive_as_they_are() {
    let Some(part) = part() else { return };
    let ssh = part.ssh();
    for odd in ["; $(id) `id` ' \" \n é * ~ \\ && | > !x #", "", " ", "-n", "a\tb", "'\\''", "$HOME", "%s\\n"]
    {
        let exit = run(&ssh, &argv(&["printf", "[%s]", odd])).await.expect("runs");
        assert_eq!((exit.code, exit.tail.as_str()), (Some(0), format!("[{odd}]").as_str()));
    }
    let nul = run(&ssh, &argv(&["echo", "a\0b"])).await;
    assert!(matches!(nul, Err(ExecError::NotStarted { transient: false, .. })), "{nul:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_handed_out_while_the_command_runs_and_secrets_are_taken_out() {
    let Some(part) = part() else { return };
    part.redactor.learn("MARKER-s3cr3t");
    let ssh = part.ssh();
    let gate = part.dir.path().join("gate");
    let lines = Mutex::new(Vec::new());
    let on_line = |stream: Stream, line: &str| {
        // Only a line that came before the end can open the gate that the command waits at.
        std::fs::write(&gate, "").expect("opens the gate");
        lines.lock().expect("no panic").push((stream, line.to_owned()));
    };
    let script = format!(
        "echo MARKER-s3cr3t; while [ ! -e '{}' ]; do sleep 0.05; done; echo oops >&2; printf end",
        gate.display()
    );
    let exit = ssh.run(&sh(&script), &on_line, &CancellationToken::new()).await.expect("runs");
    let lines = lines.into_inner().expect("no panic");
    assert_eq!(lines[0], (Stream::Out, "[redacted]".into()));
    assert!(lines.contains(&(Stream::Err, "oops".into())) && lines.contains(&(Stream::Out, "end".into())));
    assert_eq!(lines.len(), 3, "the mark of the process group is not handed out: {lines:?}");
    assert!(exit.tail.starts_with("[redacted]\n"), "{}", exit.tail);
}

#[tokio::test(flavor = "multi_thread")]
async fn input_and_a_long_output_come_through_whole() {
    let Some(part) = part() else { return };
    let ssh = part.ssh();
    let mut command = argv(&["cat"]);
    command.stdin = Some("0123456789abcde\n".repeat(200_000));
    let bytes = Mutex::new(0);
    let on_line = |_: Stream, line: &str| *bytes.lock().expect("no panic") += line.len() + 1;
    let exit = ssh.run(&command, &on_line, &CancellationToken::new()).await.expect("runs");
    assert_eq!(exit.code, Some(0));
    assert_eq!(bytes.into_inner().expect("no panic"), 3_200_000);
    assert!(exit.tail.len() <= 64 * 1024);
    // A command that does not read its input is no error.
    command.program = "true".into();
    assert_eq!(run(&ssh, &command).await.expect("runs").code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_key_is_refused_with_the_line_that_scans_it() {
    let Some(mut part) = part() else { return };
    let empty = part.dir.path().join("known_hosts");
    std::fs::write(&empty, "").expect("writes");
    part.host.known_hosts = Some(empty.clone());
    let (reason, hint, transient) = not_started(part.ssh().connect().await);
    assert_eq!(reason, "the host key is not known");
    let scan = format!("ssh-keyscan -p {} 127.0.0.1 >> {}", part.host.port, empty.display());
    assert!(hint.contains(&scan) && hint.contains("fingerprint"), "{hint}");
    assert!(!transient);
    assert_eq!(std::fs::read_to_string(&empty).expect("reads"), "", "the key was not added");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_host_key_is_refused_and_said_to_be_one() {
    let Some(mut part) = part() else { return };
    let changed = part.dir.path().join("known_hosts");
    // The login key's public half serves as a key that is not the host's.
    let other =
        std::fs::read_to_string(part.host.identity.clone().expect("an identity").with_extension("pub"))
            .expect("reads");
    std::fs::write(&changed, format!("[127.0.0.1]:{} {other}", part.host.port)).expect("writes");
    part.host.known_hosts = Some(changed.clone());
    let (reason, hint, transient) = not_started(part.ssh().connect().await);
    assert!(reason.contains("NOT the one that is known"), "{reason}");
    assert!(hint.contains("ssh-keygen -f") && hint.contains("-R"), "{hint}");
    assert!(!transient);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_not_connecting_says_what_to_do() {
    let Some(part) = part() else { return };
    let with = |change: &dyn Fn(&mut Host)| {
        let mut host = part.host.clone();
        change(&mut host);
        part.pool.host(&EnvName::new("test"), &host)
    };
    let refused =
        with(&|h| h.identity = Some(h.identity.clone().expect("an identity").with_file_name("host")));
    let (reason, hint, transient) = not_started(refused.connect().await);
    assert!(reason.contains("refused") && hint.contains("authorized_keys") && !transient, "{reason}: {hint}");

    let closed = with(&|h| h.port = 1);
    let (reason, hint, transient) = not_started(closed.connect().await);
    assert!(reason.contains("refused") && hint.contains("is sshd running") && transient, "{reason}: {hint}");

    let missing = with(&|h| h.identity = Some("/no/such/key".into()));
    let (reason, _, transient) = not_started(missing.connect().await);
    assert!(reason.contains("/no/such/key") && !transient, "{reason}");

    let option = with(&|h| h.address = "-oProxyCommand=touch${IFS}/tmp/owned".into());
    let (reason, _, transient) = not_started(option.connect().await);
    assert!(reason.contains("cannot be used as address") && !transient, "{reason}");

    let unknown = with(&|h| h.address = "no-such-host.invalid".into());
    let (reason, hint, _) = not_started(unknown.connect().await);
    assert!(reason.contains("name is not known") && hint.contains("DNS"), "{reason}: {hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_stops_the_remote_process_and_its_children() {
    let Some(part) = part() else { return };
    let ssh = part.ssh();
    let file = part.dir.path().join("ids");
    let mut command = sh(&format!(
        "sleep 1000 & echo $$ $! > '{0}.new'; mv '{0}.new' '{0}'; trap '' TERM; while :; do sleep 1; done",
        file.display()
    ));
    command.timeout = Some(Duration::from_secs(3));
    let result = run(&ssh, &command).await;
    assert!(matches!(result, Err(ExecError::TimedOut { after, .. }) if after.as_secs() == 3), "{result:?}");
    let ids = std::fs::read_to_string(&file).expect("the command ran");
    for id in ids.split_whitespace() {
        assert!(is_gone(id.parse().expect("an id")), "process {id} is still there");
    }
    assert_eq!(tail(&ssh, "echo still usable").await, "still usable");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_kills_the_remote_process() {
    let Some(part) = part() else { return };
    let ssh = part.ssh();
    let cancel = CancellationToken::new();
    let id = Mutex::new(0);
    let on_line = |_: Stream, line: &str| {
        *id.lock().expect("no panic") = line.parse().expect("an id");
        cancel.cancel();
    };
    let result = ssh.run(&sh("echo $$; exec sleep 1000"), &on_line, &cancel).await;
    assert!(matches!(result, Err(ExecError::Cancelled { .. })), "{result:?}");
    assert!(is_gone(id.into_inner().expect("no panic")));
    let again = ssh.run(&sh("echo never"), &|_, _| panic!("was started"), &cancel).await;
    assert!(matches!(again, Err(ExecError::Cancelled { .. })), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_killed_in_the_middle_is_lost_and_the_next_command_connects_anew() {
    let Some(part) = part() else { return };
    let ssh = part.ssh();
    let started = tokio::sync::Notify::new();
    let on_line = |_: Stream, _: &str| started.notify_one();
    let command = sh("echo started; sleep 20");
    let cancel = CancellationToken::new();
    let (result, ()) = tokio::join!(ssh.run(&command, &on_line, &cancel), async {
        started.notified().await;
        kill_connection(&ssh).await;
    });
    assert!(matches!(result, Err(ExecError::Lost { .. })), "{result:?}");
    assert_eq!(tail(&ssh, "echo back").await, "back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_noticed_by_keepalive() {
    let Some(part) = part() else { return };
    let ssh = part.ssh();
    let server: i32 = tail(&ssh, "echo $PPID").await.trim().parse().expect("a process id");
    let started = tokio::sync::Notify::new();
    let on_line = |_: Stream, _: &str| started.notify_one();
    let command = sh("echo started; sleep 30");
    let cancel = CancellationToken::new();
    let begun = Instant::now();
    let (result, ()) = tokio::join!(ssh.run(&command, &on_line, &cancel), async {
        started.notified().await;
        kill(Pid::from_raw(server), Signal::SIGSTOP).expect("freezes");
    });
    let _ = kill(Pid::from_raw(server), Signal::SIGKILL);
    assert!(matches!(result, Err(ExecError::Lost { .. })), "{result:?}");
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_commands_than_channels_wait_for_their_turn() {
    let Some(part) = part() else { return };
    let ssh = part.ssh();
    let commands: Vec<_> = (0..20).map(|n| sh(&format!("sleep 0.1; echo {n}"))).collect();
    let results = futures_util::future::join_all(commands.iter().map(|c| run(&ssh, c))).await;
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(result.expect("runs").tail, n.to_string());
    }
}

/// sshd has them run before each command.
#[tokio::test(flavor = "multi_thread")]
async fn what_login_scripts_say_is_no_output_of_the_command() {
    let Some(part) = part() else { return };
    let ssh = part.ssh();
    // The account's shell is bash, which reads this file also for a command that sshd starts.
    let script = part_home().join(".bashrc");
    std::fs::write(&script, "echo 'a login script complains' >&2\n").expect("writes");
    let heard = tail(&ssh, "echo out; echo err >&2").await;
    std::fs::remove_file(&script).expect("removes");
    let mut lines: Vec<&str> = heard.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["err", "out"]);
}

/// sshd often tells that a command has ended before it has sent what the command wrote.
#[tokio::test(flavor = "multi_thread")]
async fn output_that_comes_after_the_end_is_not_lost() {
    let Some(part) = part() else { return };
    let ssh = part.ssh();
    let size = 300_000;
    let commands: Vec<_> = (0..64).map(|_| sh(&format!("head -c {size} /dev/zero | tr '\\0' x"))).collect();
    let bytes = std::sync::atomic::AtomicUsize::new(0);
    for commands in commands.chunks(8) {
        let count = |_: Stream, line: &str| {
            bytes.fetch_add(line.len(), std::sync::atomic::Ordering::Relaxed);
        };
        let cancel = CancellationToken::new();
        for result in
            futures_util::future::join_all(commands.iter().map(|c| ssh.run(c, &count, &cancel))).await
        {
            assert_eq!(result.expect("runs").code, Some(0));
        }
    }
    assert_eq!(bytes.into_inner(), size * commands.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_leaves_something_behind_has_ended() {
    let Some(part) = part() else { return };
    for chatter in ["sleep 47", "while :; do echo again; sleep 0.5; done"] {
        let started = Instant::now();
        let left = run(&part.ssh(), &sh(&format!("({chatter}) & echo $!"))).await.expect("runs").tail;
        assert!(started.elapsed() < Duration::from_secs(40), "{chatter}: {:?}", started.elapsed());
        let left = left.lines().find_map(|line| line.parse().ok()).expect("a process id");
        kill(Pid::from_raw(left), Signal::SIGKILL).expect("it goes on");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_host_is_gone_through_with_the_same_strictness() {
    let Some(mut part) = part() else { return };
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("reads").expect("a user").name;
    part.host.jump = vec![format!("{user}@localhost:{}", part.host.port)];
    // Known hosts and key hold for both: the host is its own jump host, by another name.
    assert_eq!(tail(&part.ssh(), "echo through").await, "through");
    let empty = part.dir.path().join("known_hosts");
    std::fs::write(&empty, "").expect("writes");
    part.host.known_hosts = Some(empty);
    let (_, hint, _) = not_started(part.ssh().connect().await);
    assert!(hint.contains("jump host"), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarded_socket_serves_http_and_survives_a_killed_connection() {
    let Some(part) = part() else { return };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let remote = part.dir.path().join("engine.sock");
    let listener = tokio::net::UnixListener::bind(&remote).expect("binds");
    let app = axum::Router::new().route("/version", axum::routing::get(|| async { "engine 1" }));
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let ssh = part.ssh();
    let local = ssh.forward_socket(&remote).await.expect("forwards").local;
    assert_eq!(mode(&local) & 0o077, 0, "others cannot use it");
    let client = reqwest::Client::builder().unix_socket(local.clone()).build().expect("a client");
    let get = || async { client.get("http://engine/version").send().await?.text().await };
    assert_eq!(get().await.expect("answers"), "engine 1");

    kill_connection(&ssh).await;
    // The local end dies with the connection; asking again makes it anew under the same path.
    eventually("the dead connection is noticed", || std::os::unix::net::UnixStream::connect(&local).is_err())
        .await;
    assert_eq!(ssh.forward_socket(&remote).await.expect("forwards again").local, local);
    assert_eq!(get().await.expect("answers"), "engine 1");
    server.abort();
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).expect("is there").permissions().mode()
}

#[tokio::test(flavor = "multi_thread")]
async fn masters_of_a_process_that_is_gone_are_ended() {
    let Some(part) = part() else { return };
    let ssh = part.ssh();
    let server: i32 = tail(&ssh, "echo $PPID").await.trim().parse().expect("a process id");
    // As if this process had been killed: its folder stays, under a process id that nobody has.
    let own = std::fs::read_dir(part.dir.path()).expect("reads").flatten().next().expect("one folder").path();
    std::fs::rename(&own, part.dir.path().join("p2147483000-0")).expect("renames");
    let next = SshPool::new(part.dir.path(), SshOptions::default(), Redactor::new()).expect("a pool");
    eventually("the old connection ends", || is_gone(server)).await;
    assert!(!part.dir.path().join("p2147483000-0").exists());
    drop(next);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_a_pool_leaves_no_connection_behind() {
    let Some(part) = part() else { return };
    let ssh = part.ssh();
    let server: i32 = tail(&ssh, "echo $PPID").await.trim().parse().expect("a process id");
    part.pool.close().await;
    eventually("the connection ends", || is_gone(server)).await;
    assert_eq!(tail(&ssh, "echo again").await, "again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_with_a_long_path_still_has_sockets() {
    let Some(part) = part() else { return };
    let long = part.dir.path().join("x".repeat(120));
    let pool = SshPool::new(&long, SshOptions::default(), Redactor::new()).expect("a pool");
    assert_eq!(tail(&pool.host(&EnvName::new("test"), &part.host), "echo fits").await, "fits");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_closes_itself() {
    let Some(part) = part() else { return };
    let options = SshOptions { idle: Duration::from_secs(1), ..SshOptions::default() };
    let pool = SshPool::new(part.dir.path(), options, Redactor::new()).expect("a pool");
    let ssh = pool.host(&EnvName::new("test"), &part.host);
    let server: i32 = tail(&ssh, "echo $PPID").await.trim().parse().expect("a process id");
    eventually("the idle connection ends", || is_gone(server)).await;
    assert_eq!(tail(&ssh, "echo again").await, "again");
}
