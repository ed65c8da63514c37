//! Every metric of Houston's: the one place where a name, a label or a meaning is written. `houston docs metrics` is
//! made of it, and so is what is exposed.
//!
//! Must not: have a label whose values are people, rooms, or anything else that grows with use. A label is the name of
//! a command, of a schedule, of a step kind, or a word out of a short list.

/// What a number does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric. The names follow Prometheus: base units, and `_total` for what only grows.
#[derive(Clone, Copy, Debug)]
pub struct Described {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// A sentence without its full stop.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Described {
    Described { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Described {
    Described { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Described {
    Described { name, kind: Kind::Histogram, labels, help }
}

pub const ACTS: Described = gauge(
    "houston_acts",
    &[],
    "1 while Houston may act: it holds the lease, or none is in use; 0 on standby. Over all Houstons of an account the sum is 1",
);
pub const CONNECTED: Described =
    gauge("houston_connected", &[], "1 while Houston is logged in to Rocket.Chat and subscribed");
pub const CAUGHT_UP: Described =
    gauge("houston_caught_up", &[], "1 when what was said before the present connection has been read");
pub const SILENCE: Described = gauge(
    "houston_server_silence_seconds",
    &[],
    "Time since Rocket.Chat was last heard, over lost connections too; NaN when it never was",
);
pub const CONNECTIONS: Described = counter(
    "houston_connections_total",
    &[],
    "Connections to Rocket.Chat that got as far as hearing messages",
);
pub const FRAMES: Described =
    counter("houston_frames_received_total", &[], "WebSocket frames that came from Rocket.Chat");
pub const WAITS: Described = counter(
    "houston_rate_limit_waits_total",
    &["priority"],
    "REST calls that had to wait for Rocket.Chat's rate limit, by who waits: `urgent`, `normal`, `progress`",
);
pub const WAITED: Described = counter(
    "houston_rate_limit_wait_seconds_total",
    &["priority"],
    "How long REST calls waited for Rocket.Chat's rate limit, all together",
);
pub const RATE_REFUSALS: Described = counter(
    "houston_rate_limit_refusals_total",
    &[],
    "REST calls that Rocket.Chat refused for their rate although Houston thought there was room",
);
pub const EVENTS_WAITING: Described = gauge(
    "houston_events_waiting",
    &[],
    "What was heard and is not looked at yet; at 1024 the socket is not read",
);

pub const MESSAGES: Described = counter(
    "houston_messages_total",
    &["addressed"],
    "Messages that people wrote where Houston is: a `command`, an `unknown` one, a `question`, or to `others`",
);
pub const COMMANDS: Described = counter(
    "houston_commands_total",
    &["command", "outcome"],
    "Commands that were understood: `answered`, or `refused` because the person may not",
);
pub const COMMAND_DURATION: Described =
    histogram("houston_command_duration_seconds", &[], "From the message to the answer or the plan");

pub const RUNS_CREATED: Described =
    counter("houston_runs_created_total", &["command"], "Runs that were asked for");
pub const RUNS_FINISHED: Described = counter(
    "houston_runs_finished_total",
    &["command", "outcome"],
    "Runs that came to their end: `succeeded`, `failed`, `cancelled`, `denied`, `expired`, `void`, `abandoned`",
);
pub const RUNS_OPEN: Described = gauge(
    "houston_runs_open",
    &["state"],
    "Runs that are not done: `deciding`, `ready`, `queued`, `frozen`, `maintenance` (they wait for one), `running`, `asking`, `waiting`, `paused`, `unknown`, `undoing`, `stuck`, `footing`; `paused`, `unknown`, `stuck` and `footing` ones need a person",
);
pub const STEPS: Described = counter(
    "houston_steps_total",
    &["kind", "outcome"],
    "Attempts of steps: `succeeded`, `failed`, `unknown` when nobody can tell, and their undoing: `undone`, `undo_failed`",
);
pub const STEP_DURATION: Described =
    histogram("houston_step_duration_seconds", &["kind"], "From the first attempt of a step to its success");
pub const APPROVALS: Described = counter(
    "houston_approvals_total",
    &["decision"],
    "Requests for approval, of plans and of steps, that were decided: `approved`, `denied`, `expired`, `voided`",
);
pub const APPROVAL_WAIT: Described =
    histogram("houston_approval_wait_seconds", &[], "From the request for approval to its decision");
pub const VOTES: Described =
    counter("houston_votes_total", &["choice"], "Votes that counted when they were given: `approve`, `deny`");

pub const OUTBOX_ENTRIES: Described = gauge(
    "houston_outbox_entries",
    &[],
    "Results, questions and cards that are written down and not said yet",
);
pub const OUTBOX_AGE: Described = gauge(
    "houston_outbox_oldest_age_seconds",
    &[],
    "How long the oldest of them has waited; 0 when there is none",
);
pub const SYNC_DURATION: Described = histogram(
    "houston_store_sync_duration_seconds",
    &[],
    "How long the device took to make a commit durable",
);
pub const STORE_SIZE: Described = gauge("houston_store_size_bytes", &[], "The database on disk");
pub const LAST_EXPORT: Described = gauge(
    "houston_last_export_timestamp_seconds",
    &[],
    "When the newest export of the store was made, since the Unix epoch; 0 when there is none",
);
pub const EXPORT_FAILURES: Described =
    counter("houston_export_failures_total", &[], "Exports of the store that were due and could not be made");
pub const SCHEDULE_NEXT: Described = gauge(
    "houston_schedule_next_timestamp_seconds",
    &["schedule"],
    "When a schedule is due next, since the Unix epoch; NaN while it is paused",
);
pub const SCHEDULE_SUCCESS: Described = gauge(
    "houston_schedule_last_success_timestamp_seconds",
    &["schedule"],
    "When a run of a schedule ended well last, or there was nothing to do, since the Unix epoch; 0 when never",
);
pub const SCHEDULE_MISFIRES: Described = counter(
    "houston_schedule_misfires_total",
    &["schedule"],
    "Times at which a schedule should have begun and did not, or only later; kept over restarts",
);
pub const AUDIT_FAILURES: Described =
    counter("houston_audit_failures_total", &[], "Entries that could not be written into the audit log");

pub const BUILD_INFO: Described =
    gauge("houston_build_info", &["version"], "Always 1; the label says what runs");
pub const START_TIME: Described =
    gauge("process_start_time_seconds", &[], "When the process started, since the Unix epoch");
pub const CPU: Described = counter("process_cpu_seconds_total", &[], "User and system time of the process");
pub const RESIDENT: Described = gauge("process_resident_memory_bytes", &[], "Memory of the process in RAM");
pub const OPEN_FDS: Described = gauge("process_open_fds", &[], "Open file descriptors");
pub const MAX_FDS: Described = gauge("process_max_fds", &[], "File descriptors that may be open");

/// In the order in which they are shown.
pub const ALL: &[&Described] = &[
    &ACTS,
    &CONNECTED,
    &CAUGHT_UP,
    &SILENCE,
    &CONNECTIONS,
    &FRAMES,
    &WAITS,
    &WAITED,
    &RATE_REFUSALS,
    &EVENTS_WAITING,
    &MESSAGES,
    &COMMANDS,
    &COMMAND_DURATION,
    &RUNS_CREATED,
    &RUNS_FINISHED,
    &RUNS_OPEN,
    &STEPS,
    &STEP_DURATION,
    &APPROVALS,
    &APPROVAL_WAIT,
    &VOTES,
    &OUTBOX_ENTRIES,
    &OUTBOX_AGE,
    &SYNC_DURATION,
    &STORE_SIZE,
    &LAST_EXPORT,
    &EXPORT_FAILURES,
    &SCHEDULE_NEXT,
    &SCHEDULE_SUCCESS,
    &SCHEDULE_MISFIRES,
    &AUDIT_FAILURES,
    &BUILD_INFO,
    &START_TIME,
    &CPU,
    &RESIDENT,
    &OPEN_FDS,
    &MAX_FDS,
];

/// `houston docs metrics`
pub fn reference() -> String {
    let mut out = String::from("# Metrics\n\nOf `GET /metrics`, in the text format of Prometheus.\n\n");
    out.push_str("| name | kind | labels | |\n|---|---|---|---|\n");
    for metric in ALL {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let row = format!(
            "| `{}` | {} | {} | {} |\n",
            metric.name,
            metric.kind.word(),
            labels.join(", "),
            metric.help
        );
        out.push_str(&row);
    }
    out
}
