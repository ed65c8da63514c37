//! From tokens to values: which command it is, and what each argument is, checked against what exists.
//!
//! Must not: correct what was typed, ask anything of the world, or have side effects. A near miss is a
//! question back, because the near miss of a production target is another production target.

mod canonical;
mod error;
mod scope;
mod value;

use std::collections::BTreeMap;

use super::parse::{CommandLine, Span, Token, unquoted};
use crate::command::{Argument, ArgumentKind, CommandSpec, Value};
use crate::config::environment::Environment;
use crate::ids::EnvName;

pub use error::{BindError, Problem};

/// What exists, as far as typing needs it.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Names of environments, each with the names of its services.
    pub environments: BTreeMap<String, Vec<String>>,
    /// User names; absent where they are not known, and then every name goes.
    pub people: Option<Vec<String>>,
}

impl Known {
    pub fn of(environments: &BTreeMap<EnvName, Environment>) -> Self {
        let services = |e: &Environment| e.services.iter().map(|s| s.name.to_string()).collect();
        let environments = environments.iter().map(|(name, e)| (name.to_string(), services(e))).collect();
        Self { environments, people: None }
    }
}

/// What a command line asks for.
#[derive(Clone, Debug)]
pub enum Outcome<'s> {
    /// `--help` or `-h` stood in it: nothing else counts.
    Help(&'s CommandSpec),
    Run(Bound<'s>),
}

/// A command with its values, ready to be authorized.
#[derive(Clone, Debug)]
pub struct Bound<'s> {
    pub command: &'s CommandSpec,
    pub values: Values,
    /// `--dry-run`; only commands that change something have it.
    pub dry_run: bool,
    /// `--reason`, or the command's own argument of that name.
    pub reason: Option<String>,
    /// `--break-glass`: why it has to start without the consent that it needs. Only commands with a playbook
    /// have it.
    pub break_glass: Option<String>,
    /// As one would type it, without prefix: arguments in the order of the schema, quotes only where they
    /// are needed, nothing that was not typed. Reads back to the same values.
    pub canonical: String,
    /// Lines after the first that were not read; the answer says so ([`Bound::note`]).
    pub further_lines: usize,
    /// How a word was read that could have been meant otherwise; the answer says so, too.
    pub read_as: Option<String>,
}

impl Bound<'_> {
    /// What the person should know beside the answer.
    pub fn note(&self) -> Option<String> {
        let left = (self.further_lines > 0).then(|| {
            let lines = crate::text::count(self.further_lines, "further line");
            let were = if self.further_lines == 1 { "was" } else { "were" };
            format!("Only the first line is the command: {lines} {were} not read.")
        });
        let notes: Vec<String> = self.read_as.iter().cloned().chain(left).collect();
        (!notes.is_empty()).then(|| notes.join(" "))
    }
}

/// Values by argument name, in the order of the schema; defaults included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(Vec<(String, Value)>);

impl Values {
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Value::Integer(n) => Some(*n),
            _ => None,
        }
    }
    pub fn duration(&self, name: &str) -> Option<std::time::Duration> {
        match self.get(name)? {
            Value::Duration(d) => Some(*d),
            _ => None,
        }
    }
    pub fn run(&self, name: &str) -> Option<crate::ids::RunId> {
        match self.get(name)? {
            Value::Run(run) => Some(*run),
            _ => None,
        }
    }
    /// A switch that was not typed is off.
    pub fn switch(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Switch(true)))
    }
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v))
    }
    /// As they are typed.
    pub fn as_typed(&self) -> BTreeMap<String, String> {
        self.iter().map(|(name, value)| (name.to_owned(), value.as_typed())).collect()
    }
}

