//! A bench for the run engine: a scripted world that counts effects and survives the engine, step kinds of
//! every repeat class, a clock that stands still, and a state folder that engines come and go on.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::{Value as Json, json};

use houston::approvals::{Choice, Via, Vote};
use houston::audit::Audit;
use houston::clock::Clock;
use houston::digest::Digest;
use houston::gateway::events::{Actor, Room, RoomKind};
use houston::ids::{RoleName, RunId, ServiceName};
use houston::metrics::Metrics;
use houston::playbook::model::{
    AfterRetries, ApprovalGroup, ApprovalPolicy, Basis, LockName, OnFailure, Plan, PlannedStep, PlannedUndo,
    Preview, Retry, StepApproval,
};
use houston::playbook::steps::{
    Kinds, ParamSpec, Probed, Repeat, StepContext, StepError, StepKind, Undid, UndoMode, World, registry,
};
use houston::runs::event::Origin;
use houston::runs::outbox::{self, Notice};
use houston::runs::state::{Phase, RunState};
use houston::runs::transcripts::Transcripts;
use houston::runs::{About, Engine, Footing, NewRun, Parts};
use houston::secret::Redactor;
use houston::store::{Batch, Store, SyncPoint};

/// What a scripted step does, in this order, once each; without a script it succeeds.
#[derive(Clone, Debug)]
pub enum Act {
    Fail(StepError),
    /// Has its effect, and then fails.
    FailAfter(StepError),
    Panic,
    /// Until it is cancelled; then says that it was.
    Hang,
    /// For ever, whatever it is asked.
    HangDeaf,
    /// Until it is told that it may; then it has its effect.
    Until(Arc<tokio::sync::Notify>),
}

/// The outside. Clones are worlds of their own: what the world was at some moment.
#[derive(Clone, Default, Debug, PartialEq)]
pub struct Facts {
    /// What stands in the world, and how often it was put there without being taken away.
    pub stands: BTreeMap<String, u32>,
    /// Which token put it there.
    pub tokens: BTreeMap<String, String>,
    /// Every message that was ever said: kind and id.
    pub said: BTreeMap<(String, String), u32>,
}

#[derive(Default)]
pub struct Site {
    facts: Mutex<Facts>,
    script: Mutex<BTreeMap<String, VecDeque<Act>>>,
    /// What previews observe.
    pub observed: Mutex<BTreeMap<String, String>>,
    /// Answers of probes; without one the world is looked at.
    pub probes: Mutex<VecDeque<Result<Probed, StepError>>>,
    pub previews: Mutex<VecDeque<Act>>,
    /// Every act in order: `run a`, `undo a`, `probe a`.
    pub log: Mutex<Vec<String>>,
}

impl Site {
    pub fn of(facts: Facts) -> Arc<Self> {
        Arc::new(Self { facts: Mutex::new(facts), ..Self::default() })
    }
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }
    /// `name` or `undo name`.
    pub fn script(&self, what: &str, acts: impl IntoIterator<Item = Act>) {
        self.script.lock().unwrap().entry(what.to_owned()).or_default().extend(acts);
    }
    pub fn count(&self, what: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| *line == what).count()
    }
    fn note(&self, what: String) {
        self.log.lock().unwrap().push(what);
    }
    async fn play(
        &self,
        what: &str,
        cancel: &tokio_util::sync::CancellationToken,
        effect: impl Fn(),
    ) -> Result<(), StepError> {
        self.note(what.to_owned());
        let act = self.script.lock().unwrap().get_mut(what).and_then(VecDeque::pop_front);
        match act {
            None => {
                effect();
                Ok(())
            }
            Some(Act::Fail(error)) => Err(error),
            Some(Act::FailAfter(error)) => {
                effect();
                Err(error)
            }
            Some(Act::Panic) => panic!("scripted"),
            Some(Act::Hang) => {
                cancel.cancelled().await;
                Err(StepError::new("stopped").with_effects().cancelled())
            }
            Some(Act::HangDeaf) => std::future::pending().await,
            Some(Act::Until(told)) => {
                told.notified().await;
                effect();
                Ok(())
            }
        }
    }
}

