//! From a playbook and bound inputs to a plan: expanded, rendered, looked at against the world. Reads only.
//!
//! Must not: change anything, or leave a template in a plan: what is pinned is final.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::model::{
    ApprovalPolicy, Basis, Each, LockName, Plan, PlannedStep, PlannedUndo, Playbook, StepEach, StepTemplate,
    UndoTemplate,
};
use super::steps::{Kinds, Repeat, StepContext, StepError, StepKind, UndoMode, World};
use super::template::{self, Scope, TemplateError};
use crate::clock::Clock;
use crate::config::environment::{Environment, Service};
use crate::ids::{ServiceName, StepId};
use crate::secret::Redactor;

/// What is to be planned.
pub struct Request<'a> {
    pub playbook: &'a Playbook,
    /// Canonical, as one would type it.
    pub command: String,
    pub command_name: String,
    pub environment: Option<&'a Environment>,
    /// The command's values by argument name; absent optional ones are left out.
    pub inputs: BTreeMap<String, Json>,
    pub requester: String,
    pub reason: Option<String>,
    pub approval: Option<ApprovalPolicy>,
}

/// What planning needs of the outside.
#[derive(Clone)]
pub struct Planner {
    pub kinds: Kinds,
    pub world: Arc<dyn World>,
    pub clock: Clock,
    pub redactor: Redactor,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub plan: Plan,
    /// Services that are as they should be already, with what they run.
    pub already: Vec<String>,
}

/// Why there is no plan; for the room.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    pub message: String,
    pub hint: Option<String>,
}

impl From<StepError> for PlanError {
    fn from(error: StepError) -> Self {
        Self { message: error.message, hint: error.hint }
    }
}
impl From<TemplateError> for PlanError {
    fn from(error: TemplateError) -> Self {
        Self { message: error.what, hint: error.hint }
    }
}

/// One expansion of the playbook's steps.
#[derive(Clone)]
struct Round<'a> {
    scope: Scope,
    service: Option<&'a Service>,
    version: Option<String>,
    /// Of a step that is done for each of several.
    source: Option<String>,
}

impl Planner {
    pub async fn plan(&self, request: Request<'_>) -> Result<Planned, PlanError> {
        let rounds = rounds(&request)?;
        let many = rounds.len() > 1;
        let mut steps: Vec<PlannedStep> = Vec::new();
        let mut already = Vec::new();
        for round in &rounds {
            let mut group = Vec::new();
            // An empty preview of every declarative step, and no other that acts: nothing to do. Where no
            // step declares anything, what was asked for is the reading, the asking or the telling itself.
            let (mut something_to_do, mut declares) = (false, false);
            for template in &request.playbook.steps {
                for (scope, source) in turns(&request, template, &round.scope)? {
                    if let Some(when) = &template.when
                        && !template::is_true(when, &scope)?
                    {
                        continue;
                    }
                    let turn = Round { scope, source, ..round.clone() };
                    let (step, acts) = self.step(&request, template, &turn, many).await?;
                    something_to_do |= acts;
                    declares |= self.kind(&template.kind)?.declarative();
                    group.push(step);
                }
            }
            if something_to_do || !declares {
                steps.extend(group);
            } else if let Some(service) = round.service {
                let version = round.version.as_deref().unwrap_or(&service.version);
                already.push(format!("{} is at {version}", service.name));
            }
        }
        let locks = self.locks(request.environment, &steps);
        let plan = Plan {
            command: request.command,
            command_name: request.command_name,
            playbook: request.playbook.name.clone(),
            playbook_digest: request.playbook.digest.clone(),
            // The caller knows the configuration.
            basis: Basis::default(),
            environment: request.environment.map(|environment| environment.name.clone()),
            locks,
            steps,
            on_failure: request.playbook.on_failure,
            approval: request.approval,
            reason: request.reason,
            report: request.playbook.report.clone(),
            // The caller knows who may.
            break_glass: None,
            standing: None,
        };
        Ok(Planned { plan, already })
    }

