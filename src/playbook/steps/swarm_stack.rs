//! `swarm_stack`: brings all services of a stack to their declarations, in the order of their
//! dependencies, and makes the networks that they name.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};

use super::swarm_change::{Done, Target};
use super::swarm_service::environment;
use super::{
    ByHand, ParamKind, ParamSpec, Probed, Repeat, StepContext, StepError, StepKind, Undid, UndoMode, params,
    swarm_wait,
};
use crate::config::environment::Service as Declared;
use crate::ids::{EffectToken, ServiceName};
use crate::playbook::model::Preview;
use crate::providers::swarm::{Service, Swarm, spec};
use crate::text::{self, code};

/// By which Docker's own tools know a stack.
const NAMESPACE: &str = "com.docker.stack.namespace";

const PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: "name",
        kind: ParamKind::Text,
        required: true,
        doc: "The stack's name, put on its services and networks as a label.",
    },
    ParamSpec {
        name: "services",
        kind: ParamKind::Argv,
        required: true,
        doc: "Names of services in the environment file; one that another depends on comes first.",
    },
];

#[derive(Default)]
pub(super) struct SwarmStack {
    /// Steps that a probe found under way: their run attaches to what is there.
    under_way: Mutex<HashSet<EffectToken>>,
}

struct Subject {
    swarm: Arc<Swarm>,
    name: String,
    /// In the order of their dependencies.
    services: Vec<Declared>,
}

impl Subject {
    fn of(context: &StepContext, given: &Json) -> Result<Self, StepError> {
        let environment = environment(context)?;
        let name = params::required(given, "name")?.to_owned();
        let names = params::list(given, "services");
        let declared: Result<Vec<Declared>, StepError> = names
            .iter()
            .map(|n| context.world.service(environment, &ServiceName::from(n.as_str())))
            .collect();
        Ok(Self { swarm: context.world.swarm(environment)?, name, services: in_order(declared?)? })
    }

    fn target<'a>(&'a self, context: &'a StepContext, declared: &'a Declared) -> Target<'a> {
        Target {
            context,
            swarm: &self.swarm,
            swarm_name: &declared.swarm_name,
            name: declared.name.as_str(),
            prefix: format!("{}: ", declared.name),
        }
    }

    fn desired(&self, declared: &Declared, current: Option<&Service>, networks: &[(String, String)]) -> Json {
        let mut wanted = match current {
            None => spec::create(declared, &declared.version),
            Some(service) => {
                let mut wanted = service.spec.clone();
                spec::declare(&mut wanted, declared, &declared.version, networks);
                wanted
            }
        };
        spec::set_label(&mut wanted, NAMESPACE, &self.name);
        wanted
    }

    async fn missing_networks(&self) -> Result<Vec<String>, StepError> {
        let mut wanted: Vec<&String> = self.services.iter().flat_map(|s| &s.networks).collect();
        wanted.sort();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.swarm.networks().await?;
        Ok(wanted.into_iter().filter(|w| !known.iter().any(|(_, name)| name == *w)).cloned().collect())
    }

    async fn known_networks(&self) -> Result<Vec<(String, String)>, StepError> {
        if self.services.iter().all(|s| s.networks.is_empty()) {
            return Ok(Vec::new());
        }
        Ok(self.swarm.networks().await?)
    }
}

/// What a service depends on comes before it; else the order given. A circle is an error.
fn in_order(mut left: Vec<Declared>) -> Result<Vec<Declared>, StepError> {
    let mut ordered: Vec<Declared> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let waits =
            |s: &Declared| s.depends_on.iter().any(|d| left.iter().any(|l| &l.name == d && l.name != s.name));
        let Some(next) = left.iter().position(|s| !waits(s)) else {
            let names: Vec<&str> = left.iter().map(|s| s.name.as_str()).collect();
            return Err(StepError::new(format!("{} depend on each other", text::and_list(&names))));
        };
        ordered.push(left.remove(next));
    }
    Ok(ordered)
}

