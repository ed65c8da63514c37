//! How commands are typed and answered: forms, mistakes, questions back, help, and what is not for Houston.

use serde_json::json;

use crate::support::house::{House, Setup};
use crate::support::rc::Person;

#[tokio::test]
async fn a_missing_argument_is_asked_for_once_in_the_thread_and_completed() {
    let t = House::with(Setup { services: vec![("staging-web", 1)], ..Setup::default() }).await;
    let id = t.say("alice", "ops", "!scale staging web").await;
    let question = t.expect("ops", &["`scale staging web`: which `replicas`"]).await;
    assert_eq!(question.thread.as_deref(), Some(id.as_str()));
    t.reply("bob", "ops", &id, "3").await;
    t.silence("ops").await;
    t.reply("alice", "ops", &id, "2").await;
    t.wait("the run", || (t.runs() == ["scale staging web 2"]).then_some(())).await;
    t.expect("ops", &["*R-1*"]).await;
    t.expect("ops", &["@alice", "scaled in"]).await;
    assert_eq!(t.tasks_wanted("staging-web").await, 2);
    t.end().await;
}

#[tokio::test]
async fn after_a_wrong_answer_another_one_counts() {
    let t = House::talk().await;
    let id = t.say("alice", "ops", "!rollback prod").await;
    t.expect("ops", &["which `service`", "`web`"]).await;
    t.reply("alice", "ops", &id, "wbe").await;
    t.expect("ops", &["did you mean `web`?", "Answer again"]).await;
    t.reply("alice", "ops", &id, "web").await;
    t.expect("ops", &["`rollback prod web` cannot be planned"]).await;
    t.reply("alice", "ops", &id, "web").await;
    t.silence("ops").await;
    t.end().await;
}

#[tokio::test]
async fn an_argument_is_a_declared_name_or_an_error() {
    let t = House::talk().await;
    for (typed, answer) in [
        ("!deploy prdo web 1.8", &["prdo", "did you mean `prod`?"][..]),
        ("!deploy prod wbe 1.8", &["wbe", "did you mean `web`?"][..]),
        ("!deploy prod \"web; rm -rf /\"", &["web; rm -rf /", "^"][..]),
        ("!deploy prod --force", &["There is no flag `--force`"][..]),
        ("!deploy prod web \"1.8 && reboot\"", &["1.8 && reboot"][..]),
        ("!deploy prod w\u{0435}b 1.8", &["w\u{0435}b"][..]),
        ("!scale prod web 3.5", &["3.5"][..]),
        ("!scale prod web -1", &["-1"][..]),
        ("!deplyo prod", &["deplyo", "deploy"][..]),
    ] {
        t.say("alice", "ops", typed).await;
        t.expect("ops", answer).await;
    }
    t.silence("ops").await;
    assert!(t.runs().is_empty(), "nothing was corrected by itself: {:?}", t.runs());
    t.end().await;
}

#[tokio::test]
async fn what_is_not_addressed_to_houston_is_never_answered() {
    let t = House::talk().await;
    for talk in [
        "deploy prod web 1.8",
        "shall we deploy prod?",
        "help",
        "/usr/local/bin/houston is missing",
        "houston, we have a problem",
        "! that was close",
        "> !deploy prod web 1.8",
        "approve R-1",
        "yes",
    ] {
        t.say("alice", "ops", talk).await;
    }
    let id = t.say("alice", "ops", "a thread").await;
    t.reply("bob", "ops", &id, "yes").await;
    t.silence("ops").await;
    assert!(t.runs().is_empty());
    t.end().await;
}

#[tokio::test]
async fn every_form_of_a_command_is_answered() {
    let t = House::talk().await;
    for (typed, word) in [("!ping a1", "a1"), ("@houston ping a2", "a2"), ("/ping a3", "a3")] {
        t.say("alice", "ops", typed).await;
        t.expect("ops", &[&format!("pong {word}")]).await;
    }
    t.end().await;
}

#[tokio::test]
async fn in_a_direct_message_no_prefix_is_needed() {
    let t = House::talk().await;
    let alice = Person::login(&t.sandbox.url(), "alice").await;
    let direct = alice.direct("houston").await;
    t.say("alice", &direct, "ping in private").await;
    t.expect(&direct, &["pong in private"]).await;
    t.say("alice", &direct, "!whoami").await;
    t.expect(&direct, &["You are `alice`", "`operator`"]).await;
    t.say("alice", &direct, "help").await;
    let help =
        t.expect(&direct, &["What you can do here", "`help COMMAND`", "In a room it begins with `!`"]).await;
    assert!(help.text.contains("\ndeploy ") && !help.text.contains("!deploy"), "{}", help.text);
    t.say("alice", &direct, "help deploy").await;
    t.expect(&direct, &["`deploy ENVIRONMENT [SERVICE] [VERSION]`", "For example: `deploy prod`"]).await;
    t.say("alice", &direct, "deploy staging wbe").await;
    t.expect(&direct, &["did you mean `web`?"]).await;
    t.end().await;
}

