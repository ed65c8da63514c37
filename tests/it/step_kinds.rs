//! Each step kind as a playbook of an operator's own uses it, from the command in the room to its effect.
//! What `swarm_service` does is told in `deploy`.

use std::time::Duration;

use houston::clock::Clock;

use crate::support::house::{House, Setup};
use crate::support::parts;

const TOUR: &str = r#"
tour:
  summary: Does one of everything.
  playbook: tour
  arguments:
    environment: {type: environment, doc: an environment by its name}
    colour: {type: text, doc: any}
  examples: [tour prod red]
"#;

/// A house whose `!tour prod COLOUR` takes these steps, and nobody's approval.
pub async fn house(steps: &str, clock: Clock, more: &str) -> House {
    house_of(steps, clock, more, &[("web", 1)]).await
}

/// As [`house`], over these services.
pub async fn house_of(steps: &str, clock: Clock, more: &str, services: &[(&'static str, u64)]) -> House {
    let prod = format!("approvals: {{default: none}}\n{more}");
    let services = services.to_vec();
    House::with(Setup { prod, files: tour(steps), clock, services, ..Setup::default() }).await
}

/// The command and its playbook with these steps.
pub fn tour(steps: &str) -> Vec<(&'static str, String)> {
    let playbook = format!(
        "description: One of everything\ninputs:\n  environment: {{type: environment}}\n  colour: {{type: text}}\n\
         on_failure: undo\nsteps:\n{steps}"
    );
    vec![("commands/tour.yaml", TOUR.to_owned()), ("playbooks/tour.yaml", playbook)]
}

const STACK: &str = "  - id: stack\n    swarm_stack: {name: shop, services: [web, api]}\n";

#[tokio::test]
async fn a_stack_a_check_a_wait_a_question_and_a_notice() {
    let steps = format!(
        "{STACK}  - id: check\n    http_check: {{url: \"SANDBOX/api/info\", within: 20s}}\n  \
         - id: pause\n    wait: {{for: 1h}}\n  \
         - id: sure\n    ask: {{question: \"Is {{{{ colour }}}} right?\", choices: [\"yes\", \"no\"], from: [lead], stop: [\"no\"]}}\n  \
         - id: tell\n    notify: {{room: general, text: \"it is {{{{ colour }}}} @all\"}}\n"
    );
    let clock = Clock::manual(Clock::system().now());
    let mut t = house(&steps, clock.clone(), "").await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["waits until"]).await;
    assert_eq!((t.image("web").await, t.image("api").await), ("demo/web:1.8".into(), "demo/api:1.7".into()));
    // What waits is a row, not a task.
    t.kill().await;
    t.start_again().await;
    clock.advance(Duration::from_secs(3601));
    let question = t.expect("ops", &[":raising_hand: *R-1* Is red right?", "`yes` or `no`"]).await;
    assert_eq!(question.thread.as_deref(), Some(progress.id.as_str()));
    t.reply("bob", "ops", &progress.id, "yes").await;
    t.expect("ops", &["That question is for lead."]).await;
    t.reply("carol", "ops", &progress.id, "hm, let me see").await;
    t.reply("bob", "ops", &progress.id, "hm").await;
    t.silence("ops").await;
    // One word is meant as an answer.
    t.reply("carol", "ops", &progress.id, "yse").await;
    let slip = ["`yse` is no answer to R-1", "Did you mean `yes`?", "`yes` or `no`"];
    assert_eq!(t.expect("ops", &slip).await.thread.as_deref(), Some(progress.id.as_str()));
    t.restart().await;
    t.reply("carol", "ops", &progress.id, "Yes").await;
    let told = t.expect("general", &["it is red"]).await;
    assert!(!told.text.contains("@all"), "nobody is woken by an argument: {}", told.text);
    t.until(&progress, &[":white_check_mark: *R-1*", "done in"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    t.end().await;
}

#[tokio::test]
async fn an_answer_that_stops_the_run_undoes_what_was_done() {
    let ask = "  - id: sure\n    ask: {question: \"Keep {{ colour }}?\", choices: [\"yes\", \"no\"], stop: [\"no\"]}\n";
    let never = "  - id: tell\n    notify: {room: general, text: kept}\n";
    let t = house(&format!("{STACK}{ask}{never}"), Clock::system(), "").await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    t.expect("ops", &[":raising_hand: *R-1* Keep red?"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.reply("bob", "ops", &progress.id, "no").await;
    t.until(&progress, &[":x: *R-1*", "*failed*", "bob answered `no`"]).await;
    t.expect("ops", &["@alice", "bob answered `no`"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7", "the stack was put back");
    t.end().await;
}

#[tokio::test]
async fn a_question_in_the_thread_of_another_run_that_is_under_way_is_answered_there() {
    let steps =
        "  - id: sure\n    ask: {question: \"Keep {{ colour }}?\"}\n  - id: dry\n    wait: {for: 1h}\n";
    let t = house(steps, Clock::system(), "").await;
    t.say("alice", "ops", "!tour prod red").await;
    let first = t.progress("R-1").await;
    t.expect("ops", &[":raising_hand: *R-1* Keep red?"]).await;
    t.reply("alice", "ops", &first.id, "yes").await;
    t.until(&first, &["waits until"]).await;
    t.reply("alice", "ops", &first.id, "!tour staging blue").await;
    let question = t.expect("ops", &[":raising_hand: *R-2* Keep blue?\n_Answer in this thread._"]).await;
    t.reply("alice", "ops", question.thread.as_deref().expect("in a thread"), "yes").await;
    let second = t.expect("ops", &["*R-2*", "waits until"]).await;
    for run in ["R-1", "R-2"] {
        t.say("alice", "ops", &format!("!cancel {run}")).await;
        t.expect("ops", &["Cancelling", run]).await;
        t.expect("ops", &["@alice", "cancelled"]).await;
    }
    t.until(&second, &["*cancelled* by alice"]).await;
    t.end().await;
}

#[tokio::test]
async fn an_answer_is_not_taken_for_a_question_that_was_asked_after_it_was_written() {
    let steps = "  - id: one\n    ask: {question: \"Keep {{ colour }}?\", choices: [\"yes\", \"no\"]}\n  \
                 - id: two\n    ask: {question: \"Wipe the rest?\", choices: [\"yes\", \"no\"], stop: [\"no\"]}\n";
    // Rocket.Chat tells its time in whole seconds: a difference of one is none.
    let now = jiff::Timestamp::from_second(Clock::system().now().as_second()).expect("a time");
    let (clock, server) = (Clock::manual(now), Clock::manual(now));
    let prod = "approvals: {default: none}\n".to_owned();
    let setup = Setup { prod, files: tour(steps), clock: clock.clone(), ..Setup::default() };
    let t = House::with(Setup { server_clock: Some(server.clone()), ..setup }).await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    t.expect("ops", &[":raising_hand: *R-1* Keep red?"]).await;
    // What the server stamps from here on was written before Houston asks anything more.
    clock.advance(Duration::from_secs(1));
    t.reply("alice", "ops", &progress.id, "yes").await;
    t.expect("ops", &[":raising_hand: *R-1* Wipe the rest?"]).await;
    t.reply("alice", "ops", &progress.id, "yes").await;
    let told = t.expect("ops", &["R-1 asked after you wrote that", "Wipe the rest?", "Say it again"]).await;
    assert_eq!(told.thread.as_deref(), Some(progress.id.as_str()));
    t.until(&progress, &["waits for an answer"]).await;
    server.advance(Duration::from_secs(1));
    t.reply("alice", "ops", &progress.id, "no").await;
    t.until(&progress, &["alice answered `no`"]).await;
    t.expect("ops", &["@alice", "alice answered `no`"]).await;
    t.end().await;
}

#[tokio::test]
async fn an_answer_where_two_runs_ask_is_taken_for_neither_until_it_names_one() {
    let steps = "  - id: sure\n    ask: {question: \"Wipe {{ colour }}?\", choices: [\"yes\", \"no\"], stop: [\"no\"]}\n";
    let t = house(steps, Clock::system(), "").await;
    t.say("alice", "ops", "!tour prod red").await;
    t.expect("ops", &[":raising_hand: *R-1* Wipe red?"]).await;
    let first = t.progress("R-1").await;
    t.reply("bob", "ops", &first.id, "!tour staging blue").await;
    t.expect("ops", &[":raising_hand: *R-2* Wipe blue?"]).await;
    t.reply("bob", "ops", &first.id, "yes").await;
    t.expect("ops", &["R-1 and R-2 ask here, so I took that for none of them", "`R-1 yes`"]).await;
    t.reply("bob", "ops", &first.id, "r-2 yes").await;
    t.expect("ops", &["@bob `tour staging blue` done in"]).await;
    t.expect("ops", &[":white_check_mark: *R-2*", "ask: Wipe blue?"]).await;
    t.reply("alice", "ops", &first.id, "no").await;
    t.until(&first, &["alice answered `no`"]).await;
    t.expect("ops", &["@alice `tour prod red`"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_check_that_fails_says_what_it_saw_and_undoes_what_was_done() {
    let check =
        "  - id: check\n    http_check: {url: \"SANDBOX/api/info\", expect_body: nowhere, within: 300ms}\n";
    let t = house(&format!("{STACK}{check}"), Clock::system(), "").await;
    t.say("alice", "ops", "!tour prod red").await;
    t.ended("R-1", &[":x: *R-1*", "it answered 200 without `nowhere`", "undone"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn a_playbook_that_only_looks_and_tells_is_something_to_do() {
    let steps = "  - id: check\n    http_check: {url: \"SANDBOX/api/info\"}\n  - id: tell\n    notify: {room: general, text: \"{{ colour }}\"}\n";
    let t = house(steps, Clock::system(), "").await;
    t.say("alice", "ops", "!tour prod red").await;
    t.expect("general", &["red"]).await;
    t.ended("R-1", &["done in"]).await;
    t.end().await;
}

/// The real sshd as a host of an environment, `node1`.
pub fn hosts() -> Option<String> {
    let base = parts::sshd()?;
    let port = std::fs::read_to_string(base.join("port")).expect("the part says its port");
    Some(format!(
        "hosts:\n  node1: {{ssh: \"127.0.0.1:{}\", identity: {b}/id, known_hosts: {b}/known_hosts}}\n",
        port.trim(),
        b = base.display()
    ))
}

#[tokio::test]
async fn a_command_on_a_host_runs_once_its_output_is_kept_whole_and_its_failure_is_told() {
    let Some(hosts) = hosts() else { return };
    let steps = "  - id: count\n    ssh:\n      host: node1\n      command: [sh, -c, \"seq 1 400; echo \\\"$1\\\"\", sh, \"{{ colour }}\"]\n      repeat: idempotent\n    undo: none\n  \
         - id: fail\n    ssh: {host: node1, command: [sh, -c, \"echo out of paint >&2; exit 3\"]}\n";
    let t = house(steps, Clock::system(), &hosts).await;
    t.say("alice", "ops", "!tour prod \"red; echo $(id) && 'x\"").await;
    let progress = t.ended("R-1", &[":x: *R-1*", "ended with status 3", "out of paint"]).await;
    assert!(progress.text.len() < 3000, "the room is not flooded: {}", progress.text);
    t.say("alice", "ops", "!logs R-1").await;
    let logs = t.expect("ops", &["*R-1*"]).await;
    assert!(logs.text.contains('1') && logs.text.len() < 8000, "{}", logs.text);
    let whole = std::fs::read_dir(t.state().join("transcripts")).expect("transcripts");
    let whole: String =
        whole.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok()).collect();
    assert!((1..=400).all(|n| whole.contains(&format!("{n}\n"))), "every line is kept: {whole}");
    assert!(whole.contains("red; echo $(id) && 'x"), "an argument stays one word: {whole}");
    t.silence_but("ops", &[]).await;
    t.end().await;
}

#[test]
fn a_question_that_nobody_can_answer_is_found_before_it_is_asked() {
    let kinds = houston::app::kinds();
    let kinds: Vec<_> = kinds.values().map(AsRef::as_ref).collect();
    let houston = "rocketchat: {url: 'http://127.0.0.1:3000', username: houston, password: {env: P}}\n\
                   access: {roles: {operator: {users: [alice]}, lead: {users: [carol]}}}\n";
    let playbook = "description: Asks\ninputs: {environment: {type: environment}, colour: {type: text}}\nsteps:\n  \
                    - id: a\n    ask: {question: a, from: [leda]}\n  \
                    - id: b\n    ask: {question: b, choices: [x, y], stop: [z]}\n  \
                    - id: c\n    ask: {question: c, choices: [x], stop: [x]}\n  \
                    - id: d\n    ask: {question: d, from: [lead], choices: [x, y], stop: [y]}\n";
    let files = [("houston.yaml", houston), ("commands/tour.yaml", TOUR), ("playbooks/tour.yaml", playbook)];
    let (_, found) = houston::config::Config::from_files(&files, &kinds);
    let found: Vec<String> = found.sorted().iter().map(ToString::to_string).collect();
    let found: Vec<&String> = found.iter().filter(|line| line.contains("playbooks/tour.yaml")).collect();
    let wanted = [
        "`leda` is not a role",
        "`z` of `stop` is none of the `choices`",
        "every one of the `choices` stops",
    ];
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    for (line, part) in found.iter().zip(wanted) {
        assert!(line.contains(part), "{part} in {line}");
    }
}
