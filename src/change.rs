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
