//! Everything that a network, a proxy and a server do wrong, at once, while people give commands: each is carried
//! out once, and answered once.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use houston::clock::Clock;
use houston::sandbox::Dialect;
use serde_json::json;

use crate::support::house::{House, Said, Setup};
use crate::support::weather::{Dice, Weather};

const ROOMS: [&str; 3] = ["ops", "general", "backups"];
const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

/// As Houston sees a proxy that has lost its server.
const STORM: u64 = 4;

async fn house(dialect: Dialect, weather: Weather) -> House {
    let command = "tick:\n  summary: Leaves a mark.\n  playbook: tick\n  arguments:\n    \
                   name: {type: text, doc: which}\n  examples: [tick one]\n";
    let playbook = "description: Leaves a mark\ninputs:\n  \
                    name: {type: text}\nsteps:\n  - id: tell\n    \
                    notify: {room: sales, text: \"tick {{ name }}\"}\n";
    let setup = Setup {
        dialect,
        services: Vec::new(),
        prod: "approvals: {default: none}\n".to_owned(),
        houston: "limits: {commands_per_minute: 10000}\n".to_owned(),
        files: vec![("commands/tick.yaml", command.to_owned()), ("playbooks/tick.yaml", playbook.to_owned())],
        weather: Some(weather),
        ..Setup::default()
    };
    House::with(setup).await
}

/// What else goes wrong with every handful of commands. A server that says "wait 54 s" is waited for; what that
/// is like, `rate_limits` says.
async fn trouble(t: &House, dice: &Dice) {
    let count = 1 + dice.roll(4);
    match dice.roll(7) {
        0 => t.control("drop", json!({"user": "houston"})).await,
        1 => t.control("drop", json!({"user": "houston", "code": 1001})).await,
        2 => t.control("refuse", json!({"requests": STORM})).await,
        3 => t.control("delay", json!({"user": "houston", "count": count, "ms": 1 + dice.roll(60)})).await,
        4 => t.control("duplicate", json!({"user": "houston", "count": count, "copies": 3})).await,
        5 => t.control("reorder", json!({"user": "houston", "count": count})).await,
        _ => json!(null),
    };
}

/// How often each text stands in a room, threads included.
fn counted(said: &[Said], start: &str) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for said in said.iter().filter(|said| said.text.contains(start)) {
        let word = said.text.split_once(start).and_then(|(_, rest)| rest.split_whitespace().next());
        *counted.entry(word.unwrap_or_default().to_owned()).or_default() += 1;
    }
    counted
}

/// Gives so many commands, of which every eighth starts a run.
#[expect(clippy::print_stderr, reason = "what a run of it was like, when it fails")]
async fn storm(dialect: Dialect, commands: u64, seed: u64) {
    eprintln!("seed {seed}");
    let weather = Weather::start(seed).await;
    let mut t = house(dialect, weather).await;
    let dice = Dice::new(seed);
    t.weather().turns(true);
    let (mut pings, mut ticks) = (BTreeMap::<&str, Vec<String>>::new(), Vec::new());
    for n in 0..commands {
        let (room, who) = (ROOMS[n as usize % ROOMS.len()], PEOPLE[dice.roll(3) as usize]);
        if n % 8 == 7 {
            t.say(who, room, &format!("!tick t{n}")).await;
            ticks.push(format!("t{n}"));
        } else {
            t.say(who, room, &format!("!ping p{n}")).await;
            pings.entry(room).or_default().push(format!("p{n}"));
        }
        if n % 20 == 19 {
            trouble(&t, &dice).await;
        }
        if n % 200 == 199 {
            // Faster than it is heard would only be a longer queue.
            let newest = pings.values().map(|all| all.last().expect("some").clone()).collect::<Vec<_>>();
            t.wait("the newest to be answered", || {
                let said = ROOMS.map(|room| counted(&t.said(room), "pong "));
                newest.iter().all(|word| said.iter().any(|said| said.contains_key(word))).then_some(())
            })
            .await;
        }
        if commands >= 1000 && n % 500 == 499 {
            t.kill().await;
            t.start_again().await;
        }
    }
    t.weather().turns(false);
    t.control("clear", json!({})).await;
    for (room, words) in &pings {
        let mut last = 0;
        t.wait(&format!("every answer in #{room}"), || {
            last = counted(&t.said(room), "pong ").len();
            (last >= words.len()).then_some(())
        })
        .await;
    }
    t.wait("every run to have ended", || {
        let runs = t.bot().engine.list(commands as usize).expect("readable");
        (runs.len() == ticks.len() && runs.iter().all(|run| run.state == "succeeded")).then_some(())
    })
    .await;
    t.wait("every mark", || (counted(&t.said("sales"), "tick ").len() == ticks.len()).then_some(())).await;
    let told = || {
        let said = ROOMS.iter().flat_map(|room| t.said(room));
        let results: Vec<_> = said.filter(|said| said.text.starts_with('@')).collect();
        counted(&results, "`tick ")
    };
    t.wait("every result", || (told().len() == ticks.len()).then_some(())).await;
    for room in ROOMS {
        // Whatever else is to be said is said before this is answered.
        let word = houston::ids::random_id();
        t.say("carol", room, &format!("!ping {word}")).await;
        t.wait("the last", || counted(&t.said(room), "pong ").contains_key(&word).then_some(())).await;
    }
    for (room, words) in &pings {
        let counted = counted(&t.said(room), "pong ");
        assert_eq!(counted.len(), words.len() + 1, "#{room}");
        let wrong: Vec<_> = words.iter().filter(|word| counted.get(*word) != Some(&1)).collect();
        assert!(wrong.is_empty(), "not answered once: {wrong:?}");
    }
    let marks = counted(&t.said("sales"), "tick ");
    let wrong: Vec<_> = ticks.iter().filter(|word| marks.get(*word) != Some(&1)).collect();
    assert!(wrong.is_empty(), "did not happen once: {wrong:?}");
    assert!(told().values().all(|times| *times == 1), "a result was told twice: {:?}", told());
    let harm = t.weather().harm();
    eprintln!("{commands} commands; {harm:?}");
    assert!(harm.cut.load(Ordering::Relaxed) > 0, "the weather was bad");
    t.forget_what_was_said(&["ops", "general", "backups", "sales"]);
    t.end().await;
}

fn seed() -> u64 {
    u64::try_from(Clock::system().now().as_microsecond() & 0xffff_ffff).expect("it is positive")
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_given_in_bad_weather_are_carried_out_and_answered_once() {
    for dialect in [Dialect::Monolith, Dialect::Streamer] {
        storm(dialect, 400, seed()).await;
    }
}

/// With kills in between.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: `./test --long` runs it"]
async fn thousands_of_commands_in_bad_weather_are_carried_out_and_answered_once() {
    for dialect in [Dialect::Monolith, Dialect::Streamer] {
        storm(dialect, 4000, seed()).await;
    }
}

/// The other half of what a connection can do: it stays, and says nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_goes_dead_is_noticed_and_what_was_said_meanwhile_is_answered() {
    let weather = Weather::start(1).await;
    let t = house(Dialect::Monolith, weather).await;
    t.say("alice", "ops", "!ping before").await;
    t.expect("ops", &["pong before"]).await;
    t.weather().goes_dead();
    t.say("alice", "ops", "!ping meanwhile").await;
    tokio::time::timeout(Duration::from_secs(20), t.weather().another_socket())
        .await
        .expect("Houston connects again by itself");
    t.expect("ops", &["pong meanwhile"]).await;
    t.silence("ops").await;
    t.end().await;
}