/// Finds the command and binds its arguments. The first thing that is wrong is reported, in the order in
/// which it was typed; what is missing comes last.
pub fn bind<'s>(
    line: &CommandLine,
    commands: &'s [CommandSpec],
    known: &Known,
) -> Result<Outcome<'s>, Box<BindError>> {
    let (command, words) = find_command(line, commands)?;
    let fail = |span, problem| Err(BindError::new(line, span, problem, Some(command)));

    let given = match read(line, command, words, known) {
        Ok(Read::Help) => return Ok(Outcome::Help(command)),
        Ok(Read::Given(given)) => given,
        Err(failure) => return fail(failure.0, failure.1),
    };
    let values = match value::check_all(command, &given, known) {
        Ok(values) => values,
        Err(failure) => {
            let (argument, problem) = *failure;
            let end = line.first_line().trim_end().len();
            let span = given.span_of(&argument).unwrap_or(Span { start: end, end });
            return fail(span, problem);
        }
    };
    let own_reason = values.iter().find(|(name, _)| *name == REASON).map(|(_, v)| v.as_typed());
    let bound = Bound {
        command,
        canonical: canonical::of(command, &given, &values, known),
        dry_run: given.dry_run,
        break_glass: given.break_glass,
        reason: given.reason.or(own_reason).filter(|r| !r.trim().is_empty()),
        further_lines: if given.took_rest { 0 } else { line.further_lines() },
        read_as: given.read_as,
        values: Values(values.0),
    };
    Ok(Outcome::Run(bound))
}

/// Names that every command with `changes` has without declaring them.
pub(super) const DRY_RUN: &str = "dry-run";
pub(super) const REASON: &str = "reason";
/// As [`REASON`], for commands with a playbook: nothing else waits for consent.
pub(super) const BREAK_GLASS: &str = "break-glass";

/// Boxed: the good case is the common one.
type Failure = Box<(Span, Problem)>;

/// The command with the longest name that the line begins with, and of how many words the name is.
fn find_command<'s>(
    line: &CommandLine,
    commands: &'s [CommandSpec],
) -> Result<(&'s CommandSpec, usize), Box<BindError>> {
    let words: Vec<String> = line.tokens.iter().take(2).map(|t| t.text.to_lowercase()).collect();
    for n in (1..=words.len()).rev() {
        let typed = words[..n].join(" ");
        let named = |c: &&CommandSpec| {
            std::iter::once(&c.name).chain(&c.aliases).any(|name| name.eq_ignore_ascii_case(&typed))
        };
        // A word with a blank in it (`"backup list"`) is no name.
        if let Some(command) =
            commands.iter().find(named).filter(|_| !words[..n].iter().any(|w| w.contains(' ')))
        {
            return Ok((command, n));
        }
    }
    let first = words.first().cloned().unwrap_or_default();
    let second_words: Vec<String> = commands
        .iter()
        .filter_map(|c| c.name.split_once(' ').filter(|(one, _)| *one == first).map(|_| c.name.clone()))
        .collect();
    let (span, problem) = if second_words.is_empty() {
        let span = line.tokens.first().map_or(Span { start: 0, end: 0 }, |t| t.span);
        let suggestion = super::parse::nearest(&first, commands);
        (span, Problem::UnknownCommand { typed: first, suggestion })
    } else {
        let span = line.tokens.get(1).or(line.tokens.first()).map_or(Span { start: 0, end: 0 }, |t| t.span);
        (span, Problem::IncompleteCommand { typed: first, choices: second_words })
    };
    Err(BindError::new(line, span, problem, None))
}

/// What was typed for each argument, unchecked.
#[derive(Clone, Debug, Default)]
struct Given {
    values: BTreeMap<String, (String, Span)>,
    dry_run: bool,
    reason: Option<String>,
    break_glass: Option<String>,
    took_rest: bool,
    /// That the first word of free text named.
    service: Option<Box<scope::Service>>,
    read_as: Option<String>,
}

impl Given {
    fn span_of(&self, argument: &str) -> Option<Span> {
        self.values.get(argument).map(|(_, span)| *span)
    }
}

enum Read {
    Help,
    Given(Given),
}

/// Where a name leads.
enum Slot<'s> {
    Argument(&'s Argument),
    DryRun,
    Reason,
    BreakGlass,
    Help,
}

