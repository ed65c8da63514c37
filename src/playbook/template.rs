//! Templates in playbooks: what names they may use, and how parameters are rendered for a plan.
//!
//! Undefined names are errors, nothing is escaped, work and memory are bounded by fuel, and no error
//! repeats the value of a variable: it may be a secret's neighbour, and the message goes to a room.
//!
//! Must not: read files, or give templates a way to reach the outside.

use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment as Engine, ErrorKind, UndefinedBehavior};
use serde_json::{Map, Value as Json, json};

use crate::config::environment::{Environment, Service};
use crate::config::yaml::written_duration;
use crate::playbook::steps::{ParamKind, ParamSpec, StepError};

/// Instructions and 64-byte blocks of data that one template may use: a few milliseconds, 3 MB.
const FUEL: u64 = 50_000;

/// Names that every template may use beside the inputs of its playbook.
pub const BUILT_IN: &[&str] = &["environment", "variables", "command", "requester", "reason"];

/// Names that exist when the playbook says `each: services`.
pub const PER_SERVICE: &[&str] = &["service", "version", "declared"];

static ENGINE: LazyLock<Engine<'static>> = LazyLock::new(|| {
    let mut engine = Engine::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_syntax(
        SyntaxConfig::builder().keep_trailing_newline(true).build().expect("the usual delimiters are valid"),
    );
    engine.set_fuel(Some(FUEL));
    engine.set_debug(false);
    engine.add_filter("shquote", |text: &str| shquote(text));
    engine
});

/// One word of a POSIX shell, whatever `text` holds.
pub fn shquote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What the names in a template stand for. Inputs that were not given are none, so that `when: version`
/// and `default(…)` work and a wrong name is still an error.
#[derive(Clone, Debug, Default)]
pub struct Scope(Map<String, Json>);

impl Scope {
    /// With the environment's name and variables; every name of [`BUILT_IN`] is defined.
    pub fn new(environment: Option<&Environment>) -> Self {
        let mut scope = Self(BUILT_IN.iter().map(|name| ((*name).to_owned(), Json::Null)).collect());
        scope.0.insert("variables".into(), json!({}));
        if let Some(environment) = environment {
            scope.0.insert("environment".into(), json!(environment.name));
            scope.0.insert("variables".into(), json!(environment.variables));
        }
        scope
    }

    /// An input of the playbook, or one of the built-in names.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Binds `service`, `version` and `declared` (the service as its file declares it, durations as they
    /// are written, `{version}` in the health check replaced).
    #[must_use]
    pub fn with_service(self, service: &Service, version: &str) -> Self {
        let mut declared = serde_json::to_value(service).expect("a service is plain data");
        if let Some(health) = &service.health {
            let filled = |text: &str| text.replace("{version}", version);
            declared["health"] = json!({
                "url": filled(&health.url),
                "expect_status": health.expect_status,
                "expect_body": health.expect_body.as_deref().map(filled),
                "within": written_duration(health.within),
            });
        }
        declared["update"]["delay"] = json!(written_duration(service.update.delay));
        declared["update"]["monitor"] = json!(written_duration(service.update.monitor));
        self.with("service", service.name.as_str()).with("version", version).with("declared", declared)
    }

    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.get(name)
    }

    fn values(&self) -> minijinja::Value {
        minijinja::Value::from(minijinja::value::Serde(&self.0))
    }
}

/// A template does not render. Says where in the template and which name, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct TemplateError {
    pub what: String,
    pub hint: Option<String>,
}

impl From<TemplateError> for StepError {
    fn from(error: TemplateError) -> Self {
        let step = Self::new(error.what);
        match error.hint {
            Some(hint) => step.hint(hint),
            None => step,
        }
    }
}

/// `text` with its templates filled in.
pub fn render(text: &str, scope: &Scope) -> Result<String, TemplateError> {
    ENGINE.render_str(text, scope.values()).map_err(|error| explain(&error, text, scope))
}

/// A `when:` expression.
pub fn is_true(expression: &str, scope: &Scope) -> Result<bool, TemplateError> {
    let value = ENGINE
        .compile_expression(expression)
        .and_then(|e| e.eval(scope.values()))
        .map_err(|error| explain(&error, expression, scope))?;
    Ok(value.is_true())
}

