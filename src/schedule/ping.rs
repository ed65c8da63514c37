//! Words to the service that watches a schedule, a dead man's switch: begun, went well, did not. What is to be told is
//! in the row until it was told, so that a kill loses none; told twice is no harm.
//!
//! Must not: show the address anywhere. Whoever has it can say that all is well.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use crate::chat::dispatch::Dispatcher;
use crate::config::Config;
use crate::config::schedules::{self, Schedule};
use crate::exec::secret;
use crate::ids::ScheduleName;
use crate::runs::schedules::{Change, Ping, Signal};

/// Between two attempts.
const AGAIN: Duration = Duration::from_secs(30);

/// What could not be told for so long is told no more: by then the service has noticed by itself.
const GIVEN_UP: SignedDuration = SignedDuration::from_hours(1);

/// Of one attempt.
const PATIENCE: Duration = Duration::from_secs(15);

/// Tells what is to be told next.
pub(super) async fn tell(
    dispatcher: Dispatcher,
    config: Arc<Config>,
    schedule: Schedule,
    ping: Ping,
) -> ScheduleName {
    let name = schedule.name.clone();
    let parts = &dispatcher.parts;
    let Some(to) = &schedule.ping else { return forget(&dispatcher, name, &ping).await };
    match tokio::time::timeout(PATIENCE, send(&dispatcher, &config, to, &ping)).await {
        Ok(Ok(())) => return forget(&dispatcher, name, &ping).await,
        Ok(Err(why)) => {
            tracing::warn!("what watches the schedule {name} was not told `{}`: {why}", ping.word);
        }
        Err(_) => tracing::warn!("what watches the schedule {name} was not told `{}`: no answer", ping.word),
    }
    if parts.clock.now().duration_since(ping.since) > GIVEN_UP {
        return forget(&dispatcher, name, &ping).await;
    }
    parts.clock.sleep(AGAIN).await;
    name
}

async fn send(
    dispatcher: &Dispatcher,
    config: &Arc<Config>,
    to: &schedules::Ping,
    ping: &Ping,
) -> Result<(), String> {
    let url = secret::resolve(&to.url, &config.dir, &dispatcher.parts.redactor).await;
    let url = url.map_err(|error| error.to_string())?;
    let mut url = url::Url::parse(url.expose().trim()).map_err(|_| "its address is no address".to_owned())?;
    let suffix = match ping.signal {
        Signal::Start => "/start",
        Signal::Success => "",
        Signal::Fail => "/fail",
    };
    let path = format!("{}{suffix}", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let client = dispatcher.world(config).http();
    let request = if to.post { client.post(url).body(ping.word.clone()) } else { client.get(url) };
    let answer = request.send().await.map_err(|error| crate::text::with_causes(&error.without_url()))?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("it answered {}", answer.status())) }
}

/// It was told, or is told no more.
async fn forget(dispatcher: &Dispatcher, name: ScheduleName, ping: &Ping) -> ScheduleName {
    let engine = &dispatcher.parts.engine;
    loop {
        let Some(was) = engine.schedule_row(&name).await else { return name };
        let mut is = was.clone();
        is.pings.retain(|other| other != ping);
        match engine.reckon_schedule(Change { was: Some(was), is }).await {
            // The row was changed at the same moment.
            Ok(false) => {}
            Ok(true) => return name,
            Err(error) => {
                tracing::error!("that the schedule {name} was told of cannot be kept: {error}");
                return name;
            }
        }
    }
}
