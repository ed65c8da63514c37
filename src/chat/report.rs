//! The report of a run that ended, for a room of its own: what a template of `prompts/reports/` makes of it.
//!
//! Must not: say that something went well which nobody looked at.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value as Json, json};

use crate::ids::EnvName;
use crate::playbook::template;
use crate::runs::saved::{self, Saved};
use crate::runs::state::{RunState, StepState};
use crate::store::Store;
use crate::text;

/// A chart shows the last so many.
const CHARTED: usize = 30;

/// Less than this share of difference is what is usual.
const USUAL: f64 = 0.02;

/// In what a chart is drawn: readable on light and dark, and read aloud as blocks.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// As `template` has it; where that cannot be rendered, that is said with what matters most.
pub fn text(run: &RunState, template: &str, store: &Store, now: Timestamp) -> String {
    let values = values(run, store, now);
    match template::render_report(template, &values) {
        Ok(text) => text.trim_end().to_owned(),
        Err(error) => {
            tracing::error!(run.id = %run.id, "the report cannot be made: {error}");
            let word = run.word();
            format!(
                ":red_circle: @all {} `{}`: {word}. _Its report cannot be made: {error}._",
                run.id, run.plan.command
            )
        }
    }
}

fn values(run: &RunState, store: &Store, now: Timestamp) -> Json {
    let ok = run.outcome() == Some(crate::runs::event::Outcome::Succeeded);
    let took = run.started_at.zip(run.ended_at).map(|(from, to)| to.duration_since(from));
    let took = took.and_then(|took| std::time::Duration::try_from(took).ok()).unwrap_or_default();
    let sources = sources(run);
    let others = others(run, &sources);
    let environment = run.plan.environment.clone();
    let saved = saved::of_run(run);
    let told: Vec<Json> = sources
        .iter()
        .map(|(name, steps)| of_source(run, name, steps, saved.get(name), environment.as_ref(), store, now))
        .collect();
    json!({
        "ok": ok,
        "word": run.word(),
        "wake": "@all",
        "environment": environment,
        "took": text::duration(took),
        "sources": told,
        "others": others,
        "checked": checked(run),
        "run": run.id.to_string(),
        "command": run.plan.command,
        "requester": text::line(&run.by.username),
    })
}

/// The steps about each source, in the order of the plan.
fn sources(run: &RunState) -> Vec<(String, Vec<usize>)> {
    let mut found: Vec<(String, Vec<usize>)> = Vec::new();
    for (index, step) in run.plan.steps.iter().enumerate() {
        let Some(name) = step.params.get("source").and_then(Json::as_str).filter(|name| !name.is_empty())
        else {
            continue;
        };
        match found.iter_mut().find(|(known, _)| known == name) {
            Some((_, steps)) => steps.push(index),
            None => found.push((name.to_owned(), vec![index])),
        }
    }
    found
}

/// What failed and is about no source.
fn others(run: &RunState, sources: &[(String, Vec<usize>)]) -> Vec<Json> {
    let of_source = |index: &usize| sources.iter().any(|(_, steps)| steps.contains(index));
    (0..run.steps.len())
        .filter(|index| !of_source(index))
        .filter_map(|index| {
            let error = run.steps[index].error.as_ref()?;
            let failed = !matches!(run.steps[index].state, StepState::Succeeded { .. });
            failed.then(|| json!({ "title": text::line(&run.plan.steps[index].title), "error": text::line(&error.message) }))
        })
        .collect()
}

fn output<'r>(run: &'r RunState, index: usize, action: &str) -> Option<&'r Json> {
    let is = run.plan.steps[index].params.get("action").and_then(Json::as_str) == Some(action);
    match &run.steps[index].state {
        StepState::Succeeded { output } if is => Some(output),
        _ => None,
    }
}

fn of_source(
    run: &RunState,
    name: &str,
    steps: &[usize],
    saved: Option<&Saved>,
    environment: Option<&EnvName>,
    store: &Store,
    now: Timestamp,
) -> Json {
    let done = |index: &usize| matches!(run.steps[*index].state, StepState::Succeeded { .. });
    let failed = steps.iter().find(|index| !done(index));
    let error = failed.map(|index| match &run.steps[*index].error {
        Some(error) => text::line(&error.message),
        None => format!("{} was not reached", text::line(&run.plan.steps[*index].title)),
    });
    let history =
        environment.and_then(|of| saved::of_source(store, of, name, CHARTED + 1).ok()).unwrap_or_default();
    let before: Vec<&Saved> = history.iter().filter(|other| other.run != run.id).take(CHARTED).collect();
    let last_good = before.first().map_or_else(
        || "it was never saved before".to_owned(),
        |last| format!("the last good backup is from {}", text::ago(last.at, now)),
    );
    let mut value = BTreeMap::from([
        ("name", json!(name)),
        ("ok", json!(failed.is_none())),
        ("error", json!(error)),
        ("last_good", json!(last_good)),
        ("compared", json!(steps.iter().find_map(|index| output(run, *index, "compare")).map(compared))),
    ]);
    value.extend(["size", "files", "added", "change", "chart", "days"].map(|name| (name, Json::Null)));
    if let Some((bytes, saved)) = saved.and_then(|saved| Some((saved.bytes?, saved))) {
        let files = usize::try_from(saved.files.unwrap_or(0)).unwrap_or(usize::MAX);
        let sizes: Vec<u64> = before.iter().rev().filter_map(|saved| saved.bytes).collect();
        value.insert("size", json!(text::bytes(bytes)));
        value.insert("files", json!(text::count(files, "file")));
        value.insert("added", json!(text::bytes(saved.added.unwrap_or(0))));
        value.insert("change", json!(change(bytes, &sizes)));
        if !sizes.is_empty() {
            let sizes: Vec<u64> = sizes.into_iter().chain([bytes]).collect();
            value.insert("chart", json!(chart(&sizes)));
            value.insert("days", json!(text::count(sizes.len(), "backup")));
        }
    }
    json!(value)
}

