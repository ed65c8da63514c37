//! YAML as a tree in which every node knows its place, and a reader over it that reports all problems.
//!
//! Built on the parser's events rather than on a ready-made tree: depth is bounded while reading (a file
//! of a million `[` costs nothing), every duplicate key is reported and not only the first, and a version
//! that YAML would read as a number is still known as it was written.
//!
//! Must not: know what any key means.

mod reader;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use crate::diagnostic::{Diagnostic, Diagnostics, Location};

pub use reader::Map;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretRef;

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
