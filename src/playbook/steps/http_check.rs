//! `http_check`: asks an address until it answers as it should, or until time is up.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::{ByHand, ParamKind, ParamSpec, Repeat, StepContext, StepError, StepKind, UndoMode, params};
use crate::playbook::model::Preview;
use crate::text::{self, code, defuse};

const PARAMS: &[ParamSpec] = &[
    ParamSpec { name: "url", kind: ParamKind::Text, required: true, doc: "`http://…` or `https://…`." },
    ParamSpec { name: "expect_status", kind: ParamKind::Integer, required: false, doc: "Default 200." },
    ParamSpec {
        name: "expect_body",
        kind: ParamKind::Text,
        required: false,
        doc: "Must occur in the first 64 KiB of the body; `{version}` in it stands for the version.",
    },
    ParamSpec {
        name: "version",
        kind: ParamKind::Text,
        required: false,
        doc: "For `{version}`. Default: what a step before has brought the service to.",
    },
    ParamSpec {
        name: "within",
        kind: ParamKind::Duration,
        required: false,
        doc: "Until it has to be so. Default 30s.",
    },
];

const MOST_BODY: usize = 64 * 1024;
const SHOWN_BODY: usize = 300;

pub(super) struct HttpCheck;

/// What is asked, and what is expected.
struct Check {
    url: reqwest::Url,
    status: u16,
    body: Option<String>,
    within: Duration,
}

impl Check {
    fn read(context: &StepContext, given: &Json) -> Result<Self, StepError> {
        let written = params::required(given, "url")?;
        let url = parse_url(written).map_err(StepError::new)?;
        let status = params::integer(given, "expect_status")?.unwrap_or(200);
        let status = u16::try_from(status)
            .map_err(|_| StepError::new(format!("`expect_status` is {status}, which is no HTTP status")))?;
        let mut body = params::text(given, "expect_body").map(str::to_owned);
        if let Some(expected) = body.as_mut().filter(|b| b.contains("{version}")) {
            let version = params::text(given, "version").map(str::to_owned).or_else(|| deployed(context));
            let version = version.ok_or_else(|| {
                StepError::new(
                    "`expect_body` speaks of a `{version}`, and none was deployed before this step",
                )
                .hint("give the step a `version`")
            })?;
            *expected = expected.replace("{version}", &version);
        }
        Ok(Self {
            url,
            status,
            body,
            within: params::duration(given, "within")?.unwrap_or(Duration::from_secs(30)),
        })
    }

    /// One attempt; the error says in what the answer differs.
    async fn attempt(&self, client: &reqwest::Client) -> Result<(), String> {
        let response = client.get(self.url.clone()).send().await.map_err(|e| unanswered(&e))?;
        let status = response.status().as_u16();
        if status != self.status {
            return Err(format!("it answered {status} and not {}", self.status));
        }
        let Some(expected) = &self.body else { return Ok(()) };
        let mut body = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| unanswered(&e))?;
            body.extend_from_slice(&chunk[..chunk.len().min(MOST_BODY - body.len())]);
            if body.len() == MOST_BODY {
                break;
            }
        }
        let body = String::from_utf8_lossy(&body);
        if body.contains(expected.as_str()) {
            return Ok(());
        }
        let shown = code(&text::ellipsis(&body, SHOWN_BODY));
        Err(format!("it answered {status} without {} in {shown}", code(expected)))
    }
}

fn parse_url(written: &str) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(written).map_err(|e| format!("{} is no address: {e}", code(written)))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{} is no `http://` or `https://` address", code(written)));
    }
    Ok(url)
}

/// The version that a step before has brought this service to.
fn deployed(context: &StepContext) -> Option<String> {
    let service = context.service.as_ref()?.as_str();
    let of_service = |o: &&Json| o.get("service").and_then(Json::as_str) == Some(service);
    context.outputs.values().find(of_service)?.get("version")?.as_str().map(str::to_owned)
}

fn unanswered(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    defuse(&text::root_cause(error)).into_owned()
}

