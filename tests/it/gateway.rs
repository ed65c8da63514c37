//! Delivery between a Rocket.Chat-compatible server and Houston: what is handed out, how often, and what a
//! reaction is worth. Every test runs against both of Rocket.Chat's realtime servers.

use std::time::Duration;

use houston::clock::Clock;
use houston::gateway::events::{Event, Inbound, Post, Reaction, RoomKind, SendError};
use houston::gateway::{Auth, Chat, Gateway, GatewayConfig, Ledger, Priority, Timings, Who};
use houston::ids::{MessageId, RoomId, UserId, random_id};
use houston::sandbox::{self, Dialect, Sandbox, Version};
use houston::secret::{Redactor, Secret};
use houston::store::Store;
use serde_json::{Value, json};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(60);

/// Until the test says `clear`: the server is down.
const HOURS: u64 = 3_600_000;

/// Runs a scenario against both realtime servers, one after the other.
async fn both<F: Future<Output = ()>>(scenario: impl Fn(Bot) -> F) {
    for dialect in [Dialect::Monolith, Dialect::Streamer] {
        let bot = Bot::start(sandbox::Options { dialect, ..sandbox::Options::default() }).await;
        scenario(bot).await;
    }
}

/// A server and Houston's gateway to it.
struct Bot {
    sandbox: Sandbox,
    chat: Chat,
    events: mpsc::Receiver<Event>,
    ledger: Ledger,
    store: Store,
    redactor: Redactor,
    /// Whether what is received is marked.
    marks: bool,
    timings: Timings,
    _dir: tempfile::TempDir,
}

impl Bot {
    async fn start(options: sandbox::Options) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sandbox = sandbox::start(options).await.expect("the sandbox starts");
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        let (redactor, ledger) = (Redactor::new(), Ledger::new(store.clone(), Clock::system()));
        let (timings, marks) = (timings(), true);
        let (chat, events) = connect(&sandbox, &store, &redactor, &ledger, &timings);
        let mut bot = Self { sandbox, chat, events, ledger, store, redactor, marks, timings, _dir: dir };
        bot.caught_up().await;
        bot
    }

    /// The process ends; another one starts with the same state.
    async fn restart(&mut self) {
        self.stop().await;
        self.start_again();
        self.caught_up().await;
    }

    async fn stop(&self) {
        tokio::time::timeout(PATIENCE, self.chat.shutdown()).await.expect("it stops");
    }

    fn start_again(&mut self) {
        self.ledger = Ledger::new(self.store.clone(), Clock::system());
        (self.chat, self.events) =
            connect(&self.sandbox, &self.store, &self.redactor, &self.ledger, &self.timings);
    }

    async fn next(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event comes");
        let event = event.expect("the gateway runs");
        if let (true, Event::Message(message)) = (self.marks, &event) {
            self.ledger.mark_read_only(&message.id).expect("written");
        }
        event
    }

    /// Everything up to the moment when the gap is read.
    async fn caught_up(&mut self) -> Vec<Event> {
        let mut before = Vec::new();
        loop {
            match self.next().await {
                Event::CaughtUp => return before,
                event => before.push(event),
            }
        }
    }

    /// Everything that comes before a message that is sent now.
    async fn everything(&mut self) -> Vec<Event> {
        let end = self.say("bob", "ops", "that is all").await;
        let mut before = Vec::new();
        loop {
            match self.next().await {
                Event::Message(message) if message.id.as_str() == end => return before,
                event => before.push(event),
            }
        }
    }

    async fn message(&mut self) -> Inbound {
        loop {
            if let Event::Message(message) = self.next().await {
                return message;
            }
        }
    }

    async fn reactions(&mut self) -> (Vec<Reaction>, Vec<Reaction>) {
        loop {
            if let Event::Reactions { added, removed, .. } = self.next().await {
                return (added, removed);
            }
        }
    }

    async fn say(&self, who: &str, room: &str, text: &str) -> String {
        self.sandbox.say(who, room, text).await.expect("it is said")
    }

    async fn control(&self, act: &str, body: Value) -> Value {
        self.sandbox.control(act, body).await.expect("the sandbox does it")
    }

    async fn react(&self, who: &str, message: &MessageId, emoji: &str) {
        let body = json!({"user": who, "message": message.as_str(), "emoji": emoji});
        self.control("react", body).await;
    }

    fn room(&self, name: &str) -> RoomId {
        RoomId::new(self.sandbox.room_id(name).expect("the room is there"))
    }

    fn user(&self, name: &str) -> UserId {
        UserId::new(self.sandbox.user_id(name).expect("the person is there"))
    }

    /// A message of Houston's own, watched.
    async fn card(&self) -> MessageId {
        let id = MessageId::new(random_id());
        let post = Post { id: id.clone(), room: self.room("ops"), thread: None, text: "Deploy?".to_owned() };
        self.chat.post(post, Priority::Urgent).await.expect("it is posted");
        self.chat.watch(&self.room("ops"), &id);
        id
    }
}