#[tokio::test]
async fn rocketchat_keeps_its_own_slash_words_and_the_other_forms_work() {
    let t = House::with(Setup { services: vec![("web", 1)], ..Setup::default() }).await;
    let mut alice = Person::login(&t.sandbox.url(), "alice").await;
    let call = json!([{"cmd": "status", "params": "prod", "msg": {"rid": t.sandbox.room_id("ops"), "msg": "/status prod"}}]);
    alice.socket.call("slashCommand", call).await.expect("Rocket.Chat takes it");
    t.silence("ops").await;
    t.say("alice", "ops", "!status prod").await;
    t.expect("ops", &["*prod*", "web", "1/1", "1.7"]).await;
    t.end().await;
}

#[tokio::test]
async fn status_shows_drift_and_the_last_deployment() {
    let t = House::with(Setup { services: vec![("staging-web", 1)], ..Setup::default() }).await;
    t.say("alice", "ops", "!status staging").await;
    t.expect("ops", &[":green_circle: *staging*", "1/1", "1.7"]).await;
    t.say("alice", "ops", "!deploy staging web 1.8").await;
    t.ended("R-1", &["deployed in"]).await;
    t.say("alice", "ops", "!status staging").await;
    t.expect("ops", &["runs `1.8`, its file says `1.7`", "web: 1.8 released by alice"]).await;
    t.say("alice", "ops", "!runs").await;
    t.expect("ops", &["R-1", "deploy staging web 1.8", "by alice"]).await;
    // Named, it is shown with its nodes and whole images; drift is more than the version.
    t.scale_by_hand("staging-web", 5).await;
    t.say("alice", "ops", "!status staging").await;
    t.expect("ops", &["demo/web:1.8", "_nodes: ", "(leader)", "*web* is not as its file says: replicas"])
        .await;
    t.say("alice", "ops", "!status staging web").await;
    t.expect("ops", &["0 of 1 service well", "is not as its file says: replicas"]).await;
    t.say("alice", "ops", "!show R-1").await;
    t.expect("ops", &["*R-1*", "deployed in", "by alice_"]).await;
    t.end().await;
}

#[tokio::test]
async fn help_explains_a_command_with_its_approvals() {
    let t = House::talk().await;
    t.say("alice", "ops", "!help deploy").await;
    t.expect(
        "ops",
        &[
            "`!deploy ENVIRONMENT [SERVICE] [VERSION]",
            "in `prod` it needs 1 operator or lead",
            "in `staging` it needs no approval",
        ],
    )
    .await;
    // Help has no side effect, however it is asked for.
    t.say("alice", "ops", "!deploy --help").await;
    t.expect("ops", &["`!deploy ENVIRONMENT [SERVICE] [VERSION]"]).await;
    assert!(t.runs().is_empty());
    t.end().await;
}

#[tokio::test]
async fn a_question_is_answered_with_what_houston_can_do() {
    let t = House::talk().await;
    t.say("alice", "ops", "@houston why was the last deployment slow?").await;
    t.expect("ops", &["I take commands", "`!help`"]).await;
    t.end().await;
}

#[tokio::test]
async fn long_output_is_cut_in_the_room_and_attached_whole() {
    let t = House::with(Setup { services: vec![("staging-web", 1)], ..Setup::default() }).await;
    t.say("alice", "ops", "!deploy staging web 1.9").await;
    t.ended("R-1", &["*failed*"]).await;
    t.say("alice", "ops", "!logs R-1").await;
    let whole = t.expect("ops", &["*R-1*", "update web to 1.9"]).await;
    assert!(!whole.text.contains("attached"), "{}", whole.text);
    let transcript = t.state().join("transcripts").join("R-1.log");
    let mut text = std::fs::read_to_string(&transcript).expect("it is there");
    for line in 0..500 {
        text.push_str(&format!("2026-11-22T00:00:00Z line {line}\n"));
    }
    std::fs::write(&transcript, text).expect("written");
    t.say("alice", "ops", "!logs R-1 --lines 10").await;
    let cut = t.expect("ops", &["*R-1*", "line 499", "The whole output is attached."]).await;
    assert!(!cut.text.contains("line 100"), "{}", cut.text);
    let file = t.wait("the file", || t.said("ops").into_iter().find(|said| said.file)).await;
    t.expect("ops", &[&file.text]).await;
    t.end().await;
}

