//! Looks for values that are probably secrets. A configuration folder is kept in version control and shown
//! in findings; a secret in it is known to everybody.
//!
//! Must not: repeat what it found.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::yaml::{Node, Value};

/// How well-known services begin their tokens.
const PREFIXES: &[&str] = &[
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "gsk_",
    "sk-",
    "hf_",
    "hvs.",
    "dckr_pat_",
    "npm_",
    "eyJhbGciOi",
    "-----BEGIN",
];

/// Words in keys whose values are secrets.
const KEYS: &[&str] =
    &["password", "passwd", "secret", "token", "api_key", "apikey", "private_key", "credentials"];

/// Warns about every value in `node` that looks like a secret.
pub(super) fn look(node: &Node, found: &mut Diagnostics) {
    match &node.value {
        Value::Text(text) => {
            let by_key = under_secret_key(&node.label) && !points_elsewhere(text);
            if by_key || looks_like_token(text) {
                found.push(
                    Diagnostic::warning(node.at.clone(), format!("the value of `{}` looks like a secret", node.label))
                        .confidential()
                        .hint("keep secrets out of this folder: in a Docker secret, a file, or the environment of Houston")
                        .hint("if it is real, treat it as known and replace it"),
                );
            }
        }
        Value::List(items) => items.iter().for_each(|item| look(item, found)),
        // What stands in a reference only says where the secret is; a value in its place is
        // reported by its reader.
        Value::Map(entries) => {
            for (key, value) in entries {
                let reference =
                    under_secret_key(&node.label) && matches!(&*key.name, "file" | "env" | "command");
                let reported = &*node.label == "rocketchat" && matches!(&*key.name, "token" | "password");
                if !reference && !reported {
                    look(value, found);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(..) | Value::Float(..) => {}
    }
}

fn under_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let file = key.ends_with("_file") || key.ends_with("_path");
    !file && KEYS.iter().any(|word| key.ends_with(word))
}

/// A path, an address without credentials, a template: where the secret is, not what it is.
fn points_elsewhere(text: &str) -> bool {
    text.is_empty() || text.starts_with('/') || text.contains("{{") || text.starts_with("http")
}

fn looks_like_token(text: &str) -> bool {
    let text = text.trim();
    if PREFIXES.iter().any(|prefix| text.starts_with(prefix) && text.len() >= prefix.len() + 8) {
        return true;
    }
    // Long, without spaces, of both cases and digits: what no person invents. Digests are lower-case.
    let body =
        text.len() >= 40 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let has = |test: fn(&u8) -> bool| text.as_bytes().iter().filter(|b| test(b)).count() >= 3;
    body && has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(text: &str) -> usize {
        let mut found = Diagnostics::new();
        let node = crate::yaml::parse("x.yaml".as_ref(), text.as_bytes(), &mut found).expect("yaml");
        look(&node, &mut found);
        assert!(found.sorted().iter().all(|finding| finding.confidential));
        found.count(crate::diagnostic::Severity::Warning)
    }

    #[test]
    fn values_that_look_like_secrets_are_named_by_key_only() {
        assert_eq!(warnings("environment: {DB_PASSWORD: hunter2}"), 1);
        assert_eq!(warnings("anything: ghp_0123456789abcdef0123456789abcdef0123"), 1);
        assert_eq!(warnings("x: [aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0eF3hI6kL9n]"), 1);
    }

    #[test]
    fn references_paths_and_digests_are_no_secrets() {
        assert_eq!(warnings("token: {env: HOUSTON_TOKEN}"), 0);
        assert_eq!(warnings("DB_PASSWORD_FILE: /run/secrets/db"), 0);
        assert_eq!(warnings(&format!("version: sha256:{}", "0123456789abcdef".repeat(4))), 0);
        assert_eq!(warnings("summary: Brings services to the version that is declared in the file"), 0);
    }
}
