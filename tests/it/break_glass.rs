//! Starting without the consent that is asked for: who may, how loud it is, and the review that it leaves.

use std::time::Duration;

use houston::clock::Clock;
use serde_json::json;

use crate::support::house::{House, Said, Setup};
use crate::support::rc::Person;

const ROLES: &str = "access:\n  roles:\n    operator: {users: [alice]}\n    lead: {users: [bob, carol]}\n";
const LEADS_MAY: &str = "approvals:\n  break_glass: {from: [lead]}\n";

fn leads_may() -> Setup {
    Setup { houston: format!("{ROLES}{LEADS_MAY}"), ..Setup::default() }
}

async fn announced(t: &House, run: &str) -> Said {
    t.expect("ops", &[":rotating_light: *BREAK-GLASS*", &format!("*{run}*"), "stops it"]).await
}

async fn answered(t: &House, who: &str, text: &str, parts: &[&str]) {
    t.say(who, "ops", text).await;
    t.expect("ops", parts).await;
}

fn audited(t: &House, action: &str) -> Vec<(String, Option<String>)> {
    let entries = t.audited().into_iter().map(|entry| entry.event);
    entries.filter(|event| event.action == action).map(|event| (event.who.name, event.result)).collect()
}

#[tokio::test]
async fn a_broken_glass_starts_at_once_and_is_loud_until_another_has_reviewed_it() {
    let t = House::with(leads_may()).await;
    t.newcomer("dave").await;
    t.say("carol", "ops", "!deploy prod web 1.8 --break-glass \"the shop is down\"").await;
    let said = announced(&t, "R-1").await;
    assert!(said.thread.is_none(), "{said:?}");
    for part in [
        "by carol, without the approval of 1 operator or lead",
        "_why: the shop is down_",
        "demo/web:1.8",
        "`!review R-1 what was found`, by `lead` or `operator`, not carol",
    ] {
        assert!(said.text.contains(part), "`{part}` is missing: {}", said.text);
    }
    t.hears("bob", &["*BREAK-GLASS* *R-1*", "the shop is down"]).await;
    assert!(t.told("carol").await.is_empty(), "she knows");
    let progress =
        t.ended("R-1", &["*BREAK-GLASS* by carol", "the shop is down", "deployed in", "*review open*"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    let reason = Some("the shop is down".to_owned());
    assert_eq!(audited(&t, "break-glass"), [("carol".to_owned(), reason)]);
    assert!(audited(&t, "requested").is_empty(), "an action of its own");

    answered(&t, "alice", "!status prod", &[":memo: *R-1*", "is not reviewed"]).await;
    answered(&t, "alice", "!runs", &["succeeded", ":memo: *R-1*", "is not reviewed"]).await;
    answered(&t, "alice", "!show R-1", &["*BREAK-GLASS* by carol", "*review open*"]).await;
    answered(&t, "carol", "!review R-1 all fine", &["R-1 is not reviewed by the one who asked"]).await;
    answered(&t, "dave", "!review R-1 all fine", &["R-1 takes a review by `lead` or `operator`"]).await;
    t.until(&progress, &["*review open*"]).await;
    assert!(audited(&t, "reviewed").is_empty());

    answered(&t, "alice", "!review R-1 it was needed", &["The review of R-1 is closed"]).await;
    let progress = t.until(&progress, &["*reviewed* by alice", "it was needed"]).await;
    assert!(!progress.text.contains("review open"), "{}", progress.text);
    answered(&t, "bob", "!review R-1 again", &["was reviewed by alice already"]).await;
    assert_eq!(audited(&t, "reviewed"), [("alice".to_owned(), Some("it was needed".to_owned()))]);
    t.say("alice", "ops", "!status prod").await;
    let status = t.expect("ops", &["*prod*"]).await;
    assert!(!status.text.contains("R-1 "), "{}", status.text);
    t.end().await;
}

#[tokio::test]
async fn leads_by_a_role_of_rocket_chat_are_told_as_far_as_it_says_who_they_are() {
    let roles = "access:\n  roles:\n    operator: {users: [alice, bob]}\n    \
                 lead: {rocketchat_roles: [admin, livechat-manager]}\n";
    let houston = format!("{roles}approvals:\n  break_glass: {{from: [operator]}}\n");
    let t = House::with(Setup { houston, ..Setup::default() }).await;
    t.control("person", json!({"username": "dave", "roles": ["user", "livechat-manager"]})).await;
    t.say("alice", "ops", "!deploy prod web 1.8 --break-glass \"the shop is down\"").await;
    announced(&t, "R-1").await;
    // Who is admin is shown to everybody; who has the other role is not, and nothing waits for that.
    t.hears("carol", &["*BREAK-GLASS* *R-1*"]).await;
    t.ended("R-1", &["deployed in"]).await;
    assert!(t.told("dave").await.is_empty());
    let grant = json!({"permission": "access-permissions", "roles": ["admin", "bot"]});
    t.control("grant", grant).await;
    t.say("alice", "ops", "!deploy prod web 1.7 --break-glass \"the shop is down\"").await;
    announced(&t, "R-2").await;
    for lead in ["carol", "dave"] {
        t.hears(lead, &["*BREAK-GLASS* *R-2*"]).await;
    }
    t.ended("R-2", &["deployed in"]).await;
    // A wrong configuration is told to the same people.
    t.configure("houston.yaml", "nonsense: 1\n");
    t.say("bob", "ops", "!reload").await;
    t.expect("ops", &["nonsense"]).await;
    for lead in ["carol", "dave"] {
        t.hears(lead, &["configuration folder has changed and is wrong"]).await;
    }
    t.end().await;
}

#[tokio::test]
async fn who_may_not_is_refused_and_told_who_may_and_what_to_configure() {
    let t = House::start().await;
    let line = "!deploy prod web 1.8 --break-glass now";
    answered(&t, "carol", line, &["Nobody may break the glass in `prod`", "break_glass: {from: [lead]}"])
        .await;
    answered(&t, "bob", "!can carol deploy prod web 1.8", &["Break-glass: nobody may in `prod`"]).await;
    t.configure("houston.yaml", LEADS_MAY);
    answered(&t, "carol", "!reload", &["changed who may break the glass"]).await;
    answered(&t, "alice", line, &["You may not break the glass in `prod`: it takes `lead` (carol)"]).await;
    let without = "!deploy staging web 1.8 --break-glass now";
    answered(&t, "carol", without, &["needs no approval", "without `--break-glass`"]).await;
    answered(&t, "carol", "!deploy prod web 1.8 --break-glass", &["break-glass"]).await;
    answered(&t, "carol", "!deploy prod web 1.8 --break-glass=\" \"", &["break-glass"]).await;
    answered(&t, "carol", "!cancel R-1 --break-glass now", &["break-glass"]).await;
    answered(&t, "carol", "!review R-1 fine", &["no run R-1"]).await;
    // An environment may be stricter than the rest.
    t.configure("environments/prod.yaml", "approvals:\n  break_glass: none\n");
    answered(&t, "carol", "!reload", &["changed who may break the glass in prod"]).await;
    answered(&t, "carol", line, &["Nobody may break the glass in `prod`"]).await;
    let refused: Vec<String> = audited(&t, "refused").into_iter().map(|(who, _)| who).collect();
    assert_eq!(refused, ["carol", "alice", "carol", "carol"]);
    assert_eq!(t.image("web").await, "demo/web:1.7");
    assert!(t.runs().is_empty());
    t.end().await;
}

#[tokio::test]
async fn a_dry_run_says_that_the_glass_would_be_broken_and_breaks_nothing() {
    let t = House::with(leads_may()).await;
    let line = "!deploy prod web 1.8 --break-glass \"the shop is down\" --dry-run";
    let parts =
        ["*dry run*", "*BREAK-GLASS*: it would start at once", "without the approval of", "demo/web:1.8"];
    answered(&t, "carol", line, &parts).await;
    answered(&t, "alice", line, &["You may not break the glass"]).await;
    t.silence("ops").await;
    assert!(t.told("bob").await.is_empty());
    assert!(t.runs().is_empty() && t.audited().iter().all(|entry| entry.event.action != "break-glass"));
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn the_glass_is_not_broken_in_a_direct_message() {
    let t = House::with(leads_may()).await;
    let carol = Person::login(&t.sandbox.url(), "carol").await;
    let direct = carol.direct("houston").await;
    t.say("carol", &direct, "deploy prod web 1.8 --break-glass now").await;
    t.expect(&direct, &["The glass is broken in a room"]).await;
    t.say("carol", &direct, "deploy prod web 1.8 --break-glass now --dry-run").await;
    t.expect(&direct, &["it would start at once"]).await;
    assert!(t.runs().is_empty());
    t.end().await;
}

#[tokio::test]
async fn everybody_is_told_once_and_reminded_daily_over_restarts() {
    let clock = Clock::manual(Clock::system().now());
    let mut t = House::with(Setup { clock: clock.clone(), ..leads_may() }).await;
    t.say("carol", "ops", "!deploy prod web 1.8 --break-glass \"the shop is down\"").await;
    announced(&t, "R-1").await;
    t.kill().await;
    t.start_again().await;
    t.hears("bob", &["*BREAK-GLASS* *R-1*"]).await;
    let progress = t.ended("R-1", &["deployed in", "*review open*"]).await;
    t.restart().await;
    t.silence("ops").await;
    assert_eq!(t.told("bob").await.len(), 1);

    let day = Duration::from_secs(86_400);
    clock.advance(day - Duration::from_secs(60));
    t.silence("ops").await;
    clock.advance(Duration::from_secs(61));
    let said = t.expect("ops", &[":memo: *R-1*", "is not reviewed", "1 d ago"]).await;
    assert!(said.thread.is_none(), "{said:?}");
    t.restart().await;
    clock.advance(Duration::from_secs(3600));
    t.silence("ops").await;
    // However long nobody looked, it is one.
    t.stop().await;
    clock.advance(day * 3);
    t.start_again().await;
    t.expect("ops", &[":memo: *R-1*", "is not reviewed", "4 d ago"]).await;
    t.silence("ops").await;

    answered(&t, "bob", "!review R-1 it was needed", &["The review of R-1 is closed"]).await;
    t.until(&progress, &["*reviewed* by bob", "it was needed"]).await;
    clock.advance(day * 2);
    t.silence("ops").await;
    t.restart().await;
    t.silence("ops").await;
    assert_eq!(t.told("bob").await.len(), 1);
    assert_eq!(audited(&t, "break-glass").len(), 1);
    t.end().await;
}

#[tokio::test]
async fn a_second_one_waits_for_the_lock_and_leaves_a_review_of_its_own() {
    let t = House::with(leads_may()).await;
    t.say("carol", "ops", "!deploy prod web 1.8-slow --break-glass \"the shop is down\"").await;
    announced(&t, "R-1").await;
    let first = t.progress("R-1").await;
    t.until(&first, &["step 1 of"]).await;
    // Planned once the first has changed the service: what it is compared with at its start is what it saw.
    t.wait_for_image("web", "demo/web:1.8-slow").await;
    t.say("bob", "ops", "!deploy prod web 1.6 --break-glass \"still down\"").await;
    announced(&t, "R-2").await;
    let second = t.progress("R-2").await;
    t.until(&second, &["is 1st in the queue"]).await;
    answered(&t, "alice", "!review R-1 too early", &["R-1 is reviewed when it has ended"]).await;
    t.until(&first, &["deployed in", "*review open*"]).await;
    t.expect("ops", &["@carol", "deployed in"]).await;
    t.until(&second, &["deployed in", "*review open*"]).await;
    t.expect("ops", &["@bob", "deployed in"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.6");
    // Each reviews the other's, and neither their own.
    answered(&t, "bob", "!review R-2 fine", &["R-2 is not reviewed by the one who asked"]).await;
    answered(&t, "carol", "!review R-2 fine", &["The review of R-2 is closed"]).await;
    t.until(&second, &["*reviewed* by carol"]).await;
    t.until(&first, &["*review open*"]).await;
    answered(&t, "alice", "!runs", &[":memo: *R-1*"]).await;
    answered(&t, "bob", "!review R-1 fine", &["The review of R-1 is closed"]).await;
    t.until(&first, &["*reviewed* by bob"]).await;
    for who in ["bob", "carol"] {
        let told = t.told(who).await;
        assert_eq!(told.len(), 1, "of the other's: {told:?}");
        t.expect(&told[0].room, &["*BREAK-GLASS*"]).await;
    }
    t.end().await;
}

/// The progress of two runs of carol's: one moves, the other waits for it.
async fn one_behind_the_other(t: &House) -> (Said, Said) {
    t.say("carol", "ops", "!deploy prod web 1.8-slow --break-glass \"the shop is down\"").await;
    announced(t, "R-1").await;
    let first = t.progress("R-1").await;
    t.until(&first, &["step 1 of"]).await;
    t.say("carol", "ops", "!deploy prod web 1.6 --break-glass \"again\"").await;
    announced(t, "R-2").await;
    let second = t.progress("R-2").await;
    t.until(&second, &["is 1st in the queue"]).await;
    (first, second)
}

#[tokio::test]
async fn a_right_that_is_lost_in_the_queue_is_lost() {
    let t = House::with(leads_may()).await;
    let (first, second) = one_behind_the_other(&t).await;
    t.rewrite("houston.yaml", "lead: {users: [bob, carol]}", "lead: {users: [bob]}");
    answered(&t, "bob", "!reload", &["lead"]).await;
    t.until(&first, &["deployed in"]).await;
    t.expect("ops", &["@carol", "deployed in"]).await;
    t.until(&second, &["*void*", "the requester's right to do this"]).await;
    t.expect("ops", &["@carol *R-2*", "was not started", "the requester's right to do this"]).await;
    t.hears("bob", &["*BREAK-GLASS* *R-1*"]).await;
    t.hears("bob", &["*BREAK-GLASS* *R-2*"]).await;
    t.end().await;
}

/// Who freezes to keep it from starting is not told that it waits.
#[tokio::test]
async fn one_that_waits_in_the_queue_is_not_said_to_be_held_up_by_a_freeze_that_begins_meanwhile() {
    let t = House::with(leads_may()).await;
    let (first, second) = one_behind_the_other(&t).await;
    t.say("alice", "ops", "!freeze prod until 3h hands off").await;
    let parts =
        ["Under way, not held up by it: R-1.", "R-2 broke the glass and goes through it: `!cancel R-2`"];
    let said = t.expect("ops", &parts).await;
    assert!(!said.text.contains("Held up until then"), "{}", said.text);
    answered(&t, "bob", "!cancel R-2", &["R-2 is cancelled. Nothing was changed."]).await;
    t.until(&second, &["*cancelled* by bob"]).await;
    t.until(&first, &["deployed in"]).await;
    t.expect("ops", &["@carol", "deployed in"]).await;
    t.hears("bob", &["*BREAK-GLASS* *R-1*"]).await;
    t.hears("bob", &["*BREAK-GLASS* *R-2*"]).await;
    t.forget_what_was_said(&["ops"]);
    t.end().await;
}

#[tokio::test]
async fn it_goes_through_a_freeze_and_says_so() {
    let t = House::with(leads_may()).await;
    answered(&t, "bob", "!freeze prod until 3h black friday", &["prod"]).await;
    answered(&t, "carol", "!deploy prod web 1.8", &["was not started", "black friday"]).await;
    let way = "Break-glass: `lead` (bob, carol) may start it without that, by `--break-glass \"why\"`; ";
    for (who, may) in [("carol", "`carol` may"), ("alice", "`alice` may not")] {
        let parts = ["Approval: ", "Freeze: not now", "black friday", way, may];
        answered(&t, "bob", &format!("!can {who} deploy prod web 1.8"), &parts).await;
        let parts =
            ["*dry run*", "It would need the approval of", "Freeze: not now", "black friday", way, may];
        answered(&t, who, "!deploy prod web 1.8 --dry-run", &parts).await;
    }
    let free =
        ["Approval: it needs no approval", "Freeze: none now", "Break-glass: nothing is in the way of it"];
    answered(&t, "bob", "!can carol deploy staging web", &free).await;
    t.say("carol", "ops", "!deploy prod web 1.8 --break-glass \"the shop is down\"").await;
    let said = announced(&t, "R-1").await;
    assert!(said.text.contains("through a freeze") && said.text.contains("black friday"), "{}", said.text);
    t.hears("bob", &["*BREAK-GLASS* *R-1*", "through a freeze"]).await;
    t.ended("R-1", &["through a freeze", "deployed in", "*review open*"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    t.end().await;
}
