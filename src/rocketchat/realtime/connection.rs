//! The task behind [`super::Realtime`]: one attempt after the other, each with its own socket and session.
//!
//! Must not: let two sockets live at once, or read the socket while the reader of the events is behind.

use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{self, Message as Frame, protocol::WebSocketConfig};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::super::budget::Window;
use super::super::login::{Authenticator, LoginError};
use super::super::rest::Rest;
use super::super::session::{Patience, Session, SessionEvent};
use super::super::subscriptions::{Key, Subscriptions};
use super::backoff::Backoff;
use super::{Change, Command, Pulse, RealtimeEvent, RealtimeOptions};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A server that does not read for so long is gone.
const WRITE: Duration = Duration::from_secs(10);

/// Typing notices: methods called `stream-*` are limited to 40 in 40 s per connection.
const TYPING: (u32, Duration) = (36, Duration::from_secs(40));

/// Why an attempt is over.
enum End {
    /// Nobody wants the connection any longer.
    Stopped,
    Lost {
        reason: String,
        /// How long we were online.
        up: Option<Duration>,
    },
    /// Token or password are not accepted.
    Rejected(String),
}

type Flow = ControlFlow<End>;

/// What the reader was told last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Online,
    Offline,
    Rejected,
}

struct Supervisor {
    options: RealtimeOptions,
    url: String,
    login: Authenticator,
    events: mpsc::Sender<RealtimeEvent>,
    inbox: mpsc::UnboundedReceiver<Command>,
    pulse: Pulse,
    wanted: Subscriptions,
    /// Of the user that we are.
    core: Vec<Key>,
    told: Told,
}

/// One connection.
struct Line {
    session: Session,
    socket: Socket,
    username: String,
    typing: Window,
    /// When it was announced.
    online: Option<Duration>,
}

pub(super) async fn supervise(
    options: RealtimeOptions,
    rest: Rest,
    login: Authenticator,
    events: mpsc::Sender<RealtimeEvent>,
    inbox: mpsc::UnboundedReceiver<Command>,
    pulse: Pulse,
) {
    let url = address(&rest);
    let (wanted, core, told) = (Subscriptions::default(), Vec::new(), Told::Nothing);
    Supervisor { options, url, login, events, inbox, pulse, wanted, core, told }.run().await;
}

impl Supervisor {
    async fn run(mut self) {
        let mut backoff = Backoff::new(&self.options.timings);
        loop {
            let end = self.attempt().await;
            let wait = match end {
                End::Stopped => {
                    self.pulse.ended();
                    return;
                }
                End::Lost { reason, up } => {
                    backoff.ended(up);
                    let wait = backoff.wait();
                    tracing::debug!(%reason, ?wait, "not connected to Rocket.Chat");
                    if self.told != Told::Offline && self.told != Told::Rejected {
                        self.told = Told::Offline;
                        if self.tell(RealtimeEvent::Offline { reason }).await.is_break() {
                            return;
                        }
                    }
                    wait
                }
                End::Rejected(reason) => {
                    tracing::debug!(%reason, "Rocket.Chat does not let us in");
                    if self.reject(reason).await.is_break() {
                        return;
                    }
                    self.options.timings.rejected_retry
                }
            };
            if self.idle(wait).await.is_break() {
                return;
            }
        }
    }

    async fn reject(&mut self, reason: String) -> Flow {
        if self.told == Told::Online {
            self.tell(RealtimeEvent::Offline { reason: "Rocket.Chat ended the session".to_owned() }).await?;
        }
        if self.told != Told::Rejected {
            self.told = Told::Rejected;
            self.tell(RealtimeEvent::AuthRejected { reason }).await?;
        }
        Flow::Continue(())
    }

    /// Tells the reader something while there is no connection.
    async fn tell(&mut self, event: RealtimeEvent) -> Flow {
        loop {
            tokio::select! {
                permit = self.events.reserve() => return match permit {
                    Ok(permit) => {
                        permit.send(event);
                        Flow::Continue(())
                    }
                    Err(_) => Flow::Break(End::Stopped),
                },
                command = self.inbox.recv() => note(&mut self.wanted, command)?,
            }
        }
    }

