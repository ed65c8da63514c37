//! The log of the real program, as JSON, while people work: every line is one object, what is about a command, a run
//! or a step has its ids, and no secret is in it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::cli::{Running, houston};
use crate::support::house::{House, Said, Setup};
use crate::support::parts;

/// Houston's password; a crashing task happens to write it into its log.
pub const MARKER: &str = "migration 0042_add_index has not been applied";

/// Of libraries too.
const EVERYTHING: &[(&str, &str)] = &[("HOUSTON_LOG", "trace")];

/// Names under which ids stand, and nothing else does.
const IDS: &[&str] = &["message.id", "room.id", "user.id", "run.id", "request.id", "step.id"];

/// Words that would be a second name of one of them.
const SECOND_NAMES: &[&str] =
    &["room", "user", "run", "step", "card", "request", "message_id", "room_id", "user_id", "run_id"];

/// A house whose Houston is a program of its own, and its log.
pub struct Stage {
    pub house: House,
    program: Option<Running>,
    env: Vec<(String, String)>,
    log: Vec<String>,
}

impl Stage {
    pub async fn set(setup: Setup, env: &[(&str, &str)]) -> Self {
        let mut house = House::with(setup).await;
        house.stop().await;
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut stage = Self { house, program: None, env, log: Vec::new() };
        stage.start();
        stage
    }

    fn start(&mut self) {
        let house = &self.house;
        let (config, state) = (house.config_dir().display().to_string(), house.state().display().to_string());
        let mut command = houston(&["serve", "--config", &config, "--state", &state, "--log-format", "json"]);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        let program = Running::of(command);
        let (line, log) = tokio::task::block_in_place(|| program.until("caught up"));
        self.log.extend(log.into_iter().chain([line]));
        self.program = Some(program);
    }

    fn stop(&mut self) {
        let program = self.program.take().expect("it runs");
        let (code, log) = tokio::task::block_in_place(|| program.stop());
        assert_eq!(code, Some(0), "{}", log.join("\n"));
        self.log.extend(log);
    }

    #[cfg(feature = "otel")]
    pub async fn restart(&mut self) {
        self.stop();
        self.start();
    }

    /// Ends the program, and takes its whole log.
    pub async fn log(mut self) -> Vec<Line> {
        self.stop();
        self.house.start_again().await;
        self.house.end().await;
        self.log.iter().map(|line| Line::read(line)).collect()
    }
}

pub struct Line(Value);

impl Line {
    /// What holds for every line.
    fn read(line: &str) -> Self {
        assert!(!line.contains(MARKER), "a secret: {line}");
        assert!(!line.contains("bug in Houston"), "{line}");
        let read: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let fields = read.as_object().expect("an object");
        let text = |name: &str| {
            fields.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("no {name}: {line}"))
        };
        assert!(text("timestamp").parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert!(["ERROR", "WARN", "INFO", "DEBUG", "TRACE"].contains(&text("level")), "{line}");
        assert!(!text("target").is_empty(), "{line}");
        text("message");
        let names: BTreeSet<&String> = fields.keys().collect();
        // A reader takes the one or the other of two fields of one name.
        let twice = names.iter().find(|name| line.matches(&format!("\"{name}\":")).count() > 1);
        assert_eq!(twice, None, "{line}");
        if text("target").starts_with("houston") {
            assert!(!text("message").is_empty(), "{line}");
            for name in names {
                assert!(!SECOND_NAMES.contains(&name.as_str()), "a second name of an id: {line}");
                assert!(!name.ends_with(".id") || IDS.contains(&name.as_str()), "`{name}`: {line}");
            }
        }
        Self(read)
    }

    pub fn get(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    pub fn says(&self, part: &str) -> bool {
        self.get("message").contains(part)
    }
}

/// The place of the first line that says this.
fn place(log: &[Line], part: &str) -> usize {
    log.iter().position(|line| line.says(part)).unwrap_or_else(|| {
        let said: Vec<_> =
            log.iter().filter(|line| line.get("level") == "INFO").map(|line| line.0.to_string()).collect();
        panic!("no line says `{part}`:\n{}", said.join("\n"))
    })
}

fn ids<'a>(line: &'a Line, names: [&str; 4]) -> [&'a str; 4] {
    names.map(|name| line.get(name))
}

/// Every line between a run's beginning and its end that names it, or comes from what carries runs out, has its id.
fn is_followed(log: &[Line], run: &str, end: &str, least: usize) {
    let (first, last) = (place(log, &format!("{run} `")), place(log, end));
    let mut seen = 0;
    for line in &log[first..=last] {
        let of_runs = ["runs", "playbook", "providers", "exec"]
            .iter()
            .any(|module| line.get("target").starts_with(&format!("houston::{module}")));
        if of_runs || line.says(run) && line.get("target").starts_with("houston") {
            assert_eq!(line.get("run.id"), run, "{}", line.0);
            seen += 1;
        }
    }
    assert!(seen >= least, "{seen} lines follow {run}");
}

