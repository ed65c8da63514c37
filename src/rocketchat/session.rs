//! One DDP connection as a state machine: frames and moments in, frames and events out.
//!
//! Must not: touch a socket or read a clock. `now` is time since any fixed moment.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use serde_json::{Value, json};

use super::error::DdpError;
use super::frame::{ClientFrame, FrameError, ServerFrame};

/// How patient a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Silence after which we ping. The server pings only silent clients, so this is the usual sign of life.
    pub ping_after: Duration,
    /// Silence after which the connection counts as dead.
    pub dead_after: Duration,
    /// For the login, and for the answer to each method and subscription.
    pub answer: Duration,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionEvent {
    Connected,
    LoggedIn {
        user_id: String,
    },
    /// `terminal`: the same token will be refused again.
    LoginFailed {
        terminal: bool,
        error: DdpError,
    },
    SubReady {
        id: String,
    },
    /// Refused, or ended by the server. `retryable`: the same subscription may succeed later.
    SubRefused {
        id: String,
        retryable: bool,
        error: DdpError,
    },
    /// An event of a stream.
    Stream {
        collection: String,
        event_name: String,
        args: Vec<Value>,
    },
    MethodResult {
        id: String,
        outcome: Result<Value, DdpError>,
    },
    /// This session is over. Nothing follows.
    MustReconnect {
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The socket is not open yet.
    New,
    /// `connect` is sent.
    Greeting,
    /// `login` is sent.
    LoggingIn,
    Up,
    Over,
}

/// The id of the login call; all others are numbers.
const LOGIN: &str = "login";

/// The state machine. Feed it, drain [`Session::next_event`] and
/// [`Session::next_frame`], then wait until [`Session::next_timer`].
pub struct Session {
    patience: Patience,
    token: String,
    phase: Phase,
    next_id: u64,
    opened: Duration,
    heard: Duration,
    /// When we asked for a sign of life, since we last heard one.
    pinged: Option<Duration>,
    methods: HashMap<String, Duration>,
    asked: HashMap<String, Duration>,
    live: HashSet<String>,
    frames: VecDeque<String>,
    events: VecDeque<SessionEvent>,
}

impl Session {
    /// `token` is a login or personal access token; the session logs in with it as soon as it is connected.
    pub fn new(patience: Patience, token: impl Into<String>) -> Self {
        Self {
            patience,
            token: token.into(),
            phase: Phase::New,
            next_id: 1,
            opened: Duration::ZERO,
            heard: Duration::ZERO,
            pinged: None,
            methods: HashMap::new(),
            asked: HashMap::new(),
            live: HashSet::new(),
            frames: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The next text frame to send.
    pub fn next_frame(&mut self) -> Option<String> {
        self.frames.pop_front()
    }

    /// What happened next.
    pub fn next_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// When [`Session::tick`] is due; `None` when the session is over or not begun.
    pub fn next_timer(&self) -> Option<Duration> {
        let answers = self.methods.values().chain(self.asked.values()).min().copied();
        let life = match self.pinged {
            Some(_) => self.heard + self.patience.dead_after,
            None => self.heard + self.patience.ping_after.min(self.patience.dead_after),
        };
        let login = (self.phase != Phase::Up).then(|| self.opened + self.patience.answer);
        match self.phase {
            Phase::New | Phase::Over => None,
            _ => [Some(life), answers, login].into_iter().flatten().min(),
        }
    }

    /// Logged in, and neither closed nor given up.
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// The socket is open. Our first frame is always `connect`: the streamer closes the socket for any other.
    pub fn opened(&mut self, now: Duration) {
        if self.phase == Phase::New {
            (self.phase, self.opened, self.heard) = (Phase::Greeting, now, now);
            self.send(&ClientFrame::Connect);
        }
    }

    /// A text frame arrived.
    pub fn text(&mut self, now: Duration, frame: &str) {
        if matches!(self.phase, Phase::New | Phase::Over) {
            return;
        }
        self.alive(now);
        match ServerFrame::parse(frame) {
            Ok(frame) => self.frame(now, frame),
            Err(FrameError::NotJson(error)) => tracing::debug!(%error, "a frame that is not JSON"),
            Err(error) => tracing::debug!(%error, "a frame that is not DDP"),
        }
    }

    /// A binary frame arrived; DDP has none, so it is only a sign of life.
    pub fn binary(&mut self, now: Duration) {
        self.alive(now);
    }

    /// A frame larger than we take arrived.
    pub fn oversized(&mut self, limit: usize) {
        self.end(format!("the server sent a frame larger than {} KiB", limit / 1024));
    }

    /// The socket is closed. 1000 may mean that our token was revoked; the next login tells.
    pub fn closed(&mut self, code: Option<u16>) {
        self.end(match code {
            Some(1000) => "the server closed the connection (1000)".to_owned(),
            Some(4000) => "the server heard nothing from us (4000)".to_owned(),
            Some(code) => format!("the server closed the connection ({code})"),
            None => "the connection broke".to_owned(),
        });
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Duration) {
        if matches!(self.phase, Phase::New | Phase::Over) {
            return;
        }
        let silence = now.saturating_sub(self.heard);
        if silence >= self.patience.dead_after {
            return self.end(format!("the server has been silent for {} s", silence.as_secs()));
        }
        if self.phase != Phase::Up && now >= self.opened + self.patience.answer {
            return self.end("the server did not log us in in time".to_owned());
        }
        if silence >= self.patience.ping_after && self.pinged.is_none() {
            self.pinged = Some(now);
            self.send(&ClientFrame::Ping);
        }
        let late = |waiting: &mut HashMap<String, Duration>| -> Vec<String> {
            waiting.extract_if(|_, deadline| *deadline <= now).map(|(id, _)| id).collect()
        };
        for id in late(&mut self.methods) {
            let outcome = Err(DdpError::local("no-answer", "the server did not answer in time"));
            self.event(SessionEvent::MethodResult { id, outcome });
        }
        for id in late(&mut self.asked) {
            // Should it become ready after all, nobody would listen.
            self.send(&ClientFrame::Unsub { id: &id });
            let error = DdpError::local("no-answer", "the server did not answer in time");
            self.event(SessionEvent::SubRefused { id, retryable: true, error });
        }
    }

    /// We are not reading the socket now, so its silence means nothing; the server must still hear from us.
    pub fn not_listening(&mut self, now: Duration) {
        if !matches!(self.phase, Phase::New | Phase::Over) {
            self.alive(now);
            self.send(&ClientFrame::Ping);
        }
    }

    /// We read the socket again after [`Session::not_listening`]: what waits in it has not been heard yet.
    pub fn listening_again(&mut self, now: Duration) {
        self.alive(now);
    }

    /// Calls a method; the answer is [`SessionEvent::MethodResult`] with the id returned here.
    pub fn call(&mut self, now: Duration, method: &str, params: &[Value]) -> String {
        let id = self.new_id();
        if self.phase == Phase::Over {
            return id;
        }
        self.send(&ClientFrame::Method { id: &id, method, params });
        self.methods.insert(id.clone(), now + self.patience.answer);
        id
    }

    /// Subscribes to an event of a stream; the answer is `SubReady` or `SubRefused` with the id returned here.
    pub fn subscribe(&mut self, now: Duration, stream: &str, event: &str) -> String {
        let id = self.new_id();
        if self.phase == Phase::Over {
            return id;
        }
        self.send(&ClientFrame::Sub { id: &id, name: stream, event });
        self.asked.insert(id.clone(), now + self.patience.answer);
        id
    }

    /// Ends a subscription; nothing more is told about it.
    pub fn unsubscribe(&mut self, id: &str) {
        let known = self.asked.remove(id).is_some() | self.live.remove(id);
        if known && self.phase != Phase::Over {
            self.send(&ClientFrame::Unsub { id });
        }
    }

    fn frame(&mut self, now: Duration, frame: ServerFrame) {
        match frame {
            ServerFrame::Stream { collection, event_name, args } => {
                self.event(SessionEvent::Stream { collection, event_name, args });
            }
            ServerFrame::Ping { id } => self.send(&ClientFrame::Pong { id: id.as_deref() }),
            ServerFrame::Connected { .. } if self.phase == Phase::Greeting => {
                self.phase = Phase::LoggingIn;
                self.event(SessionEvent::Connected);
                let params = [json!({ "resume": self.token })];
                self.send(&ClientFrame::Method { id: LOGIN, method: "login", params: &params });
            }
            ServerFrame::Failed { version } => {
                self.end(format!("the server speaks DDP version `{version}`, and we speak `1`"));
            }
            ServerFrame::Result { id, outcome } if id == LOGIN => self.login_result(outcome),
            ServerFrame::Result { id, outcome } => {
                if self.methods.remove(&id).is_some() {
                    self.event(SessionEvent::MethodResult { id, outcome });
                }
            }
            ServerFrame::Ready { subs } => {
                for id in subs {
                    if self.asked.remove(&id).is_some() {
                        self.live.insert(id.clone());
                        self.event(SessionEvent::SubReady { id });
                    }
                }
            }
            ServerFrame::NoSub { id, error } => {
                // Otherwise the echo of our own `unsub`.
                if self.asked.remove(&id).is_some() | self.live.remove(&id) {
                    let error = error.unwrap_or_else(|| DdpError::local("ended", "the server ended it"));
                    self.event(SessionEvent::SubRefused { id, retryable: retryable(&error), error });
                }
            }
            ServerFrame::Error { reason } => {
                tracing::debug!(%reason, at = ?now, "the server did not understand a frame");
            }
            ServerFrame::Other { msg } => tracing::trace!(%msg, "a message of no use to us"),
            ServerFrame::ServerId
            | ServerFrame::Connected { .. }
            | ServerFrame::Pong
            | ServerFrame::Updated
            | ServerFrame::Added { .. } => {}
        }
    }

    fn login_result(&mut self, outcome: Result<Value, DdpError>) {
        if self.phase != Phase::LoggingIn {
            return;
        }
        match outcome {
            Ok(result) => match result.get("id").and_then(Value::as_str) {
                Some(id) => {
                    self.phase = Phase::Up;
                    self.event(SessionEvent::LoggedIn { user_id: id.to_owned() });
                }
                None => self.end("the server's answer to the login names no user".to_owned()),
            },
            Err(error) => {
                let terminal = is_terminal(&error);
                self.event(SessionEvent::LoginFailed { terminal, error });
            }
        }
    }

    fn alive(&mut self, now: Duration) {
        (self.heard, self.pinged) = (self.heard.max(now), None);
    }

    fn new_id(&mut self) -> String {
        let id = self.next_id.to_string();
        self.next_id += 1;
        id
    }

    fn send(&mut self, frame: &ClientFrame<'_>) {
        self.frames.push_back(frame.to_text());
    }

    fn event(&mut self, event: SessionEvent) {
        self.events.push_back(event);
    }

    fn end(&mut self, reason: String) {
        if self.phase != Phase::Over {
            self.phase = Phase::Over;
            self.methods.clear();
            self.asked.clear();
            self.live.clear();
            self.event(SessionEvent::MustReconnect { reason });
        }
    }
}

/// Whether the same token will be refused again.
fn is_terminal(error: &DdpError) -> bool {
    let code = error.code.as_str();
    matches!(code, "403" | "400" | "totp-required" | "not-authorized")
        || code.starts_with("error-user-is-not-")
}

/// Whether the same subscription may succeed later.
fn retryable(error: &DdpError) -> bool {
    !matches!(
        error.code.as_str(),
        "not-allowed" | "error-not-allowed" | "not-authorized" | "invalid-event-name" | "400" | "403" | "404"
    )
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
