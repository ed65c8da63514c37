//! `swarm_service`: brings a service to a version, changes how many of its tasks run, or returns it to an
//! earlier release.
//!
//! Must not: decide which release was healthy; the version comes as a parameter.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use serde_json::Value as Json;

use super::swarm_change::{Done, Target};
use super::{
    ByHand, ParamKind, ParamSpec, Probed, Repeat, StepContext, StepError, StepKind, Undid, UndoMode, params,
    swarm_wait,
};
use crate::change::Change;
use crate::config::environment::Service as Declared;
use crate::ids::{EffectToken, EnvName, ServiceName};
use crate::playbook::model::Preview;
use crate::providers::swarm::{Service, Swarm, UpdateState, spec};
use crate::text::{self, code};

const ACTIONS: &[&str] = &["update", "scale", "rollback"];

const PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: "action",
        kind: ParamKind::Enum(ACTIONS),
        required: true,
        doc: "`update`: to the declaration in the environment file, at `version`, created when missing. \
              `scale`: to `replicas`. `rollback`: to an earlier release.",
    },
    ParamSpec {
        name: "service",
        kind: ParamKind::Text,
        required: true,
        doc: "The service's name in the environment file.",
    },
    ParamSpec {
        name: "version",
        kind: ParamKind::Text,
        required: false,
        doc: "Tag or `sha256:…`. Default for `update`: the declared one; for `rollback`: the one before.",
    },
    ParamSpec {
        name: "replicas",
        kind: ParamKind::Integer,
        required: false,
        doc: "For `scale`: how many tasks, within the declared minimum and maximum.",
    },
];

#[derive(Default)]
pub(super) struct SwarmService {
    /// Steps that a probe found under way: their run attaches instead of making the change.
    under_way: Mutex<HashSet<EffectToken>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Update { version: Option<String> },
    Scale { replicas: u64 },
    Rollback { version: Option<String> },
}

impl Action {
    fn read(given: &Json) -> Result<Self, StepError> {
        let version = params::text(given, "version").map(str::to_owned);
        match params::required(given, "action")? {
            "update" => Ok(Self::Update { version }),
            "rollback" => Ok(Self::Rollback { version }),
            "scale" => match params::integer(given, "replicas")? {
                Some(replicas) => Ok(Self::Scale { replicas }),
                None => Err(StepError::new("`scale` needs `replicas`")),
            },
            other => Err(StepError::new(format!("{} is no action of `swarm_service`", code(other)))
                .hint(format!("one of {}", text::or_list(ACTIONS)))),
        }
    }

    /// The spec that the service should have.
    fn desired(
        &self,
        declared: &Declared,
        current: Option<&Service>,
        networks: &[(String, String)],
    ) -> Result<Json, StepError> {
        let name = code(declared.name.as_str());
        let existing = || {
            current.ok_or_else(|| {
                StepError::new(format!("{name} does not run"))
                    .hint(format!("deploy it first; the Swarm has no service {}", code(&declared.swarm_name)))
            })
        };
        match self {
            Self::Update { version } => {
                let version = version.as_deref().unwrap_or(&declared.version);
                Ok(match current {
                    None => spec::create(declared, version),
                    Some(service) => {
                        let mut spec = service.spec.clone();
                        spec::declare(&mut spec, declared, version, networks);
                        spec
                    }
                })
            }
            Self::Scale { replicas } => {
                let limits = declared.replicas;
                if !(u64::from(limits.min)..=u64::from(limits.max)).contains(replicas) {
                    return Err(StepError::new(format!(
                        "{name} may have {} to {}, {replicas} is beyond that",
                        limits.min,
                        text::count(limits.max as usize, "task")
                    ))
                    .hint(format!("`replicas` at {} says so", declared.at)));
                }
                let service = existing()?;
                if service.replicas().is_none() {
                    return Err(StepError::new(format!("{name} is global: it has one task on every node")));
                }
                let mut spec = service.spec.clone();
                spec::set_replicas(&mut spec, *replicas);
                Ok(spec)
            }
            Self::Rollback { version } => {
                let service = existing()?;
                let previous = service.previous_spec.as_ref();
                let image = match version {
                    Some(version) => declared.image_with(version),
                    None => previous
                        .map(|p| spec::image(p).to_owned())
                        .filter(|image| image != service.image())
                        .ok_or_else(|| {
                            StepError::new(format!("the Swarm remembers no earlier release of {name}"))
                                .hint("name the version to go back to")
                        })?,
                };
                let same = |p: &&Json| spec::short_image(spec::image(p)) == spec::short_image(&image);
                let mut spec = match previous.filter(same) {
                    // The release as it was, with all of its settings.
                    Some(release) => release.clone(),
                    None => service.spec.clone(),
                };
                if !same(&&spec) {
                    spec::set_image(&mut spec, &image);
                }
                if let Some(replicas) = service.replicas() {
                    spec::set_replicas(&mut spec, replicas);
                }
                spec::set_label(&mut spec, spec::LABEL_VERSION, spec::version(&image));
                Ok(spec)
            }
        }
    }
}