fn timings() -> Timings {
    let mut timings = Timings { save: Duration::from_millis(20), ..Timings::default() };
    timings.realtime.first_retry = Duration::from_millis(5);
    timings.realtime.retry_from = Duration::from_millis(20);
    timings.realtime.retry_to = Duration::from_millis(100);
    timings
}

fn connect(
    sandbox: &Sandbox,
    store: &Store,
    redactor: &Redactor,
    ledger: &Ledger,
    timings: &Timings,
) -> (Chat, mpsc::Receiver<Event>) {
    let (user_id, token) = sandbox.personal_token("houston").expect("the bot's account");
    let config = GatewayConfig {
        url: sandbox.url().parse().expect("an address"),
        auth: Auth::Token { user_id, token: Secret::new(token, redactor) },
        timings: timings.clone(),
        meant: |emoji| emoji != ":tada:",
    };
    Gateway::start(config, store.clone(), Clock::system(), redactor.clone(), ledger.clone())
        .expect("the gateway starts")
}

fn texts(events: &[Event]) -> Vec<&str> {
    let mut texts = Vec::new();
    for event in events {
        if let Event::Message(message) = event {
            texts.push(message.text.as_str());
        }
    }
    texts
}

fn who(reactions: &[Reaction]) -> Vec<(&str, &str)> {
    reactions.iter().map(|r| (r.emoji.as_str(), r.by.id.as_str())).collect()
}

