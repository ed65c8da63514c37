//! The numbers that Houston keeps about itself, and how they are exposed.
//!
//! What happens is counted where it happens; what is so is looked at when somebody asks ([`Seen`]). There is no
//! global state: each Houston has its own.
//!
//! Must not: know what a run or a room is, or take a label that is not in [`table`].

mod process;
pub mod table;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use table::{Described, Kind};

/// Of what [`Metrics::expose`] writes.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

type Labels = Vec<(&'static str, String)>;
type FloatGauge = Gauge<f64, std::sync::atomic::AtomicU64>;
type FloatCounter = Counter<f64, std::sync::atomic::AtomicU64>;
type Timed = Family<Labels, Histogram, fn() -> Histogram>;

/// From half a millisecond to a second: a device.
const OF_A_DEVICE: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
/// From a millisecond to half a minute: an answer.
const OF_AN_ANSWER: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// From a tenth of a second to an hour: work.
const OF_WORK: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1800.0, 3600.0];
/// From seconds to a day: people.
const OF_PEOPLE: [f64; 9] = [5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0];

/// What is so at the moment of the question, as its owners say.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub acts: bool,
    pub connected: bool,
    pub caught_up: bool,
    pub silence: Option<Duration>,
    pub connections: u64,
    pub frames: u64,
    /// By priority: how many calls waited, and how long.
    pub waits: Vec<(&'static str, u64, Duration)>,
    pub rate_refusals: u64,
    pub events_waiting: usize,
    /// By state: runs that are not done.
    pub open: Vec<(&'static str, usize)>,
    pub outbox: usize,
    pub oldest: Duration,
    pub store_bytes: u64,
    pub schedules: Vec<Scheduled>,
}

/// How a schedule stands. Times are since the Unix epoch, in seconds.
#[derive(Clone, Debug)]
pub struct Scheduled {
    pub name: String,
    /// `None`: it is paused.
    pub next: Option<f64>,
    pub succeeded: f64,
    pub misfires: u64,
}

/// Clones share the numbers.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    messages: Family<Labels, Counter>,
    commands: Family<Labels, Counter>,
    command_duration: Histogram,
    runs_created: Family<Labels, Counter>,
    runs_finished: Family<Labels, Counter>,
    steps: Family<Labels, Counter>,
    step_duration: Timed,
    approvals: Family<Labels, Counter>,
    approval_wait: Histogram,
    votes: Family<Labels, Counter>,
    sync_duration: Histogram,
    last_export: FloatGauge,
    export_failures: Counter,
    audit_failures: Counter,
    seen: Mirror,
}

/// Metrics whose owners are looked at.
struct Mirror {
    acts: Gauge,
    connected: Gauge,
    caught_up: Gauge,
    silence: FloatGauge,
    connections: Counter,
    frames: Counter,
    waits: Family<Labels, Counter>,
    waited: Family<Labels, FloatCounter>,
    rate_refusals: Counter,
    events_waiting: Gauge,
    open: Family<Labels, Gauge>,
    outbox: Gauge,
    oldest: FloatGauge,
    store_size: Gauge,
    schedule_next: Family<Labels, FloatGauge>,
    schedule_success: Family<Labels, FloatGauge>,
    schedule_misfires: Family<Labels, Counter>,
    cpu: FloatCounter,
    resident: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
}

/// A metric under its name. The library adds `_total` and the full stop.
fn add<M: Metric + Clone>(registry: &mut Registry, of: &Described, metric: M) -> M {
    let name = match of.kind {
        Kind::Counter => of.name.trim_end_matches("_total"),
        Kind::Gauge | Kind::Histogram => of.name,
    };
    registry.register(name, of.help, metric.clone());
    metric
}

fn labels<const N: usize>(of: &Described, values: [&str; N]) -> Labels {
    debug_assert_eq!(of.labels.len(), N, "the labels of {}", of.name);
    of.labels.iter().copied().zip(values.map(str::to_owned)).collect()
}

fn count<const N: usize>(of: &Described, family: &Family<Labels, Counter>, values: [&str; N]) {
    family.get_or_create(&labels(of, values)).inc();
}

