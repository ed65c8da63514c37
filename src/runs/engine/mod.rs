//! Carries runs out: takes votes, queues, performs steps, undoes, recovers. Every act follows the same
//! order: append the intent, sync, act, append the outcome, sync.
//!
//! Must not: know how anything is said in chat. It leaves notices in the outbox, and a hint of what moves
//! for whoever shows progress.

mod act;
mod ask;
mod by_hand;
mod drive;
mod footing;
mod freeze;
mod maintenance;
mod perform;
mod remove;
mod same;
mod schedules;
mod standing;
mod steal;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::alive;
use super::event::{Event, Origin, Recorded};
use super::freezes::Frozen;
use super::journal::{Header, Journal, JournalError, headers, read_log};
use super::locks::{Held, Holder, ManualLock};
use super::maintenance::Maintenance;
use super::next::{Next, next};
use super::outbox::Notice;
use super::owed;
use super::queue::{self, Doing, Place};
use super::retention::{self, Removed, What};
use super::schedules::{Change, Fire, Told};
use super::state::{Illegal, Phase, RunState};
use super::transcripts::Transcripts;
use crate::approvals::{Ineligible, Tally};
use crate::audit::Audit;
use crate::clock::Clock;
use crate::conversation::Actor;
use crate::ids::{EnvName, MessageId, RunId, UserId};
use crate::lease::{AtWork, Lease};
use crate::metrics::Metrics;
use crate::playbook::model::{ApprovalPolicy, Basis, Plan};
use crate::playbook::steps::{Kinds, World};
use crate::secret::Redactor;
use crate::store::{Batch, Store, StoreError};
pub use act::{About, PLAN};
pub use by_hand::Asked;
pub use remove::Gone;
pub use same::SameAsked;

/// How long a step that took too long may take to say what is so now.
const GRACE: Duration = Duration::from_secs(60);

/// How long a cancelled step may take to put back what it did, if its own time limit is not shorter.
const CANCEL_GRACE: Duration = Duration::from_secs(600);

/// Of a command line that others are told of.
const LONGEST_COMMAND: usize = 120;

/// Between attempts to write when the store refuses; there is no correct way on without it.
const WRITE_RETRY: Duration = Duration::from_secs(2);

/// What the engine is built from.
pub struct Parts {
    pub store: Store,
    pub clock: Clock,
    pub redactor: Redactor,
    pub metrics: Metrics,
    pub kinds: Kinds,
    pub audit: Audit,
    pub transcripts: Transcripts,
    /// Without it no run is moved.
    pub lease: Lease,
    /// From the configuration in force.
    pub footing: Box<dyn Fn() -> Footing + Send + Sync>,
}

/// What the configuration gives to a run. It is taken before the start, compared with what the plan rests on,
/// and kept to the run's end, whatever takes the configuration's place meanwhile; after a restart of Houston
/// it is taken and compared again, and one that differs takes people's consent.
#[derive(Clone)]
pub struct Footing {
    pub world: Arc<dyn World>,
    /// What a plan rests on.
    pub basis: Arc<dyn Fn(&Plan) -> Basis + Send + Sync>,
    /// Who has to consent to a plan like this one.
    pub consent: Arc<ConsentTo>,
    /// For steps that say nothing else.
    pub step_timeout: Duration,
    /// From the environment's file.
    pub freezes: Arc<FreezesAt>,
    /// Likewise.
    pub maintenance: Arc<MaintenanceAt>,
    /// Whether a command begins in an environment only in maintenance.
    pub needs_maintenance: Arc<NeedsMaintenance>,
}

/// Who has to consent to a plan; `None`: nobody.
pub type ConsentTo = dyn Fn(&Plan) -> Option<ApprovalPolicy> + Send + Sync;

/// The freezes of an environment that are in force at a moment.
pub type FreezesAt = dyn Fn(&EnvName, Timestamp) -> Vec<Frozen> + Send + Sync;

/// Maintenance of an environment that is not over at a moment.
pub type MaintenanceAt = dyn Fn(&EnvName, Timestamp) -> Vec<Maintenance> + Send + Sync;

/// By the environment and the command's name.
pub type NeedsMaintenance = dyn Fn(&EnvName, &str) -> bool + Send + Sync;

