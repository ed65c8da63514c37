//! The realtime API: upgrade, heartbeats, and the two ends of a socket.

mod login;
mod methods;
pub use methods::run;
mod session;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_util::sync::CancellationToken;

use super::Dialect;
use super::emit::{Connection, Out, QUEUE, reason_of};
use super::server::Shared;
use session::{Next, Session};

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// `GET /websocket`.
pub async fn upgrade(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    if shared.world().is_down() {
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
    let pending = request.extensions_mut().remove::<hyper::upgrade::OnUpgrade>();
    let (Some(key), Some(pending)) = (key, pending) else {
        return (StatusCode::BAD_REQUEST, "Can \"Upgrade\" only to \"WebSocket\".").into_response();
    };
    let raw = request.uri().path_and_query().is_none_or(|path| path.as_str() == "/websocket");
    let accept = derive_accept_key(key.as_bytes());
    tokio::spawn(async move {
        // A client that leaves between request and upgrade is nobody's concern.
        let Ok(upgraded) = pending.await else { return };
        let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
        serve(&shared, socket, raw).await;
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

async fn serve(shared: &Arc<Shared>, socket: Socket, raw: bool) {
    let id = shared.next_connection();
    let (out, queue) = mpsc::channel(QUEUE);
    let gone = CancellationToken::new();
    let (sink, stream) = socket.split();
    let dialect = {
        let mut world = shared.world();
        let connection =
            Connection { id, uid: None, token: None, subs: Vec::new(), out: out.clone(), gone: gone.clone() };
        world.connections.insert(id, connection);
        world.dialect
    };
    // The streamer speaks SockJS at any address but exactly `/websocket`.
    let sockjs = dialect == Dialect::Streamer && !raw;
    let writer = tokio::spawn(write(sink, queue, gone.clone(), sockjs));
    read(shared, Session::new(id, dialect), stream, out, &gone, sockjs).await;
    shared.world().disconnect(id);
    // The writer ends by itself when it has sent what was queued: all senders are gone now.
    let _ = tokio::time::timeout(Duration::from_secs(5), writer).await;
    gone.cancel();
}

async fn read(
    shared: &Shared,
    mut session: Session,
    mut stream: SplitStream<Socket>,
    out: mpsc::Sender<Out>,
    gone: &CancellationToken,
    sockjs: bool,
) {
    let streamer = session.dialect == Dialect::Streamer;
    let beat = shared.heartbeat.unwrap_or(Duration::from_secs(if streamer { 30 } else { 15 }));
    if streamer {
        let _ = out.send(Out::Text(r#"{"msg":"server_id","server_id":"0"}"#.into())).await;
    }
    // The streamer's first timer is 30 ms short, so that it pings a slow client before `connected`.
    let mut tick = interval(beat.max(Duration::from_millis(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset_after(if streamer { beat.min(Duration::from_millis(30)) } else { beat });
    let mut heard = true;
    let mut waits_for_life = false;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => {
                let _ = out.send(Out::Close(1001, "")).await;
                return;
            }
            () = gone.cancelled() => return,
            _ = tick.tick() => {
                if waits_for_life {
                    let code = if streamer { 4000 } else { 1000 };
                    let _ = out.send(Out::Close(code, reason_of(code))).await;
                    return;
                }
                // The monolith only looks whether anything came since its last look, and only once connected.
                let idle = streamer || !std::mem::take(&mut heard) && session.has_heartbeat();
                if idle {
                    let _ = out.send(Out::Text(r#"{"msg":"ping"}"#.into())).await;
                    waits_for_life = true;
                }
            }
            message = stream.next() => {
                let Some(Ok(message)) = message else { return };
                heard = true;
                waits_for_life = false;
                if streamer {
                    tick.reset();
                }
                let before = session.is_connected();
                let step = match message {
                    Message::Text(text) if sockjs => unpack(&mut session, shared, &text),
                    Message::Text(text) => session.hear(shared, &text),
                    Message::Binary(_) => session.hear_binary(),
                    Message::Close(_) => return,
                    _ => Next::Go,
                };
                // The monolith counts from `connected` on, and by what comes after it.
                if !streamer && !before && session.is_connected() {
                    tick.reset();
                    heard = false;
                }
                shared.heard.notify_waiters();
                if let Next::Close(code) = step {
                    let _ = out.send(Out::Close(code, reason_of(code))).await;
                    return;
                }
            }
        }
    }
}

/// SockJS from a client: an array of frames, each as a text.
fn unpack(session: &mut Session, shared: &Shared, text: &str) -> Next {
    let Ok(frames) = serde_json::from_str::<Vec<String>>(text) else { return Next::Close(1007) };
    let heard = frames.iter().map(|frame| session.hear(shared, frame));
    heard.into_iter().find(|next| *next != Next::Go).unwrap_or(Next::Go)
}

/// SockJS to a client.
fn packed(frame: &str) -> String {
    format!("a{}", serde_json::json!([frame]))
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut queue: mpsc::Receiver<Out>,
    gone: CancellationToken,
    sockjs: bool,
) {
    let mut batch = Vec::with_capacity(64);
    if sockjs && sink.feed(Message::text("o")).await.is_err() {
        gone.cancel();
        return;
    }
    loop {
        let count = tokio::select! {
            () = gone.cancelled() => return,
            count = queue.recv_many(&mut batch, 64) => count,
        };
        if count == 0 {
            let _ = sink.close().await;
            return;
        }
        for out in batch.drain(..) {
            let sent = match out {
                Out::Text(text) if sockjs => sink.feed(Message::text(packed(&text))).await,
                Out::Text(text) => sink.feed(Message::Text(text)).await,
                Out::Binary(bytes) => sink.feed(Message::Binary(bytes)).await,
                Out::Drop => {
                    gone.cancel();
                    return;
                }
                Out::Close(code, reason) => {
                    let frame = CloseFrame { code: code.into(), reason: reason.into() };
                    let _ = sink.send(Message::Close(Some(frame))).await;
                    gone.cancel();
                    return;
                }
            };
            if sent.is_err() {
                gone.cancel();
                return;
            }
        }
        if sink.flush().await.is_err() {
            gone.cancel();
            return;
        }
    }
}