    /// Waits between attempts.
    async fn idle(&mut self, wait: Duration) -> Flow {
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(until) => return Flow::Continue(()),
                () = self.login.offered() => {
                    // What becomes of other credentials is news.
                    if self.told == Told::Rejected {
                        self.told = Told::Offline;
                    }
                    return Flow::Continue(());
                }
                () = self.events.closed() => return Flow::Break(End::Stopped),
                command = self.inbox.recv() => note(&mut self.wanted, command)?,
            }
        }
    }

    /// Opens a connection and stays with it until it ends.
    async fn attempt(&mut self) -> End {
        let (identity, socket) = {
            let Self { options, url, login, inbox, wanted, .. } = self;
            let opening = async {
                tokio::join!(login.authenticate(), open(url, options.timings.connect, options.max_frame))
            };
            tokio::pin!(opening);
            loop {
                tokio::select! {
                    done = &mut opening => break done,
                    command = inbox.recv() => if let Flow::Break(end) = note(wanted, command) {
                        return end;
                    },
                }
            }
        };
        let (identity, socket) = match (identity, socket) {
            (Err(LoginError::Rejected(reason)), _) => return End::Rejected(reason),
            (_, Err(reason)) | (Err(LoginError::Unavailable(reason)), _) => {
                return End::Lost { reason, up: None };
            }
            (Ok(identity), Ok(socket)) => (identity, socket),
        };
        let now = self.pulse.now();
        self.pulse.heard(now);
        self.wanted.reset();
        let mut line = Line {
            session: Session::new(Patience::from(&self.options.timings), identity.token),
            socket,
            username: identity.username,
            typing: Window::new(TYPING.0, TYPING.1),
            online: None,
        };
        line.session.opened(now);
        let end = self.converse(&mut line).await;
        // Politely, but not at the price of waiting for a dead peer.
        let _ = timeout(Duration::from_secs(1), line.socket.close(None)).await;
        end
    }

    async fn converse(&mut self, line: &mut Line) -> End {
        loop {
            match self.turn(line).await {
                Flow::Continue(()) => {}
                Flow::Break(End::Lost { reason, .. }) => {
                    let up = line.online.map(|since| self.pulse.now().saturating_sub(since));
                    return End::Lost { reason, up };
                }
                Flow::Break(end) => return end,
            }
        }
    }

    /// Handles what the session has to say, then waits for the next thing to happen.
    async fn turn(&mut self, line: &mut Line) -> Flow {
        while let Some(event) = line.session.next_event() {
            self.handle(line, event).await?;
        }
        let now = self.pulse.now();
        if line.session.is_up() {
            while let Some(key) = self.wanted.next_due(now) {
                let id = line.session.subscribe(now, key.stream, &key.event);
                self.wanted.asked(&key, &id);
            }
        }
        flush(line).await?;
        let timer = [line.session.next_timer(), self.wanted.next_timer().filter(|_| line.session.is_up())];
        let timer = timer.into_iter().flatten().min().unwrap_or(now);
        tokio::select! {
            frame = line.socket.next() => {
                let now = self.pulse.now();
                self.pulse.heard(now);
                if matches!(frame, Some(Ok(_))) {
                    self.pulse.frame();
                }
                match frame {
                    Some(Ok(Frame::Text(text))) => line.session.text(now, text.as_str()),
                    Some(Ok(Frame::Close(close))) => line.session.closed(close.map(|close| close.code.into())),
                    Some(Ok(_)) => line.session.binary(now),
                    Some(Err(tungstenite::Error::Capacity(_))) => line.session.oversized(self.options.max_frame),
                    Some(Err(error)) => return lost(format!("the connection broke: {error}")),
                    None => line.session.closed(None),
                }
            }
            command = self.inbox.recv() => self.command(line, command)?,
            () = sleep_until(self.pulse.start + timer) => line.session.tick(self.pulse.now()),
            () = self.events.closed() => return Flow::Break(End::Stopped),
        }
        Flow::Continue(())
    }

    async fn handle(&mut self, line: &mut Line, event: SessionEvent) -> Flow {
        match event {
            SessionEvent::Stream { collection, event_name, args } => {
                match RealtimeEvent::from_stream(&collection, &event_name, args) {
                    Some(event) => self.stream(line, event).await?,
                    None => tracing::debug!(collection, event_name, "an event that cannot be read"),
                }
            }
            SessionEvent::Connected => {}
            SessionEvent::LoggedIn { user_id } => {
                let core = core(&user_id);
                for old in std::mem::take(&mut self.core).iter().filter(|old| !core.contains(old)) {
                    self.wanted.forget(old);
                }
                core.iter().for_each(|key| self.wanted.want(key.clone()));
                self.core = core;
            }
            SessionEvent::LoginFailed { terminal, error } => {
                let reason = format!("Rocket.Chat refused the login: {error}");
                if !terminal || self.login.token_refused() {
                    return lost(reason);
                }
                return Flow::Break(End::Rejected(format!(
                    "{reason}; create a personal access token for the bot's account and configure it"
                )));
            }
            SessionEvent::SubReady { id } => {
                self.wanted.ready(&id);
                if line.online.is_none() && self.has_essentials() {
                    line.online = Some(self.pulse.now());
                    self.pulse.online();
                    self.told = Told::Online;
                    let user_id = self.login.user_id().unwrap_or_default();
                    let username = line.username.clone();
                    self.deliver(line, RealtimeEvent::Online { user_id, username }).await?;
                }
            }
            SessionEvent::SubRefused { id, retryable, error } => {
                let now = self.pulse.now();
                if let Some(key) = self.wanted.refused(now, &id, retryable, &error) {
                    tracing::warn!(stream = key.stream, event = key.event, %error, "subscription refused");
                    // What was said in the meantime would be missed, and nobody would catch up.
                    let essential = self.core.iter().take(ESSENTIAL).any(|core| *core == key);
                    if essential && (line.online.is_some() || !retryable) {
                        return lost(format!("Rocket.Chat ended the subscription `{}`: {error}", key.stream));
                    }
                }
            }
            SessionEvent::MethodResult { outcome, .. } => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "typing was not shown");
                    if error.is_rate_limit() {
                        line.typing.refused(self.pulse.now(), error.time_to_reset);
                    }
                }
            }
            SessionEvent::MustReconnect { reason } => return lost(reason),
        }
        Flow::Continue(())
    }

    async fn stream(&mut self, line: &mut Line, event: RealtimeEvent) -> Flow {
        // The server may go on delivering a room's events after we were removed from it.
        if let RealtimeEvent::Subscription { change: Change::Removed, subscription } = &event {
            self.unwatch(line, &subscription.rid);
        }
        self.deliver(line, event).await
    }

    /// Hands an event out. While the reader is behind, the socket is not read, and the server is kept content.
    async fn deliver(&mut self, line: &mut Line, event: RealtimeEvent) -> Flow {
        let event = match self.events.try_send(event) {
            Ok(()) => return Flow::Continue(()),
            Err(TrySendError::Closed(_)) => return Flow::Break(End::Stopped),
            Err(TrySendError::Full(event)) => event,
        };
        let events = self.events.clone();
        loop {
            tokio::select! {
                permit = events.reserve() => return match permit {
                    Ok(permit) => {
                        permit.send(event);
                        line.session.listening_again(self.pulse.now());
                        Flow::Continue(())
                    }
                    Err(_) => Flow::Break(End::Stopped),
                },
                command = self.inbox.recv() => self.command(line, command)?,
                () = sleep(self.options.timings.ping_after / 2) => {
                    line.session.not_listening(self.pulse.now());
                    flush(line).await?;
                }
            }
        }
    }

    fn command(&mut self, line: &mut Line, command: Option<Command>) -> Flow {
        match command {
            Some(Command::Unwatch(rid)) => self.unwatch(line, &rid),
            Some(Command::Typing { rid, name, on }) => {
                let now = self.pulse.now();
                if line.online.is_some() && line.typing.take(now).is_ok() {
                    let activity: &[&str] = if on { &["user-typing"] } else { &[] };
                    let params: [Value; 3] =
                        [json!(format!("{rid}/user-activity")), json!(name), json!(activity)];
                    line.session.call(now, "stream-notify-room", &params);
                }
            }
            other => return note(&mut self.wanted, other),
        }
        Flow::Continue(())
    }

    fn has_essentials(&self) -> bool {
        self.core.get(..ESSENTIAL).is_some_and(|core| core.iter().all(|key| self.wanted.is_ready(key)))
    }

    fn unwatch(&mut self, line: &mut Line, rid: &str) {
        for id in deletions(rid).iter().filter_map(|key| self.wanted.forget(key)) {
            line.session.unsubscribe(&id);
        }
    }
}

