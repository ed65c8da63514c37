//! DDP frames: one JSON object per WebSocket text frame.
//!
//! Must not: panic or refuse for an unknown field or message; what cannot be read is an error value, what is
//! not known is [`ServerFrame::Other`].

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::error::DdpError;
use super::model::{non_empty, strings, text};

/// What the server says.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerFrame {
    /// The greeting of old monoliths (`{"server_id":"0"}`) and of the streamer (with `msg`).
    ServerId,
    Connected {
        session: String,
    },
    /// It wants another protocol version.
    Failed {
        version: String,
    },
    Ping {
        id: Option<String>,
    },
    Pong,
    Result {
        id: String,
        /// Null also where the server leaves it out: for `undefined`, and on the streamer for every falsy value.
        outcome: Result<Value, DdpError>,
    },
    /// The method's writes are visible. Comes before or after the result, and means nothing to us.
    Updated,
    Ready {
        subs: Vec<String>,
    },
    NoSub {
        id: String,
        error: Option<DdpError>,
    },
    /// A document of a publication, such as our own user after the login.
    Added {
        collection: String,
        id: String,
        fields: Map<String, Value>,
    },
    /// An event of a stream.
    Stream {
        collection: String,
        event_name: String,
        args: Vec<Value>,
    },
    /// It did not understand us.
    Error {
        reason: String,
    },
    /// Something else, which is no reason to worry.
    Other {
        msg: String,
    },
}

/// Text that is no DDP frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("not JSON: {0}")]
    NotJson(String),
    #[error("not an object")]
    NotAnObject,
    #[error("`{msg}` without `{missing}`")]
    Incomplete { msg: String, missing: &'static str },
}

impl ServerFrame {
    /// Reads a text frame.
    pub fn parse(frame: &str) -> Result<Self, FrameError> {
        let value = match serde_json::from_str(frame) {
            Ok(value) => value,
            // JavaScript writes half a surrogate pair as an escape, which is no JSON text to Rust.
            Err(error) => match mend_surrogates(frame) {
                Cow::Owned(mended) => {
                    serde_json::from_str(&mended).map_err(|error| FrameError::NotJson(error.to_string()))?
                }
                Cow::Borrowed(_) => return Err(FrameError::NotJson(error.to_string())),
            },
        };
        let Value::Object(mut doc) = value else { return Err(FrameError::NotAnObject) };
        let Some(msg) = text(&mut doc, "msg") else {
            return Ok(if doc.contains_key("server_id") {
                Self::ServerId
            } else {
                Self::Other { msg: String::new() }
            });
        };
        let incomplete = |missing| FrameError::Incomplete { msg: msg.clone(), missing };
        Ok(match msg.as_str() {
            "server_id" => Self::ServerId,
            "connected" => Self::Connected { session: text(&mut doc, "session").unwrap_or_default() },
            "failed" => Self::Failed { version: text(&mut doc, "version").unwrap_or_default() },
            "ping" => Self::Ping { id: text(&mut doc, "id") },
            "pong" => Self::Pong,
            "result" => Self::Result {
                id: text(&mut doc, "id").ok_or_else(|| incomplete("id"))?,
                outcome: match doc.remove("error").filter(|error| !error.is_null()) {
                    Some(error) => Err(ddp_error(error)),
                    None => Ok(doc.remove("result").unwrap_or_default()),
                },
            },
            "updated" => Self::Updated,
            "ready" => Self::Ready { subs: strings(doc.remove("subs")) },
            "nosub" => Self::NoSub {
                id: text(&mut doc, "id").ok_or_else(|| incomplete("id"))?,
                error: doc.remove("error").filter(|error| !error.is_null()).map(ddp_error),
            },
            "added" => Self::Added {
                collection: text(&mut doc, "collection").ok_or_else(|| incomplete("collection"))?,
                id: text(&mut doc, "id").unwrap_or_default(),
                fields: fields(&mut doc),
            },
            "changed" => {
                let collection = text(&mut doc, "collection").ok_or_else(|| incomplete("collection"))?;
                let mut fields = fields(&mut doc);
                match (text(&mut fields, "eventName"), fields.remove("args")) {
                    (Some(event_name), args) => Self::Stream {
                        collection,
                        event_name,
                        args: match args {
                            Some(Value::Array(args)) => args,
                            _ => Vec::new(),
                        },
                    },
                    _ => Self::Other { msg },
                }
            }
            "error" => Self::Error { reason: text(&mut doc, "reason").unwrap_or_default() },
            _ => Self::Other { msg },
        })
    }
}

