//! How a plan reads: on its card, in a dry run, in `houston plan`; and all that a card leaves out. Pure.
//!
//! Must not: know of runs. Foreign text goes through `text::{defuse, line, code, commands}`.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::ops::Range;

use super::bind::{BREAK_GLASS, REASON};
use super::parse::quote_if_needed;
use super::step_cards;
use crate::approvals;
use crate::change::Change;
use crate::playbook::model::{MOST_SHOWN, Plan, PlannedUndo};
use crate::text::{self, code, defuse, typed};

/// `image: `web:1.7` → `web:1.8``
pub(super) fn change(change: &Change) -> String {
    let what = text::inert(&change.what);
    match (&change.from, &change.to) {
        (Some(from), Some(to)) => format!("{what}: {} → {}", code(from), code(to)),
        (None, Some(to)) => format!("{what}: {}", code(to)),
        (Some(from), None) => format!("{what}: {} → removed", code(from)),
        (None, None) => what,
    }
}

/// The command as others decide about it: whole, but for the reasons, which stand below it.
pub(super) fn decided_about(plan: &Plan) -> String {
    let mut command = plan.command.clone();
    let why = plan.break_glass.as_ref().map(|glass| &glass.reason);
    let stolen = plan.reason.as_ref().filter(|_| plan.steals());
    for (flag, reason) in [(REASON, plan.reason.as_ref()), (BREAK_GLASS, why), ("steal", stolen)] {
        if let Some(reason) = reason {
            command = command.replacen(&format!(" --{flag}={}", quote_if_needed(reason)), "", 1);
        }
    }
    code(&command)
}

/// Where stands what a card or an answer leaves out of a plan ([`whole`]).
#[derive(Clone, Copy, PartialEq)]
pub enum Rest {
    InThread,
    Below,
}

impl Rest {
    fn place(self) -> &'static str {
        match self {
            Self::InThread => "in the thread",
            Self::Below => "below",
        }
    }
}

/// What a plan would do: the same lines on the card, in a dry run and in `houston plan`.
pub fn plan_lines(plan: &Plan, already: &[String], rest: Rest) -> String {
    let mut out = steps_of(plan, 0..MOST_SHOWN.min(plan.steps.len()), rest);
    if plan.steps.len() > MOST_SHOWN {
        let more = text::count(plan.steps.len() - MOST_SHOWN, "step");
        let _ = writeln!(out, "… and {more} more: all of them are {}", rest.place());
    }
    if !already.is_empty() {
        let _ = writeln!(out, "_unchanged: {}_", defuse(&text::plain_and_list(already)));
    }
    out.trim_end().to_owned()
}

fn steps_of(plan: &Plan, which: Range<usize>, rest: Rest) -> String {
    let mut out = String::new();
    let mut said = HashSet::new();
    for (index, step) in plan.steps.iter().enumerate().take(which.end).skip(which.start) {
        // A number says something only where there is an order.
        let number = if plan.steps.len() > 1 { format!("*{}.* ", index + 1) } else { String::new() };
        let _ = writeln!(out, "{number}{}", text::inert(&step.title));
        if step.whole.is_some() {
            let _ = writeln!(out, "• all of it is {}", rest.place());
        }
        for line in &step.preview.changes {
            let _ = writeln!(out, "• {}", change(line));
        }
        // What several steps have in common is said with the first of them.
        for note in step.preview.notes.iter().filter(|note| said.insert(note.as_str())) {
            let _ = writeln!(out, "• {}", text::inert(note));
        }
        if step.undo == PlannedUndo::Impossible {
            let _ = writeln!(out, "• :warning: cannot be undone");
        }
        if let Some(waits) = step_cards::in_plan(step) {
            let _ = writeln!(out, "• {waits}");
        }
    }
    out
}

/// What a card leaves out of a plan, or of one step of it: further steps, and all that a step would run. `None`: a
/// card shows everything.
pub fn whole(plan: &Plan, only: Option<usize>) -> Option<String> {
    let mut out = String::new();
    if only.is_none() && plan.steps.len() > MOST_SHOWN {
        out = steps_of(plan, MOST_SHOWN..plan.steps.len(), Rest::Below);
    }
    for (index, step) in plan.steps.iter().enumerate() {
        if only.is_some_and(|only| only != index) {
            continue;
        }
        let Some(whole) = &step.whole else { continue };
        let lines: Vec<&str> = whole.lines().collect();
        let what = match plan.steps.len() {
            1 => "All of it:".to_owned(),
            _ => format!("All of step {} ({}):", index + 1, code(step.id.as_str())),
        };
        let _ = writeln!(out, "{what}\n{}", text::commands(&lines));
    }
    (!out.is_empty()).then(|| out.trim_end().to_owned())
}

/// Under an answer that shows a plan.
pub(super) fn and_whole(plan: &Plan) -> String {
    whole(plan, None).map(|whole| format!("\n{whole}")).unwrap_or_default()
}

/// The answer to `--dry-run`.
pub fn dry_run(plan: &Plan, already: &[String], hindrances: &[String]) -> String {
    if plan.is_empty() {
        return nothing_to_do(plan, already);
    }
    let mut approval = match &plan.approval {
        _ if plan.break_glass.is_some() => super::glass::of_plan(plan),
        Some(policy) => format!("It would need the approval of {}.", approvals::describe(policy)),
        None => "It would start at once: no approval is needed.".to_owned(),
    };
    if plan.break_glass.is_none() {
        for line in hindrances {
            let _ = write!(approval, "\n{line}");
        }
    }
    format!(
        ":mag: *dry run* {}: nothing was changed\n{}\n{approval}{}",
        decided_about(plan).replacen(" --dry-run", "", 1),
        plan_lines(plan, already, Rest::Below),
        and_whole(plan)
    )
}

pub fn nothing_to_do(plan: &Plan, already: &[String]) -> String {
    let why = if already.is_empty() { String::new() } else { format!(": {}", text::plain_and_list(already)) };
    format!(":white_check_mark: {}: nothing to do{}", typed(&plan.command), defuse(&why))
}
