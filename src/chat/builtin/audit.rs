//! The end of the audit log, or what of it is about a run, an environment or a person.
//!
//! Must not: show it to anybody without a role.

use std::fmt::Write as _;

use super::Call;
use crate::audit::Entry;
use crate::ids::{EnvName, RunId};
use crate::runs::ActError;
use crate::text::{self, typed};

/// Entries that are looked through for those that are asked for.
const LOOKED_THROUGH: usize = 5000;

/// Entries about a run that is gone.
const MOST_OF_GONE: usize = 20;

/// What of the log is asked for; nothing given: all of it.
#[derive(Default)]
struct About {
    run: Option<RunId>,
    /// `prod`, or `prod/web`.
    place: Option<String>,
    user: Option<String>,
}

impl About {
    fn of(call: &Call<'_>) -> Self {
        let values = &call.bound.values;
        let name = |typed: &str| typed.trim_start_matches('@').to_owned();
        let mut about = Self {
            run: values.run("run"),
            place: values.text("environment").map(str::to_owned),
            user: values.text("user").map(name),
        };
        if let Some(typed) = values.text("about") {
            let environment = typed.split_once('/').map_or(typed, |(environment, _)| environment);
            if let Ok(run) = typed.parse() {
                about.run = Some(run);
            } else if call.config.environments.contains_key(&EnvName::from(environment)) {
                about.place = Some(typed.to_owned());
            } else {
                about.user = Some(name(typed));
            }
        }
        about
    }

    fn is_all(&self) -> bool {
        self.run.is_none() && self.place.is_none() && self.user.is_none()
    }

    fn holds(&self, entry: &Entry) -> bool {
        let event = &entry.event;
        let there = |place: &String| {
            let target = event.target.as_deref().unwrap_or_default();
            target.strip_prefix(place.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.run.is_none_or(|run| event.run == Some(run))
            && self.place.as_ref().is_none_or(there)
            && self.user.as_ref().is_none_or(|name| event.who.name.eq_ignore_ascii_case(name))
    }
}

pub(super) async fn audit(call: &Call<'_>) -> String {
    let parts = &call.dispatcher.parts;
    let person = call.dispatcher.people.person(&call.cause.by).await;
    if call.dispatcher.people.roles(&person).is_empty() {
        return "The audit log is for operators and leads; `!whoami` shows your roles.".to_owned();
    }
    let limit = usize::try_from(call.bound.values.integer("limit").unwrap_or(10)).unwrap_or(10);
    let about = About::of(call);
    let path = parts.audit.path().to_owned();
    let most = if about.is_all() { limit } else { LOOKED_THROUGH };
    let entries = match tokio::task::spawn_blocking(move || crate::audit::tail(&path, most)).await {
        Ok(Ok(entries)) => entries,
        Ok(Err(error)) => return format!("The audit log cannot be read: {error}"),
        Err(_) => return "The audit log cannot be read.".to_owned(),
    };
    let mut shown: Vec<_> = entries.iter().filter(|entry| about.holds(entry)).rev().take(limit).collect();
    shown.reverse();
    if !shown.is_empty() {
        return block(shown.into_iter(), "%m-%d %H:%M:%SZ");
    }
    match call.bound.values.text("about") {
        Some(what) => format!(
            "Nothing about {} in the audit log. It takes a run (`R-1`), an environment or a person.",
            typed(what)
        ),
        None => "Nothing in the audit log.".to_owned(),
    }
}

/// Of a run that is not kept any more: when and why it went, and to whom it may be told what the audit log has.
pub(super) async fn of_gone(call: &Call<'_>, run: RunId, gone: &ActError) -> String {
    let person = call.dispatcher.people.person(&call.cause.by).await;
    if call.dispatcher.people.roles(&person).is_empty() {
        return format!("{gone} What the audit log has of it is for operators and leads.");
    }
    let path = call.dispatcher.parts.audit.path().to_owned();
    match tokio::task::spawn_blocking(move || crate::audit::of_run(&path, run, MOST_OF_GONE)).await {
        Ok(Ok(entries)) if entries.is_empty() => format!("{gone} The audit log has nothing of it either."),
        Ok(Ok(entries)) => {
            format!("{gone} The audit log still has:\n{}", block(entries.iter(), "%F %H:%M:%SZ"))
        }
        Ok(Err(error)) => format!("{gone} The audit log cannot be read: {error}"),
        Err(_) => format!("{gone} The audit log cannot be read."),
    }
}

/// `time`: how it is written.
fn block<'e>(entries: impl Iterator<Item = &'e Entry>, time: &str) -> String {
    // In a block, marks of chat would stand as they are.
    text::fence(&entries.map(|entry| line(entry, time)).collect::<String>().replace('`', ""))
}

/// An entry is one line, whatever stands in it.
fn line(entry: &Entry, time: &str) -> String {
    let event = &entry.event;
    let mut out = format!(
        "{} {:<5} {:<9} {} ({})",
        entry.time.strftime(time),
        event.run.map(|run| run.to_string()).unwrap_or_default(),
        event.action,
        text::line(&text::ellipsis(&event.command, text::QUOTED)),
        text::line(&event.who.name),
    );
    if let Some(result) = event.result.as_ref().filter(|result| **result != event.action) {
        let result = result.strip_prefix(&format!("{}: ", event.action)).unwrap_or(result);
        let _ = write!(out, ": {}", text::line(&text::ellipsis(result, text::QUOTED)));
    }
    out.push('\n');
    out
}