    /// One step, and whether it would change something.
    async fn step(
        &self,
        request: &Request<'_>,
        template: &StepTemplate,
        round: &Round<'_>,
        many: bool,
    ) -> Result<(PlannedStep, bool), PlanError> {
        let kind = self.kind(&template.kind)?;
        let params = template::render_params(&template.params, kind.params(), &round.scope)?;
        let id = match round.service {
            Some(service) if many => StepId::new(format!("{}-{}", template.id, service.name)),
            _ => template.id.clone(),
        };
        let id = match &round.source {
            Some(source) => StepId::new(format!("{id}-{source}")),
            None => id,
        };
        let service = round.service.map(|service| service.name.clone());
        let context = StepContext::to_look(
            Arc::clone(&self.world),
            request.environment.map(|environment| environment.name.clone()),
            service.clone(),
            self.clock.clone(),
            self.redactor.clone(),
        );
        let mut preview = kind.preview(&context, &params).await?;
        let acts = if kind.declarative() {
            !preview.changes.is_empty()
        } else {
            kind.repeat(&params) != Repeat::Safe && kind.undo_mode(&params) != UndoMode::NotNeeded
        };
        let undo = match &template.undo {
            Some(UndoTemplate::Step { kind, params }) => {
                let by = self.kind(kind)?;
                PlannedUndo::Step {
                    kind: kind.clone(),
                    params: template::render_params(params, by.params(), &round.scope)?,
                }
            }
            declared => match (kind.undo_mode(&params), declared) {
                (UndoMode::NotNeeded, _) => PlannedUndo::NotNeeded,
                _ if preview.irreversible => PlannedUndo::Impossible,
                (UndoMode::ByKind, None) => PlannedUndo::ByKind,
                _ => PlannedUndo::Impossible,
            },
        };
        let mut whole = kind.whole(&params);
        if let PlannedUndo::Step { kind, params } = &undo {
            let by = self.kind(kind)?;
            preview.notes.push(format!("is undone by: {}", by.title(params)));
            if let Some(undoes) = by.whole(params) {
                let does = whole.unwrap_or_else(|| "# as on the card".to_owned());
                whole = Some(format!("{does}\n# is undone by\n{undoes}"));
            }
        }
        let step = PlannedStep {
            id,
            kind: template.kind.clone(),
            title: kind.title(&params),
            params,
            preview,
            undo,
            retry: template.retry.clone(),
            timeout: template.timeout,
            service,
            approval: template.approval.clone(),
            whole,
        };
        Ok((step, acts))
    }

    /// What the steps say, each service that a step is about; the whole environment when a step is about none.
    fn locks(&self, environment: Option<&Environment>, steps: &[PlannedStep]) -> Vec<LockName> {
        let Some(environment) = environment else { return Vec::new() };
        let mut locks = Vec::new();
        for step in steps {
            let said =
                self.kinds.get(step.kind.as_str()).map(|kind| kind.locks(&environment.name, &step.params));
            match said.filter(|locks| !locks.is_empty()) {
                Some(said) => locks.extend(said),
                None => {
                    locks.push(LockName {
                        environment: environment.name.clone(),
                        service: step.service.clone(),
                    });
                }
            }
        }
        locks.sort();
        locks.dedup();
        // The whole is locked before and with its parts.
        let whole: Vec<LockName> = locks.iter().filter(|lock| lock.service.is_none()).cloned().collect();
        locks.retain(|lock| {
            lock.service.is_none() || !whole.iter().any(|of| of.environment == lock.environment)
        });
        locks
    }

    fn kind(&self, name: &str) -> Result<&Arc<dyn StepKind>, PlanError> {
        self.kinds.get(name).ok_or_else(|| PlanError {
            message: format!("this Houston knows no step kind `{name}`"),
            hint: Some("run `houston check` on the configuration".to_owned()),
        })
    }
}

