//! A lock of somebody else's: who may take it, with whose consent, and what its owner hears of it.

use houston::clock::Clock;

use crate::step_kinds;
use crate::support::house::{House, Setup};

async fn house(prod: &str) -> House {
    House::with(Setup { services: vec![("web", 1)], prod: prod.to_owned(), ..Setup::default() }).await
}

#[tokio::test]
async fn a_lock_of_somebody_elses_is_stolen_with_consent_and_its_owner_is_told_twice() {
    let mut t = house("").await;
    t.say("bob", "ops", "!lock prod/web hotfix by hand").await;
    t.expect("ops", &[":lock: `prod/web` is locked"]).await;
    let way = [
        "`prod/web` is locked by bob since",
        "hotfix by hand",
        "bob can `!unlock prod/web`; `!unlock prod/web --steal \"why\"` takes it with the approval of 1 operator or lead, not \
         the requester, and bob is told.",
    ];
    for typed in
        ["!unlock prod/web", "!unlock prod web he is away", "!lock prod/web mine", "!deploy prod web 1.8"]
    {
        t.say("alice", "ops", typed).await;
        t.expect("ops", &way).await;
    }
    t.say("alice", "ops", "!unlock prod web --steal \"bob is on a plane\" --dry-run").await;
    t.expect("ops", &["*dry run*", "steal the lock of `prod/web` from bob", "It would need the approval of"])
        .await;
    t.say("alice", "ops", "!can alice unlock prod/web --steal x").await;
    t.expect("ops", &["1 operator or lead"]).await;
    assert!(t.runs().is_empty());

    t.say("alice", "ops", "!unlock prod web --steal \"bob is on a plane\"").await;
    let card = t.card().await;
    for part in [
        "*R-1* `unlock prod/web` asked by alice\n_reason: bob is on a plane_",
        "steal the lock of `prod/web` from bob",
        ": hotfix by hand` → `nobody`",
    ] {
        assert!(card.text.contains(part), "`{part}` is missing: {}", card.text);
    }
    t.hears(
        "bob",
        &[
            "alice asks to steal your lock of `prod/web` (*R-1*): _bob is on a plane_",
            "`!unlock prod/web`",
            "`!deny R-1 why`",
        ],
    )
    .await;
    t.react("alice", &card, ":+1:").await;
    t.expect("ops", &["@alice you asked for R-1 yourself"]).await;
    t.say("alice", "ops", "!locks").await;
    t.expect("ops", &["`prod/web` is locked by bob"]).await;
    // Once, whatever becomes of Houston.
    t.react("carol", &card, ":+1:").await;
    t.kill().await;
    t.start_again().await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &[":white_check_mark: *R-1*", "steal the lock of `prod/web` from bob"]).await;
    t.expect("ops", &["@alice"]).await;
    t.hears(
        "bob",
        &["alice stole your lock of `prod/web` at", "(*R-1*, approved by carol): _bob is on a plane_"],
    )
    .await;
    assert_eq!(t.told("bob").await.len(), 2);
    let audited: Vec<_> = t.audited().into_iter().filter(|entry| entry.event.run.is_some()).collect();
    let actions: Vec<&str> = audited.iter().map(|entry| entry.event.action.as_str()).collect();
    assert_eq!(actions, ["requested", "approved", "started", "succeeded"]);
    assert!(audited.iter().all(|entry| entry.event.target.as_deref() == Some("prod/web")), "{audited:?}");
    t.say("alice", "ops", "!locks").await;
    t.expect("ops", &["Nothing is locked."]).await;
    t.end().await;
}

#[tokio::test]
async fn what_is_stolen_is_what_was_consented_to() {
    let t = house("").await;
    t.say("bob", "ops", "!lock prod hotfix").await;
    t.expect("ops", &[":lock: `prod` is locked"]).await;
    t.say("alice", "ops", "!unlock prod --steal why not").await;
    let card = t.card().await;
    t.hears("bob", &["alice asks to steal your lock of `prod`"]).await;
    // Given back, and taken by somebody else, before anybody has consented.
    t.say("bob", "ops", "!unlock prod").await;
    t.expect("ops", &[":unlock: `prod` is free."]).await;
    t.say("carol", "ops", "!lock prod migration").await;
    t.expect("ops", &[":lock: `prod` is locked"]).await;
    t.react("carol", &card, ":+1:").await;
    t.until(&card, &["*void*", "holder of prod: `bob, since", ": hotfix` → `carol, since", ": migration`"])
        .await;
    t.expect("ops", &["@alice @carol *R-1*", "was not started"]).await;
    t.say("alice", "ops", "!locks").await;
    t.expect("ops", &["`prod` is locked by carol"]).await;
    // Its owner may object like others.
    t.say("alice", "ops", "!unlock prod --steal again").await;
    let card = t.card().await;
    t.hears("carol", &["alice asks to steal your lock of `prod` (*R-2*)"]).await;
    t.say("carol", "ops", "!deny R-2 I am at it").await;
    t.expect("ops", &["R-2 is denied."]).await;
    t.denied("R-2", "carol").await;
    t.until(&card, &["*denied* by carol", "I am at it"]).await;
    t.say("carol", "ops", "!unlock prod").await;
    t.expect("ops", &[":unlock: `prod` is free."]).await;
    t.end().await;
}

