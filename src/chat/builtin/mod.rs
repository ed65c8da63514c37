//! Commands that are code: one function each, one line each in [`run`]. Each returns what is said, or
//! nothing when what it causes speaks for itself.
//!
//! Must not: be reached without an authorization.

mod audit;
mod backups;
mod freezes;
mod locks;
mod look;
mod maintenance;
mod runs;
mod schedules;
mod standing;

use std::sync::Arc;

use super::dispatch::{Dispatcher, OwnedBound};
use crate::access::{Action, Authorized};
use crate::chat::plan_text;
use crate::config::Config;
use crate::gateway::events::Inbound;
use crate::playbook::model::Plan;
use crate::runs::event::Origin;
use crate::runs::{Asked, NewRun};
use crate::store::Batch;

/// What a built-in is given.
pub(super) struct Call<'a> {
    pub dispatcher: &'a Dispatcher,
    pub config: &'a Arc<Config>,
    pub cause: &'a Inbound,
    pub bound: &'a OwnedBound,
}

impl Call<'_> {
    fn asked(&self) -> Asked<'_> {
        Asked { by: &self.cause.by, command: &self.bound.canonical }
    }

    /// A run like every other, of a plan that is no playbook's: nothing is said when its own messages say it.
    async fn begin(&self, plan: Plan) -> Option<String> {
        if self.bound.dry_run {
            return Some(plan_text::dry_run(&plan, &[], &[]));
        }
        let (parts, cause) = (&self.dispatcher.parts, self.cause);
        let mut with = Batch::new();
        parts.ledger.batch_for(&cause.id, &mut with);
        let origin = Origin {
            room: cause.room.clone(),
            thread: cause.thread.clone(),
            message: cause.id.clone(),
            schedule: None,
        };
        let new = NewRun { plan, by: cause.by.clone(), origin, tell: Vec::new(), with, fired: None };
        parts.engine.create(new).await.err().map(|error| error.to_string())
    }
}

/// Whether it acts on runs or locks, and so keeps its place in the order.
pub fn acts(name: &str) -> bool {
    matches!(
        name,
        "approve"
            | "deny"
            | "withdraw"
            | "cancel"
            | "retry"
            | "resolve"
            | "abandon"
            | "lock"
            | "unlock"
            | "freeze"
            | "unfreeze"
            | "maintenance"
            | "call_off"
            | "review"
            | "reload"
            | "schedule_pause"
            | "schedule_resume"
            | "schedule_allow"
            | "schedule_revoke"
    )
}

/// Whether it gives another command, which is planned and begun as that one is.
pub fn orders(name: &str) -> bool {
    name == "schedule_run"
}

/// Whether there is a plan to show where nothing is to be done.
fn shows_a_plan(name: &str) -> bool {
    orders(name) || name == "schedule_allow"
}

pub async fn run(
    dispatcher: &Dispatcher,
    config: &Arc<Config>,
    name: &str,
    cause: &Inbound,
    bound: &OwnedBound,
    _authorized: &Authorized<Action>,
) -> Option<String> {
    // What steals a lock has a plan, and shows it.
    if bound.dry_run && !shows_a_plan(name) && bound.values.text("steal").is_none() {
        return Some(format!(
            "{} would be done at once; nothing was changed.",
            crate::text::typed(&bound.canonical)
        ));
    }
    let call = Call { dispatcher, config, cause, bound };
    match name {
        "ping" => Some(look::ping(&call)),
        "help" => Some(look::help(&call).await),
        "whoami" => Some(look::whoami(&call).await),
        "can" => Some(look::can(&call).await),
        "status" => Some(look::status(&call).await),
        "runs" => Some(look::runs(&call).await),
        "show" => Some(look::show(&call).await),
        "logs" => look::logs(&call).await,
        "audit" => Some(audit::audit(&call).await),
        "locks" => Some(look::locks(&call).await),
        "backup_list" => Some(backups::list(&call).await),
        "approve" => runs::vote(&call, crate::approvals::Choice::Approve).await,
        "deny" => runs::vote(&call, crate::approvals::Choice::Deny).await,
        "withdraw" => Some(runs::withdraw(&call).await),
        "cancel" => Some(runs::cancel(&call).await),
        "retry" => Some(runs::retry(&call).await),
        "resolve" => Some(runs::resolve(&call).await),
        "abandon" => Some(runs::abandon(&call).await),
        "review" => Some(runs::review(&call).await),
        "lock" => Some(locks::lock(&call).await),
        "reload" => Some(crate::chat::reload::text(&dispatcher.reload(Some(&cause.by)).await)),
        "unlock" => locks::unlock(&call).await,
        "freeze" => Some(freezes::freeze(&call).await),
        "unfreeze" => Some(freezes::unfreeze(&call).await),
        "maintenance" => Some(maintenance::declare(&call).await),
        "schedules" => Some(schedules::show(&call).await),
        "schedule_run" => schedules::run(&call).await,
        "schedule_allow" => standing::allow(&call).await,
        "schedule_revoke" => Some(standing::revoke(&call).await),
        "schedule_pause" => Some(schedules::pause(&call).await),
        "schedule_resume" => Some(schedules::resume(&call).await),
        "call_off" => Some(maintenance::call_off(&call).await),
        other => {
            Some(format!("This Houston has no built-in `{other}`; `houston check` says where it is used."))
        }
    }
}
