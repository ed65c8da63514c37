//! The session frame by frame, and against recordings of Rocket.Chat 6.5.3.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::event::{Change, RealtimeEvent};
use super::super::frame::tests::any_frame;
use super::*;

const PATIENCE: Patience = Patience {
    ping_after: Duration::from_secs(20),
    dead_after: Duration::from_secs(45),
    answer: Duration::from_secs(30),
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(1000 + seconds)
}

fn frames(session: &mut Session) -> Vec<Value> {
    std::iter::from_fn(|| session.next_frame())
        .map(|frame| serde_json::from_str(&frame).expect("we write JSON"))
        .collect()
}

fn events(session: &mut Session) -> Vec<SessionEvent> {
    std::iter::from_fn(|| session.next_event()).collect()
}

/// Logged in at second 0, nothing pending.
fn up() -> Session {
    let mut session = Session::new(PATIENCE, "TOKEN");
    session.opened(at(0));
    session.text(at(0), r#"{"msg":"connected","session":"S"}"#);
    session.text(at(0), r#"{"msg":"result","id":"login","result":{"id":"u1","token":"TOKEN"}}"#);
    frames(&mut session);
    events(&mut session);
    assert!(session.is_up());
    session
}

#[test]
fn connect_goes_out_at_once_and_login_follows() {
    let mut session = Session::new(PATIENCE, "TOKEN");
    assert_eq!(frames(&mut session), [] as [Value; 0]);
    session.opened(at(0));
    assert_eq!(
        frames(&mut session),
        [json!({"msg": "connect", "version": "1", "support": ["1", "pre2", "pre1"]})]
    );
    session.text(at(0), r#"{"msg":"connected","session":"S"}"#);
    assert_eq!(
        frames(&mut session),
        [json!({"msg": "method", "id": "login", "method": "login", "params": [{"resume": "TOKEN"}]})]
    );
    // The monolith tells our user first, then `updated`, then the result; the streamer the result first.
    session.text(at(0), r#"{"msg":"added","collection":"users","id":"u1","fields":{"username":"bot"}}"#);
    session.text(at(0), r#"{"msg":"updated","methods":["login"]}"#);
    assert_eq!(events(&mut session), [SessionEvent::Connected]);
    session
        .text(at(0), r#"{"msg":"result","id":"login","result":{"id":"u1","tokenExpires":{"$date":null}}}"#);
    assert_eq!(events(&mut session), [SessionEvent::LoggedIn { user_id: "u1".into() }]);
}

#[test]
fn greetings_and_a_ping_before_connected_are_answered_after_connect() {
    for greeting in [r#"{"server_id":"0"}"#, r#"{"msg":"server_id","server_id":"0"}"#] {
        let mut session = Session::new(PATIENCE, "TOKEN");
        session.text(at(0), r#"{"msg":"ping"}"#);
        assert_eq!(frames(&mut session), [] as [Value; 0], "a pong may never be the first frame");
        session.opened(at(0));
        session.text(at(0), greeting);
        session.text(at(0), r#"{"msg":"ping"}"#);
        let kinds: Vec<Value> = frames(&mut session).iter().map(|frame| frame["msg"].clone()).collect();
        assert_eq!(kinds, ["connect", "pong"]);
        session.text(at(0), r#"{"msg":"connected","session":"S"}"#);
        assert_eq!(events(&mut session), [SessionEvent::Connected]);
    }
}

#[test]
fn a_ping_is_answered_with_its_id() {
    let mut session = up();
    session.text(at(1), r#"{"msg":"ping","id":"x7"}"#);
    session.text(at(1), r#"{"msg":"ping"}"#);
    assert_eq!(frames(&mut session), [json!({"msg": "pong", "id": "x7"}), json!({"msg": "pong"})]);
}

#[test]
fn another_connected_or_error_changes_nothing() {
    let mut session = up();
    session.text(at(1), r#"{"msg":"connected","session":"S2"}"#);
    session
        .text(at(1), r#"{"msg":"error","reason":"Already connected","offendingMessage":{"msg":"connect"}}"#);
    assert_eq!((frames(&mut session), events(&mut session)), (vec![], vec![]));
    assert!(session.is_up());
}

#[test]
fn another_protocol_version_ends_the_session() {
    let mut session = Session::new(PATIENCE, "TOKEN");
    session.opened(at(0));
    session.text(at(0), r#"{"msg":"failed","version":"pre2"}"#);
    session.closed(Some(1000));
    match events(&mut session).as_slice() {
        [SessionEvent::MustReconnect { reason }] => assert!(reason.contains("`pre2`"), "{reason}"),
        other => panic!("one reason, not {other:?}"),
    }
}

#[test]
fn a_refused_token_is_terminal_and_a_busy_server_is_not() {
    for (error, expected) in [
        (json!({"error": 403, "reason": "You've been logged out by the server. Please log in again."}), true),
        (json!({"error": "totp-required"}), true),
        (json!({"error": "error-user-is-not-activated"}), true),
        (json!({"error": 500, "reason": "Internal server error"}), false),
        (json!({"error": "too-many-requests", "details": {"timeToReset": 1000}}), false),
    ] {
        let mut session = Session::new(PATIENCE, "TOKEN");
        session.opened(at(0));
        session.text(at(0), r#"{"msg":"connected","session":"S"}"#);
        session.text(at(0), &json!({"msg": "result", "id": "login", "error": error}).to_string());
        match events(&mut session).as_slice() {
            [SessionEvent::Connected, SessionEvent::LoginFailed { terminal, .. }] => {
                assert_eq!(*terminal, expected, "{error}");
            }
            other => panic!("{error}: {other:?}"),
        }
    }
}

#[test]
fn a_method_is_complete_with_its_result_alone() {
    for order in [["result", "updated"], ["updated", "result"]] {
        let mut session = up();
        let id = session.call(at(1), "sendMessage", &[json!({"msg": "x"})]);
        assert_eq!(frames(&mut session)[0]["params"], json!([{"msg": "x"}]));
        for msg in order {
            session.text(at(1), &json!({"msg": msg, "id": id, "methods": [id]}).to_string());
        }
        let expected = SessionEvent::MethodResult { id: id.clone(), outcome: Ok(Value::Null) };
        assert_eq!(events(&mut session), [expected], "{order:?}");
        session.text(at(2), &json!({"msg": "result", "id": id, "result": 2}).to_string());
        assert_eq!(events(&mut session), [], "a result is told once");
    }
}

#[test]
fn a_method_without_an_answer_fails_in_time() {
    let mut session = up();
    let id = session.call(at(1), "slow", &[]);
    session.text(at(25), r#"{"msg":"pong"}"#);
    session.tick(at(30));
    assert_eq!(events(&mut session), []);
    session.tick(at(31));
    match events(&mut session).as_slice() {
        [SessionEvent::MethodResult { id: failed, outcome: Err(error) }] => {
            assert_eq!((failed, error.code.as_str()), (&id, "no-answer"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn subscriptions_become_ready_in_batches_and_refusals_say_whether_to_retry() {
    let mut session = up();
    let ids: Vec<String> =
        (0..4).map(|n| session.subscribe(at(1), "stream-notify-room", &format!("r{n}/x"))).collect();
    assert_eq!(
        frames(&mut session)[0],
        json!({"msg": "sub", "id": ids[0], "name": "stream-notify-room", "params": ["r0/x", false]})
    );
    session.text(at(1), &json!({"msg": "ready", "subs": [ids[0], ids[1], "unknown"]}).to_string());
    let refusal =
        |id: &str, error: &str| json!({"msg": "nosub", "id": id, "error": {"error": error}}).to_string();
    session.text(at(1), &refusal(&ids[2], "not-allowed"));
    session.text(at(1), &refusal(&ids[3], "too-many-requests"));
    let told: Vec<String> = events(&mut session)
        .into_iter()
        .map(|event| match event {
            SessionEvent::SubReady { id } => format!("{id} ready"),
            SessionEvent::SubRefused { id, retryable, .. } => format!("{id} retry {retryable}"),
            other => format!("{other:?}"),
        })
        .collect();
    let expected = [
        format!("{} ready", ids[0]),
        format!("{} ready", ids[1]),
        format!("{} retry false", ids[2]),
        format!("{} retry true", ids[3]),
    ];
    assert_eq!(told, expected);
}

#[test]
fn our_own_unsub_is_not_a_refusal_but_the_servers_nosub_is() {
    let mut session = up();
    let ours = session.subscribe(at(1), "stream-notify-room", "r1/x");
    let theirs = session.subscribe(at(1), "stream-notify-room", "r2/x");
    session.text(at(1), &json!({"msg": "ready", "subs": [ours, theirs]}).to_string());
    events(&mut session);
    session.unsubscribe(&ours);
    session.unsubscribe("never heard of");
    for id in [&ours, &theirs] {
        session.text(at(2), &json!({"msg": "nosub", "id": id}).to_string());
    }
    match events(&mut session).as_slice() {
        [SessionEvent::SubRefused { id, retryable: true, .. }] => assert_eq!(*id, theirs),
        other => panic!("{other:?}"),
    }
    let unsubs = frames(&mut session).iter().filter(|frame| frame["msg"] == "unsub").count();
    assert_eq!(unsubs, 1);
}

#[test]
fn a_late_subscription_is_ended_before_it_is_given_up() {
    let mut session = up();
    let id = session.subscribe(at(1), "stream-notify-room", "r1/x");
    frames(&mut session);
    session.text(at(30), r#"{"msg":"pong"}"#);
    session.tick(at(31));
    assert_eq!(frames(&mut session), [json!({"msg": "unsub", "id": id})]);
    session.text(at(32), &json!({"msg": "ready", "subs": [id]}).to_string());
    assert!(matches!(events(&mut session).as_slice(), [SessionEvent::SubRefused { retryable: true, .. }]));
}

#[test]
fn silence_is_pinged_once_and_then_fatal() {
    let mut session = up();
    assert_eq!(session.next_timer(), Some(at(20)));
    session.tick(at(19));
    assert_eq!(frames(&mut session), [] as [Value; 0]);
    session.tick(at(20));
    session.tick(at(21));
    assert_eq!(frames(&mut session), [json!({"msg": "ping"})]);
    assert_eq!(session.next_timer(), Some(at(45)));
    session.tick(at(44));
    assert_eq!(events(&mut session), []);
    session.tick(at(45));
    match events(&mut session).as_slice() {
        [SessionEvent::MustReconnect { reason }] => assert!(reason.contains("45 s"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(session.next_timer(), None);
}

#[test]
fn any_frame_is_a_sign_of_life() {
    for frame in [r#"{"msg":"pong"}"#, r#"{"msg":"unheard of"}"#, "{", r#"{"msg":"updated"}"#] {
        let mut session = up();
        session.tick(at(20));
        session.text(at(30), frame);
        session.tick(at(49));
        assert!(session.is_up(), "{frame}");
        assert_eq!(session.next_timer(), Some(at(50)), "{frame}");
    }
    let mut session = up();
    session.binary(at(30));
    assert_eq!(session.next_timer(), Some(at(50)));
}

#[test]
fn silence_while_we_do_not_read_is_not_held_against_the_server() {
    let mut session = up();
    for second in [10, 20, 30, 40, 50, 60] {
        session.not_listening(at(second));
    }
    session.listening_again(at(65));
    session.tick(at(70));
    assert!(session.is_up());
    assert!(frames(&mut session).iter().all(|frame| *frame == json!({"msg": "ping"})));
}

#[test]
fn a_server_that_does_not_log_us_in_is_given_up() {
    for frame in [None, Some(r#"{"msg":"connected","session":"S"}"#)] {
        let mut session = Session::new(PATIENCE, "TOKEN");
        session.opened(at(0));
        if let Some(frame) = frame {
            session.text(at(1), frame);
        }
        session.text(at(29), r#"{"msg":"ping"}"#);
        session.tick(at(30));
        assert!(matches!(events(&mut session).last(), Some(SessionEvent::MustReconnect { .. })), "{frame:?}");
    }
}

#[test]
fn after_the_end_nothing_is_said() {
    let mut session = up();
    session.oversized(16 * 1024 * 1024);
    session.closed(None);
    session.text(at(1), r#"{"msg":"ping"}"#);
    session.tick(at(100));
    session.call(at(100), "x", &[]);
    session.subscribe(at(100), "x", "y");
    assert_eq!(frames(&mut session), [] as [Value; 0]);
    match events(&mut session).as_slice() {
        [SessionEvent::MustReconnect { reason }] => assert!(reason.contains("16384 KiB"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

/// The frames that a 6.5.3 server sent, and the codes of its closes.
fn recorded(text: &str) -> Vec<Result<String, u16>> {
    let recording: Value = serde_json::from_str(text).expect("a recording");
    let frames = recording["frames"].as_array().expect("frames");
    frames
        .iter()
        .map(|frame| match frame["code"].as_u64() {
            Some(code) => Err(u16::try_from(code).expect("a close code")),
            None => Ok(frame["m"].to_string()),
        })
        .collect()
}

fn stream_events(text: &str) -> Vec<RealtimeEvent> {
    let mut session = up();
    for frame in recorded(text) {
        match frame {
            Ok(frame) => session.text(at(1), &frame),
            Err(code) => session.closed(Some(code)),
        }
    }
    let read = |event| match event {
        SessionEvent::Stream { collection, event_name, args } => {
            Some(RealtimeEvent::from_stream(&collection, &event_name, args).expect("a stream that we read"))
        }
        _ => None,
    };
    events(&mut session).into_iter().filter_map(read).collect()
}

const TOUR: &str = include_str!("../../tests/fixtures/rocketchat-6.5.3/tour.json");
const DELETION: &str = include_str!("../../tests/fixtures/rocketchat-6.5.3/deletion.json");
const PRESENCE: &str = include_str!("../../tests/fixtures/rocketchat-6.5.3/presence.json");
const EPHEMERAL: &str = include_str!("../../tests/fixtures/rocketchat-6.5.3/ephemeral.json");
const LIMITS: &str = include_str!("../../tests/fixtures/rocketchat-6.5.3/rate-limits.json");

#[test]
fn a_recorded_tour_is_read_from_login_to_revocation() {
    let mut session = Session::new(PATIENCE, "TOKEN-2");
    session.opened(at(0));
    // The recording client used its own ids.
    let ids = ["s1", "s2", "s3", "s4", "s5", "s6", "s7"];
    let mut subscribed = false;
    let mut told = Vec::new();
    for frame in recorded(TOUR) {
        match frame {
            Ok(frame) => {
                let mut frame = frame;
                if subscribed {
                    for (n, id) in ids.iter().enumerate() {
                        frame = frame.replace(&format!("\"{id}\""), &format!("\"{}\"", n + 1));
                    }
                } else {
                    frame = frame.replace(r#""id":"1""#, r#""id":"login""#);
                }
                session.text(at(1), &frame);
            }
            Err(code) => session.closed(Some(code)),
        }
        if session.is_up() && !subscribed {
            subscribed = true;
            ids.iter().for_each(|id| {
                session.subscribe(at(1), "stream-of-the-recording", id);
            });
        }
        told.extend(events(&mut session));
    }
    assert_eq!(told[0], SessionEvent::Connected);
    assert_eq!(told[1], SessionEvent::LoggedIn { user_id: "gKQJ9sqgfibBRJwsb".into() });
    let ready = told.iter().filter(|event| matches!(event, SessionEvent::SubReady { .. })).count();
    let refused: Vec<_> = told
        .iter()
        .filter_map(|event| match event {
            SessionEvent::SubRefused { id, retryable, error } => {
                Some((id.as_str(), *retryable, error.code.as_str()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(ready, 5);
    assert_eq!(refused, [("4", false, "not-allowed"), ("5", false, "404")]);
    assert!(matches!(told.last(), Some(SessionEvent::MustReconnect { reason }) if reason.contains("1000")));
}

#[test]
fn every_change_of_a_recorded_message_is_another_document_of_the_same_id() {
    let messages: Vec<_> = stream_events(TOUR)
        .into_iter()
        .filter_map(|event| match event {
            RealtimeEvent::Message { message, meta } => Some((*message, meta.expect("6.5.3 sends it"))),
            _ => None,
        })
        .collect();
    let (asked, meta) = &messages[1];
    assert_eq!((asked.msg.as_str(), asked.user.username.as_str()), ("@deploybot hi", "admin"));
    assert_eq!(asked.alias, None, "an empty alias is none");
    assert_eq!(asked.mentions[0].username, "deploybot");
    assert!(meta.room_participant && meta.room_type.as_deref() == Some("c"));
    assert!(asked.ts.is_some() && asked.updated_at > asked.ts);

    let history: Vec<_> = messages.iter().map(|(message, _)| message).filter(|m| m.id == asked.id).collect();
    assert_eq!(history.len(), 4, "new, thread reply, reaction, deletion");
    assert_eq!(history[1].tcount, 1);
    assert_eq!(history[2].reactions.get(":eyes:"), Some(&vec!["deploybot".to_owned()]));
    assert!(history[3].is_tombstone() && history[3].reactions.is_empty() && history[3].msg.is_empty());

    let edited = messages.iter().find(|(message, _)| message.msg == "edited").expect("an edit");
    assert!(edited.0.edited_at.is_some() && edited.0.tmid.as_ref() == Some(&asked.id));
    let kick = messages.iter().find(|(message, _)| message.kind.as_deref() == Some("ru")).expect("a kick");
    assert!(!kick.1.room_participant);
}

#[test]
fn recorded_memberships_come_and_go() {
    let changes: Vec<_> = stream_events(TOUR)
        .into_iter()
        .filter_map(|event| match event {
            RealtimeEvent::Subscription { change, subscription } => Some((change, subscription.rid)),
            _ => None,
        })
        .filter(|(change, _)| *change != Change::Updated)
        .collect();
    let room = "6b0348c5a05dffaafd8c8cec".to_owned();
    assert_eq!(changes, [(Change::Removed, room.clone()), (Change::Inserted, room)]);
}

#[test]
fn recorded_deletions_name_room_and_message() {
    let events = stream_events(DELETION);
    let room = "6b0354279801805c2a226e0d";
    let deleted: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            RealtimeEvent::Deleted { room, id } => Some((room.as_str(), id.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(
        deleted,
        [(room, "qQRALqMnAdtGmmgKX"), (room, "QAPrkA9uTfpWpx9vj"), (room, "DYaxFsqFW4pqiAwR4")]
    );
    let bulk = events.iter().find_map(|event| match event {
        RealtimeEvent::DeletedBulk(bulk) => Some(bulk),
        _ => None,
    });
    let bulk = bulk.expect("a prune");
    assert_eq!(bulk.rid, room);
    assert!(bulk.after.is_some() && bulk.before > bulk.after && bulk.ids.is_empty() && bulk.users.is_empty());
}

#[test]
fn recorded_renames_and_presence_carry_names_and_roles() {
    let events = stream_events(PRESENCE);
    assert_eq!(
        events[0],
        RealtimeEvent::NameChanged {
            user_id: "3wtFsKaunHefnzFT2".into(),
            username: "bob2".into(),
            name: Some("Bob".into())
        }
    );
    let bot = events.iter().find_map(|event| match event {
        RealtimeEvent::UserStatus { username, status, roles, .. } if username == "deploybot" => {
            Some((*status, roles))
        }
        _ => None,
    });
    assert_eq!(bot, Some((3, &Some(vec!["bot".to_owned()]))));
}

#[test]
fn recorded_ephemeral_messages_say_why() {
    for event in stream_events(EPHEMERAL) {
        match event {
            RealtimeEvent::Ephemeral { room, text } => assert!(!room.is_empty() && !text.is_empty()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn recorded_rate_limits_are_known_as_such() {
    let mut limits = 0;
    for frame in recorded(LIMITS).into_iter().flatten() {
        match ServerFrame::parse(&frame) {
            Ok(
                ServerFrame::NoSub { error: Some(error), .. }
                | ServerFrame::Result { outcome: Err(error), .. },
            ) => {
                assert!(error.is_rate_limit() && error.time_to_reset.is_some(), "{error:?}");
                limits += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(limits, 5);
}

#[derive(Clone, Debug)]
enum Act {
    Opened,
    Text(String),
    Binary,
    Oversized,
    Closed(Option<u16>),
    Tick,
    Call,
    Subscribe,
    Unsubscribe(u8),
    NotListening,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Opened),
        8 => any_frame().prop_map(Act::Text),
        2 => prop::sample::select(vec![
            r#"{"msg":"connected","session":"S"}"#,
            r#"{"msg":"result","id":"login","result":{"id":"u1"}}"#,
            r#"{"msg":"ready","subs":["1","2","3"]}"#,
        ]).prop_map(|text| Act::Text(text.to_owned())),
        1 => Just(Act::Binary),
        1 => Just(Act::Oversized),
        1 => any::<Option<u16>>().prop_map(Act::Closed),
        3 => Just(Act::Tick),
        2 => Just(Act::Call),
        2 => Just(Act::Subscribe),
        1 => any::<u8>().prop_map(Act::Unsubscribe),
        1 => Just(Act::NotListening),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever comes in whatever order, with a clock that may even go back: no panic, one end, no frame before
    /// `connect` or after the end, every stream event readable or not without harm, and no growth.
    #[test]
    fn no_sequence_harms_the_session(acts in prop::collection::vec((any_act(), 0..90_u64), 0..40)) {
        let mut session = Session::new(PATIENCE, "TOKEN");
        let (mut ends, mut asked, mut first) = (0, 0, None);
        for (act, second) in acts {
            let over = ends > 0;
            match act {
                Act::Opened => session.opened(at(second)),
                Act::Text(text) => session.text(at(second), &text),
                Act::Binary => session.binary(at(second)),
                Act::Oversized => session.oversized(1),
                Act::Closed(code) => session.closed(code),
                Act::Tick => session.tick(at(second)),
                // As the connection does: only once it is logged in.
                Act::Call if session.is_up() => { session.call(at(second), "m", &[]); asked += 1; }
                Act::Subscribe if session.is_up() => { session.subscribe(at(second), "s", "e"); asked += 1; }
                Act::Unsubscribe(id) => session.unsubscribe(&id.to_string()),
                Act::NotListening => session.not_listening(at(second)),
                Act::Call | Act::Subscribe => {}
            }
            for event in events(&mut session) {
                match event {
                    SessionEvent::MustReconnect { .. } => ends += 1,
                    SessionEvent::Stream { collection, event_name, args } => {
                        let _ = RealtimeEvent::from_stream(&collection, &event_name, args);
                    }
                    _ => {}
                }
            }
            let sent = frames(&mut session);
            prop_assert!(!over || sent.is_empty());
            first = first.or_else(|| sent.first().map(|frame| frame["msg"].clone()));
            prop_assert!(session.methods.len() + session.asked.len() + session.live.len() <= asked);
        }
        prop_assert!(ends <= 1);
        prop_assert!(first.is_none_or(|first| first == "connect"));
    }
}