/// The handle; clones share one engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// Weak: whoever looks at consent knows the engine, and neither may keep the other, and with it the
    /// store, alive.
    consent: OnceLock<Weak<dyn Consent>>,
    journal: tokio::sync::Mutex<Journal>,
    /// What could not be told to the audit log when it happened, by this process or by earlier ones.
    left_owed: Mutex<owed::Left>,
    owed_changed: Notify,
    live: Mutex<HashMap<RunId, Live>>,
    /// Of runs that are not done.
    footings: Mutex<HashMap<RunId, Footing>>,
    wakes: Mutex<BTreeMap<RunId, Timestamp>>,
    wake_changed: Notify,
    maintenance_changed: Notify,
    schedules_changed: Notify,
    /// Since when no Houston ran here, before this one; `None`: that is not known.
    away_since: Option<Timestamp>,
    opened_at: Timestamp,
    changed: broadcast::Sender<RunId>,
    /// Notices up to this one are durable.
    durable_notices: AtomicU64,
    outbox_changed: Notify,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// Looks at consent again, just before a run starts: people leave, lose roles, take reactions back.
pub trait Consent: Send + Sync {
    /// What counts no more. `Err`: it cannot be looked at now.
    fn look_again<'a>(&'a self, run: &'a RunState) -> BoxFuture<'a, Result<Vec<Objection>, String>>;
}

/// Why a run that was approved may not start as it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Objection {
    /// This person's vote counts no more.
    Vote { by: Actor, vanished: bool },
    /// The requester may not do this any more: the text says why.
    Requester(String),
}

impl Objection {
    /// The vote that is taken out; `None`: it is not about a vote.
    fn withdrawal(self) -> Option<Event> {
        match self {
            Self::Vote { by, vanished } => Some(Event::VoteWithdrawn { by, vanished, lost: !vanished }),
            Self::Requester(_) => None,
        }
    }
}

/// What this process does for a run that moves right now.
#[derive(Default)]
struct Live {
    driving: bool,
    again: bool,
    nudged: Arc<Notify>,
    work: Option<Work>,
    cancel: CancellationToken,
    status: Option<String>,
    /// How long each step usually takes; looked up when the first one begins.
    usual: Option<Vec<Option<Duration>>>,
    /// How often its start was put off because the world could not be looked at.
    looks: u32,
}

/// What acts on the outside for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Step(usize),
    /// The undo of that step.
    Undo(usize),
    /// Whether that step happened is looked at; nothing is changed.
    Look(usize),
}

impl Work {
    fn step(self) -> usize {
        match self {
            Self::Step(step) | Self::Undo(step) | Self::Look(step) => step,
        }
    }
}

/// A run to be.
pub struct NewRun {
    pub plan: Plan,
    pub by: Actor,
    pub origin: Origin,
    /// Who is told in a direct message that the glass was broken, where it was.
    pub tell: Vec<UserId>,
    /// Goes into the same batch: the mark that the command's message was obeyed.
    pub with: Batch,
    /// The schedule that it begins for.
    pub fired: Option<Fired>,
}

/// A time of a schedule, dealt with: written in one batch with what it begins and with what is said of it.
#[derive(Clone, Debug)]
pub struct Fired {
    pub change: Change,
    pub fire: Fire,
    /// What the room is told, if it is told anything.
    pub told: Option<Told>,
    /// A service watches it.
    pub pings: bool,
}

/// What became of a vote.
#[derive(Debug, PartialEq)]
pub enum Voted {
    /// It counts; this is how things stand.
    Counted(Tally),
    /// The plan is decided, with this vote.
    Decided,
    /// It cannot count. `first` is false when the person was told already.
    Ineligible { why: Ineligible, first: bool },
    /// The person withdrew by text: only text counts from them now.
    Withdrawn,
    /// Something else is asked about than they have in mind, or it was asked after they spoke.
    NotAsked,
    /// Too late, or no approval is asked for: the state, for people.
    Closed(&'static str),
}

/// What became of `retry`.
#[derive(Debug, PartialEq)]
pub enum Retried {
    /// It goes on.
    GoesOn,
    /// The person's consent to what it goes by counts; more is missing.
    Counted(Tally),
    /// The person cannot consent to that.
    Ineligible(Ineligible),
}

/// What can be refused when somebody acts on a run; the text is for people.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    #[error("There is no run {0}; `!runs` lists those that there are.")]
    NoSuchRun(RunId),
    #[error("{run} was {words}.", words = removed.words())]
    Removed { run: RunId, removed: Removed },
    #[error("{run} {why}.")]
    NotNow { run: RunId, why: String },
    /// The journal does not take it: why is a sentence about the run.
    #[error("{run} ({state}): {why}.")]
    Refused { run: RunId, state: String, why: &'static str },
    #[error("the journal cannot be written: {0}")]
    Journal(JournalError),
    /// Whoever decided by the row decides again.
    #[error("the schedule was changed at the same moment: say it again.")]
    Meanwhile,
    /// One run of a schedule at a time.
    #[error("{0} of the same schedule is not done.")]
    Overlaps(RunId),
}

impl From<JournalError> for ActError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::NoSuchRun(run) => Self::NoSuchRun(run),
            JournalError::Removed(run, removed) => Self::Removed { run, removed },
            JournalError::Illegal(Illegal { run, state, why, .. }) => Self::Refused { run, state, why },
            other @ JournalError::Store(_) => Self::Journal(other),
        }
    }
}
impl From<StoreError> for ActError {
    fn from(error: StoreError) -> Self {
        Self::Journal(JournalError::Store(error))
    }
}

