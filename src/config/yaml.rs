//! YAML as a tree in which every node knows its place, and a reader over it that reports all problems.
//!
//! Built on the parser's events rather than on a ready-made tree: depth is bounded while reading (a file
//! of a million `[` costs nothing), every duplicate key is reported and not only the first, and a version
//! that YAML would read as a number is still known as it was written.
//!
//! Must not: know what any key means.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde_json::Value as Json;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::secret::SecretRef;
use crate::text;

/// A configuration file that is larger was not written by a person.
pub const MAX_BYTES: usize = 1 << 20;
/// Deeper nesting than any section has.
const MAX_DEPTH: usize = 32;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub at: Location,
    /// The key that it stands under, for messages; items of a list carry the list's.
    pub label: Arc<str>,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// As written, too: `010` and `0x10` are the same numbers but other texts.
    Integer(i64, String),
    /// As written: `1.10` must not become `1.1`.
    Float(f64, String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub name: Arc<str>,
    pub at: Location,
}

/// Reads one document. `None` after a syntax error, which is reported; duplicate keys, anchors and tags are
/// reported and reading goes on. An empty file is an empty mapping.
pub fn parse(file: &Path, bytes: &[u8], found: &mut Diagnostics) -> Option<Node> {
    let file: Arc<Path> = file.into();
    let start = Location { file: Arc::clone(&file), line: 1, column: 1 };
    if bytes.len() > MAX_BYTES {
        found.push(
            Diagnostic::error(start, format!("the file is larger than the {MAX_BYTES} bytes that are read"))
                .hint("split it, or move data that is not configuration elsewhere"),
        );
        return None;
    }
    let source = match std::str::from_utf8(bytes) {
        Ok(source) => source.strip_prefix('\u{feff}').unwrap_or(source),
        Err(error) => {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = before.matches('\n').count() as u32 + 1;
            let column = before.rsplit('\n').next().unwrap_or("").chars().count() as u32 + 1;
            found.push(
                Diagnostic::error(Location { file, line, column }, "the text is not UTF-8 from here on")
                    .hint("save the file as UTF-8"),
            );
            return None;
        }
    };
    let mut builder = Builder { file: Arc::clone(&file), open: Vec::new(), root: None, found };
    let mut parser = Parser::new_from_str(source);
    loop {
        let (event, span) = match parser.next_event() {
            None => break,
            Some(Ok(event)) => event,
            Some(Err(error)) => {
                syntax_error(&file, source, &error, builder.found);
                return None;
            }
        };
        if builder.event(event, span).is_break() {
            return None;
        }
    }
    let root = builder.root.take();
    Some(match root {
        Some(node) if node.value != Value::Null => node,
        _ => Node { at: start, label: "the file".into(), value: Value::Map(Vec::new()) },
    })
}

fn syntax_error(file: &Arc<Path>, source: &str, error: &ScanError, found: &mut Diagnostics) {
    let mark = error.marker();
    let at = location(file, mark.line(), mark.col());
    let line = source.lines().nth(mark.line().saturating_sub(1)).unwrap_or("");
    let indentation = &line[..line.len() - line.trim_start().len()];
    if error.info().contains("recursion limit") {
        found.push(too_deep(at));
        return;
    }
    let mut finding = Diagnostic::error(at, format!("this is not YAML: {}", error.info()));
    if indentation.contains('\t') {
        finding = finding.hint("indent with spaces; YAML does not allow tabs there");
    } else if line.contains("{{") {
        finding = finding.hint("quote a value that begins with `{{`: \"{{ … }}\"");
    } else {
        finding = finding.hint("look at the indentation and the quotes of this line and the one before it");
    }
    found.push(finding);
}

fn too_deep(at: Location) -> Diagnostic {
    Diagnostic::error(at, format!("nested more than {MAX_DEPTH} levels deep"))
        .hint("nothing in the configuration is that deep: look for a bracket that is not closed")
}