/// How a sample compared, in words.
fn compared(output: &Json) -> String {
    let number = |name: &str| output.get(name).and_then(Json::as_u64).unwrap_or(0);
    if output.get("read_back").is_some() {
        let same = output.get("compared").and_then(Json::as_bool) == Some(true);
        return if same { "read back whole: the same" } else { "read back whole" }.to_owned();
    }
    let (compared, changed) = (number("compared"), number("changed"));
    let since = if changed > 0 { format!(", {changed} written to since") } else { String::new() };
    if compared == 0 {
        return format!("nothing of its {} files could be compared{since}", number("files"));
    }
    format!("{compared} of {} files restored and compared: the same{since}", number("files"))
}

/// `12 % larger`, against the median of what came before; nothing where it is as usual.
#[expect(clippy::cast_precision_loss, reason = "a share in per cent")]
fn change(bytes: u64, before: &[u64]) -> Option<String> {
    let mut sizes = before.to_vec();
    sizes.sort_unstable();
    let median = *sizes.get(sizes.len() / 2)? as f64;
    if median == 0.0 {
        return None;
    }
    let share = bytes as f64 / median - 1.0;
    let word = if share > 0.0 { "larger" } else { "smaller" };
    (share.abs() >= USUAL).then(|| format!("{:.0} % {word}", share.abs() * 100.0))
}

/// A bar for each, oldest first, from nothing to the largest.
fn chart(sizes: &[u64]) -> String {
    let most = sizes.iter().copied().max().unwrap_or(0).max(1);
    let bar = |size: &u64| {
        let level = u128::from(*size) * (BARS.len() as u128 - 1) / u128::from(most);
        BARS[usize::try_from(level).unwrap_or(0)]
    };
    sizes.iter().map(bar).collect()
}

/// What of the repository was looked at.
fn checked(run: &RunState) -> Option<String> {
    let output = (0..run.steps.len()).find_map(|index| output(run, index, "check"))?;
    let number = |name: &str| output.get(name).and_then(Json::as_u64);
    let (part, of) = (number("part")?, number("of")?);
    let part = if of == 1 {
        "all of its data read".to_owned()
    } else {
        format!("part {part} of {of} of its data read")
    };
    Some(format!("the repository was checked, and {part}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_report_has_a_line_for_each_thing() {
        let template =
            crate::assets::DEFAULTS.iter().find(|asset| asset.path.ends_with("backup.j2")).expect("is there");
        let source = json!({
            "name": "uploads", "ok": true, "size": "1 KiB", "files": "2 files", "added": "3 bytes", "change": null,
            "compared": "the same", "error": null, "last_good": "", "chart": "▃█", "days": "2 backups",
        });
        let bad = json!({
            "name": "ledger", "ok": false, "size": null, "files": null, "added": null, "change": null,
            "compared": null, "error": "no room", "last_good": "it was never saved before", "chart": null, "days": null,
        });
        let values = json!({
            "ok": false, "word": "failed", "wake": "@all", "environment": "prod", "took": "3 s",
            "sources": [source, bad], "others": [{ "title": "prune", "error": "locked" }],
            "checked": "all was read", "run": "R-7", "command": "backup prod", "requester": "alice",
        });
        assert_eq!(
            template::render_report(template.text, &values).expect("renders").trim(),
            ":red_circle: @all *Backup of prod*: failed, after 3 s\n\
             :white_check_mark: `uploads`: 1 KiB in 2 files, 3 bytes of it new; the same\n\
             `▃█` _the last 2 backups_\n\
             :x: `ledger`: no room; it was never saved before\n\
             :x: prune: locked\n_all was read_\n_R-7 `backup prod`, asked for by alice_"
        );
    }

    #[test]
    fn a_chart_goes_from_nothing_to_the_largest() {
        assert_eq!(chart(&[0, 50, 100]), "▁▄█");
        assert_eq!(chart(&[0]), "▁");
    }
}
