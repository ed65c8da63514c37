//! Secret values as a type, and the one redactor that every sink goes through.
//!
//! A configuration holds a [`SecretRef`], never a value. Resolving one gives a [`Secret`], which prints
//! as `[redacted]`, and tells the process-wide [`Redactor`] about the value, so that it is also removed
//! where it comes back: in a command's output, an error of a provider, a log line.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// Shown in place of a secret.
pub const REDACTED: &str = "[redacted]";

/// Values shorter than this are not searched for in text: they would blank out innocent words.
const SHORTEST_REDACTED: usize = 6;

/// Where a secret is found: the only form in which configuration may name one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretRef {
    /// `{file: /run/secrets/token}`: the file's text without its last newline. Relative to the config folder.
    File(PathBuf),
    /// `{env: HOUSTON_TOKEN}`
    Env(String),
    /// `{command: [op, read, "op://…"]}`: the program's standard output without its last newline.
    Command(Vec<String>),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file `{}`", path.display()),
            Self::Env(name) => write!(f, "environment variable `{name}`"),
            Self::Command(argv) => write!(f, "command `{}`", argv.join(" ")),
        }
    }
}

/// A resolved secret. Reaching the value is a call that can be searched for: [`Secret::expose`].
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a value and registers it with `redactor`.
    pub fn new(value: impl Into<String>, redactor: &Redactor) -> Self {
        let value = value.into();
        redactor.learn(&value);
        Self(value.into())
    }
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Knows every secret that was resolved in this process and takes it out of text.
///
/// Sinks: chat (`gateway`), log (`cli` installs it as the log writer), store and audit. Each has a test
/// with a marker secret.
#[derive(Clone, Default)]
pub struct Redactor(Arc<RwLock<Vec<String>>>);

impl Redactor {
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on `value` is taken out of every text, also in the spellings in which it commonly
    /// travels: JSON-escaped, percent-encoded, as base64 of a text that it stands in, in hexadecimal, and as it is
    /// shown when it was made harmless for a room first.
    pub fn learn(&self, value: &str) {
        let value = value.trim();
        if value.len() < SHORTEST_REDACTED {
            return;
        }
        let json = serde_json::to_string(value).unwrap_or_default();
        let json = json.trim_matches('"');
        let percent: String = url::form_urlencoded::byte_serialize(value.as_bytes()).collect();
        let mut known = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        // A secret of several lines (a key) is also known line by line.
        let as_is = [value, json, &percent].into_iter().chain(value.lines().map(str::trim));
        for spelling in as_is.map(str::to_owned).chain(encoded(value)).chain(shown(value)) {
            if spelling.len() >= SHORTEST_REDACTED && !known.contains(&spelling) {
                known.push(spelling);
            }
        }
        // Longest first, so that a secret that contains another is taken out whole.
        known.sort_by_key(|k| std::cmp::Reverse(k.len()));
    }

    /// `text` with every known secret replaced. Borrows when there is nothing to replace.
    pub fn redact<'t>(&self, text: &'t str) -> std::borrow::Cow<'t, str> {
        let known = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut text = std::borrow::Cow::Borrowed(text);
        for secret in known.iter() {
            if text.contains(secret.as_str()) {
                text = std::borrow::Cow::Owned(text.replace(secret.as_str(), REDACTED));
            }
        }
        text
    }

    /// The same for every string in a JSON value, keys included.
    pub fn redact_json(&self, value: &serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::String(s) => Value::String(self.redact(s).into_owned()),
            Value::Array(items) => Value::Array(items.iter().map(|v| self.redact_json(v)).collect()),
            Value::Object(map) => Value::Object(
                map.iter().map(|(k, v)| (self.redact(k).into_owned(), self.redact_json(v))).collect(),
            ),
            other => other.clone(),
        }
    }
}
impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

/// In other alphabets. Longer values are not found whole in them: they come in lines.
fn encoded(value: &str) -> Vec<String> {
    const LONGEST: usize = 4096;
    if value.len() > LONGEST {
        return Vec::new();
    }
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let spaces =
        url::form_urlencoded::byte_serialize(value.as_bytes()).collect::<String>().replace('+', "%20");
    let mut all = vec![hex.to_uppercase(), hex, spaces];
    // What precedes it shifts it by none, one or two bytes; characters that hold bits of its neighbours are left out.
    for before in 0..3 {
        let shifted = [vec![0; before], value.as_bytes().to_vec()].concat();
        let whole = (before * 8).div_ceil(6)..shifted.len() * 8 / 6;
        let base64 = STANDARD_NO_PAD.encode(&shifted);
        let base64 = base64.get(whole).unwrap_or_default();
        all.push(base64.replace('+', "-").replace('/', "_"));
        all.push(base64.to_owned());
    }
    all
}

