//! Runs of years ago, as a Houston of that time left them: with what they wrote, packed or not.
//!
//! Must not: be made by hand. The journal itself writes them, at another time.

use std::path::Path;

use houston::digest::Digest;
use houston::gateway::events::{Actor, Room, RoomKind};
use houston::ids::{RunId, random_id};
use houston::metrics::Metrics;
use houston::playbook::model::{Basis, OnFailure, Plan};
use houston::runs::event::{Event, Origin, Outcome};
use houston::runs::journal::Journal;
use houston::store::{Batch, Store};
use jiff::{SignedDuration, Timestamp};

/// How many days ago each of them ended, by the defaults of `retention`: two go, of one what it wrote, and the youngest
/// stays as it is.
const DAYS_AGO: [i64; 4] = [700, 400, 200, 10];

pub fn runs(state: &Path, now: Timestamp) {
    let transcripts = state.join("transcripts");
    std::fs::create_dir_all(&transcripts).expect("a folder");
    let store = Store::open(&state.join("journal")).expect("opens");
    let mut journal = Journal::load(store, Metrics::new(0.0)).expect("loads");
    for (number, days) in DAYS_AGO.into_iter().enumerate() {
        let at = now - SignedDuration::from_hours(24 * days);
        let (state, _) = journal.create(created(number), Vec::new(), Batch::new(), at).expect("a run");
        let by = actor();
        let events = vec![Event::CancelRequested { by }, Event::Finished { outcome: Outcome::Cancelled }];
        journal.append(state.id, events, Vec::new(), Batch::new(), at).expect("its end");
        std::fs::write(transcripts.join(format!("{}.log", state.id)), "step 1\n").expect("written");
        assert_eq!(state.id, RunId(number as u64 + 1));
    }
}

/// Names of what runs left in the folder of transcripts.
pub fn left(state: &Path) -> Vec<String> {
    let files = std::fs::read_dir(state.join("transcripts")).into_iter().flatten().flatten();
    let mut names: Vec<String> = files.map(|file| file.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn actor() -> Actor {
    Actor { id: "u-alice".into(), username: "alice".into() }
}

fn created(number: usize) -> Event {
    let plan = Plan {
        command: format!("deploy prod web 1.{number}"),
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
        standing: None,
        break_glass: None,
    };
    let room = Room { id: "r-ops".into(), kind: RoomKind::Private, name: Some("ops".into()) };
    Event::Created {
        digest: plan.digest(),
        plan: Box::new(plan),
        by: actor(),
        origin: Origin { room, thread: None, message: random_id().into(), schedule: None },
        engine: "0.1.0".into(),
        card: random_id().into(),
        progress: random_id().into(),
        expires_at: None,
    }
}