fn slot<'s>(command: &'s CommandSpec, name: &str) -> Option<Slot<'s>> {
    let name = name.to_lowercase().replace('_', "-");
    let same = |a: &&Argument| a.name.to_lowercase().replace('_', "-") == name;
    if let Some(argument) = command.arguments.iter().chain(&command.flags).find(same) {
        return Some(Slot::Argument(argument));
    }
    match name.as_str() {
        "help" | "h" => Some(Slot::Help),
        DRY_RUN if command.changes => Some(Slot::DryRun),
        REASON if command.changes => Some(Slot::Reason),
        BREAK_GLASS if may_need_consent(command) => Some(Slot::BreakGlass),
        _ => None,
    }
}

fn is_rest(argument: &&Argument) -> bool {
    argument.kind == ArgumentKind::Rest
}

fn may_need_consent(command: &CommandSpec) -> bool {
    command.changes && matches!(command.action, crate::command::Action::Playbook(_))
}

fn read(line: &CommandLine, command: &CommandSpec, words: usize, known: &Known) -> Result<Read, Failure> {
    let mut given = Given::default();
    let tokens = &line.tokens[words..];
    let mut positional = command.arguments.iter().filter(|a| a.kind != ArgumentKind::Switch).peekable();
    let mut i = 0;
    // An error found before a `--help` must not hide it: who asks for help is not told off.
    let mut failure: Option<Failure> = None;
    while let Some(token) = tokens.get(i) {
        i += 1;
        while positional.next_if(|a| given.values.contains_key(&a.name)).is_some() {}
        let named = token.named.as_ref().and_then(|n| Some((n, slot(command, &n.name)?)));
        let named = named.filter(|(n, slot)| n.dashed || !matches!(slot, Slot::Help));
        if named.is_none()
            && let Some(rest) = positional.peek().copied().filter(is_rest)
        {
            let mut all = given.clone();
            if take_rest(line, command, rest, token.span.start, &mut all) {
                return Ok(Read::Help);
            }
            match scope::first(command, token, &all, known) {
                scope::First::Service(service) if given.service.is_none() => {
                    given.values.insert(service.argument.clone(), (service.target.clone(), service.span));
                    given.service = Some(Box::new(service));
                    continue;
                }
                scope::First::Unclear(problem) if given.service.is_none() => {
                    failure = failure.or(Some(Box::new((token.span, problem))));
                }
                _ => {}
            }
            given = all;
            break;
        }
        let step = match named {
            Some((_, Slot::Help)) => return Ok(Read::Help),
            Some((_, slot)) => take_named(&slot, token, tokens.get(i), &mut given).map(|used| i += used),
            None => take_positional(command, positional.next(), token, &mut given),
        };
        failure = failure.or(step.err());
    }
    if let Some(service) = given.service.take() {
        let rest = command.arguments.iter().find(is_rest).filter(|rest| rest.required);
        if rest.is_some_and(|rest| !given.values.contains_key(&rest.name)) {
            failure = failure.or(Some(Box::new((service.span, service.alone))));
        } else {
            given.read_as = Some(service.note);
        }
    }
    failure.map_or(Ok(Read::Given(given)), Err)
}

