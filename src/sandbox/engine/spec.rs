//! What the engine reads out of a service spec. Specs themselves are kept as JSON, whole, as they came.
//!
//! Must not: change a spec, or know the state of anything.

use std::time::Duration;

use serde_json::{Value, json};

/// What happens when too many tasks of an update fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureAction {
    Pause,
    Continue,
    Rollback,
}

/// `UpdateConfig` or `RollbackConfig`, with the orchestrator's defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// How many slots at a time; `usize::MAX` for Docker's 0.
    pub parallelism: usize,
    pub delay: Duration,
    pub failure_action: FailureAction,
    /// How long after it runs a task's failure counts.
    pub monitor: Duration,
    pub max_failure_ratio: f64,
    pub start_first: bool,
}

/// When a task's process that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartCondition {
    Any,
    OnFailure,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    pub condition: RestartCondition,
    pub delay: Duration,
    /// 0: without end.
    pub max_attempts: u64,
}

/// The parts of a health check that a stand-in can follow: it asks `/health` whatever `Test` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub interval: Duration,
    pub timeout: Duration,
    /// So many failures in a row are "unhealthy".
    pub retries: u32,
    /// Failures within it do not count.
    pub start_period: Duration,
}

pub fn name(spec: &Value) -> &str {
    text(spec, "/Name")
}

pub fn image(spec: &Value) -> &str {
    text(spec, "/TaskTemplate/ContainerSpec/Image")
}

/// The key under which an image is known: without registry defaults and digest, with a tag.
pub fn image_key(reference: &str) -> String {
    let plain = reference.split('@').next().unwrap_or(reference);
    let plain = plain.strip_prefix("docker.io/").unwrap_or(plain);
    let plain = plain.strip_prefix("library/").unwrap_or(plain);
    let tagged = plain.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if tagged { plain.to_owned() } else { format!("{plain}:latest") }
}

/// How many tasks are wanted. A global service wants one on each active node.
pub fn replicas(spec: &Value, active_nodes: usize) -> u64 {
    if spec.pointer("/Mode/Global").is_some() {
        return active_nodes as u64;
    }
    spec.pointer("/Mode/Replicated/Replicas").and_then(Value::as_u64).unwrap_or(1)
}

/// What makes a task of the one spec differ from a task of another.
pub fn task_part(spec: &Value) -> Value {
    json!({
        "TaskTemplate": spec.get("TaskTemplate").cloned().unwrap_or(Value::Null),
        "Ports": spec.pointer("/EndpointSpec/Ports").cloned().unwrap_or(Value::Null),
    })
}

/// The policy under `key`: `UpdateConfig` or `RollbackConfig`.
pub fn policy(spec: &Value, key: &str) -> Policy {
    let config = spec.get(key).unwrap_or(&Value::Null);
    let parallelism = config.get("Parallelism").and_then(Value::as_u64);
    Policy {
        parallelism: match parallelism {
            Some(0) => usize::MAX,
            Some(n) => usize::try_from(n).unwrap_or(usize::MAX),
            None => 1,
        },
        delay: nanos(config, "Delay").unwrap_or_default(),
        failure_action: match config.get("FailureAction").and_then(Value::as_str) {
            Some("continue") => FailureAction::Continue,
            Some("rollback") => FailureAction::Rollback,
            _ => FailureAction::Pause,
        },
        monitor: nanos(config, "Monitor").unwrap_or(Duration::from_secs(5)),
        max_failure_ratio: config.get("MaxFailureRatio").and_then(Value::as_f64).unwrap_or(0.0),
        start_first: config.get("Order").and_then(Value::as_str) == Some("start-first"),
    }
}

pub fn restart(spec: &Value) -> Restart {
    let policy = spec.pointer("/TaskTemplate/RestartPolicy").unwrap_or(&Value::Null);
    Restart {
        condition: match policy.get("Condition").and_then(Value::as_str) {
            Some("none") => RestartCondition::Never,
            Some("on-failure") => RestartCondition::OnFailure,
            _ => RestartCondition::Any,
        },
        delay: match policy.get("Delay").and_then(Value::as_u64) {
            Some(nanos) => Duration::from_nanos(nanos),
            None => Duration::from_secs(5),
        },
        max_attempts: policy.get("MaxAttempts").and_then(Value::as_u64).unwrap_or(0),
    }
}

