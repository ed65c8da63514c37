//! Carries runs out: takes votes, queues, performs steps, undoes, recovers. Every act follows the same
//! order: append the intent, sync, act, append the outcome, sync.
//!
//! Must not: know how anything is said in chat. It leaves notices in the outbox, and a hint of what moves
//! for whoever shows progress.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use serde_json::Value as Json;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::event::{Event, Origin, Outcome, Resolution};
use super::journal::{Header, Journal, JournalError, headers, read_log};
use super::locks::{Held, LockProof, ManualLock, conflicts};
use super::next::{AfterCrash, Next, after_crash, next};
use super::outbox::Notice;
use super::releases;
use super::state::{Decision, Phase, RunState, StepState};
use super::transcripts::Transcripts;
use crate::approvals::{self, Choice, Ineligible, Tally, Vote};
use crate::audit::{self, Audit};
use crate::clock::Clock;
use crate::gateway::events::{Actor, Post};
use crate::ids::{EffectToken, MessageId, RunId, random_id};
use crate::playbook::model::{Change, Digest, LockName, Plan, PlannedUndo};
use crate::playbook::steps::{Kinds, Pause, Probed, Progress, StepContext, StepError, World};
use crate::secret::Redactor;
use crate::store::{Batch, Store, StoreError};

/// How long a cancelled or timed-out step may take to say what is so now.
const GRACE: Duration = Duration::from_secs(60);

/// Between attempts to write when the store refuses; there is no correct way on without it.
const WRITE_RETRY: Duration = Duration::from_secs(2);

/// What the engine is built from.
pub struct Parts {
    pub store: Store,
    pub clock: Clock,
    pub redactor: Redactor,
    pub kinds: Kinds,
    pub world: Arc<dyn World>,
    pub audit: Audit,
    pub transcripts: Transcripts,
    pub config_revision: Digest,
    /// For steps that say nothing else.
    pub step_timeout: Duration,
}

/// The handle; clones share one engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    parts: Parts,
    journal: tokio::sync::Mutex<Journal>,
    live: Mutex<HashMap<RunId, Live>>,
    wakes: Mutex<BTreeMap<RunId, Timestamp>>,
    wake_changed: Notify,
    changed: broadcast::Sender<RunId>,
    /// Notices up to this one are durable.
    durable_notices: AtomicU64,
    outbox_changed: Notify,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// What this process does for a run right now.
#[derive(Default)]
struct Live {
    driving: bool,
    again: bool,
    performing: Option<usize>,
    cancel: CancellationToken,
    status: Option<String>,
}

/// A run to be.
pub struct NewRun {
    pub plan: Plan,
    pub by: Actor,
    pub origin: Origin,
    /// Goes into the same batch: the mark that the command's message was obeyed.
    pub with: Batch,
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
    /// Too late, or no approval is asked for: the state, for people.
    Closed(&'static str),
}

/// What can be refused when somebody acts on a run; the text is for people.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    #[error("there is no run {0}")]
    NoSuchRun(RunId),
    #[error("{run} {why}")]
    NotNow { run: RunId, why: String },
    #[error("the journal cannot be written: {0}")]
    Journal(JournalError),
}

impl From<JournalError> for ActError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::NoSuchRun(run) => Self::NoSuchRun(run),
            JournalError::Illegal(illegal) => Self::NotNow { run: illegal.run, why: illegal.why.to_owned() },
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
}

impl Engine {
    /// Reads the journal. Nothing moves before [`Engine::run`].
    pub fn open(parts: Parts) -> Result<Self, StoreError> {
        let journal = Journal::load(parts.store.clone())?;
        let engine = Self(Arc::new(Inner {
            journal: tokio::sync::Mutex::new(journal),
            live: Mutex::default(),
            wakes: Mutex::default(),
            wake_changed: Notify::new(),
            changed: broadcast::channel(1024).0,
            durable_notices: AtomicU64::new(0),
            outbox_changed: Notify::new(),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            parts,
        }));
        Ok(engine)
    }

    /// Resumes what was interrupted and wakes what waits, until [`Engine::shutdown`]. Returns what was
    /// found at the start.
    pub async fn start(&self) -> Vec<RunId> {
        let journal = self.0.journal.lock().await;
        let mut found = Vec::new();
        for run in journal.open_runs() {
            self.schedule(run);
            if run.holds_locks() || run.wants_locks() {
                found.push(run.id);
            }
        }
        for (run, why) in journal.unreadable() {
            tracing::error!(run.id = %run, "{run} cannot be read by this version and is left alone: {why}");
        }
        let last_notice = journal.last_notice();
        drop(journal);
        // What an earlier process left to say may be said as soon as it is known to be on the device.
        match self.0.parts.store.sync().await {
            Ok(()) => self.announce(last_notice),
            Err(error) => tracing::error!("the store cannot be synced: {error}"),
        }
        found.sort();
        for run in &found {
            self.nudge(*run);
        }
        let engine = self.clone();
        self.0.tasks.spawn(async move { engine.wake_loop().await });
        found
    }

