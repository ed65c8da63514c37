//! Sees to it that nothing is kept for longer than the configuration says.
//!
//! Must not: decide what may go.

use crate::chat::dispatch::Dispatcher;
use crate::config::retention::Retention;

/// What cannot be removed now is tried again at the next look.
pub(super) async fn keep_to(dispatcher: &Dispatcher, keep: &Retention, by_size: bool) {
    let parts = &dispatcher.parts;
    if let Err(error) = parts.engine.keep_to(keep, by_size).await {
        tracing::warn!("old runs stay for now: {error}");
    }
    match parts.audit.cut(&parts.clock, keep.audit).await {
        Ok(0) => {}
        Ok(files) => tracing::info!("{} of the audit log were cut off", crate::text::count(files, "file")),
        Err(error) => tracing::error!("the audit log stays as long as it is: {error}"),
    }
}
