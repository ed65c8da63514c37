//! Many people in many rooms: what they say to each other costs Houston nothing that stays, and an hour of it that was
//! missed is caught up with in rooms by the hundred.

use std::collections::BTreeMap;
use std::time::Duration;

use houston::clock::Clock;
use houston::store::{Store, Tree, stat};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::house::{House, RateLimits, Setup};

const ROOMS: usize = 300;
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// The server is down until the test says otherwise.
const VERY_LONG: u64 = 100 * 3_600_000;
/// Whoever asks while Houston catches up waits less than it would hold them back for the sake of order.
const AT_ONCE_HELD: Duration = Duration::from_secs(4);

/// How many messages the ledger of a Houston that is not running knows.
fn marked(t: &House) -> u64 {
    let store = Store::open(&t.state().join("journal")).expect("the store opens");
    let trees = stat::trees(&store).expect("readable");
    trees.iter().find(|tree| tree.tree == Tree::Ledger.name()).expect("a tree").records
}

#[tokio::test]
async fn what_people_say_to_each_other_is_not_written_down() {
    let mut t = House::talk().await;
    let thread = t.say("alice", "ops", "lunch?").await;
    for n in 0..20 {
        t.say("bob", "ops", &format!("we are {n} by now")).await;
        t.reply("carol", "ops", &thread, "yes").await;
    }
    t.say("alice", "ops", "!ping").await;
    t.expect("ops", &["pong"]).await;
    t.silence("ops").await;
    t.stop().await;
    assert_eq!(marked(&t), 2, "both pings, and nothing else");
    // Told again, it is talk again.
    t.start_again().await;
    t.control("reemit", json!({"message": thread, "count": 2})).await;
    t.end().await;
}

fn room(n: usize) -> String {
    format!("room-{n}")
}

/// A house with three hundred rooms more, in which Houston is.
async fn crowd(setup: Setup) -> House {
    let houston = "limits: {commands_per_minute: 10000}\n".to_owned();
    let t = House::with(Setup { houston, ..setup }).await;
    for n in 0..ROOMS {
        let members = ["alice", "bob", "houston"];
        t.control("room", json!({"room": room(n), "kind": "p", "members": members})).await;
    }
    // Houston has heard of all of them.
    for room in [room(0), room(ROOMS - 1)] {
        t.say("alice", &room, "!ping before").await;
        t.expect(&room, &["pong before"]).await;
    }
    t
}

/// The connection is lost, and stays so.
async fn lose(t: &House) {
    t.control("refuse", json!({"ms": VERY_LONG})).await;
    t.control("drop", json!({})).await;
    t.wait("Houston to notice", || (!t.bot().chat.health().online).then_some(())).await;
}

/// Calls of Houston's since line `after` of the server's log, by route.
async fn calls(t: &House, after: &Value) -> BTreeMap<String, usize> {
    let log = t.control("log", json!({"after": after, "user": "houston"})).await;
    let mut calls = BTreeMap::new();
    for route in log["lines"].as_array().expect("lines").iter().filter_map(|line| line["route"].as_str()) {
        *calls.entry(route.to_owned()).or_default() += 1;
    }
    calls
}

async fn log_end(t: &House) -> Value {
    t.control("log", json!({"after": u64::MAX})).await["last"].clone()
}

/// The pongs in a room, by what they answer.
fn pongs(t: &House, room: &str) -> Vec<String> {
    let said = t.said(room).into_iter();
    let mut pongs: Vec<_> =
        said.filter_map(|said| said.text.strip_prefix("pong ").map(str::to_owned)).collect();
    pongs.sort();
    pongs
}

/// How long somebody who asks in a room waits for the answer.
async fn asked(t: &House, room: &str, word: &str) -> Duration {
    let begun = Instant::now();
    t.say("bob", room, &format!("!ping {word}")).await;
    t.expect(room, &[&format!("pong {word}")]).await;
    begun.elapsed()
}

