//! Houston is started again with another configuration while runs are under way: none of them does or undoes
//! anything by it before people who may have said so.

use std::time::Duration;

use houston::clock::Clock;

use crate::support::house::{House, Said, Setup};

const TOUR: &str = "tour:\n  summary: Waits and deploys.\n  playbook: tour\n  arguments:\n    \
                    environment: {type: environment, doc: an environment}\n  examples: [tour prod]\n";

const HOUR: Duration = Duration::from_secs(3601);

/// prod with `tour`, whose playbook has these lines.
async fn house(playbook: &str, clock: &Clock, prod: &str) -> House {
    let playbook = format!("description: A tour\ninputs:\n  environment: {{type: environment}}\n{playbook}");
    let files = vec![("commands/tour.yaml", TOUR.to_owned()), ("playbooks/tour.yaml", playbook)];
    House::with(Setup { prod: prod.to_owned(), files, clock: clock.clone(), ..Setup::default() }).await
}

const DEPLOYS_LATER: &str = "steps:\n  - id: pause\n    wait: {for: 1h}\n  - id: stack\n    swarm_stack: {name: shop, services: [web]}\n";

/// Alice's tour, approved by bob, up to where it waits.
async fn under_way(t: &House) -> Said {
    t.say("alice", "ops", "!tour prod").await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["waits until"]).await
}

/// Houston dies; somebody changes a file; it is started again.
async fn dies_and_changes(t: &mut House, from: &str, to: &str) {
    t.kill().await;
    t.rewrite("environments/prod.yaml", from, to);
    t.start_again().await;
}

