//! Reads a file of `playbooks/`. What its steps mean is checked by [`super::check`].
//!
//! Must not: know step kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use crate::command::read::TYPES;
use crate::config::approvals;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::digest::Digest;
use crate::ids::StepId;
use crate::playbook::model::{
    AfterRetries, Each, Input, OnFailure, Playbook, Report, Retry, StepEach, StepTemplate, UndoTemplate,
};
use crate::text;
use crate::yaml::{Key, Map, Node, Value};

/// What a step says beside what it does.
pub(super) const STEP_WORDS: &[&str] = &["id", "each", "when", "undo", "retry", "timeout", "approval"];

/// What a template in a playbook says, and where: for the checks that follow.
#[derive(Debug)]
pub struct Located {
    pub playbook: Playbook,
    /// Of each step, the node of its parameters, and its undo.
    pub params: Vec<(Option<Node>, Option<Undo>)>,
    /// Of each step, where `when` stands.
    pub when: Vec<Option<Location>>,
}

/// Where an undo's kind stands, and the node of its parameters.
pub type Undo = (Location, Node);

/// `file` gives the playbook its name; after `expires` nobody's consent to a step is waited for any more, where it
/// says nothing else.
pub fn read(
    root: &Node,
    file: &Path,
    bytes: &[u8],
    expires: Duration,
    found: &mut Diagnostics,
) -> Option<Located> {
    let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let mut map = root.map(found)?;
    let description = map.need("description", "one sentence: what it does", found);
    let description = description.and_then(|node| node.text(found)).unwrap_or_default().trim().to_owned();
    let inputs = map.take("inputs").map(|node| inputs(node, found)).unwrap_or_default();
    let each = map.take("each").and_then(|node| node.choice(&[("services", Each::Services)], found));
    let steps_node = map.need("steps", "a list of steps", found);
    let outcomes = [("stop", OnFailure::Stop), ("undo", OnFailure::Undo)];
    let on_failure = map.take("on_failure").and_then(|node| node.choice(&outcomes, found));
    let report = map.take("report").and_then(|node| report(node, found));
    map.finish(found);
    let mut located = Located {
        playbook: Playbook {
            name: name.to_owned(),
            description,
            inputs,
            each,
            steps: Vec::new(),
            on_failure: on_failure.unwrap_or_default(),
            report,
            at: root.at.clone(),
            digest: Digest::of(bytes),
        },
        params: Vec::new(),
        when: Vec::new(),
    };
    let steps_node = steps_node?;
    let items = steps_node.list(found)?;
    if items.is_empty() {
        found.push(Diagnostic::error(steps_node.at.clone(), "`steps` is empty"));
    }
    let mut ids = BTreeMap::new();
    for node in items {
        step(node, expires, &mut located, &mut ids, found);
    }
    Some(located)
}

/// `report: {room: backups, template: backup}`
fn report(node: &Node, found: &mut Diagnostics) -> Option<Report> {
    let mut map = node.map(found)?;
    let room = map.need("room", "the room that it is posted in: room: backups", found);
    let room = room.and_then(|node| node.text(found)).map(str::to_owned);
    let template =
        map.need("template", "a file of prompts/reports/ without its .j2: template: backup", found);
    let template = template.and_then(|node| node.text(found)).map(str::to_owned);
    map.finish(found);
    Some(Report { room: room?, template: template? })
}

fn inputs(node: &Node, found: &mut Diagnostics) -> BTreeMap<String, Input> {
    let mut inputs = BTreeMap::new();
    for (key, node) in node.entries(found).unwrap_or_default() {
        let Some(mut map) = node.map(found) else { continue };
        let mut types: Vec<(&str, &str)> = TYPES.iter().map(|name| (*name, *name)).collect();
        types.push(("enum", "enum"));
        let kind = map.need("type", "the type that the command's argument has: {type: environment}", found);
        let kind = kind.and_then(|node| node.choice(&types, found));
        let required = map.take("required").and_then(|node| node.boolean(found)).unwrap_or(true);
        map.finish(found);
        // An input with a wrong type is still declared: its uses are no further mistakes.
        let kind = kind.unwrap_or("text").to_owned();
        inputs.insert(key.name.to_string(), Input { kind, required, at: key.at.clone() });
    }
    inputs
}