impl Metrics {
    /// `started_at`: since the Unix epoch, in seconds.
    pub fn new(started_at: f64) -> Self {
        let mut registry = Registry::default();
        let to = &mut registry;
        let seen = Mirror::new(to);
        let build: Family<Labels, Gauge> = add(to, &table::BUILD_INFO, Family::default());
        build.get_or_create(&labels(&table::BUILD_INFO, [env!("CARGO_PKG_VERSION")])).set(1);
        add(to, &table::START_TIME, FloatGauge::default()).set(started_at);
        let work: fn() -> Histogram = || Histogram::new(OF_WORK);
        let inner = Inner {
            messages: add(to, &table::MESSAGES, Family::default()),
            commands: add(to, &table::COMMANDS, Family::default()),
            command_duration: add(to, &table::COMMAND_DURATION, Histogram::new(OF_AN_ANSWER)),
            runs_created: add(to, &table::RUNS_CREATED, Family::default()),
            runs_finished: add(to, &table::RUNS_FINISHED, Family::default()),
            steps: add(to, &table::STEPS, Family::default()),
            step_duration: add(to, &table::STEP_DURATION, Family::new_with_constructor(work)),
            approvals: add(to, &table::APPROVALS, Family::default()),
            approval_wait: add(to, &table::APPROVAL_WAIT, Histogram::new(OF_PEOPLE)),
            votes: add(to, &table::VOTES, Family::default()),
            sync_duration: add(to, &table::SYNC_DURATION, Histogram::new(OF_A_DEVICE)),
            last_export: add(to, &table::LAST_EXPORT, FloatGauge::default()),
            export_failures: add(to, &table::EXPORT_FAILURES, Counter::default()),
            audit_failures: add(to, &table::AUDIT_FAILURES, Counter::default()),
            seen,
            registry,
        };
        // What can be told beforehand is 0 and not absent, so that its first step is seen as one.
        for addressed in ["command", "unknown", "question", "others"] {
            drop(inner.messages.get_or_create(&labels(&table::MESSAGES, [addressed])));
        }
        for decision in ["approved", "denied", "expired", "voided"] {
            drop(inner.approvals.get_or_create(&labels(&table::APPROVALS, [decision])));
        }
        for choice in ["approve", "deny"] {
            drop(inner.votes.get_or_create(&labels(&table::VOTES, [choice])));
        }
        Self(Arc::new(inner))
    }

    pub fn heard(&self, addressed: &str) {
        count(&table::MESSAGES, &self.0.messages, [addressed]);
    }

    pub fn command(&self, command: &str, outcome: &str, took: Duration) {
        count(&table::COMMANDS, &self.0.commands, [command, outcome]);
        self.0.command_duration.observe(took.as_secs_f64());
    }

    pub fn run_created(&self, command: &str) {
        count(&table::RUNS_CREATED, &self.0.runs_created, [command]);
    }

    pub fn run_finished(&self, command: &str, outcome: &str) {
        count(&table::RUNS_FINISHED, &self.0.runs_finished, [command, outcome]);
    }

    pub fn step(&self, kind: &str, outcome: &str) {
        count(&table::STEPS, &self.0.steps, [kind, outcome]);
    }

    pub fn step_took(&self, kind: &str, took: Duration) {
        let of_kind = self.0.step_duration.get_or_create(&labels(&table::STEP_DURATION, [kind]));
        of_kind.observe(took.as_secs_f64());
    }

    pub fn decided(&self, decision: &str, waited: Duration) {
        count(&table::APPROVALS, &self.0.approvals, [decision]);
        self.0.approval_wait.observe(waited.as_secs_f64());
    }

    pub fn voted(&self, choice: &str) {
        count(&table::VOTES, &self.0.votes, [choice]);
    }

    pub fn synced(&self, took: Duration) {
        self.0.sync_duration.observe(took.as_secs_f64());
    }

    /// `at`: since the Unix epoch, in seconds.
    pub fn exported(&self, at: f64) {
        self.0.last_export.set(at);
    }

    pub fn export_failed(&self) {
        self.0.export_failures.inc();
    }

    pub fn audit_failed(&self) {
        self.0.audit_failures.inc();
    }

    /// Everything, in the text format of Prometheus.
    pub fn expose(&self, seen: &Seen) -> String {
        self.0.seen.show(seen);
        let mut out = String::new();
        prometheus_text::encode(&mut out, &self.0.registry).expect("a string takes everything");
        out
    }
}

