//! The Rocket.Chat client against the sandbox, in both dialects: what a bot goes through in its life.

use std::time::Duration;

use houston::rocketchat::realtime::{Change, RealtimeOptions, Timings};
use houston::rocketchat::rest::{Outgoing, RestOptions, Sent, Sync, Upload, UserQuery};
use houston::rocketchat::{Credentials, Realtime, RealtimeEvent, Rest, RestError};
use houston::sandbox::{Dialect, Options, Sandbox, Version, start};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

const DIALECTS: [Dialect; 2] = [Dialect::Monolith, Dialect::Streamer];
const DEADLINE: Duration = Duration::from_secs(10);

struct Bot {
    realtime: Realtime,
    events: mpsc::Receiver<RealtimeEvent>,
    rest: Rest,
}

fn quick() -> Timings {
    Timings {
        first_retry: Duration::from_millis(20),
        retry_from: Duration::from_millis(20),
        retry_to: Duration::from_millis(50),
        rejected_retry: Duration::from_millis(50),
        ..Timings::default()
    }
}

fn bot(url: &str, credentials: Credentials, timings: Timings) -> Bot {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let rest = Rest::new(&RestOptions::new(url)).expect("a client");
    let options = RealtimeOptions { timings, ..RealtimeOptions::new(credentials) };
    let (realtime, events) = Realtime::start(options, rest.clone());
    Bot { realtime, events, rest }
}

impl Bot {
    async fn next(&mut self) -> RealtimeEvent {
        timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("the connection lives")
    }

    /// Skips events until one fits.
    async fn until<T>(&mut self, fits: impl Fn(RealtimeEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = fits(self.next().await) {
                return found;
            }
        }
    }

    async fn online(&mut self) -> (String, String) {
        self.until(|event| match event {
            RealtimeEvent::Online { user_id, username } => Some((user_id, username)),
            _ => None,
        })
        .await
    }

    async fn message(&mut self, text: &str) -> houston::rocketchat::model::Message {
        self.until(|event| match event {
            RealtimeEvent::Message { message, .. } if message.msg == text => Some(*message),
            _ => None,
        })
        .await
    }
}

async fn sandbox(dialect: Dialect) -> Sandbox {
    start(Options { dialect, ..Options::default() }).await.expect("the sandbox starts")
}

fn token_of(sandbox: &Sandbox) -> Credentials {
    let (user_id, token) = sandbox.personal_token("houston").expect("the account exists");
    Credentials::Token { user_id, token }
}

async fn connected(sandbox: &Sandbox) -> Bot {
    let mut bot = bot(&sandbox.url(), token_of(sandbox), quick());
    bot.online().await;
    bot
}

fn outgoing(id: &str, rid: &str, text: &str) -> Outgoing {
    Outgoing { id: id.to_owned(), rid: rid.to_owned(), text: text.to_owned(), ..Outgoing::default() }
}

#[tokio::test]
async fn a_token_logs_in_and_names_the_account() {
    for dialect in DIALECTS {
        let sandbox = sandbox(dialect).await;
        let mut bot = bot(&sandbox.url(), token_of(&sandbox), quick());
        let (user_id, username) = bot.online().await;
        assert_eq!(
            (Some(user_id), username.as_str()),
            (sandbox.user_id("houston"), "houston"),
            "{dialect:?}"
        );
        assert!(bot.realtime.last_frame_age().is_some_and(|age| age < DEADLINE));
        bot.realtime.shutdown().await;
        assert_eq!(bot.realtime.last_frame_age(), None);
    }
}

#[tokio::test]
async fn a_password_logs_in_where_realtime_takes_only_tokens() {
    for dialect in DIALECTS {
        let sandbox = sandbox(dialect).await;
        let credentials = Credentials::Password { username: "houston".into(), password: "houston".into() };
        let mut bot = bot(&sandbox.url(), credentials, quick());
        assert_eq!(bot.online().await.1, "houston", "{dialect:?}");
        assert_eq!(bot.rest.me().await.expect("who we are").username, "houston");
    }
}

