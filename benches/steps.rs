//! What the journal costs: a step that does nothing, carried out by the engine, beside a bare write of the
//! same bytes.
//!
//! Must not: keep its folder in memory: it is about a real device.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use houston::audit::Audit;
use houston::clock::Clock;
use houston::digest::Digest;
use houston::gateway::events::{Actor, Room, RoomKind};
use houston::ids::StepId;
use houston::metrics::Metrics;
use houston::playbook::model::{Basis, OnFailure, Plan, PlannedStep, PlannedUndo, Preview, Retry};
use houston::playbook::steps::{Kinds, ParamSpec, Repeat, StepContext, StepError, StepKind, UndoMode, World};
use houston::runs::event::Origin;
use houston::runs::transcripts::Transcripts;
use houston::runs::{Engine, Footing, NewRun, Parts};
use houston::secret::Redactor;
use houston::store::{Batch, Store};
use serde_json::Value as Json;
use tokio::time::{Instant, sleep};

use crate::nowhere::Nowhere;
use crate::table::{Table, Times, ms};

/// As many as a playbook of some length has.
const STEPS: usize = 8;
const RUNS: usize = 60;
const WARM_UP: usize = 5;

pub async fn journaled(dir: &Path, table: &mut Table) {
    let dir = dir.join("steps");
    let bench = Bench::open(&dir);
    let mut bare = File::create(dir.join("bare")).expect("creates");
    let (mut steps, mut writes) = (Vec::new(), Vec::new());
    let mut bytes = 0;
    for round in 0..WARM_UP + RUNS {
        let (run_times, sizes) = bench.run().await;
        let write_times = tokio::task::spawn_blocking({
            let mut file = bare.try_clone().expect("a handle");
            move || (0..STEPS - 1).map(|_| bare_step(&mut file, sizes)).collect::<Vec<_>>()
        });
        let write_times = write_times.await.expect("writes");
        if round >= WARM_UP {
            steps.extend(run_times);
            writes.extend(write_times);
            bytes = sizes[0] + sizes[1];
        }
    }
    bare.flush().expect("flushes");
    let (steps, writes) = (Times::new(steps), Times::new(writes));
    let text = |times: &Times| {
        format!("median {}, p99 {} ({})", ms(times.median()), ms(times.percentile(99)), times.count())
    };
    table.row("one journaled step that does nothing: intent, act, outcome", text(&steps), "");
    table.row(format!("bare: the same {bytes} bytes in two writes, fdatasync after each"), text(&writes), "");
    let ratio = steps.median().as_secs_f64() / writes.median().as_secs_f64();
    table.row("journaled step ÷ bare", format!("{ratio:.2}"), "≤ 1.2");
}

/// Intent and outcome, appended to a plain file.
fn bare_step(file: &mut File, sizes: [usize; 2]) -> Duration {
    let begun = Instant::now();
    for size in sizes {
        file.write_all(&vec![b'x'; size]).and_then(|()| file.flush()).expect("writes");
        file.sync_data().expect("syncs");
    }
    begun.elapsed()
}

struct Bench {
    engine: Engine,
    performed: Arc<Mutex<Vec<Instant>>>,
}

impl Bench {
    fn open(dir: &Path) -> Self {
        let store = Store::open(&dir.join("journal")).expect("opens");
        let (clock, redactor) = (Clock::system(), Redactor::new());
        let performed = Arc::default();
        let kind: Arc<dyn StepKind> = Arc::new(Nothing { performed: Arc::clone(&performed) });
        let kinds: Kinds = Arc::new([(kind.name(), kind)].into_iter().collect());
        let audit = Audit::open(dir, &clock, redactor.clone()).expect("opens");
        let world: Arc<dyn World> = Arc::new(Nowhere);
        let engine = Engine::open(Parts {
            metrics: Metrics::new(0.0),
            store,
            clock,
            kinds,
            audit,
            transcripts: Transcripts::new(dir.join("transcripts"), redactor.clone()),
            redactor,
            lease: houston::lease::Lease::unused(),
            footing: Box::new(move || Footing {
                world: Arc::clone(&world),
                basis: Arc::new(|_| Basis::default()),
                consent: Arc::new(|_| None),
                step_timeout: Duration::from_secs(60),
                freezes: Arc::new(|_, _| Vec::new()),
                maintenance: Arc::new(|_, _| Vec::new()),
                needs_maintenance: Arc::new(|_, _| false),
            }),
        })
        .expect("opens");
        Self { engine, performed }
    }

