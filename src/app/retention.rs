//! Sees to it that nothing is kept for longer than the configuration says.
//!
//! Must not: decide what may go.

use crate::chat::dispatch::Dispatcher;
use crate::config::retention::Retention;
use crate::store::compact::Sizes;
use crate::store::{Store, StoreError, stat};

/// What cannot be removed now is tried again at the next look.
pub(super) async fn keep_to(dispatcher: &Dispatcher, keep: &Retention, by_size: bool) {
    let parts = &dispatcher.parts;
    if let Err(error) = parts.engine.keep_to(keep, by_size).await {
        tracing::warn!("old runs cannot be removed yet: {error}");
    }
    if by_size {
        let store = parts.store.clone();
        match tokio::task::spawn_blocking(move || measure(&store)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("how much is in the store was not measured: {error}"),
            Err(error) => tracing::error!("measuring the store ended unexpectedly: {error}"),
        }
    }
    match parts.audit.cut(&parts.clock, keep.audit).await {
        Ok(0) => {}
        Ok(files) => tracing::info!("{} of the audit log were cut off", crate::text::count(files, "file")),
        Err(error) => tracing::error!("the audit log stays as long as it is: {error}"),
    }
}

/// For the next start, and for whoever reads the log.
fn measure(store: &Store) -> Result<(), StoreError> {
    let sizes = Sizes::default();
    let on_disk = stat::on_disk(store.path());
    // Nothing of a small one is worth reading it.
    if !sizes.are_worth_it(on_disk, 0) {
        return Ok(());
    }
    let live = stat::measure(store)?;
    if sizes.are_worth_it(on_disk, live) {
        let when = match sizes.are_worth_a_start(on_disk, Some(live)) {
            true => "the next start gives it back",
            false => "to give it back, stop Houston and say `houston store compact`",
        };
        let (on_disk, live) = (on_disk / 1_000_000, live / 1_000_000);
        tracing::info!("the database takes {on_disk} MB for {live} MB of records: {when}");
    }
    Ok(())
}
