//! One typed value after the other: from text to [`Value`], against its kind and what exists.
//!
//! Must not: guess.

use super::error::Problem;
use super::{Given, Known};
use crate::command::{Argument, ArgumentKind, CommandSpec, Value, is_version};
use crate::text::{self, did_you_mean};

/// Values that were checked, in the order of the schema.
#[derive(Debug, Default)]
pub(super) struct Checked(pub(super) Vec<(String, Value)>);

impl Checked {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v))
    }
}

/// Checks what was given and fills in defaults. The error names its argument.
pub(super) fn check_all(
    command: &CommandSpec,
    given: &Given,
    known: &Known,
) -> Result<Checked, Box<(String, Problem)>> {
    let mut checked = Checked::default();
    let mut missing = None;
    for argument in command.arguments.iter().chain(&command.flags) {
        let typed = given.values.get(&argument.name).map(|(typed, _)| typed);
        let environment = environment_of(command, &checked);
        match typed.or(argument.default.as_ref()) {
            Some(typed) => {
                let value = check(argument, typed, environment.as_deref(), known)
                    .map_err(|problem| Box::new((argument.name.clone(), problem)))?;
                checked.0.push((argument.name.clone(), value));
            }
            // A word that stands there for the sake of reading is not asked for.
            None if let (true, ArgumentKind::Enum(only)) = (argument.required, &argument.kind)
                && let [word] = only.as_slice() =>
            {
                checked.0.push((argument.name.clone(), Value::Text(word.clone())));
            }
            None if argument.required && argument.kind != ArgumentKind::Switch && missing.is_none() => {
                let problem = Problem::Missing {
                    argument: argument.name.clone(),
                    kind: argument.kind.clone(),
                    doc: argument.doc.clone(),
                    choices: choices(argument, environment.as_deref(), known),
                };
                missing = Some(Box::new((argument.name.clone(), problem)));
            }
            None => {}
        }
    }
    missing.map_or(Ok(checked), Err)
}

/// The environment that services of this command are looked up in.
fn environment_of(command: &CommandSpec, checked: &Checked) -> Option<String> {
    let mut all = command.arguments.iter().chain(&command.flags);
    let argument = all.find(|a| a.kind == ArgumentKind::Environment)?;
    match checked.get(&argument.name)? {
        Value::Text(name) => Some(name.clone()),
        _ => None,
    }
}

/// What can be answered for this argument; empty when that is not a list.
fn choices(argument: &Argument, environment: Option<&str>, known: &Known) -> Vec<String> {
    match &argument.kind {
        ArgumentKind::Environment => known.environments.keys().cloned().collect(),
        ArgumentKind::Service => services(environment, known),
        ArgumentKind::Target => targets(known),
        ArgumentKind::Enum(choices) => choices.clone(),
        _ => Vec::new(),
    }
}

/// Each environment, and after it its services.
fn targets(known: &Known) -> Vec<String> {
    let of = |(name, services): (&String, &Vec<String>)| {
        let services = services.iter().map(|service| format!("{name}/{service}"));
        std::iter::once(name.clone()).chain(services).collect::<Vec<_>>()
    };
    known.environments.iter().flat_map(of).collect()
}

fn services(environment: Option<&str>, known: &Known) -> Vec<String> {
    let mut names: Vec<String> = match environment {
        Some(name) => known.environments.get(name).cloned().unwrap_or_default(),
        None => known.environments.values().flatten().cloned().collect(),
    };
    if environment.is_none() {
        names.sort();
        names.dedup();
    }
    names
}

