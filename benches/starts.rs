//! How long a start takes: from the process to its first answer.

use std::path::Path;
use std::time::Duration;

use houston::digest::Digest;
use houston::gateway::events::{Actor, Room, RoomKind};
use houston::ids::{RunId, random_id};
use houston::metrics::Metrics;
use houston::playbook::model::{Basis, OnFailure, Plan};
use houston::runs::event::{Event, Origin, Outcome};
use houston::runs::journal::Journal;
use houston::store::{Batch, Store};
use tokio::time::{Instant, sleep, timeout};

use crate::client::Client;
use crate::processes::{Home, Sandbox, room_id, token};
use crate::table::{Table, Times, ms};

const STARTS: usize = 15;
const OLD_RUNS: usize = 10_000;
const MANY_OLD_RUNS: usize = 1_000_000;
/// Starts with so much in the store take a while each.
const SLOW_STARTS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(20);

/// What a series of starts begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Known,
    Fresh,
    Waiting,
    OldRuns,
    ManyOldRuns,
}

pub async fn cold(dir: &Path, table: &mut Table) {
    for (kind, what, aim) in [
        (Kind::Known, "cold start → first reply, state folder there", "< 100 ms"),
        (Kind::Fresh, "cold start → first reply, fresh state folder", "< 100 ms"),
        (Kind::Waiting, "cold start → reply to what was asked while it was down", ""),
        (Kind::OldRuns, "cold start → first reply, 10,000 finished runs in the store", ""),
    ] {
        let times = Times::new(series(dir, kind).await);
        let text =
            format!("median {} ({} starts, longest {})", ms(times.median()), times.count(), ms(times.most()));
        table.row(what, text, aim);
    }
}

/// By name only: it takes minutes to write so many runs.
pub async fn with_a_million_runs(dir: &Path, table: &mut Table) {
    let times = Times::new(series(dir, Kind::ManyOldRuns).await);
    let text =
        format!("median {} ({} starts, longest {})", ms(times.median()), times.count(), ms(times.most()));
    table.row("cold start → first reply, 1,000,000 finished runs in the store", text, "");
}

/// With a sandbox of its own: an account may not subscribe as often as all these starts together would.
async fn series(dir: &Path, kind: Kind) -> Vec<Duration> {
    let sandbox = Sandbox::start(dir).await;
    let home = |n: usize| {
        let number = if kind == Kind::Fresh { n } else { 0 };
        Home::new(dir.join(format!("starts-{}-{number}", kind as u8)), &sandbox.url)
    };
    // Before somebody listens: whoever is silent for so long loses the connection.
    match kind {
        Kind::OldRuns => old_runs(&home(0).state().join("journal"), OLD_RUNS),
        Kind::ManyOldRuns => old_runs(&home(0).state().join("journal"), MANY_OLD_RUNS),
        Kind::Known | Kind::Fresh | Kind::Waiting => {}
    }
    let mut observer = Client::connect(&sandbox.url, &token("alice")).await;
    observer.hear_room(&room_id("ops")).await;
    if kind != Kind::Fresh {
        one(&sandbox, &mut observer, &home(0), "first").await;
    }
    let mut times = Vec::new();
    for n in 0..if kind == Kind::ManyOldRuns { SLOW_STARTS } else { STARTS } {
        let name = format!("start{n}");
        times.push(if kind == Kind::Waiting {
            caught_up(&sandbox, &mut observer, &home(n), &name).await
        } else {
            one(&sandbox, &mut observer, &home(n), &name).await
        });
    }
    times
}

/// From the start to the first answer, while somebody asks again every few milliseconds.
async fn one(sandbox: &Sandbox, observer: &mut Client, home: &Home, name: &str) -> Duration {
    let begun = Instant::now();
    let houston = home.serve();
    let ask = async {
        for attempt in 0.. {
            sandbox.say("ops", &format!("!ping {name}-{attempt}")).await;
            sleep(Duration::from_millis(5)).await;
        }
    };
    let reply = format!("pong {name}-");
    let answer = timeout(PATIENCE, observer.message_with(&reply));
    let first = tokio::select! {
        first = answer => first.expect("it answers"),
        () = ask => begun,
    };
    // What else was asked is answered before the next start.
    sleep(Duration::from_millis(300)).await;
    houston.stop();
    first - begun
}

/// From the start to the answer to what was asked before it.
async fn caught_up(sandbox: &Sandbox, observer: &mut Client, home: &Home, name: &str) -> Duration {
    sandbox.say("ops", &format!("!ping {name}")).await;
    let begun = Instant::now();
    let houston = home.serve();
    let answer = timeout(PATIENCE, observer.message(&format!("pong {name}"))).await.expect("it answers");
    sleep(Duration::from_millis(300)).await;
    houston.stop();
    answer - begun
}

fn old_runs(journal: &Path, number: usize) {
    let store = Store::open(journal).expect("opens");
    let mut runs = Journal::load(store, Metrics::new(0.0)).expect("loads");
    let by = Actor { id: "u-alice".into(), username: "alice".into() };
    let now = "2026-01-01T00:00:00Z".parse().expect("a time");
    for n in 0..number {
        let event = created(format!("deploy prod web 1.{n}"), &by);
        let (state, _) = runs.create(event, Vec::new(), Batch::new(), now).expect("a run");
        let run: RunId = state.id;
        let events =
            vec![Event::CancelRequested { by: by.clone() }, Event::Finished { outcome: Outcome::Cancelled }];
        runs.append(run, events, Vec::new(), Batch::new(), now).expect("its end");
    }
}

fn created(command: String, by: &Actor) -> Event {
    let plan = Plan {
        command,
        command_name: "deploy".into(),
        playbook: "deploy".into(),
        playbook_digest: Digest::of(b"playbook"),
        basis: Basis::default(),
        environment: Some("prod".into()),
        locks: Vec::new(),
        steps: Vec::new(),
        on_failure: OnFailure::Stop,
        approval: None,
        reason: None,
        report: None,
        break_glass: None,
        standing: None,
    };
    Event::Created {
        digest: plan.digest(),
        plan: Box::new(plan),
        by: by.clone(),
        origin: origin(),
        engine: "0.1.0".into(),
        card: random_id().into(),
        progress: random_id().into(),
        expires_at: None,
    }
}

fn origin() -> Origin {
    let room = Room { id: "r-ops".into(), kind: RoomKind::Private, name: Some("ops".into()) };
    Origin { room, thread: None, message: random_id().into(), schedule: None }
}
