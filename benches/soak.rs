//! A long time in a busy workspace, by hand: does Houston go on as it began? Commands and chatter of many people in
//! many rooms, at a pace that does not change, and once a minute a look at what must not grow.
//!
//! The account has the `bot` role, as an administrator would set it up: Rocket.Chat's limit of ten REST calls a
//! minute is not for it. People keep to the limits of theirs: 600 calls a minute on each connection.
//!
//! Must not: look into Houston. Answers are counted by an observer in the rooms; memory and files are the system's.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use houston::ids::{derived_id, random_id};
use houston::store::stat::on_disk;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use crate::client::Client;
use crate::processes::{Home, Process, SENDERS, Sandbox, sender, token};
use crate::table::{Times, ms};

const COMMANDS_A_SECOND: u32 = 20;
const CHATTER_A_MINUTE: u32 = 10_000;
const ROOMS: usize = 40;
/// Of each person.
const CONNECTIONS: usize = 2;
const MINUTE: Duration = Duration::from_secs(60);
/// For the last answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of a run every second: what is journaled, shown, edited and told.
const COMMAND: &str = "nap:\n  summary: Waits.\n  playbook: nap\n  arguments:\n    which: {type: text, doc: any}\n  \
                       examples: [nap one]\n";
const PLAYBOOK: &str = "description: Wait\ninputs: {which: {type: text}}\nsteps:\n  - id: nap\n    \
                        wait: {for: 2s}\non_failure: stop\n";

const CHATTER: [&str; 8] = [
    "does anybody know where the invoices of last month went?",
    "lunch at one",
    "the second line is busy again, please call back later",
    "I have moved the appointment to Thursday, half past nine",
    "thanks!",
    "https://wiki.example.org/handover has the numbers, they are from before the migration though",
    "ok",
    "we deploy it tomorrow, not today",
];

/// How much may be kept of each command: its mark in the ledger for thirty days, and every twentieth a run.
const KEPT_OF_A_COMMAND: f64 = 1000.0;

/// What was asked, and what came of it.
#[derive(Default)]
struct Book {
    /// By the id that the answer has: it is made of the command's.
    asked: HashMap<String, Instant>,
    /// By what they are called; how many messages of Houston's name them.
    naps: HashMap<String, HashSet<String>>,
    answers: HashSet<String>,
    /// Since the last look.
    times: Vec<Duration>,
    commands: u64,
    chatter: u64,
    /// Messages of Houston's that nobody asked for.
    surplus: Vec<String>,
    /// Calls of people that the server refused.
    refused: u64,
}

/// Messages about a run: its own, and its result.
const OF_A_NAP: usize = 2;

impl Book {
    fn heard(&mut self, at: Instant, message: &Value) {
        let part = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
        let (id, text) = (part("_id"), part("msg"));
        if let Some(asked) = self.asked.remove(&id) {
            self.times.push(at - asked);
            self.answers.insert(id);
        } else if let Some(nap) = text.split("nap-").nth(1).and_then(|rest| rest.split(['`', ' ']).next()) {
            let of_it = self.naps.entry(nap.to_owned()).or_default();
            if of_it.insert(id) && of_it.len() > OF_A_NAP {
                self.surplus.push(text);
            }
        } else if !self.answers.contains(&id) {
            self.surplus.push(text);
        }
    }

    fn open(&self) -> usize {
        self.asked.len() + self.naps.values().filter(|messages| messages.len() < OF_A_NAP).count()
    }
}

type Shared = Arc<Mutex<Book>>;

fn book(shared: &Shared) -> MutexGuard<'_, Book> {
    shared.lock().expect("nobody panics with it")
}

/// What one look at the end of a minute found.
struct Look {
    memory: f64,
    own: f64,
    p50: Duration,
    p99: Duration,
    commands: u64,
    store: u64,
}

