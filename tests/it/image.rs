//! The image of the `Dockerfile`, built and started on a real engine: as nobody in particular, on a root file system
//! that cannot be written, with one volume, against the sandbox of this test.
//!
//! `tests/parts/image.sh start` builds the image up to the program (its name stands in `HOUSTON_TEST_IMAGE`); the
//! program that cargo made for this test goes in here, where the Dockerfile would compile one. That the Dockerfile
//! does compile it is shown by the test that is ignored unless somebody asks: it takes minutes.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;
use std::time::Duration;

use houston::sandbox::{self, Sandbox};
use serde_json::Value;
use tokio::time::Instant;

use crate::support::parts;
use crate::support::rc::Person;
use crate::swarm::TURNS;

/// As the Dockerfile says.
const USER: u32 = 10001;

/// What is built here; removed by `tests/parts/image.sh stop`.
const IMAGE: &str = "houston-test-image";

/// Once: an engine that builds the same thing twice at once stumbles.
static BUILT: Once = Once::new();

/// How long anything expected may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a stop may take before an engine would kill.
const STOP: Duration = Duration::from_secs(10);

fn dockerfile() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile")).unwrap()
}

/// The lines of each stage, as they count: no comments, continued lines as one.
fn stages() -> Vec<Vec<String>> {
    let lines: Vec<String> =
        dockerfile().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    let mut stages = Vec::new();
    for line in lines.join("\n").replace("\\\n", " ").lines().filter(|line| !line.trim().is_empty()) {
        if line.starts_with("FROM ") {
            stages.push(Vec::new());
        }
        if let Some(stage) = stages.last_mut() {
            stage.push(line.to_owned());
        }
    }
    stages
}

#[test]
fn the_last_stage_adds_the_program_and_nothing_else() {
    // The other test builds the first stage and adds the program itself; that stands for the whole only so.
    let stages = stages();
    assert!(stages[0][0].ends_with(" AS runtime") && stages[1][0].ends_with(" AS build"), "{stages:?}");
    let last = ["FROM runtime", "COPY --from=build /src/target/release/houston /usr/local/bin/houston"];
    assert_eq!(stages[2..], [last.map(str::to_owned).to_vec()]);
}