fn location(file: &Arc<Path>, line: usize, column_from_0: usize) -> Location {
    Location {
        file: Arc::clone(file),
        line: u32::try_from(line.max(1)).unwrap_or(u32::MAX),
        column: u32::try_from(column_from_0).unwrap_or(u32::MAX - 1) + 1,
    }
}

/// A list or mapping that is being read.
struct Open {
    at: Location,
    label: Arc<str>,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map(Entries),
}

#[derive(Default)]
struct Entries {
    entries: Vec<(Key, Node)>,
    /// The line of each key that was seen; a search in `entries` would take a hostile file minutes.
    seen: HashMap<Arc<str>, u32>,
    /// The key whose value comes next.
    pending: Option<Key>,
}

struct Builder<'d> {
    file: Arc<Path>,
    open: Vec<Open>,
    root: Option<Node>,
    found: &'d mut Diagnostics,
}

type Flow = std::ops::ControlFlow<()>;

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Flow {
        let at = location(&self.file, span.start.line(), span.start.col());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), &at);
                if self.expects_key() {
                    self.key(&text, at);
                } else {
                    let value = scalar(text.into_owned(), style);
                    let label = self.label();
                    self.close(Node { at, label, value });
                }
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), &at);
                return self.begin(at, Items::List(Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(anchor, tag.is_some(), &at);
                return self.begin(at, Items::Map(Entries::default()));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let value = match open.items {
                        Items::List(items) => Value::List(items),
                        Items::Map(map) => Value::Map(map.entries),
                    };
                    self.close(Node { at: open.at, label: open.label, value });
                }
            }
            Event::Alias(_) => {
                self.found.push(
                    Diagnostic::error(at.clone(), "references (`*name`) are not supported")
                        .hint("write the value out here"),
                );
                let label = self.label();
                if self.expects_key() {
                    self.key("*", at);
                } else {
                    self.close(Node { at, label, value: Value::Null });
                }
            }
            Event::DocumentStart(_) if self.root.is_some() => {
                self.found.push(
                    Diagnostic::error(at, "a second document begins here; a file holds one")
                        .hint("remove the `---`, or move what follows to a file of its own"),
                );
                return Flow::Break(());
            }
            Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::StreamStart
            | Event::StreamEnd
            | Event::Nothing => {}
        }
        Flow::Continue(())
    }

    fn refuse_extras(&mut self, anchor: usize, tagged: bool, at: &Location) {
        if anchor > 0 {
            self.found.push(
                Diagnostic::error(at.clone(), "anchors (`&name`) are not supported")
                    .hint("remove the anchor and write the value out where it is used"),
            );
        }
        if tagged {
            self.found.push(
                Diagnostic::error(at.clone(), "tags (`!name`) are not supported")
                    .hint("quote the value if it begins with `!`; otherwise remove the tag"),
            );
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { items: Items::Map(map), .. }) if map.pending.is_none())
    }

    fn label(&self) -> Arc<str> {
        match self.open.last() {
            Some(Open { items: Items::Map(Entries { pending: Some(key), .. }), .. }) => Arc::clone(&key.name),
            Some(Open { label, .. }) => Arc::clone(label),
            None => "the file".into(),
        }
    }

    fn key(&mut self, name: &str, at: Location) {
        if name == "<<" {
            self.found.push(
                Diagnostic::error(at.clone(), "merging (`<<`) is not supported")
                    .hint("write the keys out here"),
            );
        }
        if let Some(Open { items: Items::Map(map), .. }) = self.open.last_mut() {
            map.pending = Some(Key { name: name.into(), at });
        }
    }

    fn begin(&mut self, at: Location, items: Items) -> Flow {
        if self.open.len() >= MAX_DEPTH {
            self.found.push(too_deep(at));
            return Flow::Break(());
        }
        if self.expects_key() {
            self.found.push(
                Diagnostic::error(at, "a key must be plain text, not a list or a mapping")
                    .hint("quote a value that begins with `{{` or `[`"),
            );
            return Flow::Break(());
        }
        let label = self.label();
        self.open.push(Open { at, label, items });
        Flow::Continue(())
    }

    fn close(&mut self, node: Node) {
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.root = Some(node),
            Some(Items::List(items)) => items.push(node),
            Some(Items::Map(map)) => {
                let Some(key) = map.pending.take() else { return };
                if let Some(first) = map.seen.get(&key.name) {
                    self.found.push(
                        Diagnostic::error(key.at, format!("`{}` is already set on line {first}", key.name))
                            .hint("remove one of the two"),
                    );
                    return;
                }
                map.seen.insert(Arc::clone(&key.name), key.at.line);
                map.entries.push((key, node));
            }
        }
    }
}