    /// Starts no further step, waits for the ones under way to reach a boundary for at most `grace`.
    pub async fn shutdown(&self, grace: Duration) {
        self.0.shutdown.cancel();
        self.0.tasks.close();
        if tokio::time::timeout(grace, self.0.tasks.wait()).await.is_err() {
            tracing::warn!("steps are still under way; the next start takes them up again");
        }
    }

    // ----- what people do -------------------------------------------------------------------------

    /// Begins a run; durable when it returns.
    pub async fn create(&self, mut new: NewRun) -> Result<RunState, ActError> {
        let now = self.now();
        new.plan.command = self.clean(new.plan.command);
        new.plan.reason = new.plan.reason.map(|reason| self.clean(reason));
        let digest = new.plan.digest();
        let expires_at = new
            .plan
            .approval
            .as_ref()
            .map(|policy| now.checked_add(policy.expires).unwrap_or(Timestamp::MAX));
        let event = Event::Created {
            plan: Box::new(new.plan),
            digest: digest.clone(),
            by: new.by,
            origin: new.origin,
            engine: env!("CARGO_PKG_VERSION").to_owned(),
            card: random_id().into(),
            progress: random_id().into(),
            expires_at,
        };
        let mut journal = self.0.journal.lock().await;
        let run = journal.next_run();
        let notices = if expires_at.is_some() { vec![Notice::Card { run }] } else { Vec::new() };
        let (state, last) = journal.create(event, notices, new.with, now)?;
        drop(journal);
        self.settle(&state, last).await?;
        self.audit(&state, "requested", None).await;
        tracing::info!(run.id = %state.id, run.digest = digest.short(), "{} `{}` by {}", state.id, state.plan.command, state.by.username);
        self.nudge(state.id);
        Ok(state)
    }

    /// Takes a vote, by reaction or by command.
    pub async fn vote(&self, run: RunId, vote: Vote, reason: Option<String>) -> Result<Voted, ActError> {
        let reason = reason.map(|reason| self.clean(reason));
        let journal = self.0.journal.lock().await;
        let state = journal.state(run)?;
        let open = matches!(state.phase, Phase::Deciding { .. })
            || (vote.choice == Choice::Deny && state.wants_locks() && state.plan.approval.is_some());
        let Some(policy) = state.plan.approval.as_ref().filter(|_| open) else {
            return Ok(Voted::Closed(if state.plan.approval.is_none() && !state.is_done() {
                "needs no approval"
            } else {
                state.phase.word()
            }));
        };
        // The requester may always deny: that is a cancel.
        let own_denial = vote.choice == Choice::Deny && vote.by.id == state.by.id;
        if !own_denial && let Err(why) = approvals::may_vote(policy, &state.by.id, &vote.by.id, &vote.roles) {
            let first = !state.told.contains(&vote.by.id);
            if first {
                let told = Event::Told { who: vote.by.id.clone() };
                self.append_locked(journal, run, vec![told], Vec::new()).await?;
            }
            return Ok(Voted::Ineligible { why, first });
        }
        let by = vote.by.clone();
        let choice = vote.choice;
        let mut events = vec![Event::Voted { vote: vote.clone(), digest: state.digest.clone() }];
        let mut notices = vec![Notice::Card { run }];
        let mut ahead = state.votes.clone();
        ahead.insert(by.id.clone(), vote);
        let tally = approvals::tally(policy, &state.by.id, ahead.values());
        match choice {
            Choice::Deny => {
                if reason.is_none() && !own_denial {
                    notices.push(Notice::ask_why_denied(run));
                }
                events.push(Event::Denied { by: by.clone(), reason });
            }
            Choice::Approve if tally.met => events.push(Event::Approved),
            Choice::Approve => {}
        }
        let decided = events.len() > 1;
        let state = self.append_locked(journal, run, events, notices).await?;
        if decided {
            self.audit(&state, if choice == Choice::Approve { "approved" } else { "denied" }, Some(&by))
                .await;
            self.nudge(run);
            return Ok(Voted::Decided);
        }
        Ok(Voted::Counted(tally))
    }

    /// Takes somebody's vote back. `vanished`: their name is gone from the reactions.
    pub async fn withdraw(&self, run: RunId, by: &Actor, vanished: bool) -> Result<(), ActError> {
        let journal = self.0.journal.lock().await;
        let event = Event::VoteWithdrawn { by: by.clone(), vanished };
        self.append_locked(journal, run, vec![event], vec![Notice::Card { run }]).await?;
        Ok(())
    }

    pub async fn explain_denial(&self, run: RunId, reason: String) -> Result<(), ActError> {
        let reason = self.clean(reason);
        let journal = self.0.journal.lock().await;
        self.append_locked(journal, run, vec![Event::DenialExplained { reason }], vec![Notice::Card { run }])
            .await?;
        Ok(())
    }