#[tokio::test]
async fn a_run_goes_on_by_another_configuration_only_with_consent() {
    let clock = Clock::manual(Clock::system().now());
    let mut t = house(DEPLOYS_LATER, &clock, "").await;
    let progress = under_way(&t).await;
    dies_and_changes(
        &mut t,
        "image: demo/web\n    version: \"1.8\"",
        "image: demo/web\n    version: \"1.6\"",
    )
    .await;
    let differs = "configuration of service web: `1.8`";
    let parts = [
        "R-1",
        "has stopped at step 1",
        differs,
        "`1.6`",
        "`!retry R-1`",
        "1 operator or lead, not the requester",
    ];
    let question = t.expect("ops", &parts).await;
    assert_eq!(question.thread.as_deref(), Some(progress.id.as_str()), "in its thread");
    t.until(&progress, &["needs a person", differs]).await;
    // The wait ends, and nothing follows; another death asks nothing anew.
    clock.advance(HOUR);
    t.kill().await;
    t.start_again().await;
    t.until(&progress, &["needs a person", ":white_check_mark: wait"]).await;
    t.say("carol", "ops", "!runs").await;
    t.expect("ops", &["R-1", "needs a person"]).await;
    t.silence("ops").await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.say("alice", "ops", "!retry R-1").await;
    t.expect("ops", &["@alice", "you asked for R-1 yourself"]).await;
    t.say("bob", "ops", "!retry R-1").await;
    t.expect("ops", &["R-1 goes on by the configuration in force now"]).await;
    t.until(&progress, &[":white_check_mark: *R-1*", "done in"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.6");
    let audited = t.audited();
    let entry =
        |action: &str| audited.iter().find(|entry| entry.event.action == action).map(|e| e.event.clone());
    let changed = entry("configuration changed").expect("audited").result.expect("what changed");
    assert!(changed.contains("service web: 1.8 ("), "{changed}");
    assert_eq!(entry("configuration accepted").expect("audited").who.name, "bob");
    t.end().await;
}

#[tokio::test]
async fn consent_is_to_what_was_shown_and_outlives_the_next_death() {
    let clock = Clock::manual(Clock::system().now());
    let two = "variables: {colour: red}\napprovals: {default: {count: 2, from: [operator, lead]}}\n";
    let mut t = house(DEPLOYS_LATER, &clock, two).await;
    t.say("alice", "ops", "!tour prod").await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*has* bob"]).await;
    t.react("carol", &card, ":+1:").await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["waits until"]).await;
    dies_and_changes(&mut t, "colour: red", "colour: green").await;
    t.expect("ops", &["R-1", "has stopped", "variable colour of prod"]).await;
    t.say("bob", "ops", "!retry R-1").await;
    t.expect("ops", &["Your word that R-1 goes on counts; one more is missing"]).await;
    // Another configuration is another question, which nobody has answered yet.
    t.rewrite("environments/prod.yaml", "colour: green", "colour: blue");
    t.say("carol", "ops", "!reload").await;
    t.expect("ops", &["is in force, after"]).await;
    t.expect("ops", &["R-1", "has stopped", "variable colour of prod"]).await;
    clock.advance(HOUR);
    for (who, answer) in [("carol", "one more is missing"), ("bob", "R-1 goes on by")] {
        assert_eq!(t.image("web").await, "demo/web:1.7");
        t.say(who, "ops", "!retry R-1").await;
        t.expect("ops", &[answer]).await;
    }
    // It stands: nobody is asked again.
    t.kill().await;
    t.start_again().await;
    t.until(&progress, &[":white_check_mark: *R-1*", "done in"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.end().await;
}

#[tokio::test]
async fn what_was_begun_with_goes_on_by_itself_when_it_is_back() {
    let clock = Clock::manual(Clock::system().now());
    let mut t = house(DEPLOYS_LATER, &clock, "variables: {colour: red}\n").await;
    let progress = under_way(&t).await;
    dies_and_changes(&mut t, "colour: red", "colour: green").await;
    t.expect("ops", &["R-1", "has stopped", "variable colour of prod", "put back"]).await;
    clock.advance(HOUR);
    t.rewrite("environments/prod.yaml", "colour: green", "colour: red");
    t.say("carol", "ops", "!reload").await;
    t.expect("ops", &["is in force, after"]).await;
    t.until(&progress, &[":white_check_mark: *R-1*", "done in"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.end().await;
}

#[tokio::test]
async fn what_a_run_has_in_its_plan_may_change_over_a_restart() {
    let clock = Clock::manual(Clock::system().now());
    let mut t = house(DEPLOYS_LATER, &clock, "").await;
    let progress = under_way(&t).await;
    t.kill().await;
    t.rewrite("playbooks/tour.yaml", "for: 1h", "for: 2h");
    t.rewrite("commands/tour.yaml", "Waits and deploys.", "Waits.");
    t.rewrite("environments/staging.yaml", "version: \"1.7\"", "version: \"1.8\"");
    t.configure("environments/prod.yaml", "approvals: {default: {count: 1, from: [lead]}}\n");
    t.start_again().await;
    clock.advance(HOUR);
    t.until(&progress, &[":white_check_mark: *R-1*", "done in"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    t.end().await;
}

#[tokio::test]
async fn nothing_is_undone_by_another_configuration_without_consent() {
    let playbook = "on_failure: undo\nsteps:\n  - id: stack\n    swarm_stack: {name: shop, services: [web]}\n  \
                    - id: pause\n    wait: {for: 1h}\n";
    let clock = Clock::manual(Clock::system().now());
    let mut t = house(playbook, &clock, "variables: {colour: red}\n").await;
    let progress = under_way(&t).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    dies_and_changes(&mut t, "colour: red", "colour: green").await;
    t.expect("ops", &["R-1", "has stopped", "`!cancel R-1`: ends it, what was done is to be undone"]).await;
    t.say("alice", "ops", "!cancel R-1").await;
    t.expect("ops", &["R-1 is to be cancelled", "see its thread"]).await;
    t.expect("ops", &["`!retry R-1`: undoes what was done, by the configuration in force now"]).await;
    t.kill().await;
    t.start_again().await;
    t.silence("ops").await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.say("bob", "ops", "!retry R-1").await;
    t.expect("ops", &["R-1 goes on"]).await;
    t.until(&progress, &["*cancelled* by alice"]).await;
    t.expect("ops", &["@alice", "cancelled"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn a_step_that_was_under_way_is_not_even_looked_at_elsewhere() {
    let mut t = House::prod("variables: {colour: red}\n").await;
    t.say("alice", "ops", "!deploy prod web 1.8-slow").await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    let progress = t.progress("R-1").await;
    t.wait_for_image("web", "demo/web:1.8-slow").await;
    t.kill().await;
    // Another engine, that nobody answers at.
    t.rewrite("environments/prod.yaml", "docker.sock", "elsewhere.sock");
    t.start_again().await;
    t.expect("ops", &["R-1", "has stopped at step 1", "configuration of swarm of prod"]).await;
    t.kill().await;
    t.start_again().await;
    t.silence("ops").await;
    t.say("bob", "ops", "!abandon R-1 the swarm has moved").await;
    t.expect("ops", &["R-1 is abandoned"]).await;
    t.until(&progress, &["*abandoned* by bob"]).await;
    t.end().await;
}

#[tokio::test]
async fn an_answer_counts_and_what_follows_it_waits_for_consent() {
    let playbook = "steps:\n  - id: sure\n    ask: {question: \"Go?\", choices: [\"yes\", \"no\"], stop: [\"no\"]}\n  \
                    - id: stack\n    swarm_stack: {name: shop, services: [web]}\n";
    let clock = Clock::manual(Clock::system().now());
    let mut t = house(playbook, &clock, "variables: {colour: red}\napprovals: {default: none}\n").await;
    t.say("alice", "ops", "!tour prod").await;
    let progress = t.progress("R-1").await;
    t.expect("ops", &["R-1", "Go?"]).await;
    dies_and_changes(&mut t, "colour: red", "colour: green").await;
    t.expect("ops", &["R-1", "has stopped", "variable colour of prod"]).await;
    t.reply("bob", "ops", &progress.id, "yes").await;
    t.until(&progress, &["needs a person", ":white_check_mark:"]).await;
    t.silence("ops").await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    // Nobody had to consent to the plan: whoever may retry it says so.
    t.say("alice", "ops", "!retry R-1").await;
    t.expect("ops", &["R-1 goes on"]).await;
    t.until(&progress, &[":white_check_mark: *R-1*"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.end().await;
}

const ASKS: &str = "on_failure: undo\nsteps:\n  - id: stack\n    swarm_stack: {name: shop, services: [web]}\n  \
                    - id: tell\n    approval: {from: [lead]}\n    notify: {room: general, text: \"it is done\"}\n";

/// Alice's tour, approved by bob, up to where its second step asks.
async fn asking(t: &House) -> (Said, Said) {
    t.say("alice", "ops", "!tour prod").await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    let progress = t.progress("R-1").await;
    let asks = t.expect("ops", &[":raised_hand:", "*R-1*", "waits before step"]).await;
    t.until(&progress, &["waits for the approval of step 2 of 2"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    (progress, asks)
}

#[tokio::test]
async fn a_step_that_waits_for_consent_waits_for_that_to_another_configuration_too() {
    let clock = Clock::manual(Clock::system().now());
    let mut t = house(ASKS, &clock, "").await;
    let (progress, asks) = asking(&t).await;
    clock.advance(Duration::from_secs(1));
    dies_and_changes(
        &mut t,
        "image: demo/web\n    version: \"1.8\"",
        "image: demo/web\n    version: \"1.6\"",
    )
    .await;
    t.expect("ops", &["R-1", "has stopped at step 2", "`1.6`", "`!retry R-1`"]).await;
    t.until(&progress, &["needs a person"]).await;
    // Consent to the step is none to the configuration.
    t.react("carol", &asks, ":+1:").await;
    t.until(&asks, &["*approved* by carol"]).await;
    t.say("carol", "ops", "!runs").await;
    t.expect("ops", &["R-1", "needs a person"]).await;
    t.silence("ops").await;
    assert!(t.said("general").is_empty());
    // Nor is it spent: with that to the configuration the step begins.
    t.say("bob", "ops", "!retry R-1").await;
    t.expect("ops", &["R-1 goes on by the configuration in force now"]).await;
    t.expect("general", &["it is done"]).await;
    t.until(&progress, &[":white_check_mark: *R-1*"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    t.end().await;
}

/// A run whose step waits for consent, held up because the configuration is another one since a restart.
struct Held {
    t: House,
    clock: Clock,
    progress: Said,
    asks: Said,
}

async fn held() -> Held {
    let clock = Clock::manual(Clock::system().now());
    let mut t = house(ASKS, &clock, "").await;
    let (progress, asks) = asking(&t).await;
    clock.advance(Duration::from_secs(1));
    dies_and_changes(
        &mut t,
        "image: demo/web\n    version: \"1.8\"",
        "image: demo/web\n    version: \"1.6\"",
    )
    .await;
    t.expect("ops", &["R-1", "has stopped at step 2", "`!retry R-1`"]).await;
    Held { t, clock, progress, asks }
}

#[tokio::test]
async fn a_step_that_is_denied_by_another_configuration_undoes_nothing_without_consent() {
    let Held { t, progress, asks, .. } = held().await;
    t.react("carol", &asks, ":x:").await;
    t.until(&asks, &["*denied* by carol"]).await;
    t.expect("ops", &["@carol why?"]).await;
    t.reply("carol", "ops", &progress.id, "not today").await;
    t.until(&asks, &["not today"]).await;
    t.until(&progress, &["needs a person"]).await;
    t.silence("ops").await;
    assert_eq!(t.image("web").await, "demo/web:1.8", "nothing is undone by what nobody has seen");
    t.say("bob", "ops", "!retry R-1").await;
    t.expect("ops", &["R-1 goes on by the configuration in force now"]).await;
    t.until(&progress, &[":x: *R-1*", "undone"]).await;
    t.expect("ops", &["@alice", "denied"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn a_request_for_a_step_that_runs_out_meanwhile_asks_again_or_ends_by_consent_only() {
    let Held { t, clock, progress, asks } = held().await;
    clock.advance(HOUR);
    t.until(&asks, &["expired"]).await;
    t.until(&progress, &["needs a person"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.say("bob", "ops", "!retry R-1").await;
    t.expect("ops", &["R-1 goes on by the configuration in force now"]).await;
    t.until(&progress, &[":x: *R-1*", "undone"]).await;
    t.expect("ops", &["@alice"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}