/// What is happening to a run now, beyond what the journal says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveStatus {
    /// The step that this process performs.
    pub step: Option<usize>,
    /// Its last line: `2 of 3 tasks run 1.8`.
    pub line: Option<String>,
    /// How long it took in earlier runs; their median.
    pub usual: Option<Duration>,
    /// What it waits for, when it is queued.
    pub place: Option<Place>,
}

impl Engine {
    /// Reads the journal. Nothing moves before [`Engine::start`].
    pub fn open(parts: Parts) -> Result<Self, StoreError> {
        let journal = Journal::load(parts.store.clone(), parts.metrics.clone())?;
        // Now: what comes from here on is told by whoever does it.
        let left_owed = owed::Left::load(&parts.store).unwrap_or_else(|error| {
            tracing::error!("what the audit log has to be told cannot be read: {error}");
            owed::Left::default()
        });
        let away_since = alive::last(&parts.store).unwrap_or_default();
        let opened_at = parts.clock.now();
        let engine = Self(Arc::new(Inner {
            away_since,
            opened_at,
            journal: tokio::sync::Mutex::new(journal),
            left_owed: Mutex::new(left_owed),
            owed_changed: Notify::new(),
            live: Mutex::default(),
            footings: Mutex::default(),
            wakes: Mutex::default(),
            wake_changed: Notify::new(),
            maintenance_changed: Notify::new(),
            schedules_changed: Notify::new(),
            changed: broadcast::channel(1024).0,
            durable_notices: AtomicU64::new(0),
            outbox_changed: Notify::new(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            consent: OnceLock::new(),
            parts,
        }));
        Ok(engine)
    }

    /// Who looks at consent again before a start. Set once, before [`Engine::start`], and kept alive by the
    /// caller: once it is gone, nothing that was approved starts any more.
    pub fn set_consent(&self, consent: &Arc<dyn Consent>) {
        let _ = self.0.consent.set(Arc::downgrade(consent));
    }

    /// Resumes what was interrupted and wakes what waits, until [`Engine::shutdown`]. Returns what was
    /// found at the start.
    pub async fn start(&self) -> Vec<RunId> {
        let mut journal = self.0.journal.lock().await;
        self.take_up(&mut journal);
        let mut found = Vec::new();
        for run in journal.open_runs().chain(journal.open_reviews()) {
            if let Next::Sleep(at) = next(run, Timestamp::MIN) {
                self.schedule(run.id, Some(at));
            }
            if run.holds_locks() || run.wants_locks() {
                found.push(run.id);
            }
        }
        for unreadable in journal.unreadable() {
            let (run, why) = (unreadable.header.run, &unreadable.why);
            tracing::error!(run.id = %run, "{run} cannot be read by this version and is left alone: {why}");
        }
        let last_notice = journal.last_notice();
        drop(journal);
        // What an earlier process left to say may be said as soon as it is known to be on the device.
        match self.0.parts.store.sync().await {
            Ok(()) => self.announce(last_notice),
            Err(error) => tracing::error!("the store cannot be synced: {error}"),
        }
        self.pay_what_is_owed().await;
        found.sort();
        for run in &found {
            self.nudge(*run);
        }
        let engine = self.clone();
        self.0.tasks.spawn(async move { engine.wake_loop().await });
        let engine = self.clone();
        self.0.tasks.spawn(async move { engine.stay_alive().await });
        let engine = self.clone();
        self.0.tasks.spawn(async move { engine.keep_paying().await });
        found
    }

    /// Notes of every run that moved when the process before ended that it is moved again, and since when it was
    /// not.
    fn take_up(&self, journal: &mut Journal) {
        let store = &self.0.parts.store;
        let alive = alive::last(store).unwrap_or_else(|error| {
            tracing::warn!(%error, "how long Houston was away is only known from the journal");
            None
        });
        let moving: Vec<(RunId, Timestamp)> =
            journal.open_runs().filter(|run| run.moves()).map(|run| (run.id, run.last_at)).collect();
        let now = self.now();
        for (run, last_at) in moving {
            // A clock that was set back meanwhile makes no absence of a negative length.
            let away_since = alive.map_or(last_at, |alive| alive.max(last_at)).min(now);
            let event = Event::TakenUp { away_since };
            if let Err(error) = journal.append(run, vec![event], Vec::new(), Batch::new(), now) {
                tracing::error!(run.id = %run, "that {run} is taken up cannot be written: {error}");
            }
        }
    }

    /// Renews the mark from which the next process knows how long nobody moved the runs.
    async fn stay_alive(&self) {
        loop {
            if self.0.journal.lock().await.open_runs().any(RunState::moves)
                && let Err(error) = alive::mark(&self.0.parts.store, self.now())
            {
                tracing::warn!(%error, "that Houston is alive cannot be noted");
            }
            tokio::select! {
                () = self.0.parts.clock.sleep(alive::EVERY) => {}
                () = self.0.shutdown.cancelled() => return,
            }
        }
    }

    /// Starts no further step, waits for the ones under way to reach a boundary for at most `grace`.
    pub async fn shutdown(&self, grace: Duration) {
        self.0.shutdown.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("steps are still under way; the next start takes them up again");
        }
        if let Err(error) = alive::mark(&self.0.parts.store, self.now()) {
            tracing::warn!(%error, "that Houston was alive until now cannot be noted");
        }
    }