/// The parameters of a step, final. Strings are templates; one that is a single `{{ … }}` keeps the type
/// of its value, and where that is none an optional parameter is left out. Numbers and truth values that
/// arrive as text become what `specs` says.
pub fn render_params(params: &Json, specs: &[ParamSpec], scope: &Scope) -> Result<Json, TemplateError> {
    let Json::Object(params) = params else { return render_json(params, scope) };
    let mut out = Map::new();
    for (name, value) in params {
        let rendered = render_json(value, scope).map_err(|error| TemplateError {
            what: format!("parameter `{name}`: {}", error.what),
            hint: error.hint,
        })?;
        if rendered.is_null() && !value.is_null() {
            continue;
        }
        let spec = specs.iter().find(|spec| spec.name == name);
        out.insert(name.clone(), spec.map_or(rendered.clone(), |spec| coerce(rendered, spec.kind)));
    }
    Ok(Json::Object(out))
}

/// Every string in `value`, rendered; keys stay as they are.
fn render_json(value: &Json, scope: &Scope) -> Result<Json, TemplateError> {
    Ok(match value {
        Json::String(text) => match sole_expression(text) {
            Some(expression) => {
                let value = ENGINE
                    .compile_expression(expression)
                    .and_then(|e| e.eval(scope.values()))
                    .map_err(|error| explain(&error, text, scope))?;
                if value.is_undefined() {
                    return Err(undefined(text, scope));
                }
                serde_json::to_value(&value).map_err(|_| TemplateError {
                    what: format!("`{text}` does not give plain data"),
                    hint: None,
                })?
            }
            None => Json::String(render(text, scope)?),
        },
        Json::Array(items) => {
            Json::Array(items.iter().map(|item| render_json(item, scope)).collect::<Result<_, _>>()?)
        }
        Json::Object(map) => Json::Object(
            map.iter()
                .map(|(key, value)| Ok((key.clone(), render_json(value, scope)?)))
                .collect::<Result<_, TemplateError>>()?,
        ),
        other => other.clone(),
    })
}

/// The expression of a text that is one `{{ … }}` and nothing else.
pub(super) fn sole_expression(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    let plain = !inner.contains("{{") && !inner.contains("}}") && !inner.contains("{%");
    plain.then(|| inner.trim_matches('-').trim())
}

fn coerce(value: Json, kind: ParamKind) -> Json {
    match (kind, &value) {
        (ParamKind::Integer, Json::String(text)) => text.trim().parse::<i64>().map_or(value, Json::from),
        (ParamKind::Boolean, Json::String(text)) => match text.trim() {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            _ => value,
        },
        (ParamKind::Text | ParamKind::Duration | ParamKind::Enum(_), Json::Number(n)) => {
            Json::String(n.to_string())
        }
        _ => value,
    }
}

/// Names that `text` uses and does not set itself, with what it reads of them: `declared.health`.
pub fn names(text: &str) -> Result<Vec<String>, TemplateError> {
    let template =
        ENGINE.template_from_str(text).map_err(|error| explain(&error, text, &Scope::default()))?;
    let mut names: Vec<String> = template.undeclared_variables(true).into_iter().collect();
    names.sort();
    Ok(names)
}

/// The same for a `when:` expression.
pub fn names_in_expression(expression: &str) -> Result<Vec<String>, TemplateError> {
    let compiled = ENGINE
        .compile_expression(expression)
        .map_err(|error| explain(&error, expression, &Scope::default()))?;
    let mut names: Vec<String> = compiled.undeclared_variables(true).into_iter().collect();
    names.sort();
    Ok(names)
}

fn undefined(text: &str, scope: &Scope) -> TemplateError {
    let used = names(text).unwrap_or_default();
    let missing = used.iter().find(|name| {
        let mut parts = name.split('.');
        let mut at = parts.next().and_then(|first| scope.0.get(first));
        for part in parts {
            at = at.and_then(|value| value.get(part));
        }
        at.is_none()
    });
    match missing {
        Some(name) => TemplateError {
            what: format!("`{name}` in `{text}` is not defined"),
            hint: name
                .strip_prefix("variables.")
                .map(|variable| format!("declare `{variable}` under `variables` in the environment's file")),
        },
        None => TemplateError { what: format!("something in `{text}` is not defined"), hint: None },
    }
}

/// The engine's own texts quote the template, and some the values; these quote the template only.
fn explain(error: &minijinja::Error, text: &str, scope: &Scope) -> TemplateError {
    let text = crate::text::ellipsis(text, 120);
    let plain = |what: String| TemplateError { what, hint: None };
    match error.kind() {
        ErrorKind::UndefinedError => undefined(&text, scope),
        ErrorKind::OutOfFuel => plain(format!("`{text}` does too much work")),
        ErrorKind::SyntaxError => {
            plain(format!("`{text}` is not a template: {}", error.detail().unwrap_or("syntax error")))
        }
        ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction => TemplateError {
            what: format!("`{text}`: {}", error.detail().unwrap_or("unknown name")),
            hint: Some("beside minijinja's own filters there is `shquote`".into()),
        },
        kind => plain(format!("`{text}` does not render: {kind}")),
    }
}
