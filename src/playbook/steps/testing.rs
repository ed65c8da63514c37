//! A world for the step kinds' own tests: scripted, nothing outside this process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::{Progress, StepContext, StepError, World};
use crate::clock::Clock;
use crate::exec::{Command, Detached, ExecError, Exit, Follow, Host, Runner, Standing, Stream};
use crate::ids::{EffectToken, EnvName, RunId, ServiceName};
use crate::playbook::model::Preview;
use crate::secret::Redactor;

#[derive(Default)]
pub(super) struct Scripted {
    /// What the runner answers, in order.
    pub exits: Mutex<VecDeque<Result<Exit, ExecError>>>,
    /// What it was asked to run.
    pub commands: Mutex<Vec<Command>>,
    /// (room, text, token)
    pub notices: Mutex<Vec<(String, String, String)>>,
}

struct ScriptedRunner(Arc<Scripted>);

impl Runner for ScriptedRunner {
    fn name(&self) -> String {
        "node1 (deploy@10.0.0.2)".into()
    }
    fn typed(&self, command: &Command) -> String {
        format!("ssh -l deploy 10.0.0.2 -- {}", crate::text::shell_words(&command.words()))
    }
    fn run<'a>(
        &'a self,
        command: &'a Command,
        on_line: &'a (dyn Fn(Stream, &str) + Send + Sync),
        _cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Exit, ExecError>> {
        Box::pin(async move {
            self.0.commands.lock().expect("not poisoned").push(command.clone());
            on_line(Stream::Out, "one line of secret-word");
            self.0.exits.lock().expect("not poisoned").pop_front().expect("a scripted exit")
        })
    }
}

impl Host for ScriptedRunner {
    fn follow<'a>(
        &'a self,
        job: &'a Detached<'a>,
        follow: &'a dyn Follow,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Exit, ExecError>> {
        Box::pin(async move { self.run(job.command, &|_, line| follow.line(line), cancel).await })
    }
    fn standing<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Standing, ExecError>> {
        Box::pin(async { Ok(Standing::Absent) })
    }
    fn clear<'a>(&'a self, _: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}

pub(super) struct TestWorld(pub Arc<Scripted>);

impl World for TestWorld {
    fn swarm(&self, _: &EnvName) -> Result<Arc<crate::providers::swarm::Swarm>, StepError> {
        Err(StepError::new("no Swarm in this test"))
    }
    fn service(
        &self,
        _: &EnvName,
        _: &ServiceName,
    ) -> Result<crate::config::environment::Service, StepError> {
        Err(StepError::new("no services in this test"))
    }
    fn host(&self, _: &EnvName, _: &str, _: &EffectToken) -> Result<Arc<dyn Host>, StepError> {
        Ok(Arc::new(ScriptedRunner(self.0.clone())))
    }
    fn notify<'a>(
        &'a self,
        room: &'a str,
        text: &'a str,
        token: &'a EffectToken,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        self.0.notices.lock().expect("not poisoned").push((room.into(), text.into(), token.to_string()));
        Box::pin(async { Ok(()) })
    }
    fn http(&self) -> reqwest::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().no_proxy().build().expect("a client")
    }
}

#[derive(Default)]
pub(super) struct Lines(pub Mutex<Vec<String>>);

impl Progress for Lines {
    fn status(&self, line: &str) {
        self.0.lock().expect("not poisoned").push(line.to_owned());
    }
    fn output(&self, line: &str) {
        self.0.lock().expect("not poisoned").push(line.to_owned());
    }
}

pub(super) fn context(script: &Arc<Scripted>, lines: &Arc<Lines>) -> StepContext {
    let redactor = Redactor::new();
    redactor.learn("secret-word");
    StepContext {
        world: Arc::new(TestWorld(script.clone())),
        environment: Some("prod".into()),
        service: Some("web".into()),
        clock: Clock::system(),
        redactor,
        cancel: CancellationToken::new(),
        progress: lines.clone(),
        token: EffectToken::new(RunId(7), &"card".into(), 2),
        earlier: super::Earlier::default(),
        outputs: Arc::new(BTreeMap::new()),
        planned: Preview::default(),
    }
}
