//! What is sent once is done once: the delivery semantics of a chat server, up to the deployment. Each
//! conversation takes place with both of Rocket.Chat's realtime servers.

use std::time::Duration;

use houston::clock::Clock;
use serde_json::{Value, json};

use crate::support::house::{House, Setup, both};

const DEPLOY: &str = "!deploy staging web 1.8";

/// Until the test says `clear`: the server is down.
const HOURS: u64 = 3_600_000;

/// The one deployment that was asked for is done, and no other.
async fn done_once(t: House) {
    t.ended("R-1", &["deployed in"]).await;
    t.silence("ops").await;
    assert_eq!(t.runs(), ["deploy staging web 1.8"]);
    assert_eq!(t.image("staging-web").await, "demo/web:1.8");
    t.end().await;
}

#[tokio::test]
async fn a_reaction_on_a_command_runs_nothing_again() {
    both(|t| async move {
        let id = t.say("alice", "ops", DEPLOY).await;
        t.control("react", json!({"user": "bob", "message": id, "emoji": ":+1:"})).await;
        t.control("react", json!({"user": "carol", "message": id, "emoji": ":eyes:"})).await;
        done_once(t).await;
    })
    .await;
}

#[tokio::test]
async fn a_message_emitted_again_runs_nothing() {
    both(|mut t| async move {
        let id = t.say("alice", "ops", DEPLOY).await;
        t.control("reemit", json!({"message": id, "count": 3})).await;
        t.control("preview", json!({"message": id})).await;
        t.wait("the run", || (!t.runs().is_empty()).then_some(())).await;
        t.reply("bob", "ops", &id, "good luck").await;
        t.ended("R-1", &["deployed in"]).await;
        // Nor does another process take it for new.
        t.restart().await;
        t.control("reemit", json!({"message": id, "count": 3})).await;
        t.silence("ops").await;
        assert_eq!(t.runs(), ["deploy staging web 1.8"]);
        t.end().await;
    })
    .await;
}

#[tokio::test]
async fn edits_never_execute() {
    both(|t| async move {
        let id = t.say("alice", "ops", DEPLOY).await;
        t.ended("R-1", &["deployed in"]).await;
        let edit = json!({"_id": id, "room": "ops", "u": "alice", "msg": "!deploy prod web 1.8",
            "editedAt": {"$date": Clock::system().now().as_millisecond()}});
        t.control("send", json!({"message": edit})).await;
        let told = t.expect("ops", &["@alice edits are never carried out"]).await;
        assert_eq!(told.thread.as_deref(), Some(id.as_str()));
        t.silence("ops").await;
        assert_eq!(t.runs(), ["deploy staging web 1.8"]);
        t.end().await;
    })
    .await;
}

#[tokio::test]
async fn own_and_bot_messages_are_never_obeyed() {
    both(|t| async move {
        t.control("person", json!({"username": "robot", "roles": ["user", "bot"]})).await;
        t.control("join", json!({"user": "robot", "room": "ops"})).await;
        // What a person makes Houston repeat is no command either.
        t.say("alice", "ops", &format!("!ping {DEPLOY}")).await;
        t.expect("ops", &["pong !deploy staging web 1.8"]).await;
        let own = json!({"room": "ops", "u": "houston", "msg": DEPLOY});
        let ids = t.control("send", json!({"message": own})).await;
        let marked = json!({"room": "ops", "u": "alice", "msg": DEPLOY, "bot": {"i": "x"}});
        t.control("send", json!({"message": marked})).await;
        t.expect("ops", &[DEPLOY]).await;
        t.silence("ops").await;
        assert!(ids["ids"].is_array() && t.runs().is_empty(), "{:?}", t.runs());
        t.end().await;
    })
    .await;
}

