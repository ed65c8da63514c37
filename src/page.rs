//! The page of a run, for who has a link to it: its steps, who consented, what it needs of people, and its output as
//! it comes. Drawn here, so that it reads without a script; the script only puts newer drawings in place.
//!
//! Must not: change anything, or show anything without a token that opens that very run. Everything foreign is
//! escaped by the template and redacted before.

mod download;
mod live;
mod marks;
mod view;

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::chat::dispatch::Dispatcher;
use crate::clock::Clock;
use crate::config::Current;
use crate::exec::transcript;
use crate::ids::RunId;
use crate::links::Links;
use crate::runs::state::RunState;
use crate::runs::transcripts::Transcripts;
use crate::runs::{ActError, Engine, LiveStatus};
use crate::secret::Redactor;
use crate::text;

/// Bytes of the output that the page begins with.
const SHOWN: usize = 64 * 1024;

/// Pages that are kept up to date at one time; further ones load themselves again.
const MOST_LIVE: usize = 64;

/// Outputs that are looked into at one time: one that is packed has to be unpacked for it.
const MOST_READING: usize = 4;

/// What a browser lets the page do, whatever an output says: its own files, its own server, nothing else. The one
/// policy for HTML is the script's own, which takes drawings of this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
    trusted-types drawing";

/// On every answer. The address is the secret: it is told to nobody, and nothing of the page is kept.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("x-robots-tag"), "noindex"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

#[derive(Clone)]
struct Page(Arc<Shared>);

struct Shared {
    engine: Engine,
    links: Links,
    clock: Clock,
    config: Current,
    redactor: Redactor,
    templates: Environment<'static>,
    live: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
    reading: Semaphore,
    stop: CancellationToken,
}

/// Until `stop`, what follows a run ends.
pub fn router(dispatcher: &Dispatcher, stop: CancellationToken) -> Router {
    let parts = &dispatcher.parts;
    let page = Page(Arc::new(Shared {
        engine: parts.engine.clone(),
        links: parts.links.clone(),
        clock: parts.clock.clone(),
        config: parts.config.clone(),
        redactor: parts.redactor.clone(),
        templates: templates(),
        live: Arc::new(Semaphore::new(MOST_LIVE)),
        downloads: Arc::new(Semaphore::new(download::MOST_AT_ONCE)),
        reading: Semaphore::new(MOST_READING),
        stop,
    }));
    Router::new()
        .route("/runs/{run}", get(show))
        .route("/runs/{run}/live", get(live::follow))
        .route("/runs/{run}/log", get(download::log))
        .route("/pages/{file}", get(file))
        .with_state(page)
        .layer(map_response(with_headers))
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn templates() -> Environment<'static> {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    // Of our own making, so nothing in it has to be escaped.
    templates.add_filter("when", |at: &Value| -> Result<Value, minijinja::Error> {
        let (iso, text) = (at.get_attr("iso")?, at.get_attr("text")?);
        Ok(Value::from_safe_string(format!("<time datetime=\"{iso}\">{text}</time>")))
    });
    // By the ending of their names their values are escaped.
    for (name, text) in [
        ("run.html", include_str!("page/run.html")),
        ("now.html", include_str!("page/now.html")),
        ("other.html", include_str!("page/other.html")),
    ] {
        templates.add_template(name, text).expect("the built-in templates are right");
    }
    templates
}

#[derive(Deserialize, Default)]
struct Asked {
    key: Option<String>,
    /// Bytes of the output that are shown already.
    from: Option<u64>,
}

/// A run that somebody may look at, and until when.
struct Opened {
    state: RunState,
    until: Timestamp,
}

impl Page {
    /// Which run the address names, if its key opens it now.
    async fn open(&self, run: &str, key: Option<&str>) -> Result<Opened, Response> {
        let now = self.0.clock.now();
        // Whoever has no link learns nothing, not even which runs there are.
        let run: RunId = run.parse().map_err(|_| self.refused())?;
        let until = key.and_then(|key| self.0.links.check(run, key, now)).ok_or_else(|| self.refused())?;
        match self.0.engine.state(run).await {
            Ok(state) => Ok(Opened { state, until }),
            Err(error) => Err(self.without(run, &error)),
        }
    }

