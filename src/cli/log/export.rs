//! Spans of commands, reactions, runs and steps to an OpenTelemetry collector, over HTTP with protobuf, as the standard
//! variables say. They carry ids and names, and no text.
//!
//! Must not: make anything wait. What a collector does not take in time is dropped, and that is said once a minute.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::config::env;
use crate::secret::Redactor;
use crate::trace::{self, otel};

/// Spans that are exported. A run as a whole comes with its end.
const EXPORTED: [&str; 3] = ["command", "reaction", "step"];

/// How often a collector that takes nothing is worth a line.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How long a stop waits for the last spans to be taken.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Of one request, where `OTEL_EXPORTER_OTLP_TIMEOUT` does not say otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is exported to.
pub struct Export(SdkTracerProvider);

impl Export {
    /// `None` where the environment asks for no export.
    pub fn wanted(runtime: &Handle, redactor: &Redactor) -> Result<Option<Self>, String> {
        let first = |names: &[&str]| names.iter().find_map(|name| env::get(name));
        let endpoint = first(&["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"]);
        let is_off = env::get("OTEL_SDK_DISABLED").is_some_and(|off| off.eq_ignore_ascii_case("true"))
            || env::get("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter != "otlp");
        if endpoint.is_none() || is_off {
            return Ok(None);
        }
        for headers in [env::get("OTEL_EXPORTER_OTLP_TRACES_HEADERS"), env::get("OTEL_EXPORTER_OTLP_HEADERS")]
        {
            // Keys of the collector.
            let headers = headers.unwrap_or_default();
            headers
                .split(',')
                .filter_map(|pair| pair.split_once('='))
                .for_each(|(_, value)| redactor.learn(value));
        }
        let protocol = first(&["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"]);
        if let Some(other) = protocol.filter(|protocol| protocol != "http/protobuf") {
            return Err(format!("`{other}` is asked for; Houston exports over `http/protobuf` alone"));
        }
        let timeout = first(&["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"]);
        let timeout = timeout.and_then(|ms| ms.parse().ok()).map_or(TIMEOUT, Duration::from_millis);
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .user_agent(concat!("houston/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| crate::text::with_causes(&error))?;
        let client = Client { http, runtime: runtime.clone(), missed: Mutex::default() };
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(|error| error.to_string())?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_id_generator(otel::Ids::default())
            .with_sampler(sampler())
            .with_resource(resource())
            .build();
        global::set_tracer_provider(provider.clone());
        Ok(Some(Self(provider)))
    }

    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let exported = filter_fn(|what| {
            what.is_span() && what.target() == trace::TARGET && EXPORTED.contains(&what.name())
        });
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(otel::NAME))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(exported.with_max_level_hint(tracing::Level::INFO))
    }

    /// Sends what is left, for a moment.
    pub fn end(self) {
        // What went wrong was said by whoever sends.
        let _ = self.0.shutdown_with_timeout(LAST_SPANS);
    }
}

/// By the trace alone: that of a run is the same in each process, and so is what is decided about it.
fn sampler() -> Sampler {
    let asked = env::get("OTEL_TRACES_SAMPLER").unwrap_or_default();
    match asked.strip_prefix("parentbased_").unwrap_or(&asked) {
        "always_off" => Sampler::AlwaysOff,
        "traceidratio" => {
            let ratio = env::get("OTEL_TRACES_SAMPLER_ARG").and_then(|ratio| ratio.parse().ok());
            Sampler::TraceIdRatioBased(ratio.unwrap_or(1.0))
        }
        _ => Sampler::AlwaysOn,
    }
}

fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let named = env::get("OTEL_SERVICE_NAME").is_some()
        || env::get("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|all| all.contains("service.name="));
    let resource = Resource::builder().with_attribute(version);
    if named { resource.build() } else { resource.with_service_name(otel::NAME).build() }
}

/// The tree's one HTTP client, for the exporter's thread, which has no runtime of its own.
#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    runtime: Handle,
    missed: Mutex<Missed>,
}

/// What was not taken since it was last said.
#[derive(Debug, Default)]
struct Missed {
    told: Option<Instant>,
    times: u64,
}

impl Missed {
    /// How often by now, where it is time to say so.
    fn another(&mut self, now: Instant) -> Option<u64> {
        self.times += 1;
        if self.told.is_some_and(|told| now.duration_since(told) < TELL_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.times))
    }
}

impl Client {
    fn missed(&self, why: &str) {
        let times = self.missed.lock().unwrap_or_else(PoisonError::into_inner).another(Instant::now());
        if let Some(times) = times {
            tracing::warn!(times, "spans are lost: the OpenTelemetry collector does not take them: {why}");
        }
    }
}

impl HttpClient for Client {
    fn send_bytes<'a, 'r>(
        &'a self,
        request: Request<Bytes>,
    ) -> BoxFuture<'r, Result<Response<Bytes>, HttpError>>
    where
        'a: 'r,
    {
        Box::pin(async move {
            let request = reqwest::Request::try_from(request)?;
            let http = self.http.clone();
            // Inside, since its timer begins with the call.
            let sent = self.runtime.spawn(async move { http.execute(request).await }).await;
            let answer = match sent {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) => {
                    // Its address may hold a password.
                    let error = error.without_url();
                    self.missed(&crate::text::with_causes(&error));
                    return Err(error.into());
                }
                Err(stopped) => return Err(stopped.into()),
            };
            if !answer.status().is_success() {
                self.missed(&format!("it answers {}", answer.status()));
            }
            // How many of them it did not like is of no use here, and how long its answer is is its own affair.
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                *headers = answer.headers().clone();
            }
            Ok(response.body(Bytes::new())?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_is_away_is_worth_a_line_a_minute() {
        let mut missed = Missed::default();
        assert_eq!(missed.another(Instant::now()), Some(1));
        for _ in 0..59 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(missed.another(Instant::now()), None);
        }
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(missed.another(Instant::now()), Some(60));
        assert_eq!(missed.another(Instant::now()), None);
    }
}
