//! Steps that wait for consent in the middle of their run, as the room sees it.

use std::time::Duration;

use houston::clock::Clock;

use crate::step_kinds::{house, tour};
use crate::support::house::{House, Said, Setup};

const STACK: &str = "  - id: stack\n    swarm_stack: {name: shop, services: [web, api]}\n";
const TELL: &str =
    "  - id: tell\n    approval: {from: [lead]}\n    notify: {room: general, text: \"it is {{ colour }}\"}\n";

fn steps() -> String {
    format!("{STACK}{TELL}")
}

/// The progress, and the card in its thread.
async fn waiting(t: &House, run: &str) -> (Said, Said) {
    let progress = t.progress(run).await;
    let card = t.expect("ops", &[":raised_hand:", &format!("*{run}*"), "waits before step"]).await;
    assert_eq!(card.thread.as_deref(), Some(progress.id.as_str()));
    t.until(&progress, &["waits for the approval of step 2 of 2", "`!approve R-1`"]).await;
    (progress, card)
}

#[tokio::test]
async fn a_step_asks_in_the_thread_and_a_lead_lets_it_begin() {
    let mut t = house(&steps(), Clock::system(), "").await;
    t.say("alice", "ops", "!tour prod red --dry-run").await;
    t.expect("ops", &["dry run", "waits in the middle of the run for 1 lead, not the requester"]).await;
    t.say("alice", "ops", "!can bob tour prod red").await;
    t.expect("ops", &["Step `tell`: it waits in the middle of the run for 1 lead", "playbooks/tour.yaml:"])
        .await;
    t.say("alice", "ops", "!tour prod red").await;
    let (progress, card) = waiting(&t, "R-1").await;
    for part in [
        "*needs* 1 lead, not the requester",
        "*has* nobody yet",
        "keeps `prod` to itself",
        "what was done is undone",
    ] {
        assert!(card.text.contains(part), "`{part}` is missing: {}", card.text);
    }
    t.say("bob", "ops", "!locks").await;
    t.expect("ops", &["R-1"]).await;
    // A restart changes nothing: the same card goes on.
    t.kill().await;
    t.start_again().await;
    t.react("alice", &card, ":+1:").await;
    t.expect("ops", &["@alice", "you asked for R-1 yourself"]).await;
    t.react("bob", &card, ":+1:").await;
    t.expect("ops", &["@bob", "your vote on R-1 does not count"]).await;
    assert!(t.said("general").is_empty());
    t.react("carol", &card, ":+1:").await;
    t.until(&card, &["*approved* by carol"]).await;
    t.expect("general", &["it is red"]).await;
    t.until(&progress, &[":white_check_mark: *R-1*"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    let audited: Vec<String> = t.audited().into_iter().map(|entry| entry.event.action).collect();
    for action in ["step asked", "step approved"] {
        assert_eq!(audited.iter().filter(|a| *a == action).count(), 1, "{action} in {audited:?}");
    }
    let approved =
        t.audited().into_iter().find(|entry| entry.event.action == "step approved").expect("it is there");
    assert_eq!(approved.event.who.name, "carol");
    assert!(approved.event.approval.expect("by whom").by.iter().any(|who| who.name == "carol"));
    t.end().await;
}

#[tokio::test]
async fn a_denied_step_says_why_and_undoes_what_was_done() {
    let t = house(&steps(), Clock::system(), "").await;
    t.say("alice", "ops", "!tour prod red").await;
    let (progress, card) = waiting(&t, "R-1").await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.react("carol", &card, ":-1:").await;
    let question = t.expect("ops", &["@carol why?"]).await;
    assert_eq!(question.thread.as_deref(), Some(progress.id.as_str()));
    t.until(&card, &["*denied* by carol"]).await;
    t.until(&progress, &[":x: *R-1*", "*failed*", "carol denied it"]).await;
    t.expect("ops", &["@alice", "carol denied it"]).await;
    t.reply("carol", "ops", &progress.id, "the shop is open").await;
    t.until(&card, &["*denied* by carol", "the shop is open"]).await;
    t.until(&progress, &["carol denied it: the shop is open"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7", "the stack was put back");
    assert!(t.said("general").is_empty());
    t.end().await;
}

#[tokio::test]
async fn what_counts_for_the_plan_does_not_count_for_the_step() {
    let t = house(&steps(), Clock::system(), "").await;
    t.rewrite("environments/prod.yaml", "approvals: {default: none}", "approvals: {default: {from: [lead]}}");
    t.say("carol", "ops", "!reload").await;
    t.expect("ops", &["is in force", "changed approval of default in prod"]).await;
    t.say("alice", "ops", "!tour prod red").await;
    let of_plan = t.card().await;
    t.react("carol", &of_plan, ":+1:").await;
    t.until(&of_plan, &["*approved* by carol"]).await;
    let (progress, card) = waiting(&t, "R-1").await;
    // Another reaction on the plan's card, and the click of a button that stood under it.
    t.react("carol", &of_plan, ":white_check_mark:").await;
    t.say("carol", "ops", "!approve R-1 plan").await;
    t.expect("ops", &["R-1 asks about step `tell` now: `!approve R-1 tell` approves that."]).await;
    t.until(&card, &["*has* nobody yet"]).await;
    t.say("carol", "ops", "!approve R-1").await;
    t.expect("ops", &["R-1 is approved."]).await;
    t.until(&card, &["*approved* by carol"]).await;
    t.expect("general", &["it is red"]).await;
    t.until(&progress, &[":white_check_mark: *R-1*"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    t.end().await;
}

#[tokio::test]
async fn reminder_escalation_and_expiry_are_said_in_the_room_and_a_pause_asks_again() {
    let tell = "  - id: tell\n    approval: {from: [lead], expires: 40m, escalate: {after: 10m, to: {from: [operator]}}, otherwise: pause}\n    notify: {room: general, text: \"it is {{ colour }}\"}\n";
    let clock = Clock::manual(Clock::system().now());
    let t = house(&format!("{STACK}{tell}"), clock.clone(), "").await;
    t.say("alice", "ops", "!tour prod red").await;
    let (progress, card) = waiting(&t, "R-1").await;
    clock.advance(Duration::from_secs(601));
    let told = t
        .expect("ops", &[":arrow_up: *R-1* step 2 of `tour prod red`", "1 operator can decide now too"])
        .await;
    assert_eq!(told.thread, None, "where everybody sees it");
    clock.advance(Duration::from_secs(600));
    t.expect("ops", &[":alarm_clock: *R-1* step 2 of `tour prod red` still waits"]).await;
    clock.advance(Duration::from_secs(1200));
    t.until(&card, &["*expired*"]).await;
    t.expect(
        "ops",
        &["*R-1* step 2", "was not approved", "nobody approved it in time", "`!retry R-1` asks again"],
    )
    .await;
    t.until(&progress, &["is paused"]).await;
    t.say("alice", "ops", "!retry R-1").await;
    t.expect("ops", &["R-1 tries again"]).await;
    let again = t.expect("ops", &[":raised_hand: *R-1*", "waits before step 2"]).await;
    assert_ne!(again.id, card.id);
    t.say("alice", "ops", "!cancel R-1").await;
    t.expect("ops", &["Cancelling R-1"]).await;
    t.until(&again, &["*not decided*: alice cancelled the run"]).await;
    t.until(&progress, &["*cancelled* by alice"]).await;
    t.expect("ops", &["@alice", "cancelled"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn buttons_under_the_card_say_which_step_they_are_for() {
    let t = House::with(Setup {
        prod: "approvals: {default: none}\n".into(),
        files: tour(&steps()),
        houston: "approvals: {buttons: true}\n".into(),
        ..Setup::default()
    })
    .await;
    t.say("alice", "ops", "!tour prod red").await;
    let (progress, card) = waiting(&t, "R-1").await;
    let buttons = t.expect("ops", &["*R-1* tell `general`"]).await;
    assert_eq!(buttons.thread.as_deref(), Some(progress.id.as_str()));
    let message =
        t.sandbox.messages("ops").into_iter().find(|m| m["_id"] == buttons.id.as_str()).expect("there");
    let clicks: Vec<&str> = message["attachments"][0]["actions"]
        .as_array()
        .expect("buttons")
        .iter()
        .filter_map(|action| action["msg"].as_str())
        .collect();
    assert_eq!(clicks, ["!approve R-1 tell", "!deny R-1"]);
    t.reply("carol", "ops", &progress.id, clicks[0]).await;
    t.expect("ops", &["R-1 is approved."]).await;
    t.until(&card, &["*approved* by carol"]).await;
    t.expect("general", &["it is red"]).await;
    t.until(&progress, &[":white_check_mark: *R-1*"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    t.end().await;
}

#[tokio::test]
async fn broken_glass_goes_past_the_steps_too_and_says_so() {
    let t = house(&steps(), Clock::system(), "").await;
    t.rewrite("houston.yaml", "access:", "approvals: {break_glass: {from: [lead]}}\naccess:");
    t.say("carol", "ops", "!reload").await;
    t.expect("ops", &["is in force"]).await;
    t.say("carol", "ops", "!tour prod red --break-glass burning").await;
    t.expect("ops", &[":rotating_light: *BREAK-GLASS* *R-1*", "without the approval of step `tell`"]).await;
    t.expect("general", &["it is red"]).await;
    t.ended("R-1", &["done in", "review open", "by `lead`, not carol"]).await;
    t.end().await;
}

#[tokio::test]
async fn who_approves_can_read_all_that_would_run() {
    let script = format!("set -e; {}; touch /srv/the-end", "shop-migrate --table orders; ".repeat(9));
    let steps = format!(
        "  - id: migrate\n    ssh: {{host: cache-1, command: [sh, -c, \"{script}\"], stdin: \"yes\\nyes, really\"}}\n    \
         undo: {{ssh: {{host: cache-1, command: [shop-restore, --all]}}}}\n"
    );
    let hosts = "hosts: {cache-1: deploy@127.0.0.1}\n";
    let asks = |default: &str| format!("approvals: {{default: {default}}}\n{hosts}");
    let t =
        House::with(Setup { prod: asks("{from: [lead]}"), files: tour(&steps), ..Setup::default() }).await;
    t.say("alice", "ops", "!tour prod red").await;
    let card = t.card().await;
    for part in [
        "`sh -c 'set -e; shop-migrate",
        "…`",
        "with text on its standard input",
        "all of it is in the thread",
    ] {
        assert!(card.text.contains(part), "`{part}` is missing: {}", card.text);
    }
    assert!(card.text.contains("is undone by: run `shop-restore --all` on `cache-1`"), "{}", card.text);
    assert!(!card.text.contains("the-end") && card.text.len() < 700, "{}", card.text);
    let all = [&*format!("sh -c '{script}'"), "# on its standard input\nyes\nyes, really"];
    let whole = t.expect("ops", &all).await;
    assert_eq!(whole.thread.as_deref(), Some(card.id.as_str()));
    // Whoever looks otherwise is not shown less.
    t.say("bob", "ops", "!tour prod red --dry-run").await;
    t.expect("ops", &["dry run", "all of it is below", all[0], all[1]]).await;
    t.say("bob", "ops", "!show R-1").await;
    // A reaction to that answer would count for nothing.
    t.expect("ops", &["*R-1*", all[0], all[1], "React on the request's own message"]).await;
    t.say("alice", "ops", "!cancel R-1").await;
    t.expect("ops", &["R-1 is cancelled."]).await;
    t.until(&card, &["*cancelled* by alice"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_step_that_asks_says_all_that_it_would_run_in_its_thread() {
    let long = "shop-migrate --table orders ".repeat(9);
    let steps = format!(
        "  - id: look\n    http_check: {{url: \"SANDBOX/api/info\"}}\n  \
         - id: migrate\n    approval: {{from: [lead]}}\n    ssh: {{host: cache-1, command: [sh, -c, \"{long}\"]}}\n"
    );
    let t = house(&steps, Clock::system(), "hosts: {cache-1: deploy@127.0.0.1}\n").await;
    t.say("alice", "ops", "!tour prod red").await;
    let (progress, card) = waiting(&t, "R-1").await;
    assert!(card.text.contains("all of it is in this thread"), "{}", card.text);
    let whole = t.expect("ops", &["All of step 2 (`migrate`):", &format!("sh -c '{long}'")]).await;
    assert_eq!(whole.thread.as_deref(), Some(progress.id.as_str()));
    t.say("alice", "ops", "!cancel R-1").await;
    t.expect("ops", &["Cancelling R-1"]).await;
    t.until(&progress, &["*cancelled* by alice"]).await;
    t.until(&card, &["*not decided*"]).await;
    t.expect("ops", &["@alice", "cancelled"]).await;
    t.end().await;
}

#[tokio::test]
async fn steps_that_a_card_counts_are_listed_in_its_thread() {
    let steps: String = (1..=23)
        .map(|n| format!("  - id: tell-{n}\n    notify: {{room: general, text: \"{n}\"}}\n"))
        .collect();
    let prod = "approvals: {default: {from: [lead]}}\n".to_owned();
    let t = House::with(Setup { prod, files: tour(&steps), ..Setup::default() }).await;
    t.say("alice", "ops", "!tour prod red").await;
    let card = t.card().await;
    assert!(card.text.contains("… and 3 steps more: all of them are in the thread"), "{}", card.text);
    let whole = t.expect("ops", &["*21.* ", "*23.* "]).await;
    assert_eq!(whole.thread.as_deref(), Some(card.id.as_str()));
    t.say("alice", "ops", "!cancel R-1").await;
    t.expect("ops", &["R-1 is cancelled."]).await;
    t.until(&card, &["*cancelled* by alice"]).await;
    t.end().await;
}
