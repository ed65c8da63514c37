//! What a run is in OpenTelemetry: one trace, however often Houston was started meanwhile. Its ids are made of the
//! run's own, so that the steps of one process and the end that another one sees belong together.
//!
//! Must not: know where spans are sent to (`cli` does), or put text of people into them.

use std::cell::Cell;
use std::time::SystemTime;

use opentelemetry::trace::{
    Span as _, SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    Tracer as _,
};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};
use sha2::Digest as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{Ended, OfRun};

/// Who speaks.
pub const NAME: &str = "houston";

thread_local! {
    /// The ids of the span that this thread begins next, where they are not left to chance.
    static NEXT: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Ids by chance, but for what stands for a run as a whole.
#[derive(Debug, Default)]
pub struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT.get().map_or_else(|| self.0.new_trace_id(), |(trace, _)| trace)
    }
    fn new_span_id(&self) -> SpanId {
        NEXT.get().map_or_else(|| self.0.new_span_id(), |(_, span)| span)
    }
}

/// The trace of a run, and the span in it that stands for all of it.
fn ids_of(run: OfRun<'_>) -> (TraceId, SpanId) {
    // The number alone would be another run's in another installation.
    let digest = sha2::Sha256::digest(format!("run/{}/{}", run.run, run.card));
    let (mut trace, mut span) = ([0; 16], [0; 8]);
    trace.copy_from_slice(&digest[..16]);
    span.copy_from_slice(&digest[16..24]);
    (TraceId::from_bytes(trace), SpanId::from_bytes(span))
}

fn inside(run: OfRun<'_>) -> Context {
    let (trace, span) = ids_of(run);
    let whole = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::NONE);
    Context::new().with_remote_span_context(whole)
}

/// Puts a span into the trace of a run.
pub(super) fn belongs_to(span: &tracing::Span, run: OfRun<'_>) {
    // Where nothing is exported there is nothing to set.
    let _ = span.set_parent(inside(run));
}

/// The span of a run as a whole, when it is over, and that of the time for which people had it.
pub(super) fn ended(run: &Ended<'_>) {
    let tracer = global::tracer(NAME);
    let (from, to) = (SystemTime::from(run.from), SystemTime::from(run.to));
    let attributes = || {
        vec![
            KeyValue::new("run.id", run.of.run.to_string()),
            KeyValue::new("command.name", run.command.to_owned()),
            KeyValue::new("message.id", run.cause.message.to_string()),
            KeyValue::new("room.id", run.cause.room.to_string()),
            KeyValue::new("user.id", run.cause.user.to_string()),
        ]
    };
    NEXT.set(Some(ids_of(run.of)));
    let whole = tracer.span_builder(format!("run {}", run.command)).with_start_time(from);
    let mut whole = whole.with_attributes(attributes()).start_with_context(&tracer, &Context::new());
    NEXT.set(None);
    whole.set_attribute(KeyValue::new("run.outcome", run.outcome));
    if run.failed {
        whole.set_status(Status::error(run.outcome));
    }
    whole.end_with_timestamp(to);
    if let Some(decided) = run.decided {
        let approval = tracer.span_builder("approval").with_start_time(from).with_attributes(attributes());
        let mut approval = approval.start_with_context(&tracer, &inside(run.of));
        approval.end_with_timestamp(SystemTime::from(decided));
    }
}
