//! The command line as people and scripts meet it: the real binary, its exit codes, what stands on which
//! stream, and the hints.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// A place to start a program from; without colours and secrets of whoever runs the tests.
#[expect(clippy::disallowed_methods, reason = "the test is about the program itself")]
pub fn houston(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_houston"));
    command.args(args).env_remove("HOUSTON_LOG").env_remove("HOUSTON_PASSWORD").stdin(Stdio::null());
    command
}

pub fn run(args: &[&str]) -> (i32, String, String) {
    let output: Output = houston(args).output().unwrap();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn add_to(file: &Path, lines: &str) {
    let before = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, before + lines).unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn here(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

fn config(server: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "rocketchat: {{url: '{server}', user_id: b0t, token: {{file: token}}}}\n\
         access: {{roles: {{operator: {{users: [alice]}}}}}}\n"
    );
    std::fs::write(dir.path().join("houston.yaml"), text).unwrap();
    std::fs::write(dir.path().join("token"), "a-token-that-is-a-secret").unwrap();
    dir
}

/// A program that runs until it is dropped.
pub struct Running {
    child: Child,
    log: std::sync::mpsc::Receiver<String>,
}

impl Running {
    pub fn start(args: &[&str]) -> Self {
        Self::of(houston(args))
    }

    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, log) = std::sync::mpsc::channel();
        let out: Box<dyn std::io::Read + Send> = Box::new(child.stdout.take().unwrap());
        let err: Box<dyn std::io::Read + Send> = Box::new(child.stderr.take().unwrap());
        for stream in [out, err] {
            let send = send.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = send.send(line);
                }
            });
        }
        Self { child, log }
    }

    /// The first line that contains this, from now on; and all lines until then.
    pub fn until(&self, wanted: &str) -> (String, Vec<String>) {
        let mut seen = Vec::new();
        loop {
            match self.log.recv_timeout(Duration::from_secs(90)) {
                Ok(line) if line.contains(wanted) => return (line, seen),
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line with `{wanted}` came:\n{}", seen.join("\n")),
            }
        }
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// SIGTERM; the exit code, and what was said until the end.
    pub fn stop(mut self) -> (Option<i32>, Vec<String>) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let code = self.child.wait().unwrap().code();
        (code, self.log.iter().collect())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A demo with its folder, and where its page is.
pub fn demo(dir: &Path) -> (Running, String) {
    let demo = Running::start(&["demo", "--no-browser", "--port", "0", "--dir", &dir.display().to_string()]);
    let (line, _) = demo.until("Houston is up: ");
    let url = line.split_whitespace().last().unwrap().to_owned();
    (demo, url)
}

#[test]
fn every_command_explains_itself() {
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    let commands = [
        "demo",
        "sandbox",
        "serve",
        "check",
        "doctor",
        "plan",
        "runs",
        "audit",
        "store",
        "docs",
        "reload",
        "healthcheck",
    ];
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in\n{help}");
        let (code, text, _) = run(&[command, "--help"]);
        assert!(code == 0 && text.contains("Usage: houston") && text.contains("--log-format"), "{text}");
    }
    let (code, _, error) = run(&["depoly"]);
    assert!(code == 2 && error.starts_with("error: "), "{error}");
}

#[test]
fn check_prints_every_problem_with_a_hint_and_counts_them() {
    let (code, said, error) = run(&["check", "--config", &here("tests/fixtures/config/twenty-mistakes")]);
    assert_eq!((code, error.as_str()), (1, "error: the configuration is wrong\n"));
    assert!(said.matches("\nerror: ").count() + 1 >= 20 && said.contains("  hint: "), "{said}");
    assert!(said.contains("purge.yaml:5:5: ") && !said.contains('\u{1b}'), "{said}");
    let (code, said, error) = run(&["check", "--config", &here("config")]);
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(said.ends_with("no problems\n"), "{said}");
    let (code, said, _) = run(&["check", "--config", "/nonexistent/houston"]);
    assert!(code == 1 && said.contains("`/nonexistent/houston` is not there") && said.contains("hint: "));
}

#[test]
fn serve_with_a_wrong_configuration_is_not_worth_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let state_dir = state.path().join("state").display().to_string();
    let folder = here("tests/fixtures/config/twenty-mistakes");
    let (code, said, error) = run(&["serve", "--config", &folder, "--state", &state_dir]);
    assert_eq!((code, said.as_str()), (78, ""), "{error}");
    assert!(error.contains("hint: `houston check --config "), "{error}");
    assert!(!Path::new(&state_dir).exists(), "a refused start must leave nothing behind");
}

/// In a container Houston is the first process: a SIGTERM without a handler would not even end it.
#[test]
fn a_stop_in_the_middle_of_the_start_is_a_graceful_one() {
    let config = config("http://127.0.0.1:9");
    let state = tempfile::tempdir().unwrap();
    let (folder, state) = (config.path().display().to_string(), state.path().display().to_string());
    let serve = Running::start(&["serve", "--config", &folder, "--state", &state]);
    serve.until("audit log opened");
    let (code, said) = serve.stop();
    assert_eq!(code, Some(0), "{said:?}");
    assert!(said.iter().any(|line| line.contains("stopping")), "{said:?}");
}