fn check(
    argument: &Argument,
    typed: &str,
    environment: Option<&str>,
    known: &Known,
) -> Result<Value, Problem> {
    let name = argument.name.clone();
    let typed_owned = || typed.to_owned();
    if typed.trim().is_empty() && !matches!(argument.kind, ArgumentKind::Text | ArgumentKind::Rest) {
        return Err(Problem::Empty { argument: name });
    }
    if typed.trim().is_empty() && argument.required {
        return Err(Problem::Empty { argument: name });
    }
    let near =
        |choices: &[String]| did_you_mean(typed, choices.iter().map(String::as_str)).map(str::to_owned);
    match &argument.kind {
        ArgumentKind::Environment => {
            if known.environments.contains_key(typed) {
                return Ok(Value::Text(typed_owned()));
            }
            let choices = choices(argument, None, known);
            let before = typed.split_once('/').map(|(environment, _)| environment.to_owned());
            let suggestion = before.filter(|name| choices.contains(name)).or_else(|| near(&choices));
            Err(Problem::UnknownEnvironment { typed: typed_owned(), suggestion, choices })
        }
        ArgumentKind::Service => {
            let choices = services(environment, known);
            if choices.iter().any(|c| c == typed) {
                return Ok(Value::Text(typed_owned()));
            }
            let elsewhere = known.environments.iter().filter(|(_, s)| s.iter().any(|s| s == typed));
            Err(Problem::UnknownService {
                typed: typed_owned(),
                environment: environment.map(str::to_owned),
                suggestion: near(&choices),
                choices,
                elsewhere: elsewhere.map(|(name, _)| name.clone()).collect(),
            })
        }
        ArgumentKind::Target => {
            let (environment, service) =
                typed.split_once('/').map_or((typed, None), |(name, service)| (name, Some(service)));
            let Some(services) = known.environments.get(environment) else {
                let choices: Vec<String> = known.environments.keys().cloned().collect();
                let meant = did_you_mean(environment, choices.iter().map(String::as_str)).map(str::to_owned);
                let typed = environment.to_owned();
                return Err(Problem::UnknownEnvironment { typed, suggestion: meant, choices });
            };
            match service {
                None => Ok(Value::Text(typed_owned())),
                Some(service) if services.iter().any(|s| s == service) => Ok(Value::Text(typed_owned())),
                Some(service) => Err(Problem::UnknownService {
                    typed: service.to_owned(),
                    environment: Some(environment.to_owned()),
                    suggestion: did_you_mean(service, services.iter().map(String::as_str)).map(str::to_owned),
                    choices: services.clone(),
                    elsewhere: Vec::new(),
                }),
            }
        }
        ArgumentKind::Version if is_version(typed) => Ok(Value::Text(typed_owned())),
        ArgumentKind::Version => Err(Problem::NotAVersion { typed: typed_owned() }),
        ArgumentKind::Integer { min, max } => match typed.parse::<i64>() {
            Ok(n) if (*min..=*max).contains(&n) => Ok(Value::Integer(n)),
            Ok(_) => Err(Problem::OutOfRange { argument: name, typed: typed_owned(), min: *min, max: *max }),
            Err(_) => {
                Err(Problem::NotAnInteger { argument: name, typed: typed_owned(), min: *min, max: *max })
            }
        },
        ArgumentKind::Duration { min, max } => match text::parse_duration(typed) {
            Some(d) if min.is_none_or(|min| d >= min) && max.is_none_or(|max| d <= max) => {
                Ok(Value::Duration(d))
            }
            Some(_) => Err(Problem::DurationOutOfRange {
                argument: name,
                typed: typed_owned(),
                min: *min,
                max: *max,
            }),
            None => Err(Problem::NotADuration { argument: name, typed: typed_owned() }),
        },
        ArgumentKind::Enum(choices) => {
            match choices.iter().find(|c| c.to_lowercase() == typed.to_lowercase()) {
                Some(choice) => Ok(Value::Text(choice.clone())),
                // `freeze prod web until …`
                None if services(environment, known).iter().any(|service| service == typed) => {
                    Err(Problem::NoServiceHere {
                        typed: typed_owned(),
                        environment: environment.map(str::to_owned),
                        argument: name,
                        choices: choices.clone(),
                    })
                }
                None => Err(Problem::NotAChoice {
                    argument: name,
                    typed: typed_owned(),
                    suggestion: near(choices),
                    choices: choices.clone(),
                }),
            }
        }
        ArgumentKind::Run => match typed.parse() {
            Ok(run) => Ok(Value::Run(run)),
            Err(_) => Err(Problem::NotARun { typed: typed_owned() }),
        },
        ArgumentKind::User => {
            let user = typed.strip_prefix('@').unwrap_or(typed);
            let people = known.people.as_deref();
            if user.is_empty() {
                return Err(Problem::Empty { argument: name });
            }
            match people.map(|p| p.iter().find(|p| p.eq_ignore_ascii_case(user))) {
                None => Ok(Value::Text(user.to_owned())),
                Some(Some(person)) => Ok(Value::Text(person.clone())),
                Some(None) => Err(Problem::UnknownPerson {
                    typed: user.to_owned(),
                    suggestion: near(people.unwrap_or(&[])),
                }),
            }
        }
        ArgumentKind::Text | ArgumentKind::Rest => Ok(Value::Text(typed_owned())),
        ArgumentKind::Switch => match switch(typed) {
            Some(on) => Ok(Value::Switch(on)),
            None => Err(Problem::NotASwitch { argument: name, typed: typed_owned() }),
        },
    }
}

pub(super) fn switch(typed: &str) -> Option<bool> {
    match typed.to_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}
