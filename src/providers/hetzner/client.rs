//! Requests to Hetzner's API: the token, time limits, the rate limit, repeats where a repeat is harmless, pages.
//!
//! On Houston's own HTTP client, since the crate `hcloud`'s drops all headers (when to come back after a 429), has no
//! time limit, and takes an answer with a word that it does not know for no answer: a server would be there, paid for,
//! and the call an error.
//!
//! Must not: repeat a request that may have been carried out and is not the same when it is carried out twice.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio::time::Instant;

use super::error::HetznerError;
use crate::config::providers;
use crate::exec::secret;
use crate::secret::{Redactor, Secret};
use crate::text;

/// For one answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a request is tried again that was not carried out, or is harmless to repeat.
const PATIENCE: Duration = Duration::from_secs(90);

/// Between attempts; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// With fewer requests left in this hour there is a second between two of them: as many as come back.
const SCARCE: i64 = 60;

/// The most that the API gives at once.
const PER_PAGE: &str = "50";

/// More pages than any project has: an answer that names itself as the next one ends here.
const MOST_PAGES: u32 = 200;

/// More than a page of fifty servers has; what goes on after that is no answer of the API.
const LARGEST: usize = 16 * 1024 * 1024;

/// Of an answer that makes no sense, for people.
const SHOWN: usize = 120;

pub struct Client {
    access: providers::Hetzner,
    /// What a relative path of the token counts from.
    base: PathBuf,
    redactor: Redactor,
    http: reqwest::Client,
    token: tokio::sync::Mutex<Option<Secret>>,
    /// As the last answer said; negative before the first.
    remaining: AtomicI64,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Call {
    /// For people: `creating the server prod-backup-r-41`.
    what: String,
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Json>,
}

impl Call {
    fn new(method: Method, what: impl Into<String>, path: impl Into<String>) -> Self {
        Self { what: what.into(), method, path: path.into(), query: Vec::new(), body: None }
    }
    pub fn get(what: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new(Method::GET, what, path)
    }
    pub fn delete(what: impl Into<String>, path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, what, path)
    }
    pub fn post(what: impl Into<String>, path: impl Into<String>, body: Json) -> Self {
        Self { body: Some(body), ..Self::new(Method::POST, what, path) }
    }
    #[must_use]
    pub fn query(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }
    /// Of its answer.
    pub fn read<T: DeserializeOwned>(&self, answer: &Json, key: &str) -> Result<T, HetznerError> {
        read(self, answer, key)
    }
    /// Whether carrying it out twice is as once.
    fn is_harmless(&self) -> bool {
        self.method != Method::POST
    }
}

impl Client {
    pub fn new(access: providers::Hetzner, base: PathBuf, http: reqwest::Client, redactor: Redactor) -> Self {
        Self {
            access,
            base,
            redactor,
            http,
            token: tokio::sync::Mutex::default(),
            remaining: AtomicI64::new(-1),
        }
    }