    /// Carries out one run. Times from one act to the next: the outcome of the one and the intent of the
    /// other. And how many bytes outcome and intent took.
    async fn run(&self) -> (Vec<Duration>, [usize; 2]) {
        let by = Actor { id: "u-alice".into(), username: "alice".into() };
        let new =
            NewRun { plan: plan(), by, origin: origin(), tell: Vec::new(), with: Batch::new(), fired: None };
        let run = self.engine.create(new).await.expect("a run").id;
        while !self.engine.state(run).await.expect("the run").is_done() {
            sleep(Duration::from_millis(2)).await;
        }
        // Its last entry in the audit log is not part of the next measurement.
        sleep(Duration::from_millis(20)).await;
        let performed = std::mem::take(&mut *self.performed.lock().unwrap_or_else(PoisonError::into_inner));
        assert_eq!(performed.len(), STEPS);
        let header = self.engine.list(1).expect("lists").swap_remove(0);
        let header = serde_json::to_vec(&header).expect("plain data").len();
        let events = self.engine.events(run).expect("its events");
        let size = |from_end: usize| {
            let record = serde_json::to_vec(&events[events.len() - from_end]).expect("plain data").len();
            // With its keys, and the number of the next notice.
            record + header + 13 + 9 + 12 + 2
        };
        // The last is that the run ended; before it the last outcome, and its intent.
        (performed.windows(2).map(|pair| pair[1] - pair[0]).collect(), [size(3), size(2)])
    }
}

fn plan() -> Plan {
    let step = |n: usize| PlannedStep {
        id: StepId::from(format!("step{n}")),
        kind: "nothing".into(),
        title: "do nothing".into(),
        params: Json::Null,
        preview: Preview::default(),
        undo: PlannedUndo::NotNeeded,
        retry: Retry::default(),
        timeout: None,
        service: None,
        approval: None,
        whole: None,
    };
    Plan {
        command: "nothing prod".into(),
        command_name: "nothing".into(),
        playbook: "nothing".into(),
        playbook_digest: Digest::of(b"playbook"),
        basis: Basis::default(),
        environment: Some("prod".into()),
        locks: Vec::new(),
        steps: (0..STEPS).map(step).collect(),
        on_failure: OnFailure::Stop,
        approval: None,
        reason: None,
        report: None,
        break_glass: None,
        standing: None,
    }
}

fn origin() -> Origin {
    let room = Room { id: "r-ops".into(), kind: RoomKind::Private, name: Some("ops".into()) };
    Origin { room, thread: None, message: "asked".into(), schedule: None }
}

/// A step kind that notes when it was performed.
struct Nothing {
    performed: Arc<Mutex<Vec<Instant>>>,
}

impl StepKind for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }
    fn doc(&self) -> &'static str {
        "Does nothing."
    }
    fn params(&self) -> &'static [ParamSpec] {
        &[]
    }
    fn repeat(&self, _: &Json) -> Repeat {
        Repeat::Safe
    }
    fn undo_mode(&self, _: &Json) -> UndoMode {
        UndoMode::NotNeeded
    }
    fn title(&self, _: &Json) -> String {
        "do nothing".into()
    }
    fn preview<'a>(&'a self, _: &'a StepContext, _: &'a Json) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async { Ok(Preview::default()) })
    }
    fn run<'a>(&'a self, _: &'a StepContext, _: &'a Json) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async {
            self.performed.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            Ok(Json::Null)
        })
    }
}