fn rounds<'a>(request: &Request<'a>) -> Result<Vec<Round<'a>>, PlanError> {
    let mut scope = Scope::new(request.environment)
        .with("command", request.command.clone())
        .with("requester", request.requester.clone())
        .with("reason", request.reason.clone().unwrap_or_default());
    // What was not given is none, so that `when: version` works and a wrong name is still an error.
    for name in request.playbook.inputs.keys() {
        scope = scope.with(name.clone(), request.inputs.get(name).cloned().unwrap_or(Json::Null));
    }
    let text = |name: &str| request.inputs.get(name).and_then(Json::as_str);
    let named = match (text("service"), request.environment) {
        (Some(name), Some(environment)) => {
            let name = ServiceName::from(name);
            Some(environment.service(&name).ok_or_else(|| PlanError {
                message: format!("`{}` has no service `{name}`", environment.name),
                hint: None,
            })?)
        }
        _ => None,
    };
    if request.playbook.each.is_none() {
        let version = text("version").map(str::to_owned);
        let scope = match named {
            // `version` stays what was given, if anything: a rollback without one must not go forward to the
            // version that the file declares.
            Some(service) => scope
                .with_service(service, version.as_deref().unwrap_or(&service.version))
                .with("version", version.clone()),
            None => scope,
        };
        return Ok(vec![Round { scope, service: named, version, source: None }]);
    }
    let Some(Each::Services) = request.playbook.each else { return Ok(Vec::new()) };
    let Some(environment) = request.environment else {
        return Err(PlanError {
            message: format!(
                "playbook `{}` goes through services, and no environment was named",
                request.playbook.name
            ),
            hint: None,
        });
    };
    let services = match named {
        Some(service) => vec![service],
        None => in_order(environment),
    };
    Ok(services
        .into_iter()
        .map(|service| {
            let version = text("version").unwrap_or(&service.version).to_owned();
            Round {
                scope: scope.clone().with_service(service, &version),
                service: Some(service),
                version: Some(version),
                source: None,
            }
        })
        .collect())
}

/// What a step is done for, one after the other, with what its templates may use: mostly once.
fn turns(
    request: &Request<'_>,
    template: &StepTemplate,
    scope: &Scope,
) -> Result<Vec<(Scope, Option<String>)>, PlanError> {
    let Some(StepEach::Sources) = template.each else { return Ok(vec![(scope.clone(), None)]) };
    if let Some(named) = scope.get(template::PER_SOURCE).and_then(Json::as_str) {
        return Ok(vec![(scope.clone(), Some(named.to_owned()))]);
    }
    let declared = request.environment.and_then(|environment| environment.backups.as_ref());
    let declared = declared.ok_or_else(|| PlanError {
        message: format!(
            "{} declares no backups",
            request.environment.map_or_else(|| "nobody".to_owned(), |e| format!("`{}`", e.name))
        ),
        hint: request.environment.map(|environment| {
            format!(
                "say what is saved and where under `backups` in {}; `houston docs config` has its keys",
                environment.at.file.display()
            )
        }),
    })?;
    let each = declared.sources.iter().map(|source| {
        let name = source.name.clone();
        (scope.clone().with(template::PER_SOURCE, name.as_str()), Some(name))
    });
    Ok(each.collect())
}

/// The services of an environment, each after those that it depends on; otherwise in the file's order.
/// Cycles are refused when the file is loaded; should one come here, its services keep the file's order.
pub fn in_order(environment: &Environment) -> Vec<&Service> {
    fn visit<'e>(
        environment: &'e Environment,
        service: &'e Service,
        on_the_way: &mut Vec<&'e ServiceName>,
        ordered: &mut Vec<&'e Service>,
    ) {
        if ordered.iter().any(|done| done.name == service.name) || on_the_way.contains(&&service.name) {
            return;
        }
        on_the_way.push(&service.name);
        for needed in service.depends_on.iter().filter_map(|name| environment.service(name)) {
            visit(environment, needed, on_the_way, ordered);
        }
        on_the_way.pop();
        ordered.push(service);
    }
    let mut ordered = Vec::new();
    for service in &environment.services {
        visit(environment, service, &mut Vec::new(), &mut ordered);
    }
    ordered
}
