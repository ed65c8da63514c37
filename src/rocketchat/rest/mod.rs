//! The REST client: one pooled HTTP client, the two auth headers, and the server's rate limits.
//!
//! Must not: follow a redirect to another host with the token, or parse an answer that is not JSON (an unknown
//! path below `/api/v1` is answered with the web client's page and 200).

mod messages;
mod rooms;
mod server;
mod uploads;
mod users;

use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::{Map, Value};

pub use messages::{Outgoing, Sent, Sync, SyncPage};
pub use rooms::Changes;
pub use server::{Permission, PublicSettings, ServerInfo};
pub use uploads::Upload;
pub use users::{Login, PersonalToken, Presence, UserQuery};

use super::budget::{Limiter, Priority, RateHeaders};
use super::error::RestError;
use super::waits::Waits;

/// An answer larger than this is given up: `chat.syncMessages` with `lastUpdate` is unbounded.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// How often a call that the rate limit refused is put back into the queue before its caller hears of it.
const MAX_RATE_LIMITED: u32 = 3;

/// How long a server that is not available may send us away for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How the client talks to the server.
#[derive(Clone, Debug)]
pub struct RestOptions {
    /// The workspace's address, with its sub-path if it has one: `https://chat.example.com`.
    pub url: String,
    /// To open a connection. Default 5 s.
    pub connect_timeout: Duration,
    /// For one call, answer included. Default 30 s.
    pub timeout: Duration,
    /// How long a call may wait for its turn under the rate limit before it fails with
    /// [`RestError::RateLimited`]. Default 70 s: one window of the default limit, and a little.
    pub max_wait: Duration,
}

impl RestOptions {
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
            max_wait: Duration::from_secs(70),
        }
    }
}

/// The client. Clones share connections, token and rate budgets.
#[derive(Clone)]
pub struct Rest {
    shared: Arc<Shared>,
    priority: Priority,
    /// For the rate limit.
    max_wait: Duration,
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rest({})", self.shared.base)
    }
}

struct Shared {
    http: Client,
    /// Ends in `/`.
    base: Url,
    auth: RwLock<Option<Auth>>,
    limiter: Limiter,
    /// Direct rooms by the other's user name.
    directs: Mutex<std::collections::HashMap<String, String>>,
    /// What the server's clock said last, and when we heard it.
    server_clock: Mutex<Option<(u64, tokio::time::Instant)>>,
    /// Is told at once, with each answer.
    hears_clock: OnceLock<HearsClock>,
}

type HearsClock = Box<dyn Fn(jiff::Timestamp) + Send + std::marker::Sync>;

struct Auth {
    user_id: String,
    user_header: HeaderValue,
    token_header: HeaderValue,
}

type Answer = Map<String, Value>;