#[tokio::test]
async fn a_reaction_on_a_command_does_not_run_it_again() {
    both(|mut bot| async move {
        let id = MessageId::new(bot.say("alice", "ops", "!deploy prod").await);
        let message = bot.message().await;
        assert_eq!((message.text.as_str(), message.by.id.clone()), ("!deploy prod", bot.user("alice")));
        assert_eq!((message.room.name.as_deref(), message.caught_up), (Some("ops"), false));
        bot.react("carol", &id, ":+1:").await;
        assert_eq!(texts(&bot.everything().await), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_message_that_is_sent_again_by_the_server_is_one_message() {
    both(|mut bot| async move {
        let id = bot.say("alice", "ops", "!deploy prod").await;
        bot.control("reemit", json!({"message": id, "count": 3})).await;
        bot.control("preview", json!({"message": id})).await;
        assert_eq!(texts(&bot.everything().await), ["!deploy prod"]);
    })
    .await;
}

#[tokio::test]
async fn an_edit_is_told_and_not_executed() {
    both(|mut bot| async move {
        let id = bot.say("alice", "ops", "!deploy staging").await;
        bot.message().await;
        let edit = json!({"_id": id, "room": "ops", "u": "alice", "msg": "!deploy prod", "editedAt": {"$date": now_ms()}});
        bot.control("send", json!({"message": edit})).await;
        let events = bot.everything().await;
        assert_eq!(texts(&events), [""; 0]);
        assert!(
            matches!(&events[..], [Event::Edited { id: edited, text, .. }] if edited.as_str() == id && text == "!deploy prod"),
            "{events:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn own_bot_and_disguised_messages_are_not_obeyed() {
    both(|mut bot| async move {
        let post = |text: &str| Post {
            id: MessageId::new(random_id()),
            room: bot.room("ops"),
            thread: None,
            text: text.to_owned(),
        };
        bot.chat.post(post("!deploy prod"), Priority::Normal).await.expect("posted");
        let forged = json!({"messages": [
            {"room": "ops", "u": "alice", "msg": "!deploy prod", "alias": "carol"},
            {"room": "ops", "u": "alice", "msg": "!deploy prod", "avatar": "/avatar/carol"},
            {"room": "ops", "u": "alice", "msg": "!deploy prod", "bot": {"i": "x"}},
            {"room": "ops", "u": "alice", "msg": "!deploy prod", "t": "uj"},
            {"room": "ops", "u": "alice", "msg": "!deploy prod", "editedAt": {"$date": 1}},
            {"room": "ops", "u": "alice", "msg": "obeyed", "alias": "", "pinned": true, "tcount": 3},
        ]});
        bot.control("send", forged).await;
        assert_eq!(texts(&bot.everything().await), ["obeyed"]);
    })
    .await;
}

#[tokio::test]
async fn five_messages_in_one_millisecond_are_five() {
    both(|mut bot| async move {
        let ts = json!({"$date": now_ms()});
        let messages: Vec<Value> = (1..=5)
            .map(|n| json!({"room": "ops", "u": "alice", "msg": format!("!ping {n}"), "ts": ts, "_updatedAt": ts}))
            .collect();
        bot.control("send", json!({"messages": messages})).await;
        let mut heard = texts(&bot.everything().await).join(",");
        heard.retain(|c| !c.is_whitespace());
        assert_eq!(heard, "!ping1,!ping2,!ping3,!ping4,!ping5");
    })
    .await;
}

#[tokio::test]
async fn a_message_whose_frame_is_late_is_not_lost() {
    both(|mut bot| async move {
        bot.control("delay", json!({"user": "houston", "ms": 1500, "count": 1})).await;
        bot.say("alice", "ops", "late").await;
        bot.control("clear", json!({})).await;
        bot.say("alice", "ops", "in time").await;
        assert_eq!(bot.message().await.text, "in time");
        assert_eq!(bot.message().await.text, "late");
    })
    .await;
}

#[tokio::test]
async fn frames_in_opposite_order_and_twice_are_each_message_once() {
    both(|mut bot| async move {
        bot.control("duplicate", json!({"user": "houston", "copies": 3, "count": 20})).await;
        bot.say("alice", "ops", "one").await;
        bot.say("alice", "ops", "two").await;
        bot.control("clear", json!({})).await;
        assert_eq!(texts(&bot.everything().await), ["one", "two"]);
    })
    .await;
}

#[tokio::test]
async fn what_is_said_while_disconnected_is_handed_out_once_with_its_age() {
    both(|mut bot| async move {
        bot.say("alice", "ops", "before").await;
        assert_eq!(bot.message().await.text, "before");
        bot.control("refuse", json!({"ms": HOURS})).await;
        bot.control("drop", json!({})).await;
        assert!(matches!(bot.next().await, Event::Offline { .. }));
        assert!(!bot.chat.health().online);
        let old = json!({"room": "ops", "u": "alice", "msg": "old", "ts": {"$date": now_ms() - 1_200_000}});
        bot.control("send", json!({"message": old})).await;
        bot.say("alice", "ops", "meanwhile").await;
        bot.control("clear", json!({})).await;
        let events = bot.caught_up().await;
        // Sent before Houston first listened, whatever brought it up.
        assert_eq!(texts(&events), ["meanwhile"]);
        let Some(Event::Message(message)) = events.iter().find(|e| matches!(e, Event::Message(_))) else {
            panic!("{events:?}")
        };
        assert!(message.caught_up && message.age < Duration::from_secs(15), "{message:?}");
        bot.say("alice", "ops", "after").await;
        assert_eq!(texts(&bot.everything().await), ["after"]);
        assert!(bot.chat.health().online && bot.chat.health().caught_up);
    })
    .await;
}

#[tokio::test]
async fn a_frame_that_was_lost_is_found_at_the_next_connection() {
    both(|mut bot| async move {
        let silent = json!({"room": "ops", "u": "alice", "msg": "unheard"});
        bot.control("send", json!({"message": silent, "silent": true})).await;
        bot.control("drop", json!({})).await;
        assert_eq!(texts(&bot.caught_up().await), ["unheard"]);
        assert_eq!(texts(&bot.everything().await), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_restart_repeats_nothing_and_misses_nothing() {
    both(|mut bot| async move {
        bot.say("alice", "ops", "dealt with").await;
        assert_eq!(bot.message().await.text, "dealt with");
        bot.marks = false;
        bot.say("alice", "ops", "handed out, not dealt with").await;
        assert_eq!(bot.message().await.text, "handed out, not dealt with");
        bot.say("alice", "ops", "never received").await;
        bot.stop().await;
        bot.marks = true;
        bot.say("alice", "ops", "while it was down").await;
        bot.start_again();
        let expected = ["handed out, not dealt with", "never received", "while it was down"];
        assert_eq!(texts(&bot.caught_up().await), expected);
        bot.restart().await;
        assert_eq!(texts(&bot.everything().await), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn the_first_start_answers_no_history() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for dialect in [Dialect::Monolith, Dialect::Streamer] {
        let options = sandbox::Options { dialect, ..sandbox::Options::default() };
        let sandbox = sandbox::start(options).await.expect("the sandbox starts");
        let old = json!({"room": "ops", "u": "alice", "msg": "!deploy", "ts": {"$date": now_ms() - 60_000}});
        let done = sandbox.control("send", json!({"message": old})).await.expect("sent");
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path()).expect("a store");
        let (redactor, ledger) = (Redactor::new(), Ledger::new(store.clone(), Clock::system()));
        let (timings, marks) = (timings(), true);
        let (chat, events) = connect(&sandbox, &store, &redactor, &ledger, &timings);
        let mut bot = Bot { sandbox, chat, events, ledger, store, redactor, marks, timings, _dir: dir };
        assert_eq!(texts(&bot.caught_up().await), [""; 0]);
        // Nor when somebody reacts to it today.
        bot.react("bob", &MessageId::new(done["ids"][0].as_str().expect("an id")), ":+1:").await;
        assert_eq!(texts(&bot.everything().await), [""; 0]);
    }
}

#[tokio::test]
async fn rooms_that_houston_joins_and_leaves_are_told() {
    both(|mut bot| async move {
        let made = bot.control("room", json!({"room": "war-room", "kind": "p", "members": ["alice"]})).await;
        let rid = RoomId::new(made["rid"].as_str().expect("an id"));
        bot.say("alice", "war-room", "not for Houston").await;
        bot.control("invite", json!({"user": "houston", "room": "war-room", "by": "alice"})).await;
        bot.say("alice", "war-room", "for Houston").await;
        bot.control("kick", json!({"user": "houston", "room": "war-room", "by": "alice"})).await;
        bot.say("alice", "war-room", "not for Houston again").await;
        let events = bot.everything().await;
        assert_eq!(texts(&events), ["for Houston"]);
        assert!(
            events.iter().any(
                |e| matches!(e, Event::Joined(room) if room.id == rid && room.kind == RoomKind::Private)
            ),
            "{events:?}"
        );
        assert!(events.contains(&Event::Left(rid.clone())), "{events:?}");
    })
    .await;
}

#[tokio::test]
async fn a_public_room_that_houston_is_not_in_is_not_answered() {
    both(|mut bot| async move {
        bot.control("room", json!({"room": "lounge", "members": ["alice", "bob"]})).await;
        bot.say("alice", "lounge", "!deploy prod").await;
        assert_eq!(texts(&bot.everything().await), [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn a_direct_message_is_heard() {
    both(|mut bot| async move {
        let room = bot.chat.direct(&bot.user("alice")).await.expect("a direct room");
        bot.say("alice", room.as_str(), "ping").await;
        let message = bot.message().await;
        assert_eq!((message.room.kind, &message.room.id), (RoomKind::Direct, &room));
        assert_eq!(bot.chat.direct(&bot.user("alice")).await, Ok(room));
    })
    .await;
}

#[tokio::test]
async fn reactions_are_told_as_the_difference_and_by_user_id() {
    both(|mut bot| async move {
        let card = bot.card().await;
        bot.react("alice", &card, ":+1:").await;
        let (added, removed) = bot.reactions().await;
        assert_eq!((who(&added), removed.len()), (vec![(":+1:", bot.user("alice").as_str())], 0));
        bot.react("bob", &card, ":-1:").await;
        assert_eq!(who(&bot.reactions().await.0), [(":-1:", bot.user("bob").as_str())]);
        bot.react("alice", &card, ":+1:").await;
        let (added, removed) = bot.reactions().await;
        assert_eq!((added.len(), who(&removed)), (0, vec![(":+1:", bot.user("alice").as_str())]));
        let now = bot.chat.reactions(&card).await.expect("read");
        assert_eq!(who(&now), [(":-1:", bot.user("bob").as_str())]);
    })
    .await;
}

#[tokio::test]
async fn who_takes_over_a_name_takes_over_no_vote() {
    both(|mut bot| async move {
        let (alice, carol) = (bot.user("alice"), bot.user("carol"));
        let card = bot.card().await;
        bot.react("alice", &card, ":+1:").await;
        bot.reactions().await;
        bot.control("rename", json!({"user": "alice", "to": "alice2"})).await;
        bot.control("rename", json!({"user": "carol", "to": "alice"})).await;
        bot.react("bob", &card, ":+1:").await;
        assert_eq!(who(&bot.reactions().await.0), [(":+1:", bot.user("bob").as_str())]);
        // What carol does now under another emoji is hers.
        bot.react("alice", &card, ":-1:").await;
        assert_eq!(who(&bot.reactions().await.0), [(":-1:", carol.as_str())]);
        let votes = [(":+1:", alice.as_str()), (":+1:", "u-bob"), (":-1:", carol.as_str())];
        assert_eq!(who(&bot.chat.reactions(&card).await.expect("read")), votes);
        // Nor does a restart look the name up anew.
        bot.restart().await;
        bot.chat.watch(&bot.room("ops"), &card);
        let (added, removed) = bot.reactions().await;
        assert_eq!((who(&added), removed.len()), (votes.to_vec(), 0));
    })
    .await;
}

#[tokio::test]
async fn reactions_that_nobody_was_told_of_are_found_after_a_disconnect() {
    both(|mut bot| async move {
        let card = bot.card().await;
        bot.control("refuse", json!({"ms": HOURS})).await;
        bot.control("drop", json!({})).await;
        assert!(matches!(bot.next().await, Event::Offline { .. }));
        bot.react("alice", &card, ":+1:").await;
        bot.control("clear", json!({})).await;
        assert_eq!(who(&bot.reactions().await.0), [(":+1:", bot.user("alice").as_str())]);
    })
    .await;
}

#[tokio::test]
async fn reactions_on_a_message_that_houston_did_not_send_prove_nothing() {
    both(|mut bot| async move {
        let forged = json!({"room": "ops", "u": "bob", "msg": "Deploy?", "reactions": {":+1:": {"usernames": ["alice", "carol"]}}});
        let done = bot.control("send", json!({"message": forged})).await;
        let id = MessageId::new(done["ids"][0].as_str().expect("an id"));
        bot.chat.watch(&bot.room("ops"), &id);
        assert!(matches!(bot.chat.reactions(&id).await, Err(SendError::Refused { .. })));
        bot.react("alice", &id, ":-1:").await;
        let events = bot.everything().await;
        assert!(!events.iter().any(|e| matches!(e, Event::Reactions { .. })), "{events:?}");
    })
    .await;
}

#[tokio::test]
async fn a_watched_message_that_is_deleted_is_told() {
    both(|mut bot| async move {
        let card = bot.card().await;
        bot.react("alice", &card, ":+1:").await;
        bot.reactions().await;
        bot.control("delete", json!({"message": card.as_str()})).await;
        let gone = Event::Deleted { message: card, room: bot.room("ops") };
        assert_eq!(bot.next().await, gone);
    })
    .await;
}

#[tokio::test]
async fn a_long_message_is_split_and_a_resend_is_no_second_one() {
    both(|bot| async move {
        let log: String = (0..900).map(|n| format!("line number {n}\n")).collect();
        let id = MessageId::new(random_id());
        let text = format!("Output:\n```\n{log}```");
        let post = Post { id: id.clone(), room: bot.room("ops"), thread: None, text };
        for _ in 0..2 {
            bot.chat.post(post.clone(), Priority::Normal).await.expect("posted");
        }
        let ours: Vec<Value> =
            bot.sandbox.messages("ops").into_iter().filter(|m| m["u"]["username"] == "houston").collect();
        assert_eq!(ours.len(), 3, "{} units", post.text.len());
        assert_eq!(ours[0]["_id"], id.as_str());
        let lines: usize =
            ours.iter().map(|m| m["msg"].as_str().unwrap_or_default().matches("line number").count()).sum();
        assert_eq!(lines, 900);
    })
    .await;
}

#[tokio::test]
async fn a_post_that_was_taken_but_not_answered_is_confirmed_and_edits_are_redacted() {
    both(|bot| async move {
        bot.redactor.learn("hunter2-hunter2");
        let id = MessageId::new(random_id());
        let room = bot.room("ops");
        let post =
            Post { id: id.clone(), room: room.clone(), thread: None, text: "a hunter2-hunter2 b".to_owned() };
        bot.chat.post(post, Priority::Normal).await.expect("posted");
        bot.chat.edit(&room, &id, "c hunter2-hunter2", Priority::Normal).await.expect("edited");
        let before = bot.control("log", json!({})).await["last"].clone();
        bot.chat.edit(&room, &id, "c hunter2-hunter2", Priority::Normal).await.expect("nothing to do");
        let calls = bot.control("log", json!({"after": before, "user": "houston"})).await;
        assert_eq!(calls["lines"], json!([]), "the same text is not sent again");
        let said = bot.sandbox.messages("ops");
        assert_eq!(said.last().expect("the message")["msg"], "c [redacted]");
        let nowhere = Post {
            id: MessageId::new(random_id()),
            room: "nowhere".into(),
            thread: None,
            text: "x".to_owned(),
        };
        assert!(matches!(bot.chat.post(nowhere, Priority::Normal).await, Err(SendError::Refused { .. })));
    })
    .await;
}

#[tokio::test]
async fn people_are_looked_up_by_id_and_by_name() {
    both(|bot| async move {
        let by_name = bot.chat.user(Who::Name("carol")).await.expect("asked").expect("there");
        let by_id = bot.chat.user(Who::Id(&bot.user("carol"))).await.expect("asked").expect("there");
        assert_eq!((by_name.id.clone(), by_name.active), (bot.user("carol"), true));
        assert_eq!(by_name, by_id);
        assert_eq!(bot.chat.user(Who::Name("nobody")).await, Ok(None));
        let members = bot.chat.members(&bot.room("ops")).await.expect("asked");
        assert!(members.iter().any(|m| m.id == bot.user("alice")), "{members:?}");
    })
    .await;
}

#[tokio::test]
async fn what_is_said_in_the_millisecond_of_the_last_message_before_a_disconnect_is_not_lost() {
    for dialect in [Dialect::Monolith, Dialect::Streamer] {
        let clock = Clock::manual(Clock::system().now());
        let mut bot = Bot::start(sandbox::Options { dialect, clock, ..sandbox::Options::default() }).await;
        bot.say("alice", "ops", "before").await;
        assert_eq!(bot.message().await.text, "before");
        bot.control("refuse", json!({"ms": HOURS})).await;
        bot.control("drop", json!({})).await;
        assert!(matches!(bot.next().await, Event::Offline { .. }));
        bot.say("alice", "ops", "meanwhile").await;
        bot.control("clear", json!({})).await;
        assert_eq!(texts(&bot.caught_up().await), ["meanwhile"]);
    }
}

#[tokio::test]
async fn the_older_server_is_caught_up_with_too() {
    let options = sandbox::Options { server: Version::V6_5, ..sandbox::Options::default() };
    let mut bot = Bot::start(options).await;
    bot.control("refuse", json!({"ms": HOURS})).await;
    bot.control("drop", json!({})).await;
    assert!(matches!(bot.next().await, Event::Offline { .. }));
    bot.say("alice", "ops", "meanwhile").await;
    bot.control("clear", json!({})).await;
    assert_eq!(texts(&bot.caught_up().await), ["meanwhile"]);
}

#[tokio::test]
async fn a_long_gap_is_read_in_pages_where_the_server_can() {
    for server in [Version::V8, Version::V6_5] {
        let mut bot = Bot::start(sandbox::Options { server, ..sandbox::Options::default() }).await;
        bot.stop().await;
        let missed: Vec<String> = (0..250).map(|n| format!("missed {n}")).collect();
        // More of one millisecond than a page holds cannot be read in pages, and is read at once.
        for fifty in missed.chunks(50) {
            let messages: Vec<Value> =
                fifty.iter().map(|text| json!({"room": "ops", "u": "alice", "msg": text})).collect();
            bot.control("send", json!({"messages": messages})).await;
            let sent = now_ms();
            while now_ms() == sent {
                tokio::task::yield_now().await;
            }
        }
        // What was said first has changed last, and stands on the last page.
        let first = bot.sandbox.messages("ops").into_iter().find(|message| message["msg"] == "missed 0");
        bot.react("bob", &MessageId::new(first.expect("sent")["_id"].as_str().expect("an id")), ":eyes:")
            .await;
        bot.timings.long_gap = Duration::ZERO;
        let before = bot.control("log", json!({})).await["last"].clone();
        bot.start_again();
        let events = bot.caught_up().await;
        let calls = bot.control("log", json!({"after": before, "name": "chat.syncMessages"})).await;
        let room = bot.room("ops");
        let lines = calls["lines"].as_array().expect("lines");
        let forms: Vec<bool> = lines
            .iter()
            .filter(|line| line["params"]["roomId"] == room.as_str())
            .map(|line| line["params"]["type"] == "UPDATED")
            .collect();
        match server {
            Version::V8 => assert!(forms.len() >= 3 && forms.iter().all(|in_pages| *in_pages), "{forms:?}"),
            // It refuses pages, and is asked for everything at once.
            Version::V6_5 => assert_eq!(forms, [true, false]),
        }
        let number = |text: &str| text.strip_prefix("missed ").and_then(|n| n.parse::<u32>().ok());
        let mut found = texts(&events);
        // Of one millisecond in any order.
        assert!(
            found.is_sorted_by_key(|text| number(text).map(|n| n / 50)),
            "in the order of the room: {found:?}"
        );
        found.sort_unstable_by_key(|text| number(text));
        assert_eq!(found, missed, "{server:?}");
    }
}

#[tokio::test]
async fn an_encrypted_room_is_told_once() {
    both(|mut bot| async move {
        for text in ["c2VjcmV0", "bW9yZQ=="] {
            let sealed = json!({"room": "ops", "u": "alice", "t": "e2e", "msg": text});
            bot.control("send", json!({"message": sealed})).await;
        }
        let events = bot.everything().await;
        assert!(matches!(&events[..], [Event::Encrypted { room, by: Some(by) }] if room.id == bot.room("ops") && by.username == "alice"), "{events:?}");
    })
    .await;
}

#[tokio::test]
async fn a_lost_frame_of_a_reaction_is_made_up_for_while_the_message_is_watched() {
    let mut bot = Bot::start(sandbox::Options::default()).await;
    bot.stop().await;
    bot.timings.reread = Duration::from_millis(50);
    bot.start_again();
    bot.caught_up().await;
    let card = bot.card().await;
    // Its posting and the first reading are over when a reaction has been told.
    bot.react("alice", &card, ":+1:").await;
    bot.reactions().await;
    bot.control("lose", json!({"user": "houston", "count": 1})).await;
    bot.react("bob", &card, ":+1:").await;
    assert_eq!(who(&bot.reactions().await.0), [(":+1:", bot.user("bob").as_str())]);
}

fn now_ms() -> i64 {
    Clock::system().now().as_millisecond()
}
