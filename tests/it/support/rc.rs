//! A person at a Rocket.Chat server, as a test sees them: plain tungstenite and reqwest, so that nothing of
//! ours stands between the test and the wire.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long anything expected may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A client of the REST API.
pub fn http() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().expect("a client")
}

/// One call of the control endpoint of a sandbox at `url`.
pub async fn control(url: &str, act: &str, body: Value) -> Value {
    let reply = http().post(format!("{url}/_sandbox/{act}")).json(&body).send().await.expect("an answer");
    let (status, body) = (reply.status(), reply.json::<Value>().await.expect("JSON"));
    assert!(status.is_success(), "{act}: {body}");
    body
}

/// A bare socket.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Frames that were read while something else was waited for.
    unread: VecDeque<Value>,
    next: u32,
    /// How the server closed the socket; 1006 when it just went away.
    pub code: u16,
    pub reason: String,
    /// It answers the server's pings by itself.
    pub pongs: bool,
}

impl Socket {
    /// Opens a socket and says nothing.
    pub async fn open(url: &str) -> Self {
        let address = format!("{}/websocket", url.replacen("http", "ws", 1));
        let (stream, _) = connect_async(address).await.expect("a socket");
        Self { stream, unread: VecDeque::new(), next: 0, code: 1006, reason: String::new(), pongs: true }
    }

    /// Opens a socket and waits for `connected`.
    pub async fn connect(url: &str) -> Self {
        let mut socket = Self::open(url).await;
        socket.send(json!({"msg": "connect", "version": "1", "support": ["1", "pre2", "pre1"]})).await;
        socket.frame("connected", |frame| frame["msg"] == "connected").await;
        socket
    }

    pub async fn send(&mut self, frame: Value) {
        self.send_text(frame.to_string()).await;
    }

    pub async fn send_text(&mut self, text: String) {
        self.stream.send(Message::Text(text.into())).await.expect("sent");
    }

    /// The next frame off the wire; `None` when the socket is closed. Pings are answered on the way.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("a frame in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    let frame: Value = serde_json::from_str(&text).expect("JSON");
                    if self.pongs && frame["msg"] == "ping" && frame.get("id").is_none() {
                        self.send(json!({"msg": "pong"})).await;
                    }
                    return Some(frame);
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    (self.code, self.reason) = (frame.code.into(), frame.reason.to_string());
                    return None;
                }
                Some(Ok(Message::Close(None)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The code with which the server closes the socket; 1006 when it just goes away.
    pub async fn closed(&mut self) -> u16 {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("closed in time");
            match message {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(Message::Close(None))) => return 1005,
                Some(Err(_)) | None => return 1006,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The first frame, read earlier or not, that fits; others stay for later.
    pub async fn frame(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.unread.iter().position(&fits) {
            return self.unread.remove(at).expect("it is there");
        }
        loop {
            let Some(frame) = self.next().await else { panic!("the socket closed while waiting for {what}") };
            if fits(&frame) {
                return frame;
            }
            self.unread.push_back(frame);
        }
    }

    /// Every event that arrived before the answer to a ping sent now and was not waited for.
    pub async fn settle(&mut self) -> Vec<Value> {
        self.settle_all().await.into_iter().filter(|frame| frame["msg"] == "changed").collect()
    }

    /// [`Socket::settle`] with the frames that are no events.
    pub async fn settle_all(&mut self) -> Vec<Value> {
        self.next += 1;
        let id = format!("settle-{}", self.next);
        self.send(json!({"msg": "ping", "id": id})).await;
        self.frame("pong", |frame| frame["msg"] == "pong" && frame["id"] == id.as_str()).await;
        self.unread.drain(..).collect()
    }

    /// [`Socket::settle_all`] of a socket that the server may have closed.
    pub async fn left(&mut self) -> Vec<Value> {
        let ping = json!({"msg": "ping", "id": "left"}).to_string();
        let mut left: Vec<Value> = self.unread.drain(..).collect();
        if self.stream.send(Message::Text(ping.into())).await.is_ok() {
            while let Some(frame) = self.next().await.filter(|frame| frame["id"] != "left") {
                left.push(frame);
            }
        }
        left
    }

    /// Calls a method; the error object if it was refused.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.next += 1;
        let id = self.next.to_string();
        self.send(json!({"msg": "method", "id": id, "method": method, "params": params})).await;
        let mut result =
            self.frame(method, |frame| frame["msg"] == "result" && frame["id"] == id.as_str()).await;
        match result.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(result["result"].take()),
        }
    }

    /// Subscribes; the error object if it was refused.
    pub async fn sub(&mut self, stream: &str, event: &str) -> Result<String, Value> {
        self.next += 1;
        let id = format!("s{}", self.next);
        self.send(json!({"msg": "sub", "id": id, "name": stream, "params": [event, false]})).await;
        let answer = self
            .frame(event, |frame| {
                frame["msg"] == "ready" && frame["subs"][0] == id.as_str()
                    || frame["msg"] == "nosub" && frame["id"] == id.as_str()
            })
            .await;
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(id),
        }
    }
}

