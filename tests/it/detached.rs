//! Commands that are left to a host, against a real sshd: they outlive the connection and Houston, start once,
//! and are stopped as a whole.
//!
//! Must not: leave a job behind on the host.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use houston::clock::Clock;
use houston::exec::ssh::{SshHost, SshPool};
use houston::exec::{Command, Detached, ExecError, Exit, Follow, Host as _, Standing};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::ssh::{Part, eventually, is_gone, kill_connection, options, part, sh, tail};
use crate::step_kinds::{hosts, house};
use crate::support::parts;

/// What was heard of a job.
#[derive(Default)]
struct Ear {
    lines: Mutex<Vec<String>>,
    seen: Mutex<u64>,
    statuses: Mutex<Vec<String>>,
}

impl Follow for Ear {
    fn line(&self, line: &str) {
        self.lines.lock().unwrap().push(line.to_owned());
    }
    fn seen(&self, bytes: u64) {
        *self.seen.lock().unwrap() = bytes;
    }
    fn status(&self, text: &str) {
        self.statuses.lock().unwrap().push(text.to_owned());
    }
}

impl Ear {
    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

/// A job of a test, with a name of its own and a folder to leave marks in.
struct Job {
    part: Part,
    name: String,
    marks: tempfile::TempDir,
    command: Command,
    cancel: CancellationToken,
    ear: Arc<Ear>,
}

impl Job {
    /// `$M` is the folder for marks. The script notes each of its starts there.
    fn new(script: &str) -> Option<Self> {
        let part = part()?;
        let marks = tempfile::tempdir().expect("a folder");
        let m = marks.path().display();
        let command = sh(&format!("M={m}; echo $$ >>$M/starts; {script}"));
        let name = format!("houston-test-{}", houston::ids::random_id());
        Some(Self { part, name, marks, command, cancel: CancellationToken::new(), ear: Arc::default() })
    }

    async fn follow(&self, host: &SshHost, seen: u64, resumed: bool) -> Result<Exit, ExecError> {
        let job = Detached { name: &self.name, command: &self.command, seen, resumed };
        host.follow(&job, &*self.ear, &self.cancel).await
    }

    fn mark(&self, name: &str) -> PathBuf {
        self.marks.path().join(name)
    }

    fn starts(&self) -> Vec<i32> {
        let starts = std::fs::read_to_string(self.mark("starts")).unwrap_or_default();
        starts.lines().map(|line| line.parse().expect("a process id")).collect()
    }

    /// The job's folder on the host, which is this machine.
    fn folder(&self) -> PathBuf {
        let base = parts::sshd().expect("the part is there");
        base.join("state/houston/jobs").join(&self.name)
    }