/// Returns how many further tokens were used.
fn take_named(
    slot: &Slot<'_>,
    token: &Token,
    next: Option<&Token>,
    given: &mut Given,
) -> Result<usize, Failure> {
    if let Some(quote) = token.unclosed {
        return Err(Box::new((quote, Problem::UnclosedQuote)));
    }
    let named = token.named.as_ref().expect("called for named tokens");
    let name = match slot {
        Slot::Argument(a) => a.name.as_str(),
        Slot::DryRun => DRY_RUN,
        Slot::BreakGlass => BREAK_GLASS,
        Slot::Reason | Slot::Help => REASON,
    };
    let is_switch = match slot {
        Slot::Argument(a) => a.kind == ArgumentKind::Switch,
        Slot::DryRun => true,
        Slot::Reason | Slot::BreakGlass | Slot::Help => false,
    };
    let (value, span, used) = match (&named.value, next) {
        (Some(value), _) => (value.clone(), named.value_span, 0),
        (None, _) if is_switch => ("true".to_owned(), token.span, 0),
        (None, Some(next)) if !next.named.as_ref().is_some_and(|n| n.dashed) => {
            if let Some(quote) = next.unclosed {
                return Err(Box::new((quote, Problem::UnclosedQuote)));
            }
            (next.text.clone(), next.span, 1)
        }
        (None, _) => return Err(Box::new((token.span, Problem::NoValue { flag: name.to_owned() }))),
    };
    let twice = Box::new((token.span, Problem::Duplicate { argument: name.to_owned() }));
    match slot {
        Slot::DryRun if given.dry_run => return Err(twice),
        Slot::DryRun => match value::switch(&value) {
            Some(on) => given.dry_run = on,
            None => {
                return Err(Box::new((
                    span,
                    Problem::NotASwitch { argument: name.to_owned(), typed: value },
                )));
            }
        },
        Slot::BreakGlass if given.break_glass.is_some() => return Err(twice),
        Slot::BreakGlass if value.trim().is_empty() => {
            return Err(Box::new((span, Problem::NoValue { flag: name.to_owned() })));
        }
        Slot::BreakGlass => given.break_glass = Some(value),
        Slot::Reason | Slot::Help if given.reason.is_some() => return Err(twice),
        Slot::Reason | Slot::Help => given.reason = Some(value),
        Slot::Argument(a) => {
            if given.values.insert(a.name.clone(), (value, span)).is_some() {
                return Err(twice);
            }
        }
    }
    Ok(used)
}

fn take_positional(
    command: &CommandSpec,
    argument: Option<&Argument>,
    token: &Token,
    given: &mut Given,
) -> Result<(), Failure> {
    if let Some(quote) = token.unclosed {
        return Err(Box::new((quote, Problem::UnclosedQuote)));
    }
    if let Some(named) = token.named.as_ref().filter(|n| n.dashed) {
        let suggestion = crate::text::did_you_mean(&named.name, flag_names(command)).map(str::to_owned);
        return Err(Box::new((token.span, Problem::UnknownFlag { typed: named.name.clone(), suggestion })));
    }
    let Some(argument) = argument else {
        let most = command.arguments.len();
        return Err(Box::new((token.span, Problem::TooMany { typed: token.text.clone(), most })));
    };
    given.values.insert(argument.name.clone(), (token.text.clone(), token.span));
    Ok(())
}

fn flag_names(command: &CommandSpec) -> Vec<&str> {
    let mut names: Vec<&str> =
        command.flags.iter().chain(&command.arguments).map(|a| a.name.as_str()).collect();
    names.push("help");
    if command.changes {
        names.extend([DRY_RUN, REASON]);
    }
    if may_need_consent(command) {
        names.push(BREAK_GLASS);
    }
    names
}

/// Takes all that follows as typed, over all lines. Switches at its very end are still switches, since
/// `!lock prod maintenance --dry-run` must not lock. True: it ends with a call for help.
fn take_rest(
    line: &CommandLine,
    command: &CommandSpec,
    rest: &Argument,
    start: usize,
    given: &mut Given,
) -> bool {
    let mut end = line.text.trim_end().len();
    loop {
        let text = &line.text[start..end];
        let last_start = text.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let word = &text[last_start..];
        let name = ["--", "—", "–"].iter().find_map(|dashes| word.strip_prefix(dashes));
        let found = name.filter(|n| !n.is_empty()).and_then(|n| slot(command, n));
        match found {
            Some(Slot::Help) => return true,
            Some(Slot::DryRun) => given.dry_run = true,
            Some(Slot::Argument(a)) if a.kind == ArgumentKind::Switch => {
                given
                    .values
                    .insert(a.name.clone(), ("true".to_owned(), Span { start: start + last_start, end }));
            }
            _ if word == "-h" => return true,
            _ => break,
        }
        end = start + text[..last_start].trim_end().len();
        if end <= start {
            return false;
        }
    }
    let raw = &line.text[start..end];
    let first_line_end = end.min(line.line_end);
    let span = Span { start, end: first_line_end.max(start) };
    given.values.insert(rest.name.clone(), (unquoted(raw).unwrap_or_else(|| raw.to_owned()), span));
    given.took_rest = true;
    false
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