fn step(
    node: &Node,
    expires: Duration,
    located: &mut Located,
    ids: &mut BTreeMap<String, u32>,
    found: &mut Diagnostics,
) {
    let Some(mut map) = node.map(found) else { return };
    let id = map.need("id", "a short name that is unique in the playbook: id: update", found);
    let id = id.and_then(|node| Some((node.text(found)?, node)));
    if let Some((id, node)) = id {
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
        if !id.chars().all(good) {
            found.push(
                Diagnostic::error(node.at.clone(), format!("`{}` is not an id", text::ellipsis(id, 60)))
                    .hint("lower-case letters, digits, `-` and `_`"),
            );
        }
        if let Some(first) = ids.insert(id.to_owned(), node.at.line) {
            found.push(
                Diagnostic::error(
                    node.at.clone(),
                    format!("another step is called `{id}` already, on line {first}"),
                )
                .hint("ids name steps in messages, transcripts and undo: give each its own"),
            );
        }
    }
    let each = map.take("each").and_then(|node| node.choice(&[("sources", StepEach::Sources)], found));
    let when_node = map.take("when");
    let when = when_node.and_then(|node| node.text(found)).map(str::to_owned);
    let undo = map.take("undo").and_then(|node| undo(node, found));
    let retry = map.take("retry").map_or_else(Retry::default, |node| retry(node, found));
    let day = Duration::from_secs(86_400);
    let timeout = map.take("timeout").and_then(|node| node.duration(Duration::from_secs(1)..=day * 7, found));
    let approval = map.take("approval").and_then(|node| approvals::of_step(node, expires, found));
    let Some((kind, params_node)) = kind(&map, node, STEP_WORDS, found) else {
        return;
    };
    let (undo, undo_node) = match undo {
        Some((template, node)) => (Some(template), node),
        None => (None, None),
    };
    located.playbook.steps.push(StepTemplate {
        id: StepId::from(id.map_or("", |(id, _)| id)),
        kind: kind.name.to_string(),
        each,
        when,
        params: params(params_node),
        undo,
        retry,
        timeout,
        approval,
        at: kind.at.clone(),
    });
    located.params.push((Some(params_node.clone()), undo_node));
    located.when.push(when_node.map(|node| node.at.clone()));
}

fn params(node: &Node) -> serde_json::Value {
    if node.is_null() { serde_json::json!({}) } else { node.json() }
}

/// The one key that is no word of the step itself.
fn kind<'n>(
    map: &Map<'n>,
    node: &Node,
    words: &[&str],
    found: &mut Diagnostics,
) -> Option<(&'n Key, &'n Node)> {
    let mut others = map.rest();
    let first = others.next();
    let more: BTreeSet<&str> = others.map(|(key, _)| &*key.name).collect();
    let Some((key, params)) = first else {
        found.push(
            Diagnostic::error(node.at.clone(), "the step does not say what it does")
                .hint("name a step kind with its parameters: http_check: {url: …}"),
        );
        return None;
    };
    if !more.is_empty() {
        let all: Vec<&str> = std::iter::once(&*key.name).chain(more.iter().copied()).collect();
        let finding = Diagnostic::error(
            key.at.clone(),
            format!("a step does one thing: {} are several step kinds", text::and_list(&all)),
        );
        let misspelt = all
            .iter()
            .find_map(|name| text::did_you_mean(name, words.iter().copied()).map(|meant| (*name, meant)));
        found.push(match misspelt {
            Some((written, meant)) => finding.hint(format!("did you mean `{meant}` for `{written}`?")),
            None => finding.hint("make them steps of their own"),
        });
        return None;
    }
    Some((key, params))
}

/// `undo: none`, or `undo: {KIND: {…}}`.
fn undo(node: &Node, found: &mut Diagnostics) -> Option<(UndoTemplate, Option<Undo>)> {
    if let Value::Text(word) = &node.value
        && word == "none"
    {
        return Some((UndoTemplate::None, None));
    }
    let Value::Map(_) = node.value else {
        found.push(node.expected("`none` or a step").hint("write undo: {ssh: {host: …, command: […]}}"));
        return None;
    };
    let map = node.map(found)?;
    let (kind, params_node) = kind(&map, node, &[], found)?;
    let template = UndoTemplate::Step { kind: kind.name.to_string(), params: params(params_node) };
    Some((template, Some((kind.at.clone(), params_node.clone()))))
}

fn retry(node: &Node, found: &mut Diagnostics) -> Retry {
    let mut retry = Retry::default();
    let Some(mut map) = node.map(found) else { return retry };
    let (millisecond, hour) = (Duration::from_millis(1), Duration::from_secs(3600));
    if let Some(n) = map.take("attempts").and_then(|node| node.integer(1..=100, found)) {
        retry.attempts = u32::try_from(n).unwrap_or(1);
    }
    if let Some(backoff) = map.take("backoff").and_then(|node| node.duration(millisecond..=hour, found)) {
        retry.backoff = backoff;
    }
    retry.max_elapsed =
        map.take("max_elapsed").and_then(|node| node.duration(millisecond..=hour * 168, found));
    let ends = [("fail", AfterRetries::Fail), ("pause", AfterRetries::Pause), ("go_on", AfterRetries::GoOn)];
    if let Some(then) = map.take("then").and_then(|node| node.choice(&ends, found)) {
        retry.then = then;
    }
    map.finish(found);
    retry
}