#[tokio::test]
async fn five_commands_in_one_millisecond_are_five() {
    both(|t| async move {
        let ts = json!({"$date": Clock::system().now().as_millisecond()});
        let messages: Vec<Value> = (1..=5)
            .map(|n| json!({"room": "ops", "u": "alice", "msg": format!("!ping {n}"), "ts": ts, "_updatedAt": ts}))
            .collect();
        t.control("send", json!({"messages": messages})).await;
        for n in 1..=5 {
            t.expect("ops", &[&format!("pong {n}")]).await;
        }
        t.silence("ops").await;
        t.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_command_whose_frame_is_late_is_carried_out_once() {
    both(|t| async move {
        t.control("delay", json!({"user": "houston", "ms": 1500, "count": 1})).await;
        t.say("alice", "ops", DEPLOY).await;
        t.control("clear", json!({})).await;
        t.say("bob", "ops", "!ping").await;
        t.expect("ops", &["pong"]).await;
        done_once(t).await;
    })
    .await;
}

#[tokio::test]
async fn a_reconnect_runs_nothing_again() {
    both(|t| async move {
        t.say("alice", "ops", DEPLOY).await;
        t.wait("the run", || (!t.runs().is_empty()).then_some(())).await;
        t.control("refuse", json!({"ms": HOURS})).await;
        t.control("drop", json!({})).await;
        t.wait("the socket to be gone", || (!t.bot().chat.health().online).then_some(())).await;
        t.control("clear", json!({})).await;
        t.wait("the next one", || t.bot().chat.health().caught_up.then_some(())).await;
        done_once(t).await;
    })
    .await;
}

#[tokio::test]
async fn a_command_that_is_sent_while_disconnected_is_carried_out_once() {
    both(|t| async move {
        t.control("refuse", json!({"ms": HOURS})).await;
        t.control("drop", json!({})).await;
        t.wait("the socket to be gone", || (!t.bot().chat.health().online).then_some(())).await;
        t.say("alice", "ops", DEPLOY).await;
        t.control("clear", json!({})).await;
        done_once(t).await;
    })
    .await;
}

/// The server hears, and for a moment takes nothing: its proxy answers for it.
#[tokio::test]
async fn an_answer_that_the_server_does_not_take_at_first_is_said_later() {
    both(|t| async move {
        t.control("refuse", json!({"requests": 4})).await;
        t.say("alice", "ops", "!ping").await;
        t.say("alice", "ops", "!whoami").await;
        t.expect("ops", &["pong"]).await;
        t.expect("ops", &["alice", "operator"]).await;
        t.silence("ops").await;
        t.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_command_that_is_sent_while_houston_does_not_run_is_carried_out_once() {
    both(|mut t| async move {
        t.stop().await;
        t.say("alice", "ops", DEPLOY).await;
        t.start_again().await;
        done_once(t).await;
    })
    .await;
}

/// A command that waited for longer than `limits.stale_after`.
async fn stale(t: &mut House) -> String {
    t.stop().await;
    let id = t.say("alice", "ops", DEPLOY).await;
    t.say("alice", "ops", "!ping only-looks").await;
    t.clock.advance(Duration::from_secs(180));
    t.start_again().await;
    t.expect("ops", &["pong only-looks"]).await;
    id
}

async fn house_with_a_clock() -> House {
    let clock = Clock::manual(Clock::system().now());
    House::with(Setup { services: vec![("staging-web", 1)], clock, ..Setup::default() }).await
}

#[tokio::test]
async fn stale_commands_are_asked_about() {
    let mut t = house_with_a_clock().await;
    let id = stale(&mut t).await;
    let question = t.expect("ops", &["You asked for `deploy staging web 1.8`", "Is it still meant?"]).await;
    assert_eq!(question.thread.as_deref(), Some(id.as_str()));
    t.silence("ops").await;
    assert!(t.runs().is_empty());
    t.reply("bob", "ops", &id, "yes").await;
    t.silence("ops").await;
    assert!(t.runs().is_empty(), "it was not his");
    t.reply("alice", "ops", &id, "yes").await;
    t.wait("the run", || (!t.runs().is_empty()).then_some(())).await;
    t.wait("its end", || {
        t.said("ops")
            .into_iter()
            .find(|said| said.text.contains("*R-1*") && said.text.contains("deployed in"))
    })
    .await;
    t.expect("ops", &["*R-1*", "deployed in"]).await;
    t.expect("ops", &["@alice", "deployed in"]).await;
    t.reply("alice", "ops", &id, "yes").await;
    t.silence("ops").await;
    assert_eq!(t.runs(), ["deploy staging web 1.8"]);
    t.end().await;
}

#[tokio::test]
async fn a_stale_command_that_is_not_meant_any_more_is_left_alone() {
    let mut t = house_with_a_clock().await;
    let id = stale(&mut t).await;
    t.expect("ops", &["Is it still meant?"]).await;
    t.reply("alice", "ops", &id, "no").await;
    t.expect("ops", &["Left alone."]).await;
    t.silence("ops").await;
    assert!(t.runs().is_empty());
    t.end().await;
}

#[tokio::test]
async fn each_of_two_stale_commands_is_answered_in_its_own_thread() {
    let mut t = house_with_a_clock().await;
    t.stop().await;
    let deploy = t.say("alice", "ops", DEPLOY).await;
    let scale = t.say("alice", "ops", "!scale staging web 2").await;
    t.clock.advance(Duration::from_secs(180));
    t.start_again().await;
    let asked =
        [t.expect("ops", &["Is it still meant?"]).await, t.expect("ops", &["Is it still meant?"]).await];
    let mut threads: Vec<_> = asked.iter().filter_map(|question| question.thread.clone()).collect();
    threads.sort_unstable();
    let mut commands = vec![deploy.clone(), scale.clone()];
    commands.sort_unstable();
    assert_eq!(threads, commands);
    t.reply("alice", "ops", &deploy, "no").await;
    t.expect("ops", &["Left alone."]).await;
    t.reply("alice", "ops", &scale, "yes").await;
    t.expect("ops", &["*R-1*", "scaled in"]).await;
    t.expect("ops", &["@alice", "scaled in"]).await;
    assert_eq!(t.runs(), ["scale staging web 2"]);
    t.end().await;
}

#[tokio::test]
async fn stale_commands_of_one_thread_are_asked_about_once_and_the_others_named() {
    let mut t = house_with_a_clock().await;
    let root = t.say("bob", "ops", "Shall we?").await;
    t.stop().await;
    t.reply("alice", "ops", &root, DEPLOY).await;
    t.reply("alice", "ops", &root, "!scale staging web 2").await;
    t.clock.advance(Duration::from_secs(180));
    t.start_again().await;
    t.expect("ops", &["You asked for `deploy staging web 1.8`", "Is it still meant?"]).await;
    let last = ["You asked for `scale staging web 2`", "I no longer ask about `deploy staging web 1.8`"];
    t.expect("ops", &last).await;
    t.reply("alice", "ops", &root, "yes").await;
    t.expect("ops", &["*R-1*", "scaled in"]).await;
    t.expect("ops", &["@alice", "scaled in"]).await;
    t.reply("alice", "ops", &root, "yes").await;
    t.silence("ops").await;
    assert_eq!(t.runs(), ["scale staging web 2"]);
    t.end().await;
}

#[tokio::test]
async fn alias_messages_are_not_obeyed() {
    both(|t| async move {
        for disguise in ["alias", "avatar", "emoji"] {
            let mut forged = json!({"room": "ops", "u": "alice", "msg": DEPLOY});
            forged[disguise] = "carol".into();
            t.control("send", json!({"message": forged})).await;
        }
        t.silence("ops").await;
        assert!(t.runs().is_empty());
        t.end().await;
    })
    .await;
}

#[tokio::test]
async fn forged_fields_only_ever_cause_silence() {
    let t = House::talk().await;
    t.newcomer("dave").await;
    for (field, value) in [
        ("bot", json!({"i": "houston"})),
        ("t", json!("uj")),
        ("editedAt", json!({"$date": 1})),
        ("editedBy", json!({"_id": "u-carol", "username": "carol"})),
        ("_hidden", json!(true)),
        ("tcount", json!(3)),
        ("roles", json!(["admin"])),
        ("mentions", json!([{"_id": "u-carol", "username": "carol"}])),
    ] {
        let mut forged = json!({"room": "ops", "u": "dave", "msg": "!lock staging mine"});
        forged[field] = value;
        t.control("send", json!({"message": forged})).await;
    }
    t.silence_but("ops", &["You may not `lock` here"]).await;
    assert!(t.bot().engine.held().await.is_empty());
    t.end().await;
}

#[tokio::test]
async fn a_room_that_houston_was_removed_from_is_not_obeyed() {
    both(|t| async move {
        t.control("room", json!({"room": "war-room", "kind": "p", "members": ["carol", "alice", "houston"]}))
            .await;
        t.say("alice", "war-room", "!ping here").await;
        t.expect("war-room", &["pong here"]).await;
        // Rocket.Chat may go on delivering.
        t.control("keep_room_subs", json!({})).await;
        t.control("kick", json!({"user": "houston", "room": "war-room"})).await;
        t.say("alice", "war-room", DEPLOY).await;
        t.say("alice", "war-room", "!ping again").await;
        t.silence("ops").await;
        assert!(t.runs().is_empty());
        t.end().await;
    })
    .await;
}

#[tokio::test]
async fn command_spam_is_limited_per_person() {
    let clock = Clock::manual(Clock::system().now());
    let setup = Setup {
        services: Vec::new(),
        clock: clock.clone(),
        houston: "limits: {commands_per_minute: 5}\n".to_owned(),
        ..Setup::default()
    };
    let t = House::with(setup).await;
    for n in 1..=20 {
        t.say("alice", "ops", &format!("!ping {n}")).await;
    }
    for n in 1..=5 {
        t.expect("ops", &[&format!("pong {n}")]).await;
    }
    t.expect("ops", &["more than 5 commands a minute"]).await;
    t.silence("ops").await;
    clock.advance(Duration::from_secs(60));
    t.say("alice", "ops", "!ping later").await;
    t.expect("ops", &["pong later"]).await;
    t.end().await;
}