#[tokio::test]
async fn a_line_of_the_environments_file_says_what_stealing_takes() {
    let t = house("approvals: {unlock: {count: 1, from: [lead]}}\n").await;
    t.say("alice", "ops", "!lock prod/web hotfix").await;
    t.expect("ops", &[":lock: `prod/web` is locked"]).await;
    t.say("carol", "ops", "!unlock prod/web --steal release").await;
    let card = t.card().await;
    assert!(card.text.contains("*needs* 1 lead, not the requester"), "{}", card.text);
    t.hears("alice", &["carol asks to steal"]).await;
    t.react("bob", &card, ":+1:").await;
    t.expect("ops", &["@bob your vote on R-1 does not count"]).await;
    t.say("carol", "ops", "!cancel R-1").await;
    t.expect("ops", &["R-1 is cancelled. Nothing was changed."]).await;
    t.until(&card, &["*cancelled* by carol"]).await;
    // Elsewhere nobody has to consent, as to everything else there.
    t.say("alice", "ops", "!lock staging mine").await;
    t.expect("ops", &[":lock: `staging` is locked"]).await;
    t.say("bob", "ops", "!unlock staging").await;
    t.expect("ops", &["`!unlock staging --steal \"why\"` takes it at once, and alice is told."]).await;
    t.say("bob", "ops", "!unlock staging --steal release").await;
    t.ended("R-2", &[":white_check_mark: *R-2*"]).await;
    t.hears("alice", &["bob stole your lock of `staging`", "(*R-2*): _release_"]).await;
    t.say("alice", "ops", "!unlock prod/web").await;
    t.expect("ops", &[":unlock: `prod/web` is free."]).await;
    t.end().await;
}

#[tokio::test]
async fn a_lock_that_a_run_works_under_is_never_stolen() {
    let ask = "  - id: sure\n    ask: {question: \"Is {{ colour }} right?\"}\n";
    let t = step_kinds::house(ask, Clock::system(), "").await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    t.expect("ops", &[":raising_hand: *R-1* Is red right?"]).await;
    for typed in ["!unlock prod", "!unlock prod --steal \"I need it\""] {
        t.say("carol", "ops", typed).await;
        t.expect(
            "ops",
            &[
                "`prod` is held by R-1",
                "not taken from it, nor stolen: `!cancel R-1` ends the run and frees it",
            ],
        )
        .await;
    }
    assert_eq!(t.runs().len(), 1);
    t.reply("alice", "ops", &progress.id, "yes").await;
    t.until(&progress, &["done in"]).await;
    t.expect("ops", &["@alice", "done in"]).await;
    t.end().await;
}

/// It stands still, and keeps everybody away until somebody has finished by hand.
#[tokio::test]
async fn the_lock_of_a_stuck_run_is_stolen_with_consent_and_the_run_is_abandoned() {
    let steps = "  - id: web\n    swarm_service: {action: update, service: web, version: \"1.8\"}\n  \
                 - id: check\n    http_check: {url: \"SANDBOX/api/info\", expect_body: nowhere, within: 20s}\n";
    let clock = Clock::manual(Clock::system().now());
    let files = step_kinds::tour(steps);
    let prod = "approvals: {tour: none}\n".to_owned();
    let setup = Setup { prod, files, clock: clock.clone(), ..Setup::default() };
    let t = House::with(setup).await;
    t.say("alice", "ops", "!tour prod red").await;
    let progress = t.progress("R-1").await;
    t.until(&progress, &["step 2 of 2"]).await;
    t.change_image("web", "demo/web:1.6").await;
    t.tick_until(&clock, "stuck", &[":sos: *R-1*"]).await;
    t.say("bob", "ops", "!unlock prod").await;
    t.expect(
        "ops",
        &[
            "`prod` is held by R-1",
            "which is stuck",
            "takes it with the approval of",
            "and R-1 is abandoned then.",
        ],
    )
    .await;
    t.say("bob", "ops", "!unlock prod --steal \"web is fine by now\"").await;
    let card = t.card().await;
    assert!(
        card.text.contains("R-1 is abandoned: what it has changed and not undone stays"),
        "{}",
        card.text
    );
    t.hears("alice", &["bob asks to steal the lock of `prod` from your run R-1", "`!show R-1`"]).await;
    t.react("carol", &card, ":+1:").await;
    let second = t.progress("R-2").await;
    t.until(&second, &[":white_check_mark: *R-2*"]).await;
    t.expect("ops", &["@bob"]).await;
    t.until(&progress, &["*abandoned* by bob: web is fine by now"]).await;
    t.hears("alice", &["bob stole the lock of `prod` from your run R-1", "R-1 is abandoned"]).await;
    t.say("bob", "ops", "!locks").await;
    t.expect("ops", &["Nothing is locked."]).await;
    t.end().await;
}