impl Mirror {
    fn new(to: &mut Registry) -> Self {
        Self {
            acts: add(to, &table::ACTS, Gauge::default()),
            connected: add(to, &table::CONNECTED, Gauge::default()),
            caught_up: add(to, &table::CAUGHT_UP, Gauge::default()),
            silence: add(to, &table::SILENCE, FloatGauge::default()),
            connections: add(to, &table::CONNECTIONS, Counter::default()),
            frames: add(to, &table::FRAMES, Counter::default()),
            waits: add(to, &table::WAITS, Family::default()),
            waited: add(to, &table::WAITED, Family::default()),
            rate_refusals: add(to, &table::RATE_REFUSALS, Counter::default()),
            events_waiting: add(to, &table::EVENTS_WAITING, Gauge::default()),
            open: add(to, &table::RUNS_OPEN, Family::default()),
            outbox: add(to, &table::OUTBOX_ENTRIES, Gauge::default()),
            oldest: add(to, &table::OUTBOX_AGE, FloatGauge::default()),
            store_size: add(to, &table::STORE_SIZE, Gauge::default()),
            schedule_next: add(to, &table::SCHEDULE_NEXT, Family::default()),
            schedule_success: add(to, &table::SCHEDULE_SUCCESS, Family::default()),
            schedule_misfires: add(to, &table::SCHEDULE_MISFIRES, Family::default()),
            cpu: add(to, &table::CPU, FloatCounter::default()),
            resident: add(to, &table::RESIDENT, Gauge::default()),
            open_fds: add(to, &table::OPEN_FDS, Gauge::default()),
            max_fds: add(to, &table::MAX_FDS, Gauge::default()),
        }
    }

    fn show(&self, seen: &Seen) {
        self.acts.set(i64::from(seen.acts));
        self.connected.set(i64::from(seen.connected));
        self.caught_up.set(i64::from(seen.caught_up));
        self.silence.set(seen.silence.map_or(f64::NAN, |age| age.as_secs_f64()));
        self.connections.inner().store(seen.connections, Ordering::Relaxed);
        self.frames.inner().store(seen.frames, Ordering::Relaxed);
        for (priority, calls, time) in &seen.waits {
            let waits = self.waits.get_or_create(&labels(&table::WAITS, [priority]));
            waits.inner().store(*calls, Ordering::Relaxed);
            let waited = self.waited.get_or_create(&labels(&table::WAITED, [priority]));
            waited.inner().store(time.as_secs_f64().to_bits(), Ordering::Relaxed);
        }
        self.rate_refusals.inner().store(seen.rate_refusals, Ordering::Relaxed);
        self.events_waiting.set(whole(seen.events_waiting));
        for (state, runs) in &seen.open {
            self.open.get_or_create(&labels(&table::RUNS_OPEN, [state])).set(whole(*runs));
        }
        self.outbox.set(whole(seen.outbox));
        self.oldest.set(seen.oldest.as_secs_f64());
        self.store_size.set(whole(seen.store_bytes));
        self.show_schedules(&seen.schedules);
        if let Some(cpu) = process::cpu() {
            self.cpu.inner().store(cpu.to_bits(), Ordering::Relaxed);
        }
        self.resident.set(process::resident().map_or(0, whole));
        self.open_fds.set(process::open_fds().map_or(0, whole));
        self.max_fds.set(process::max_fds().map_or(0, whole));
    }
}

impl Mirror {
    /// Those that the configuration has now, and no others.
    fn show_schedules(&self, all: &[Scheduled]) {
        self.schedule_next.clear();
        self.schedule_success.clear();
        self.schedule_misfires.clear();
        for one in all {
            let next = self.schedule_next.get_or_create(&labels(&table::SCHEDULE_NEXT, [&one.name]));
            next.set(one.next.unwrap_or(f64::NAN));
            let succeeded = labels(&table::SCHEDULE_SUCCESS, [&one.name]);
            self.schedule_success.get_or_create(&succeeded).set(one.succeeded);
            let misfires = labels(&table::SCHEDULE_MISFIRES, [&one.name]);
            let misfires = self.schedule_misfires.get_or_create(&misfires);
            misfires.inner().store(one.misfires, Ordering::Relaxed);
        }
    }
}

fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
