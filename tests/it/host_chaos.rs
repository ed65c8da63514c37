//! What becomes of a run whose host breaks under it: sshd is killed, the Docker daemon is killed and started again, the
//! network is cut or swallows everything, the disk is full. On a machine of its own, made by `tests/parts/host.sh`;
//! its folder stands in `HOUSTON_TEST_HOST`.
//!
//! Must not: leave the machine broken. Whoever has it next mends it first, all the same.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use houston::providers::swarm::Swarm;
use houston::sandbox::engine;
use tokio::time::Instant;

use crate::step_kinds::tour;
use crate::support::house::{House, Said, Setup};
use crate::support::parts;

/// One machine for all tests: one at a time has it.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// How long what a host is told may take to be so.
const PATIENCE: Duration = Duration::from_secs(60);

struct Machine {
    base: PathBuf,
    /// Where commands leave their marks.
    marks: tempfile::TempDir,
    /// The Swarm's name of this test's service.
    web: String,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Machine {
    /// A whole one. `None`, said loudly, where there is none and that is allowed.
    async fn whole() -> Option<Self> {
        let base = parts::host()?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let turn = TURN.lock().await;
        let web = format!("houston-chaos-{}", rand::random::<u32>());
        let machine = Self { base, marks: tempfile::tempdir().unwrap(), web, _turn: turn };
        for act in ["mend", "room", "revive ssh", "revive docker"] {
            machine.act(act).await;
        }
        Some(machine)
    }

    async fn act(&self, words: &str) {
        #[expect(clippy::disallowed_methods, reason = "a test starts the script of its part")]
        let mut command = tokio::process::Command::new("tests/parts/host.sh");
        command.args(words.split(' ')).env("HOUSTON_PARTS_DIR", self.base.parent().unwrap());
        let done = command.stdin(std::process::Stdio::null()).output().await.unwrap();
        assert!(done.status.success(), "{words}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn environment(&self) -> String {
        let base = self.base.display();
        let address = std::fs::read_to_string(self.base.join("address")).unwrap();
        format!(
            "approvals: {{default: none}}\n\
             hosts:\n  node1: {{ssh: \"{}\", identity: {base}/id, known_hosts: {base}/known_hosts}}\n\
             swarm: {{managers: [node1], socket: {base}/docker/docker.sock}}\n\
             services:\n  web:\n    image: app\n    version: v2\n    swarm_name: {}\n    \
             replicas: {{count: 1, min: 1, max: 3}}\n    endpoint_mode: dnsrr\n    \
             ports: [{{target: 8080, mode: host}}]\n    update: {{order: start-first, monitor: 2s}}\n",
            address.trim(),
            self.web
        )
    }

    /// A Houston whose `!tour far red` takes these steps there.
    async fn house(&self, steps: &str) -> House {
        let mut files = tour(steps);
        files.push(("environments/far.yaml", self.environment()));
        House::with(Setup { files, services: Vec::new(), ..Setup::default() }).await
    }

    /// A step with a command that notes each of its starts, then does `script`; `$M` is the folder for marks.
    fn command(&self, script: &str, more: &str) -> String {
        let m = self.marks.path().display();
        format!(
            "  - id: work\n    ssh: {{host: node1, command: [sh, -c, \"M={m}; echo $$ >>$M/starts; {script}\"]}}\n{more}"
        )
    }

    fn mark(&self, name: &str) -> PathBuf {
        self.marks.path().join(name)
    }

    fn starts(&self) -> usize {
        std::fs::read_to_string(self.mark("starts")).unwrap_or_default().lines().count()
    }

    /// Straight to the engine.
    fn swarm(&self) -> Arc<Swarm> {
        Arc::new(Swarm::local(self.base.join("docker/docker.sock")))
    }

    /// The service at v1, as somebody made it before.
    async fn serves(&self) {
        let swarm = self.swarm();
        swarm.create_service(&engine::service_spec(&self.web, "app:v1", 1)).await.expect("created");
        self.runs("app:v1").await;
    }

    async fn runs(&self, image: &str) {
        let swarm = self.swarm();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tasks = swarm.tasks(&self.web).await.unwrap_or_default();
            let running: Vec<_> = tasks.iter().filter(|task| task.is_running()).collect();
            // An engine that was killed in an update may leave two tasks in the one place.
            if !running.is_empty() && running.iter().all(|task| task.image == image && task.slot == 1) {
                return;
            }
            assert!(Instant::now() < deadline, "`{image}` does not run alone: {running:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Until the update is on the Swarm.
    async fn in_the_middle(&self) {
        let swarm = self.swarm();
        let deadline = Instant::now() + PATIENCE;
        while swarm.service(&self.web).await.unwrap().unwrap().image() != "app:v2" {
            assert!(Instant::now() < deadline, "the update does not begin");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// One update was made, and v1 is what a rollback would return to.
    async fn updated_once(&self) {
        self.runs("app:v2").await;
        let service = self.swarm().service(&self.web).await.unwrap().unwrap();
        let before = service.previous_spec.as_ref().map(houston::providers::swarm::spec::image);
        assert_eq!((service.image(), before), ("app:v2", Some("app:v1")));
    }

    async fn end(self, house: House) {
        house.end().await;
        let _ = self.swarm().remove_service(&self.web).await;
    }
}

/// Writes, and waits until somebody allows it to end.
const HALTING: &str = "echo begun; touch $M/begun; until [ -e $M/go ]; do sleep 0.05; done; echo over";

const UPDATE: &str = "  - id: update\n    swarm_service: {action: update, service: web, version: v2}\n";

async fn there(path: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < deadline, "{} does not come", path.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn ask(t: &House) -> Said {
    t.say("alice", "ops", "!tour far red").await;
    t.progress("R-1").await
}

async fn done(t: &House, progress: &Said) {
    t.until(progress, &[":white_check_mark: *R-1*", "done in"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_goes_on_while_sshd_is_dead_and_is_followed_again() {
    let Some(machine) = Machine::whole().await else { return };
    let t = machine.house(&machine.command(HALTING, "")).await;
    let progress = ask(&t).await;
    there(&machine.mark("begun")).await;
    machine.act("kill ssh").await;
    // Told from a host that is not there.
    t.until(&progress, &["is out of reach", "Connection refused"]).await;
    machine.act("revive ssh").await;
    std::fs::write(machine.mark("go"), "").unwrap();
    done(&t, &progress).await;
    assert_eq!(machine.starts(), 1, "it ran once");
    machine.end(t).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_goes_on_when_the_daemon_was_killed_in_the_middle_and_is_there_again() {
    let Some(machine) = Machine::whole().await else { return };
    machine.serves().await;
    let t = machine.house(UPDATE).await;
    let progress = ask(&t).await;
    machine.in_the_middle().await;
    machine.act("kill docker").await;
    t.until(&progress, &["no manager of the Swarm answers now; what was sent stands"]).await;
    machine.act("revive docker").await;
    done(&t, &progress).await;
    machine.updated_once().await;
    machine.end(t).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_waits_for_a_daemon_that_is_being_started() {
    let Some(machine) = Machine::whole().await else { return };
    machine.serves().await;
    let t = machine.house(&(machine.command(HALTING, "") + UPDATE)).await;
    let progress = ask(&t).await;
    there(&machine.mark("begun")).await;
    machine.act("kill docker").await;
    std::fs::write(machine.mark("go"), "").unwrap();
    t.until(&progress, &["no manager of the Swarm answers now; waiting for one that does"]).await;
    machine.act("revive docker").await;
    done(&t, &progress).await;
    machine.updated_once().await;
    machine.end(t).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stays_away_is_named_with_what_is_known_and_what_to_type() {
    let Some(machine) = Machine::whole().await else { return };
    machine.serves().await;
    let t = machine
        .house(&UPDATE.replace("  - id: update\n", "  - id: update\n    timeout: 6s\n    undo: none\n"))
        .await;
    let progress = ask(&t).await;
    machine.in_the_middle().await;
    machine.act("kill docker").await;
    let failed = [
        ":x: *R-1*",
        "it took longer than 6 s",
        "its Docker daemon does not answer",
        "`web` was changed before that, and nobody tells how far that is",
        "when a manager last answered, ",
        "`systemctl start docker`",
    ];
    t.until(&progress, &failed).await;
    t.expect("ops", &["@alice", "failed"]).await;
    machine.act("revive docker").await;
    machine.end(t).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_finds_no_room_to_begin_says_so_and_does_not_begin() {
    let Some(machine) = Machine::whole().await else { return };
    let t = machine.house(&machine.command("true", "")).await;
    machine.act("fill").await;
    let progress = ask(&t).await;
    let failed = t
        .until(
            &progress,
            &[":x: *R-1*", "node1", "so it does not begin: 0 KiB are free on", "make room there"],
        )
        .await;
    assert!(!failed.text.contains("may still be running"), "{}", failed.text);
    t.expect("ops", &["@alice", "failed"]).await;
    assert_eq!(machine.starts(), 0, "it did not begin");
    machine.act("room").await;
    machine.end(t).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_disk_is_full_when_it_ends_is_told_of_as_soon_as_there_is_room() {
    let Some(machine) = Machine::whole().await else { return };
    let t = machine
        .house(&machine.command("touch $M/begun; until [ -e $M/go ]; do sleep 0.05; done; touch $M/over", ""))
        .await;
    let progress = ask(&t).await;
    there(&machine.mark("begun")).await;
    machine.act("fill").await;
    std::fs::write(machine.mark("go"), "").unwrap();
    there(&machine.mark("over")).await;
    t.until(&progress, &["there is no room on node1", "0 KiB are free on", "its end is told once there is"])
        .await;
    machine.act("room").await;
    done(&t, &progress).await;
    assert_eq!(machine.starts(), 1, "it ran once");
    machine.end(t).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "an ssh connection is given up after 15 s of silence, then tried again: `./test --long` runs it"]
async fn a_command_goes_on_over_a_wire_that_was_cut_and_one_that_swallows_everything() {
    let Some(machine) = Machine::whole().await else { return };
    for (trouble, reason) in [("cut", "is out of reach"), ("drop", "is out of reach")] {
        for mark in ["begun", "go", "starts"] {
            let _ = std::fs::remove_file(machine.mark(mark));
        }
        let t = machine.house(&machine.command(HALTING, "")).await;
        let progress = ask(&t).await;
        there(&machine.mark("begun")).await;
        machine.act(trouble).await;
        t.until(&progress, &[reason]).await;
        machine.act("mend").await;
        std::fs::write(machine.mark("go"), "").unwrap();
        done(&t, &progress).await;
        assert_eq!(machine.starts(), 1, "it ran once, {trouble}");
        t.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "an ssh connection is given up after 15 s of silence, then tried again: `./test --long` runs it"]
async fn an_update_goes_on_over_a_wire_that_was_cut_and_one_that_swallows_everything() {
    for trouble in ["cut", "drop"] {
        let Some(machine) = Machine::whole().await else { return };
        machine.serves().await;
        let t = machine.house(UPDATE).await;
        let progress = ask(&t).await;
        machine.in_the_middle().await;
        machine.act(trouble).await;
        t.until(&progress, &["no manager of the Swarm answers now; what was sent stands"]).await;
        machine.act("mend").await;
        done(&t, &progress).await;
        machine.updated_once().await;
        machine.end(t).await;
    }
}