/// A step kind over the [`Site`]. What a real kind says of itself can be borrowed for it.
struct Fake {
    name: &'static str,
    repeat: Repeat,
    real: Option<Arc<dyn StepKind>>,
    site: Arc<Site>,
}

impl Fake {
    /// What it puts into the world: its `name`, or all that it was told.
    fn subject(&self, context: &StepContext, params: &Json) -> String {
        match params.get("name").and_then(Json::as_str) {
            Some(name) => name.to_owned(),
            None => {
                format!("{} {}", self.name, context.token.as_str().rsplit('-').next().unwrap_or_default())
            }
        }
    }
}

impl StepKind for Fake {
    fn name(&self) -> &'static str {
        self.name
    }
    fn doc(&self) -> &'static str {
        "A kind for tests."
    }
    fn params(&self) -> &'static [ParamSpec] {
        self.real.as_ref().map_or(&[], |real| real.params())
    }
    fn repeat(&self, params: &Json) -> Repeat {
        self.real.as_ref().map_or(self.repeat, |real| real.repeat(params))
    }
    fn undo_mode(&self, params: &Json) -> UndoMode {
        self.real.as_ref().map_or(UndoMode::ByKind, |real| real.undo_mode(params))
    }
    fn declarative(&self) -> bool {
        false
    }
    fn title(&self, params: &Json) -> String {
        format!("{} {params}", self.name)
    }
    fn pause(&self, params: &Json) -> Option<houston::playbook::steps::Pause> {
        self.real.as_ref().and_then(|real| real.pause(params))
    }
    fn preview<'a>(&'a self, _: &'a StepContext, _: &'a Json) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async {
            let act = self.site.previews.lock().unwrap().pop_front();
            match act {
                None => {
                    Ok(Preview { observed: self.site.observed.lock().unwrap().clone(), ..Preview::default() })
                }
                Some(Act::Fail(error) | Act::FailAfter(error)) => Err(error),
                Some(Act::Panic) => panic!("scripted"),
                Some(Act::Hang | Act::HangDeaf | Act::Until(_)) => std::future::pending().await,
            }
        })
    }
    fn run<'a>(
        &'a self,
        context: &'a StepContext,
        params: &'a Json,
    ) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async move {
            let subject = self.subject(context, params);
            let repeat = self.repeat(params);
            let token = context.token.as_str().to_owned();
            let effect = || {
                let mut facts = self.site.facts();
                match repeat {
                    Repeat::Safe => {}
                    Repeat::Idempotent => {
                        facts.stands.insert(subject.clone(), 1);
                    }
                    Repeat::Keyed | Repeat::Once => {
                        *facts.stands.entry(subject.clone()).or_default() += 1;
                        facts.tokens.insert(subject.clone(), token.clone());
                    }
                }
            };
            self.site.play(&format!("run {subject}"), &context.cancel, effect).await?;
            Ok(json!({ "name": subject }))
        })
    }
    fn probe<'a>(
        &'a self,
        context: &'a StepContext,
        params: &'a Json,
    ) -> BoxFuture<'a, Result<Probed, StepError>> {
        Box::pin(async move {
            let subject = self.subject(context, params);
            self.site.note(format!("probe {subject}"));
            if let Some(answer) = self.site.probes.lock().unwrap().pop_front() {
                return answer;
            }
            let facts = self.site.facts();
            Ok(if facts.tokens.get(&subject).is_some_and(|token| token == context.token.as_str()) {
                Probed::Happened(json!({ "name": subject }))
            } else {
                Probed::DidNotHappen
            })
        })
    }
    fn undo<'a>(
        &'a self,
        context: &'a StepContext,
        params: &'a Json,
        _output: Option<&'a Json>,
    ) -> BoxFuture<'a, Result<Undid, StepError>> {
        Box::pin(async move {
            let subject = self.subject(context, params);
            let effect = || {
                let mut facts = self.site.facts();
                facts.stands.remove(&subject);
                facts.tokens.remove(&subject);
            };
            self.site
                .play(&format!("undo {subject}"), &context.cancel, effect)
                .await
                .map(|()| Undid::Something)
        })
    }
}