impl Rest {
    /// Nothing is connected yet; the first call does.
    pub fn new(options: &RestOptions) -> Result<Self, RestError> {
        let malformed = |reason: String| RestError::Malformed { route: options.url.clone(), reason };
        let text = format!("{}/", options.url.trim_end_matches('/'));
        let base = Url::parse(&text).map_err(|error| malformed(format!("not an address: {error}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(malformed("an address starts with `http://` or `https://`".to_owned()));
        }
        let mut builder = Client::builder()
            .connect_timeout(options.connect_timeout)
            .timeout(options.timeout)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(50))
            .user_agent(concat!("houston/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::custom(|attempt| {
                let same_origin =
                    attempt.previous().first().is_some_and(|first| first.origin() == attempt.url().origin());
                if same_origin && attempt.previous().len() <= 3 { attempt.follow() } else { attempt.stop() }
            }));
        if base.scheme() == "http" {
            // TLS is never spoken: redirects stay on the origin. To read this machine's root certificates
            // would only cost time, and fail the start where there are none.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|error| malformed(describe(&error)))?;
        Ok(Self {
            shared: Arc::new(Shared {
                http,
                base,
                auth: RwLock::new(None),
                limiter: Limiter::default(),
                directs: Mutex::default(),
                server_clock: Mutex::default(),
                hears_clock: OnceLock::new(),
            }),
            priority: Priority::Normal,
            max_wait: options.max_wait,
        })
    }

    /// The same client; its calls wait for the rate limit in this place.
    pub fn with_priority(&self, priority: Priority) -> Self {
        Self { shared: Arc::clone(&self.shared), priority, max_wait: self.max_wait }
    }

    /// The same client; a call that would have to wait for the rate limit is refused at once.
    pub fn without_waiting(&self) -> Self {
        Self { max_wait: Duration::ZERO, ..self.clone() }
    }

    /// Another client of the same server, with rate budgets of its own, that calls as this user.
    pub fn beside(&self, user_id: &str, token: &str) -> Result<Self, RestError> {
        let shared = Shared {
            http: self.shared.http.clone(),
            base: self.shared.base.clone(),
            auth: RwLock::new(None),
            limiter: Limiter::default(),
            directs: Mutex::default(),
            server_clock: Mutex::default(),
            hears_clock: OnceLock::new(),
        };
        let beside = Self { shared: Arc::new(shared), ..*self };
        beside.set_auth(user_id, token)?;
        Ok(beside)
    }

    /// From now on, every call is made as this user.
    pub fn set_auth(&self, user_id: &str, token: &str) -> Result<(), RestError> {
        let header = |what: &str, text: &str| {
            HeaderValue::from_str(text).map_err(|_| RestError::Unauthorized {
                route: "login".to_owned(),
                reason: format!("the {what} has characters that no {what} has"),
            })
        };
        let mut token_header = header("token", token)?;
        token_header.set_sensitive(true);
        let auth =
            Auth { user_id: user_id.to_owned(), user_header: header("user id", user_id)?, token_header };
        *self.shared.auth.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(auth);
        Ok(())
    }

    /// As whom calls are made.
    pub fn user_id(&self) -> Option<String> {
        let auth = self.shared.auth.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        auth.as_ref().map(|auth| auth.user_id.clone())
    }

    /// The server's clock, to the second: the last answer's `Date`, and the time since. `None` before the
    /// first answer.
    pub fn server_time(&self) -> Option<jiff::Timestamp> {
        let heard = *self.shared.server_clock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (date_ms, when) = heard?;
        let date = jiff::Timestamp::from_millisecond(i64::try_from(date_ms).ok()?).ok()?;
        date.checked_add(when.elapsed()).ok()
    }

    /// From now on `hears` is told what the server's clock says, to the second, with each answer. Once.
    pub fn tell_clock(&self, hears: impl Fn(jiff::Timestamp) + Send + std::marker::Sync + 'static) {
        let _ = self.shared.hears_clock.set(Box::new(hears));
    }

    /// How calls waited for the rate limit.
    pub fn waits(&self) -> &Waits {
        self.shared.limiter.waits()
    }

    /// The workspace's address, ending in `/`.
    pub fn url(&self) -> &Url {
        &self.shared.base
    }

    async fn get(&self, route: &'static str, query: &[(&str, &str)]) -> Result<Answer, RestError> {
        let url = self.endpoint(route, &[], query);
        self.call(Method::GET, route, &url, |request| request).await
    }

    async fn post(&self, route: &'static str, body: &Value) -> Result<Answer, RestError> {
        self.post_at(route, &[], body).await
    }

    async fn post_at(&self, route: &'static str, path: &[&str], body: &Value) -> Result<Answer, RestError> {
        let url = self.endpoint(route, path, &[]);
        self.call(Method::POST, route, &url, |request| request.json(body)).await
    }

    fn endpoint(&self, route: &str, path: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url = self.shared.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).push(route).extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Waits for the rate limit, sends, and reads the answer. A call that the limit refused was not carried
    /// out, so it is sent again in its turn.
    async fn call(
        &self,
        verb: Method,
        route: &'static str,
        url: &Url,
        complete: impl Fn(RequestBuilder) -> RequestBuilder + Send + std::marker::Sync,
    ) -> Result<Answer, RestError> {
        let limiter = &self.shared.limiter;
        let key = (verb.clone(), route);
        let mut refusals = 0;
        loop {
            let permit = limiter
                .admit(&key, self.priority, self.max_wait)
                .await
                .map_err(|wait| RestError::RateLimited { route: route.to_owned(), retry_after: wait })?;
            let request = complete(self.authorized(self.shared.http.request(verb.clone(), url.clone())));
            let response = match request.send().await {
                Ok(response) => response,
                Err(error) => {
                    permit.unanswered();
                    return Err(unavailable(route, describe(&error)));
                }
            };
            let headers = rate_headers(&response);
            if let Some(date_ms) = headers.date_ms {
                let mut clock =
                    self.shared.server_clock.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                *clock = Some((date_ms, tokio::time::Instant::now()));
                drop(clock);
                let date =
                    i64::try_from(date_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
                if let (Some(hears), Some(date)) = (self.shared.hears_clock.get(), date) {
                    hears(date);
                }
            }
            permit.answered(&headers);
            match read(route, response).await {
                Err(RestError::RateLimited { route: name, retry_after: told }) => {
                    let retry_after = limiter.refused(&key, told);
                    tracing::debug!(route, wait = ?retry_after, ?told, "rate limited");
                    if refusals == MAX_RATE_LIMITED {
                        return Err(RestError::RateLimited { route: name, retry_after });
                    }
                    refusals += 1;
                }
                done => return done,
            }
        }
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        let auth = self.shared.auth.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*auth {
            Some(auth) => request
                .header("X-User-Id", auth.user_header.clone())
                .header("X-Auth-Token", auth.token_header.clone()),
            None => request,
        }
    }
}

fn rate_headers(response: &Response) -> RateHeaders {
    let headers = response.headers();
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    RateHeaders {
        success: response.status().is_success(),
        limit: number("x-ratelimit-limit"),
        remaining: number("x-ratelimit-remaining"),
        reset_ms: number("x-ratelimit-reset"),
        date_ms: date_ms(headers),
    }
}

/// The server's own clock, so that ours need not agree with it.
fn date_ms(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::parse(text).ok()?;
    u64::try_from(date.timestamp().as_millisecond()).ok()
}

async fn read(route: &str, response: Response) -> Result<Answer, RestError> {
    let status = response.status();
    let json = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/json"));
    let retry_after = seconds(response.headers());
    let location = response.headers().get("location").and_then(|to| to.to_str().ok()).map(str::to_owned);
    let body = body(route, response).await?;
    let answer = if json { serde_json::from_slice::<Value>(&body).ok() } else { None };
    let answer = match answer {
        Some(Value::Object(answer)) => Some(answer),
        _ => None,
    };
    classify(route, status, answer, retry_after, location.as_deref())
}

fn seconds(headers: &HeaderMap) -> Option<Duration> {
    let told = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)?;
    // A proxy that says "in a day" is asked again before.
    Some(told.min(LONGEST_RETRY_AFTER))
}

async fn body(route: &str, mut response: Response) -> Result<Vec<u8>, RestError> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY => {
                return Err(RestError::Malformed {
                    route: route.to_owned(),
                    reason: format!("the answer is larger than {} MiB", MAX_BODY / 1024 / 1024),
                });
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => return Err(unavailable(route, describe(&error))),
        }
    }
}