#[tokio::test]
async fn a_reason_that_comes_after_the_denial_is_still_taken() {
    let t = House::start().await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    t.say("bob", "ops", "!deny R-1").await;
    t.expect("ops", &["R-1 is denied."]).await;
    t.denied("R-1", "bob").await;
    t.expect("ops", &["@bob why?"]).await;
    t.say("carol", "ops", "!deny R-1 mine does not count").await;
    t.expect("ops", &["There is nothing to decide any more about R-1 (denied)."]).await;
    t.say("bob", "ops", "!deny R-1 not on a Friday").await;
    t.expect("ops", &["The reason is on the card of R-1."]).await;
    t.until(&card, &["*denied* by bob", "not on a Friday"]).await;
    t.say("bob", "ops", "!deny R-1 or on a Monday").await;
    t.expect("ops", &["There is nothing to decide any more about R-1 (denied)."]).await;
    t.end().await;
}

#[tokio::test]
async fn what_cannot_be_done_to_a_run_is_said_in_a_sentence_with_what_to_do() {
    let t = House::talk().await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    t.card().await;
    t.say("alice", "ops", "!cancel R-1").await;
    t.expect("ops", &["R-1 is cancelled."]).await;
    for (typed, answer) in [
        ("!logs R-99", "There is no run R-99; `!runs` lists those that there are."),
        ("!approve R-99", "There is no run R-99; `!runs` lists those that there are."),
        (
            "!retry R-1",
            "R-1 has ended (cancelled). For a new run give its command again: `!deploy prod web 1.8`",
        ),
        ("!withdraw R-1", "There is nothing to withdraw from R-1: the run has ended."),
        ("!abandon R-1 why not", "R-1 (cancelled): the run has ended."),
        ("!runs", "`!show R-1` shows one."),
    ] {
        t.say("alice", "ops", typed).await;
        t.expect("ops", &[answer]).await;
    }
    t.end().await;
}

#[tokio::test]
async fn a_question_does_not_repeat_the_name_of_what_it_asks_for() {
    let t = House::talk().await;
    for (typed, question) in [
        ("!deploy", "`deploy`: which `environment`?\nOne of `prod` or `staging`."),
        ("!show", "`show`: which `run`?\n"),
        ("!lock prod", "`lock prod`: what `reason` (why)?\n"),
        ("!scale prod web", "`scale prod web`: which `replicas` (how many tasks)?\n"),
    ] {
        t.say("alice", "ops", typed).await;
        t.expect("ops", &[question]).await;
    }
    t.end().await;
}

#[tokio::test]
async fn a_wrong_answer_is_followed_by_another_and_one_question_by_the_next() {
    let t = House::talk().await;
    let asked = t.say("alice", "ops", "!lock").await;
    t.expect("ops", &["`lock`: which `target`"]).await;
    t.reply("alice", "ops", &asked, "prdo").await;
    t.expect(
        "ops",
        &["There is no environment `prdo`; did you mean `prod`?\nAnswer again, or give another command."],
    )
    .await;
    t.reply("alice", "ops", &asked, "prod").await;
    t.expect("ops", &["`lock target=prod`: what `reason` (why)?"]).await;
    t.reply("alice", "ops", &asked, "we measure").await;
    t.expect("ops", &["`prod` is locked"]).await;
    t.say("alice", "ops", "!unlock prod").await;
    t.expect("ops", &["`prod` is free"]).await;
    // A word that only makes it read well is not asked for.
    let asked = t.say("alice", "ops", "!freeze staging").await;
    t.expect("ops", &["`freeze staging`: what `when` (the end, such as 17:00 or 3h, and why)?"]).await;
    t.reply("alice", "ops", &asked, "3h migration").await;
    t.expect("ops", &["`staging` is frozen until", "migration"]).await;
    t.say("alice", "ops", "!freeze staging 3h migration").await;
    t.expect("ops", &["The word `until` belongs here, before `3h`."]).await;
    t.say("alice", "ops", "!unfreeze staging").await;
    t.expect("ops", &["`staging` is not frozen any more"]).await;
    t.end().await;
}