    /// Cancels at any point. What is still under way is in the returned state and [`Engine::live`].
    pub async fn cancel(&self, run: RunId, by: &Actor) -> Result<RunState, ActError> {
        let journal = self.0.journal.lock().await;
        let state = journal.state(run)?;
        if state.is_done() {
            return Err(ActError::NotNow { run, why: format!("has already ended: {}", state.phase.word()) });
        }
        let mut events = vec![Event::CancelRequested { by: by.clone() }];
        let mut notices = Vec::new();
        if !state.holds_locks() {
            events.push(Event::Finished { outcome: Outcome::Cancelled });
            notices.push(own_message(&state));
        } else if matches!(state.phase, Phase::Unknown { .. } | Phase::Stuck) {
            return Err(ActError::NotNow {
                run,
                why: format!("needs a person first: see `!show {run}`, then `resolve` or `abandon` it"),
            });
        } else {
            notices.push(Notice::Progress { run });
        }
        let state = self.append_locked(journal, run, events, notices).await?;
        if let Some(live) = self.live_map().get(&run) {
            live.cancel.cancel();
        }
        self.audit(&state, "cancel requested", Some(by)).await;
        self.nudge(run);
        self.nudge_waiting().await;
        Ok(state)
    }

    /// `retry R-1`: another round for a paused or stuck run.
    pub async fn retry(&self, run: RunId, by: &Actor) -> Result<(), ActError> {
        let journal = self.0.journal.lock().await;
        let event = Event::RetryRequested { by: by.clone() };
        self.append_locked(journal, run, vec![event], vec![Notice::Progress { run }]).await?;
        self.nudge(run);
        Ok(())
    }

    /// What a person knows about a step whose outcome is unknown.
    pub async fn resolve(&self, run: RunId, by: &Actor, resolution: Resolution) -> Result<(), ActError> {
        let journal = self.0.journal.lock().await;
        let Phase::Unknown { step, .. } = journal.state(run)?.phase else {
            return Err(ActError::NotNow { run, why: "has no step whose outcome is unknown".to_owned() });
        };
        let event = Event::Resolved { step, by: by.clone(), resolution };
        let state = self.append_locked(journal, run, vec![event], vec![Notice::Progress { run }]).await?;
        self.audit(&state, "resolved", Some(by)).await;
        self.nudge(run);
        Ok(())
    }

    pub async fn abandon(&self, run: RunId, by: &Actor, reason: String) -> Result<(), ActError> {
        let journal = self.0.journal.lock().await;
        let state = journal.state(run)?;
        if self.live(run).step.is_some() {
            return Err(ActError::NotNow {
                run,
                why: format!("has a step under way: `cancel {run}` it, and abandon it if that fails"),
            });
        }
        let event = Event::Abandoned { by: by.clone(), reason: self.clean(reason) };
        let state = self.append_locked(journal, run, vec![event], vec![own_message(&state)]).await?;
        self.audit(&state, "abandoned", Some(by)).await;
        self.nudge_waiting().await;
        Ok(())
    }

    /// An answer to the question that a run waits for.
    pub async fn answer(&self, run: RunId, by: &Actor, answer: String) -> Result<(), ActError> {
        let journal = self.0.journal.lock().await;
        let Phase::Waiting { step, pause: Pause::Answer { .. }, .. } = journal.state(run)?.phase else {
            return Err(ActError::NotNow { run, why: "waits for no answer".to_owned() });
        };
        let event = Event::Answered { step, by: by.clone(), answer: self.clean(answer) };
        self.append_locked(journal, run, vec![event], vec![Notice::Progress { run }]).await?;
        self.nudge(run);
        Ok(())
    }

    /// The approval message was deleted: ask again under a new one.
    pub async fn replace_card(&self, run: RunId) -> Result<(), ActError> {
        let journal = self.0.journal.lock().await;
        let event = Event::CardReplaced { card: random_id().into() };
        self.append_locked(journal, run, vec![event], vec![Notice::Card { run }]).await?;
        Ok(())
    }

    pub async fn lock(&self, mut lock: ManualLock) -> Result<(), ActError> {
        lock.reason = self.clean(lock.reason);
        self.0.journal.lock().await.put_lock(lock)?;
        Ok(self.0.parts.store.sync().await?)
    }

    /// The lock that was taken away, if there was one.
    pub async fn unlock(&self, name: &LockName) -> Result<Option<ManualLock>, ActError> {
        let removed = self.0.journal.lock().await.remove_lock(name)?;
        self.0.parts.store.sync().await?;
        self.nudge_waiting().await;
        Ok(removed)
    }