/// Prints each minute as it ends. The verdict; `false` when something is not as it should be.
pub async fn for_minutes(minutes: usize, dir: &Path) -> (String, bool) {
    let sandbox = Sandbox::start(dir).await;
    let home = Home::new(dir.join("soak"), &sandbox.url);
    home.trust_senders();
    home.write("commands/nap.yaml", COMMAND);
    home.write("playbooks/nap.yaml", PLAYBOOK);
    let rooms = Arc::new(rooms(&sandbox).await);
    let mut observer = Client::connect(&sandbox.url, &token("alice")).await;
    observer.hear_room("__my_messages__").await;
    let houston = home.serve();
    answers(&sandbox, &mut observer).await;

    let shared = Shared::default();
    let listening = tokio::spawn(listen(observer, Arc::clone(&shared)));
    let (stop, stopped) = watch::channel(false);
    let people: Vec<_> = (0..SENDERS * CONNECTIONS)
        .map(|n| {
            let (url, rooms, book) = (sandbox.url.clone(), Arc::clone(&rooms), Arc::clone(&shared));
            tokio::spawn(talk(n, url, rooms, book, stopped.clone()))
        })
        .collect();
    println!(
        "| minute | memory | of it its own | p50 | p99 | commands | chatter | store | audit, transcripts, log |\n|---|---|---|---|---|---|---|---|---|"
    );
    let mut looks = Vec::new();
    let begun = Instant::now();
    for minute in 1..=minutes {
        tokio::time::sleep_until(begun + MINUTE * u32::try_from(minute).expect("few")).await;
        looks.push(look(minute, &shared, &houston, &home));
    }
    let _ = stop.send(true);
    for person in people {
        person.await.expect("nobody panics");
    }
    let until = Instant::now() + PATIENCE;
    while book(&shared).open() > 0 && Instant::now() < until {
        sleep(Duration::from_millis(100)).await;
    }
    // A further answer would come now.
    sleep(Duration::from_secs(2)).await;
    listening.abort();
    println!("\n{}", home.stored());
    houston.stop();
    verdict(&looks, &book(&shared))
}

/// Everybody is in all of them.
async fn rooms(sandbox: &Sandbox) -> Vec<String> {
    let mut members: Vec<String> = (0..SENDERS).map(sender).collect();
    members.extend(["alice", "houston"].map(str::to_owned));
    let mut rooms = Vec::new();
    for n in 0..ROOMS {
        let made = json!({"room": format!("room-{n}"), "kind": "p", "members": members});
        let made = sandbox.control("room", &made).await;
        rooms.push(made["rid"].as_str().expect("an id").to_owned());
    }
    rooms
}

async fn answers(sandbox: &Sandbox, observer: &mut Client) {
    for attempt in 0.. {
        sandbox.say("ops", &format!("!ping up{attempt}")).await;
        let text = format!("pong up{attempt}");
        let answer = observer.message(&text);
        if timeout(Duration::from_millis(500), answer).await.is_ok() {
            return;
        }
    }
}

async fn listen(mut observer: Client, shared: Shared) {
    loop {
        let heard = observer.next().await;
        if !heard.text.contains(r#""username":"houston""#) {
            continue;
        }
        let Ok(frame) = serde_json::from_str::<Value>(&heard.text) else { continue };
        let message = &frame["fields"]["args"][0];
        // Joined a room, and the like, is the server's.
        if message["u"]["username"] == "houston" && message["t"].is_null() {
            book(&shared).heard(heard.at, message);
        }
    }
}

/// One connection of a person.
async fn talk(
    n: usize,
    url: String,
    rooms: Arc<Vec<String>>,
    shared: Shared,
    mut stop: watch::Receiver<bool>,
) {
    let mut client = Client::connect(&url, &token(&sender(n % SENDERS))).await;
    let all = u32::try_from(SENDERS * CONNECTIONS).expect("few");
    let place = u32::try_from(n).expect("few");
    let every = |period: Duration| {
        // One after the other, not all at once.
        let mut every = interval_at(Instant::now() + period * place / all, period);
        every.set_missed_tick_behavior(MissedTickBehavior::Burst);
        every
    };
    let mut commands = every(Duration::from_secs(1) * all / COMMANDS_A_SECOND);
    let mut chatter = every(MINUTE * all / CHATTER_A_MINUTE);
    let (mut asked, mut said) = (n, n * 7);
    // Of the last thread that was begun here, and where.
    let mut thread: Option<(String, String)> = None;
    loop {
        tokio::select! {
            _ = stop.changed() => return,
            heard = client.next() => {
                if heard.text.contains(r#""error":{"#) {
                    book(&shared).refused += 1;
                }
            }
            _ = commands.tick() => {
                asked += 1;
                let (id, room) = (random_id(), &rooms[asked % ROOMS]);
                let text = command(asked, &id);
                {
                    let mut book = book(&shared);
                    book.commands += 1;
                    if text.starts_with("!nap") {
                        book.naps.insert(id.clone(), HashSet::new());
                    } else {
                        book.asked.insert(derived_id(&format!("reply/{id}")), Instant::now());
                    }
                }
                client.queue_call("sendMessage", &json!([{"_id": id, "rid": room, "msg": text}])).await;
                client.flush().await;
            }
            _ = chatter.tick() => {
                said += 1;
                let (id, text) = (random_id(), CHATTER[said % CHATTER.len()]);
                let mut message = json!({"_id": id, "rid": rooms[said % ROOMS], "msg": text});
                // Every tenth message is in a thread.
                match &thread {
                    Some((root, room)) if said % 10 == 0 => {
                        message["rid"] = room.as_str().into();
                        message["tmid"] = root.as_str().into();
                    }
                    _ if said % 50 == 1 => thread = Some((id, rooms[said % ROOMS].clone())),
                    _ => {}
                }
                book(&shared).chatter += 1;
                client.queue_call("sendMessage", &json!([message])).await;
                client.flush().await;
            }
        }
    }
}

