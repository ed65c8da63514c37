//! Step kinds: one file each, one line each in [`registry`]. A kind says which parameters it takes, what
//! a repeat of it means, looks at the world for the plan, performs the step, and undoes it.
//!
//! Must not: know what a run is, or talk to chat. What it needs comes in a [`StepContext`].

mod ask;
mod hetzner_create;
mod hetzner_firewall;
mod hetzner_server;
mod hetzner_snapshot;
mod http_check;
mod notify;
mod params;
pub mod restic;
mod ssh;
mod swarm_change;
mod swarm_service;
mod swarm_stack;
mod swarm_wait;
#[cfg(test)]
mod testing;
mod wait;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ids::{EffectToken, EnvName, ServiceName};
use crate::playbook::model::Preview;
use crate::secret::Redactor;

/// A parameter of a step kind: `check` refuses others, `docs steps` prints them.
#[derive(Clone, Copy, Debug)]
pub struct ParamSpec {
    pub name: &'static str,
    pub kind: ParamKind,
    pub required: bool,
    /// A sentence, with unit and default.
    pub doc: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    Text,
    Integer,
    Boolean,
    /// `10s`, `5m`
    Duration,
    /// A list of strings: argv, never a shell string.
    Argv,
    /// One of these words.
    Enum(&'static [&'static str]),
    /// Any mapping.
    Map,
}

/// What a repeat of a step means; decides what recovery may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    /// Only reads: run again.
    Safe,
    /// Ends in the same state: run again.
    Idempotent,
    /// Probe for its effect token first, adopt what is found.
    Keyed,
    /// Never again by itself: a person is asked.
    Once,
}

/// Whether a failed step may have left something behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effects {
    None,
    Possible,
}

/// Why a step failed. Whether it is worth another attempt is a type, not a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// For the room: what happened, to what.
    pub message: String,
    /// What to do next, for the room.
    pub hint: Option<String>,
    /// For the log only.
    pub detail: Option<String>,
    /// The last lines of what failed (a task's log, a command's output), for the room; redacted.
    pub tail: Option<String>,
    pub transient: bool,
    pub effects: Effects,
    /// The step was stopped because it was asked to.
    pub cancelled: bool,
    /// What was put there does not work: a verdict on the version, not on the way to it.
    #[serde(default)]
    pub unfit: bool,
    /// What was started may still be going on: another attempt takes it up, and starts nothing beside it.
    #[serde(default)]
    pub under_way: bool,
}

impl StepError {
    /// Terminal, with nothing left behind.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            detail: None,
            tail: None,
            transient: false,
            effects: Effects::None,
            cancelled: false,
            unfit: false,
            under_way: false,
        }
    }
    #[must_use]
    pub fn unfit(mut self) -> Self {
        self.unfit = true;
        self
    }
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    #[must_use]
    pub fn tail(mut self, tail: impl Into<String>) -> Self {
        self.tail = Some(tail.into());
        self
    }
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.transient = true;
        self
    }
    #[must_use]
    pub fn with_effects(mut self) -> Self {
        self.effects = Effects::Possible;
        self
    }
    #[must_use]
    pub fn under_way(mut self) -> Self {
        self.under_way = true;
        self
    }
    #[must_use]
    pub fn cancelled(mut self) -> Self {
        self.cancelled = true;
        self
    }
}

/// What a probe found out about a step whose outcome was not recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Probed {
    /// It happened; this is its output.
    Happened(Json),
    /// It did not; run it.
    DidNotHappen,
    /// It is under way: run it, which will attach to it. What is so, for people, in a few words without an end:
    /// `the update of `web` that I started is still running on the cluster`.
    UnderWay(String),
    /// Nobody can tell: ask a person, with this text.
    Unknown(String),
}

/// What a person types into a shell where Houston cannot go on. Exact, and without a round trip: it is wanted most
/// when the outside does not answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByHand {
    /// Shows what is so; changes nothing.
    pub look: Vec<String>,
    /// Does what the step does.
    pub act: Vec<String>,
    /// Reverses it.
    pub undo: Vec<String>,
}

