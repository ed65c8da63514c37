//! Free text that follows an environment and begins with the name of one of its services: `lock prod web why`.
//! What is meant is the service, or nobody knows; never the whole environment.
//!
//! Must not: take for the environment what may have been meant for one service of it.

use super::error::Problem;
use super::{Given, Known};
use crate::chat::parse::{Span, Token, quote};
use crate::command::{Argument, ArgumentKind, CommandSpec};
use crate::text::code;

/// What the first word of free text is.
pub(super) enum First {
    Text,
    Service(Service),
    Unclear(Problem),
}

/// The service that a target means.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) argument: String,
    pub(super) target: String,
    pub(super) span: Span,
    /// How it was read, and the other reading.
    pub(super) note: String,
    /// When no free text follows it although there has to be some.
    pub(super) alone: Problem,
}

/// Reads the first word of free text; `all` is what the line means when it is free text as a whole.
pub(super) fn first(command: &CommandSpec, token: &Token, all: &Given, known: &Known) -> First {
    let Some((before, rest)) = environment_and_rest(command) else { return First::Text };
    let (Some((environment, span)), Some((text, _))) =
        (all.values.get(&before.name), all.values.get(&rest.name))
    else {
        return First::Text;
    };
    let Some(services) = known.environments.get(environment).filter(|_| !token.quoted) else {
        return First::Text;
    };
    let Some(service) = meant(&token.text, services) else { return First::Text };
    let name = &command.name;
    let dry_run = if all.dry_run { "--dry-run " } else { "" };
    let whole = format!("{name} {environment} {dry_run}{}", quote(text));
    let (typed, environment) = (token.text.clone(), environment.clone());
    if before.kind == ArgumentKind::Environment {
        return First::Unclear(Problem::NotOfAService { typed, environment, whole });
    }
    let target = format!("{environment}/{service}");
    let why = text.split_once(char::is_whitespace).map_or("", |(_, why)| why.trim());
    let one = match why {
        "" if rest.required => format!("{name} {target} {dry_run}WHY"),
        why => format!("{name} {target} {dry_run}{why}").trim_end().to_owned(),
    };
    let exact = *service == typed;
    let unclear = Problem::OneOrAll { typed, environment: environment.clone(), one, whole: whole.clone() };
    if !exact {
        return First::Unclear(unclear);
    }
    First::Service(Service {
        argument: before.name.clone(),
        note: format!("Read as `{target}`; for all of `{environment}` say {}.", code(&format!("!{whole}"))),
        span: Span { start: span.start, end: token.span.end },
        target,
        alone: unclear,
    })
}

/// Whether free text has to be quoted, so that its first word is not taken for a service.
pub(super) fn reads_as_service(command: &CommandSpec, given: &Given, text: &str, known: &Known) -> bool {
    let environment = environment_and_rest(command).and_then(|(before, _)| given.values.get(&before.name));
    let services = environment.and_then(|(name, _)| known.environments.get(name));
    let first = text.split_whitespace().next().unwrap_or_default();
    services.is_some_and(|services| meant(first, services).is_some())
}

/// Free text, and the environment or target that stands right before it.
fn environment_and_rest(command: &CommandSpec) -> Option<(&Argument, &Argument)> {
    let [.., before, rest] = command.arguments.as_slice() else { return None };
    let kinds = [ArgumentKind::Environment, ArgumentKind::Target];
    (rest.kind == ArgumentKind::Rest && kinds.contains(&before.kind)).then_some((before, rest))
}

/// The service that a word names, or probably names: in another case of letters, or with one slip.
fn meant<'s>(word: &str, services: &'s [String]) -> Option<&'s String> {
    let lower = word.to_lowercase();
    let length = lower.chars().count();
    let slip = |service: &&String| {
        let alike = length >= 5 || (length >= 3 && service.chars().count() == length);
        alike && length <= 100 && strsim::osa_distance(&lower, &service.to_lowercase()) == 1
    };
    let exact = services.iter().find(|service| *service == word);
    let same = || services.iter().find(|service| service.to_lowercase() == lower);
    exact.or_else(same).or_else(|| services.iter().find(slip))
}