impl StepKind for HttpCheck {
    fn name(&self) -> &'static str {
        "http_check"
    }
    fn doc(&self) -> &'static str {
        "Asks an address until it answers as expected, or until time is up."
    }
    fn params(&self) -> &'static [ParamSpec] {
        PARAMS
    }
    fn repeat(&self, _params: &Json) -> Repeat {
        Repeat::Safe
    }
    fn by_hand(&self, _: &StepContext, given: &Json, _: Option<&Json>) -> ByHand {
        let url = params::text(given, "url").unwrap_or_default();
        let asked = vec![text::shell_words(&["curl", "--include", "--max-time", "10", url])];
        ByHand { look: asked.clone(), act: asked, undo: Vec::new() }
    }
    fn undo_mode(&self, _params: &Json) -> UndoMode {
        UndoMode::NotNeeded
    }
    fn title(&self, given: &Json) -> String {
        format!("check {}", code(params::text(given, "url").unwrap_or("an address")))
    }
    fn check(&self, given: &Json) -> Vec<String> {
        let url = given.get("url").filter(|u| !params::is_template(u)).and_then(Json::as_str);
        url.and_then(|u| parse_url(u).err()).into_iter().collect()
    }

    fn preview<'a>(
        &'a self,
        _: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Preview, StepError>> {
        Box::pin(async move {
            parse_url(params::required(given, "url")?).map_err(StepError::new)?;
            Ok(Preview::default())
        })
    }

    fn run<'a>(
        &'a self,
        context: &'a StepContext,
        given: &'a Json,
    ) -> BoxFuture<'a, Result<Json, StepError>> {
        Box::pin(async move {
            let check = Check::read(context, given)?;
            let client = context.world.http();
            let started = Instant::now();
            let deadline = started + check.within;
            let mut pause = Duration::from_millis(100);
            let mut attempts = 0_u64;
            let url = code(check.url.as_str());
            loop {
                attempts += 1;
                let attempt = tokio::select! {
                    attempt = tokio::time::timeout_at(deadline, check.attempt(&client)) => attempt,
                    () = context.cancel.cancelled() => {
                        return Err(StepError::new(format!("the check of {url} was cancelled")).cancelled());
                    }
                };
                let why = match attempt {
                    Ok(Ok(())) => {
                        let took = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                        return Ok(
                            json!({ "url": check.url.as_str(), "attempts": attempts, "took_ms": took }),
                        );
                    }
                    Ok(Err(why)) => context.redactor.redact(&why).into_owned(),
                    Err(_) => "it did not answer in time".to_owned(),
                };
                if Instant::now() + pause >= deadline {
                    return Err(StepError::new(format!(
                        "{url} is not as expected after {}: {why}",
                        text::duration(check.within)
                    ))
                    .detail(format!("{attempts} attempts")));
                }
                context.progress.status(&format!("checking {url}: {why}"));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = context.cancel.cancelled() => {}
                }
                pause = (pause * 2).min(Duration::from_secs(2));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::testing::{Lines, Scripted, context};
    use super::*;

    /// Answers one request after the other with these, the last one for ever.
    async fn server(answers: &'static [(u16, &'static str)]) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let mut next = 0;
            while let Ok((mut socket, _)) = listener.accept().await {
                let _ = socket.read(&mut [0; 4096]).await;
                let (status, body) = answers[next.min(answers.len() - 1)];
                next += 1;
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close", body.len());
                let _ = socket.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await;
            }
        });
        format!("http://{address}/health")
    }

    async fn run(given: Json, outputs: Json) -> Result<Json, StepError> {
        let mut context = context(&Arc::new(Scripted::default()), &Arc::new(Lines::default()));
        context.outputs = Arc::new(BTreeMap::from([("update".to_owned(), outputs)]));
        HttpCheck.run(&context, &given).await
    }

    #[tokio::test]
    async fn it_asks_until_the_answer_is_as_expected() {
        let url = server(&[(503, ""), (200, "v1"), (200, "v2 is here")]).await;
        let given =
            json!({ "url": url, "expect_status": "200", "expect_body": "{version} is", "within": "10s" });
        let output = run(given, json!({ "service": "web", "version": "v2" })).await.expect("healthy");
        assert_eq!(output["attempts"], 3);
    }

    #[tokio::test]
    async fn it_says_in_what_the_last_answer_differs() {
        let url = server(&[(200, "the secret-word @all")]).await;
        let given = json!({ "url": url, "expect_body": "v2", "within": "300ms" });
        let error = run(given, Json::Null).await.expect_err("never v2");
        assert!(error.message.contains("without `v2` in `the [redacted] @\u{200b}all`"), "{}", error.message);
        let given = json!({ "url": url, "expect_status": 204, "within": "300ms" });
        let error = run(given, Json::Null).await.expect_err("never 204");
        assert!(error.message.ends_with("it answered 200 and not 204"), "{}", error.message);
    }

    #[tokio::test]
    async fn it_ends_when_it_is_cancelled() {
        let context = context(&Arc::new(Scripted::default()), &Arc::new(Lines::default()));
        context.cancel.cancel();
        let given = json!({ "url": "http://127.0.0.1:1/", "within": "1h" });
        assert!(HttpCheck.run(&context, &given).await.expect_err("cancelled").cancelled);
    }

    #[test]
    fn an_address_is_checked_before_anything_runs() {
        assert_eq!(HttpCheck.check(&json!({ "url": "ftp://x" })).len(), 1);
        assert_eq!(HttpCheck.check(&json!({ "url": "{{ declared.health.url }}" })).len(), 0);
    }
}