/// Steps reach the world through their fakes; nothing else is there.
pub fn world() -> Arc<dyn World> {
    Arc::new(crate::support::nowhere::Nowhere)
}

/// `safe`, `idem`, `keyed`, `once`, the two that wait, and the real ones of playbooks with nothing behind.
pub fn kinds(site: &Arc<Site>) -> Kinds {
    let mut kinds: BTreeMap<&'static str, Arc<dyn StepKind>> = BTreeMap::new();
    for (name, real) in registry() {
        let fake = Fake { name, repeat: Repeat::Safe, real: Some(real), site: site.clone() };
        kinds.insert(name, Arc::new(fake));
    }
    for (name, repeat) in [
        ("safe", Repeat::Safe),
        ("idem", Repeat::Idempotent),
        ("keyed", Repeat::Keyed),
        ("once", Repeat::Once),
    ] {
        kinds.insert(name, Arc::new(Fake { name, repeat, real: None, site: site.clone() }));
    }
    Arc::new(kinds)
}

/// One engine on a state folder.
pub struct Bench {
    pub engine: Engine,
    pub store: Store,
    pub clock: Clock,
    pub site: Arc<Site>,
}

pub type Hook = Arc<dyn Fn(SyncPoint) + Send + Sync>;

impl Bench {
    pub fn open(dir: &Path, clock: &Clock, site: &Arc<Site>) -> Self {
        Self::open_hooked(dir, clock, site, Arc::new(|_| {}))
    }

    pub fn open_hooked(dir: &Path, clock: &Clock, site: &Arc<Site>, hook: Hook) -> Self {
        let store = Store::open_watched(&dir.join("journal"), move |point| hook(point)).expect("opens");
        let redactor = Redactor::new();
        let engine = Engine::open(Parts {
            metrics: Metrics::new(0.0),
            store: store.clone(),
            clock: clock.clone(),
            redactor: redactor.clone(),
            kinds: kinds(site),
            audit: Audit::open(dir, clock, redactor.clone()).expect("opens"),
            transcripts: Transcripts::new(dir.join("transcripts"), redactor),
            lease: houston::lease::Lease::unused(),
            footing: Box::new(|| Footing {
                world: world(),
                basis: Arc::new(|_| Basis::default()),
                consent: Arc::new(|_| None),
                step_timeout: Duration::from_secs(600),
                maintenance: Arc::new(|_, _| Vec::new()),
                needs_maintenance: Arc::new(|_, _| false),
                freezes: Arc::new(|_, _| Vec::new()),
            }),
        })
        .expect("the journal is read");
        Self { engine, store, clock: clock.clone(), site: site.clone() }
    }

    /// A new folder and a clock at the epoch.
    pub async fn new() -> (tempfile::TempDir, Self) {
        let dir = tempfile::tempdir().expect("a folder");
        let bench = Self::open(dir.path(), &Clock::manual(Timestamp::UNIX_EPOCH), &Arc::default());
        bench.engine.start().await;
        (dir, bench)
    }

    /// An engine on a copy of the folder as it is now, not yet started; this one begins nothing more.
    pub async fn killed_here(&self, dir: &Path) -> (tempfile::TempDir, Self) {
        let copy = tempfile::tempdir().expect("a folder");
        self.store.sync().await.expect("syncs");
        copy_folder(dir, copy.path());
        self.engine.shutdown(Duration::ZERO).await;
        let next = Self::open(copy.path(), &self.clock, &self.site);
        (copy, next)
    }

    pub async fn create(&self, plan: Plan) -> RunId {
        self.try_create(plan).await.id
    }

    pub async fn try_create(&self, plan: Plan) -> RunState {
        let origin = Origin {
            room: Room { id: "room".into(), kind: RoomKind::Public, name: Some("ops".into()) },
            thread: None,
            message: "message".into(),
            schedule: None,
        };
        self.engine
            .create(NewRun {
                plan,
                by: actor("alice"),
                origin,
                tell: Vec::new(),
                with: Batch::new(),
                fired: None,
            })
            .await
            .expect("creates")
    }