fn lost(reason: String) -> Flow {
    Flow::Break(End::Lost { reason, up: None })
}

/// What a command means without a connection.
fn note(wanted: &mut Subscriptions, command: Option<Command>) -> Flow {
    match command {
        Some(Command::Watch(rid)) => deletions(&rid).into_iter().for_each(|key| wanted.want(key)),
        Some(Command::Unwatch(rid)) => deletions(&rid).iter().for_each(|key| {
            wanted.forget(key);
        }),
        Some(Command::Typing { .. }) => {}
        Some(Command::Shutdown) | None => return Flow::Break(End::Stopped),
    }
    Flow::Continue(())
}

/// How many of [`core()`] we cannot do without.
const ESSENTIAL: usize = 2;

/// What we subscribe to as soon as we are logged in.
fn core(user_id: &str) -> Vec<Key> {
    let of_user = |event: &str| Key { stream: "stream-notify-user", event: format!("{user_id}/{event}") };
    let of_all = |event: &str| Key { stream: "stream-notify-logged", event: event.to_owned() };
    vec![
        Key { stream: "stream-room-messages", event: "__my_messages__".to_owned() },
        of_user("subscriptions-changed"),
        of_user("message"),
        of_user("force_logout"),
        of_all("Users:NameChanged"),
        of_all("user-status"),
    ]
}

