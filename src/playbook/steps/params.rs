//! Reading the final parameters of a step. Templates render to text, so a number may come as one, and an
//! empty text is an absent parameter.

use std::time::Duration;

use serde_json::Value as Json;

use super::StepError;
use crate::text::code;

pub(super) fn text<'p>(params: &'p Json, name: &str) -> Option<&'p str> {
    params.get(name)?.as_str().filter(|t| !t.is_empty())
}

pub(super) fn required<'p>(params: &'p Json, name: &str) -> Result<&'p str, StepError> {
    text(params, name).ok_or_else(|| StepError::new(format!("the step's parameter `{name}` is empty")))
}

pub(super) fn integer(params: &Json, name: &str) -> Result<Option<u64>, StepError> {
    match params.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(t)) if t.is_empty() => Ok(None),
        Some(Json::String(t)) => t.trim().parse().map(Some).map_err(|_| wrong(name, t, "a whole number")),
        Some(other) => {
            other.as_u64().map(Some).ok_or_else(|| wrong(name, &other.to_string(), "a whole number"))
        }
    }
}

pub(super) fn duration(params: &Json, name: &str) -> Result<Option<Duration>, StepError> {
    let Some(written) = text(params, name) else { return Ok(None) };
    crate::text::parse_duration(written)
        .map(Some)
        .ok_or_else(|| wrong(name, written, "a duration like `10s` or `5m`"))
}

pub(super) fn list(params: &Json, name: &str) -> Vec<String> {
    let items = params.get(name).and_then(Json::as_array);
    items.map(|i| i.iter().filter_map(Json::as_str).map(str::to_owned).collect()).unwrap_or_default()
}

fn wrong(name: &str, written: &str, wanted: &str) -> StepError {
    StepError::new(format!("the step's parameter `{name}` is {} and not {wanted}", code(written)))
}

/// Whether a value is still a template, which `check` cannot judge.
pub(super) fn is_template(value: &Json) -> bool {
    value.as_str().is_some_and(|t| t.contains("{{") || t.contains("{%"))
}