/// Where a step tells what it is doing. Best effort: lines may be coalesced on their way to chat, none is
/// lost on its way to the transcript.
pub trait Progress: Send + Sync {
    /// The present state in one line, replacing the last one: `2 of 3 tasks are running 1.8`.
    fn status(&self, line: &str);
    /// A line of output, for the transcript.
    fn output(&self, line: &str);
    /// Everything before this byte of the output was handed on: where to go on after a crash.
    fn followed(&self, _bytes: u64) {}
}

/// What a step is given.
#[derive(Clone)]
pub struct StepContext {
    pub world: Arc<dyn World>,
    pub environment: Option<EnvName>,
    pub service: Option<ServiceName>,
    pub clock: Clock,
    pub redactor: Redactor,
    /// Set when people cancel; a step that can be interrupted ends soon after, saying what is so now.
    pub cancel: CancellationToken,
    pub progress: Arc<dyn Progress>,
    /// Put where the outside can show it again.
    pub token: EffectToken,
    pub earlier: Earlier,
    /// Outputs of the steps before, by step id.
    pub outputs: Arc<BTreeMap<String, Json>>,
    /// This step's preview as the plan pinned it.
    pub planned: Preview,
}

impl StepContext {
    /// For whoever only looks, outside of any run.
    pub fn to_look(
        world: Arc<dyn World>,
        environment: Option<EnvName>,
        service: Option<ServiceName>,
        clock: Clock,
        redactor: Redactor,
    ) -> Self {
        struct Silent;
        impl Progress for Silent {
            fn status(&self, _line: &str) {}
            fn output(&self, _line: &str) {}
        }
        Self {
            world,
            environment,
            service,
            clock,
            redactor,
            cancel: CancellationToken::new(),
            progress: Arc::new(Silent),
            token: EffectToken::new(crate::ids::RunId(0), &crate::ids::MessageId::from("plan"), 0),
            earlier: Earlier::default(),
            outputs: Arc::default(),
            planned: Preview::default(),
        }
    }
}

/// What is known of attempts before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// How many have come to their end, and failed.
    pub ended: u32,
    /// One was begun whose end nobody saw: what it started may be there, or still come about.
    pub open: bool,
    /// What [`Progress::followed`] was told last, of this attempt.
    pub followed: u64,
}

/// The outside as steps may reach it. Implemented by `app` over the configuration and the providers.
pub trait World: Send + Sync {
    /// The Swarm of an environment.
    fn swarm(&self, environment: &EnvName) -> Result<Arc<crate::providers::swarm::Swarm>, StepError>;
    /// What the environment's file declares of a service.
    fn service(
        &self,
        environment: &EnvName,
        service: &ServiceName,
    ) -> Result<crate::config::environment::Service, StepError>;
    /// What the environment's file declares of backups.
    fn backups(&self, environment: &EnvName) -> Result<crate::config::environment::Backups, StepError> {
        Err(StepError::new(format!("`{environment}` declares no backups")))
    }
    /// The value of a secret, which is redacted from then on.
    fn secret<'a>(
        &'a self,
        reference: &'a crate::secret::SecretRef,
    ) -> BoxFuture<'a, Result<crate::secret::Secret, StepError>> {
        Box::pin(async move { Err(StepError::new(format!("there is no secret from {reference} here"))) })
    }
    /// A runner for commands on a host of an environment. Of a temporary one each run has its own: `token` says which
    /// run asks.
    fn host(
        &self,
        environment: &EnvName,
        host: &str,
        token: &EffectToken,
    ) -> Result<Arc<dyn crate::exec::Host>, StepError>;
    /// What the environment's file says of a temporary host.
    fn temporary(
        &self,
        environment: &EnvName,
        host: &str,
    ) -> Result<crate::config::environment::Temporary, StepError> {
        Err(StepError::new(format!("`{environment}` has no temporary host `{host}`")))
    }
    /// Where servers are rented.
    fn hetzner(&self) -> Result<Arc<crate::providers::hetzner::Hetzner>, StepError> {
        Err(StepError::new("nothing is known about Hetzner"))
    }
    /// Posts a message into a room (by name or id), once per `token`.
    fn notify<'a>(
        &'a self,
        room: &'a str,
        text: &'a str,
        token: &'a EffectToken,
    ) -> BoxFuture<'a, Result<(), StepError>>;
    /// The shared HTTP client: no redirects to other hosts, 10 s timeout.
    fn http(&self) -> reqwest::Client;
}

