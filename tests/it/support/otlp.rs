//! A collector: takes OTLP over HTTP and reads its protobuf by the field numbers of
//! `opentelemetry/proto/trace/v1/trace.proto`, so that nothing of what Houston writes with reads it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;

#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub trace: Vec<u8>,
    pub id: Vec<u8>,
    pub parent: Vec<u8>,
    pub name: String,
    pub begun: u64,
    pub ended: u64,
    pub attributes: BTreeMap<String, String>,
    /// 0 unset, 1 ok, 2 error.
    pub status: u64,
    /// Of who sent it.
    pub resource: BTreeMap<String, String>,
}

impl Span {
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

pub struct Collector {
    pub url: String,
    requests: Requests,
}

type Requests = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

async fn take(
    State(requests): State<Requests>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(&'static str, &'static str); 1]) {
    requests.lock().expect("no panic").push((headers, body));
    (StatusCode::OK, [("content-type", "application/x-protobuf")])
}

impl Collector {
    pub async fn start() -> Self {
        let requests = Requests::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&requests));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, requests }
    }

    /// All that has come, in order, and the bytes as they came.
    pub fn spans(&self) -> (Vec<Span>, Vec<u8>) {
        let requests = self.requests.lock().expect("no panic");
        let mut all = Vec::new();
        for (headers, body) in requests.iter() {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            assert_eq!(headers["x-key"], "a-key-of-the-collector");
            all.extend_from_slice(body);
        }
        let bodies = requests.iter().flat_map(|(_, body)| fields(body));
        // ExportTraceServiceRequest.resource_spans = 1
        let spans =
            bodies.filter(|(number, _)| *number == 1).flat_map(|(_, value)| resource_spans(value.bytes()));
        (spans.collect(), all)
    }
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(n) => panic!("a message, not {n}"),
        }
    }
    fn number(&self) -> u64 {
        match self {
            Self::Number(n) => *n,
            Self::Bytes(bytes) => panic!("a number, not {bytes:?}"),
        }
    }
    fn text(&self) -> String {
        String::from_utf8(self.bytes().to_vec()).expect("UTF-8")
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (first, rest) = bytes.split_first().expect("whole");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        shift += 7;
        if first & 0x80 == 0 {
            return value;
        }
    }
}

/// The fields of a message, in order.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Value<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let fixed = |bytes: &mut &[u8], width: usize| {
            let (value, rest) = bytes.split_at(width);
            *bytes = rest;
            value.iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
        };
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut bytes)),
            1 => Value::Number(fixed(&mut bytes, 8)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).expect("short");
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Value::Bytes(value)
            }
            5 => Value::Number(fixed(&mut bytes, 4)),
            other => panic!("wire type {other}"),
        };
        found.push((tag >> 3, value));
    }
    found
}

/// `KeyValue { key = 1; AnyValue value = 2 }`
fn attribute(bytes: &[u8]) -> (String, String) {
    let (mut key, mut text) = (String::new(), String::new());
    for (number, value) in fields(bytes) {
        match number {
            1 => key = value.text(),
            2 => {
                for (kind, value) in fields(value.bytes()) {
                    // string_value = 1, bool_value = 2, int_value = 3
                    text = if kind == 1 { value.text() } else { value.number().to_string() };
                }
            }
            _ => {}
        }
    }
    (key, text)
}

/// `ResourceSpans { resource = 1; scope_spans = 2 }`
fn resource_spans(bytes: &[u8]) -> Vec<Span> {
    let all = fields(bytes);
    let of = |wanted: u64| all.iter().filter(move |(number, _)| *number == wanted);
    let resource: BTreeMap<_, _> = of(1)
        .flat_map(|(_, value)| fields(value.bytes()))
        .filter(|(number, _)| *number == 1)
        .map(|(_, value)| attribute(value.bytes()))
        .collect();
    // ScopeSpans.spans = 2
    of(2)
        .flat_map(|(_, value)| fields(value.bytes()))
        .filter(|(number, _)| *number == 2)
        .map(|(_, value)| span(value.bytes(), &resource))
        .collect()
}

fn span(bytes: &[u8], resource: &BTreeMap<String, String>) -> Span {
    let mut span = Span {
        trace: Vec::new(),
        id: Vec::new(),
        parent: Vec::new(),
        name: String::new(),
        begun: 0,
        ended: 0,
        attributes: BTreeMap::new(),
        status: 0,
        resource: resource.clone(),
    };
    for (number, value) in fields(bytes) {
        match number {
            1 => span.trace = value.bytes().to_vec(),
            2 => span.id = value.bytes().to_vec(),
            4 => span.parent = value.bytes().to_vec(),
            5 => span.name = value.text(),
            7 => span.begun = value.number(),
            8 => span.ended = value.number(),
            9 => span.attributes.extend([attribute(value.bytes())]),
            // Status { message = 2; code = 3 }
            15 => {
                for (number, value) in fields(value.bytes()) {
                    if number == 3 {
                        span.status = value.number();
                    }
                }
            }
            _ => {}
        }
    }
    span
}
