//! Houston is killed while runs are under way, and comes back: what the people in the room see of it.

use std::time::Duration;

use houston::clock::Clock;
use serde_json::json;

use crate::support::house::{House, Said, Setup};

/// No approval in prod, and a clock that only the test moves.
async fn house() -> (House, Clock) {
    let clock = Clock::manual(Clock::system().now());
    let prod = "approvals: {default: none}\n".to_owned();
    let t = House::with(Setup { prod, clock: clock.clone(), ..Setup::default() }).await;
    (t, clock)
}

async fn away(t: &mut House, clock: &Clock, seconds: u64) {
    t.kill().await;
    clock.advance(Duration::from_secs(seconds));
    t.start_again().await;
}

/// Messages in which Houston says that it was away.
fn apologies(t: &House) -> Vec<Said> {
    t.said("ops").into_iter().filter(|said| said.text.contains("I was away")).collect()
}

#[tokio::test]
async fn the_same_message_goes_on_and_says_how_long_it_was_and_what_is_so() {
    let (mut t, clock) = house().await;
    t.say("alice", "ops", "!deploy prod web 1.8-slower").await;
    let progress = t.progress("R-1").await;
    t.wait_for_image("web", "demo/web:1.8-slower").await;
    away(&mut t, &clock, 12).await;
    let line = "_I was away for 12 s. R-1 continues at step 1 of 1; the update of `web` that I started is still running on the cluster._";
    t.until(&progress, &[line, "taken up again after a restart"]).await;
    // Once more is no second line, and no second message.
    away(&mut t, &clock, 3).await;
    let now =
        t.until(&progress, &["_I was away for 3 s (2 times so far). R-1 continues at step 1 of 1; "]).await;
    assert_eq!(now.text.matches("I was away").count(), 1, "{}", now.text);
    assert_eq!(apologies(&t).len(), 1);
    t.silence("ops").await;
    // What an earlier process began can be cancelled in this one.
    t.say("bob", "ops", "!cancel R-1").await;
    t.expect("ops", &["Cancelling R-1. Still under way: update `web` to `1.8-slower`"]).await;
    t.until(&progress, &["*cancelled* by bob", "I was away for 3 s (2 times so far)", "back at `1.7`"]).await;
    t.expect("ops", &["@alice", "cancelled"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn what_was_done_meanwhile_is_adopted_and_said() {
    let (mut t, clock) = house().await;
    t.say("alice", "ops", "!deploy prod web 1.8-slow").await;
    let progress = t.progress("R-1").await;
    t.wait_for_image("web", "demo/web:1.8-slow").await;
    t.kill().await;
    t.wait_for_update("web", "completed").await;
    clock.advance(Duration::from_secs(75));
    t.start_again().await;
    let end = t.until(&progress, &[":white_check_mark: *R-1*", "deployed in"]).await;
    assert!(
        end.text.contains("_I was away for 1 min 15 s; step 1 of 1 was done meanwhile._"),
        "{}",
        end.text
    );
    t.expect("ops", &["@alice", "deployed in"]).await;
    t.end().await;
}

#[tokio::test]
async fn what_the_cluster_rolled_back_meanwhile_is_a_failure_that_is_not_tried_again() {
    let (mut t, clock) = house().await;
    t.say("alice", "ops", "!deploy prod web 2.0").await;
    let progress = t.progress("R-1").await;
    t.wait_for_image("web", "demo/web:2.0").await;
    t.kill().await;
    t.wait_for_update("web", "rollback_completed").await;
    let sent = t.version("web").await;
    clock.advance(Duration::from_secs(30));
    t.start_again().await;
    let end = t.until(&progress, &[":x: *R-1*", "*failed*", "was rolled back, it is back at `1.7`"]).await;
    assert!(end.text.contains("_I was away for 30 s, at step 1 of 1._"), "{}", end.text);
    t.expect("ops", &["@alice", "failed"]).await;
    assert_eq!(t.version("web").await, sent, "nothing was sent again");
    t.end().await;
}

#[tokio::test]
async fn many_runs_go_on_each_in_its_own_message_and_nowhere_else() {
    const COMMAND: &str = "nap:\n  summary: Waits.\n  playbook: nap\n  arguments:\n    \
                           colour: {type: text, doc: any}\n  examples: [nap red]\n";
    const PLAYBOOK: &str = "description: Waits\ninputs:\n  colour: {type: text}\nsteps:\n  \
                            - id: first\n    notify: {room: general, text: begun}\n  \
                            - id: pause\n    wait: {for: 1h}\n";
    const RUNS: usize = 12;
    let clock = Clock::manual(Clock::system().now());
    let files = vec![("commands/nap.yaml", COMMAND.to_owned()), ("playbooks/nap.yaml", PLAYBOOK.to_owned())];
    let setup = Setup { files, clock: clock.clone(), services: Vec::new(), ..Setup::default() };
    let mut t = House::with(setup).await;
    let mut progress = Vec::new();
    for run in 1..=RUNS {
        t.say("alice", "ops", &format!("!nap red{run}")).await;
        t.expect("general", &["begun"]).await;
        let message = t.progress(&format!("R-{run}")).await;
        progress.push(t.until(&message, &["waits until"]).await);
    }
    away(&mut t, &clock, 40).await;
    for (index, message) in progress.iter().enumerate() {
        let line = format!("_I was away for 40 s. R-{} still waits at step 2 of 2._", index + 1);
        t.until(message, &[&line, "waits until"]).await;
    }
    assert_eq!(apologies(&t).len(), RUNS);
    t.silence("ops").await;
    clock.advance(Duration::from_secs(3600));
    for message in &progress {
        t.until(message, &["done in", "_I was away for 40 s, at step 2 of 2._"]).await;
        t.expect("ops", &["@alice", "done in"]).await;
    }
    t.end().await;
}

#[tokio::test]
async fn what_could_not_be_shown_while_the_server_was_away_is_shown_when_it_is_back() {
    const COMMAND: &str = "nap:\n  summary: Waits.\n  playbook: nap\n  examples: [nap]\n";
    const PLAYBOOK: &str = "description: Waits\ninputs: {}\nsteps:\n  - id: pause\n    wait: {for: 1h}\n";
    let clock = Clock::manual(Clock::system().now());
    let files = vec![("commands/nap.yaml", COMMAND.to_owned()), ("playbooks/nap.yaml", PLAYBOOK.to_owned())];
    let setup = Setup { files, clock: clock.clone(), services: Vec::new(), ..Setup::default() };
    let mut t = House::with(setup).await;
    t.say("alice", "ops", "!nap").await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["waits until"]).await;
    t.kill().await;
    clock.advance(Duration::from_secs(40));
    t.control("refuse", json!({"requests": 6, "ms": 0})).await;
    t.start_again().await;
    // A run that waits moves for nobody: no later edit makes up for the one that failed.
    t.until(&progress, &["_I was away for 40 s. R-1 still waits at step 1 of 1._"]).await;
    clock.advance(Duration::from_secs(3600));
    t.expect("ops", &["@alice", "done in"]).await;
    t.end().await;
}

#[tokio::test]
async fn what_nobody_can_tell_is_asked_with_how_to_look_and_what_each_answer_does() {
    for (answer, end, image) in [
        ("happened", ":white_check_mark: *R-1*", "demo/web:1.6"),
        ("did-not-happen", "was changed after the plan was made", "demo/web:1.6"),
        ("undo", "which this run did not do: it was left alone", "demo/web:1.6"),
    ] {
        let (mut t, clock) = house().await;
        t.say("alice", "ops", "!deploy prod web 1.8-slower").await;
        let progress = t.progress("R-1").await;
        t.wait_for_image("web", "demo/web:1.8-slower").await;
        t.kill().await;
        // Somebody puts things right meanwhile, in their own way.
        t.change_image("web", "demo/web:1.6").await;
        clock.advance(Duration::from_secs(60));
        t.start_again().await;
        let socket = format!("docker -H unix://{} service", t.docker_socket().display());
        let asked = [
            "*R-1* I do not know whether step 1 of 1 (update `web` to `1.8-slower`) happened",
            "this run changed `web`, and somebody else has since: it is set to `demo/web:1.6` now",
            &format!("\n{socket} inspect --pretty web\n{socket} ps --no-trunc web\n```"),
            "`!resolve R-1 happened`: R-1 is done",
            "`!resolve R-1 did-not-happen`: it is done again",
            "`!resolve R-1 undo`: it is undone, whether it happened or not",
            "`!abandon R-1 why`: everything stays as it is, and `prod/web` is free",
        ];
        let question = t.expect("ops", &asked).await;
        assert_eq!(question.thread.as_deref(), Some(progress.id.as_str()));
        let away = "_I was away for 1 min, while step 1 of 1 ran. Whether it happened is not known._";
        t.until(&progress, &["needs a person", away]).await;
        // A further restart asks nothing anew, and the question can be read again.
        t.restart().await;
        t.silence("ops").await;
        t.say("bob", "ops", "!show R-1").await;
        t.expect("ops", &["needs a person", "I do not know whether step 1 of 1"]).await;
        t.say("bob", "ops", &format!("!resolve R-1 {answer}")).await;
        t.expect("ops", &["R-1 goes on."]).await;
        if answer == "undo" {
            // Nothing of its own is there to be undone, and what others did is left alone: that is for people.
            t.tick_until(&clock, "stuck", &[":sos: *R-1*", end]).await;
            t.say("bob", "ops", "!abandon R-1 it is as it should be").await;
            t.expect("ops", &["R-1 is abandoned"]).await;
            t.until(&progress, &["*abandoned* by bob"]).await;
        } else {
            t.until(&progress, &[end]).await;
            t.expect("ops", &["@alice"]).await;
        }
        assert_eq!(t.image("web").await, image, "{answer}");
        t.end().await;
    }
}

#[tokio::test]
async fn a_stuck_run_lists_what_was_done_and_what_to_type_and_goes_on_when_that_is_finished() {
    let steps = "  - id: more\n    swarm_service: {action: scale, service: web, replicas: 2}\n  \
                 - id: api\n    swarm_service: {action: update, service: api, version: \"1.8\"}\n  \
                 - id: check\n    http_check: {url: \"SANDBOX/api/info\", expect_body: nowhere, within: 20s}\n  \
                 - id: tell\n    notify: {room: general, text: never}\n";
    let clock = Clock::manual(Clock::system().now());
    let t = crate::step_kinds::house_of(steps, clock.clone(), "", &[("web", 1), ("api", 1)]).await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["step 3 of 4"]).await;
    t.change_image("api", "demo/api:1.6").await;
    let docker = format!("docker -H unix://{} service", t.docker_socket().display());
    let listed = [
        ":sos: *R-1* `tour prod red` is stuck: undoing failed for good.",
        "*not undone*: step 2 of 4 (update `api` to `1.8`): `api` is set to `demo/api:1.6` now",
        &format!("By hand:\n```\n{docker} update --image demo/api:1.7 --replicas 1 api\n"),
        "*still done*: step 1 of 4 (scale `web` to 2 tasks)",
        &format!("By hand:\n```\n{docker} update --image demo/web:1.7 --replicas 1 web\n```"),
        "*never begun*: 1 step",
        "`!retry R-1`: I try again to undo it",
        "`!resolve R-1 undone`: you have undone by hand what I could not; I go on with what is still done",
        "`!abandon R-1 why`: everything stays as it is, and ",
    ];
    let stuck = t.tick_until(&clock, "stuck", &listed).await;
    assert!(!stuck.text.contains('\u{200b}'), "it can be copied: {}", stuck.text);
    t.say("carol", "ops", "!resolve R-1 happened").await;
    t.expect("ops", &["R-1 is stuck", "`resolve R-1 undone`"]).await;
    t.say("carol", "ops", "!cancel R-1").await;
    t.expect("ops", &["R-1 needs a person first"]).await;
    // Carol types what she was told to.
    t.change_image("api", "demo/api:1.7").await;
    t.say("carol", "ops", "!resolve R-1 undone").await;
    t.expect("ops", &["R-1 goes on."]).await;
    t.until(&progress, &[":x: *R-1*", "*failed*", "update `api` to `1.8`: undone", "2 tasks: undone"]).await;
    t.expect("ops", &["@alice", "failed"]).await;
    assert_eq!(t.tasks_wanted("web").await, 1);
    t.end().await;
}

/// Whatever kind it is: what is to be undone stands there with what a person does.
#[tokio::test]
async fn a_stuck_stack_and_an_undo_that_is_another_step_are_listed_with_what_to_do() {
    let steps = "  - id: api\n    swarm_service: {action: update, service: api, version: \"1.8\"}\n    \
                 undo: {notify: {room: nowhere, text: \"api stays at 1.8\"}}\n  \
                 - id: stack\n    swarm_stack: {name: shop, services: [web]}\n  \
                 - id: check\n    http_check: {url: \"SANDBOX/api/info\", expect_body: nowhere, within: 20s}\n";
    let clock = Clock::manual(Clock::system().now());
    let t = crate::step_kinds::house_of(steps, clock.clone(), "", &[("web", 1), ("api", 1)]).await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["step 3 of 3"]).await;
    t.change_image("web", "demo/web:1.6").await;
    let docker = format!("docker -H unix://{} service", t.docker_socket().display());
    let listed = [
        ":sos: *R-1*",
        "*not undone*: step 2 of 3 (bring stack `shop` to its declaration)",
        &format!("By hand:\n```\n{docker} update --image demo/web:1.7 --replicas 1 web\n"),
        "*still done*: step 1 of 3 (update `api` to `1.8`)\nBy hand:\n```\n# say in nowhere: api stays at 1.8\n```",
    ];
    t.tick_until(&clock, "stuck", &listed).await;
    t.change_image("web", "demo/web:1.7").await;
    t.say("carol", "ops", "!resolve R-1 undone").await;
    t.expect("ops", &["R-1 goes on."]).await;
    let listed =
        ["*undone*: step 2 of 3", "*not undone*: step 1 of 3 (update `api` to `1.8`)", "# say in nowhere"];
    t.tick_until(&clock, "stuck again", &listed).await;
    t.say("carol", "ops", "!abandon R-1 said so").await;
    t.expect("ops", &["R-1 is abandoned"]).await;
    t.until(&progress, &["*abandoned* by carol: said so"]).await;
    t.end().await;
}