/// What a step works on.
struct Subject {
    swarm: Arc<Swarm>,
    declared: Declared,
}

impl Subject {
    fn of(context: &StepContext, given: &Json) -> Result<Self, StepError> {
        let environment = environment(context)?;
        let service = match params::text(given, "service") {
            Some(name) => ServiceName::from(name),
            None => context.service.clone().ok_or_else(|| StepError::new("the step names no service"))?,
        };
        let declared = context.world.service(environment, &service)?;
        Ok(Self { swarm: context.world.swarm(environment)?, declared })
    }

    fn target<'a>(&'a self, context: &'a StepContext) -> Target<'a> {
        Target {
            context,
            swarm: &self.swarm,
            swarm_name: &self.declared.swarm_name,
            name: self.declared.name.as_str(),
            prefix: String::new(),
        }
    }
}

pub(super) fn environment(context: &StepContext) -> Result<&EnvName, StepError> {
    context.environment.as_ref().ok_or_else(|| StepError::new("the step is about no environment"))
}

/// Networks of the Swarm, if the declaration is about any. One that is missing is an error.
pub(super) async fn networks(swarm: &Swarm, declared: &Declared) -> Result<Vec<(String, String)>, StepError> {
    if declared.networks.is_empty() {
        return Ok(Vec::new());
    }
    let known = swarm.networks().await?;
    let missing = declared.networks.iter().find(|n| !known.iter().any(|(_, name)| name == *n));
    match missing {
        None => Ok(known),
        Some(missing) => Err(StepError::new(format!("the Swarm has no network {}", code(missing)))
            .hint("a step of kind `swarm_stack` makes networks that are missing")),
    }
}

impl SwarmService {
    fn found_under_way(&self, token: &EffectToken) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(token.clone());
    }
    fn was_under_way(&self, token: &EffectToken) -> bool {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(token)
    }
}

