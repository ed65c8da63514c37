//! A plain client of the realtime API: what a person's program hears and says, frame by frame.
//!
//! Must not: use Houston's own client, or read a frame more closely than a figure needs: what it costs to
//! look is taken from the same two cores.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    calls: u64,
}

/// A frame and when it was there.
pub struct Heard {
    pub at: Instant,
    pub text: String,
}

impl Client {
    /// Logged in by token.
    pub async fn connect(url: &str, token: &str) -> Self {
        let url = format!("{}/websocket", url.replacen("http", "ws", 1));
        let (socket, _) = connect_async_with_config(url, None, true).await.expect("the sandbox listens");
        let mut client = Self { socket, calls: 0 };
        client.say(&json!({"msg": "connect", "version": "1", "support": ["1"]})).await;
        client.until(|frame| frame["msg"] == "connected").await;
        client.queue_call("login", &json!([{"resume": token}])).await;
        client.flush().await;
        client.until(|frame| frame["msg"] == "result" && frame["error"].is_null()).await;
        client
    }

    /// `room` is an id, or `__my_messages__`.
    pub async fn hear_room(&mut self, room: &str) {
        let params = json!([room, false]);
        self.say(&json!({"msg": "sub", "id": "room", "name": "stream-room-messages", "params": params}))
            .await;
        self.until(|frame| frame["msg"] == "ready").await;
    }

    /// Into the socket's buffer; goes with [`Client::flush`].
    pub async fn queue_call(&mut self, method: &str, params: &Value) {
        self.calls += 1;
        let id = self.calls.to_string();
        let frame = json!({"msg": "method", "id": id, "method": method, "params": params}).to_string();
        self.socket.feed(Message::text(frame)).await.expect("the connection stands");
    }

    pub async fn flush(&mut self) {
        self.socket.flush().await.expect("the connection stands");
    }

    /// The next frame of text; heartbeats are answered on the way.
    pub async fn next(&mut self) -> Heard {
        loop {
            let frame = self.socket.next().await.expect("the connection stands").expect("a frame");
            let at = Instant::now();
            let Message::Text(text) = frame else { continue };
            if text.as_str() == r#"{"msg":"ping"}"# {
                self.say(&json!({"msg": "pong"})).await;
                continue;
            }
            return Heard { at, text: text.as_str().to_owned() };
        }
    }

    /// The next frame of a message whose text is exactly `said`.
    pub async fn message(&mut self, said: &str) -> Instant {
        self.frame_with(&format!(r#""msg":"{said}""#)).await
    }

    /// The next frame of a message whose text begins with `said`.
    pub async fn message_with(&mut self, said: &str) -> Instant {
        self.frame_with(&format!(r#""msg":"{said}"#)).await
    }

    async fn frame_with(&mut self, wanted: &str) -> Instant {
        loop {
            let heard = self.next().await;
            if heard.text.contains(wanted) {
                return heard.at;
            }
        }
    }

    async fn say(&mut self, frame: &Value) {
        self.socket.send(Message::text(frame.to_string())).await.expect("the connection stands");
    }

    async fn until(&mut self, is_it: impl Fn(&Value) -> bool) {
        loop {
            let heard = self.next().await;
            if serde_json::from_str(&heard.text).is_ok_and(|frame| is_it(&frame)) {
                return;
            }
        }
    }
}

/// The floor: the same two hops, and nothing between them. Answers `!ping N` with `pong N`, for ever.
pub async fn echo(url: &str, user_id: &str, token: &str) {
    let mut ear = Client::connect(url, token).await;
    ear.hear_room("__my_messages__").await;
    let mouth = reqwest::Client::builder().tcp_nodelay(true).build().expect("an HTTP client");
    loop {
        let heard = ear.next().await;
        let Ok(frame) = serde_json::from_str::<Value>(&heard.text) else { continue };
        let message = &frame["fields"]["args"][0];
        let Some(number) = message["msg"].as_str().and_then(|text| text.strip_prefix("!ping ")) else {
            continue;
        };
        let answer = json!({"message": {"rid": message["rid"], "msg": format!("pong {number}")}});
        let sent = mouth
            .post(format!("{url}/api/v1/chat.sendMessage"))
            .header("X-User-Id", user_id)
            .header("X-Auth-Token", token)
            .json(&answer)
            .send()
            .await
            .expect("the sandbox answers");
        assert!(sent.status().is_success(), "{sent:?}");
        // Read to the end, so that the connection can be used again.
        let _ = sent.bytes().await;
    }
}