/// Of twenty: a run, what reads the journal, what nobody knows, and pings.
fn command(n: usize, id: &str) -> String {
    match n % 20 {
        0 => format!("!nap nap-{id}"),
        1 => "!runs".to_owned(),
        2 => "!locks".to_owned(),
        3 => "!status".to_owned(),
        4 => "!help ping".to_owned(),
        5 => "!show".to_owned(),
        6 => "!nosuch thing".to_owned(),
        7 => "!audit --limit 5".to_owned(),
        _ => format!("!ping {id}"),
    }
}

fn look(minute: usize, shared: &Shared, houston: &Process, home: &Home) -> Look {
    let (memory, own) = houston.memory();
    let (times, commands, chatter) = {
        let mut book = book(shared);
        (std::mem::take(&mut book.times), book.commands, book.chatter)
    };
    let times = Times::new(if times.is_empty() { vec![MINUTE] } else { times });
    let store = on_disk(&home.state().join("journal"));
    let look = Look { memory, own, p50: times.median(), p99: times.percentile(99), commands, store };
    let beside = on_disk(&home.state()) - store + home.log_bytes();
    println!(
        "| {minute} | {:.1} MB | {:.1} MB | {} | {} | {commands} | {chatter} | {:.1} MB | {:.1} MB |",
        look.memory,
        look.own,
        ms(look.p50),
        ms(look.p99),
        mb(store),
        mb(beside)
    );
    look
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The third quarter is what the last one is held against: by then what the database keeps in memory is there.
fn verdict(looks: &[Look], book: &Book) -> (String, bool) {
    let (then, now) = (quarter(looks, 2), quarter(looks, 3));
    let mut out = String::new();
    let mut good = true;
    let mut judge = |what: &str, holds: bool, figures: String| {
        good &= holds;
        let _ = writeln!(out, "{} {what}: {figures}", if holds { "ok  " } else { "FAIL" });
    };
    let memory = |looks: &[Look]| median(looks.iter().map(|look| look.memory).collect());
    let (before, after) = (memory(then), memory(now));
    judge("memory is flat", after < before * 1.1 + 1.0, format!("{before:.1} MB, then {after:.1} MB"));
    let p99 = |looks: &[Look]| median(looks.iter().map(|look| look.p99.as_secs_f64() * 1000.0).collect());
    let (before, after) = (p99(then), p99(now));
    judge("p99 is flat", after < before * 2.0 + 5.0, format!("{before:.1} ms, then {after:.1} ms"));
    let (first, last) = (&looks[(looks.len() - 1) / 2], &looks[looks.len() - 1]);
    let commands = last.commands.saturating_sub(first.commands).max(1);
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let kept = last.store.saturating_sub(first.store) as f64 / commands as f64;
    judge(
        "the store keeps of commands what it has to, and of chatter nothing",
        kept < KEPT_OF_A_COMMAND,
        format!("{:.1} MB, {kept:.0} bytes for each command of the second half", mb(last.store)),
    );
    let said = format!(
        "{} commands, {} runs among them, {} messages of chatter",
        book.commands,
        book.naps.len(),
        book.chatter
    );
    judge("people kept to their limits", book.refused == 0, format!("{} calls refused", book.refused));
    judge("nothing is unanswered", book.open() == 0, format!("{said}; {} open", book.open()));
    judge(
        "nothing is answered twice",
        book.surplus.is_empty(),
        format!("{} messages that nobody asked for", book.surplus.len()),
    );
    for text in book.surplus.iter().take(5) {
        let _ = writeln!(out, "     {text:?}");
    }
    (out, good)
}

fn quarter(looks: &[Look], which: usize) -> &[Look] {
    let from = looks.len() * which / 4;
    &looks[from..(looks.len() * (which + 1) / 4).max(from + 1)]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
