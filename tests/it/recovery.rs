//! Houston is killed while runs are under way, and comes back: what the people in the room see of it.

use std::time::Duration;

use houston::clock::Clock;

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