#[test]
fn serve_names_the_secret_that_is_missing() {
    let state = tempfile::tempdir().unwrap();
    let state_dir = state.path().display().to_string();
    let (code, _, error) = run(&["serve", "--config", &here("config"), "--state", &state_dir]);
    assert_eq!(code, 78, "another start would not help");
    assert!(error.contains("`HOUSTON_PASSWORD` is not set"), "{error}");
    assert!(error.contains("hint: set `HOUSTON_PASSWORD` where Houston is started"), "{error}");
    let doctor = format!("hint: `houston doctor --config {} --state {state_dir}` looks at", here("config"));
    assert!(error.contains(&doctor), "{error}");
    // Nothing has happened yet, and that is said.
    let (code, said, _) = run(&["audit", "list", "--state", &state_dir]);
    assert_eq!((code, said.as_str()), (0, "no entries yet\n"));
    let (code, said, _) = run(&["audit", "verify", "--state", &state_dir]);
    assert_eq!((code, said.as_str()), (0, "0 entries in 1 file: the chain holds\n"));
}

#[test]
fn an_unreachable_server_is_said_once_and_a_second_houston_is_refused() {
    // A port that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = config(&format!("http://127.0.0.1:{port}"));
    let folder = config.path().display().to_string();
    let state = tempfile::tempdir().unwrap();
    let state_dir = state.path().display().to_string();
    let args = ["serve", "--config", &folder, "--state", &state_dir, "--log-format", "json"];
    let serve = Running::start(&args);
    let (line, mut all) = serve.until("offline");
    all.push(line);

    let (code, _, error) = run(&["serve", "--config", &folder, "--state", &state_dir]);
    assert_eq!(code, 1);
    assert!(error.contains("is in use by another Houston"), "{error}");
    assert!(error.contains("hint: stop the other Houston, or give this one a folder of its own"), "{error}");

    // The daemon answers over its socket, whether Rocket.Chat is there or not.
    assert_eq!(run(&["healthcheck", "--state", &state_dir]).0, 0);
    let (code, said, _) = run(&["runs", "--state", &state_dir]);
    assert_eq!((code, said.as_str()), (0, "no runs yet\n"));
    let unknown = "error: there is no run R-9; `houston runs` lists those that there are\n";
    for act in ["logs", "show"] {
        let (code, _, error) = run(&["runs", act, "R-9", "--state", &state_dir]);
        assert_eq!((code, error.as_str()), (1, unknown));
    }
    let (code, said, _) = run(&["store", "--state", &state_dir, "stat"]);
    assert!(code == 0 && said.contains("\nevents ") && said.contains("\nfree "), "{said}");
    let (code, said, _) = run(&["store", "--state", &state_dir, "stat", "--json"]);
    let stat: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(code == 0 && stat["trees"][0]["tree"] == "meta" && stat["free_bytes"].is_u64(), "{said}");
    let (code, said, _) = run(&["store", "--state", &state_dir, "export"]);
    assert!(code == 0 && said.lines().last().unwrap().contains("\"sha256\""), "{said}");

    let (code, rest) = serve.stop();
    assert_eq!(code, Some(0));
    all.extend(rest);
    let offline = all.iter().filter(|line| line.contains("cannot be reached")).count();
    assert_eq!(offline, 1, "{}", all.join("\n"));
    for line in &all {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "not JSON: {line}");
        assert!(!line.contains("a-token-that-is-a-secret"), "{line}");
    }
    let (code, _, error) = run(&["healthcheck", "--state", &state_dir]);
    assert!(code == 1 && error.contains("no Houston runs on the state in"), "{error}");
    let (code, said, _) = run(&["store", "--state", &state_dir, "export"]);
    assert!(code == 0 && said.lines().all(|line| line.starts_with('{')), "{said}");

    // What was exported is a store again, elsewhere.
    let elsewhere = tempfile::tempdir().unwrap();
    let (file, moved) = (elsewhere.path().join("export.jsonl"), elsewhere.path().join("state"));
    let (file, moved) = (file.display().to_string(), moved.display().to_string());
    std::fs::write(&file, &said).unwrap();
    let (code, told, error) = run(&["store", "--state", &moved, "import", &file]);
    assert!(code == 0 && told.contains("imported, of 2"), "{told}{error}");
    let again = run(&["store", "--state", &moved, "export"]).1;
    let records = said.lines().filter(|line| line.contains("\"tree\""));
    let lost: Vec<_> = records.filter(|record| !again.lines().any(|line| line == *record)).collect();
    assert!(lost.is_empty(), "{lost:?} of\n{said}is not in\n{again}");
    assert_eq!(run(&["runs", "--state", &moved]).1, "no runs yet\n");
    assert_eq!(run(&["runs", "logs", "R-9", "--state", &moved]).2, unknown);
    let (code, _, error) = run(&["store", "--state", &moved, "import", &file]);
    assert!(code == 1 && error.contains("there is a database in"), "{error}");
}