/// Cargo refuses a manifest that names a file which is not there, benches and tests included: a bench that was
/// added once broke the build of the dependencies.
#[test]
#[expect(clippy::disallowed_methods, reason = "the shell and cargo are other programs")]
fn the_stage_that_compiles_makes_every_file_that_cargo_asks_for() {
    let stage = &stages()[1];
    let copied = stage.iter().find(|line| line.starts_with("COPY Cargo.toml")).unwrap();
    let run = stage.iter().find(|line| line.starts_with("RUN") && line.contains("cargo build")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for file in copied.split_whitespace().filter(|word| word.starts_with("Cargo")) {
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(file), dir.path().join(file)).unwrap();
    }
    // The very line, but for the minutes: cargo reads the manifest as it would to build.
    let metadata = "cargo metadata --no-deps --offline --format-version 1 >/dev/null";
    let line = run["RUN ".len()..].replace("cargo build --release --locked", metadata);
    assert!(line.contains(metadata), "{run}");
    let done = Command::new("sh").args(["-ec", &line]).current_dir(dir.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// A client of the engine.
struct Docker(PathBuf);

impl Docker {
    /// The classic builder: what an old engine has, and a client without plugins.
    #[expect(clippy::disallowed_methods, reason = "the test is what an operator does by hand")]
    fn output(&self, args: &[&str]) -> Output {
        let mut docker = Command::new("docker");
        docker.arg("-H").arg(format!("unix://{}", self.0.display())).args(args).env("DOCKER_BUILDKIT", "0");
        docker.output().unwrap()
    }

    /// The last stage, with this build's program.
    fn build(&self, runtime: &str, context: &Path) {
        std::fs::create_dir(context).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_houston"), context.join("houston")).unwrap();
        let last = format!("FROM {runtime}\nCOPY houston /usr/local/bin/houston\n");
        std::fs::write(context.join("Dockerfile"), last).unwrap();
        self.run(&["build", "--quiet", "-t", IMAGE, context.to_str().unwrap()]);
    }

    fn run(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(
            output.status.success(),
            "docker {args:?}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    /// As in the documentation, with this test's image, and without a registry to ask.
    #[expect(clippy::disallowed_methods, reason = "the test is what an operator does by hand")]
    fn deploy(&self, name: &str, file: &str) -> String {
        let mut docker = Command::new("docker");
        docker.arg("-H").arg(format!("unix://{}", self.0.display())).env("HOUSTON_IMAGE", IMAGE);
        docker.args(["stack", "deploy", "--resolve-image", "never", "--compose-file", file, name]);
        let output = docker.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    fn refused(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert!(!output.status.success(), "docker {args:?} was to be refused");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// A chat server, and a container of the image with this build's program.
struct Container {
    docker: Docker,
    sandbox: Sandbox,
    dir: tempfile::TempDir,
    /// The name of the container and the volume.
    name: String,
}

impl Container {
    async fn build(runtime: &str) -> Option<Self> {
        let docker = Docker(parts::docker()?);
        let sandbox = sandbox::start(sandbox::Options::default()).await.expect("the sandbox starts");
        let dir = tempfile::tempdir().unwrap();
        let name = format!("houston-test-{}", rand::random::<u32>());
        let it = Self { docker, sandbox, dir, name };
        BUILT.call_once(|| it.docker.build(runtime, &it.dir.path().join("context")));
        it.configure();
        Some(it)
    }

    /// As an operator's folder is: others may read it, the secrets in it only Houston.
    fn configure(&self) {
        let (user_id, token) = self.sandbox.personal_token("houston").expect("the bot's account");
        self.write(
            "houston.yaml",
            &format!(
                "rocketchat: {{url: {}, user_id: {user_id}, token: {{file: token}}}}\n\
                 access: {{roles: {{operator: {{users: [alice, bob]}}, lead: {{users: [carol]}}}}}}\n",
                self.sandbox.url()
            ),
            0o644,
        );
        self.write("token", &token, 0o400);
        self.write("environments/staging.yaml", "", 0o644);
        let Some(sshd) = parts::given("HOUSTON_TEST_SSHD") else { return };
        let part = |name: &str| std::fs::read_to_string(sshd.join(name)).expect("the part has it");
        self.write("ssh/id", &part("id"), 0o400);
        self.write("ssh/known_hosts", &part("known_hosts"), 0o644);
        let host = format!("root@127.0.0.1:{}", part("port").trim());
        let far = "identity: ssh/id, known_hosts: ssh/known_hosts";
        self.write(
            "environments/far.yaml",
            &format!("hosts: {{there: {{ssh: \"{host}\", {far}}}}}\n"),
            0o644,
        );
        self.write(
            "commands/greet.yaml",
            "greet:\n  summary: Greets.\n  playbook: greet\n  arguments:\n    \
             environment: {type: environment, doc: where}\n",
            0o644,
        );
        self.write(
            "playbooks/greet.yaml",
            "description: Greet\ninputs: {environment: {type: environment}}\nsteps:\n  - id: greet\n    \
             ssh: {host: there, command: [echo, 'hello from', 'over there'], repeat: idempotent}\n    undo: none\n",
            0o644,
        );
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.config().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        if mode == 0o400 {
            chown(&path, Some(USER), Some(USER)).expect("whoever has the engine's socket is root");
        }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    /// The command of `docs/operating.md`, with the places of this test, the host's network since the sandbox listens
    /// on loopback only, and a health check that does not wait for half a minute.
    fn start(&self) {
        let page = include_str!("../../docs/operating.md").replace("\\\n", " ");
        let command = page.lines().find_map(|line| line.strip_prefix("docker run ")).expect("a command");
        let image = command.split_whitespace().next_back().expect("it ends with the image");
        assert_eq!(image, "houston");
        let command = command
            .trim_end_matches(image)
            .replace("--name houston", &format!("--name {}", self.name))
            .replace("houston-state:", &format!("{}:", self.name))
            .replace("/etc/houston:", &format!("{}:", self.config().display()))
            .replace("--restart unless-stopped", "--network host --health-interval 1s");
        let args = ["run"].into_iter().chain(command.split_whitespace()).chain([IMAGE]);
        self.docker.run(&args.collect::<Vec<_>>());
    }

    fn inside(&self, script: &str) -> String {
        self.docker.run(&["exec", &self.name, "sh", "-c", script])
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&self.docker.output(&["logs", &self.name]).stderr).into_owned()
    }

    fn inspect(&self, what: &str) -> Value {
        let said = self.docker.run(&["inspect", "--format", &format!("{{{{json {what}}}}}"), &self.name]);
        serde_json::from_str(&said).unwrap()
    }

    async fn say(&self, text: &str) {
        self.sandbox.say("alice", "ops", text).await.unwrap();
    }

    /// Waits for Houston to say something; what the container logged is told when it does not.
    async fn hear(&self, person: &mut Person, part: &str) {
        if tokio::time::timeout(PATIENCE, person.expect_from("houston", part)).await.is_err() {
            panic!("nobody said `{part}`\n{}", self.log());
        }
    }

    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// `docker stop` with far more patience than allowed, so that too long is seen as such.
    fn stop(&self) -> (Duration, Value) {
        let begun = Instant::now();
        self.docker.run(&["stop", "--time", "60", &self.name]);
        (begun.elapsed(), self.inspect(".State.ExitCode"))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.docker.output(&["rm", "--force", &self.name]);
        self.docker.output(&["volume", "rm", &self.name]);
    }
}

fn image() -> Option<String> {
    parts::image()?.into_os_string().into_string().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_image_runs_as_nobody_in_particular_writes_only_its_volume_and_stops_in_time() {
    let Some(runtime) = image() else { return };
    let Some(it) = Container::build(&runtime).await else { return };
    // Without a daemon the health check says so, and what has no configuration is not worth a restart.
    let volume = format!("{}:/state", it.name);
    let once = |args: &[&str]| {
        let head = ["run", "--rm", "--network", "none", "--read-only", "-v", &volume, IMAGE];
        it.docker.output(&[&head[..], args].concat())
    };
    let unwell = once(&["healthcheck", "--state", "/state"]);
    assert_eq!(unwell.status.code(), Some(1), "{unwell:?}");
    assert_eq!(once(&[]).status.code(), Some(78), "there is no configuration");

    it.start();
    // What was said before its first start is not its business.
    it.until("it hears", || it.log().contains("caught up")).await;
    let mut alice = Person::login(&it.sandbox.url(), "alice").await;
    it.say("!ping from a box").await;
    it.hear(&mut alice, "pong from a box").await;

    let user = it.inside("grep -E '^(Uid|Gid):' /proc/1/status | cut -f2- | xargs");
    assert_eq!(user, vec![USER.to_string(); 8].join(" "), "real, effective, saved and of files");
    assert_eq!(
        it.inside("grep -E '^(CapEff|NoNewPrivs):' /proc/1/status | cut -f2 | xargs"),
        "0000000000000000 1"
    );
    for place in ["/", "/usr/local/bin", "/home/houston", "/tmp", "/etc", "/config"] {
        let refused = it.docker.refused(&["exec", &it.name, "touch", &format!("{place}/x")]);
        assert!(refused.contains("Read-only file system"), "{place}: {refused}");
    }
    let kept = it.inside("ls -A /state");
    for name in ["journal", "audit.jsonl"] {
        assert!(kept.lines().any(|line| line == name), "{name} is not among\n{kept}");
    }
    assert_eq!(it.inside("stat -c '%a %u' /state"), format!("700 {USER}"));
    it.until("it is healthy", || it.inspect(".State.Health.Status") == "healthy").await;

    // The ssh in it works too: as a user without a home that it could write, from a file system that it cannot.
    if it.config().join("environments/far.yaml").exists() {
        it.say("!greet far").await;
        it.hear(&mut alice, ":white_check_mark: *R-1*").await;
        it.say("!logs R-1").await;
        it.hear(&mut alice, "hello from over there").await;
    }

    // What has to outlive the container is in the volume: another container knows it.
    it.say("!lock staging the boxes are being moved").await;
    it.hear(&mut alice, "`staging` is locked").await;
    for _ in 0..2 {
        let (took, code) = it.stop();
        assert!(took < STOP, "it took {took:?} to stop");
        assert_eq!(code, 0, "killed, or failed");
        it.docker.run(&["rm", &it.name]);
        it.start();
        it.say("!locks").await;
        it.hear(&mut alice, "the boxes are being moved").await;
    }
    let changed = it.docker.run(&["diff", &it.name]);
    assert!(changed.lines().all(|line| line.starts_with("A /config") || line.is_empty()), "{changed}");
}

/// `docs/deploy/stack.yaml` on the Swarm: the program starts as the image's user, with the configuration and the
/// secret in their places. There is no chat server that a Swarm's network reaches here, so it has nobody to talk to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stack_of_the_documentation_runs_on_a_swarm() {
    let Some(runtime) = image() else { return };
    let Some(it) = Container::build(&runtime).await else { return };
    let _turn = TURNS.acquire().await.unwrap();
    let folder = it.dir.path().join("stack");
    std::fs::create_dir_all(folder.join("environments")).unwrap();
    // The token and the label under names of this test, since others use the same Swarm.
    let stack = include_str!("../../docs/deploy/stack.yaml");
    let stack =
        stack.replace("source: houston-token", "source: houston-token\n        target: houston-token");
    let stack = stack.replace("external: true", &format!("external: true\n    name: {}", it.name));
    let stack = stack.replace("node.labels.houston ==", &format!("node.labels.{} ==", it.name));
    std::fs::write(folder.join("stack.yaml"), stack).unwrap();
    std::fs::write(folder.join("token"), "a-token").unwrap();
    std::fs::write(folder.join("environments/prod.yaml"), "variables: {}\n").unwrap();
    let main = "rocketchat: {url: http://127.0.0.1:9, user_id: h, token: {file: /run/secrets/houston-token}}\n\
                access: {roles: {operator: {users: [a, b]}, lead: {users: [c]}}}\n";
    std::fs::write(folder.join("houston.yaml"), main).unwrap();
    let path = |name: &str| folder.join(name).display().to_string();
    let node = it.docker.run(&["node", "ls", "--quiet"]);
    it.docker.run(&["node", "update", "--label-add", &format!("{}=true", it.name), &node]);
    it.docker.run(&["secret", "create", &it.name, &path("token")]);
    let deployed = it.docker.deploy(&it.name, &path("stack.yaml"));
    let service = format!("{}_houston", it.name);
    let tasks = || {
        it.docker.run(&["service", "ps", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}", &service])
    };
    let container = || {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        it.docker.run(&["ps", "--quiet", "--filter", &filter])
    };
    let log = || String::from_utf8_lossy(&it.docker.output(&["logs", &container()]).stderr).into_owned();
    // Removed whatever comes, and only then judged.
    let up = tokio::time::timeout(PATIENCE, async {
        while container().is_empty() || !log().contains("is up") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let look = "id -u; stat -c '%a %u' /run/secrets/houston-token; touch /x || true";
        let seen = it.docker.output(&["exec", &container(), "sh", "-c", look]);
        String::from_utf8_lossy(&seen.stdout).trim().to_owned()
    })
    .await;
    let (said, tasks) = (log(), tasks());
    it.docker.output(&["stack", "rm", &it.name]);
    it.docker.output(&["node", "update", "--label-rm", &it.name, &node]);
    it.until("the stack is gone", || container().is_empty()).await;
    it.docker.output(&["secret", "rm", &it.name]);
    it.until("its volume is free", || {
        it.docker.output(&["volume", "rm", &format!("{}_state", it.name)]).status.success()
    })
    .await;
    assert_eq!(up.ok().as_deref(), Some("10001\n400 10001"), "{deployed}\n{tasks}\n{said}");
}

/// Minutes of two cores: `./test --long`, or by hand.
#[test]
#[ignore = "compiles the whole program in a container, which takes minutes: `./test --long` runs it"]
#[expect(clippy::disallowed_methods, reason = "the script is another program")]
fn the_dockerfile_compiles_the_program_from_the_source() {
    let Some(socket) = parts::docker() else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parts/image.sh");
    let built = Command::new(script).arg("compile").env("HOUSTON_TEST_DOCKER", &socket).output().unwrap();
    let image = String::from_utf8_lossy(&built.stdout).trim().to_owned();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let docker = Docker(socket);
    let said = docker.run(&["run", "--rm", "--network", "none", "--read-only", &image, "--version"]);
    assert_eq!(said, format!("houston {}", env!("CARGO_PKG_VERSION")));
    let said = docker.run(&["run", "--rm", "--network", "none", "--read-only", &image, "docs", "env"]);
    assert!(said.contains("HOUSTON_"), "{said}");
}