/// YAML 1.2's core schema: `yes`, `no`, `on` and `off` are text.
fn scalar(text: String, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::Text(text);
    }
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(&text);
    let radix = |prefix: &str, radix: u32| {
        text.strip_prefix(prefix).and_then(|digits| i64::from_str_radix(digits, radix).ok())
    };
    if unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        if unsigned.bytes().all(|b| b.is_ascii_digit()) {
            // What does not fit into 64 bits stays text: nothing here is that large a number.
            return text
                .parse()
                .map_or_else(|_| Value::Text(text.clone()), |n| Value::Integer(n, text.clone()));
        }
        if let Some(n) = radix("0x", 16).or_else(|| radix("0o", 8)) {
            return Value::Integer(n, text);
        }
        let float =
            unsigned.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'-' | b'+'));
        if let (true, Ok(n)) = (float, text.parse::<f64>()) {
            return Value::Float(n, text);
        }
    }
    Value::Text(text)
}

impl Node {
    /// What was written, for messages: `the number 7`, `a list`.
    pub fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".into(),
            Value::Bool(b) => format!("`{b}`"),
            Value::Integer(_, written) | Value::Float(_, written) => format!("the number {written}"),
            Value::Text(text) => format!("`{}`", text::ellipsis(text, 60)),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }

    /// Reports that something else was expected: ``\`replicas\` takes a number, not `three` ``.
    pub fn expected(&self, what: impl Display) -> Diagnostic {
        Diagnostic::error(self.at.clone(), format!("`{}` takes {what}, not {}", self.label, self.describe()))
    }

    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// Text that is not empty. A number is refused with the hint to quote it.
    pub fn text(&self, found: &mut Diagnostics) -> Option<&str> {
        match &self.value {
            Value::Text(text) if !text.trim().is_empty() => return Some(text),
            Value::Integer(_, written) | Value::Float(_, written) => {
                found.push(self.expected("text").hint(format!("quote it: \"{written}\"")));
            }
            Value::Bool(b) => found.push(self.expected("text").hint(format!("quote it: \"{b}\""))),
            Value::Text(_) => {
                found.push(Diagnostic::error(self.at.clone(), format!("`{}` is empty", self.label)));
            }
            Value::Null | Value::List(_) | Value::Map(_) => found.push(self.expected("text")),
        }
        None
    }

    /// Text, or a number or truth value as it was written: values of environment variables.
    pub fn scalar(&self, found: &mut Diagnostics) -> Option<String> {
        match &self.value {
            Value::Text(text) => Some(text.clone()),
            Value::Integer(_, written) | Value::Float(_, written) => Some(written.clone()),
            Value::Bool(b) => Some(b.to_string()),
            Value::Null | Value::List(_) | Value::Map(_) => {
                found.push(self.expected("one value"));
                None
            }
        }
    }

    pub fn integer(&self, range: RangeInclusive<i64>, found: &mut Diagnostics) -> Option<i64> {
        match &self.value {
            Value::Integer(n, _) if range.contains(n) => Some(*n),
            _ => {
                found.push(self.expected(format_args!(
                    "a whole number from {} to {}",
                    range.start(),
                    range.end()
                )));
                None
            }
        }
    }

    pub fn ratio(&self, found: &mut Diagnostics) -> Option<f64> {
        match &self.value {
            Value::Integer(n @ (0 | 1), _) => Some(*n as f64),
            Value::Float(f, _) if (0.0..=1.0).contains(f) => Some(*f),
            _ => {
                found.push(self.expected("a share from 0 to 1, such as 0.25"));
                None
            }
        }
    }

    pub fn boolean(&self, found: &mut Diagnostics) -> Option<bool> {
        match &self.value {
            Value::Bool(b) => Some(*b),
            _ => {
                found.push(self.expected("`true` or `false`"));
                None
            }
        }
    }

    /// `30s`, `10m`, `2h`, `1d`, within `range`.
    pub fn duration(&self, range: RangeInclusive<Duration>, found: &mut Diagnostics) -> Option<Duration> {
        let limits = || {
            format!("a duration from {} to {}", text::duration(*range.start()), text::duration(*range.end()))
        };
        let read = match &self.value {
            Value::Text(written) => parse_duration(written),
            _ => None,
        };
        match read {
            Some(d) if range.contains(&d) => Some(d),
            Some(_) => {
                found.push(self.expected(limits()));
                None
            }
            None => {
                let mut finding = self.expected(limits());
                finding = match &self.value {
                    Value::Integer(_, n) => finding.hint(format!("write the unit: {n}s, {n}m or {n}h")),
                    _ => finding.hint("write it as 30s, 10m, 2h or 1d"),
                };
                found.push(finding);
                None
            }
        }
    }

    /// One of the words of `choices`.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)], found: &mut Diagnostics) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let written = match &self.value {
            Value::Text(written) => written.as_str(),
            _ => "",
        };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == written) {
            return Some(*value);
        }
        let mut finding = self.expected(text::or_list(&words));
        if let Some(meant) = text::did_you_mean(written, words.iter().copied()) {
            finding = finding.hint(format!("did you mean `{meant}`?"));
        }
        found.push(finding);
        None
    }

    pub fn list(&self, found: &mut Diagnostics) -> Option<&[Node]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => {
                let mut finding = self.expected("a list");
                if let Value::Text(text) = &self.value {
                    finding = finding.hint(format!("write [{text}]"));
                }
                found.push(finding);
                None
            }
        }
    }

    /// A list of texts; items that are none are reported and left out.
    pub fn texts(&self, found: &mut Diagnostics) -> Option<Vec<(String, Location)>> {
        let items = self.list(found)?;
        Some(items.iter().filter_map(|i| Some((i.text(found)?.to_owned(), i.at.clone()))).collect())
    }

    /// As [`Node::texts`], where one text alone is a list of one.
    pub fn one_or_more_texts(&self, found: &mut Diagnostics) -> Option<Vec<(String, Location)>> {
        match &self.value {
            Value::Text(_) => Some(vec![(self.text(found)?.to_owned(), self.at.clone())]),
            _ => self.texts(found),
        }
    }

    /// argv: a list of strings, never a shell string. Numbers count as written.
    pub fn argv(&self, found: &mut Diagnostics) -> Option<Vec<String>> {
        let Value::List(items) = &self.value else {
            let mut finding = self.expected("a list of arguments");
            if let Value::Text(line) = &self.value {
                let words: Vec<&str> = line.split_whitespace().collect();
                finding = finding.hint(format!(
                    "write [{}]: no shell reads this, so nothing has to be escaped",
                    words.join(", ")
                ));
            }
            found.push(finding);
            return None;
        };
        if items.is_empty() {
            found.push(Diagnostic::error(self.at.clone(), format!("`{}` is empty", self.label)));
            return None;
        }
        Some(items.iter().filter_map(|i| i.scalar(found)).collect())
    }

    /// A reference to a secret. A value in its place is refused, and not repeated in the message.
    pub fn secret(&self, found: &mut Diagnostics) -> Option<SecretRef> {
        let Value::Map(_) = &self.value else {
            found.push(
                Diagnostic::error(
                    self.at.clone(),
                    format!("`{}` must be a reference to a secret, not the secret itself", self.label),
                )
                .confidential()
                .hint("write {file: PATH}, {env: NAME} or {command: [PROGRAM, ARGUMENT]}")
                .hint("if a real secret was written here, treat it as known and replace it"),
            );
            return None;
        };
        let mut map = self.map(found)?;
        let file = map.take("file").and_then(|n| n.text(found)).map(|p| SecretRef::File(PathBuf::from(p)));
        let env = map.take("env").and_then(|n| n.text(found)).map(|v| SecretRef::Env(v.to_owned()));
        let command = map.take("command").and_then(|n| n.argv(found)).map(SecretRef::Command);
        let given = map.given();
        map.finish(found);
        let mut references = [file, env, command].into_iter().flatten();
        match (references.next(), references.next()) {
            (Some(reference), None) => Some(reference),
            (None, None) if given > 0 => None,
            _ => {
                found.push(
                    Diagnostic::error(
                        self.at.clone(),
                        format!("`{}` needs exactly one of `file`, `env` and `command`", self.label),
                    )
                    .hint("write {file: PATH}, {env: NAME} or {command: [PROGRAM, ARGUMENT]}"),
                );
                None
            }
        }
    }

    /// A mapping whose keys the caller knows: take them, then [`Map::finish`].
    pub fn map(&self, found: &mut Diagnostics) -> Option<Map<'_>> {
        Some(Map { at: &self.at, label: &self.label, entries: self.entries(found)?, known: Vec::new() })
    }

    /// A mapping whose keys are names that the file makes up.
    pub fn entries(&self, found: &mut Diagnostics) -> Option<&[(Key, Node)]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => {
                found.push(self.expected("a mapping"));
                None
            }
        }
    }

    /// Plain data, for parameters of step kinds.
    pub fn json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Integer(n, _) => Json::from(*n),
            Value::Float(f, _) => serde_json::Number::from_f64(*f).map_or(Json::Null, Json::Number),
            Value::Text(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::json).collect()),
            Value::Map(entries) => {
                Json::Object(entries.iter().map(|(k, v)| (k.name.to_string(), v.json())).collect())
            }
        }
    }
}