fn fields(doc: &mut Map<String, Value>) -> Map<String, Value> {
    match doc.remove("fields") {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// Reads a `Meteor.Error`; its code is a string or a number.
fn ddp_error(error: Value) -> DdpError {
    let Value::Object(mut doc) = error else {
        return DdpError { code: scalar(&error), reason: "no reason given".to_owned(), time_to_reset: None };
    };
    let code = doc.get("error").map(scalar).unwrap_or_default();
    let wait = doc.get("details").and_then(|details| details.get("timeToReset")).and_then(Value::as_f64);
    DdpError {
        code,
        reason: non_empty(&mut doc, "reason")
            .or_else(|| non_empty(&mut doc, "message"))
            .unwrap_or_else(|| "no reason given".to_owned()),
        time_to_reset: wait
            .filter(|ms| ms.is_finite() && *ms >= 0.0)
            .map(|ms| Duration::from_millis(ms.min(1e9) as u64)),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// Replaces escapes of half surrogate pairs by the replacement character.
fn mend_surrogates(frame: &str) -> Cow<'_, str> {
    let unit = |at: usize| {
        let digits = frame.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (bytes, mut mended, mut copied, mut at) = (frame.as_bytes(), String::new(), 0, 0);
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            at += 1;
            continue;
        }
        let (high, low) = (unit(at), unit(at + 6));
        match (high, low) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => at += 12,
            (Some(0xD800..=0xDFFF), _) => {
                mended.push_str(&frame[copied..at]);
                mended.push_str("\\ufffd");
                at += 6;
                copied = at;
            }
            (Some(_), _) => at += 6,
            // Another escape: the character after the backslash is part of it. Both are ASCII in JSON; where
            // they are not, the next round starts inside a character, at a byte that is no backslash.
            (None, _) => at += 2,
        }
    }
    if copied == 0 {
        return Cow::Borrowed(frame);
    }
    mended.push_str(&frame[copied..]);
    Cow::Owned(mended)
}

/// What we say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClientFrame<'a> {
    Connect,
    Ping,
    Pong { id: Option<&'a str> },
    Method { id: &'a str, method: &'a str, params: &'a [Value] },
    Sub { id: &'a str, name: &'a str, event: &'a str },
    Unsub { id: &'a str },
}

impl ClientFrame<'_> {
    /// The text to send.
    pub fn to_text(&self) -> String {
        match *self {
            Self::Connect => json!({ "msg": "connect", "version": "1", "support": ["1", "pre2", "pre1"] }),
            Self::Ping => json!({ "msg": "ping" }),
            Self::Pong { id: None } => json!({ "msg": "pong" }),
            Self::Pong { id: Some(id) } => json!({ "msg": "pong", "id": id }),
            Self::Method { id, method, params } => {
                json!({ "msg": "method", "id": id, "method": method, "params": params })
            }
            // `useCollection` false: the first document of the fake collection is of no use to us.
            Self::Sub { id, name, event } => {
                json!({ "msg": "sub", "id": id, "name": name, "params": [event, false] })
            }
            Self::Unsub { id } => json!({ "msg": "unsub", "id": id }),
        }
        .to_string()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_greetings_are_known() {
        assert_eq!(ServerFrame::parse(r#"{"server_id":"0"}"#), Ok(ServerFrame::ServerId));
        assert_eq!(ServerFrame::parse(r#"{"msg":"server_id","server_id":"0"}"#), Ok(ServerFrame::ServerId));
    }

    #[test]
    fn a_result_without_result_is_a_success_with_null() {
        let expected = ServerFrame::Result { id: "7".into(), outcome: Ok(Value::Null) };
        assert_eq!(ServerFrame::parse(r#"{"msg":"result","id":"7"}"#), Ok(expected));
    }

    #[test]
    fn an_error_code_may_be_a_number_or_text() {
        for (frame, code) in [
            (r#"{"msg":"result","id":"1","error":{"error":403,"reason":"no"}}"#, "403"),
            (r#"{"msg":"result","id":"1","error":{"error":"not-allowed","message":"no"}}"#, "not-allowed"),
            (r#"{"msg":"result","id":"1","error":"odd"}"#, "odd"),
        ] {
            match ServerFrame::parse(frame) {
                Ok(ServerFrame::Result { outcome: Err(error), .. }) => assert_eq!(error.code, code),
                other => panic!("{frame}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_rate_limit_carries_its_waiting_time() {
        let frame = r#"{"msg":"nosub","id":"a","error":{"error":"too-many-requests","reason":"slow down","details":{"timeToReset":53009}}}"#;
        match ServerFrame::parse(frame) {
            Ok(ServerFrame::NoSub { error: Some(error), .. }) => {
                assert!(error.is_rate_limit());
                assert_eq!(error.time_to_reset, Some(Duration::from_millis(53_009)));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn unknown_messages_and_fields_are_tolerated() {
        assert_eq!(
            ServerFrame::parse(r#"{"msg":"hello","x":[1]}"#),
            Ok(ServerFrame::Other { msg: "hello".into() })
        );
        assert_eq!(ServerFrame::parse(r#"{"msg":"pong","x":{}}"#), Ok(ServerFrame::Pong));
        assert_eq!(ServerFrame::parse("{}"), Ok(ServerFrame::Other { msg: String::new() }));
        assert!(ServerFrame::parse("[1]").is_err());
        assert!(ServerFrame::parse("{").is_err());
    }

    #[test]
    fn half_a_surrogate_pair_does_not_cost_the_message() {
        let frame = r#"{"msg":"changed","collection":"c","id":"id","fields":{"eventName":"\ud83d\ude00 \\ud800","args":["a\ud800b","\udc00"]}}"#;
        let expected = ServerFrame::Stream {
            collection: "c".into(),
            event_name: "😀 \\ud800".into(),
            args: vec!["a\u{fffd}b".into(), "\u{fffd}".into()],
        };
        assert_eq!(ServerFrame::parse(frame), Ok(expected));
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        assert!(ServerFrame::parse(&"[".repeat(1_000_000)).is_err());
        assert!(ServerFrame::parse(&format!("{{\"msg\":{}", "{\"a\":".repeat(100_000))).is_err());
    }

    /// JSON values as a server, or somebody in between, might send them.
    pub(crate) fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
            prop::sample::select(vec![
                "1",
                "login",
                "__my_messages__",
                "u1/message",
                "r1/deleteMessage",
                "users"
            ])
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let key = prop::sample::select(vec![
                "_id",
                "rid",
                "u",
                "$date",
                "ts",
                "usernames",
                "reactions",
                "error",
                "details",
                "timeToReset",
                "eventName",
                "args",
                "username",
            ]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..4).prop_map(|pairs| Value::Object(
                    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
                )),
            ]
        })
    }

    /// Frames that look like DDP, with any value in any field.
    pub(crate) fn any_frame() -> impl Strategy<Value = String> {
        let msg = prop::sample::select(vec![
            "connected",
            "failed",
            "ping",
            "pong",
            "result",
            "updated",
            "ready",
            "nosub",
            "added",
            "changed",
            "removed",
            "error",
            "server_id",
            "what",
        ]);
        let key = prop::sample::select(vec![
            "id",
            "session",
            "result",
            "error",
            "subs",
            "collection",
            "fields",
            "reason",
            "methods",
            "server_id",
        ]);
        (msg, prop::collection::vec((key, any_json()), 0..5)).prop_map(|(msg, pairs)| {
            let mut doc = json!({ "msg": msg });
            for (key, value) in pairs {
                doc[key] = value;
            }
            doc.to_string()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_text_makes_the_parser_panic(frame in ".{0,200}") {
            let _ = ServerFrame::parse(&frame);
        }

        #[test]
        fn no_escape_makes_the_mender_panic(frame in r#"\PC{0,5}(\\u[dD][89abcdefABCDEF][0-9a-f]{0,2}|\\|"|é|\\u){0,20}"#) {
            let _ = mend_surrogates(&frame);
            let _ = ServerFrame::parse(&format!("{{\"msg\":\"{frame}\"}}"));
        }

        #[test]
        fn no_frame_makes_the_parser_panic(frame in any_frame()) {
            let _ = ServerFrame::parse(&frame);
        }

        #[test]
        fn what_we_write_is_json(id in ".{0,8}", event in ".{0,16}") {
            let text = ClientFrame::Sub { id: &id, name: "stream-notify-room", event: &event }.to_text();
            let value: Value = serde_json::from_str(&text).expect("JSON");
            prop_assert_eq!(&value["params"][0], &Value::from(event));
        }
    }
}