    /// The answer; `null` where it has no body.
    pub async fn send(&self, call: &Call) -> Result<Json, HetznerError> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        let mut asked_anew = false;
        loop {
            if (0..SCARCE).contains(&self.remaining.load(Ordering::Relaxed)) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let token = self.token().await?;
            let (error, after) = match self.once(call, &token).await {
                Ok(answer) => return Ok(answer),
                Err(refused) => refused,
            };
            if error.is("unauthorized") && !asked_anew {
                // It may have been replaced where it is kept.
                asked_anew = true;
                if self.another_token(&token).await? {
                    continue;
                }
            }
            // A refusal that says "not now" is none of what was asked.
            let undone = matches!(error.code(), Some("rate_limit_exceeded" | "locked" | "conflict"));
            let again = undone || (call.is_harmless() && error.is_transient() && !error.is_capacity());
            let wait = after.unwrap_or(pause).min(LONGEST_PAUSE);
            if !again || Instant::now() + wait > deadline {
                return Err(error);
            }
            tracing::debug!("{error}; again in {}", text::duration(wait));
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// All of a list, page by page.
    pub async fn list<T: DeserializeOwned>(&self, call: Call, key: &str) -> Result<Vec<T>, HetznerError> {
        let mut all = Vec::new();
        let mut page = 1;
        for _ in 0..MOST_PAGES {
            let call = call.clone().query("page", page.to_string()).query("per_page", PER_PAGE);
            let answer = self.send(&call).await?;
            all.extend(read::<Vec<T>>(&call, &answer, key)?);
            match answer.pointer("/meta/pagination/next_page").and_then(Json::as_u64) {
                Some(next) => page = next,
                None => break,
            }
        }
        Ok(all)
    }

    /// One thing of an answer.
    pub async fn one<T: DeserializeOwned>(&self, call: &Call, key: &str) -> Result<T, HetznerError> {
        let answer = self.send(call).await?;
        read(call, &answer, key)
    }

    async fn token(&self) -> Result<Secret, HetznerError> {
        let mut token = self.token.lock().await;
        if let Some(token) = &*token {
            return Ok(token.clone());
        }
        let fetched = secret::resolve(&self.access.token, &self.base, &self.redactor).await?;
        *token = Some(fetched.clone());
        Ok(fetched)
    }

    /// Whether there is another one than `refused` where it is kept.
    async fn another_token(&self, refused: &Secret) -> Result<bool, HetznerError> {
        let fetched = secret::resolve(&self.access.token, &self.base, &self.redactor).await?;
        let another = fetched.expose() != refused.expose();
        *self.token.lock().await = Some(fetched);
        Ok(another)
    }

    async fn once(&self, call: &Call, token: &Secret) -> Result<Json, (HetznerError, Option<Duration>)> {
        let mut url = self.access.url.clone();
        url.set_path(&format!("{}{}", url.path().trim_end_matches('/'), call.path));
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        let mut request =
            self.http.request(call.method.clone(), url).timeout(TIMEOUT).bearer_auth(token.expose());
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let lost = |error: &reqwest::Error, maybe_done: bool| {
            let reason = if error.is_timeout() {
                format!("no answer after {}", text::duration(TIMEOUT))
            } else {
                text::root_cause(error)
            };
            (HetznerError::Unreachable { what: call.what.clone(), reason, maybe_done }, None)
        };
        let mut answer = request.send().await.map_err(|error| lost(&error, !error.is_connect()))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        if let Some(left) = number(&headers, "ratelimit-remaining") {
            self.remaining.store(left, Ordering::Relaxed);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| lost(&error, true))? {
            body.extend_from_slice(&chunk);
            if body.len() > LARGEST {
                let (what, reason) = (call.what.clone(), "it has no end".to_owned());
                let status = status.as_u16();
                return Err((HetznerError::Unreadable { what, status, reason, maybe_done: true }, None));
            }
        }
        let read: Option<Json> =
            if body.is_empty() { Some(Json::Null) } else { serde_json::from_slice(&body).ok() };
        match read {
            Some(answer) if status.is_success() => Ok(answer),
            Some(answer) if answer.pointer("/error/code").is_some() => {
                let word =
                    |at: &str| answer.pointer(at).and_then(Json::as_str).unwrap_or_default().to_owned();
                let error = HetznerError::Refused {
                    what: call.what.clone(),
                    status: status.as_u16(),
                    code: word("/error/code"),
                    message: word("/error/message"),
                };
                Err((error, retry_after(&headers)))
            }
            _ => {
                let body = String::from_utf8_lossy(&body);
                let error = HetznerError::Unreadable {
                    what: call.what.clone(),
                    status: status.as_u16(),
                    reason: text::ellipsis(&body.split_whitespace().collect::<Vec<_>>().join(" "), SHOWN)
                        .into_owned(),
                    // What is refused on the way was not carried out; what is answered by nonsense may have been.
                    maybe_done: status.is_success() || status.is_server_error(),
                };
                let after =
                    (status == StatusCode::TOO_MANY_REQUESTS).then(|| retry_after(&headers)).flatten();
                Err((error, after))
            }
        }
    }
}

fn read<T: DeserializeOwned>(call: &Call, answer: &Json, key: &str) -> Result<T, HetznerError> {
    let value = answer.get(key).cloned().unwrap_or(Json::Null);
    serde_json::from_value(value).map_err(|error| HetznerError::Unreadable {
        what: call.what.clone(),
        status: 200,
        reason: format!("`{key}`: {error}"),
        maybe_done: true,
    })
}

fn number(headers: &HeaderMap, name: &str) -> Option<i64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// As the answer says; the API's own `RateLimit-Reset` is when everything is back, which nobody has to wait for.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = number(headers, "retry-after")?;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}