/// A mapping that is being taken apart. What nobody took is unknown.
pub struct Map<'n> {
    pub at: &'n Location,
    label: &'n str,
    entries: &'n [(Key, Node)],
    known: Vec<&'static str>,
}

impl<'n> Map<'n> {
    /// The value under `key`; a key without a value counts as absent.
    pub fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        self.entries.iter().find(|(k, _)| &*k.name == key).map(|(_, node)| node).filter(|n| !n.is_null())
    }

    /// As [`Map::take`], and reports that it is missing.
    pub fn need(&mut self, key: &'static str, hint: &str, found: &mut Diagnostics) -> Option<&'n Node> {
        let node = self.take(key);
        if node.is_none() {
            let place = self.entries.iter().find(|(k, _)| &*k.name == key).map_or(self.at, |(k, _)| &k.at);
            let mut finding =
                Diagnostic::error(place.clone(), format!("`{key}` is missing in {}", self.what()));
            if !hint.is_empty() {
                finding = finding.hint(hint);
            }
            found.push(finding);
        }
        node
    }

    fn what(&self) -> String {
        if self.label == "the file" { "the file".into() } else { format!("`{}`", self.label) }
    }

    /// How many keys with a value stand in it.
    pub fn given(&self) -> usize {
        self.entries.iter().filter(|(_, node)| !node.is_null()).count()
    }

    /// Where `key` itself stands.
    pub fn key_at(&self, key: &str) -> Option<Location> {
        self.entries.iter().find(|(k, _)| &*k.name == key).map(|(k, _)| k.at.clone())
    }

    /// What was not taken, without reporting it.
    pub fn rest(&self) -> impl Iterator<Item = &'n (Key, Node)> + use<'n, '_> {
        self.entries.iter().filter(|(k, _)| !self.known.iter().any(|known| *known == &*k.name))
    }

    /// Reports every key that nobody took.
    pub fn finish(self, found: &mut Diagnostics) {
        for (key, _) in self.rest() {
            let finding =
                Diagnostic::error(key.at.clone(), format!("unknown key `{}` in {}", key.name, self.what()));
            found.push(match text::did_you_mean(&key.name, self.known.iter().copied()) {
                Some(meant) => finding.hint(format!("did you mean `{meant}`?")),
                None => finding.hint(format!("known keys: {}", text::plain_and_list(&self.known))),
            });
        }
    }
}

