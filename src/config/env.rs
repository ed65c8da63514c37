//! Every environment variable that Houston reads, with what it is for. The only place that reads them.
//!
//! Must not: hold configuration. What a deployment needs stands in its folder; variables carry secrets,
//! and what the terminal and the platform say.

/// One variable, for `houston docs env`.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub name: &'static str,
    /// A sentence, with the default.
    pub doc: &'static str,
}

/// The documented list. Besides these, a configuration may name any variable as a secret: `{env: NAME}`.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "HOUSTON_LOG",
        doc: "What is logged, as tracing filters are written: `info`, `houston=debug`. Default `info`.",
    },
    Variable {
        name: "DOCKER_HOST",
        doc: "The engine that `houston demo --swarm` deploys to: `unix://PATH`. Default `unix:///var/run/docker.sock`.",
    },
    Variable { name: "NO_COLOR", doc: "Set to anything: no colours in the terminal." },
    Variable {
        name: "TMPDIR",
        doc: "Where the control sockets of SSH go when the state folder's path is too long. Default `/tmp`.",
    },
    #[cfg(feature = "otel")]
    Variable {
        name: "OTEL_EXPORTER_OTLP_ENDPOINT",
        doc: "Where spans are exported to, over HTTP with protobuf: `http://collector:4318`. Without it, or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, nothing is exported; the other `OTEL_` variables of OpenTelemetry say how.",
    },
    #[cfg(debug_assertions)]
    Variable {
        name: "HOUSTON_KILL_AT",
        doc: "Only in debug builds, for tests: `before:17` kills this Houston before its 17th sync of the store, `after:17` after it.",
    },
];

/// Handed on to commands on this machine; nothing else is, since Houston's environment may hold secrets.
const HANDED_ON: &[&str] =
    &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR", "SSH_AUTH_SOCK"];

/// The value of a variable; absent when it is not set, empty, or not UTF-8.
pub fn get(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the one place that may")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The environment of a command on this machine.
pub fn handed_on() -> impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)> {
    std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| HANDED_ON.contains(&name) || name.starts_with("LC_"))
    })
}
