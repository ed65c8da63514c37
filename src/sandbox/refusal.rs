//! How Rocket.Chat says no: the same refusal as a DDP error object and as a REST body.

use serde_json::{Value, json};

use super::state::Doc;

/// A refused call.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// A `Meteor.Error`: a code (text or number), mostly with a reason.
    Meteor(Box<MeteorError>),
    /// An ordinary `Error`: its text reaches REST callers, and DDP callers read "Internal server error".
    Plain(String),
    /// REST answers 400 `{"success":false}` and nothing else.
    Bare,
    /// A refused `method.call`: the result frame as text.
    Envelope(String),
}

/// The parts of a `Meteor.Error`.
#[derive(Debug, Clone, PartialEq)]
pub struct MeteorError {
    pub code: Value,
    pub reason: Option<String>,
    pub details: Option<Value>,
}

impl Refusal {
    fn meteor(code: Value, reason: Option<&str>) -> Self {
        Self::Meteor(Box::new(MeteorError { code, reason: reason.map(str::to_owned), details: None }))
    }

    pub fn new(code: &str, reason: &str) -> Self {
        Self::meteor(code.into(), Some(reason))
    }

    /// With `details.method`, as most of Rocket.Chat's own refusals have it.
    pub fn of(method: &str, code: &str, reason: &str) -> Self {
        Self::new(code, reason).details(json!({"method": method}))
    }

    /// A code and nothing else.
    pub fn code(code: &str) -> Self {
        Self::meteor(code.into(), None)
    }

    pub fn number(code: i64, reason: &str) -> Self {
        Self::meteor(code.into(), Some(reason))
    }

    pub fn plain(text: &str) -> Self {
        Self::Plain(text.to_owned())
    }

    pub fn details(mut self, details: Value) -> Self {
        if let Self::Meteor(error) = &mut self {
            error.details = Some(details);
        }
        self
    }

    /// The code as text; empty for an ordinary error.
    pub fn code_text(&self) -> String {
        match self {
            Self::Meteor(error) => error.code.as_str().map_or_else(|| error.code.to_string(), str::to_owned),
            Self::Plain(_) | Self::Bare | Self::Envelope(_) => String::new(),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Meteor(error) => match &error.reason {
                Some(reason) => format!("{reason} [{}]", self.code_text()),
                None => format!("[{}]", self.code_text()),
            },
            Self::Plain(text) => text.clone(),
            Self::Bare | Self::Envelope(_) => String::new(),
        }
    }

    /// The `error` of a `result` or `nosub` frame.
    pub fn to_ddp(&self) -> Value {
        let Self::Meteor(meteor) = self else {
            return Self::number(500, "Internal server error").to_ddp();
        };
        let mut error = Doc::new();
        error.insert("isClientSafe".into(), true.into());
        error.insert("error".into(), meteor.code.clone());
        if let Some(reason) = &meteor.reason {
            error.insert("reason".into(), reason.as_str().into());
        }
        if let Some(details) = &meteor.details {
            error.insert("details".into(), details.clone());
        }
        error.insert("message".into(), self.message().into());
        error.insert("errorType".into(), "Meteor.Error".into());
        Value::Object(error)
    }

    /// The body of a REST 400.
    pub fn to_rest(&self) -> Value {
        let mut body = Doc::new();
        body.insert("success".into(), false.into());
        match self {
            Self::Bare => {}
            Self::Envelope(message) => {
                body.insert("message".into(), message.as_str().into());
            }
            Self::Plain(text) => {
                body.insert("error".into(), text.as_str().into());
            }
            Self::Meteor(error) => {
                body.insert("error".into(), self.message().into());
                body.insert("errorType".into(), self.code_text().into());
                if let Some(details) = &error.details {
                    body.insert("details".into(), details.clone());
                }
            }
        }
        Value::Object(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_reads_as_rocketchat_writes_it() {
        let refusal = Refusal::of("setReaction", "error-not-allowed", "Invalid emoji provided.");
        assert_eq!(
            refusal.to_rest(),
            json!({"success": false, "error": "Invalid emoji provided. [error-not-allowed]",
                "errorType": "error-not-allowed", "details": {"method": "setReaction"}})
        );
        assert_eq!(
            Refusal::code("not-allowed").to_ddp(),
            json!({"isClientSafe": true, "error": "not-allowed", "message": "[not-allowed]",
                "errorType": "Meteor.Error"})
        );
        assert_eq!(Refusal::plain("x").to_ddp()["error"], 500);
    }
}