async fn approved(t: &House, command: &str) -> (String, Said) {
    let said = t.say("alice", "ops", command).await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    (said, card)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_deployment_a_failure_and_a_request_has_its_ids() {
    let stage = Stage::set(Setup { password: Some(MARKER.to_owned()), ..Setup::default() }, EVERYTHING).await;
    let t = &stage.house;
    let (good, card) = approved(t, "!deploy prod web 1.8").await;
    t.ended("R-1", &["deployed in"]).await;
    let (bad, _) = approved(t, "!deploy prod web 1.9").await;
    t.ended("R-2", &["*failed*", "[redacted]"]).await;
    let denied = t.say("alice", "ops", "!scale prod web 2").await;
    t.card().await;
    let words = t.say("carol", "ops", &format!("!deny R-3 it is fine, \"quoted\"\n{MARKER}")).await;
    t.expect("ops", &["R-3 is denied."]).await;
    t.denied("R-3", "carol").await;
    let edited = t.say("alice", "ops", "!ping one").await;
    t.expect("ops", &["pong one"]).await;
    t.rewrite("houston.yaml", "lead: {users: [carol]}", "lead: {users: [carol, bob]}");
    let state = t.state().display().to_string();
    let (code, _, error) = tokio::task::block_in_place(|| crate::cli::run(&["reload", "--state", &state]));
    assert_eq!(code, 0, "{error}");
    let room = t.sandbox.room_id("ops").expect("a room");
    let log = stage.log().await;

    is_followed(&log, "R-1", "R-1 `deploy prod web 1.8`: succeeded", 5);
    is_followed(&log, "R-2", "R-2 `deploy prod web 1.9`: failed", 5);
    is_followed(&log, "R-3", "R-3 `scale prod web 2`: denied", 2);
    let names = ["run.id", "message.id", "user.id", "room.id"];
    for (run, said) in [("R-1", &good), ("R-2", &bad), ("R-3", &denied)] {
        let asked = &log[place(&log, &format!("{run} `"))];
        assert_eq!(ids(asked, names), [run, said, "u-alice", &room], "{}", asked.0);
    }
    let command = &log[place(&log, "`!deploy prod web 1.8` from alice")];
    assert_eq!(ids(command, names), ["R-1", &good, "u-alice", &room]);
    assert_eq!(command.get("command.name"), "deploy");
    let vote = &log[place(&log, "R-1 `deploy prod web 1.8`: approved (bob)")];
    assert_eq!(ids(vote, names), ["R-1", &card.id, "u-bob", &room]);
    let denial = &log[place(&log, "R-3 `scale prod web 2`: denied (carol)")];
    assert_eq!(ids(denial, names), ["R-3", &words, "u-carol", &room]);
    let step = &log[place(&log, "R-2 `update` failed: ")];
    assert_eq!(
        ids(step, ["run.id", "step.id", "step.kind", "message.id"]),
        ["R-2", "update", "swarm_service", &bad]
    );
    let ping = &log[place(&log, "`!ping one` from alice")];
    assert_eq!(ids(ping, names), ["", &edited, "u-alice", &room]);
    let reload = log.iter().find(|line| !line.get("request.id").is_empty()).expect("a request was logged");
    assert_eq!(reload.get("request.path"), "/reload", "{}", reload.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_command_on_a_machine_has_its_ids() {
    if crate::ssh::part().is_none() {
        return;
    }
    let base = parts::sshd().expect("the part is there");
    let stage = Stage::set(tour(&base), EVERYTHING).await;
    let t = &stage.house;
    let said = t.say("alice", "ops", "!tour prod").await;
    t.ended("R-1", &["*failed*"]).await;
    let log = stage.log().await;
    is_followed(&log, "R-1", "R-1 `tour prod`: failed", 5);
    for (step, told) in [("look", "R-1 `look` succeeded"), ("work", "R-1 `work` failed: ")] {
        let line = &log[place(&log, told)];
        let names = ["run.id", "step.id", "step.kind", "message.id"];
        assert_eq!(ids(line, names), ["R-1", step, "ssh", &said], "{}", line.0);
    }
}

/// Two commands on a real host: one goes well, one writes Houston's password and fails.
fn tour(base: &Path) -> Setup {
    let port = std::fs::read_to_string(base.join("port")).expect("the part says its port");
    let hosts = format!(
        "approvals: {{default: none}}\nhosts:\n  node1: {{ssh: \"127.0.0.1:{}\", identity: {base}/id, known_hosts: {base}/known_hosts}}\n",
        port.trim(),
        base = base.display()
    );
    let command = "tour:\n  summary: Looks and works.\n  playbook: tour\n  arguments:\n    \
                   environment: {type: environment, doc: an environment by its name}\n  examples: [tour prod]\n";
    let playbook = format!(
        "description: Looks and works\ninputs: {{environment: {{type: environment}}}}\nsteps:\n  - id: look\n    \
         ssh: {{host: node1, command: [uptime], repeat: safe}}\n  - id: work\n    \
         ssh: {{host: node1, command: [sh, -c, \"echo '{MARKER}' >&2; exit 3\"]}}\n"
    );
    Setup {
        password: Some(MARKER.to_owned()),
        services: Vec::new(),
        prod: hosts,
        files: vec![("commands/tour.yaml", command.to_owned()), ("playbooks/tour.yaml", playbook)],
        ..Setup::default()
    }
}