impl StepKind for SwarmService {
    fn name(&self) -> &'static str {
        "swarm_service"
    }
    fn doc(&self) -> &'static str {
        "Updates, scales or rolls back a Swarm service and waits for what really becomes of it."
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
        let service = code(params::text(given, "service").unwrap_or("the service"));
        let version = params::text(given, "version").map(code);
        match (params::text(given, "action"), version) {
            (Some("scale"), _) => {
                let replicas = params::integer(given, "replicas").ok().flatten();
                let count = replicas
                    .map_or_else(|| "another number of tasks".into(), |n| text::count(n as usize, "task"));
                format!("scale {service} to {count}")
            }
            (Some("rollback"), Some(version)) => format!("roll {service} back to {version}"),
            (Some("rollback"), None) => format!("roll {service} back to the release before"),
            (_, Some(version)) => format!("update {service} to {version}"),
            (_, None) => format!("update {service}"),
        }
    }

    fn check(&self, given: &Json) -> Vec<String> {
        let action = given.get("action").and_then(Json::as_str);
        let mut wrong = Vec::new();
        if action == Some("scale") && given.get("replicas").is_none() {
            wrong.push("`scale` needs `replicas`".to_owned());
        }
        if action == Some("scale") && given.get("version").is_some() {
            wrong.push("`version` means nothing to `scale`".to_owned());
        }
        if matches!(action, Some("update" | "rollback")) && given.get("replicas").is_some() {
            wrong.push("`replicas` means something to `scale` only".to_owned());
        }
        wrong
    }

    fn preview<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async move {
            let action = Action::read(given)?;
            let subject = Subject::of(context, given)?;
            let target = subject.target(context);
            let current = subject.swarm.service(target.swarm_name).await?;
            let networks = networks(&subject.swarm, &subject.declared).await?;
            let desired = action.desired(&subject.declared, current.as_ref(), &networks)?;
            let mut preview = Preview {
                changes: spec::changes(current.as_ref().map(|s| &s.spec), &desired, &networks),
                ..Preview::default()
            };
            target.observe(current.as_ref(), &mut preview);
            if let (Action::Rollback { .. }, Some(service)) = (&action, &current) {
                // The release that is gone back to is the engine's memory of it: part of what is approved.
                let remembered = service.previous_spec.as_ref().map(|spec| spec::digest(spec).to_string());
                preview.observed.insert("release before".to_owned(), remembered.unwrap_or_default());
            }
            match (&current, &action) {
                (None, _) => preview.notes.push("it does not exist yet and will be created".to_owned()),
                (Some(_), Action::Scale { .. }) => {}
                (Some(_), _) if preview.changes.is_empty() => {}
                (Some(_), _) => preview.notes.push(spec::update_note(&desired)),
            }
            if let (Some(service), Action::Rollback { .. }) = (&current, &action)
                && preview.changes.iter().any(|c| c.what != "image")
                && service.previous_spec.is_some()
            {
                preview.notes.push("the settings of that release come back with it".to_owned());
            }
            let state = current.as_ref().and_then(|s| s.update.as_ref()).map(|u| &u.state);
            // Sent again, the same spec makes Swarm go on: that is something to do.
            if let Some(paused @ (UpdateState::Paused | UpdateState::RollbackPaused)) = state
                && preview.changes.is_empty()
            {
                preview.changes.push(Change {
                    what: "update".to_owned(),
                    from: Some(paused.to_string()),
                    to: Some("resumed".to_owned()),
                });
            }
            if let Some(
                state @ (UpdateState::Updating
                | UpdateState::Paused
                | UpdateState::RollbackStarted
                | UpdateState::RollbackPaused),
            ) = state
            {
                preview.notes.push(format!("its last update has not ended: {state}"));
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
            let action = Action::read(given)?;
            let subject = Subject::of(context, given)?;
            if !subject.declared.networks.is_empty() {
                swarm_wait::look(context, &context.cancel, swarm_wait::NOBODY_THERE, || {
                    subject.swarm.networks()
                })
                .await?;
            }
            let networks = networks(&subject.swarm, &subject.declared).await?;
            let desired = |current: Option<&Service>| action.desired(&subject.declared, current, &networks);
            let attach = self.was_under_way(&context.token);
            let done = subject.target(context).carry_out(&desired, attach).await?;
            Ok(serde_json::to_value(done).expect("plain data"))
        })
    }

    fn probe<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Probed, StepError>> {
        Box::pin(async move {
            let subject = Subject::of(context, given)?;
            let probed = subject.target(context).probe().await?;
            if matches!(probed, Probed::UnderWay(_)) {
                self.found_under_way(&context.token);
            }
            Ok(probed)
        })
    }

    fn by_hand(&self, context: &StepContext, given: &Json, output: Option<&Json>) -> ByHand {
        let (Ok(action), Ok(subject)) = (Action::read(given), Subject::of(context, given)) else {
            return ByHand::default();
        };
        let done: Option<Done> = output.and_then(|o| serde_json::from_value(o.clone()).ok());
        let name = subject.declared.swarm_name.as_str();
        let target = subject.target(context);
        match action {
            Action::Update { version } => {
                let version = version.as_deref().unwrap_or(&subject.declared.version);
                target.by_hand(
                    done.as_ref(),
                    &["update", "--image", &subject.declared.image_with(version), name],
                )
            }
            Action::Scale { replicas } => {
                target.by_hand(done.as_ref(), &["scale", &format!("{name}={replicas}")])
            }
            Action::Rollback { version: Some(version) } => target
                .by_hand(done.as_ref(), &["update", "--image", &subject.declared.image_with(&version), name]),
            Action::Rollback { version: None } => target.by_hand(done.as_ref(), &["rollback", name]),
        }
    }

    fn undo<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
        output: Option<&'a Json>,
    ) -> BoxFuture<'a, Result<Undid, StepError>> {
        Box::pin(async move {
            let done: Option<Done> = output.and_then(|o| serde_json::from_value(o.clone()).ok());
            let environment = environment(context)?;
            // The recorded names count: the environment file may say something else by now.
            let (swarm_name, name) = match &done {
                Some(done) => (done.swarm_name.clone(), done.service.clone()),
                None => {
                    let declared = Subject::of(context, given)?.declared;
                    (declared.swarm_name, declared.name.to_string())
                }
            };
            let swarm = context.world.swarm(environment)?;
            let target = Target {
                context,
                swarm: &swarm,
                swarm_name: &swarm_name,
                name: &name,
                prefix: String::new(),
            };
            target.undo(done.as_ref()).await
        })
    }
}