    /// It ran once, and nothing of it is left.
    async fn over(self, host: &SshHost) {
        assert_eq!(self.starts().len(), 1, "it was started once");
        host.clear(&self.name).await;
        assert!(!self.folder().exists(), "nothing is left on the host");
        assert_eq!(host.standing(&self.name).await.expect("answers"), Standing::Absent);
    }
}

/// Writes five lines, the rest only when somebody allows it.
const HALTING: &str = "for n in 1 2 3 4 5; do echo line $n; done; until [ -e $M/go ]; do sleep 0.05; done; echo line 6; printf end; exit 5";

fn numbered(from: usize) -> Vec<String> {
    (from..=6).map(|n| format!("line {n}")).chain(["end".to_owned()]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_outlives_its_connection_and_every_line_comes_once() {
    let Some(job) = Job::new(HALTING) else { return };
    let ssh = job.part.ssh();
    let meanwhile = async {
        eventually("five lines", || job.ear.lines().len() == 5).await;
        kill_connection(&ssh).await;
        eventually("it is followed again", || {
            job.ear.statuses.lock().unwrap().iter().any(|status| status.contains("answers again"))
        })
        .await;
        std::fs::write(job.mark("go"), "").expect("writes");
    };
    let (exit, ()) = tokio::join!(job.follow(&ssh, 0, false), meanwhile);
    let exit = exit.expect("it ended by itself");
    assert_eq!(exit.code, Some(5));
    assert_eq!(job.ear.lines(), numbered(1));
    assert!(exit.tail.ends_with("line 6\nend"), "{}", exit.tail);
    job.over(&ssh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_houston_goes_on_where_the_last_one_was() {
    let Some(mut job) = Job::new(HALTING) else { return };
    {
        let ssh = job.part.ssh();
        tokio::select! {
            ended = job.follow(&ssh, 0, false) => panic!("{ended:?}"),
            () = eventually("what was read is told", || *job.ear.seen.lock().unwrap() == 35) => {}
        }
        // As when Houston is killed: nobody says anything to the host.
        kill_connection(&ssh).await;
    }
    let pool = SshPool::new(&job.part.dir.path().join("next"), options(), job.part.redactor.clone());
    job.part.pool = pool.expect("a pool");
    let ssh = job.part.ssh();
    assert_eq!(ssh.standing(&job.name).await.expect("answers"), Standing::Running);
    job.ear = Arc::default();
    std::fs::write(job.mark("go"), "").expect("writes");
    let exit = job.follow(&ssh, 35, true).await.expect("it ended by itself");
    assert_eq!((exit.code, job.ear.lines()), (Some(5), numbered(6)));
    // Whoever comes later still hears how it ended.
    assert_eq!(ssh.standing(&job.name).await.expect("answers"), Standing::Ended);
    job.ear = Arc::default();
    let again = job.follow(&ssh, 0, true).await.expect("it ended by itself");
    assert_eq!((again.code, job.ear.lines()), (Some(5), numbered(1)));
    job.over(&ssh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_one_name_a_host_runs_one_command() {
    let Some(job) = Job::new("cat; printf '[%s]\\n' \"$@\"; sleep 0.3; exit 7") else { return };
    let mut job = job;
    job.command.args.extend(["sh".to_owned(), "it's; $(id) \"x\" `y`".to_owned(), String::new()]);
    job.command.stdin = Some("input\n".to_owned());
    let ssh = job.part.ssh();
    let many = (0..4).map(|_| job.follow(&ssh, 0, false));
    for exit in futures_util::future::join_all(many).await {
        assert_eq!(exit.expect("ends").code, Some(7));
    }
    let once = ["input", "[it's; $(id) \"x\" `y`]", "[]"].map(str::to_owned);
    let mut heard = job.ear.lines();
    heard.sort();
    let mut expected: Vec<String> = once.iter().cycle().take(12).cloned().collect();
    expected.sort();
    assert_eq!(heard, expected, "each of four listeners hears all of it");
    assert!(!job.folder().join("in").exists(), "the input does not lie about");
    job.over(&ssh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_not_there_says_so() {
    let Some(mut job) = Job::new("true") else { return };
    job.command.program = "no-such-program".to_owned();
    let ssh = job.part.ssh();
    let exit = job.follow(&ssh, 0, false).await.expect("the shell says so");
    assert_eq!(exit.code, Some(127));
    assert!(exit.tail.contains("no-such-program"), "{}", exit.tail);
    ssh.clear(&job.name).await;
    assert!(!job.folder().exists());
}

/// It and its child do not listen to TERM.
const DEAF: &str = "trap '' TERM; sleep 600 & echo $! >$M/child; echo began; wait; sleep 600";

/// Once whoever inherited them has taken note.
async fn all_gone(job: &Job) {
    for process in [job.starts()[0], process(&job.mark("child"))] {
        eventually("it is gone", || is_gone(process)).await;
    }
}

fn process(path: &Path) -> i32 {
    std::fs::read_to_string(path).expect("it was noted").trim().parse().expect("a process id")
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_stops_the_whole_group_wherever_the_connection_is() {
    for lose_it in [false, true] {
        let Some(job) = Job::new(DEAF) else { return };
        let ssh = job.part.ssh();
        let meanwhile = async {
            eventually("it began", || !job.ear.lines().is_empty()).await;
            if lose_it {
                kill_connection(&ssh).await;
            }
            job.cancel.cancel();
        };
        let (ended, ()) = tokio::join!(job.follow(&ssh, 0, false), meanwhile);
        assert!(matches!(ended, Err(ExecError::Cancelled { .. })), "{ended:?}");
        all_gone(&job).await;
        job.over(&ssh).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_counts_from_when_it_began() {
    let Some(mut job) = Job::new(DEAF) else { return };
    let ssh = job.part.ssh();
    tokio::select! {
        ended = job.follow(&ssh, 0, false) => panic!("{ended:?}"),
        () = eventually("it began", || !job.ear.lines().is_empty()) => {}
    }
    // It began an hour ago, says the host.
    let claim = job.folder().join("claim");
    tail(&ssh, &format!("touch -d '1 hour ago' {}", claim.display())).await;
    job.command.timeout = Some(Duration::from_secs(1800));
    let ended = job.follow(&ssh, 0, true).await;
    assert!(matches!(ended, Err(ExecError::TimedOut { .. })), "{ended:?}");
    all_gone(&job).await;
    job.over(&ssh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_cancelled_before_it_began_never_begins() {
    let Some(job) = Job::new("true") else { return };
    let ssh = job.part.ssh();
    job.cancel.cancel();
    let ended = job.follow(&ssh, 0, false).await;
    assert!(matches!(ended, Err(ExecError::Cancelled { .. })), "{ended:?}");
    assert!(job.starts().is_empty());
    assert_eq!(ssh.standing(&job.name).await.expect("answers"), Standing::Absent);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_begin_in_time_is_said_not_to_have_begun_and_never_begins() {
    let Some(job) = Job::new("true") else { return };
    let ssh = job.part.ssh();
    // The host stalls where the wrapper has the name and not yet told its number.
    let stalled = job.folder().join("pid.new");
    let folder = job.folder().display().to_string();
    tail(&ssh, &format!("mkdir -p {folder} && mkfifo {}", stalled.display())).await;
    let ended = job.follow(&ssh, 0, false).await;
    let Err(ExecError::NotStarted { reason, .. }) = ended else { panic!("{ended:?}") };
    assert!(reason.contains("did not begin within 10 s"), "{reason}");
    // It goes on.
    let told = tail(&ssh, &format!("cat {}", stalled.display())).await;
    let wrapper = told.split_whitespace().next().expect("a number").parse().expect("a number");
    eventually("the wrapper has ended", || is_gone(wrapper)).await;
    assert!(job.starts().is_empty(), "nobody may start what was said not to have begun");
    ssh.clear(&job.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_host_has_forgotten_is_not_started_again() {
    let Some(job) = Job::new("echo begun; exit 0") else { return };
    let ssh = job.part.ssh();
    job.follow(&ssh, 0, false).await.expect("it ended by itself");
    ssh.clear(&job.name).await;
    let ended = job.follow(&ssh, 6, true).await;
    let Err(ExecError::Vanished { reason, .. }) = ended else { panic!("{ended:?}") };
    assert!(reason.contains("knows nothing of it any more"), "{reason}");
    job.over(&ssh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_somebody_killed_and_one_that_went_with_its_host_are_told_from_one_that_ended() {
    let Some(job) = Job::new("echo began; sleep 600") else { return };
    let ssh = job.part.ssh();
    let meanwhile = async {
        eventually("it began", || !job.ear.lines().is_empty()).await;
        // The wrapper with it, as when memory runs out or the host is shut down.
        tail(&ssh, &format!("kill -KILL -{}", process(&pid_file(&job)))).await;
    };
    let (ended, ()) = tokio::join!(job.follow(&ssh, 0, false), meanwhile);
    let Err(ExecError::Vanished { reason, .. }) = ended else { panic!("{ended:?}") };
    assert!(reason.contains("killed"), "{reason}");
    // The host was started again since.
    let pid = job.folder().join("pid");
    let text = std::fs::read_to_string(&pid).expect("reads");
    let (rest, _) = text.trim().rsplit_once(' ').expect("three words");
    std::fs::write(&pid, format!("{rest} 00000000-0000-0000-0000-000000000000\n")).expect("writes");
    let ended = job.follow(&ssh, 0, true).await;
    let Err(ExecError::Vanished { reason, .. }) = ended else { panic!("{ended:?}") };
    assert!(reason.contains("restarted"), "{reason}");
    job.over(&ssh).await;
}

/// The first word of `pid`: the group.
fn pid_file(job: &Job) -> PathBuf {
    let first = job.mark("group");
    let text = std::fs::read_to_string(job.folder().join("pid")).expect("reads");
    std::fs::write(&first, text.split_whitespace().next().expect("a number")).expect("writes");
    first
}

/// A way to the sshd that can be closed.
async fn gate(part: &mut Part) -> watch::Sender<bool> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let (port, to) = (listener.local_addr().expect("bound").port(), part.host.port);
    let (open, is_open) = watch::channel(true);
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let mut is_open = is_open.clone();
            if !*is_open.borrow() {
                continue;
            }
            tokio::spawn(async move {
                let Ok(mut sshd) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                tokio::select! {
                    _ = copy_bidirectional(&mut from, &mut sshd) => {}
                    _ = is_open.wait_for(|open| !open) => {}
                }
            });
        }
    });
    let keys = part.host.known_hosts.clone().expect("the part has one");
    let keys = std::fs::read_to_string(keys).expect("reads").replace(&format!(":{to}"), &format!(":{port}"));
    let known = part.dir.path().join("known_hosts_of_the_gate");
    std::fs::write(&known, keys).expect("writes");
    part.host.known_hosts = Some(known);
    part.host.port = port;
    open
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_out_of_reach_is_waited_for_and_said_to_be() {
    let Some(mut job) = Job::new(HALTING) else { return };
    let open = gate(&mut job.part).await;
    let ssh = job.part.ssh();
    let meanwhile = async {
        eventually("five lines", || job.ear.lines().len() == 5).await;
        open.send_replace(false);
        eventually("it says so", || {
            job.ear.statuses.lock().unwrap().iter().filter(|status| status.contains("out of reach")).count()
                >= 2
        })
        .await;
        open.send_replace(true);
        std::fs::write(job.mark("go"), "").expect("writes");
    };
    let (exit, ()) = tokio::join!(job.follow(&ssh, 0, false), meanwhile);
    assert_eq!(exit.expect("it ended by itself").code, Some(5));
    assert_eq!(job.ear.lines(), numbered(1));
    job.over(&ssh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_while_the_host_is_out_of_reach_nobody_knows() {
    let Some(mut job) = Job::new("echo began; until [ -e $M/go ]; do sleep 0.05; done") else { return };
    let open = gate(&mut job.part).await;
    let ssh = job.part.ssh();
    let meanwhile = async {
        eventually("it began", || !job.ear.lines().is_empty()).await;
        open.send_replace(false);
        job.cancel.cancel();
    };
    let (ended, ()) = tokio::join!(job.follow(&ssh, 0, false), meanwhile);
    let Err(ExecError::Lost { reason, .. }) = ended else { panic!("{ended:?}") };
    assert!(reason.contains("it was to be stopped"), "{reason}");
    assert!(!is_gone(job.starts()[0]), "and so it is");
    open.send_replace(true);
    std::fs::write(job.mark("go"), "").expect("writes");
    let job = Job { cancel: CancellationToken::new(), ..job };
    assert_eq!(job.follow(&ssh, 0, true).await.expect("taken up again").code, Some(0));
    job.over(&ssh).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_host_is_gone_through() {
    let Some(mut job) = Job::new(HALTING) else { return };
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).expect("reads").expect("a user").name;
    job.part.host.jump = vec![format!("{user}@localhost:{}", job.part.host.port)];
    std::fs::write(job.mark("go"), "").expect("writes");
    let ssh = job.part.ssh();
    assert_eq!(job.follow(&ssh, 0, false).await.expect("ends").code, Some(5));
    assert_eq!(job.ear.lines(), numbered(1));
    job.over(&ssh).await;
}

/// The jobs of runs of this test's Houston, by the folder that their command names.
fn jobs_with(marks: &Path) -> Vec<PathBuf> {
    let base = parts::sshd().expect("the part is there");
    let jobs = std::fs::read_dir(base.join("state/houston/jobs")).into_iter().flatten().flatten();
    let names_it = |job: &PathBuf| {
        std::fs::read_to_string(job.join("command"))
            .is_ok_and(|command| command.contains(&*marks.to_string_lossy()))
    };
    jobs.map(|job| job.path()).filter(names_it).collect()
}

/// A playbook with one command on the real host, and where it leaves its marks.
fn step(script: &str, marks: &Path) -> String {
    let m = marks.display();
    format!(
        "  - id: work\n    ssh: {{host: node1, command: [sh, -c, \"M={m}; echo $$ >>$M/starts; {script}\"]}}\n"
    )
}

#[tokio::test]
async fn houston_is_killed_while_a_command_runs_and_the_same_message_goes_on() {
    let Some(hosts) = hosts() else { return };
    let marks = tempfile::tempdir().expect("a folder");
    let script = "seq 1 50; touch $M/begun; until [ -e $M/go ]; do sleep 0.05; done; seq 51 100";
    let mut t = house(&step(script, marks.path()), Clock::system(), &hosts).await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    for kill in [true, false, true] {
        eventually("it began", || marks.path().join("begun").exists()).await;
        let asked = tokio::time::Instant::now();
        if kill {
            t.kill().await;
        } else {
            t.stop().await;
        }
        assert!(asked.elapsed() < Duration::from_secs(8), "nobody waits for what the host goes on with");
        t.start_again().await;
        t.until(&progress, &["taken up again after a restart"]).await;
    }
    std::fs::write(marks.path().join("go"), "").expect("writes");
    t.until(&progress, &[":white_check_mark: *R-1*", "done in"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    let starts = std::fs::read_to_string(marks.path().join("starts")).expect("reads");
    assert_eq!(starts.lines().count(), 1, "it ran once");
    let transcript = std::fs::read_dir(t.state().join("transcripts")).expect("transcripts");
    let whole: String =
        transcript.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).collect();
    assert!((1..=100).all(|n| whole.contains(&format!("{n}\n"))), "every line is kept: {whole}");
    eventually("nothing is left on the host", || jobs_with(marks.path()).is_empty()).await;
    t.end().await;
}

#[tokio::test]
async fn what_its_host_has_forgotten_while_houston_was_away_is_asked_about() {
    let Some(hosts) = hosts() else { return };
    let marks = tempfile::tempdir().expect("a folder");
    let script = "until [ -e $M/go ]; do echo tick; sleep 0.05; done; touch $M/over";
    let mut t = house(&step(script, marks.path()), Clock::system(), &hosts).await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    // Long enough that how far it was read has been noted.
    let ticks = || {
        let transcript = std::fs::read_to_string(t.state().join("transcripts/R-1.log"));
        transcript.unwrap_or_default().matches("tick").count()
    };
    eventually("much is read", || ticks() > 30).await;
    t.kill().await;
    std::fs::write(marks.path().join("go"), "").expect("writes");
    eventually("it is over", || marks.path().join("over").exists()).await;
    for job in jobs_with(marks.path()) {
        std::fs::remove_dir_all(job).expect("removes");
    }
    t.start_again().await;
    t.expect("ops", &["R-1", "its host knows nothing of it any more"]).await;
    t.say("alice", "ops", "!resolve R-1 happened").await;
    t.expect("ops", &["R-1 goes on"]).await;
    t.until(&progress, &[":white_check_mark: *R-1*", "done in"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    let starts = std::fs::read_to_string(marks.path().join("starts")).expect("reads");
    assert_eq!(starts.lines().count(), 1, "it ran once");
    t.end().await;
}

#[tokio::test]
async fn cancel_in_the_room_stops_a_command_of_an_earlier_process() {
    let Some(hosts) = hosts() else { return };
    let marks = tempfile::tempdir().expect("a folder");
    let script = "echo $$ >$M/child; trap '' TERM; touch $M/begun; while :; do sleep 0.2; done";
    let mut t = house(&step(script, marks.path()), Clock::system(), &hosts).await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    eventually("it began", || marks.path().join("begun").exists()).await;
    t.kill().await;
    t.start_again().await;
    t.until(&progress, &["taken up again after a restart"]).await;
    t.say("alice", "ops", "!cancel R-1").await;
    t.expect("ops", &["R-1"]).await;
    t.until(&progress, &["*R-1*", "cancelled"]).await;
    t.expect("ops", &["@alice", "cancelled"]).await;
    let child = process(&marks.path().join("child"));
    eventually("it is gone", || is_gone(child)).await;
    eventually("nothing is left on the host", || jobs_with(marks.path()).is_empty()).await;
    t.silence_but("ops", &[]).await;
    t.end().await;
}