    /// Says something of its own, once, in order with what runs say.
    pub async fn say(&self, post: Post) -> Result<(), ActError> {
        let last = self.0.journal.lock().await.say(Notice::Say { post }, Batch::new())?;
        self.0.parts.store.sync().await?;
        self.announce(last);
        Ok(())
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

    /// Newest first.
    pub fn list(&self, most: usize) -> Result<Vec<Header>, ActError> {
        Ok(headers(&self.0.parts.store).take(most).collect::<Result<_, _>>()?)
    }

    pub fn events(&self, run: RunId) -> Result<Vec<super::event::Recorded>, ActError> {
        Ok(read_log(&self.0.parts.store, run)?)
    }

    pub async fn held(&self) -> Vec<Held> {
        self.0.journal.lock().await.held()
    }

    pub async fn manual_locks(&self) -> Vec<ManualLock> {
        self.0.journal.lock().await.manual_locks().to_vec()
    }

    pub fn live(&self, run: RunId) -> LiveStatus {
        self.live_map()
            .get(&run)
            .map(|live| LiveStatus { step: live.performing, line: live.status.clone() })
            .unwrap_or_default()
    }

    pub fn transcripts(&self) -> &Transcripts {
        &self.0.parts.transcripts
    }

    /// Which run's appearance may have changed; lossy for slow listeners.
    pub fn subscribe(&self) -> broadcast::Receiver<RunId> {
        self.0.changed.subscribe()
    }

    /// Returns when there may be something new in the outbox.
    pub async fn outbox_changed(&self) {
        self.0.outbox_changed.notified().await;
    }

    /// Whether a notice is on the device, and may be said.
    pub fn may_say(&self, notice: u64) -> bool {
        notice <= self.0.durable_notices.load(Ordering::SeqCst)
    }

    // ----- how it moves ---------------------------------------------------------------------------

    /// Looks at a run again, soon, once.
    fn nudge(&self, run: RunId) {
        let mut live = self.live_map();
        let entry = live.entry(run).or_default();
        if entry.driving {
            entry.again = true;
            return;
        }
        if self.0.shutdown.is_cancelled() {
            return;
        }
        entry.driving = true;
        drop(live);
        let engine = self.clone();
        self.0.tasks.spawn(async move { engine.drive(run).await });
    }

    /// Looks again at everything that waits for a lock.
    async fn nudge_waiting(&self) {
        let mut waiting: Vec<(Timestamp, RunId)> = self
            .0
            .journal
            .lock()
            .await
            .open_runs()
            .filter(|run| run.wants_locks())
            .map(|run| (run.ready_at, run.id))
            .collect();
        waiting.sort();
        for (_, run) in waiting {
            self.nudge(run);
        }
    }

    /// Moves a run as far as it goes without the outside.
    async fn drive(&self, run: RunId) {
        loop {
            let rest = self.step_once(run).await;
            let mut live = self.live_map();
            let Some(entry) = live.get_mut(&run) else { return };
            let stop = self.0.shutdown.is_cancelled();
            if stop || (rest && !entry.again) {
                entry.driving = false;
                if rest && entry.performing.is_none() && !stop {
                    entry.status = None;
                }
                return;
            }
            entry.again = false;
        }
    }

    /// One decision and its act. Returns whether the run rests now.
    async fn step_once(&self, run: RunId) -> bool {
        let state = match self.state(run).await {
            Ok(state) => state,
            Err(error) => {
                tracing::error!(run.id = %run, "{run} cannot be read: {error}");
                return true;
            }
        };
        if state.wants_locks() {
            return self.try_start(&state).await;
        }
        let decision = next(&state, self.now());
        match decision {
            Next::Rest | Next::Sleep(_) => return true,
            Next::Expire => {
                self.append(run, vec![Event::Expired], vec![Notice::Card { run }]).await;
            }
            Next::Step { .. } | Next::Recover { .. } | Next::Undo { .. } => {
                // Decided only for runs that hold their locks.
                let Some(locks) = LockProof::of(&state) else { return true };
                match decision {
                    Next::Step { step, attempt } => self.perform(&state, step, attempt, &locks).await,
                    Next::Recover { step, attempt } => self.recover(&state, step, attempt, &locks).await,
                    Next::Undo { step, attempt } => self.undo(&state, step, attempt, &locks).await,
                    _ => {}
                }
            }
            Next::ScheduleRetry { step, at } => {
                self.append(run, vec![Event::RetryAt { step, at }], Vec::new()).await;
            }
            Next::Pause { step } => {
                let notices = vec![Notice::Progress { run }, Notice::question(run, state.next_seq)];
                self.append(run, vec![Event::Paused { step }], notices).await;
            }
            Next::EndWait { step } => {
                self.append(run, vec![Event::WaitEnded { step }], Vec::new()).await;
            }
            Next::Stuck => {
                let notices = vec![Notice::Progress { run }, Notice::question(run, state.next_seq)];
                self.append(run, vec![Event::Stuck], notices).await;
            }
            Next::Finish(outcome) => self.finish(&state, outcome).await,
        }
        false
    }

    /// Takes the locks, or says who has them; looks whether the world is still what was approved.
    async fn try_start(&self, state: &RunState) -> bool {
        let run = state.id;
        if let Some(behind) = self.in_the_way(state).await {
            if !matches!(&state.phase, Phase::Queued { behind: known } if *known == behind) {
                self.append(run, vec![Event::Queued { behind }], vec![Notice::Progress { run }]).await;
            }
            return true;
        }
        // Reads only, so it may happen before the locks are held; a change between here and the start is
        // caught by the engine's own compare-and-set.
        let differences = self.drift(state).await;
        match differences {
            Err(error) => {
                tracing::warn!(run.id = %run, "{run} cannot be compared with the world: {error}");
                let differences = vec![Change {
                    what: "the world cannot be looked at".into(),
                    from: None,
                    to: Some(self.clean(error.message)),
                }];
                self.append(run, vec![Event::Voided { differences }], vec![own_message(state)]).await;
                return false;
            }
            Ok(differences) if !differences.is_empty() => {
                self.append(run, vec![Event::Voided { differences }], vec![own_message(state)]).await;
                return false;
            }
            Ok(_) => {}
        }
        let journal = self.0.journal.lock().await;
        let Ok(state) = journal.state(run) else { return true };
        if !state.wants_locks() || blocked_by(&journal, &state).is_some() {
            return !state.wants_locks();
        }
        let mut notices = vec![Notice::Progress { run }];
        if state.plan.approval.is_some() {
            notices.insert(0, Notice::Card { run });
        }
        if let Err(error) = self.append_locked(journal, run, vec![Event::Started], notices).await {
            tracing::error!(run.id = %run, "{run} cannot be started: {error}");
            tokio::time::sleep(WRITE_RETRY).await;
        }
        false
    }

    async fn in_the_way(&self, state: &RunState) -> Option<Vec<String>> {
        let journal = self.0.journal.lock().await;
        blocked_by(&journal, state)
    }

    /// What is not as the plan saw it. An approval is for exactly what was seen.
    async fn drift(&self, state: &RunState) -> Result<Vec<Change>, StepError> {
        let mut differences = Vec::new();
        if state.plan.config_revision != self.0.parts.config_revision {
            differences.push(Change {
                what: "configuration revision".to_owned(),
                from: Some(state.plan.config_revision.short().to_owned()),
                to: Some(self.0.parts.config_revision.short().to_owned()),
            });
        }
        for (index, step) in state.plan.steps.iter().enumerate() {
            let kind = self.kind(&step.kind)?;
            let context = self.context(state, index, CancellationToken::new());
            let now = kind.preview(&context, &step.params).await?;
            let names = step.preview.observed.keys().chain(now.observed.keys());
            let mut names: Vec<&String> = names.collect();
            names.sort();
            names.dedup();
            for name in names {
                let (was, is) = (step.preview.observed.get(name), now.observed.get(name));
                if was != is {
                    let subject = step.service.as_ref().map(|s| format!("{s}: ")).unwrap_or_default();
                    differences.push(Change {
                        what: format!("{subject}{name}"),
                        from: was.cloned(),
                        to: is.cloned(),
                    });
                }
            }
        }
        Ok(differences)
    }

    async fn perform(&self, state: &RunState, step: usize, attempt: u32, _locks: &LockProof) {
        let run = state.id;
        let planned = &state.plan.steps[step];
        let kind = match self.kind(&planned.kind) {
            Ok(kind) => kind,
            Err(error) => {
                self.append(
                    run,
                    vec![started(run, step, attempt), Event::StepFailed { step, error }],
                    Vec::new(),
                )
                .await;
                return;
            }
        };
        if let Some(pause) = kind.pause(&planned.params) {
            let (until, notices) = match &pause {
                Pause::For(time) => (self.now().checked_add(*time).ok(), Vec::new()),
                Pause::Answer { .. } => {
                    (None, vec![Notice::Progress { run }, Notice::question(run, state.next_seq)])
                }
            };
            self.append(run, vec![Event::StepWaiting { step, pause, until }], notices).await;
            return;
        }
        if self.append(run, vec![started(run, step, attempt)], Vec::new()).await.is_none() {
            return;
        }
        let cancel = self.begin(run, step, state.cancel.is_some());
        let context = self.context(state, step, cancel.clone());
        self.0
            .parts
            .transcripts
            .line(run, &format!("── {} ({}), attempt {attempt}", planned.title, planned.id));
        let limit = planned.timeout.unwrap_or(self.0.parts.step_timeout);
        let result = self.bounded(kind.run(&context, &planned.params), limit, &cancel).await;
        self.end(run);
        let event = match result {
            Ok(output) => Event::StepSucceeded {
                step,
                output: self.0.parts.redactor.redact_json(&output),
                adopted: false,
            },
            Err(error) => Event::StepFailed { step, error: self.redact(error) },
        };
        if let Event::StepFailed { error, .. } = &event {
            self.0.parts.transcripts.line(run, &format!("failed: {}", error.message));
            if let Some(detail) = &error.detail {
                tracing::warn!(run.id = %run, step.kind = %planned.kind, "{run} {}: {detail}", planned.id);
            }
        }
        self.append(run, vec![event], Vec::new()).await;
    }

    /// A step that an earlier process started.
    async fn recover(&self, state: &RunState, step: usize, attempt: u32, locks: &LockProof) {
        let run = state.id;
        let planned = &state.plan.steps[step];
        let kind = match self.kind(&planned.kind) {
            Ok(kind) => kind,
            Err(error) => {
                self.append(run, vec![Event::OutcomeUnknown { step, why: error.message }], unknown(state))
                    .await;
                return;
            }
        };
        let unknown_event = |why: String| vec![Event::OutcomeUnknown { step, why }];
        match after_crash(kind.repeat(&planned.params)) {
            AfterCrash::RunAgain => self.perform(state, step, attempt + 1, locks).await,
            AfterCrash::AskAPerson => {
                let why = "Houston was stopped while it ran, and cannot look whether it happened".to_owned();
                self.append(run, unknown_event(why), unknown(state)).await;
            }
            AfterCrash::Probe => {
                let cancel = self.begin(run, step, state.cancel.is_some());
                let context = self.context(state, step, cancel);
                let probed = AssertUnwindSafe(kind.probe(&context, &planned.params)).catch_unwind().await;
                self.end(run);
                match probed {
                    Ok(Ok(Probed::Happened(output))) => {
                        let output = self.0.parts.redactor.redact_json(&output);
                        self.append(
                            run,
                            vec![Event::StepSucceeded { step, output, adopted: true }],
                            Vec::new(),
                        )
                        .await;
                    }
                    Ok(Ok(Probed::DidNotHappen | Probed::UnderWay)) => {
                        self.perform(state, step, attempt + 1, locks).await;
                    }
                    Ok(Ok(Probed::Unknown(why))) => {
                        self.append(run, unknown_event(why), unknown(state)).await;
                    }
                    // It can be looked at later: the world cannot be reached now.
                    Ok(Err(error)) if error.transient => {
                        tracing::warn!(run.id = %run, "{run} cannot look at step {step} yet: {error}");
                        tokio::select! {
                            () = self.0.parts.clock.sleep(Duration::from_secs(5)) => {}
                            () = self.0.shutdown.cancelled() => {}
                        }
                    }
                    Ok(Err(error)) => {
                        self.append(run, unknown_event(error.message), unknown(state)).await;
                    }
                    Err(_) => {
                        let why = "looking whether it happened failed; this is a bug in Houston".to_owned();
                        self.append(run, unknown_event(why), unknown(state)).await;
                    }
                }
            }
        }
    }

    async fn undo(&self, state: &RunState, step: usize, attempt: u32, _locks: &LockProof) {
        let run = state.id;
        let planned = &state.plan.steps[step];
        if self
            .append(run, vec![Event::UndoStarted { step, attempt }], vec![Notice::Progress { run }])
            .await
            .is_none()
        {
            return;
        }
        let output = match &state.steps[step].state {
            StepState::Succeeded { output } => Some(output.clone()),
            StepState::Undoing { output, .. } | StepState::UndoFailed { output, .. } => output.clone(),
            _ => None,
        };
        if attempt > 1 {
            let backoff = Duration::from_secs(1 << (attempt - 2).min(5));
            self.0.parts.clock.sleep(backoff).await;
        }
        // An undo is not cancelled: it is what a cancel asks for.
        let cancel = CancellationToken::new();
        let context = self.context(state, step, cancel.clone());
        self.0
            .parts
            .transcripts
            .line(run, &format!("── undo {} ({}), attempt {attempt}", planned.title, planned.id));
        let limit = planned.timeout.unwrap_or(self.0.parts.step_timeout);
        let result = match &planned.undo {
            PlannedUndo::NotNeeded | PlannedUndo::Impossible => Ok(()),
            PlannedUndo::ByKind => match self.kind(&planned.kind) {
                Ok(kind) => {
                    self.bounded(kind.undo(&context, &planned.params, output.as_ref()), limit, &cancel).await
                }
                Err(error) => Err(error),
            },
            PlannedUndo::Step { kind, params } => match self.kind(kind) {
                Ok(kind) => self.bounded(kind.run(&context, params), limit, &cancel).await.map(|_| ()),
                Err(error) => Err(error),
            },
        };
        let event = match result {
            Ok(()) => Event::UndoSucceeded { step },
            Err(error) => Event::UndoFailed { step, error: self.redact(error) },
        };
        self.append(run, vec![event], Vec::new()).await;
    }

    async fn finish(&self, state: &RunState, outcome: Outcome) {
        let run = state.id;
        let now = self.now();
        let mut batch = Batch::new();
        releases::record(state, outcome, now, &mut batch);
        let notices = vec![Notice::Progress { run }, Notice::result(run)];
        let Some(state) = self.append_with(run, vec![Event::Finished { outcome }], notices, batch).await
        else {
            return;
        };
        self.audit(&state, outcome.word(), None).await;
        tracing::info!(run.id = %run, "{run} `{}` {}", state.plan.command, outcome.word());
        self.0.parts.transcripts.line(run, &format!("── {}", outcome.word()));
        self.0.parts.transcripts.close(run);
        self.nudge_waiting().await;
    }

    /// Runs `work` for at most `limit`; then, or when it panics, says so. After the limit the step is asked
    /// to end and given a grace to say what is so.
    async fn bounded<T>(
        &self,
        work: impl Future<Output = Result<T, StepError>>,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<T, StepError> {
        let work = AssertUnwindSafe(work).catch_unwind();
        tokio::pin!(work);
        let bug = |_| StepError::new("the step failed unexpectedly; this is a bug in Houston").with_effects();
        let timed_out = || format!("it took longer than {}", crate::text::duration(limit));
        tokio::select! {
            done = &mut work => return done.map_err(bug).flatten(),
            () = self.0.parts.clock.sleep(limit) => cancel.cancel(),
        }
        match tokio::time::timeout(GRACE, work).await {
            Ok(Ok(Ok(done))) => Ok(done),
            Ok(Ok(Err(mut error))) => {
                error.message = format!("{} ({})", timed_out(), error.message);
                error.cancelled = false;
                Err(error)
            }
            Ok(Err(panic)) => Err(bug(panic)),
            Err(_) => Err(StepError::new(timed_out()).with_effects()),
        }
    }

    fn context(&self, state: &RunState, step: usize, cancel: CancellationToken) -> StepContext {
        let parts = &self.0.parts;
        let planned = &state.plan.steps[step];
        StepContext {
            world: Arc::clone(&parts.world),
            environment: state.plan.environment.clone(),
            service: planned.service.clone(),
            clock: parts.clock.clone(),
            redactor: parts.redactor.clone(),
            cancel,
            progress: Arc::new(Reporter { engine: self.clone(), run: state.id }),
            token: EffectToken::new(state.id, step),
            outputs: Arc::new(state.outputs()),
            planned: planned.preview.clone(),
        }
    }

    fn kind(&self, name: &str) -> Result<Arc<dyn crate::playbook::steps::StepKind>, StepError> {
        self.0.parts.kinds.get(name).cloned().ok_or_else(|| {
            StepError::new(format!("this version of Houston knows no step kind `{name}`"))
                .hint("the run was planned by another version: start that one, or abandon the run")
        })
    }

    fn begin(&self, run: RunId, step: usize, cancelled: bool) -> CancellationToken {
        let mut live = self.live_map();
        let entry = live.entry(run).or_default();
        entry.performing = Some(step);
        entry.cancel = CancellationToken::new();
        if cancelled {
            entry.cancel.cancel();
        }
        entry.cancel.clone()
    }

    fn end(&self, run: RunId) {
        if let Some(entry) = self.live_map().get_mut(&run) {
            entry.performing = None;
            entry.status = None;
        }
    }

    /// What people type is kept, too, and may hold a secret that Houston knows.
    fn clean(&self, text: String) -> String {
        self.0.parts.redactor.redact(&text).into_owned()
    }

    fn redact(&self, mut error: StepError) -> StepError {
        let redactor = &self.0.parts.redactor;
        let clean = |text: Option<String>| text.map(|text| redactor.redact(&text).into_owned());
        error.message = redactor.redact(&error.message).into_owned();
        error.hint = clean(error.hint);
        error.tail = clean(error.tail);
        error.detail = clean(error.detail);
        error
    }

    // ----- writing --------------------------------------------------------------------------------

    /// Appends for the executor: tries until the store takes it. `None` when the events cannot follow
    /// what stands (somebody else moved the run meanwhile), or on shutdown.
    async fn append(&self, run: RunId, events: Vec<Event>, notices: Vec<Notice>) -> Option<RunState> {
        self.append_with(run, events, notices, Batch::new()).await
    }

    async fn append_with(
        &self,
        run: RunId,
        events: Vec<Event>,
        notices: Vec<Notice>,
        mut with: Batch,
    ) -> Option<RunState> {
        loop {
            let mut journal = self.0.journal.lock().await;
            let result =
                journal.append(run, events.clone(), notices.clone(), std::mem::take(&mut with), self.now());
            drop(journal);
            let error = match result {
                Ok((state, last)) => match self.settle(&state, last).await {
                    Ok(()) => return Some(state),
                    // Applied but perhaps not durable: nothing may follow before it is.
                    Err(error) => {
                        tracing::error!(run.id = %run, "the journal cannot be synced, {run} waits: {error}");
                        loop {
                            tokio::time::sleep(WRITE_RETRY).await;
                            if self.0.shutdown.is_cancelled() {
                                return None;
                            }
                            if self.settle(&state, last).await.is_ok() {
                                return Some(state);
                            }
                        }
                    }
                },
                Err(JournalError::Illegal(illegal)) => {
                    tracing::debug!(run.id = %run, "{illegal}");
                    return None;
                }
                Err(error) => error,
            };
            tracing::error!(run.id = %run, "the journal cannot be written, {run} waits: {error}");
            if self.0.shutdown.is_cancelled() {
                return None;
            }
            tokio::time::sleep(WRITE_RETRY).await;
        }
    }

    /// Appends for a person: fails at once.
    async fn append_locked(
        &self,
        mut journal: tokio::sync::MutexGuard<'_, Journal>,
        run: RunId,
        events: Vec<Event>,
        notices: Vec<Notice>,
    ) -> Result<RunState, ActError> {
        let (state, last) = journal.append(run, events, notices, Batch::new(), self.now())?;
        drop(journal);
        self.settle(&state, last).await?;
        Ok(state)
    }

    /// Makes it durable, then tells whoever waits.
    async fn settle(&self, state: &RunState, last_notice: u64) -> Result<(), StoreError> {
        self.0.parts.store.sync().await?;
        self.announce(last_notice);
        self.schedule(state);
        let _ = self.0.changed.send(state.id);
        Ok(())
    }

    fn announce(&self, last_notice: u64) {
        self.0.durable_notices.fetch_max(last_notice, Ordering::SeqCst);
        self.0.outbox_changed.notify_one();
    }

    // ----- waking ---------------------------------------------------------------------------------

    fn schedule(&self, state: &RunState) {
        let at = match next(state, Timestamp::MIN) {
            Next::Sleep(at) => Some(at),
            _ => None,
        };
        let mut wakes = self.0.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match at {
            Some(at) => wakes.insert(state.id, at) != Some(at),
            None => wakes.remove(&state.id).is_some(),
        };
        drop(wakes);
        if changed {
            self.0.wake_changed.notify_one();
        }
    }

    async fn wake_loop(&self) {
        loop {
            let first = {
                let wakes = self.0.wakes.lock().unwrap_or_else(PoisonError::into_inner);
                wakes.values().min().copied()
            };
            let sleep = async {
                match first {
                    Some(at) => self.0.parts.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.0.shutdown.cancelled() => return,
                () = self.0.wake_changed.notified() => continue,
                () = sleep => {}
            }
            let now = self.now();
            let due: Vec<RunId> = {
                let mut wakes = self.0.wakes.lock().unwrap_or_else(PoisonError::into_inner);
                let due = wakes.iter().filter(|(_, at)| **at <= now).map(|(run, _)| *run).collect::<Vec<_>>();
                for run in &due {
                    wakes.remove(run);
                }
                due
            };
            for run in due {
                self.nudge(run);
            }
        }
    }

    // ----- small things ---------------------------------------------------------------------------

    fn now(&self) -> Timestamp {
        self.0.parts.clock.now()
    }

    fn live_map(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Live>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An act or its result, in the audit log. What cannot be written is an error of its own, loudly; the
    /// journal has it all the same.
    async fn audit(&self, state: &RunState, what: &str, by: Option<&Actor>) {
        let who = |actor: &Actor| audit::Who { id: actor.id.clone(), name: actor.username.clone() };
        let targets: Vec<String> = state.plan.locks.iter().map(ToString::to_string).collect();
        let approval = match &state.decision {
            Some(Decision::Approved { by, .. }) => {
                Some(audit::Approval { by: by.iter().map(who).collect(), digest: state.digest.clone() })
            }
            _ => None,
        };
        let result = match state.outcome() {
            Some(Outcome::Failed) => {
                let error = state.steps.iter().find_map(|step| step.error.as_ref());
                Some(error.map_or_else(|| "failed".to_owned(), |error| format!("failed: {}", error.message)))
            }
            outcome => outcome.map(|outcome| outcome.word().to_owned()),
        };
        let event = audit::Event {
            who: who(by.unwrap_or(&state.by)),
            action: what.to_owned(),
            command: state.plan.command.clone(),
            target: (!targets.is_empty()).then(|| targets.join(" ")),
            run: Some(state.id),
            approval,
            result,
        };
        if let Err(error) = self.0.parts.audit.append(&self.0.parts.clock, event).await {
            tracing::error!(run.id = %state.id, "the audit log cannot be written: {error}");
        }
    }
}

/// Where a run that has not started shows itself.
fn own_message(state: &RunState) -> Notice {
    if state.started_at.is_none() && state.plan.approval.is_some() {
        Notice::Card { run: state.id }
    } else {
        Notice::Progress { run: state.id }
    }
}

fn started(run: RunId, step: usize, attempt: u32) -> Event {
    Event::StepStarted { step, attempt, token: EffectToken::new(run, step) }
}

fn unknown(state: &RunState) -> Vec<Notice> {
    vec![Notice::Progress { run: state.id }, Notice::question(state.id, state.next_seq)]
}

/// Who holds what `state` wants, for people; `None` when nothing is in the way.
fn blocked_by(journal: &Journal, state: &RunState) -> Option<Vec<String>> {
    let held: Vec<Held> = journal.held();
    let ahead = journal.ahead_of(state);
    let mut behind: Vec<String> = conflicts(&state.plan.locks, &held)
        .into_iter()
        .chain(conflicts(&state.plan.locks, &ahead))
        .map(|held| held.holder.queue_line())
        .collect();
    behind.dedup();
    (!behind.is_empty()).then_some(behind)
}

/// Progress of one run's step: the last line for the room, every line for the transcript.
struct Reporter {
    engine: Engine,
    run: RunId,
}

impl Progress for Reporter {
    fn status(&self, line: &str) {
        let line = self.engine.0.parts.redactor.redact(line).into_owned();
        self.engine.0.parts.transcripts.line(self.run, &line);
        if let Some(live) = self.engine.live_map().get_mut(&self.run) {
            live.status = Some(line);
        }
        let _ = self.engine.0.changed.send(self.run);
    }
    fn output(&self, line: &str) {
        self.engine.0.parts.transcripts.line(self.run, line);
    }
}

/// What message of a run a reaction or a reply is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMessage {
    Card,
    Progress,
}

impl Engine {
    /// The run that a message belongs to, among those that are not done.
    pub async fn run_of_message(&self, message: &MessageId) -> Option<(RunId, RunMessage)> {
        let journal = self.0.journal.lock().await;
        journal.open_runs().find_map(|run| {
            if &run.card == message {
                Some((run.id, RunMessage::Card))
            } else if &run.progress == message {
                Some((run.id, RunMessage::Progress))
            } else {
                None
            }
        })
    }

    /// Whether a step's output could be used for a check: the last output of a step by its id.
    pub async fn output(&self, run: RunId, step: &str) -> Option<Json> {
        self.state(run).await.ok()?.outputs().get(step).cloned()
    }
}