/// Every step kind of this build, by its word in playbooks.
pub type Kinds = Arc<BTreeMap<&'static str, Arc<dyn StepKind>>>;

/// The code that performs a step.
pub trait StepKind: Send + Sync {
    /// The word in playbooks: `swarm_service`.
    fn name(&self) -> &'static str;
    /// One sentence for `docs steps`.
    fn doc(&self) -> &'static str;
    fn params(&self) -> &'static [ParamSpec];
    fn repeat(&self, params: &Json) -> Repeat;
    /// How a step with these parameters is undone when the playbook does not say.
    fn undo_mode(&self, params: &Json) -> UndoMode;
    /// Whether an empty preview means that there is nothing to do. Kinds that act whenever they are run
    /// (a command on a host) say no.
    fn declarative(&self) -> bool {
        false
    }
    /// What it needs the right to change, where that is not the service of its turn, or all of the environment.
    fn locks(&self, _environment: &EnvName, _params: &Json) -> Vec<crate::playbook::model::LockName> {
        Vec::new()
    }
    /// For people, in the plan: `update web to 1.8`.
    fn title(&self, params: &Json) -> String;
    /// All that would be run, as lines for a shell, where the title leaves something out: whoever approves the plan
    /// can read it.
    fn whole(&self, _params: &Json) -> Option<String> {
        None
    }
    /// Checks that the schema cannot express; called by `check` with templates still in place where a
    /// value is one.
    fn check(&self, _params: &Json) -> Vec<String> {
        Vec::new()
    }
    /// A step that only waits costs nothing while it does: the executor journals what it waits for and
    /// does not call [`StepKind::run`]. `params` are final.
    fn pause(&self, _params: &Json) -> Option<Pause> {
        None
    }
    /// Looks at the world: what would change, and what the plan rests on. Reads only.
    fn preview<'a>(
        &'a self,
        context: &'a StepContext,
        params: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>>;
    /// Performs the step; returns its output, which later steps and the undo can read.
    fn run<'a>(
        &'a self,
        context: &'a StepContext,
        params: &'a Json,
    ) -> BoxFuture<'a, Result<Json, StepError>>;
    /// For `Keyed` kinds, after a crash between intent and outcome.
    fn probe<'a>(
        &'a self,
        _context: &'a StepContext,
        _params: &'a Json,
    ) -> BoxFuture<'a, Result<Probed, StepError>> {
        Box::pin(async { Ok(Probed::Unknown("this step kind cannot look whether it happened".into())) })
    }
    /// How a person does this, or sees whether it was done; nothing where there is nothing to type. `output` as for
    /// [`StepKind::undo`].
    fn by_hand(&self, _context: &StepContext, _params: &Json, _output: Option<&Json>) -> ByHand {
        ByHand::default()
    }
    /// Whether what [`StepKind::run`] started goes on without Houston, and is found again: then nobody waits for
    /// it when Houston stops.
    fn outlives(&self, _params: &Json) -> bool {
        false
    }
    /// The outcome is durable: what was kept outside to find the step by can go. Best effort.
    fn forget<'a>(&'a self, _context: &'a StepContext, _params: &'a Json) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
    /// Reverses the step. Idempotent. `output` is absent when the step failed with possible effects.
    fn undo<'a>(
        &'a self,
        _context: &'a StepContext,
        _params: &'a Json,
        _output: Option<&'a Json>,
    ) -> BoxFuture<'a, Result<Undid, StepError>> {
        Box::pin(async { Ok(Undid::Something) })
    }
}

