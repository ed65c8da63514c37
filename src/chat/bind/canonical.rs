//! A bound command said again as one would type it, so that it reads back to the same values.
//!
//! Must not: add what was not typed.

use super::{BREAK_GLASS, DRY_RUN, Given, Known, REASON, scope, slot, value};
use crate::chat::parse::{quote, quote_if_needed, unquoted};
use crate::command::{Argument, ArgumentKind, CommandSpec};

pub(super) fn of(command: &CommandSpec, given: &Given, values: &value::Checked, known: &Known) -> String {
    let typed = |a: &Argument| {
        let value = given.values.contains_key(&a.name).then(|| values.get(&a.name))??;
        Some(value.as_typed())
    };
    let mut parts = vec![command.name.clone()];
    let mut rest = None;
    let mut in_order = true;
    for argument in &command.arguments {
        let Some(value) = typed(argument) else {
            in_order = false;
            continue;
        };
        match argument.kind {
            ArgumentKind::Switch => parts.push(switch(&argument.name, &value)),
            ArgumentKind::Rest if in_order && scope::reads_as_service(command, given, &value, known) => {
                rest = Some(quote(&value));
            }
            ArgumentKind::Rest if in_order => rest = Some(quoted_rest(command, &value)),
            _ if in_order => parts.push(quote_if_needed(&value)),
            _ => parts.push(format!("{}={}", argument.name, quote_if_needed(&value))),
        }
    }
    for flag in &command.flags {
        match (typed(flag), &flag.kind) {
            (Some(value), ArgumentKind::Switch) => parts.push(switch(&flag.name, &value)),
            (Some(value), _) => parts.push(format!("--{}={}", flag.name, quote_if_needed(&value))),
            (None, _) => {}
        }
    }
    if let Some(reason) = &given.reason {
        parts.push(format!("--{REASON}={}", quote_if_needed(reason)));
    }
    if let Some(why) = &given.break_glass {
        parts.push(format!("--{BREAK_GLASS}={}", quote_if_needed(why)));
    }
    if given.dry_run {
        parts.push(format!("--{DRY_RUN}"));
    }
    parts.extend(rest);
    parts.join(" ")
}

fn switch(name: &str, value: &str) -> String {
    if value == "true" { format!("--{name}") } else { format!("--{name}={value}") }
}

/// Free text as it is, in quotes if its beginning or end would be taken for something else.
fn quoted_rest(command: &CommandSpec, text: &str) -> String {
    let first = text.split_whitespace().next().unwrap_or_default();
    let last = text.split_whitespace().next_back().unwrap_or_default();
    let risky_first = first.starts_with(['-', '—', '–', '\\'])
        || unquoted(first).is_some()
        || quote_if_needed(first) != first
        || first.split_once('=').is_some_and(|(name, _)| slot(command, name).is_some());
    let risky_last = last.starts_with(['-', '—', '–']);
    let trimmed = text.trim() == text && !text.is_empty();
    if risky_first || risky_last || !trimmed || unquoted(text).is_some() {
        quote(text)
    } else {
        text.to_owned()
    }
}