    // ----- what people see ------------------------------------------------------------------------

    pub async fn state(&self, run: RunId) -> Result<RunState, ActError> {
        Ok(self.0.journal.lock().await.state(run)?)
    }

    /// Runs that are not done, oldest first.
    pub async fn open_runs(&self) -> Vec<RunState> {
        let mut open: Vec<RunState> = self.0.journal.lock().await.open_runs().cloned().collect();
        open.sort_by_key(|run| run.id);
        open
    }

    /// Break-glass runs that are done and have to be reviewed, oldest first.
    pub async fn open_reviews(&self) -> Vec<RunState> {
        self.0.journal.lock().await.open_reviews().cloned().collect()
    }

    /// Newest first.
    pub fn list(&self, most: usize) -> Result<Vec<Header>, ActError> {
        Ok(headers(&self.0.parts.store).take(most).collect::<Result<_, _>>()?)
    }

    pub fn events(&self, run: RunId) -> Result<Vec<Recorded>, ActError> {
        Ok(read_log(&self.0.parts.store, run)?)
    }

    pub async fn held(&self) -> Vec<Held> {
        self.0.journal.lock().await.held()
    }

    pub async fn manual_locks(&self) -> Vec<ManualLock> {
        self.0.journal.lock().await.manual_locks().to_vec()
    }

    pub async fn live(&self, run: RunId) -> LiveStatus {
        let mut place = queue::place(&*self.0.journal.lock().await, run);
        for one in place.iter_mut().flat_map(|place| &mut place.behind) {
            self.add_usual(&one.holder, &mut one.doing);
        }
        LiveStatus { place, ..self.at_work(run) }
    }

    /// How far a run is that holds a lock.
    pub async fn doing(&self, holder: &Holder) -> Option<Doing> {
        let mut doing = queue::doing(&*self.0.journal.lock().await, holder);
        self.add_usual(holder, &mut doing);
        doing
    }

    fn add_usual(&self, holder: &Holder, doing: &mut Option<Doing>) {
        if let (Holder::Run { run, .. }, Some(doing)) = (holder, doing) {
            doing.usual = self.at_work(*run).usual;
        }
    }

    /// The runs that wait for others, in the order in which they may start.
    pub async fn queued(&self) -> Vec<RunState> {
        let journal = self.0.journal.lock().await;
        let mut queued: Vec<RunState> =
            journal.open_runs().filter(|run| matches!(run.phase, Phase::Queued { .. })).cloned().collect();
        queued.sort_by_key(|run| (run.ready_at, run.id));
        queued
    }

    /// What this process does for a run that moves.
    fn at_work(&self, run: RunId) -> LiveStatus {
        self.live_map()
            .get(&run)
            .map(|live| {
                let step = match live.work {
                    Some(Work::Step(step) | Work::Look(step)) => Some(step),
                    _ => None,
                };
                let usual =
                    live.usual.as_ref().zip(step).and_then(|(usual, step)| usual.get(step).copied()?);
                LiveStatus { step, line: live.status.clone(), usual, place: None }
            })
            .unwrap_or_default()
    }