/// The spec's health check laid over the image's own; None when it is switched off.
pub fn health(template: &Value, image: HealthCheck) -> Option<HealthCheck> {
    let Some(check) = template.pointer("/ContainerSpec/Healthcheck") else { return Some(image) };
    if check.pointer("/Test/0").and_then(Value::as_str) == Some("NONE") {
        return None;
    }
    let retries = check.get("Retries").and_then(Value::as_u64).filter(|n| *n > 0);
    Some(HealthCheck {
        interval: nanos(check, "Interval").unwrap_or(image.interval),
        timeout: nanos(check, "Timeout").unwrap_or(image.timeout),
        retries: retries.and_then(|n| u32::try_from(n).ok()).unwrap_or(image.retries),
        start_period: nanos(check, "StartPeriod").unwrap_or(image.start_period),
    })
}

/// Why a spec cannot be taken, in the engine's words.
pub fn problem(spec: &Value) -> Option<String> {
    let well_named = |name: &str| {
        name.len() <= 63
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    if !spec.is_object() {
        return Some("invalid spec: not an object".to_owned());
    }
    if !well_named(name(spec)) {
        return Some(
            "rpc error: code = InvalidArgument desc = name must be valid as a DNS name component".to_owned(),
        );
    }
    if image(spec).is_empty() {
        return Some(
            "rpc error: code = InvalidArgument desc = ContainerSpec: image reference must be provided"
                .to_owned(),
        );
    }
    None
}

/// Whether a node meets one of a spec's placement constraints, `node.hostname==node1` and the like.
pub fn constraint_holds(constraint: &str, hostname: &str, role: &str, labels: &Value) -> bool {
    let (key, wanted, equal) = match (constraint.split_once("!="), constraint.split_once("==")) {
        (Some((key, value)), _) => (key.trim(), value.trim(), false),
        (None, Some((key, value))) => (key.trim(), value.trim(), true),
        (None, None) => return false,
    };
    let is = match key {
        "node.hostname" | "node.id" => hostname,
        "node.role" => role,
        _ => key
            .strip_prefix("node.labels.")
            .and_then(|label| labels.get(label))
            .and_then(Value::as_str)
            .unwrap_or(""),
    };
    (is == wanted) == equal
}

pub fn constraints(template: &Value) -> Vec<&str> {
    let list = template.pointer("/Placement/Constraints").and_then(Value::as_array);
    list.map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// Docker's durations are nanoseconds, and 0 means the default.
fn nanos(value: &Value, key: &str) -> Option<Duration> {
    value.get(key).and_then(Value::as_u64).filter(|n| *n > 0).map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_references_are_reduced_to_repository_and_tag() {
        for (reference, key) in [
            ("web", "web:latest"),
            ("web:1.8", "web:1.8"),
            ("docker.io/library/web:1.8@sha256:abc", "web:1.8"),
            ("localhost:5000/web", "localhost:5000/web:latest"),
        ] {
            assert_eq!(image_key(reference), key);
        }
    }

    #[test]
    fn an_absent_update_config_has_the_orchestrators_defaults() {
        let policy = policy(&json!({}), "UpdateConfig");
        assert_eq!((policy.parallelism, policy.failure_action), (1, FailureAction::Pause));
        assert_eq!(policy.monitor, Duration::from_secs(5));
        assert!(!policy.start_first);
    }

    #[test]
    fn constraints_compare_hostname_role_and_labels() {
        let labels = json!({"disk": "ssd"});
        let holds = |text| constraint_holds(text, "node1", "manager", &labels);
        assert!(
            holds("node.hostname==node1") && holds("node.role != worker") && holds("node.labels.disk == ssd")
        );
        assert!(!holds("node.labels.zone==a") && !holds("nonsense"));
    }

    #[test]
    fn a_switched_off_health_check_is_none() {
        let image = HealthCheck {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            retries: 3,
            start_period: Duration::ZERO,
        };
        assert_eq!(health(&json!({"ContainerSpec": {"Healthcheck": {"Test": ["NONE"]}}}), image), None);
        let own = health(&json!({"ContainerSpec": {"Healthcheck": {"Retries": 7}}}), image)
            .expect("a health check");
        assert_eq!((own.retries, own.interval), (7, Duration::from_secs(1)));
    }
}
