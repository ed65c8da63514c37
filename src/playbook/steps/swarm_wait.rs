//! Waits for a manager that answers and has a leader, for what has to look at a Swarm before it changes it.
//!
//! Must not: send a change.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::StepContext;
use crate::providers::swarm::SwarmError;

/// How long nobody may answer before nothing is begun: a lost leader is replaced in 14 to 22 s, and a daemon that is
/// started anew needs about as long.
pub(super) const NOBODY_THERE: Duration = Duration::from_secs(45);

/// Between two looks meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A look at the Swarm, made again for so long while no manager answers.
pub(super) async fn look<T, F: Future<Output = Result<T, SwarmError>>>(
    context: &StepContext,
    cancel: &CancellationToken,
    patience: Duration,
    read: impl Fn() -> F,
) -> Result<T, SwarmError> {
    let begun = Instant::now();
    let mut said = "";
    loop {
        match read().await {
            Err(error) if error.is_nobody_there() && begun.elapsed() < patience => {
                let why = error.waited_for();
                if why != said {
                    said = why;
                    context.progress.status(&format!("{why}; waiting for one that does"));
                }
                tokio::select! {
                    () = tokio::time::sleep(LOOK_AGAIN) => {}
                    () = cancel.cancelled() => return Err(error),
                }
            }
            read => return read,
        }
    }
}
