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
use crate::playbook::steps::{ParamKind, ParamSpec, StepError};
use crate::text;

/// Instructions and 64-byte blocks of data that one template may use: a few milliseconds, 3 MB.
const FUEL: u64 = 50_000;

/// Names that every template may use beside the inputs of its playbook.
pub const BUILT_IN: &[&str] = &["environment", "variables", "command", "requester", "reason"];

/// Names that exist when the playbook says `each: services`.
pub const PER_SERVICE: &[&str] = &["service", "version", "declared"];

/// The name that exists in a step with `each: sources`.
pub const PER_SOURCE: &str = "source";

static ENGINE: LazyLock<Engine<'static>> = LazyLock::new(|| {
    let mut engine = Engine::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::None);
    engine.set_syntax(
        SyntaxConfig::builder().keep_trailing_newline(true).build().expect("the usual delimiters are valid"),
    );
    engine.set_fuel(Some(FUEL));
    engine.set_debug(false);
    engine.add_filter("shquote", |text: &str| text::shquote(text));
    engine
});

/// As above, for texts: what a block leaves behind is no line.
static PROMPTS: LazyLock<Engine<'static>> = LazyLock::new(|| {
    let mut engine = ENGINE.clone();
    engine.set_syntax(
        SyntaxConfig::builder()
            .keep_trailing_newline(true)
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .expect("the usual delimiters are valid"),
    );
    engine
});

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
                "within": text::written_duration(health.within),
            });
        }
        declared["update"]["delay"] = json!(text::written_duration(service.update.delay));
        declared["update"]["monitor"] = json!(text::written_duration(service.update.monitor));
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

/// A template of `prompts/`, which may use the names of `values`.
pub fn render_report(text: &str, values: &Json) -> Result<String, TemplateError> {
    let scope = Scope(values.as_object().cloned().unwrap_or_default());
    PROMPTS.render_str(text, scope.values()).map_err(|error| explain(&error, text, &scope))
}