/// What tells of deletions in a room; there is no stream for all rooms.
fn deletions(rid: &str) -> [Key; 2] {
    ["deleteMessage", "deleteMessageBulk"]
        .map(|event| Key { stream: "stream-notify-room", event: format!("{rid}/{event}") })
}

async fn flush(line: &mut Line) -> Flow {
    let socket = &mut line.socket;
    let session = &mut line.session;
    let write = async {
        let mut any = false;
        while let Some(text) = session.next_frame() {
            socket.feed(Frame::text(text)).await?;
            any = true;
        }
        if any { socket.flush().await } else { Ok(()) }
    };
    match timeout(WRITE, write).await {
        Ok(Ok(())) => Flow::Continue(()),
        Ok(Err(error)) => lost(format!("the connection broke: {error}")),
        Err(_) => lost("the server does not read what we send".to_owned()),
    }
}

/// `http` → `ws`, `https` → `wss`. The streamer takes exactly `/websocket` for a raw socket.
pub(super) fn address(rest: &Rest) -> String {
    format!("{}websocket", rest.url().as_str().replacen("http", "ws", 1))
}

pub(super) async fn open(url: &str, connect: Duration, max_frame: usize) -> Result<Socket, String> {
    let limits = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .max_message_size(Some(max_frame))
        .max_frame_size(Some(max_frame));
    match timeout(connect, connect_async_with_config(url, Some(limits), true)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(response))) => {
            Err(format!("`{url}` answered HTTP {} instead of a WebSocket", response.status()))
        }
        Ok(Err(error)) => Err(format!("`{url}` cannot be reached: {error}")),
        Err(_) => Err(format!("`{url}` did not answer within {} s", connect.as_secs())),
    }
}