/// What an undo came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undid {
    Something,
    /// It has looked, and everything was as before the step.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndoMode {
    /// [`StepKind::undo`] does it.
    ByKind,
    /// It only reads or tells.
    NotNeeded,
    /// Said in the plan, before approval.
    Impossible,
}

/// Every step kind by its word. Make it once and keep it: what a probe finds under way is remembered here
/// for the run that follows.
pub fn registry() -> BTreeMap<&'static str, Arc<dyn StepKind>> {
    let kinds: [Arc<dyn StepKind>; 11] = [
        Arc::new(ask::Ask),
        Arc::new(hetzner_firewall::HetznerFirewall),
        Arc::new(hetzner_server::HetznerServer),
        Arc::new(hetzner_snapshot::HetznerSnapshot),
        Arc::new(http_check::HttpCheck),
        Arc::new(notify::Notify),
        Arc::new(restic::Restic),
        Arc::new(ssh::Ssh),
        Arc::new(swarm_service::SwarmService::default()),
        Arc::new(swarm_stack::SwarmStack::default()),
        Arc::new(wait::Wait),
    ];
    kinds.into_iter().map(|kind| (kind.name(), kind)).collect()
}

/// What a step waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// Time. The output is `null`.
    For(std::time::Duration),
    /// A person's answer in the run's thread. The output is `{"answer": …, "by": …}`.
    Answer {
        question: String,
        /// Empty: any text.
        choices: Vec<String>,
        /// Who may answer; empty: whoever may run the command.
        from: Vec<crate::ids::RoleName>,
        /// Answers after which the run goes no further.
        #[serde(default)]
        stop: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_registered_under_its_word_and_documented() {
        let kinds = registry();
        let words: Vec<_> = kinds.keys().copied().collect();
        let expected = [
            "ask",
            "hetzner_firewall",
            "hetzner_server",
            "hetzner_snapshot",
            "http_check",
            "notify",
            "restic",
            "ssh",
            "swarm_service",
            "swarm_stack",
            "wait",
        ];
        assert_eq!(words, expected);
        for (word, kind) in kinds {
            assert_eq!(kind.name(), word);
            assert!(kind.doc().ends_with('.'), "{word}");
            assert!(kind.params().iter().all(|p| !p.doc.is_empty()), "{word}");
        }
    }

    #[test]
    fn waiting_steps_pause_instead_of_running() {
        let kinds = registry();
        let pause = kinds["wait"].pause(&serde_json::json!({ "for": "5m" }));
        assert_eq!(pause, Some(Pause::For(std::time::Duration::from_secs(300))));
        let pause = kinds["ask"].pause(&serde_json::json!({
            "question": "which?", "choices": ["a", "b"], "from": ["lead"], "stop": ["b"],
        }));
        let Some(Pause::Answer { question, choices, from, stop }) = pause else { panic!("it asks") };
        assert_eq!((question.as_str(), choices.len()), ("which?", 2));
        assert_eq!(stop, ["b"]);
        assert_eq!(from, ["lead".into()]);
    }

    #[test]
    fn swarm_service_says_what_its_parameters_contradict() {
        let kind = &registry()["swarm_service"];
        let check = |params| kind.check(&params).len();
        assert_eq!(check(serde_json::json!({ "action": "scale", "service": "web" })), 1);
        assert_eq!(check(serde_json::json!({ "action": "update", "service": "web", "replicas": 2 })), 1);
        assert_eq!(check(serde_json::json!({ "action": "update", "service": "web", "version": "1" })), 0);
        let title =
            kind.title(&serde_json::json!({ "action": "update", "service": "web", "version": "1.8" }));
        assert_eq!(title, "update `web` to `1.8`");
    }
}