/// Whether a text is a template at all.
pub fn check_prompt(text: &str) -> Result<(), TemplateError> {
    let compiled = PROMPTS.template_from_str(text).map(drop);
    compiled.map_err(|error| TemplateError {
        what: error.detail().unwrap_or("it is not a template").to_owned(),
        hint: error.line().map(|line| format!("on line {line}")),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        Scope::new(None).with("service", "web").with("count", 3).with("version", Json::Null)
    }

    #[test]
    fn a_value_is_never_rendered_again() {
        let scope = scope().with("reason", "{{ variables.key }} {% for x in range(9) %}");
        let text = render("why: {{ reason }}", &scope).expect("rendered");
        assert_eq!(text, "why: {{ variables.key }} {% for x in range(9) %}");
        let params = json!({"text": "{{ reason }}"});
        let rendered = render_params(&params, &[], &scope).expect("rendered");
        assert_eq!(rendered["text"], "{{ variables.key }} {% for x in range(9) %}");
    }

    #[test]
    fn names_that_are_not_defined_are_errors_without_values() {
        let scope = scope().with("variables", json!({"key": "s3cret"}));
        let error = render("{{ service }} {{ variables.kee }}", &scope).expect_err("undefined");
        assert_eq!(error.what, "`variables.kee` in `{{ service }} {{ variables.kee }}` is not defined");
        assert!(error.hint.is_some_and(|hint| hint.contains("declare `kee`")));
        for text in [
            "{{ variables.key.x.y }}",
            "{{ variables.key + 1 }}",
            "{{ variables.key|nope }}",
            "{{ variables.key() }}",
        ] {
            let error = render(text, &scope).expect_err("an error");
            assert!(!error.what.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn nothing_is_escaped_and_the_last_newline_stays() {
        let scope = scope().with("text", "<a> \"b\" & 'c'");
        assert_eq!(render("{{ text }}\n", &scope).as_deref(), Ok("<a> \"b\" & 'c'\n"));
        assert_eq!(render("{{ text|shquote }}", &scope).as_deref(), Ok(r#"'<a> "b" & '\''c'\'''"#));
    }

    #[test]
    fn values_are_never_templates_themselves() {
        let scope = scope().with("reason", "{{ service }}{% for x in range(9) %}");
        assert_eq!(render("{{ reason }}", &scope).as_deref(), Ok("{{ service }}{% for x in range(9) %}"));
    }

    #[test]
    fn parameters_keep_their_types_and_what_is_none_is_left_out() {
        let specs = [
            ParamSpec { name: "replicas", kind: ParamKind::Integer, required: true, doc: "" },
            ParamSpec { name: "status", kind: ParamKind::Integer, required: true, doc: "" },
        ];
        let params = json!({
            "service": "{{ service }}", "replicas": "{{ count }}", "status": "2{{ 0 }}0",
            "version": "{{ version }}", "list": ["a-{{ service }}", {"deep": "{{ count }}"}], "plain": 7
        });
        let rendered = render_params(&params, &specs, &scope()).expect("renders");
        assert_eq!(
            rendered,
            json!({"service": "web", "replicas": 3, "status": 200, "list": ["a-web", {"deep": 3}], "plain": 7})
        );
        let error = render_params(&json!({"a": "{{ nope }}"}), &[], &scope()).expect_err("undefined");
        assert_eq!(error.what, "parameter `a`: `nope` in `{{ nope }}` is not defined");
    }

    #[test]
    fn a_greedy_template_runs_out_of_fuel() {
        for text in [
            "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}",
            "{{ 'a' * 2000000000 }}",
        ] {
            let error = render(text, &scope()).expect_err("too much");
            assert!(error.what.ends_with("does too much work"), "{error}");
        }
    }

    #[test]
    fn conditions_are_expressions() {
        assert_eq!(is_true("version", &scope()), Ok(false));
        assert_eq!(is_true("count > 2 and service == 'web'", &scope()), Ok(true));
        assert!(is_true("declared.health", &scope()).is_err());
        assert!(is_true("{{ version }}", &scope()).is_err());
    }

    #[test]
    fn names_are_found_before_anything_runs() {
        assert_eq!(names("{% set x = a.b %}{{ x }} {{ c }}"), Ok(vec!["a.b".to_owned(), "c".to_owned()]));
        assert_eq!(
            names_in_expression("declared.health and x"),
            Ok(vec!["declared.health".to_owned(), "x".to_owned()])
        );
        assert!(names("{{ x").is_err());
    }

    #[test]
    fn a_declared_service_is_seen_as_its_file_writes_it() {
        let file = "swarm: {socket: /s}\nservices:\n  web:\n    image: web\n    version: '1.7'\n    \
            health: {url: 'http://h/{version}', expect_body: 'v{version}', within: 90s}\n";
        let mut found = crate::diagnostic::Diagnostics::new();
        let node = crate::yaml::parse("dev.yaml".as_ref(), file.as_bytes(), &mut found).expect("yaml");
        let defaults = crate::config::environment::read::Defaults {
            dir: "".as_ref(),
            expires: std::time::Duration::from_secs(60),
            time_zone: &jiff::tz::TimeZone::UTC,
        };
        let environment =
            crate::config::environment::read::read(&node, "dev.yaml".as_ref(), &defaults, &mut found)
                .expect("an environment");
        assert!(found.is_empty(), "{found:?}");
        let scope = Scope::new(Some(&environment)).with_service(&environment.services[0], "1.8");
        assert_eq!(
            render("{{ declared.health.url }} {{ declared.health.within }}", &scope).as_deref(),
            Ok("http://h/1.8 1m30s")
        );
        assert_eq!(
            render("{{ environment }}/{{ service }} {{ version }} was {{ declared.version }}", &scope)
                .as_deref(),
            Ok("dev/web 1.8 was 1.7")
        );
        assert_eq!(is_true("declared.health", &scope), Ok(true));
    }
}
