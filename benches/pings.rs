//! What a person waits for: from the frame of their message to the frame of the answer.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::client::Client;
use crate::processes::{Home, SENDERS, Sandbox, echo_bot, room_id, sender, token};
use crate::table::{Table, Times, ms};

const WARM_UP: usize = 500;
const PINGS: usize = 4000;
/// Bots take turns, so that what else the machine does meets both.
const TURN: usize = 250;
const BURST: usize = 300;
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn latency_and_memory(sandbox: &Sandbox, home: &Home, table: &mut Table) {
    // Before the bots, so that the sandbox tells the observers first.
    let mut observer = Client::connect(&sandbox.url, &token("alice")).await;
    observer.hear_room(&room_id("ops")).await;
    let mut floor_observer = Client::connect(&sandbox.url, &token("alice")).await;
    floor_observer.hear_room(&room_id("floor")).await;
    let houston = home.serve();
    let echo = echo_bot(&sandbox.url);
    answered(sandbox, &mut observer, "ops").await;
    answered(sandbox, &mut floor_observer, "floor").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (idle, idle_own) = houston.memory();

    let mut number = 0;
    series(sandbox, &mut observer, "ops", WARM_UP, &mut number).await;
    series(sandbox, &mut floor_observer, "floor", WARM_UP, &mut number).await;
    let (mut houstons, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..PINGS / TURN {
        houstons.extend(series(sandbox, &mut observer, "ops", TURN, &mut number).await);
        floors.extend(series(sandbox, &mut floor_observer, "floor", TURN, &mut number).await);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (after, after_own) = houston.memory();
    houston.stop();
    echo.stop();
    let figures = |times: Vec<Duration>| {
        let times = Times::new(times);
        format!("p50 {}, p99 {} ({} pings)", ms(times.median()), ms(times.percentile(99)), times.count())
    };
    let framed = |trips: &[Trip]| figures(trips.iter().map(|trip| trip.from_frame).collect());
    let sent = |trips: &[Trip]| figures(trips.iter().map(|trip| trip.from_sending).collect());
    table.row("message frame → reply frame, `!ping`", framed(&houstons), "p50 < 0.5 ms");
    table.row("the same by the echo bot", framed(&floors), "");
    table.row("message being sent → reply frame, `!ping`", sent(&houstons), "");
    table.row("the same by the echo bot", sent(&floors), "");
    let memory = |all: f64, own: f64| format!("{all:.1} MB ({own:.1} MB without the program's own pages)");
    table.row("resident memory, idle after start", memory(idle, idle_own), "< 20 MB");
    let answered = format!("resident memory, idle after {} pings", WARM_UP + PINGS);
    table.row(answered, memory(after, after_own), "");
}

/// One ping, as an observer saw it.
struct Trip {
    /// From the frame of the message. Too short where the observer was late to look.
    from_frame: Duration,
    /// From the moment in which the message was sent: with the way in, and never too short.
    from_sending: Duration,
}

/// One ping after the other; the next when the answer to the last was heard.
async fn series(
    sandbox: &Sandbox,
    observer: &mut Client,
    room: &str,
    count: usize,
    number: &mut usize,
) -> Vec<Trip> {
    let mut trips = Vec::with_capacity(count);
    for _ in 0..count {
        *number += 1;
        let (asked, answer) = (format!("!ping {number}"), format!("pong {number}"));
        let begun = Instant::now();
        let heard = async {
            let message = observer.message(&asked).await;
            let reply = observer.message(&answer).await;
            Trip { from_frame: reply - message, from_sending: reply - begun }
        };
        // The observer is asked first whenever both could go on.
        let (trip, ()) = tokio::join!(biased; heard, sandbox.say(room, &asked));
        trips.push(trip);
    }
    trips
}

/// Returns when the bot in `room` answers.
async fn answered(sandbox: &Sandbox, observer: &mut Client, room: &str) {
    let begun = Instant::now();
    for attempt in 0.. {
        assert!(begun.elapsed() < PATIENCE, "no bot answers in {room}");
        let text = format!("up{attempt}");
        sandbox.say(room, &format!("!ping {text}")).await;
        let reply = format!("pong {text}");
        if timeout(Duration::from_millis(200), observer.message(&reply)).await.is_ok() {
            return;
        }
    }
}

/// Three hundred at once, over one socket, as fast as it takes them.
pub async fn burst(sandbox: &Sandbox, home: &Home, table: &mut Table) {
    let houston = home.serve();
    let mut observer = Client::connect(&sandbox.url, &token("alice")).await;
    observer.hear_room(&room_id("ops")).await;
    answered(sandbox, &mut observer, "ops").await;
    drop(observer);
    let mut times = Vec::new();
    for round in 0..SENDERS {
        let mut person = Client::connect(&sandbox.url, &token(&sender(round))).await;
        person.hear_room(&room_id("ops")).await;
        let time = timeout(PATIENCE, one_burst(&mut person, round)).await.expect("every ping is answered");
        // The first rounds are the warm-up.
        if round >= 2 {
            times.push(time);
        }
        // A further answer would come now.
        let more = timeout(Duration::from_millis(300), person.message_with("pong b")).await;
        assert!(more.is_err(), "a ping was answered twice");
    }
    houston.stop();
    let times = Times::new(times);
    let text = format!(
        "median {} ({} bursts, longest {}), each ping answered exactly once",
        ms(times.median()),
        times.count(),
        ms(times.most())
    );
    table.row(format!("{BURST} pings in one burst: first sent → last answered"), text, "< 50 ms");
}

async fn one_burst(person: &mut Client, round: usize) -> Duration {
    let begun = Instant::now();
    for n in 0..BURST {
        let message = json!([{"rid": room_id("ops"), "msg": format!("!ping b{round}-{n}")}]);
        person.queue_call("sendMessage", &message).await;
    }
    person.flush().await;
    let mut frames = Vec::with_capacity(BURST);
    while frames.len() < BURST {
        let heard = person.next().await;
        if heard.text.contains(r#""msg":"pong b"#) {
            frames.push(heard);
        }
    }
    let last = frames.last().expect("there are some").at;
    let answers: HashSet<&str> = frames
        .iter()
        .filter_map(|heard| heard.text.split(r#""msg":"pong b"#).nth(1)?.split('"').next())
        .collect();
    assert_eq!(answers.len(), BURST, "each ping is answered once");
    last - begun
}