impl StepKind for SwarmStack {
    fn name(&self) -> &'static str {
        "swarm_stack"
    }
    fn doc(&self) -> &'static str {
        "Brings the services of a stack to their declarations, in the order of their dependencies; makes missing networks."
    }
    fn params(&self) -> &'static [ParamSpec] {
        PARAMS
    }
    fn repeat(&self, _params: &Json) -> Repeat {
        Repeat::Keyed
    }
    fn undo_mode(&self, _params: &Json) -> UndoMode {
        UndoMode::ByKind
    }
    fn declarative(&self) -> bool {
        true
    }
    fn title(&self, given: &Json) -> String {
        format!("bring stack {} to its declaration", code(params::text(given, "name").unwrap_or("?")))
    }
    fn check(&self, given: &Json) -> Vec<String> {
        let empty = given.get("services").and_then(Json::as_array).is_some_and(Vec::is_empty);
        if empty { vec!["`services` is empty".to_owned()] } else { Vec::new() }
    }

    fn preview<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async move {
            let subject = Subject::of(context, given)?;
            let mut preview = Preview::default();
            for network in subject.missing_networks().await? {
                preview.notes.push(format!("network {} will be created", code(&network)));
            }
            let networks = subject.known_networks().await?;
            for declared in &subject.services {
                let current = subject.swarm.service(&declared.swarm_name).await?;
                let wanted = subject.desired(declared, current.as_ref(), &networks);
                let changes = spec::changes(current.as_ref().map(|s| &s.spec), &wanted, &networks);
                preview.changes.extend(changes.into_iter().map(|mut change| {
                    change.what = format!("{}: {}", declared.name, change.what);
                    change
                }));
                if current.is_none() {
                    preview.notes.push(format!(
                        "{} does not exist yet and will be created",
                        code(declared.name.as_str())
                    ));
                }
                subject.target(context, declared).observe(current.as_ref(), &mut preview);
            }
            Ok(preview)
        })
    }

    fn run<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async move {
            let subject = Subject::of(context, given)?;
            let attach = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&context.token);
            swarm_wait::look(context, &context.cancel, swarm_wait::NOBODY_THERE, || subject.swarm.networks())
                .await?;
            for network in subject.missing_networks().await? {
                context.progress.status(&format!("creating network {}", code(&network)));
                subject.swarm.create_network(&network, &json!({ NAMESPACE: subject.name })).await?;
            }
            let networks = subject.known_networks().await?;
            let mut done = Vec::new();
            for declared in &subject.services {
                let desired = |current: Option<&Service>| Ok(subject.desired(declared, current, &networks));
                let target = subject.target(context, declared);
                let attach = attach && matches!(target.probe().await?, Probed::UnderWay(_));
                match target.carry_out(&desired, attach).await {
                    Ok(one) => done.push(one),
                    Err(error) if done.iter().any(|d: &Done| d.changed) => return Err(error.with_effects()),
                    Err(error) => return Err(error),
                }
            }
            Ok(json!({ "stack": subject.name, "services": done }))
        })
    }

    fn probe<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Probed, StepError>> {
        Box::pin(async move {
            let subject = Subject::of(context, given)?;
            let (mut begun, mut under_way) = (false, Vec::new());
            for declared in &subject.services {
                match subject.target(context, declared).probe().await? {
                    Probed::DidNotHappen => {}
                    Probed::Unknown(why) => return Ok(Probed::Unknown(why)),
                    Probed::Happened(_) => begun = true,
                    Probed::UnderWay(what) => {
                        begun = true;
                        under_way.push(what);
                    }
                }
            }
            if !begun {
                return Ok(Probed::DidNotHappen);
            }
            // Services that have their step's spec are not changed again, so running it all is attaching.
            self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(context.token.clone());
            Ok(Probed::UnderWay(match under_way.as_slice() {
                [] => "the services that I had begun are done, the rest follows".to_owned(),
                some => text::plain_and_list(some),
            }))
        })
    }

    fn by_hand(&self, context: &StepContext, given: &Json, output: Option<&Json>) -> ByHand {
        let Ok(subject) = Subject::of(context, given) else { return ByHand::default() };
        let recorded = output.and_then(|o| o.get("services")).cloned().unwrap_or_default();
        let done: Vec<Done> = serde_json::from_value(recorded).unwrap_or_default();
        let mut all = ByHand::default();
        for declared in &subject.services {
            let one = done.iter().find(|d| d.service == declared.name.as_str());
            let image = declared.image_with(&declared.version);
            let act = ["update", "--image", &image, &declared.swarm_name];
            let of_one = subject.target(context, declared).by_hand(one, &act);
            all.look.extend(of_one.look);
            all.act.extend(of_one.act);
            // In reverse, as the undo itself goes.
            all.undo.splice(0..0, of_one.undo);
        }
        all
    }

    /// Networks stay: an empty network harms nobody, and others may have joined it.
    fn undo<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
        output: Option<&'a Json>,
    ) -> BoxFuture<'a, Result<Undid, StepError>> {
        Box::pin(async move {
            let subject = Subject::of(context, given)?;
            let recorded = output.and_then(|o| o.get("services")).cloned().unwrap_or_default();
            let done: Vec<Done> = serde_json::from_value(recorded).unwrap_or_default();
            let mut failed: Option<StepError> = None;
            let mut undid = Undid::Nothing;
            for declared in subject.services.iter().rev() {
                let one = done.iter().find(|d| d.service == declared.name.as_str());
                // One that fails must not keep the others from being put back.
                match subject.target(context, declared).undo(one).await {
                    Ok(Undid::Nothing) => {}
                    Ok(Undid::Something) => undid = Undid::Something,
                    Err(error) => {
                        failed = Some(match failed {
                            None => error,
                            Some(first) => StepError {
                                message: format!("{}; {}", first.message, error.message),
                                ..first
                            },
                        });
                    }
                }
            }
            failed.map_or(Ok(undid), Err)
        })
    }
}