/// Somebody who is logged in, with a socket that hears `__my_messages__`.
pub struct Person {
    pub url: String,
    pub uid: String,
    pub token: String,
    pub socket: Socket,
    http: reqwest::Client,
}

impl Person {
    /// Logs in by REST with the user name as password, then by `resume`.
    pub async fn login(url: &str, username: &str) -> Self {
        let http = http();
        let body = json!({"user": username, "password": username});
        let reply = http.post(format!("{url}/api/v1/login")).json(&body).send().await.expect("an answer");
        let reply: Value = reply.json().await.expect("JSON");
        let part = |key: &str| reply["data"][key].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned();
        let (uid, token) = (part("userId"), part("authToken"));
        let mut socket = Socket::connect(url).await;
        socket.call("login", json!([{"resume": token}])).await.expect("logged in");
        socket.sub("stream-room-messages", "__my_messages__").await.expect("subscribed");
        Self { url: url.to_owned(), uid, token, socket, http }
    }

    /// `GET /api/v1/<path>`: status and body.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.rest(self.http.get(format!("{}/api/v1/{path}", self.url))).await
    }

    /// `POST /api/v1/<path>`: status and body.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.rest(self.http.post(format!("{}/api/v1/{path}", self.url)).json(&body)).await
    }

    async fn rest(&self, request: reqwest::RequestBuilder) -> (u16, Value) {
        let request = request.header("X-User-Id", &self.uid).header("X-Auth-Token", &self.token);
        let reply = request.send().await.expect("an answer");
        let status = reply.status().as_u16();
        (status, reply.json().await.unwrap_or(Value::Null))
    }

    async fn done(&self, path: &str, body: Value) -> Value {
        let (status, reply) = self.post(path, body).await;
        assert_eq!(status, 200, "{path}: {reply}");
        reply
    }

    /// A room's id by its name.
    pub async fn room(&self, name: &str) -> String {
        let (_, reply) = self.get(&format!("rooms.info?roomName={name}")).await;
        reply["room"]["_id"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    }

    /// The id of the direct room with somebody.
    pub async fn direct(&self, username: &str) -> String {
        let reply = self.done("im.create", json!({"username": username})).await;
        reply["room"]["_id"].as_str().expect("an id").to_owned()
    }

    /// Types into a room (its id or name); gives the message.
    pub async fn say(&mut self, room: &str, msg: &str) -> Value {
        self.send(json!({"rid": self.room_id(room).await, "msg": msg})).await
    }

    /// Types into a thread.
    pub async fn reply(&mut self, root: &Value, msg: &str) -> Value {
        self.send(json!({"rid": root["rid"], "tmid": root["_id"], "msg": msg})).await
    }

    async fn send(&mut self, message: Value) -> Value {
        self.done("chat.sendMessage", json!({"message": message})).await["message"].take()
    }

    async fn room_id(&self, room: &str) -> String {
        let (status, _) = self.get(&format!("rooms.info?roomId={room}")).await;
        if status == 200 { room.to_owned() } else { self.room(room).await }
    }

    pub async fn edit(&self, message: &Value, text: &str) {
        let body = json!({"roomId": message["rid"], "msgId": message["_id"], "text": text});
        self.done("chat.update", body).await;
    }

    pub async fn react(&self, message: &Value, emoji: &str, on: bool) {
        self.done("chat.react", json!({"messageId": message["_id"], "emoji": emoji, "shouldReact": on}))
            .await;
    }

    pub async fn delete(&self, message: &Value) {
        self.done("chat.delete", json!({"roomId": message["rid"], "msgId": message["_id"]})).await;
    }

    /// The next version of a message, on any room's stream, that fits. Each frame is given once.
    pub async fn expect(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let mut frame = self
            .socket
            .frame(what, |frame| {
                frame["collection"] == "stream-room-messages" && fits(&frame["fields"]["args"][0])
            })
            .await;
        frame["fields"]["args"][0].take()
    }

    /// The next message of somebody that holds a text.
    pub async fn expect_from(&mut self, username: &str, part: &str) -> Value {
        let what = format!("`{part}` from {username}");
        self.expect(&what, |message| {
            message["u"]["username"] == username
                && message["msg"].as_str().is_some_and(|msg| msg.contains(part))
        })
        .await
    }
}