#[tokio::test]
async fn whoever_asked_and_would_withdraw_that_is_told_how() {
    let t = House::start().await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    t.say("alice", "ops", "!withdraw R-1").await;
    t.expect("ops", &["You have not approved R-1, you asked for it: `!cancel R-1` takes the request back."])
        .await;
    t.say("bob", "ops", "!withdraw R-1").await;
    t.expect("ops", &["There is nothing to withdraw from R-1: there is no vote of this person."]).await;
    t.say("alice", "ops", "!cancel R-1").await;
    t.expect("ops", &["R-1 is cancelled."]).await;
    t.until(&card, &["*cancelled* by alice"]).await;
    t.end().await;
}

#[tokio::test]
async fn a_card_that_the_approvers_cannot_see_says_how_they_approve() {
    let t = House::start().await;
    let alice = Person::login(&t.sandbox.url(), "alice").await;
    let direct = alice.direct("houston").await;
    t.say("alice", &direct, "deploy prod web 1.8").await;
    let card =
        t.expect(&direct, &["*R-1*", "Only those in this direct message see this", "`!show R-1`"]).await;
    t.say("bob", "ops", "!show R-1").await;
    t.expect("ops", &["*R-1*", "`demo/web:1.7` → `demo/web:1.8`"]).await;
    t.say("bob", "ops", "!deny R-1 not now").await;
    t.expect("ops", &["R-1 is denied."]).await;
    t.expect(&direct, &["@alice *R-1*", "was denied by bob: not now"]).await;
    t.until(&card, &["*denied* by bob", "not now"]).await;
    t.end().await;
}

#[tokio::test]
async fn what_somebody_typed_is_repeated_at_its_beginning_only() {
    let t = House::start().await;
    let long = "so long ".repeat(60);
    let quoted = |text: &str| format!("{}…", &text[..199]);
    t.say("alice", "ops", &format!("!ping {long}")).await;
    let pong = t.expect("ops", &["pong so long", "…"]).await;
    assert_eq!(pong.text, format!("pong {}", quoted(&long)));
    for (typed, answer) in [
        (format!("!{}", "deploy".repeat(60)), "There is no command"),
        (format!("!deploy {}", "prod".repeat(60)), "There is no environment"),
        (format!("!deploy prod web {}", "1.8/".repeat(60)), "is no version"),
        (format!("!help {}", "deploy".repeat(60)), "There is no command"),
        (format!("!can {} deploy prod", "bob".repeat(60)), "nobody called"),
        (format!("!freeze prod until {long}"), "until when"),
    ] {
        t.say("alice", "ops", &typed).await;
        let said = t.expect("ops", &[answer]).await;
        assert!(said.text.chars().count() < 500, "{}", said.text);
    }
    // What others decide about is shown whole; the reason is repeated.
    t.say("alice", "ops", &format!("!deploy prod web 1.8 --reason \"{long}\"")).await;
    let card = t.card().await;
    assert!(card.text.contains(&format!("_reason: {}_", quoted(&long))), "{}", card.text);
    t.say("bob", "ops", &format!("!deny R-1 {long}")).await;
    t.expect("ops", &["R-1 is denied."]).await;
    t.denied("R-1", "bob").await;
    let card = t.until(&card, &["*denied* by bob"]).await;
    assert!(
        card.text.contains(&format!(": {}", quoted(&long))) && !card.text.contains(&long),
        "{}",
        card.text
    );
    t.say("alice", "ops", "!audit").await;
    let audit = t.expect("ops", &["denied", "so long"]).await;
    assert!(!audit.text.contains(&long[..250]), "{}", audit.text);
    t.end().await;
}

#[tokio::test]
async fn a_text_that_is_too_long_for_a_command_is_refused_with_its_length() {
    let t = House::talk().await;
    for typed in ["!ping", "@houston ping", "!deploy prod", "!lock prod"] {
        t.say("alice", "ops", &format!("{typed} {}", "x".repeat(4000))).await;
        let said = t.expect("ops", &["characters long, and I read at most 2000. Nothing was done."]).await;
        assert!(said.text.chars().count() < 300, "{}", said.text);
    }
    // As the answer to a question, too, which stays open.
    let asked = t.say("alice", "ops", "!lock prod").await;
    t.expect("ops", &["what `reason`"]).await;
    t.reply("alice", "ops", &asked, &"x".repeat(2001)).await;
    t.expect("ops", &["That is 2001 characters long"]).await;
    t.reply("alice", "ops", &asked, "maintenance").await;
    t.expect("ops", &[":lock: `prod` is locked"]).await;
    t.say("alice", "ops", "!unlock prod").await;
    t.expect("ops", &[":unlock: `prod` is free"]).await;
    // Talk that is not for Houston may be as long as it likes.
    t.say("alice", "ops", &"x".repeat(4000)).await;
    t.silence("ops").await;
    t.end().await;
}