    pub async fn vote(&self, run: RunId, who: &str, choice: Choice) -> houston::runs::Voted {
        let about = About::Words { said_at: self.clock.now(), of: None };
        self.engine.vote(run, about, vote(who, choice), None).await.expect("the journal takes it")
    }

    /// Waits until `done` holds of the run. The clock is moved only by the test.
    pub async fn until(&self, run: RunId, what: &str, done: impl Fn(&RunState) -> bool) -> RunState {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let state = self.engine.state(run).await.expect("the run is there");
            if done(&state) {
                return state;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{run} is not {what}: {:?} {:?}",
                state.phase,
                state.steps
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub async fn done(&self, run: RunId) -> RunState {
        self.until(run, "done", RunState::is_done).await
    }

    /// Like [`Bench::done`], moving the clock whenever nothing else moves the run.
    pub async fn done_in_time(&self, run: RunId) -> RunState {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let state = self.engine.state(run).await.expect("the run is there");
            if state.is_done()
                || matches!(
                    state.phase,
                    Phase::Unknown { .. } | Phase::Stuck | Phase::Deciding { .. } | Phase::Asking { .. }
                )
            {
                return state;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{run} does not end: {:?} {:?}",
                state.phase,
                state.steps
            );
            self.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the site has seen `what`.
    pub async fn seen(&self, what: &str, times: usize) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while self.site.count(what) < times {
            assert!(
                tokio::time::Instant::now() < deadline,
                "not seen {times} times: {what}: {:?}",
                self.site.log
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Says what waits in the outbox, as the chat side does.
    pub async fn say(&self) {
        for entry in outbox::waiting(&self.store).expect("reads") {
            if !self.engine.may_say(entry.id) {
                break;
            }
            let state = |run: RunId| async move { self.engine.state(run).await.expect("the run is there") };
            let (kind, id) = match &entry.notice {
                Notice::StepCard { run, ask } => {
                    ("step card", state(*run).await.asks[*ask].ballot.card.clone())
                }
                Notice::Card { run } => ("card", state(*run).await.consent.card),
                Notice::Progress { run } => ("progress", state(*run).await.progress),
                Notice::Report { id, .. } => ("report", id.clone()),
                Notice::Result { id, .. } => ("result", id.clone()),
                Notice::Question { id, .. } => ("question", id.clone()),
                Notice::Undecided { id, .. } => ("undecided", id.clone()),
                Notice::Void { id, .. } => ("void", id.clone()),
                Notice::Expired { id, .. } => ("expired", id.clone()),
                Notice::Denied { id, .. } => ("denied", id.clone()),
                Notice::Whole { id, .. } => ("whole", id.clone()),
                Notice::AskWhyDenied { id, .. } => ("why", id.clone()),
                Notice::BreakGlass { id, .. } | Notice::BreakGlassTo { id, .. } => {
                    ("break-glass", id.clone())
                }
                Notice::Steal { id, .. } => ("steal", id.clone()),
                Notice::ReviewReminder { id, .. } => ("review", id.clone()),
                Notice::Maintenance { id, .. } => ("maintenance", id.clone()),
                Notice::Schedule { id, .. } => ("schedule", id.clone()),
                Notice::Say { post } => ("post", post.id.clone()),
            };
            *self.site.facts().said.entry((kind.to_owned(), id.to_string())).or_default() += 1;
            outbox::delivered(&self.store, &entry).expect("writes");
        }
    }

    /// Sequences without gaps, the log folds to what is in memory, and nothing is kept of what is over.
    pub async fn nothing_left(&self) {
        assert_eq!(self.engine.held().await, [], "no lock is left");
        for header in self.engine.list(usize::MAX).expect("reads") {
            let log = self.engine.events(header.run).expect("reads");
            assert!(
                log.iter().enumerate().all(|(i, record)| record.seq as usize == i),
                "no gap in {}",
                header.run
            );
            let folded = RunState::fold(&log).expect("is legal").expect("is there");
            assert_eq!(folded, self.engine.state(header.run).await.expect("is there"));
            assert_eq!(folded.phase.word(), header.state, "the header was written with the event");
        }
    }
}

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    let mut entries: Vec<_> = std::fs::read_dir(from).expect("reads").flatten().collect();
    // The audit log last: what it was told is taken off the store's list afterwards, and the other way round an
    // entry would be in neither copy.
    entries.sort_by_key(|entry| entry.file_name().to_string_lossy().starts_with("audit"));
    for entry in entries {
        let target = to.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => copy_folder(&entry.path(), &target),
            // A file that sled has taken away meanwhile belongs to no state that matters.
            Ok(kind) if kind.is_file() => drop(std::fs::copy(entry.path(), target)),
            _ => {}
        }
    }
}

pub fn actor(name: &str) -> Actor {
    Actor { id: name.into(), username: name.to_owned() }
}

pub fn vote(who: &str, choice: Choice) -> Vote {
    Vote {
        by: actor(who),
        choice,
        via: Via::Command,
        roles: if who == "eve" { Vec::new() } else { vec![RoleName::from("lead")] },
        at: Timestamp::UNIX_EPOCH,
    }
}

pub fn step(kind: &str, name: &str) -> PlannedStep {
    PlannedStep {
        id: name.into(),
        kind: kind.to_owned(),
        title: format!("{kind} {name}"),
        params: json!({ "name": name }),
        preview: Preview::default(),
        undo: if kind == "safe" { PlannedUndo::NotNeeded } else { PlannedUndo::ByKind },
        retry: Retry::default(),
        timeout: None,
        service: Some(ServiceName::from(name)),
        approval: None,
        whole: None,
    }
}

/// One lead has to consent when the run has come to it, within half an hour.
pub fn asking(step: PlannedStep) -> PlannedStep {
    let policy = approved_by(1, plan(Vec::new())).approval.expect("a policy");
    let approval = StepApproval { policy, not_approver: false, otherwise: AfterRetries::Fail };
    PlannedStep { approval: Some(approval), ..step }
}

pub fn wait_step(seconds: u64) -> PlannedStep {
    PlannedStep {
        params: json!({ "for": format!("{seconds}s") }),
        undo: PlannedUndo::NotNeeded,
        ..step("wait", "pause")
    }
}

pub fn retry(attempts: u32, then: AfterRetries) -> Retry {
    Retry { attempts, backoff: Duration::from_secs(2), max_elapsed: None, then }
}

pub fn lock(name: &str) -> LockName {
    match name.split_once('/') {
        Some((env, service)) => LockName { environment: env.into(), service: Some(service.into()) },
        None => LockName { environment: name.into(), service: None },
    }
}

/// A plan that needs no approval and undoes what it did when it fails.
pub fn plan(steps: Vec<PlannedStep>) -> Plan {
    let mut locks: Vec<LockName> = steps
        .iter()
        .filter_map(|step| {
            Some(LockName { environment: "prod".into(), service: Some(step.service.clone()?) })
        })
        .collect();
    locks.dedup();
    Plan {
        command: "deploy prod".to_owned(),
        command_name: "deploy".to_owned(),
        playbook: "deploy".to_owned(),
        playbook_digest: Digest::of(b"playbook"),
        basis: Basis::default(),
        environment: Some("prod".into()),
        locks,
        steps,
        on_failure: OnFailure::Undo,
        approval: None,
        reason: None,
        report: None,
        break_glass: None,
        standing: None,
    }
}

pub fn approved_by(count: u32, mut plan: Plan) -> Plan {
    plan.approval = Some(ApprovalPolicy {
        escalate: None,
        any_of: vec![vec![ApprovalGroup { count, from: vec!["lead".into()] }]],
        not_requester: true,
        expires: Duration::from_secs(1800),
        reason_required: false,
        rule: "built-in".to_owned(),
    });
    plan
}
