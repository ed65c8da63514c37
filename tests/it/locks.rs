//! Two things at once: side by side where they may be, in a queue that shows itself where not, and locks that
//! people hold.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use houston::clock::Clock;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::json;

use crate::step_kinds;
use crate::support::house::{House, Setup};
use crate::support::rc::Person;

/// No approval in prod, so that the conversations are about locks alone.
async fn house(services: &[(&'static str, u64)]) -> House {
    let prod = "approvals: {default: none}\n".to_owned();
    House::with(Setup { services: services.to_vec(), prod, ..Setup::default() }).await
}

#[tokio::test]
async fn two_services_of_one_environment_go_side_by_side() {
    let t = house(&[("web", 1), ("api", 1)]).await;
    t.say("alice", "ops", "!deploy prod web 1.8-slow").await;
    t.wait_for_image("web", "demo/web:1.8-slow").await;
    t.say("bob", "ops", "!deploy prod api 1.8").await;
    t.ended("R-2", &["deployed in"]).await;
    let first = t.progress("R-1").await;
    assert!(first.text.contains("step 1 of 1"), "the slow one is not done yet: {}", first.text);
    t.until(&first, &["deployed in"]).await;
    t.expect("ops", &["@alice", "deployed in"]).await;
    t.end().await;
}

#[tokio::test]
async fn one_service_is_changed_by_one_run_after_the_other_in_their_order() {
    let t = house(&[("web", 1)]).await;
    t.say("alice", "ops", "!deploy prod web 1.8-slow").await;
    t.wait_for_image("web", "demo/web:1.8-slow").await;
    // Both are planned against what is declared to run, so their plans hold when their turn comes.
    t.say("bob", "ops", "!scale prod web 2").await;
    let second = t.progress("R-2").await;
    t.until(
        &second,
        &["is 1st in the queue for `prod/web`, behind R-1 (`deploy prod web 1.8-slow` by alice, step 1 of 1)"],
    )
    .await;
    t.say("carol", "ops", "!deploy prod").await;
    let third = t.progress("R-3").await;
    t.until(
        &third,
        &["is 2nd in the queue for `prod/web`, behind R-1", "R-2 (`scale prod web 2` by bob, waits too)"],
    )
    .await;
    t.say("alice", "ops", "!locks").await;
    t.expect(
        "ops",
        &[
            "`prod/web` is held by R-1",
            "R-2 `scale prod web 2` is 1st in the queue for `prod/web`, behind R-1",
            "R-3 `deploy prod` is 2nd in the queue for `prod/web`, behind R-1 and R-2",
        ],
    )
    .await;
    t.say("carol", "ops", "!cancel R-3").await;
    t.expect("ops", &["R-3 is cancelled. Nothing was changed."]).await;
    t.until(&third, &["*cancelled* by carol before it started"]).await;
    t.ended("R-1", &["deployed in"]).await;
    t.until(&second, &["scaled in"]).await;
    t.expect("ops", &["@bob", "scaled in"]).await;
    assert_eq!((t.tasks_wanted("web").await, t.image("web").await), (2, "demo/web:1.8-slow".to_owned()));
    t.end().await;
}

/// Each run's own message, `locks` and `runs` say its place, and say it anew when anything moves.
#[tokio::test]
async fn the_queue_shows_places_and_how_far_whoever_is_first_has_come() {
    let ask = |id: &str| format!("  - id: {id}\n    ask: {{question: \"{id} {{{{ colour }}}}?\"}}\n");
    let mut t = step_kinds::house(&format!("{}{}", ask("one"), ask("two")), Clock::system(), "").await;
    t.say("alice", "ops", "!tour prod red").await;
    let first = t.progress("R-1").await;
    t.expect("ops", &[":raising_hand: *R-1* one red?"]).await;
    t.say("bob", "ops", "!scale prod web 2").await;
    let second = t.progress("R-2").await;
    t.until(
        &second,
        &["*R-2* `scale prod web 2` is 1st in the queue for `prod/web`, behind R-1 (`tour prod red` by alice, step 1 of 2, waiting)"],
    )
    .await;
    t.say("carol", "ops", "!deploy prod web 1.8").await;
    let third = t.progress("R-3").await;
    t.until(
        &third,
        &["is 2nd in the queue for `prod/web`", "and R-2 (`scale prod web 2` by bob, waits too)"],
    )
    .await;
    t.reply("alice", "ops", &first.id, "yes").await;
    t.expect("ops", &[":raising_hand: *R-1* two red?"]).await;
    for waiting in [&second, &third] {
        t.until(waiting, &["R-1 (`tour prod red` by alice, step 2 of 2, waiting)"]).await;
    }
    // As it was, also after a kill.
    t.kill().await;
    t.start_again().await;
    t.say("bob", "ops", "!locks").await;
    t.expect(
        "ops",
        &[
            "`prod` is held by R-1",
            ", step 2 of 2, waiting",
            "- R-2 `scale prod web 2` is 1st in the queue for `prod/web`, behind R-1\n",
            "- R-3 `deploy prod web 1.8` is 2nd in the queue for `prod/web`, behind R-1 and R-2",
        ],
    )
    .await;
    t.say("bob", "ops", "!runs").await;
    t.expect("ops", &["`!show R-3` shows one.", "*R-2* is 1st in the queue", "*R-3* is 2nd in the queue"])
        .await;
    t.say("bob", "ops", "!show R-3").await;
    t.expect("ops", &["*R-3* `deploy prod web 1.8` is 2nd in the queue"]).await;
    t.say("bob", "ops", "!cancel R-2").await;
    t.expect("ops", &["R-2 is cancelled. Nothing was changed."]).await;
    t.until(&third, &["*R-3* `deploy prod web 1.8` is 1st in the queue for `prod/web`, behind R-1 ("]).await;
    t.reply("alice", "ops", &first.id, "yes").await;
    t.until(&third, &["deployed in"]).await;
    for run in ["`tour prod red` done in", "`deploy prod web 1.8` deployed in"] {
        t.expect("ops", &[run]).await;
    }
    t.end().await;
}

/// Consent takes as long as people take: nobody else waits for it, and the queue begins with the start.
#[tokio::test]
async fn a_run_that_waits_for_approval_holds_no_lock_and_has_no_place() {
    let ask = "  - id: sure\n    ask: {question: \"Is {{ colour }} right?\"}\n";
    let (prod, files) = ("approvals: {tour: none}\n".to_owned(), step_kinds::tour(ask));
    let t = House::with(Setup { services: vec![("web", 1)], prod, files, ..Setup::default() }).await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    t.say("bob", "ops", "!locks").await;
    t.expect("ops", &["Nothing is locked."]).await;
    t.say("bob", "ops", "!tour prod red").await;
    let second = t.progress("R-2").await;
    t.expect("ops", &[":raising_hand: *R-2* Is red right?"]).await;
    t.react("carol", &card, ":+1:").await;
    let first = t.progress("R-1").await;
    t.until(
        &first,
        &["is 1st in the queue for `prod/web`, behind R-2 (`tour prod red` by bob, step 1 of 1, waiting)"],
    )
    .await;
    t.reply("bob", "ops", &second.id, "yes").await;
    t.until(&first, &["deployed in"]).await;
    for result in ["`tour prod red` done in", "`deploy prod web 1.8` deployed in"] {
        t.expect("ops", &[result]).await;
    }
    t.end().await;
}

#[tokio::test]
async fn who_has_left_while_their_run_was_queued_starts_nothing() {
    let t = house(&[("web", 1)]).await;
    t.say("alice", "ops", "!deploy prod web 1.8-slow").await;
    t.wait_for_image("web", "demo/web:1.8-slow").await;
    t.say("bob", "ops", "!scale prod web 2").await;
    let second = t.progress("R-2").await;
    t.until(&second, &["is 1st in the queue", "behind R-1"]).await;
    let carol = Person::login(&t.sandbox.url(), "carol").await;
    let left = json!({"userId": "u-bob", "activeStatus": false, "confirmRelinquish": true});
    assert_eq!(carol.post("users.setActiveStatus", left).await.0, 200);
    t.ended("R-1", &["deployed in"]).await;
    t.until(&second, &["*void*", "the requester's right to do this", "the account is not active"]).await;
    t.expect("ops", &["@bob *R-2*", "was not started", "the account is not active"]).await;
    assert_eq!(t.tasks_wanted("web").await, 1);
    t.end().await;
}

#[tokio::test]
async fn a_locked_environment_refuses_with_holder_reason_and_age() {
    let t = house(&[("web", 1)]).await;
    t.say("carol", "ops", "!lock prod database maintenance").await;
    t.expect("ops", &[":lock: `prod` is locked"]).await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.expect(
        "ops",
        &[
            "was not started: `prod` is locked by carol since ",
            "database maintenance",
            "carol can `!unlock prod`",
        ],
    )
    .await;
    t.say("alice", "ops", "!lock prod/web mine").await;
    t.expect("ops", &["`prod/web`"]).await;
    t.say("alice", "ops", "!unlock prod/web").await;
    t.expect("ops", &["`prod/web`"]).await;
    t.say("bob", "ops", "!locks").await;
    t.expect("ops", &["`prod` is locked by carol", "database maintenance"]).await;
    assert!(t.runs().is_empty());
    t.say("carol", "ops", "!unlock prod").await;
    t.expect("ops", &[":unlock: `prod` is free."]).await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.ended("R-1", &["deployed in"]).await;
    let audited: Vec<String> = t.audited().into_iter().map(|entry| entry.event.action).collect();
    assert!(
        audited.contains(&"locked".to_owned()) && audited.contains(&"unlocked".to_owned()),
        "{audited:?}"
    );
    t.end().await;
}

#[tokio::test]
async fn a_lock_on_one_service_leaves_the_others_alone_and_survives_a_restart() {
    let mut t = house(&[("web", 1), ("api", 1)]).await;
    t.say("bob", "ops", "!lock prod/web hotfix by hand").await;
    t.expect("ops", &["`prod/web` is locked"]).await;
    t.restart().await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.expect("ops", &["`prod/web` is locked by bob", "hotfix by hand"]).await;
    t.say("alice", "ops", "!deploy prod api 1.8").await;
    t.ended("R-1", &["deployed in"]).await;
    t.say("bob", "ops", "!unlock prod/web").await;
    t.expect("ops", &["`prod/web` is free."]).await;
    t.end().await;
}

#[tokio::test]
async fn what_to_lock_is_asked_for_with_choices_and_a_slip_is_pointed_at() {
    let t = house(&[]).await;
    let asked = t.say("alice", "ops", "!lock").await;
    let question = t
        .expect("ops", &["which `target`", "One of `prod`, `prod/worker`, `prod/web`", "`staging/web`"])
        .await;
    assert_eq!(question.thread.as_deref(), Some(asked.as_str()));
    t.reply("alice", "ops", &asked, "prod/web").await;
    // What is still missing then is asked for next.
    t.expect("ops", &["`lock target=prod/web`: what `reason`"]).await;
    t.reply("alice", "ops", &asked, "new disks").await;
    t.expect("ops", &[":lock: `prod/web` is locked"]).await;
    t.say("alice", "ops", "!unlock prod/wbe").await;
    t.expect("ops", &["^^^^^^^^", "There is no service `wbe` in `prod`; did you mean `web`?"]).await;
    t.say("alice", "ops", "!lock prdo disks").await;
    t.expect("ops", &["There is no environment `prdo`; did you mean `prod`?"]).await;
    t.say("alice", "ops", "!unlock prod/web").await;
    t.expect("ops", &[":unlock: `prod/web` is free."]).await;
    t.end().await;
}

#[tokio::test]
async fn no_run_begins_on_a_disk_that_is_nearly_full() {
    let setup = Setup {
        prod: "approvals: {default: none}\n".to_owned(),
        houston: "limits: {free_megabytes: 4000000000}\n".to_owned(),
        ..Setup::default()
    };
    let t = House::with(setup).await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.expect(
        "ops",
        &[":floppy_disk: `deploy prod web 1.8` was not started", "MB left", "limits.free_megabytes"],
    )
    .await;
    t.say("alice", "ops", "!deploy prod web 1.8 --dry-run").await;
    t.expect("ops", &["*dry run* `deploy prod web 1.8"]).await;
    t.say("alice", "ops", "!lock prod disk is full").await;
    t.expect("ops", &[":lock: `prod` is locked"]).await;
    t.say("alice", "ops", "!unlock prod").await;
    t.expect("ops", &[":unlock: `prod` is free."]).await;
    assert!(t.runs().is_empty());
    assert_eq!(t.image("web").await, "demo/web:1.7");
    t.end().await;
}

#[tokio::test]
async fn a_kill_between_an_act_and_its_answer_leaves_nobody_without_one() {
    let mut t = House::talk().await;
    t.control("rate_limit", json!({"method": "chat.sendMessage", "count": 1000})).await;
    t.say("alice", "ops", "!lock prod database maintenance").await;
    // Done, and the answer is on its way.
    let locked = || t.audited().iter().any(|entry| entry.event.action == "locked").then_some(());
    t.wait("the lock in the audit log", locked).await;
    t.kill().await;
    t.control("clear", json!({})).await;
    t.start_again().await;
    t.expect("ops", &["I was stopped while I did `lock prod database maintenance`", "`!locks` tells"]).await;
    t.say("alice", "ops", "!locks").await;
    t.expect("ops", &["`prod` is locked by alice", "database maintenance"]).await;
    // Once.
    t.restart().await;
    t.say("alice", "ops", "!unlock prod").await;
    t.expect("ops", &["`prod` is free"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_word_that_names_a_service_locks_the_service_and_no_more() {
    let t = house(&[("web", 1)]).await;
    t.say("carol", "ops", "!lock prod web hotfix by hand").await;
    t.expect(
        "ops",
        &[
            ":lock: `prod/web` is locked",
            "Read as `prod/web`; for all of `prod` say `!lock prod \"web hotfix by hand\"`.",
        ],
    )
    .await;
    t.say("carol", "ops", "!locks").await;
    t.expect("ops", &["`prod/web` is locked by carol", ": hotfix by hand"]).await;
    // Nobody can know which: nothing is done, and both are there to copy.
    for typed in ["!lock prod web", "!lock prod Web breaks"] {
        t.say("carol", "ops", typed).await;
        t.expect("ops", &["may be the service", "`!lock prod/web ", "`!lock prod \""]).await;
    }
    t.say("carol", "ops", "!unlock prod web").await;
    t.expect("ops", &[":unlock: `prod/web` is free."]).await;
    t.say("carol", "ops", "!lock prod \"web and api move\"").await;
    t.expect("ops", &[":lock: `prod` is locked"]).await;
    t.say("carol", "ops", "!unlock prod web").await;
    t.expect("ops", &["`prod/web` is not locked by itself", "`prod` is locked by carol", "`!unlock prod`"])
        .await;
    t.say("carol", "ops", "!unlock prod").await;
    t.expect("ops", &[":unlock: `prod` is free."]).await;
    // A freeze is of an environment.
    t.say("carol", "ops", "!freeze prod web until 17:00 hotfix").await;
    t.expect("ops", &["`web` is a service, and this is about all of `prod`"]).await;
    t.say("carol", "ops", "!freeze prod until 3h hotfix").await;
    t.expect("ops", &[":snowflake: `prod` is frozen"]).await;
    t.say("carol", "ops", "!unfreeze prod web").await;
    t.expect("ops", &["this is about all of `prod`", "`!unfreeze prod \"web\"`"]).await;
    t.say("carol", "ops", "!unfreeze prod").await;
    t.expect("ops", &["`prod` is not frozen any more"]).await;
    t.end().await;
}

/// A copy that can be read and opened for writing, on a disk that is full.
fn file_that_takes_no_more(of: &Path) -> File {
    let fd = memfd_create(c"full", MFdFlags::MFD_ALLOW_SEALING).expect("memory");
    let mut file = File::from(fd);
    file.write_all(&std::fs::read(of).expect("readable")).expect("written");
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).expect("sealed");
    file
}

/// The audit log of a Houston that does not run takes no more. The log as it was, and what has to be kept until the end.
fn fill_the_disk(t: &House) -> (std::path::PathBuf, File) {
    let (log, aside) = (t.state().join("audit.jsonl"), t.state().join("aside"));
    std::fs::rename(&log, &aside).expect("moved");
    let full = file_that_takes_no_more(&aside);
    std::os::unix::fs::symlink(format!("/proc/self/fd/{}", full.as_raw_fd()), &log).expect("linked");
    (aside, full)
}

#[tokio::test]
async fn what_the_audit_log_could_not_take_is_told_as_soon_as_it_can() {
    let mut t =
        House::with(Setup { prod: "approvals: {default: none}\n".to_owned(), ..Setup::default() }).await;
    t.say("alice", "ops", "!deploy prod web 1.8-slower").await;
    let progress = t.progress("R-1").await;
    t.wait_for_image("web", "demo/web:1.8-slower").await;
    t.stop().await;
    let (aside, _full) = fill_the_disk(&t);
    t.start_again().await;
    t.say("carol", "ops", "!lock prod/worker by hand").await;
    t.expect("ops", &["`prod/worker` is locked"]).await;
    t.say("carol", "ops", "!cancel R-1").await;
    t.expect("ops", &["Cancelling R-1"]).await;
    t.until(&progress, &["*cancelled* by carol"]).await;
    t.expect("ops", &["@alice"]).await;
    // There is room again.
    std::fs::rename(&aside, t.state().join("audit.jsonl")).expect("moved back");
    let told = |t: &House| {
        let told = t.audited().into_iter().map(|entry| entry.event);
        let late = told.filter(|event| event.happened_at.is_some());
        late.map(|event| event.action).collect::<Vec<_>>()
    };
    t.wait("the audit log to be told", || (told(&t).len() >= 3).then_some(())).await;
    t.restart().await;
    assert_eq!(told(&t), ["locked", "cancel requested", "cancelled"], "each once");
    t.say("carol", "ops", "!unlock prod/worker").await;
    t.expect("ops", &["`prod/worker` is free"]).await;
    t.end().await;
}

#[tokio::test]
async fn what_is_locked_and_frozen_while_the_audit_log_cannot_be_written_stands_in_it_afterwards() {
    let mut t = House::talk().await;
    t.stop().await;
    let (aside, _full) = fill_the_disk(&t);
    t.start_again().await;
    for (command, answer) in [
        ("!lock prod database maintenance", "`prod` is locked"),
        ("!unlock prod", "`prod` is free"),
        ("!freeze prod until 3h migration", "is frozen until"),
        ("!unfreeze prod", "is not frozen any more"),
    ] {
        t.say("carol", "ops", command).await;
        t.expect("ops", &[answer]).await;
    }
    t.configure("houston.yaml", "\n# another revision\n");
    t.say("carol", "ops", "!reload").await;
    t.expect("ops", &["is in force, after"]).await;
    t.stop().await;
    std::fs::rename(&aside, t.state().join("audit.jsonl")).expect("moved back");
    let done = |t: &House| {
        let told = t.audited().into_iter().map(|entry| entry.event);
        let told = told.filter(|event| event.who.name == "carol");
        told.map(|event| (event.action, event.command, event.happened_at.is_some())).collect::<Vec<_>>()
    };
    assert!(done(&t).is_empty());
    for _ in 0..2 {
        t.start_again().await;
        let told = done(&t);
        let actions: Vec<&str> = told.iter().map(|(action, ..)| action.as_str()).collect();
        assert_eq!(actions, ["locked", "unlocked", "frozen", "unfrozen", "reload"]);
        assert!(told.iter().all(|(.., late)| *late), "{told:?}");
        assert_eq!(told[0].1, "lock prod database maintenance");
        t.stop().await;
    }
    t.start_again().await;
    t.end().await;
}