/// What an answer means. `answer` is its JSON object, if it is one.
fn classify(
    route: &str,
    status: StatusCode,
    answer: Option<Answer>,
    retry_after: Option<Duration>,
    location: Option<&str>,
) -> Result<Answer, RestError> {
    let route = route.to_owned();
    if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        return Err(RestError::Unavailable { route, reason: format!("HTTP {status}"), retry_after });
    }
    if status.is_redirection() {
        let to = location.unwrap_or("nowhere");
        return Err(RestError::Malformed { route, reason: format!("it redirects to `{to}`") });
    }
    let text = |answer: &Answer, key: &str| {
        answer.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    if status.is_success() {
        let Some(answer) = answer else {
            return Err(RestError::Malformed { route, reason: format!("HTTP {status}, but no JSON object") });
        };
        let failed = answer.get("success") == Some(&Value::Bool(false))
            || answer.get("status").and_then(Value::as_str) == Some("error");
        if !failed {
            return Ok(answer);
        }
        let error = text(&answer, "error").or_else(|| text(&answer, "message")).unwrap_or_default();
        let error_type = text(&answer, "errorType").or_else(|| code_in(&error));
        return Err(RestError::Refused { route, status: status.as_u16(), error, error_type });
    }
    let answer = answer.unwrap_or_default();
    // `error` is a number or a bare code in some answers, and the sentence is in `message` then.
    let error = text(&answer, "error");
    let sentence = text(&answer, "message").or_else(|| error.clone());
    let error_type = text(&answer, "errorType").or_else(|| error.as_deref().and_then(code_in));
    let sentence = sentence.unwrap_or_else(|| {
        if answer.is_empty() {
            status.canonical_reason().unwrap_or_default().to_owned()
        } else {
            String::new()
        }
    });
    if status == StatusCode::TOO_MANY_REQUESTS || error_type.as_deref() == Some("error-too-many-requests") {
        let told = retry_after.or_else(|| told_to_wait(&sentence)).unwrap_or(Duration::from_secs(60));
        return Err(RestError::RateLimited { route, retry_after: told });
    }
    if status == StatusCode::UNAUTHORIZED && error_type.as_deref() != Some("totp-required") {
        return Err(RestError::Unauthorized { route, reason: sentence });
    }
    Err(RestError::Refused { route, status: status.as_u16(), error: sentence, error_type })
}

/// `Not allowed [error-not-allowed]`, `[invalid-channel]` or a bare `error-invalid-room`.
fn code_in(error: &str) -> Option<String> {
    let is_code = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if let Some(start) = error.rfind('[')
        && let Some(code) = error[start + 1..].strip_suffix(']')
    {
        return is_code(code).then(|| code.to_owned());
    }
    let bare = is_code(error) && error.contains('-');
    bare.then(|| error.to_owned())
}

/// `You must wait 53 seconds before trying this endpoint again.`
fn told_to_wait(sentence: &str) -> Option<Duration> {
    let seconds = sentence.split_once("wait ")?.1.split_once(" second")?.0;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

fn unavailable(route: &str, reason: String) -> RestError {
    RestError::Unavailable { route: route.to_owned(), reason, retry_after: None }
}

/// An error with its causes, without the address: routes name it, and queries carry people's names.
fn describe(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let mut text = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if text.is_empty() { "the connection failed".to_owned() } else { text }
}

fn missing(route: &str, what: &str) -> RestError {
    RestError::Malformed { route: route.to_owned(), reason: format!("no `{what}` in the answer") }
}

#[cfg(test)]
mod tests;
