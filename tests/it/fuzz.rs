//! What comes from outside, made up and made worse for a bounded time: frames as text, frames as bytes on a real
//! socket, lines that people type, playbooks. Nothing panics, hangs or keeps Houston from what comes after it.
//!
//! `HOUSTON_TEST_FUZZ_SECONDS` is how long each of them takes; two when it is not set.

use std::time::Duration;

use houston::chat::bind::{Known, bind};
use houston::chat::parse::{Addressed, addressed};
use houston::config::Config;
use houston::gateway::events::RoomKind;
use houston::rocketchat::frame::ServerFrame;
use houston::rocketchat::realtime::{RealtimeOptions, Timings};
use houston::rocketchat::rest::RestOptions;
use houston::rocketchat::{Credentials, Realtime, RealtimeEvent, Rest};
use houston::sandbox::{Options, start};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config as Runs, TestError, TestRunner};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "the tests' own switches are no configuration of Houston")]
fn time() -> Duration {
    let seconds = std::env::var("HOUSTON_TEST_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(2))
}

/// Runs `test` on ever new values until the time is over; a value that fails is made as small as it can be.
fn fuzz<S: Strategy>(values: &S, test: impl Fn(S::Value)) {
    let end = Instant::now() + time();
    let mut cases = 0_u32;
    while Instant::now() < end {
        let runs = Runs { cases: 32, failure_persistence: None, ..Runs::default() };
        let tried = TestRunner::new(runs).run(values, |value| {
            test(value);
            Ok(())
        });
        match tried {
            Ok(()) => cases += 32,
            Err(TestError::Fail(why, value)) => panic!("after {cases} cases: {why}: {value:?}"),
            Err(TestError::Abort(why)) => panic!("{why}"),
        }
    }
}

/// Frames that a real server sent, one a line.
fn recorded() -> Vec<String> {
    fn frames(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                if map.get("msg").is_some_and(Value::is_string) {
                    found.push(value.to_string());
                }
                map.values().for_each(|value| frames(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| frames(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/rocketchat-6.5.3");
    for file in std::fs::read_dir(folder).expect("recordings").flatten() {
        if file.path().extension().is_some_and(|kind| kind == "json") {
            let text = std::fs::read(file.path()).expect("readable");
            frames(&serde_json::from_slice(&text).expect("JSON"), &mut found);
        }
    }
    assert!(found.len() > 20, "{}", found.len());
    found
}

/// A recorded frame with bytes put in, taken out and turned over.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), 0..8_usize, prop::collection::vec(any::<u8>(), 0..6));
    (prop::sample::select(recorded()), prop::collection::vec(change, 0..6)).prop_map(|(frame, changes)| {
        let mut bytes = frame.into_bytes();
        for (at, out, put_in) in changes {
            let at = at.index(bytes.len() + 1);
            let end = (at + out).min(bytes.len());
            bytes.splice(at..end, put_in);
        }
        bytes
    })
}

/// Lists and objects in one another, closed or not.
fn nested() -> impl Strategy<Value = Vec<u8>> {
    let opening = prop::sample::select(vec!["[", "{\"a\":", "{\"msg\":", "[{\"fields\":{\"args\":["]);
    (opening, 0..20_000_usize, any::<bool>()).prop_map(|(opening, depth, closed)| {
        let close: String = if closed { "]".repeat(depth) } else { String::new() };
        let start =
            r#"{"msg":"changed","collection":"stream-room-messages","fields":{"eventName":"e","args":"#;
        format!("{start}{}{close}", opening.repeat(depth)).into_bytes()
    })
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => mutated(),
        2 => prop::collection::vec(any::<u8>(), 0..300),
        1 => nested(),
    ]
}

#[test]
fn no_bytes_of_a_frame_harm_the_reader() {
    fuzz(&payload(), |bytes| {
        if let Ok(ServerFrame::Stream { collection, event_name, args }) =
            ServerFrame::parse(&String::from_utf8_lossy(&bytes))
        {
            let _ = RealtimeEvent::from_stream(&collection, &event_name, args);
        }
    });
}

#[test]
fn no_line_that_is_typed_harms_the_binder() {
    let (config, found) = sample(&[]);
    let config = config.unwrap_or_else(|| panic!("{found}"));
    let known = Known::of(&config.environments);
    let examples: Vec<String> =
        config.commands.iter().flat_map(|command| command.examples.iter().cloned()).collect();
    let piece = prop_oneof![
        2 => prop::sample::select(vec!["--dry-run", "--reason ", "=", "\"", "“", "\\", " ", "\n", "@houston ", "prod/", "!", "/"])
            .prop_map(str::to_owned),
        2 => any::<String>(),
        1 => (0..20_000_usize).prop_map(|n| "x".repeat(n)),
    ];
    let line =
        (prop::sample::select(examples), prop::collection::vec((any::<prop::sample::Index>(), piece), 0..5));
    let line = line.prop_map(|(example, pieces)| {
        let mut chars: Vec<char> = format!("!{example}").chars().collect();
        for (at, piece) in pieces {
            let at = at.index(chars.len() + 1);
            chars.splice(at..at, piece.chars());
        }
        chars.into_iter().collect::<String>()
    });
    fuzz(&line, |text| {
        for room in [RoomKind::Public, RoomKind::Direct] {
            if let Some(Addressed::Command(line)) = addressed(&text, "houston", room, &config.commands)
                && let Err(error) = bind(&line, &config.commands, &known)
            {
                assert!(error.to_string().len() < 10_000, "an answer that fits into a message");
            }
        }
    });
}

/// The sample configuration with some files replaced; with what was found, as text.
fn sample(replaced: &[(&str, &str)]) -> (Option<Config>, String) {
    let kinds = houston::app::kinds();
    let kinds: Vec<_> = kinds.values().map(AsRef::as_ref).collect();
    let all = houston::assets::SAMPLE.iter().chain(houston::assets::DEFAULTS);
    let mut files: Vec<(&str, &str)> = all
        .map(|asset| (asset.path, asset.text))
        .filter(|(path, _)| !replaced.iter().any(|(replaced, _)| replaced == path))
        .collect();
    files.extend(replaced);
    let (config, found) = Config::from_files(&files, &kinds);
    (config, format!("{found:?}"))
}

#[test]
fn no_playbook_harms_the_reader() {
    let playbooks: Vec<(&'static str, &'static str)> = houston::assets::DEFAULTS
        .iter()
        .map(|asset| (asset.path, asset.text))
        .filter(|(path, _)| path.starts_with("playbooks/"))
        .collect();
    assert!(!playbooks.is_empty());
    let piece = prop_oneof![
        3 => prop::sample::select(vec![
            "{{ ", " }}", "- ", "\n", "  ", "undo: ", "&a ", "*a", "<<: *a", "|\n", "[", "{", "}", "\t", "\0", "é",
            "when: '", "each: ", "id: a\n", "!!x ", "---\n", ": ",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
        1 => (1..400_usize).prop_map(|n| "[".repeat(n)),
    ];
    let change = (any::<prop::sample::Index>(), 0..30_usize, piece);
    let text = (prop::sample::select(playbooks), prop::collection::vec(change, 1..5));
    fuzz(&text, |((path, text), changes)| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, out, piece) in changes {
            let at = at.index(chars.len() + 1);
            let end = (at + out).min(chars.len());
            chars.splice(at..end, piece.chars());
        }
        let text: String = chars.into_iter().collect();
        let _ = sample(&[(path, &text)]);
    });
}

/// A frame as it goes over the wire: any opcode, whether that fits or not.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    // Text mostly, which need not be UTF-8.
    let first = prop_oneof![6 => Just(0x81_u8), 1 => Just(0x82), 1 => Just(0x01), 2 => any::<u8>()];
    (first, payload()).prop_map(|(first, payload)| frame(first, &payload))
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        n @ 0..=125 => bytes.push(u8::try_from(n).expect("small")),
        n @ 126..=65_535 => {
            bytes.push(126);
            bytes.extend(u16::try_from(n).expect("small").to_be_bytes());
        }
        n => {
            bytes.push(127);
            bytes.extend((n as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

/// Stands between the client and the server, and puts what it is told between the server's frames.
async fn between(server: String) -> (String, mpsc::UnboundedSender<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (put, put_in) = mpsc::unbounded_channel::<Vec<u8>>();
    let put_in = std::sync::Arc::new(tokio::sync::Mutex::new(put_in));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (server, put_in) = (server.clone(), std::sync::Arc::clone(&put_in));
            tokio::spawn(async move { relay(client, &server, &put_in).await });
        }
    });
    (url, put)
}

async fn relay(
    mut client: TcpStream,
    server: &str,
    put_in: &tokio::sync::Mutex<mpsc::UnboundedReceiver<Vec<u8>>>,
) -> Option<()> {
    let mut server = TcpStream::connect(server).await.ok()?;
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let n = client.read(&mut asked).await.ok()?;
    server.write_all(&asked[..n]).await.ok()?;
    let socket = asked.starts_with(b"GET /websocket");
    let mut greeted = 0;
    loop {
        tokio::select! {
            biased;
            n = client.read(&mut asked) => match n.ok()? {
                0 => return None,
                n => server.write_all(&asked[..n]).await.ok()?,
            },
            n = server.read(&mut answered) => match n.ok()? {
                0 => return None,
                n => { greeted += 1; client.write_all(&answered[..n]).await.ok()? }
            },
            // Not before it is a WebSocket.
            bytes = async { put_in.lock().await.recv().await }, if socket && greeted > 2 => {
                client.write_all(&bytes?).await.ok()?;
            }
        }
    }
}

#[tokio::test]
async fn no_bytes_on_the_socket_keep_the_next_message_away() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sandbox = start(Options { rate_limits: false, ..Options::default() }).await.expect("a server");
    let (url, put) =
        between(sandbox.url().trim_start_matches("http://").trim_end_matches('/').to_owned()).await;
    let (user_id, token) = sandbox.personal_token("houston").expect("the account");
    let timings = Timings {
        first_retry: Duration::from_millis(5),
        retry_from: Duration::from_millis(5),
        retry_to: Duration::from_millis(20),
        ..Timings::default()
    };
    let rest = Rest::new(&RestOptions::new(&url)).expect("a client");
    let credentials = Credentials::Token { user_id, token };
    let (_realtime, mut events) =
        Realtime::start(RealtimeOptions { timings, ..RealtimeOptions::new(credentials) }, rest);
    let huge = |byte: &[u8]| frame(0x81, &byte.repeat(10_000_000 / byte.len()));
    let mut next =
        vec![huge(b"["), huge(b"\xff"), huge(br#"{"msg":"ping","id":"1"}"#), huge(b"\xf0\x9f\x9a\x80")];
    let (mut runner, made_up) = (TestRunner::new(Runs::default()), wire());
    let (end, mut cases) = (Instant::now() + time(), 0);
    while Instant::now() < end || !next.is_empty() {
        let bytes = next.pop().unwrap_or_else(|| made_up.new_tree(&mut runner).expect("a value").current());
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        put.send(bytes).expect("the relay lives");
        cases += 1;
        let marker = format!("still there after {cases}?");
        let patience = Instant::now() + Duration::from_secs(20);
        'heard: loop {
            sandbox.say("alice", "ops", &marker).await.expect("said");
            let wait = tokio::time::sleep(Duration::from_millis(100));
            tokio::pin!(wait);
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    event = events.recv() => match event.expect("the connection's task lives") {
                        RealtimeEvent::Message { message, .. } if message.msg == marker => break 'heard,
                        _ => {}
                    }
                }
            }
            assert!(Instant::now() < patience, "nothing is heard after {shown}");
        }
    }
}