#[tokio::test]
#[expect(clippy::print_stderr, reason = "the calls and the time are what it shows")]
async fn an_hour_in_three_hundred_rooms_is_caught_up_with_by_a_bot() {
    let clock = Clock::manual(Clock::system().now());
    let rate_limits = Some(RateLimits { bot: true, window: MINUTE });
    let prod = "approvals: {default: {count: 1, from: [operator, lead], expires: 4h}}\n".to_owned();
    let t = crowd(Setup { clock: clock.clone(), rate_limits, prod, ..Setup::default() }).await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;

    lose(&t).await;
    for n in 0..ROOMS {
        clock.advance(HOUR / u32::try_from(ROOMS).expect("few"));
        t.say("alice", &room(n), &format!("!ping first-{n}")).await;
        let mut chatter =
            vec![json!({"room": room(n), "u": "bob", "msg": "has anybody seen the report?"}); 9];
        chatter.push(json!({"room": room(n), "u": "alice", "msg": format!("!ping second-{n}")}));
        t.control("send", json!({"messages": chatter})).await;
    }
    t.react("bob", &card, ":+1:").await;
    let before = log_end(&t).await;
    let begun = Instant::now();
    t.control("clear", json!({})).await;
    // While it catches up somebody asks in the room whose turn would come last.
    t.control("wait_frames", json!({"after": before, "user": "houston", "name": "chat.syncMessages"})).await;
    let waited = asked(&t, &room(0), "live").await;
    t.until(&card, &["*approved* by bob"]).await;
    t.ended("R-1", &["deployed in"]).await;
    for n in 0..ROOMS {
        for word in ["first", "second"] {
            t.expect(&room(n), &[&format!("pong {word}-{n}")]).await;
        }
    }
    t.wait("Houston to have caught up", || t.bot().chat.health().caught_up.then_some(())).await;
    let (took, calls) = (begun.elapsed(), calls(&t, &before).await);
    eprintln!(
        "{ROOMS} rooms caught up with in {took:.1?}, a live command answered in {waited:.1?}: {calls:?}"
    );

    assert!(waited < AT_ONCE_HELD, "who asked meanwhile waited {waited:?}");
    let reads = calls["chat.syncMessages"];
    // The others are those that the house came with.
    assert!((ROOMS..=ROOMS + 20).contains(&reads), "each room is read once: {reads}");
    for n in 0..ROOMS {
        let mut expected = vec![format!("first-{n}"), format!("second-{n}")];
        match n {
            0 => expected.extend(["before", "live"].map(str::to_owned)),
            n if n == ROOMS - 1 => expected.push("before".to_owned()),
            _ => {}
        }
        expected.sort();
        assert_eq!(pongs(&t, &room(n)), expected, "each is answered once");
    }
    t.end().await;
}

/// Sixty calls in a second instead of ten in a minute; the rest is as an administrator finds it.
#[tokio::test]
#[expect(clippy::print_stderr, reason = "the calls and the time are what it shows")]
async fn without_the_bot_role_the_rooms_are_read_within_the_limit_and_who_speaks_goes_first() {
    const CALLS: u64 = 60;
    let rate_limits = Some(RateLimits { bot: false, window: Duration::from_secs(1) });
    let t = crowd(Setup { rate_limits, services: Vec::new(), ..Setup::default() }).await;
    t.control("set", json!({"API_Enable_Rate_Limiter_Limit_Calls_Default": CALLS})).await;

    lose(&t).await;
    for n in 0..ROOMS {
        t.say("alice", &room(n), "has anybody seen the report?").await;
    }
    for n in 0..5 {
        t.say("alice", &room(n), &format!("!ping missed-{n}")).await;
    }
    let before = log_end(&t).await;
    let begun = Instant::now();
    t.control("clear", json!({})).await;
    t.control("wait_frames", json!({"after": before, "user": "houston", "name": "chat.syncMessages"})).await;
    // Of rooms whose turn would come at the end.
    let mut waited = Vec::new();
    for n in 100..105 {
        waited.push(asked(&t, &room(n), &format!("live-{n}")).await);
    }
    assert!(!t.bot().chat.health().caught_up, "the others are still to be read");
    t.wait("Houston to have caught up", || t.bot().chat.health().caught_up.then_some(())).await;
    let (took, calls) = (begun.elapsed(), calls(&t, &before).await);
    eprintln!(
        "{ROOMS} rooms caught up with in {took:.1?}, live commands answered in {waited:.1?}: {calls:?}"
    );

    let refused = t.bot().chat.load().rate_refusals;
    assert_eq!(refused, 0, "the server never had to refuse a call");
    assert!(waited.iter().all(|waited| *waited < AT_ONCE_HELD), "{waited:?}");
    for n in 0..5 {
        t.expect(&room(n), &[&format!("pong missed-{n}")]).await;
    }
    t.end().await;
}
