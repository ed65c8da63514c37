//! How it reads that a lock is stolen: what it takes, why it cannot be, and what its owner is told. Pure.
//!
//! Must not: leave anybody to guess whose a lock is, or what else frees it.

use jiff::Timestamp;

use super::cards::clock_time;
use crate::approvals;
use crate::config::Config;
use crate::playbook::model::LockName;
use crate::runs::locks::{Held, Holder};
use crate::runs::state::{Decision, Phase, RunState};
use crate::runs::steal::{From, Steal};
use crate::text::{code, defuse, plain_and_list, said, typed};

/// Who has it, without an end.
pub(super) fn has(held: &Held, now: Timestamp) -> String {
    match &held.holder {
        Holder::Person(_) => held.holder.describe(now),
        Holder::Run { .. } | Holder::Unreadable { .. } => format!(
            "{} is held by {}, which is stuck",
            code(&held.name.to_string()),
            held.holder.describe(now)
        ),
    }
}

/// How somebody else gets it.
pub(super) fn way(config: &Config, name: &LockName, holder: &Holder) -> String {
    let takes = match config.approval_to_steal(&name.environment) {
        Some(policy) => format!("with the approval of {}", approvals::describe(&policy)),
        None => "at once".to_owned(),
    };
    let steals = format!("{} takes it {takes}", code(&format!("!unlock {name} --steal \"why\"")));
    match holder {
        Holder::Person(lock) => {
            let owner = defuse(&lock.by.username);
            format!("{owner} can {}; {steals}, and {owner} is told.", code(&format!("!unlock {name}")))
        }
        Holder::Run { run, .. } | Holder::Unreadable { run, .. } => format!(
            "{} says what it needs; {steals}, and {run} is abandoned then.",
            code(&format!("!show {run}"))
        ),
    }
}

/// Why this one cannot be had.
pub(super) fn worked_under(name: &LockName, holder: &Holder, now: Timestamp) -> String {
    let held = format!("{} is held by {}", code(&name.to_string()), holder.describe(now));
    match holder {
        Holder::Run { run, .. } => format!(
            "{held}. A lock that a run works under is not taken from it, nor stolen: `!cancel {run}` ends the run and \
             frees it, `!abandon {run} why` where it stands still."
        ),
        Holder::Unreadable { .. } | Holder::Person(_) => format!("{held}."),
    }
}

/// To whoever has the lock that a run steals. `None`: there is nothing more to say.
pub(super) fn to_owner(run: &RunState, done: bool) -> Option<String> {
    let Steal { lock, from, by, why } = Steal::of(&run.plan)?;
    let (id, by, why, lock) = (run.id, defuse(&by.username), said(&why), code(&lock.to_string()));
    let what = match &from {
        From::Person(_) => format!("your lock of {lock}"),
        From::Stuck { run, command, .. } => {
            format!("the lock of {lock} from your run {run} ({}), which is stuck", typed(command))
        }
    };
    if done {
        let approved = match &run.consent.decision {
            Some(Decision::Approved { by, .. }) => {
                let by: Vec<String> = by.iter().map(|who| defuse(&who.username).into_owned()).collect();
                format!(", approved by {}", plain_and_list(&by))
            }
            _ => String::new(),
        };
        let at = clock_time(run.ended_at.unwrap_or(run.last_at));
        let stays = match &from {
            From::Person(_) => String::new(),
            From::Stuck { run, .. } => {
                format!("\n{run} is abandoned; what it changed and did not undo stays: `!show {run}`.")
            }
        };
        return Some(format!(":unlock: {by} stole {what} at {at} (*{id}*{approved}): _{why}_{stays}"));
    }
    let Phase::Deciding { .. } = run.phase else { return None };
    let takes = run.plan.approval.as_ref().map(approvals::describe).unwrap_or_default();
    let yours = match &from {
        From::Person(lock) => format!("If you need it no more, say `!unlock {}`", lock.name),
        From::Stuck { run, .. } => format!("`!show {run}` says what your run needs"),
    };
    Some(format!(
        ":unlock: {by} asks to steal {what} (*{id}*): _{why}_\nIt takes the approval of {takes}. {yours}; if you object, \
         `!deny {id} why`."
    ))
}