    fn refused(&self) -> Response {
        let lasts = self.0.config.get().http.as_ref().map(|http| text::duration(http.link_expires));
        let lasts = lasts.unwrap_or_default();
        let what = format!(
            "Links to the page of a run are good for {lasts}, and this one is not, or not any more. To get a new one, \
             say !show and the run's name, such as !show R-41, in the room where the run was asked for."
        );
        self.other(StatusCode::FORBIDDEN, "This link opens nothing", &what)
    }

    fn without(&self, run: RunId, error: &ActError) -> Response {
        match error {
            ActError::NoSuchRun(_) | ActError::Removed { .. } => {
                let gone = match error {
                    ActError::Removed { removed, .. } => {
                        format!("It was {}.", removed.words().replace('`', ""))
                    }
                    _ => format!("The details of {run} are not kept any more."),
                };
                let what = format!("{gone} The audit log has who asked for it and what came of it.");
                self.other(StatusCode::NOT_FOUND, &format!("{run} is gone"), &what)
            }
            error => {
                tracing::error!(run.id = %run, "the page of {run} cannot be drawn: {error}");
                let what = "Its journal cannot be read by this Houston. !show in its room says more.";
                self.other(StatusCode::INTERNAL_SERVER_ERROR, &format!("{run} cannot be shown"), what)
            }
        }
    }

    fn other(&self, status: StatusCode, title: &str, what: &str) -> Response {
        (status, Html(self.render("other.html", context! { title, what }))).into_response()
    }

    fn render(&self, name: &str, values: Value) -> String {
        let drawn = self.0.templates.get_template(name).and_then(|template| template.render(values));
        drawn.unwrap_or_else(|error| {
            tracing::error!("the page cannot be drawn: {error:#}");
            "This cannot be shown: Houston's log says why.".to_owned()
        })
    }

    /// Blocking work on outputs.
    async fn look_into<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Transcripts) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let _place = self.0.reading.acquire().await.map_err(io::Error::other)?;
        let transcripts = self.0.engine.transcripts().clone();
        tokio::task::spawn_blocking(move || look(&transcripts)).await.map_err(io::Error::other)?
    }

    /// What changes while the run goes on.
    fn now(&self, state: &RunState, live: &LiveStatus) -> String {
        let view = view::of(state, live, self.0.clock.now());
        let view = serde_json::to_value(view).unwrap_or_default();
        let view = self.0.redactor.redact_json(&view);
        self.render("now.html", context! { run => Value::from(Serde(&view)) })
    }

    /// Lines of an output as they are shown.
    fn clean(&self, lines: &str) -> String {
        text::printable(&self.0.redactor.redact(lines)).into_owned()
    }
}

async fn show(
    State(page): State<Page>,
    Path(run): Path<String>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Html<String>, Response> {
    let asked = asked.map(|Query(asked)| asked).unwrap_or_default();
    let Opened { state, until } = page.open(&run, asked.key.as_deref()).await?;
    let run = state.id;
    let output = page.look_into(move |transcripts| transcripts.last(run, SHOWN)).await;
    let output = output.unwrap_or_else(|error| {
        tracing::error!(run.id = %run, "the transcript of {run} cannot be read: {error}");
        transcript::Piece { text: format!("The output cannot be read: {error}"), ..Default::default() }
    });
    let title = format!("{} {}: {}", state.id, state.word(), state.plan.command);
    let page = page.render(
        "run.html",
        context! {
            title => page.0.redactor.redact(&title),
            run => state.id.to_string(),
            now => Value::from_safe_string(page.now(&state, &page.0.engine.live(state.id).await)),
            live => !state.is_done(),
            key => asked.key,
            output => page.clean(&output.text),
            left_out => output.from,
            to => output.to,
            until => view::moment(until).text,
        },
    );
    Ok(Html(page))
}

/// What the page is made of.
async fn file(Path(file): Path<String>) -> Response {
    let found = match file.as_str() {
        "run.css" => ("text/css; charset=utf-8", include_str!("page/run.css")),
        "run.js" => ("text/javascript; charset=utf-8", include_str!("page/run.js")),
        "icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    ([(header::CONTENT_TYPE, found.0)], found.1).into_response()
}
