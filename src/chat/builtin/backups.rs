//! `backup list`: which backups there are, as the repository tells it.
//!
//! Must not: change anything.

use std::fmt::Write as _;

use super::Call;
use crate::ids::EnvName;
use crate::playbook::steps::{StepContext, restic};
use crate::providers::restic::Snapshot;
use crate::text::{self, code, defuse};

/// Of each source.
const MOST_SHOWN: usize = 10;

pub(super) async fn list(call: &Call<'_>) -> String {
    let Some(environment) = call.bound.values.text("environment").map(EnvName::from) else {
        return "Which environment? `!backup list prod`".to_owned();
    };
    let source = call.bound.values.text("source");
    let parts = &call.dispatcher.parts;
    let context = StepContext::to_look(
        call.dispatcher.world(call.config),
        Some(environment.clone()),
        None,
        parts.clock.clone(),
        parts.redactor.clone(),
    );
    match restic::list(&context, source).await {
        Ok(snapshots) => {
            let declared = call.config.environments.get(&environment).and_then(|e| e.backups.as_ref());
            let mut names: Vec<&str> = declared.map(|backups| backups.names()).unwrap_or_default();
            // What is declared no more can still be restored from.
            for snapshot in &snapshots {
                names.extend(snapshot.source().filter(|name| !names.contains(name)));
            }
            names.retain(|name| source.is_none_or(|only| only == *name));
            table(&environment, &names, &snapshots, parts.clock.now())
        }
        Err(error) => {
            let hint = error.hint.map(|hint| format!("\n:bulb: {}", text::line(&hint))).unwrap_or_default();
            format!(
                ":x: The backups of {} cannot be listed: {}.{hint}",
                code(environment.as_str()),
                text::line(&error.message)
            )
        }
    }
}

fn table(environment: &EnvName, names: &[&str], snapshots: &[Snapshot], now: jiff::Timestamp) -> String {
    let mut out = format!("*Backups of {}*\n", text::line(environment.as_str()));
    for name in names {
        let of: Vec<&Snapshot> = snapshots.iter().filter(|s| s.source() == Some(*name)).collect();
        let Some(newest) = of.last() else {
            let _ = writeln!(out, ":warning: {}: none", code(name));
            continue;
        };
        let number = text::count(of.len(), "backup");
        let _ = writeln!(out, "{}: {number}, the newest {}", code(name), text::ago(newest.time, now));
        let shown: Vec<String> = of
            .iter()
            .rev()
            .take(MOST_SHOWN)
            .map(|s| format!("{}  {}", s.short_id, s.time.strftime("%F %R UTC")))
            .collect();
        let _ = writeln!(out, "{}", text::fence(&defuse(&shown.join("\n"))));
        if of.len() > MOST_SHOWN {
            let _ = writeln!(out, "_and {} older_", text::count(of.len() - MOST_SHOWN, "one"));
        }
    }
    out
}
