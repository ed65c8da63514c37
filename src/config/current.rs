//! The configuration in force: one holder, from which whoever begins something takes a snapshot and keeps it
//! to the end of what was begun.
//!
//! Must not: read files, or check what it is given.

use std::sync::{Arc, PoisonError, RwLock};

use super::Config;

/// Clones hold the same.
#[derive(Clone, Debug)]
pub struct Current(Arc<RwLock<Arc<Config>>>);

impl Current {
    pub fn new(config: Config) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(config))))
    }

    /// As it is now; what takes its place meanwhile does not change it.
    pub fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of it at once.
    pub fn replace(&self, config: Config) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }
}
