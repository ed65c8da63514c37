//! A look at the realtime API: whether a WebSocket gets through, and which of Rocket.Chat's two servers answers.
//!
//! Must not: log in, or stay.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::super::rest::Rest;
use super::connection;

/// Which of the two realtime servers it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Meteor's `ddp-server`, inside the one process of most workspaces.
    Monolith,
    /// `ddp-streamer` of a workspace of microservices.
    Streamer,
}

/// Larger than anything that is said before a login.
const LARGEST: usize = 64 * 1024;

/// Opens a socket, waits until the server agrees to DDP, and closes it. Why not, else.
pub async fn look(rest: &Rest, patience: Duration) -> Result<Dialect, String> {
    let url = connection::address(rest);
    let mut socket = connection::open(&url, patience, LARGEST).await?;
    let hello = json!({"msg": "connect", "version": "1", "support": ["1"]}).to_string();
    socket.send(Message::Text(hello.into())).await.map_err(|error| format!("`{url}` broke off: {error}"))?;
    let greeted = async {
        let mut dialect = Dialect::Monolith;
        while let Some(frame) = socket.next().await {
            let frame = frame.map_err(|error| format!("`{url}` broke off: {error}"))?;
            let Ok(frame) = serde_json::from_slice::<Value>(&frame.into_data()) else { continue };
            match frame.get("msg").and_then(Value::as_str) {
                // Monoliths of old greet too, but without `msg`.
                Some("server_id") => dialect = Dialect::Streamer,
                Some("connected") => return Ok(dialect),
                Some("failed") => return Err(format!("`{url}` speaks another version of DDP")),
                _ => {}
            }
        }
        Err(format!("`{url}` was closed before it said anything"))
    };
    let dialect = tokio::time::timeout(patience, greeted)
        .await
        .map_err(|_| format!("`{url}` opens, and says nothing within {} s", patience.as_secs()))??;
    let _ = socket.close(None).await;
    Ok(dialect)
}