/// `500ms`, `30s`, `10m`, `2h`, `1d`, and sums of them: `1h30m`.
pub fn parse_duration(written: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = written.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let n: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let part = match &rest[..unit_end] {
            "ms" => Duration::from_millis(n),
            "s" => Duration::from_secs(n),
            "m" | "min" => Duration::from_secs(n.checked_mul(60)?),
            "h" => Duration::from_secs(n.checked_mul(3600)?),
            "d" => Duration::from_secs(n.checked_mul(86_400)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = rest[unit_end..].trim_start();
    }
    Some(total)
}

/// As it is written in a file: `1h30m`.
pub fn written_duration(d: Duration) -> String {
    if d.is_zero() {
        return "0s".into();
    }
    let mut out = String::new();
    let mut left = d.as_millis();
    for (unit, millis) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if left >= millis {
            out.push_str(&format!("{}{unit}", left / millis));
            left %= millis;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Node>, Vec<String>) {
        let mut found = Diagnostics::new();
        let node = parse(Path::new("f.yaml"), text.as_bytes(), &mut found);
        (node, found.sorted().iter().map(|f| f.to_string().replace("\n  hint: ", " | ")).collect())
    }

    #[test]
    fn every_node_knows_its_place_in_characters() {
        let (node, found) = read("é: {ünï: [1, x]}\n");
        assert_eq!(found, Vec::<String>::new());
        let Some(Node { value: Value::Map(entries), .. }) = node else { panic!("a mapping") };
        let Value::Map(inner) = &entries[0].1.value else { panic!("a mapping") };
        assert_eq!(inner[0].0.at.to_string(), "f.yaml:1:5");
        let Value::List(items) = &inner[0].1.value else { panic!("a list") };
        assert_eq!(items[1].at.to_string(), "f.yaml:1:14");
        assert_eq!(&*items[1].label, "ünï");
    }

    #[test]
    fn words_are_text_and_numbers_keep_how_they_were_written() {
        let value = |text: &str| scalar(text.to_owned(), ScalarStyle::Plain);
        for text in
            ["yes", "on", "1.7.2", "08:00", "-", ".", "1_000", "0x", "99999999999999999999", "nan", "1e5x"]
        {
            assert_eq!(value(text), Value::Text(text.into()), "{text}");
        }
        assert_eq!(value("1.10"), Value::Float(1.1, "1.10".into()));
        assert_eq!(value("0x10"), Value::Integer(16, "0x10".into()));
        assert_eq!(value("-7"), Value::Integer(-7, "-7".into()));
        assert_eq!(value("~"), Value::Null);
        assert_eq!(scalar("1.10".into(), ScalarStyle::DoubleQuoted), Value::Text("1.10".into()));
    }

    #[test]
    fn what_would_surprise_is_refused_and_reading_goes_on() {
        let (node, found) = read("a: &x 1\nb: *x\na: 2\n<<: {c: 1}\nd: !t v\n? [k]\n: v\n");
        assert!(node.is_none());
        let short: Vec<&str> = found.iter().map(|f| f.split(" | ").next().unwrap_or("")).collect();
        assert_eq!(
            short,
            [
                "error: f.yaml:1:4: anchors (`&name`) are not supported",
                "error: f.yaml:2:4: references (`*name`) are not supported",
                "error: f.yaml:3:1: `a` is already set on line 1",
                "error: f.yaml:4:1: merging (`<<`) is not supported",
                "error: f.yaml:5:4: tags (`!name`) are not supported",
                "error: f.yaml:6:3: a key must be plain text, not a list or a mapping",
            ]
        );
    }

    #[test]
    fn an_empty_file_is_an_empty_mapping_and_a_second_document_is_refused() {
        for text in ["", "\n# nothing\n", "---\n", "\u{feff}", "~"] {
            let (node, found) = read(text);
            assert_eq!(
                (node.map(|n| n.value), found),
                (Some(Value::Map(Vec::new())), Vec::new()),
                "{text:?}"
            );
        }
        assert!(read("a: 1\n---\nb: 2\n").1[0].contains("a second document begins here"));
    }

    #[test]
    fn a_template_that_is_not_quoted_is_explained() {
        let (_, found) = read("a: {{ x }}\n");
        assert!(found[0].contains("quote a value that begins with `{{`"), "{found:?}");
    }

    #[test]
    fn unknown_keys_are_reported_with_what_was_meant() {
        let (node, _) = read("image: x\nverison: y\nzzz: 1\nempty:\n");
        let node = node.expect("a mapping");
        let mut found = Diagnostics::new();
        let mut map = node.map(&mut found).expect("a mapping");
        assert!(map.take("image").is_some() && map.take("version").is_none());
        assert!(map.need("empty", "say it", &mut found).is_none());
        map.finish(&mut found);
        let found: Vec<String> = found.sorted().iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "error: f.yaml:2:1: unknown key `verison` in the file\n  hint: did you mean `version`?",
                "error: f.yaml:3:1: unknown key `zzz` in the file\n  hint: known keys: image, version and empty",
                "error: f.yaml:4:1: `empty` is missing in the file\n  hint: say it",
            ]
        );
    }

    #[test]
    fn a_secret_is_a_reference_of_exactly_one_kind() {
        let secret = |text: &str| {
            let node = read(text).0.expect("a mapping");
            let mut found = Diagnostics::new();
            let token =
                node.map(&mut found).expect("a mapping").take("token").and_then(|n| n.secret(&mut found));
            (token, found.sorted().iter().map(ToString::to_string).collect::<String>())
        };
        assert_eq!(secret("token: {env: T}"), (Some(SecretRef::Env("T".into())), String::new()));
        assert_eq!(
            secret("token: {command: [op, read]}").0,
            Some(SecretRef::Command(vec!["op".into(), "read".into()]))
        );
        for text in
            ["token: s3cret", "token: {}", "token: {env: A, file: b}", "token: {env: }", "token: {enw: A}"]
        {
            let (reference, found) = secret(text);
            assert!(reference.is_none() && found.starts_with("error: f.yaml:1:"), "{text}: {found}");
            assert!(!found.contains("s3cret"));
        }
    }

    #[test]
    fn durations_need_a_unit_and_are_written_back_the_same() {
        for (text, seconds) in [("30s", 30), ("1h30m", 5400), ("2d", 172_800), ("0s", 0)] {
            let read = parse_duration(text).expect("a duration");
            assert_eq!(read, Duration::from_secs(seconds));
            assert_eq!(written_duration(read), text);
        }
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        for text in [
            "",
            "30",
            "s",
            "1.5h",
            "-1s",
            "10 parsecs",
            "99999999999999999999s",
            "9999999999999999999d",
            "1é",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_hostile_file_is_refused_in_a_moment() {
        for text in ["[".repeat(MAX_BYTES), "- ".repeat(MAX_BYTES / 2), "{a: ".repeat(MAX_BYTES / 4)] {
            assert!(read(&text).1[0].contains("levels deep"));
        }
        let many: String = (0..60_000).map(|n| format!("k{n}: v\n")).collect();
        let (node, found) = read(&many);
        assert!(node.is_some() && found.is_empty());
        assert!(read(&"x".repeat(MAX_BYTES + 1)).1[0].contains("larger than"));
    }
}
