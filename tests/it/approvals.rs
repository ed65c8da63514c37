//! Who consents to a plan, as the room sees it: cards, reactions, words, deadlines, and what becomes of votes
//! when Houston or the world changes meanwhile.

use std::time::Duration;

use houston::clock::Clock;
use houston::sandbox::Dialect;
use houston::store::{Store, Tree};
use serde_json::json;

use crate::support::house::{House, Said, Setup};
use crate::support::rc::Person;

/// Two people of these roles.
const TWO: &str = "approvals:\n  deploy: {count: 2, from: [operator, lead]}\n";

/// Alice asks for a deployment to prod.
async fn asked(t: &House) -> Said {
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.card().await
}

async fn cancel(t: &House, run: &str) {
    t.say("alice", "ops", &format!("!cancel {run}")).await;
    t.expect("ops", &[run, "is cancelled"]).await;
}

#[tokio::test]
async fn prod_needs_a_second_person_by_default() {
    let t = House::start().await;
    let card = asked(&t).await;
    for part in ["*R-1*", "`deploy prod web 1.8` asked by alice", "1 operator or lead, not the requester"] {
        assert!(card.text.contains(part), "`{part}` is missing: {}", card.text);
    }
    assert!(card.text.contains("demo/web:1.7") && card.text.contains("demo/web:1.8"), "{}", card.text);
    assert!(card.text.contains("*has* nobody yet") && card.text.contains("*until*"), "{}", card.text);
    assert_eq!(t.image("web").await, "demo/web:1.7", "nothing happens before the consent");
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*approved* by bob"]).await;
    t.ended("R-1", &[":white_check_mark:", "deployed in"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.end().await;
}

#[tokio::test]
async fn second_approver_must_differ_from_requester() {
    let t = House::start().await;
    let card = asked(&t).await;
    t.react("alice", &card, ":+1:").await;
    let told = t.expect("ops", &["@alice", "you asked for R-1 yourself"]).await;
    assert_eq!(told.thread.as_deref(), Some(card.id.as_str()));
    // Told once.
    t.react("alice", &card, ":white_check_mark:").await;
    t.silence("ops").await;
    t.until(&card, &["*has* nobody yet"]).await;
    cancel(&t, "R-1").await;
    t.until(&card, &["*cancelled* by alice", "Nothing was changed"]).await;
    t.end().await;
}

#[tokio::test]
async fn no_way_of_approving_counts_the_requester() {
    let t = House::start().await;
    let card = asked(&t).await;
    t.say("alice", "ops", "!approve R-1").await;
    t.expect("ops", &["you asked for R-1 yourself"]).await;
    t.say("alice", "ops", "/approve R-1").await;
    t.expect("ops", &["you asked for R-1 yourself"]).await;
    t.say("alice", "ops", "@houston approve R-1").await;
    t.expect("ops", &["you asked for R-1 yourself"]).await;
    t.react("alice", &card, ":thumbsup_tone2:").await;
    t.say("alice", "ops", "!retry R-1").await;
    t.expect("ops", &["R-1"]).await;
    t.silence("ops").await;
    t.until(&card, &["*has* nobody yet"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    cancel(&t, "R-1").await;
    t.end().await;
}

#[tokio::test]
async fn a_vote_without_the_role_does_not_count_and_its_giver_is_told_once() {
    let t = House::start().await;
    t.newcomer("dave").await;
    let card = asked(&t).await;
    t.react("dave", &card, ":+1:").await;
    t.expect("ops", &["@dave", "your vote on R-1 does not count", "`lead` or `operator`"]).await;
    t.react("dave", &card, ":white_check_mark:").await;
    t.silence("ops").await;
    t.until(&card, &["*has* nobody yet"]).await;
    // A denial takes the right as well.
    t.react("dave", &card, ":-1:").await;
    t.silence("ops").await;
    t.until(&card, &["*has* nobody yet"]).await;
    cancel(&t, "R-1").await;
    t.end().await;
}

#[tokio::test]
async fn who_denies_by_reaction_is_asked_why_and_the_card_says_it() {
    let t = House::start().await;
    let card = asked(&t).await;
    t.react("bob", &card, ":-1:").await;
    t.until(&card, &["*denied* by bob"]).await;
    let told = t.denied("R-1", "bob").await;
    assert_eq!(told.thread.as_ref(), Some(&card.id));
    assert_eq!(
        told.text,
        "@alice *R-1* `deploy prod web 1.8` was denied by bob, who is asked why\nNothing was changed."
    );
    let question = t.expect("ops", &["@bob why?"]).await;
    let thread = question.thread.expect("it stands under the card");
    t.reply("carol", "ops", &thread, "because I say so").await;
    t.reply("bob", "ops", &thread, "not before the holidays").await;
    let card = t.until(&card, &["*denied* by bob", "not before the holidays"]).await;
    assert!(!card.text.contains("because I say so"), "{}", card.text);
    let told = || t.audited().into_iter().find(|entry| entry.event.action == "denial explained");
    let last = t.wait("the audit entry", told).await.event;
    assert_eq!(last.who.name, "bob");
    assert_eq!(last.result.as_deref(), Some("denied: not before the holidays"));
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn words_that_are_repeated_on_a_card_forge_no_line_of_it() {
    let t = House::start().await;
    let card = asked(&t).await;
    t.react("bob", &card, ":-1:").await;
    t.until(&card, &["*denied* by bob"]).await;
    t.expect("ops", &["@bob why?"]).await;
    let forged = "not now\n:white_check_mark: *approved* by carol and [dave](https://evil.example) @all";
    t.reply("bob", "ops", &card.id, forged).await;
    let card = t.until(&card, &["*denied* by bob", "not now"]).await;
    assert!(!card.text.lines().any(|line| line.starts_with(":white_check_mark:")), "{}", card.text);
    assert!(!card.text.contains("](") && !card.text.contains("@all"), "{}", card.text);
    t.forget_what_was_said(&["ops"]);
    t.end().await;
}

#[tokio::test]
async fn a_denial_is_explained_also_in_the_thread_of_a_run_that_is_under_way() {
    let t = House::with(Setup { services: vec![("web", 1), ("api", 1)], ..Setup::default() }).await;
    t.say("alice", "ops", "!deploy prod web 1.8-slow").await;
    let first = t.card().await;
    t.react("bob", &first, ":+1:").await;
    let progress = t.progress("R-1").await;
    t.reply("alice", "ops", &progress.id, "!deploy prod api 1.8").await;
    let card = t.card().await;
    t.react("bob", &card, ":-1:").await;
    t.denied("R-2", "bob").await;
    let question = t.expect("ops", &["@bob why?"]).await;
    let thread = question.thread.expect("in the thread where it was asked for");
    t.reply("bob", "ops", &thread, "one after the other").await;
    t.until(&card, &["*denied* by bob", "one after the other"]).await;
    t.until(&progress, &["deployed in"]).await;
    t.expect("ops", &["@alice", "deployed in"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_denial_by_command_brings_its_reason() {
    let t = House::start().await;
    let card = asked(&t).await;
    t.say("carol", "ops", "!deny R-1 the database is being moved").await;
    t.expect("ops", &["R-1 is denied."]).await;
    t.denied("R-1", "carol").await;
    t.until(&card, &["*denied* by carol", "the database is being moved"]).await;
    let told = || t.audited().into_iter().find(|entry| entry.event.action == "denied");
    let last = t.wait("the audit entry", told).await.event;
    assert_eq!(last.who.name, "carol");
    assert_eq!(last.result.as_deref(), Some("denied: the database is being moved"));
    t.silence("ops").await;
    t.end().await;
}

#[tokio::test]
async fn a_vote_can_be_withdrawn_until_the_run_has_started() {
    let t = House::prod(TWO).await;
    let card = asked(&t).await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*has* bob", "*missing* 1 operator or lead"]).await;
    t.say("bob", "ops", "!withdraw R-1").await;
    t.expect("ops", &["Your approval of R-1 is withdrawn"]).await;
    t.until(&card, &["*has* nobody yet"]).await;
    t.react("carol", &card, ":+1:").await;
    t.until(&card, &["*has* carol"]).await;
    t.say("bob", "ops", "!approve R-1").await;
    t.expect("ops", &["R-1 is approved."]).await;
    t.ended("R-1", &["deployed in"]).await;
    t.say("bob", "ops", "!withdraw R-1").await;
    t.expect("ops", &["nothing to withdraw from R-1"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_vanished_reaction_no_longer_counts_and_the_card_says_so() {
    let t = House::prod(TWO).await;
    let card = asked(&t).await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*has* bob"]).await;
    t.unreact("bob", &card, ":+1:").await;
    t.until(&card, &["*has* nobody yet", "bob's reaction vanished", "`!approve R-1`"]).await;
    // It takes two all the same.
    t.react("carol", &card, ":+1:").await;
    t.until(&card, &["*has* carol"]).await;
    t.silence("ops").await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.say("bob", "ops", "!approve R-1").await;
    t.expect("ops", &["R-1 is approved."]).await;
    t.until(&card, &["*approved* by"]).await;
    t.ended("R-1", &["deployed in"]).await;
    t.end().await;
}

#[tokio::test]
async fn two_reactions_of_one_person_are_one_vote() {
    let t = House::prod(TWO).await;
    let card = asked(&t).await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*has* bob"]).await;
    t.react("bob", &card, ":white_check_mark:").await;
    t.say("bob", "ops", "!approve R-1").await;
    t.expect("ops", &["Your approval of R-1 counts; one more is missing."]).await;
    t.react("carol", &card, ":thumbsup_tone3:").await;
    t.until(&card, &["*approved* by bob and carol"]).await;
    t.ended("R-1", &["deployed in"]).await;
    t.end().await;
}

#[tokio::test]
async fn an_operator_and_a_lead_are_two_people() {
    let groups = "{count: 1, from: [operator]}, {count: 1, from: [lead]}";
    // Carol is both, and still only one.
    let access =
        "access:\n  roles:\n    operator: {users: [alice, bob, carol]}\n    lead: {users: [carol]}\n";
    let setup = Setup {
        prod: format!("approvals:\n  deploy: {{all_of: [{groups}]}}\n"),
        houston: access.to_owned(),
        ..Setup::default()
    };
    let t = House::with(setup).await;
    let card = asked(&t).await;
    t.react("carol", &card, ":+1:").await;
    t.until(&card, &["*has* carol", "*missing* 1"]).await;
    t.silence("ops").await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*approved* by"]).await;
    t.ended("R-1", &["deployed in"]).await;
    t.end().await;
}

#[tokio::test]
async fn one_lead_or_two_operators_whoever_is_there_first() {
    let either = "approvals:\n  deploy: {any_of: [{count: 1, from: lead}, {count: 2, from: operator}]}\n";
    for (requester, second) in [("alice", "carol"), ("carol", "alice")] {
        let t = House::prod(either).await;
        t.say(requester, "ops", "!deploy prod web 1.8").await;
        let card = t.card().await;
        assert!(card.text.contains("1 lead") && card.text.contains("2 operator"), "{}", card.text);
        t.react("bob", &card, ":+1:").await;
        t.until(&card, &["*has* bob"]).await;
        t.silence("ops").await;
        t.react(second, &card, ":+1:").await;
        t.until(&card, &["*approved* by"]).await;
        t.ended("R-1", &["deployed in"]).await;
        t.end().await;
    }
}

#[tokio::test]
async fn what_nobody_decides_escalates_once_and_not_before() {
    let clock = Clock::manual(Clock::system().now());
    let prod = "approvals:\n  deploy: {count: 2, from: [operator], not_requester: false, expires: 1h, escalate: {after: 10m, to: {count: 1, from: [lead]}}}\n";
    let mut t = House::with(Setup { clock: clock.clone(), prod: prod.to_owned(), ..Setup::default() }).await;
    let card = asked(&t).await;
    assert!(
        card.text.contains("*needs* 2 operator") && card.text.contains("1 lead can decide too"),
        "{}",
        card.text
    );
    t.react("carol", &card, ":+1:").await;
    t.expect("ops", &["@carol", "operator"]).await;
    t.unreact("carol", &card, ":+1:").await;
    clock.advance(Duration::from_secs(599));
    t.silence("ops").await;
    // While Houston is away; it is made up for.
    t.stop().await;
    clock.advance(Duration::from_secs(2));
    t.start_again().await;
    t.expect("ops", &[":arrow_up: *R-1*", "1 lead can decide now too"]).await;
    t.until(&card, &["*needs* 2 operator, or 1 lead"]).await;
    t.restart().await;
    t.silence("ops").await;
    t.say("carol", "ops", "!approve R-1").await;
    t.until(&card, &["*approved* by carol"]).await;
    t.ended("R-1", &["deployed in"]).await;
    assert!(t.audited().iter().any(|entry| entry.event.action == "escalated"));
    t.silence_but("ops", &[]).await;
    t.end().await;
}

#[tokio::test]
async fn a_reason_that_is_required_is_asked_for_and_stands_on_the_card() {
    let t = House::prod("approvals:\n  deploy: {count: 1, from: [operator, lead], reason: required}\n").await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.expect("ops", &["needs a reason", "--reason"]).await;
    assert!(t.runs().is_empty());
    t.say("alice", "ops", "!deploy prod web 1.8 --reason \"the login fix\"").await;
    let card = t.card().await;
    assert!(card.text.contains("_reason: the login fix_"), "{}", card.text);
    cancel(&t, "R-1").await;
    t.end().await;
}

/// What a click on one of a message's buttons makes the clicker's own client say.
fn click(t: &House, buttons: &Said, label: &str) -> String {
    let messages = t.sandbox.messages("ops");
    let message = messages.iter().find(|m| m["_id"] == buttons.id.as_str()).expect("it stands there");
    let actions = message["attachments"][0]["actions"].as_array().expect("buttons");
    let button = actions.iter().find(|action| action["text"] == label).expect("one of that name");
    assert!(button["msg_in_chat_window"] == true && button["msg_processing_type"] == "sendMessage");
    button["msg"].as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn a_button_says_what_one_could_have_typed_and_is_worth_no_more() {
    for dialect in [Dialect::Monolith, Dialect::Streamer] {
        let houston = "approvals: {buttons: true}\n".to_owned();
        let mut t = House::with(Setup { dialect, houston, ..Setup::default() }).await;
        let card = asked(&t).await;
        let buttons = t.expect("ops", &["*R-1* `deploy prod web 1.8`"]).await;
        assert!(buttons.id != card.id && buttons.text.lines().count() == 1, "a message of its own");
        // Her own click does not count, and neither does a reaction on the buttons.
        t.say("alice", "ops", &click(&t, &buttons, "Approve")).await;
        t.expect("ops", &["you asked for R-1 yourself"]).await;
        t.react("bob", &buttons, ":+1:").await;
        t.restart().await;
        t.silence("ops").await;
        t.say("bob", "ops", &click(&t, &buttons, "Approve")).await;
        t.until(&card, &["*approved* by bob"]).await;
        t.ended("R-1", &["deployed in"]).await;
        // Late.
        t.say("carol", "ops", &click(&t, &buttons, "Deny")).await;
        t.expect("ops", &["R-1", "nothing to decide any more"]).await;
        t.silence_but("ops", &[]).await;
        t.end().await;
    }
}

#[tokio::test]
async fn a_request_expires_and_is_not_started_by_a_late_vote() {
    let clock = Clock::manual(Clock::system().now());
    let t = House::with(Setup { clock: clock.clone(), ..Setup::default() }).await;
    let card = asked(&t).await;
    clock.advance(Duration::from_secs(29 * 60));
    t.expect("ops", &["R-1", "still waits"]).await;
    t.silence("ops").await;
    t.until(&card, &["*needs*"]).await;
    clock.advance(Duration::from_secs(2 * 60));
    t.until(&card, &["*expired*", "Nothing was changed"]).await;
    // An edited card notifies nobody.
    let told = t
        .expect(
            "ops",
            &[
                "@alice *R-1*",
                "expired",
                "1 operator or lead did not decide in time",
                "`!deploy prod web 1.8`",
            ],
        )
        .await;
    assert_eq!(told.thread.as_deref(), Some(card.id.as_str()));
    t.react("bob", &card, ":+1:").await;
    t.silence("ops").await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn the_room_is_reminded_once_at_half_time() {
    let clock = Clock::manual(Clock::system().now());
    let mut t = House::with(Setup { clock: clock.clone(), ..Setup::default() }).await;
    let card = asked(&t).await;
    clock.advance(Duration::from_secs(14 * 60));
    t.silence("ops").await;
    clock.advance(Duration::from_secs(61));
    let said = t
        .expect("ops", &["*R-1* `deploy prod web 1.8`", "1 operator or lead, not alice", "14 min left"])
        .await;
    assert!(said.thread.is_none(), "where the card is: {said:?}");
    t.until(&card, &["14 min left"]).await;
    // The audit log is told after the room.
    let reminded = |t: &House| t.audited().iter().filter(|entry| entry.event.action == "reminded").count();
    t.wait("the audit entry", || (reminded(&t) == 1).then_some(())).await;
    // Neither a restart nor more time says it again.
    t.restart().await;
    clock.advance(Duration::from_secs(10 * 60));
    t.silence("ops").await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*approved* by bob"]).await;
    t.ended("R-1", &["deployed in"]).await;
    assert_eq!(reminded(&t), 1);
    t.end().await;
}

#[tokio::test]
async fn a_reminder_that_fell_into_a_stop_is_said_after_it_and_none_after_the_decision() {
    let clock = Clock::manual(Clock::system().now());
    let mut t = House::with(Setup { clock: clock.clone(), ..Setup::default() }).await;
    asked(&t).await;
    t.stop().await;
    clock.advance(Duration::from_secs(20 * 60));
    t.start_again().await;
    t.expect("ops", &["R-1", "still waits"]).await;
    cancel(&t, "R-1").await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.card().await;
    cancel(&t, "R-2").await;
    clock.advance(Duration::from_secs(16 * 60));
    t.silence("ops").await;
    t.end().await;
}

#[tokio::test]
async fn late_votes_are_answered_and_change_nothing() {
    let t = House::start().await;
    let card = asked(&t).await;
    t.say("bob", "ops", "!deny R-1 no").await;
    t.expect("ops", &["R-1 is denied."]).await;
    t.denied("R-1", "bob").await;
    t.say("carol", "ops", "!approve R-1").await;
    t.expect("ops", &["There is nothing to decide any more about R-1 (denied)."]).await;
    t.react("carol", &card, ":+1:").await;
    t.silence("ops").await;
    t.until(&card, &["*denied* by bob"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn drift_between_approval_and_start_voids_it() {
    let mut t = House::start().await;
    let card = asked(&t).await;
    t.change_image("web", "demo/web:1.6").await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*void*", "image", "demo/web:1.7", "demo/web:1.6", "Nothing was changed"]).await;
    let digest = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = |said: &Said| said.text.split(|c: char| !c.is_alphanumeric()).any(digest);
    assert!(!t.said("ops").iter().any(words), "nobody compares digests by eye: {:#?}", t.said("ops"));
    // An edit notifies nobody: whoever asked and whoever approved are told, once, beside the card.
    let told = t.expect("ops", &["@alice @bob *R-1*", "was not started: it is not what was approved"]).await;
    assert_eq!(told.thread.as_deref(), Some(card.id.as_str()));
    for part in ["`demo/web:1.7` → `demo/web:1.6`", "To ask again: `!deploy prod web 1.8`"] {
        assert!(told.text.contains(part), "{}", told.text);
    }
    assert_eq!(t.image("web").await, "demo/web:1.6");
    t.restart().await;
    t.silence("ops").await;
    t.end().await;
}

#[tokio::test]
async fn a_changed_configuration_voids_what_was_asked_before() {
    let mut t = House::start().await;
    let card = asked(&t).await;
    t.stop().await;
    t.configure("environments/prod.yaml", "variables: {colour: green}\n");
    t.start_again().await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*void*", "configuration of variable colour of prod"]).await;
    t.expect("ops", &["@alice @bob *R-1*", "variable colour of prod", "`!deploy prod web 1.8`"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn a_new_plan_voids_the_votes_of_the_old_one() {
    let t = House::prod(TWO).await;
    let first = asked(&t).await;
    t.react("bob", &first, ":+1:").await;
    t.until(&first, &["*has* bob"]).await;
    let second = asked(&t).await;
    assert!(second.text.contains("*R-2*") && second.text.contains("*has* nobody yet"), "{}", second.text);
    t.react("carol", &second, ":+1:").await;
    t.until(&second, &["*has* carol", "*missing* 1"]).await;
    t.until(&first, &["*has* bob", "*missing* 1"]).await;
    cancel(&t, "R-1").await;
    cancel(&t, "R-2").await;
    t.end().await;
}

#[tokio::test]
async fn votes_survive_a_restart_and_reactions_made_meanwhile_count() {
    let mut t = House::prod(TWO).await;
    let card = asked(&t).await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*has* bob"]).await;
    t.stop().await;
    t.react("carol", &card, ":+1:").await;
    t.start_again().await;
    t.until(&card, &["*approved* by bob and carol"]).await;
    t.ended("R-1", &["deployed in"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_vote_that_was_taken_back_while_houston_was_away_does_not_count() {
    let mut t = House::prod(TWO).await;
    let card = asked(&t).await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*has* bob"]).await;
    t.stop().await;
    t.unreact("bob", &card, ":+1:").await;
    t.start_again().await;
    t.until(&card, &["*has* nobody yet", "bob's reaction vanished"]).await;
    t.react("carol", &card, ":+1:").await;
    t.until(&card, &["*has* carol"]).await;
    t.silence("ops").await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    cancel(&t, "R-1").await;
    t.end().await;
}

#[tokio::test]
async fn forged_reactions_on_a_new_message_do_not_count() {
    let t = House::start().await;
    let card = asked(&t).await;
    let forged = json!({"room": "ops", "u": "alice", "msg": card.text,
        "reactions": {":+1:": {"usernames": ["bob", "carol"]}}});
    t.control("send", json!({"message": forged})).await;
    // Also when she passes off her message as the card.
    let mut passed_off = forged.clone();
    passed_off["_id"] = "forged".into();
    passed_off["tmid"] = card.id.as_str().into();
    t.control("send", json!({"message": passed_off})).await;
    t.silence("ops").await;
    t.until(&card, &["*has* nobody yet"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    cancel(&t, "R-1").await;
    t.end().await;
}

#[tokio::test]
async fn a_renamed_voter_keeps_one_vote_and_the_new_owner_of_the_name_has_none() {
    let t = House::prod("approvals:\n  deploy: {count: 2, from: [operator, lead]}\n").await;
    t.newcomer("mallory").await;
    let card = asked(&t).await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*has* bob"]).await;
    t.control("rename", json!({"user": "bob", "to": "bobby"})).await;
    t.control("rename", json!({"user": "mallory", "to": "bob"})).await;
    // The document says `bob` as before: that is still the old Bob's vote, and only one.
    t.react("bob", &card, ":white_check_mark:").await;
    t.expect("ops", &["@bob your vote on R-1 does not count"]).await;
    t.react("bobby", &card, ":white_check_mark:").await;
    t.silence("ops").await;
    t.until(&card, &["*missing* 1"]).await;
    t.react("carol", &card, ":+1:").await;
    t.until(&card, &["*approved* by"]).await;
    t.ended("R-1", &["deployed in"]).await;
    let entry = t.audited().into_iter().find(|entry| entry.event.action == "approved").expect("audited");
    let by: Vec<String> =
        entry.event.approval.expect("with the consent").by.iter().map(|who| who.id.to_string()).collect();
    assert_eq!(by, ["u-bob", "u-carol"]);
    t.end().await;
}

#[tokio::test]
async fn deleting_the_card_cancels_nothing_silently() {
    let t = House::start().await;
    let card = asked(&t).await;
    t.control("delete", json!({"message": card.id})).await;
    let again = t.card().await;
    assert!(again.id != card.id && again.text.contains("*R-1*"), "{}", again.text);
    t.react("bob", &again, ":+1:").await;
    t.until(&again, &["*approved* by bob"]).await;
    t.ended("R-1", &["deployed in"]).await;
    t.end().await;
}

#[tokio::test]
async fn rights_are_checked_again_at_the_start() {
    let access =
        "access:\n  roles:\n    operator: {users: [alice, bob]}\n    lead: {users: [carol, u-dave]}\n";
    let setup = Setup { prod: TWO.to_owned(), houston: access.to_owned(), ..Setup::default() };
    let mut t = House::with(setup).await;
    t.newcomer("dave").await;
    t.stop().await;
    // A name that nobody had when the configuration was first seen counts when it is seen anew.
    t.configure("houston.yaml", "# dave has come\n");
    t.start_again().await;
    let card = asked(&t).await;
    t.react("dave", &card, ":+1:").await;
    t.until(&card, &["*has* dave", "*missing* 1"]).await;
    let carol = Person::login(&t.sandbox.url(), "carol").await;
    let left = json!({"userId": "u-dave", "activeStatus": false, "confirmRelinquish": true});
    assert_eq!(carol.post("users.setActiveStatus", left).await.0, 200);
    t.react("bob", &card, ":+1:").await;
    let why = "dave has left or has lost the role that it takes";
    t.until(&card, &["*has* bob", "*missing* 1", why, "`!approve R-1`"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.react("carol", &card, ":+1:").await;
    t.until(&card, &["*approved* by bob and carol"]).await;
    t.ended("R-1", &["deployed in"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_withdrawn_vote_stays_withdrawn_over_a_restart() {
    let setup = Setup { prod: TWO.to_owned(), ..Setup::default() };
    let mut t = House::with(setup).await;
    let card = asked(&t).await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*has* bob"]).await;
    t.say("bob", "ops", "!withdraw R-1").await;
    t.expect("ops", &["Your approval of R-1 is withdrawn"]).await;
    t.until(&card, &["*has* nobody yet"]).await;
    t.restart().await;
    // Carol's vote is read after what was read again of bob's.
    t.react("carol", &card, ":+1:").await;
    t.until(&card, &["*has* carol", "*missing* 1"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.say("bob", "ops", "!approve R-1").await;
    t.until(&card, &["*approved* by carol and bob"]).await;
    t.ended("R-1", &["deployed in"]).await;
    t.expect("ops", &["R-1 is approved."]).await;
    t.end().await;
}

#[tokio::test]
async fn votes_at_the_same_moment_start_a_run_once() {
    let t = House::start().await;
    let card = asked(&t).await;
    tokio::join!(t.react("bob", &card, ":+1:"), t.react("carol", &card, ":+1:"), async {
        t.say("bob", "ops", "!approve R-1").await;
        t.say("carol", "ops", "!approve R-1").await;
    });
    t.until(&card, &["*approved* by"]).await;
    t.ended("R-1", &["deployed in"]).await;
    // Whoever was second is told so, and nobody's word is lost.
    t.expect("ops", &["R-1"]).await;
    t.expect("ops", &["R-1"]).await;
    let started = t.audited().into_iter().filter(|entry| entry.event.action == "started").count();
    assert_eq!(started, 1);
    t.end().await;
}

#[tokio::test]
async fn a_kill_after_the_approval_loses_neither_the_consent_nor_the_run() {
    let mut t = House::start().await;
    let card = asked(&t).await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*approved* by bob"]).await;
    t.kill().await;
    t.start_again().await;
    t.ended("R-1", &["deployed in"]).await;
    t.until(&card, &["*approved* by bob"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.end().await;
}

/// A room has many people, and a card is a place for a joke.
#[tokio::test]
async fn reactions_of_a_whole_room_are_neither_looked_up_nor_answered_one_by_one_and_hide_no_vote() {
    let mut t = House::start().await;
    let card = asked(&t).await;
    for n in 0..25 {
        let name = format!("guest{n}");
        t.newcomer(&name).await;
        for emoji in ["beer", "cat", "tada", "fire", "rocket", "+1"] {
            t.react(&name, &card, emoji).await;
        }
    }
    let told = |t: &House| {
        let said = t.said("ops").into_iter();
        said.filter(|said| said.text.contains("your vote on R-1 does not count")).collect::<Vec<_>>()
    };
    let last = t.expect("ops", &["does not count", "I tell nobody else"]).await;
    assert_eq!(last.thread.as_deref(), Some(card.id.as_str()));
    t.restart().await;
    t.stop().await;
    let store = t.wait("the store to be free", || Store::open(&t.state().join("journal")).ok()).await;
    for row in store.scan::<serde_json::Value>(Tree::Watches, &[]) {
        let (_, row) = row.expect("readable");
        let kept: Vec<&String> = row["by_emoji"].as_object().into_iter().flat_map(|all| all.keys()).collect();
        assert!(kept.iter().all(|emoji| *emoji == ":+1:"), "kept for nothing: {kept:?}");
    }
    drop(store);
    t.start_again().await;
    t.react("bob", &card, ":+1:").await;
    t.until(&card, &["*approved* by bob"]).await;
    t.ended("R-1", &["deployed in"]).await;
    assert_eq!(told(&t).len(), 10);
    t.forget_what_was_said(&["ops"]);
    t.end().await;
}