    /// How many runs a task moves now.
    pub fn moving(&self) -> usize {
        self.live_map().len()
    }

    pub fn transcripts(&self) -> &Transcripts {
        &self.0.parts.transcripts
    }

    /// Whether, when and why what a run wrote was removed.
    pub fn transcript_removed(&self, run: RunId) -> Option<Removed> {
        retention::of(&self.0.parts.store, What::Transcript, run).unwrap_or_else(|error| {
            tracing::error!(run.id = %run, "whether its output was removed cannot be read: {error}");
            None
        })
    }

    /// Which run's appearance may have changed; lossy for slow listeners.
    pub fn subscribe(&self) -> broadcast::Receiver<RunId> {
        self.0.changed.subscribe()
    }

    /// What is not done, newest first: for whoever would take over without knowing these runs.
    pub async fn unfinished(&self, most: usize) -> Vec<AtWork> {
        let journal = self.0.journal.lock().await;
        let mut open: Vec<&RunState> = journal.open_runs().collect();
        open.sort_by_key(|run| std::cmp::Reverse(run.id));
        open.truncate(most);
        open.into_iter().map(told_of).collect()
    }

    /// Returns when there may be something new in the outbox.
    pub async fn outbox_changed(&self) {
        self.0.outbox_changed.notified().await;
    }

    /// Whether a notice is on the device, and may be said.
    pub fn may_say(&self, notice: u64) -> bool {
        notice <= self.0.durable_notices.load(Ordering::SeqCst)
    }

    /// The run that a message belongs to, among those that are not done.
    pub async fn run_of_message(&self, message: &MessageId) -> Option<(RunId, RunMessage)> {
        let journal = self.0.journal.lock().await;
        journal.open_runs().find_map(|run| {
            // Of several requests for consent only the message of the one that is open means anything.
            if run.open_ballot().is_some_and(|ballot| &ballot.card == message) {
                Some((run.id, RunMessage::Card))
            } else if &run.progress == message {
                Some((run.id, RunMessage::Progress))
            } else {
                None
            }
        })
    }

    // ----- small things ---------------------------------------------------------------------------

    /// Whether a step or an undo of it acts on the outside now.
    fn is_at_work(&self, run: RunId) -> bool {
        self.live_map().get(&run).is_some_and(|live| matches!(live.work, Some(Work::Step(_) | Work::Undo(_))))
    }

    fn now(&self) -> Timestamp {
        self.0.parts.clock.now()
    }

    fn live_map(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a run shows itself that has not started, or waits for consent to a step: on the card that asks, and on
/// the progress message once there is one.
pub(in crate::runs) fn own_messages(state: &RunState) -> Vec<Notice> {
    let run = state.id;
    let mut notices = Vec::new();
    if state.started_at.is_none() && state.plan.approval.is_some() {
        notices.push(Notice::Card { run });
    }
    notices.extend(step_card(state));
    if state.was_queued || state.started_at.is_some() || notices.is_empty() {
        notices.push(Notice::Progress { run });
    }
    notices
}

/// As [`own_messages`], for a run that is void: an edit of them notifies nobody.
fn voided_messages(state: &RunState) -> Vec<Notice> {
    let mut notices = own_messages(state);
    notices.push(Notice::void(state.id));
    notices
}

fn told_of(run: &RunState) -> AtWork {
    let shown = if run.started_at.is_none() && run.plan.approval.is_some() {
        &run.consent.card
    } else {
        &run.progress
    };
    AtWork {
        run: run.id,
        command: crate::text::ellipsis(&run.plan.command, LONGEST_COMMAND).into_owned(),
        environment: run.plan.environment.as_ref().map(ToString::to_string),
        cause: run.origin.message.clone(),
        begun: run.started_at.is_some(),
        room: run.origin.room.id.clone(),
        thread: run.origin.thread.clone().unwrap_or_else(|| shown.clone()),
    }
}

/// The message with which a step asks now.
fn step_card(state: &RunState) -> Option<Notice> {
    state.open_ask()?;
    Some(Notice::StepCard { run: state.id, ask: state.asks.len() - 1 })
}

/// The card on which people decide now.
fn decision_card(state: &RunState) -> Notice {
    step_card(state).unwrap_or(Notice::Card { run: state.id })
}

/// Which of the steps' requests is open.
fn place_of_ask(state: &RunState) -> Option<usize> {
    state.open_ask().map(|_| state.asks.len() - 1)
}

/// What message of a run a reaction or a reply is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMessage {
    Card,
    Progress,
}