#[tokio::test]
async fn an_expired_password_token_is_replaced_by_another_login() {
    for dialect in DIALECTS {
        let sandbox = sandbox(dialect).await;
        let credentials = Credentials::Password { username: "houston".into(), password: "houston".into() };
        let mut bot = bot(&sandbox.url(), credentials, quick());
        bot.online().await;
        sandbox.control("revoke", json!({"user": "houston"})).await.expect("revoked");
        bot.online().await;
        assert_eq!(bot.rest.me().await.expect("who we are").username, "houston", "{dialect:?}");
    }
}

#[tokio::test]
async fn a_second_factor_is_rejected_with_the_way_out() {
    let sandbox = sandbox(Dialect::Monolith).await;
    let person = json!({"username": "careful", "totp": "123456", "roles": ["bot"]});
    sandbox.control("person", person).await.expect("made");
    let credentials = Credentials::Password { username: "careful".into(), password: "careful".into() };
    let mut bot = bot(&sandbox.url(), credentials, quick());
    match bot.next().await {
        RealtimeEvent::AuthRejected { reason } => {
            assert!(reason.contains("personal access token"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn messages_are_received_sent_edited_and_reacted_to() {
    for dialect in DIALECTS {
        let sandbox = sandbox(dialect).await;
        let mut bot = connected(&sandbox).await;
        let rid = sandbox.room_id("ops").expect("a room");

        let asked = sandbox.say("alice", "ops", "!ping").await.expect("said");
        let message = bot.message("!ping").await;
        assert_eq!(
            (message.id, message.rid, message.user.username),
            (asked.clone(), rid.clone(), "alice".into())
        );

        let answer = outgoing("answer4567890abcd", &rid, "pong");
        let sent = bot.rest.send_message(&answer).await.expect("sent");
        assert!(matches!(&sent, Sent::Now(message) if message.id == answer.id), "{sent:?}");
        let again = bot.rest.send_message(&answer).await.expect("sent before");
        assert!(matches!(&again, Sent::AlreadySent(message) if message.msg == "pong"), "{again:?}");
        let copies = sandbox.messages("ops").iter().filter(|message| message["msg"] == "pong").count();
        assert_eq!(copies, 1, "{dialect:?}");

        bot.rest.update(&rid, &answer.id, "pong, edited").await.expect("edited");
        assert!(bot.message("pong, edited").await.edited_at.is_some());

        bot.rest.react(&asked, ":eyes:", true).await.expect("reacted");
        bot.rest.react(&asked, ":eyes:", true).await.expect("reacting twice is reacting once");
        let seen = bot.rest.get_message(&asked).await.expect("read").expect("there");
        assert_eq!(seen.reactions.get(":eyes:"), Some(&vec!["houston".to_owned()]));
    }
}

#[tokio::test]
async fn a_dropped_connection_comes_back_and_says_that_there_was_a_gap() {
    for dialect in DIALECTS {
        let sandbox = sandbox(dialect).await;
        let mut bot = connected(&sandbox).await;
        for how in [json!({"user": "houston"}), json!({"user": "houston", "code": 1000})] {
            sandbox.control("drop", how.clone()).await.expect("dropped");
            bot.until(|event| matches!(event, RealtimeEvent::Offline { .. }).then_some(())).await;
            bot.online().await;
            let text = format!("after {how}");
            sandbox.say("alice", "ops", &text).await.expect("said");
            bot.message(&text).await;
        }
    }
}

#[tokio::test]
async fn after_reconnecting_each_message_comes_once() {
    for dialect in DIALECTS {
        let sandbox = sandbox(dialect).await;
        let mut bot = connected(&sandbox).await;
        for _ in 0..3 {
            sandbox.control("drop", json!({"user": "houston"})).await.expect("dropped");
            bot.online().await;
        }
        sandbox.say("alice", "ops", "once").await.expect("said");
        sandbox.say("alice", "ops", "end").await.expect("said");
        let mut seen = 0;
        loop {
            if let RealtimeEvent::Message { message, .. } = bot.next().await {
                match message.msg.as_str() {
                    "once" => seen += 1,
                    "end" => break,
                    _ => {}
                }
            }
        }
        assert_eq!(seen, 1, "{dialect:?}");
    }
}

#[tokio::test]
async fn a_revoked_token_is_told_and_not_hammered() {
    for dialect in DIALECTS {
        let sandbox = sandbox(dialect).await;
        let timings = Timings { rejected_retry: Duration::from_secs(3600), ..quick() };
        let mut bot = bot(&sandbox.url(), token_of(&sandbox), timings);
        bot.online().await;
        sandbox.control("revoke", json!({"user": "houston"})).await.expect("revoked");
        let reason = bot
            .until(|event| match event {
                RealtimeEvent::AuthRejected { reason } => Some(reason),
                _ => None,
            })
            .await;
        assert!(reason.contains("token"), "{reason}");
        assert!(matches!(bot.rest.me().await, Err(RestError::Unauthorized { .. })), "{dialect:?}");
        let more = timeout(Duration::from_millis(300), bot.events.recv()).await;
        assert!(more.is_err(), "{more:?}");
    }
}

#[tokio::test]
async fn the_server_may_come_up_later() {
    for dialect in DIALECTS {
        let first = sandbox(dialect).await;
        let (addr, url) = (first.addr(), first.url());
        first.stop().await;
        let credentials = Credentials::Password { username: "houston".into(), password: "houston".into() };
        let mut bot = bot(&url, credentials, quick());
        assert!(matches!(bot.next().await, RealtimeEvent::Offline { .. }), "{dialect:?}");
        let late = start(Options { dialect, listen: addr, ..Options::default() }).await.expect("starts late");
        bot.online().await;
        late.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_answers_502_for_a_while_is_waited_for() {
    let sandbox = sandbox(Dialect::Monolith).await;
    sandbox.control("refuse", json!({"requests": 6, "ms": 0})).await.expect("refusing");
    let mut bot = bot(&sandbox.url(), token_of(&sandbox), quick());
    assert!(matches!(bot.next().await, RealtimeEvent::Offline { .. }));
    bot.online().await;
}

#[tokio::test]
async fn deletions_in_a_watched_room_are_told_over_reconnects() {
    for dialect in DIALECTS {
        let sandbox = sandbox(dialect).await;
        let mut bot = connected(&sandbox).await;
        let rid = sandbox.room_id("ops").expect("a room");
        bot.realtime.watch_room(&rid);
        for round in 0..2 {
            if round == 1 {
                sandbox.control("drop", json!({"user": "houston"})).await.expect("dropped");
                bot.online().await;
            }
            // The subscription is asked for beside others; a deletion before it is ready is not told.
            let deleted = async {
                loop {
                    let id = sandbox.say("alice", "ops", "gone soon").await.expect("said");
                    sandbox.control("delete", json!({"message": id})).await.expect("deleted");
                    let told = timeout(
                        Duration::from_millis(200),
                        bot.until(|event| match event {
                            RealtimeEvent::Deleted { room, id } => Some((room, id)),
                            _ => None,
                        }),
                    );
                    if let Ok(told) = told.await {
                        break told;
                    }
                }
            };
            let (room, _) = timeout(DEADLINE, deleted).await.expect("told in time");
            assert_eq!(room, rid, "{dialect:?}");
        }
    }
}

#[tokio::test]
async fn joining_and_leaving_rooms_is_told() {
    for dialect in DIALECTS {
        let sandbox = sandbox(dialect).await;
        let mut bot = connected(&sandbox).await;
        let rid = sandbox.room_id("board").expect("a private room");
        for (act, expected) in [("invite", Change::Inserted), ("kick", Change::Removed)] {
            sandbox.control(act, json!({"user": "houston", "room": "board"})).await.expect("done");
            let room = bot
                .until(|event| match event {
                    RealtimeEvent::Subscription { change, subscription } if change == expected => {
                        Some(subscription.rid)
                    }
                    _ => None,
                })
                .await;
            assert_eq!(room, rid, "{dialect:?} {act}");
        }
    }
}

#[tokio::test]
async fn a_frame_beyond_the_limit_closes_the_connection_and_it_comes_back() {
    let sandbox = sandbox(Dialect::Monolith).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let rest = Rest::new(&RestOptions::new(sandbox.url())).expect("a client");
    let options = RealtimeOptions {
        timings: quick(),
        max_frame: 64 * 1024,
        ..RealtimeOptions::new(token_of(&sandbox))
    };
    let (realtime, events) = Realtime::start(options, rest.clone());
    let mut bot = Bot { realtime, events, rest };
    bot.online().await;
    let frame = json!({"user": "houston", "frame": {"msg": "x", "filler": "y".repeat(100_000)}});
    sandbox.control("raw", frame).await.expect("sent");
    let reason = bot
        .until(|event| match event {
            RealtimeEvent::Offline { reason } => Some(reason),
            _ => None,
        })
        .await;
    assert!(reason.contains("larger than 64 KiB"), "{reason}");
    bot.online().await;
}

#[tokio::test]
async fn rubbish_on_the_socket_is_survived() {
    for dialect in DIALECTS {
        let sandbox = sandbox(dialect).await;
        let mut bot = connected(&sandbox).await;
        for text in
            ["", "{", "null", "[]", r#"{"msg":7}"#, r#"{"msg":"changed"}"#, r#"{"msg":"result","id":1}"#]
        {
            sandbox.control("raw", json!({"user": "houston", "text": text})).await.expect("sent");
        }
        sandbox.control("raw", json!({"user": "houston", "bytes": [0, 255, 1]})).await.expect("sent");
        sandbox.say("alice", "ops", "still there?").await.expect("said");
        let offline_or_message = bot
            .until(|event| match event {
                RealtimeEvent::Offline { reason } => Some(reason),
                RealtimeEvent::Message { message, .. } if message.msg == "still there?" => Some(message.msg),
                _ => None,
            })
            .await;
        assert_eq!(offline_or_message, "still there?", "{dialect:?}");
    }
}

#[tokio::test]
async fn a_slow_reader_loses_nothing() {
    let sandbox = sandbox(Dialect::Monolith).await;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let rest = Rest::new(&RestOptions::new(sandbox.url())).expect("a client");
    let options = RealtimeOptions { timings: quick(), queue: 2, ..RealtimeOptions::new(token_of(&sandbox)) };
    let (realtime, events) = Realtime::start(options, rest.clone());
    let mut bot = Bot { realtime, events, rest };
    bot.online().await;
    for n in 0..200 {
        sandbox.say("alice", "ops", &format!("m{n}")).await.expect("said");
    }
    for n in 0..200 {
        bot.message(&format!("m{n}")).await;
    }
}

#[tokio::test]
async fn what_was_missed_is_read_by_rest() {
    for server in [Version::V8, Version::V6_5] {
        let sandbox = start(Options { server, ..Options::default() }).await.expect("starts");
        let mut bot = connected(&sandbox).await;
        let rid = sandbox.room_id("ops").expect("a room");
        let first = sandbox.say("alice", "ops", "first").await.expect("said");
        let since = bot.message("first").await.updated_at.expect("dated");
        let second = sandbox.say("bob", "ops", "second").await.expect("said");
        let third = sandbox.say("bob", "ops", "third").await.expect("said");
        sandbox.control("delete", json!({"message": third})).await.expect("deleted");
        let overlap = since - jiff::SignedDuration::from_secs(5);
        let page = bot.rest.sync_messages(&rid, Sync::Since(overlap)).await.expect("read");
        let ids: Vec<_> = page.updated.iter().map(|message| message.id.as_str()).collect();
        assert!(ids.contains(&first.as_str()) && ids.contains(&second.as_str()), "{server:?} {ids:?}");
        assert_eq!(page.deleted, [third]);
        assert_eq!(bot.rest.get_message("nosuchmessage").await, Ok(None));
        let rooms = bot.rest.rooms_get(None).await.expect("rooms");
        assert!(rooms.updated.iter().any(|room| room.id == rid && room.kind == "c"), "{rooms:?}");
        let mine = bot.rest.subscriptions_get(None).await.expect("memberships");
        assert!(mine.updated.iter().any(|membership| membership.rid == rid), "{mine:?}");
    }
}

#[tokio::test]
async fn people_rooms_and_settings_are_read() {
    for server in [Version::V8, Version::V6_5] {
        let sandbox = start(Options { server, ..Options::default() }).await.expect("starts");
        let bot = connected(&sandbox).await;
        let info = bot.rest.info().await.expect("a version");
        let expected = if server == Version::V8 { 8 } else { 6 };
        assert_eq!(info.release().map(|(major, _)| major), Some(expected));
        let alice = bot.rest.user_info(UserQuery::Name("alice")).await.expect("read").expect("exists");
        assert_eq!(Some(alice.id.clone()), sandbox.user_id("alice"));
        assert_eq!(bot.rest.user_info(UserQuery::Name("nobody")).await, Ok(None));
        let by_id = bot.rest.user_info(UserQuery::Id(&alice.id)).await.expect("read").expect("exists");
        assert_eq!(by_id.username, "alice");
        let room = bot.rest.room_by_name("ops").await.expect("read");
        assert_eq!(Some(room.id.clone()), sandbox.room_id("ops"));
        let members = bot.rest.members(&room.id, &room.kind).await.expect("members");
        assert!(members.iter().any(|member| member.username == "alice"));
        let settings = bot.rest.public_settings().await.expect("settings");
        assert_eq!(settings.max_message_size(), 5000);
        assert!(!settings.allows_unrecognized_slash_commands());
        let direct = bot.rest.im_create("alice").await.expect("a direct room");
        assert_eq!(bot.rest.im_create("alice").await, Ok(direct.clone()));
        bot.rest.send_message(&outgoing("direct67890123456", &direct, "between us")).await.expect("sent");
    }
}

#[tokio::test]
async fn files_go_up_to_new_and_old_servers() {
    for server in [Version::V8, Version::V6_5] {
        let sandbox = start(Options { server, ..Options::default() }).await.expect("starts");
        let bot = connected(&sandbox).await;
        let upload = Upload {
            rid: sandbox.room_id("ops").expect("a room"),
            tmid: None,
            file_name: "log.txt".into(),
            media_type: "text/plain".into(),
            bytes: b"first line\nlast line\n".to_vec(),
            text: "the whole log".into(),
        };
        let message = bot.rest.upload(&upload).await.expect("uploaded");
        assert_eq!(message.rid, upload.rid, "{server:?}");
        let shown = sandbox.messages("ops");
        assert!(shown.iter().any(|shown| shown["_id"] == json!(message.id)), "{server:?}");
    }
}

#[tokio::test]
async fn a_refusal_says_what_the_server_said() {
    for server in [Version::V8, Version::V6_5] {
        let sandbox = start(Options { server, ..Options::default() }).await.expect("starts");
        let bot = connected(&sandbox).await;
        let rid = sandbox.room_id("ops").expect("a room");
        let long = outgoing("toolong8901234567", &rid, &"x".repeat(5001));
        let error = bot.rest.send_message(&long).await.expect_err("too long");
        assert_eq!(error.code(), Some("error-message-size-exceeded"), "{server:?} {error}");
        let nowhere = outgoing("nowhere8901234567", "no-such-room", "hello?");
        let error = bot.rest.send_message(&nowhere).await.expect_err("no room");
        assert!(matches!(error, RestError::Refused { .. }), "{server:?} {error}");
    }
}

#[tokio::test]
async fn typing_is_announced_as_activity_of_the_room() {
    for dialect in DIALECTS {
        let sandbox = sandbox(dialect).await;
        let bot = connected(&sandbox).await;
        let rid = sandbox.room_id("ops").expect("a room");
        bot.realtime.typing(&rid, "houston", true);
        let typed = async {
            loop {
                let log = sandbox.control("log", json!({"name": "stream-notify-room"})).await.expect("a log");
                if let Some(line) = log["lines"].get(0) {
                    break line["frame"]["params"].clone();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let params = timeout(DEADLINE, typed).await.expect("announced in time");
        assert_eq!(
            params,
            json!([format!("{rid}/user-activity"), "houston", ["user-typing"]]),
            "{dialect:?}"
        );
    }
}
