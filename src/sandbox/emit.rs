//! Who hears what: connections, their subscriptions, and frames, each serialized once per broadcast.

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Bytes, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use super::state::{World, text};

/// Frames that may wait for a slow client before its connection is closed.
pub const QUEUE: usize = 16_384;

/// What a connection's writer is told.
#[derive(Debug, Clone)]
pub enum Out {
    Text(Utf8Bytes),
    Binary(Bytes),
    Close(u16, &'static str),
    /// Ends the TCP connection without a closing handshake.
    Drop,
}

/// An accepted subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sub {
    pub id: String,
    pub stream: String,
    pub event: String,
}

/// One socket that is past its upgrade.
#[derive(Debug)]
pub struct Connection {
    pub id: u64,
    pub uid: Option<String>,
    pub token: Option<String>,
    pub subs: Vec<Sub>,
    pub out: mpsc::Sender<Out>,
    /// Ends reader and writer at once.
    pub gone: CancellationToken,
}

impl Connection {
    /// Puts a frame into the queue; a client that reads nothing for 16384 frames loses its connection.
    pub fn push(&self, out: Out) {
        if self.out.try_send(out).is_err() {
            self.gone.cancel();
        }
    }

    fn copies(&self, stream: &str, event: &str) -> usize {
        self.subs.iter().filter(|sub| sub.event == event && sub.stream == stream).count()
    }
}

/// What a closed socket is told with a code.
pub fn reason_of(code: u16) -> &'static str {
    match code {
        1000 => "Normal closure",
        4000 => "TIMEOUT",
        _ => "",
    }
}

/// `changed` on a stream's pretended collection. `args` is JSON already.
fn changed(stream: &str, event: &str, args: &str) -> Utf8Bytes {
    let event = Value::from(event);
    let id = if stream == "stream-user-presence" { event.clone() } else { "id".into() };
    format!(
        r#"{{"msg":"changed","collection":"{stream}","id":{id},"fields":{{"eventName":{event},"args":{args}}}}}"#
    )
    .into()
}

impl World {
    pub fn has_listener(&self, stream: &str, event: &str) -> bool {
        self.connections.values().any(|connection| connection.copies(stream, event) > 0)
    }

    /// To everyone who subscribed, once per subscription. `except` is a connection that hears nothing.
    pub fn emit_ref(&self, stream: &str, event: &str, args: &Value, except: Option<u64>) {
        let mut frame: Option<Utf8Bytes> = None;
        for connection in self.connections.values().filter(|connection| Some(connection.id) != except) {
            for _ in 0..connection.copies(stream, event) {
                let frame = frame.get_or_insert_with(|| changed(stream, event, &args.to_string()));
                self.faults.deliver(connection, frame.clone());
            }
        }
    }

    /// [`World::emit_ref`] for callers that hold the world to change it.
    pub fn emit(&mut self, stream: &str, event: &str, args: &Value, except: Option<u64>) {
        self.emit_ref(stream, event, args, except);
    }

    /// The whole document again, on the room's stream and on `__my_messages__` for whoever may read it now.
    pub fn emit_message(&self, mid: &str) {
        let Some(message) = self.messages.get(mid) else { return };
        if message.get("_hidden").and_then(Value::as_bool) == Some(true) {
            return;
        }
        let rid = text(message, "rid");
        let Some(room) = self.rooms.get(rid) else { return };
        let mut json: Option<String> = None;
        let mut in_room: Option<Utf8Bytes> = None;
        let mut mine: [Option<Utf8Bytes>; 2] = [None, None];
        for connection in self.connections.values() {
            let copies = connection.copies("stream-room-messages", "__my_messages__");
            if copies > 0
                && let Some(uid) = connection.uid.as_deref()
                && self.can_access(rid, uid)
            {
                let participant = self.is_member(rid, uid);
                let frame = mine[usize::from(participant)].get_or_insert_with(|| {
                    let json = json.get_or_insert_with(|| Value::Object(message.clone()).to_string());
                    let mut meta = json!({"roomParticipant": participant, "roomType": room.kind.letter()});
                    if !room.name.is_empty() {
                        meta["roomName"] = room.name.as_str().into();
                    }
                    changed("stream-room-messages", "__my_messages__", &format!("[{json},{meta}]"))
                });
                for _ in 0..copies {
                    self.faults.deliver(connection, frame.clone());
                }
            }
            for _ in 0..connection.copies("stream-room-messages", rid) {
                let frame = in_room.get_or_insert_with(|| {
                    let json = json.get_or_insert_with(|| Value::Object(message.clone()).to_string());
                    changed("stream-room-messages", rid, &format!("[{json}]"))
                });
                self.faults.deliver(connection, frame.clone());
            }
        }
    }

    /// A message that only one person sees and that is stored nowhere.
    pub fn emit_ephemeral(&self, uid: &str, rid: &str, msg: &str) {
        let now = self.now();
        let args = json!([{"groupable": false, "u": {"_id": "rocket.cat", "username": "rocket.cat"},
            "private": true, "_id": now.to_string(), "rid": rid, "ts": {"$date": now},
            "_updatedAt": {"$date": now}, "msg": msg}]);
        self.emit_ref("stream-notify-user", &format!("{uid}/message"), &args, None);
    }

    /// Ends the room's per-room message subscriptions of a user who may not read it any more.
    pub fn drop_room_subs(&mut self, rid: &str, uid: &str) {
        if self.can_access(rid, uid) {
            return;
        }
        let mut own =
            self.connections.values_mut().filter(|connection| connection.uid.as_deref() == Some(uid));
        // As 6.5.3 was seen to: the socket that listened first goes on hearing.
        if self.faults.keep_room_subs {
            own.find(|connection| connection.subs.iter().any(|sub| sub.stream == "stream-room-messages"));
        }
        for connection in own {
            connection.subs.retain(|sub| !(sub.stream == "stream-room-messages" && sub.event == rid));
        }
    }

    /// Closes sockets with a code.
    pub fn close_where(&mut self, code: u16, which: impl Fn(&Connection) -> bool) {
        let gone: Vec<u64> =
            self.connections.values().filter(|connection| which(connection)).map(|one| one.id).collect();
        for id in gone {
            if let Some(connection) = self.connections.get(&id) {
                connection.push(Out::Close(code, reason_of(code)));
            }
            self.disconnect(id);
        }
    }
}
