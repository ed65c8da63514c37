//! Findings in files: what is wrong, where, and what to do next. All of them at once.
//!
//! Must not: read files or decide severity for a command; it holds and renders.

pub mod render;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A place in a file, as people and editors name it. Lines and columns count from 1; columns count
/// characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    pub file: Arc<Path>,
    pub line: u32,
    pub column: u32,
}

impl Location {
    pub fn new(file: impl Into<PathBuf>, line: u32, column: u32) -> Self {
        Self { file: file.into().into(), line, column }
    }
}
impl fmt::Display for Location {
    /// `environments/prod.yaml:12:5`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}
impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; Houston starts all the same.
    Warning,
    /// Houston does not start, or keeps the configuration it has.
    Error,
}

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Where; absent for what has no place (a missing folder).
    pub at: Option<Location>,
    /// What is wrong: lower case, no full stop, what was written in backticks.
    pub message: String,
    /// What to do next.
    pub hints: Vec<String>,
    /// The line may hold a secret: it is not shown, not even for another finding.
    pub confidential: bool,
}

impl Diagnostic {
    pub fn error(at: impl Into<Option<Location>>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            at: at.into(),
            message: message.into(),
            hints: Vec::new(),
            confidential: false,
        }
    }
    pub fn warning(at: impl Into<Option<Location>>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            at: at.into(),
            message: message.into(),
            hints: Vec::new(),
            confidential: false,
        }
    }
    /// Keeps the line that it is about out of what is shown.
    #[must_use]
    pub fn confidential(mut self) -> Self {
        self.confidential = true;
        self
    }
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    /// `error: environments/prod.yaml:12:5: unknown key …` and `  hint: …` lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        match &self.at {
            Some(at) => write!(f, "{word}: {at}: {}", self.message)?,
            None => write!(f, "{word}: {}", self.message)?,
        }
        for hint in &self.hints {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Everything that was found; grows while files are read and never stops a reader early.
#[derive(Clone, Default, Debug)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|d| d.severity == Severity::Error)
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn count(&self, severity: Severity) -> usize {
        self.0.iter().filter(|d| d.severity == severity).count()
    }
    /// In the order of files and lines; what has no place comes first.
    pub fn sorted(&self) -> Vec<&Diagnostic> {
        let mut all: Vec<_> = self.0.iter().collect();
        all.sort_by(|a, b| a.at.cmp(&b.at));
        all
    }
}