/// As it stands in a room: no name is called, and no code is ended.
fn shown(value: &str) -> [String; 2] {
    let uncalled = value.replace('@', "@\u{200b}");
    [uncalled.replace('`', "ˋ"), uncalled]
}

/// Beginnings by which well-known services mark their secrets, and whose they are. Each is followed by at
/// least sixteen characters of the secret itself.
const TELLTALE: [(&str, &str); 12] = [
    ("ghp_", "a GitHub token"),
    ("gho_", "a GitHub token"),
    ("ghs_", "a GitHub token"),
    ("github_pat_", "a GitHub token"),
    ("glpat-", "a GitLab token"),
    ("xoxb-", "a Slack token"),
    ("xoxp-", "a Slack token"),
    ("AKIA", "an AWS access key"),
    ("gsk_", "a Groq key"),
    ("sk-", "an API key"),
    ("dckr_pat_", "a Docker Hub token"),
    ("hvs.", "a Vault token"),
];

/// What in a text that people typed looks like a secret, if anything does. Errs on the quiet side: a word
/// counts only when it begins as a known kind of secret does and is long enough to be one.
pub fn looks_like_a_secret(text: &str) -> Option<&'static str> {
    if text.contains("-----BEGIN ") && text.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    let of_a_secret = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    text.split(|c: char| !of_a_secret(c)).find_map(|word| {
        TELLTALE.iter().find_map(|(beginning, whose)| {
            let rest = word.strip_prefix(beginning)?;
            let mixed =
                rest.chars().any(|c| c.is_ascii_digit()) && rest.chars().any(|c| c.is_ascii_alphabetic());
            (rest.len() >= 16 && mixed).then_some(*whose)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_and_is_taken_out_of_text() {
        let redactor = Redactor::new();
        let secret = Secret::new("s3cr\"et/value", &redactor);
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        assert_eq!(redactor.redact("token=s3cr\"et/value!"), "token=[redacted]!");
        assert_eq!(redactor.redact(r#"{"t":"s3cr\"et/value"}"#), r#"{"t":"[redacted]"}"#);
        assert_eq!(redactor.redact("?t=s3cr%22et%2Fvalue"), "?t=[redacted]");
        assert!(matches!(redactor.redact("nothing here"), std::borrow::Cow::Borrowed(_)));
    }

    #[test]
    fn a_secret_is_known_in_other_alphabets() {
        let redactor = Redactor::new();
        let value = "p@ss`word ~~ 7?>/x";
        redactor.learn(value);
        let basic = STANDARD_NO_PAD.encode(format!("deploy:{value}"));
        let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
        for text in [
            basic.replace('+', "-").replace('/', "_"),
            basic,
            STANDARD_NO_PAD.encode(format!("u:{value};")),
            STANDARD_NO_PAD.encode(format!("{value}\n")),
            hex.to_uppercase(),
            hex,
            "p%40ss%60word%20%7E%7E%207%3F%3E%2Fx".to_owned(),
        ] {
            let shown = redactor.redact(&text);
            assert!(shown.contains(REDACTED) && shown.len() < REDACTED.len() + 14, "{text}: {shown}");
        }
    }

    #[test]
    fn secrets_that_people_type_are_noticed_and_ordinary_words_are_not() {
        let token = format!("deploy prod web --reason ghp_{}", "a1B2".repeat(9));
        assert_eq!(looks_like_a_secret(&token), Some("a GitHub token"));
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl";
        assert_eq!(looks_like_a_secret(key), Some("a private key"));
        for innocent in
            ["deploy prod web 1.8", "sk-", "sk-learn-is-a-library", "AKIA", "ghp_short1", "task-1"]
        {
            assert_eq!(looks_like_a_secret(innocent), None, "{innocent}");
        }
    }

    #[test]
    fn short_values_do_not_blank_out_innocent_words() {
        let redactor = Redactor::new();
        redactor.learn("web");
        assert_eq!(redactor.redact("deploy web"), "deploy web");
    }
}