#[test]
fn a_hangup_and_time_alone_reload_and_a_wrong_folder_ends_nothing() {
    let config = config("http://127.0.0.1:1");
    let main = config.path().join("houston.yaml");
    let state = tempfile::tempdir().unwrap();
    let state_dir = state.path().display().to_string();
    let folder = config.path().display().to_string();
    let serve = Running::start(&["serve", "--config", &folder, "--state", &state_dir]);
    serve.until("Houston 0.1.0 is up");
    let good = std::fs::read_to_string(&main).unwrap();
    std::fs::write(&main, good.replace("[alice]", "[alice, bob]")).unwrap();
    serve.signal(nix::sys::signal::Signal::SIGHUP);
    serve.until("changed role operator, with bob");
    std::fs::write(&main, good.replace("[alice]", "[alice")).unwrap();
    serve.until("what was in force stays in force");
    let (code, _, error) = run(&["reload", "--state", &state_dir]);
    assert!(code == 1 && error.contains("houston.yaml:"), "{error}");
    std::fs::write(&main, good).unwrap();
    serve.until("changed role operator, without bob");
    let (code, said, _) = run(&["reload", "--state", &state_dir]);
    assert!(code == 0 && said.starts_with("nothing has changed"), "{said}");
    assert_eq!(serve.stop().0, Some(0));
    let (code, _, error) = run(&["reload", "--state", &state_dir]);
    assert!(code == 1 && error.contains("no Houston runs on the state in"), "{error}");
}

#[test]
fn what_is_not_there_is_said_with_a_hint() {
    for args in [["runs", "list"], ["store", "stat"], ["audit", "verify"]] {
        let state = ["--state", "/nonexistent/state"];
        // Where the option stands is no matter.
        for args in [[&args[..1], &state, &args[1..]].concat(), [&args[..], &state].concat()] {
            let (code, said, error) = run(&args);
            assert_eq!((code, said.as_str()), (1, ""), "{args:?}: {error}");
            assert!(error.contains("hint: `--state DIR` names the folder"), "{error}");
        }
    }
}

#[test]
fn a_reader_that_goes_early_is_no_error() {
    let mut docs =
        houston(&["docs", "config"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(docs.stdout.take());
    let mut error = String::new();
    docs.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert_eq!((docs.wait().unwrap().code(), error.as_str()), (Some(0), ""));
    for about in ["config", "commands", "steps", "env", "roles", "metrics"] {
        let (code, said, _) = run(&["docs", about]);
        assert!(code == 0 && said.len() > 100, "{about}: {said}");
    }
}

#[test]
fn plans_are_printed_for_a_terminal_and_say_when_nothing_is_to_do() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let (demo, _) = demo(dir.path());
    let config = dir.path().join("config").display().to_string();
    let plan = |who: &str, line: &str| run(&["plan", "--config", &config, "--as", who, line]);
    let (code, said, _) = plan("alice", "deploy prod web 1.8");
    assert_eq!(code, 0);
    assert!(
        said.starts_with("dry run `deploy prod web 1.8`: nothing was changed\nupdate `web` to `1.8`\n"),
        "{said}"
    );
    assert!(said.contains("1 operator or lead, not the requester"), "{said}");
    for part in [
        "\nFreeze: none by the files; what somebody declared in chat is not known here",
        "\nBreak-glass: nobody may in `prod`",
    ] {
        assert!(said.contains(part), "`{part}`: {said}");
    }
    add_to(
        &dir.path().join("config/environments/prod.yaml"),
        "\nfreezes:\n  - {from: \"00:00\", to: \"00:00\", reason: for ever}\n",
    );
    add_to(&dir.path().join("config/houston.yaml"), "\napprovals: {break_glass: {from: [lead]}}\n");
    let (_, said, _) = plan("carol", "deploy prod web 1.8");
    for part in ["Freeze: not now, `prod` is frozen until", "for ever", "; `carol` may"] {
        assert!(said.contains(part), "`{part}`: {said}");
    }
    let (code, said, _) = plan("carol", "deploy prod web 1.8 --break-glass now");
    assert!(code == 0 && said.contains("BREAK-GLASS"), "{said}");
    let (code, said, _) = plan("alice", "deploy prod api --dry-run --reason why");
    assert!(code == 0 && said.contains("nothing to do"), "{said}");
    let (code, said, _) = plan("alice", "deploy staging");
    assert!(code == 0 && said.contains("nothing to do"), "{said}");
    let (code, _, error) = plan("mallory", "deploy prod web 1.8");
    assert!(code == 2 && error.contains("You may not"), "{error}");
    let (code, _, error) = plan("alice", "deploy prod wep");
    assert!(
        code == 1 && error.contains("did you mean `web`?") && error.contains("            ^^^"),
        "{error}"
    );
    let state: PathBuf = dir.path().join("state");
    assert_eq!(run(&["healthcheck", "--state", &state.display().to_string()]).0, 0);
    assert_eq!(demo.stop().0, Some(0));
}
