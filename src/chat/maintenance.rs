//! How maintenance is announced, and how it reads in `status`. Pure.
//!
//! Must not: say what is not so any more: what is late says that it is.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::runs::maintenance::{Announcement, Maintenance, What, now_or_next};
use crate::runs::state::RunState;
use crate::text::{self, code, defuse, said};

/// Whatever is said later than this after it was to be said, is late.
const LATE: SignedDuration = SignedDuration::from_mins(2);

/// How far ahead `status` looks for what a file has again and again.
const SHOWN_AHEAD: SignedDuration = SignedDuration::from_hours(7 * 24);

/// `None`: what comes after it says more by now.
pub fn announcement(told: &Announcement, moving: &[RunState], now: Timestamp) -> Option<String> {
    let of = &told.of;
    let place = code(of.environment.as_str());
    let late = now.duration_since(told.due) > LATE;
    let should = || {
        format!("I could not say so at {}", of.from.time_zone().to_datetime(told.due).strftime("%a %H:%M"))
    };
    let text = match told.what {
        What::Ahead if now >= of.from.timestamp() => return None,
        What::Ahead => {
            let away = Duration::try_from(of.from.timestamp().duration_since(now)).unwrap_or_default();
            let late = if late { format!(" _({})_", should()) } else { String::new() };
            format!(
                ":construction: Maintenance of {place} begins in {}: {}\n{}{late}",
                text::duration(away),
                of.why(),
                of.span()
            )
        }
        What::Begun if late => {
            format!(
                ":construction: Maintenance of {place} has begun, {}: {}\n_{}._",
                of.span(),
                of.why(),
                should()
            )
        }
        What::Begun => {
            format!(":construction: Maintenance of {place} begins now, {}: {}", of.span(), of.why())
        }
        What::Over => {
            let late = if late { format!(" _({})_", should()) } else { String::new() };
            format!(
                ":white_check_mark: Maintenance of {place} is over, {}: {}{late}{}",
                of.span(),
                said(&of.reason),
                still(of, moving)
            )
        }
        What::Missed => format!(
            ":warning: There was maintenance of {place}, {}: {}\n_I was away, and announced neither its beginning nor its end._{}",
            of.span(),
            of.why(),
            still(of, moving)
        ),
        What::CalledOff => called_off(of)?,
    };
    Some(text)
}

fn called_off(of: &Maintenance) -> Option<String> {
    let off = of.called_off.as_ref()?;
    let what = if of.from.timestamp() <= off.at { "is over before its time" } else { "is called off" };
    let by = match &off.by {
        Some(by) => format!(" by {}", defuse(&by.username)),
        None => ": its file does not have it any more".to_owned(),
    };
    let why = off.reason.as_ref().map(|why| format!(": {}", said(why))).unwrap_or_default();
    Some(format!(
        ":no_entry_sign: Maintenance of {}, {}, {what}{by}{why}",
        code(of.environment.as_str()),
        of.span()
    ))
}

/// What goes on after it.
fn still(of: &Maintenance, moving: &[RunState]) -> String {
    let here = |run: &&RunState| {
        run.holds_locks() && run.plan.locks.iter().any(|lock| lock.environment == of.environment)
    };
    let runs: Vec<String> = moving
        .iter()
        .filter(here)
        .map(|run| format!("{} {}", run.id, text::typed(&run.plan.command)))
        .collect();
    if runs.is_empty() {
        String::new()
    } else {
        format!("\nStill under way: {}.", text::plain_and_list(&runs))
    }
}

/// One line for `status`; nothing when none is near.
pub fn in_status(all: &[Maintenance], now: Timestamp) -> Option<String> {
    let one = now_or_next(all, now)?;
    let near = one.by.is_some() || one.from.timestamp().duration_since(now) <= SHOWN_AHEAD;
    let word = if one.holds(now) { "under way" } else { "planned" };
    near.then(|| format!(":construction: maintenance {word}, {}: {}", one.span(), one.why()))
}
