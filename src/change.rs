//! One difference between what is and what is asked: what plans list, and what drift is told in.
//!
//! Must not: compare anything; providers and `playbook` do.

use serde::{Deserialize, Serialize};

/// `image: web:1.7 → web:1.8`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// `image`, `replicas`, `environment variable LOG`, …
    pub what: String,
    /// Absent: it does not exist yet.
    pub from: Option<String>,
    /// Absent: it will be removed.
    pub to: Option<String>,
}

impl Change {
    /// As people read a difference that they did not ask for. Digests are for comparing: of them it says that they
    /// differ, and leaves them out beside a name that differs as well.
    pub fn in_words(&self) -> Self {
        let digest = |value: &Option<String>| value.as_deref().is_some_and(|value| self.is_digest(value));
        let is = |words: &str| Self { what: format!("{} {words}", self.what), from: None, to: None };
        match (digest(&self.from), digest(&self.to)) {
            (true, true) => return is("is another one"),
            (false, true) if self.from.is_none() => return is("is new"),
            (true, false) if self.to.is_none() => return is("is gone"),
            (false, true) | (true, false) => {
                let shown = |value: &Option<String>, digest| match digest {
                    true => Some("there".to_owned()),
                    false => value.clone(),
                };
                return Self {
                    from: shown(&self.from, digest(&self.from)),
                    to: shown(&self.to, digest(&self.to)),
                    ..self.clone()
                };
            }
            (false, false) => {}
        }
        let (from, to) = (self.from.as_deref().map(name_of), self.to.as_deref().map(name_of));
        if from != to {
            return Self {
                what: self.what.clone(),
                from: from.map(str::to_owned),
                to: to.map(str::to_owned),
            };
        }
        match (from, &self.from) {
            // The name is the same, and what it stands for is not.
            (Some(name), Some(whole)) if name != whole => is(&format!("({name}) is another one")),
            _ => self.clone(),
        }
    }

    /// Whole ones, and the short ones in which the configuration's parts are told.
    fn is_digest(&self, value: &str) -> bool {
        let short = self.what.starts_with("configuration of ") && value.len() == 8;
        (short || value.len() == 64) && value.bytes().all(|b| b.is_ascii_hexdigit())
    }
}

/// `web:1.8` of `web:1.8@sha256:…`, `1.8` of `1.8 (a1b2c3d4)`.
fn name_of(value: &str) -> &str {
    if let Some((name, digest)) = value.split_once("@sha256:")
        && digest.len() == 64
        && name.contains(':')
    {
        return name;
    }
    match value.strip_suffix(')').and_then(|value| value.rsplit_once(" (")) {
        Some((name, digest)) if digest.len() == 8 && digest.bytes().all(|b| b.is_ascii_hexdigit()) => name,
        _ => value,
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{}: {from} → {to}", self.what),
            (None, Some(to)) => write!(f, "{}: {to}", self.what),
            (Some(from), None) => write!(f, "{}: {from} → removed", self.what),
            (None, None) => f.write_str(&self.what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_that_nobody_can_compare_by_eye_is_left_out() {
        let (one, two) = (&"a1".repeat(32), &"b2".repeat(32));
        let image = |tag: &str, digest: &str| format!("web:{tag}@sha256:{digest}");
        for (what, from, to, words) in [
            ("image", image("1.7", one), image("1.8", two), "image: web:1.7 → web:1.8"),
            ("image", image("1.7", one), image("1.7", two), "image (web:1.7) is another one"),
            ("web: configuration", one.clone(), two.clone(), "web: configuration is another one"),
            (
                "configuration of command x",
                "a1b2c3d4".into(),
                String::new(),
                "configuration of command x is gone",
            ),
            (
                "configuration of command x",
                String::new(),
                "a1b2c3d4".into(),
                "configuration of command x is new",
            ),
            ("configuration", "absent".into(), one.clone(), "configuration: absent → there"),
            ("service web", "1.8 (a1b2c3d4)".into(), "1.6 (b1b2c3d4)".into(), "service web: 1.8 → 1.6"),
            (
                "service web",
                "1.8 (a1b2c3d4)".into(),
                "1.8 (b1b2c3d4)".into(),
                "service web (1.8) is another one",
            ),
            ("replicas", "1".into(), "12345678".into(), "replicas: 1 → 12345678"),
            ("holder", "bob (by hand)".into(), "nobody".into(), "holder: bob (by hand) → nobody"),
        ] {
            let side = |side: String| Some(side).filter(|side| !side.is_empty());
            let change = Change { what: what.to_owned(), from: side(from), to: side(to) };
            assert_eq!(change.in_words().to_string(), words);
        }
    }
}
