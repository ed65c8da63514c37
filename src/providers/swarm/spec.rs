//! Service specs as JSON: made from what an environment file declares, changed in place, compared.
//!
//! A spec is changed only where the declaration says something; every other field, known here or not,
//! stays as it came.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use super::Service;
use crate::change::Change;
use crate::config::environment::{
    self as env, EndpointMode, FailureAction, PortMode, UpdateOrder, UpdatePolicy,
};
use crate::digest::Digest;

/// Label: the effect token of the step that wrote this spec.
pub const LABEL_RUN: &str = "houston.run";
/// Label: the `Version.Index` of the service that this spec was written over. With the token it names one sending:
/// two specs that bear the same are not both Houston's, since `docker service update` leaves all labels as they are.
pub const LABEL_OVER: &str = "houston.over";
/// Label: the version as people call it.
pub const LABEL_VERSION: &str = "houston.version";
/// Label: names of the environment variables that came from an environment file, so that one that is
/// taken out of the file is taken out of the service, and others are left alone.
pub const LABEL_VARIABLES: &str = "houston.variables";
const LABELS: &str = "houston.";

pub fn image(spec: &Json) -> &str {
    spec.pointer("/TaskTemplate/ContainerSpec/Image").and_then(Json::as_str).unwrap_or_default()
}

/// The image without the digest that was resolved for its tag: `web:1.7`.
pub fn short_image(image: &str) -> &str {
    match image.split_once('@') {
        Some((tagged, _)) if tagged.rsplit('/').next().is_some_and(|last| last.contains(':')) => tagged,
        _ => image,
    }
}

/// The tag, or else the digest: what people call the version.
pub fn version(image: &str) -> &str {
    let tagged = short_image(image);
    if let Some((_, digest)) = tagged.split_once('@') {
        return digest;
    }
    let last = tagged.rsplit('/').next().unwrap_or(tagged);
    last.split_once(':').map_or("latest", |(_, tag)| tag)
}

/// Absent for a global service.
pub fn replicas(spec: &Json) -> Option<u64> {
    let replicated = spec.pointer("/Mode/Replicated")?;
    // The engine's default when the number is left out.
    Some(replicated.get("Replicas").and_then(Json::as_u64).unwrap_or(1))
}

pub fn label<'s>(spec: &'s Json, name: &str) -> Option<&'s str> {
    spec.get("Labels")?.get(name)?.as_str()
}

/// The token that a task's container was labelled with.
pub fn task_token(task_spec: &Json) -> Option<&str> {
    task_spec.pointer("/ContainerSpec/Labels")?.get(LABEL_RUN)?.as_str()
}

/// Marks the spec, and its containers where they are replaced anyway, as written under `token`. The label
/// of the service alone lies after an automatic rollback, which brings the old labels back; its tasks then
/// still tell.
pub fn mark(spec: &mut Json, before: Option<&Service>, token: &str) {
    sent(spec, before, token);
    let version = version(image(spec)).to_owned();
    set_label(spec, LABEL_VERSION, &version);
    if before.and_then(|b| b.spec.get("TaskTemplate")) != spec.get("TaskTemplate") {
        object(spec, &["TaskTemplate", "ContainerSpec", "Labels"]).insert(LABEL_RUN.into(), token.into());
    }
}

/// Labels the spec as written under `token` over what is there.
pub fn sent(spec: &mut Json, before: Option<&Service>, token: &str) {
    set_label(spec, LABEL_RUN, token);
    set_label(spec, LABEL_OVER, &before.map_or(0, |before| before.index).to_string());
}

/// Whether two specs say that one sending wrote both.
pub fn same_sending(one: &Json, other: &Json) -> bool {
    label(one, LABEL_RUN).is_some()
        && [LABEL_RUN, LABEL_OVER].iter().all(|name| label(one, name) == label(other, name))
}

/// How long the spec has a new task watched; Swarm's own default is 5 s.
pub fn monitor(spec: &Json) -> std::time::Duration {
    let nanos = spec.pointer("/UpdateConfig/Monitor").and_then(Json::as_u64).filter(|n| *n > 0);
    std::time::Duration::from_nanos(nanos.unwrap_or(5_000_000_000))
}

/// A new service as declared.
pub fn create(declared: &env::Service, version: &str) -> Json {
    let mut spec = json!({
        "Name": declared.swarm_name,
        "Mode": { "Replicated": { "Replicas": declared.replicas.count } },
    });
    declare(&mut spec, declared, version, &[]);
    spec
}

/// Brings `spec` to what is declared, at `version`. The number of replicas stays: a scaled service keeps
/// its scale. `networks` are the (id, name) pairs of the Swarm.
pub fn declare(spec: &mut Json, declared: &env::Service, version: &str, networks: &[(String, String)]) {
    set_image(spec, &declared.image_with(version));
    set_variables(spec, &declared.environment);
    let task = object(spec, &["TaskTemplate"]);
    if let Some(command) = &declared.command {
        object_in(task, &["ContainerSpec"]).insert("Args".into(), json!(command));
    }
    if !declared.placement.is_empty() || task.contains_key("Placement") {
        let placement = object_in(task, &["Placement"]);
        if declared.placement.is_empty() {
            // Keep an absent list absent, so that nothing seems to change.
            placement.remove("Constraints");
        } else {
            placement.insert("Constraints".into(), json!(declared.placement));
        }
    }
    if !declared.networks.is_empty()
        && network_names(&Json::Object(task.clone()), networks) != sorted(&declared.networks)
    {
        let targets: Vec<Json> = declared.networks.iter().map(|n| json!({ "Target": n })).collect();
        task.insert("Networks".into(), targets.into());
    }
    let endpoint = object(spec, &["EndpointSpec"]);
    let mode = match declared.endpoint_mode {
        EndpointMode::Vip => "vip",
        EndpointMode::Dnsrr => "dnsrr",
    };
    endpoint.insert("Mode".into(), mode.into());
    if !declared.ports.is_empty() && ports(&Json::Object(endpoint.clone())) != declared_ports(&declared.ports)
    {
        endpoint.insert("Ports".into(), declared.ports.iter().map(port).collect());
    }
    set_update_policy(spec, &declared.update);
    set_label(spec, LABEL_VERSION, version);
}

pub fn set_image(spec: &mut Json, image: &str) {
    object(spec, &["TaskTemplate", "ContainerSpec"]).insert("Image".into(), image.into());
}

/// Leaves a global service alone.
pub fn set_replicas(spec: &mut Json, replicas: u64) {
    if spec.pointer("/Mode/Global").is_none() {
        object(spec, &["Mode", "Replicated"]).insert("Replicas".into(), replicas.into());
    }
}

pub fn set_label(spec: &mut Json, name: &str, value: &str) {
    object(spec, &["Labels"]).insert(name.into(), value.into());
}

fn set_variables(spec: &mut Json, declared: &BTreeMap<String, String>) {
    let before: Vec<&str> = label(spec, LABEL_VARIABLES).map(|l| l.split(',').collect()).unwrap_or_default();
    let gone = |name: &str| before.contains(&name) && !declared.contains_key(name);
    let mut variables: Vec<(String, String)> = variables(spec);
    variables.retain(|(name, _)| !gone(name));
    for (name, value) in declared {
        match variables.iter_mut().find(|(n, _)| n == name) {
            Some((_, v)) => v.clone_from(value),
            None => variables.push((name.clone(), value.clone())),
        }
    }
    let container = object(spec, &["TaskTemplate", "ContainerSpec"]);
    if variables.is_empty() {
        container.remove("Env");
    } else {
        container.insert("Env".into(), variables.iter().map(|(n, v)| format!("{n}={v}")).collect());
    }
    if declared.is_empty() {
        object(spec, &["Labels"]).remove(LABEL_VARIABLES);
    } else {
        let names: Vec<&str> = declared.keys().map(String::as_str).collect();
        set_label(spec, LABEL_VARIABLES, &names.join(","));
    }
}

fn set_update_policy(spec: &mut Json, policy: &UpdatePolicy) {
    let nanos = |d: std::time::Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let settings = |failure: &str| {
        json!({
            "Parallelism": policy.parallelism,
            "Delay": nanos(policy.delay),
            "FailureAction": failure,
            "Monitor": nanos(policy.monitor),
            "MaxFailureRatio": policy.max_failure_ratio,
            "Order": match policy.order {
                UpdateOrder::StartFirst => "start-first",
                UpdateOrder::StopFirst => "stop-first",
            },
        })
    };
    let failure = match policy.failure_action {
        FailureAction::Rollback => "rollback",
        FailureAction::Pause => "pause",
        FailureAction::Continue => "continue",
    };
    // A rollback that fails cannot be rolled back: it stops, for a person to look.
    for (name, settings) in [("UpdateConfig", settings(failure)), ("RollbackConfig", settings("pause"))] {
        let Json::Object(settings) = settings else { continue };
        let config = object(spec, &[name]);
        config.extend(settings);
        // Engines leave these out where they are nothing; then so do we, or a change would be seen.
        for absent in ["Delay", "Monitor"] {
            if config.get(absent).and_then(Json::as_u64) == Some(0) {
                config.remove(absent);
            }
        }
    }
}

fn port(port: &env::Port) -> Json {
    let mut out = json!({
        "Protocol": "tcp",
        "TargetPort": port.target,
        "PublishMode": match port.mode { PortMode::Ingress => "ingress", PortMode::Host => "host" },
    });
    if let (Some(published), Some(out)) = (port.published, out.as_object_mut()) {
        out.insert("PublishedPort".into(), published.into());
    }
    out
}

/// `target → published (mode)`, sorted.
fn ports(endpoint: &Json) -> Vec<String> {
    let one = |p: &Json| {
        let number = |name| p.get(name).and_then(Json::as_u64).unwrap_or_default();
        let word = |name, default| p.get(name).and_then(Json::as_str).unwrap_or(default).to_owned();
        port_words(
            number("TargetPort"),
            number("PublishedPort"),
            &word("PublishMode", "ingress"),
            &word("Protocol", "tcp"),
        )
    };
    let mut all: Vec<String> = endpoint
        .get("Ports")
        .and_then(Json::as_array)
        .map(|p| p.iter().map(one).collect())
        .unwrap_or_default();
    all.sort();
    all
}

fn declared_ports(declared: &[env::Port]) -> Vec<String> {
    let all: Vec<Json> = declared.iter().map(port).collect();
    ports(&json!({ "Ports": all }))
}

fn port_words(target: u64, published: u64, mode: &str, protocol: &str) -> String {
    let published = if published == 0 { "any".to_owned() } else { published.to_string() };
    format!("{published}→{target}/{protocol} ({mode})")
}

/// Names of the networks of a task template, sorted. One whose id is not known is named by it.
fn network_names(task: &Json, known: &[(String, String)]) -> Vec<String> {
    let name = |n: &Json| {
        let target = n.get("Target")?.as_str()?;
        Some(known.iter().find(|(id, _)| id == target).map_or(target, |(_, name)| name).to_owned())
    };
    let mut all: Vec<String> = task
        .get("Networks")
        .and_then(Json::as_array)
        .map(|n| n.iter().filter_map(name).collect())
        .unwrap_or_default();
    all.sort();
    all
}

fn sorted(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

fn variables(spec: &Json) -> Vec<(String, String)> {
    let split = |v: &Json| {
        let (name, value) = v.as_str()?.split_once('=').or_else(|| Some((v.as_str()?, "")))?;
        Some((name.to_owned(), value.to_owned()))
    };
    spec.pointer("/TaskTemplate/ContainerSpec/Env")
        .and_then(Json::as_array)
        .map(|all| all.iter().filter_map(split).collect())
        .unwrap_or_default()
}

/// What differs, for people. `from` is absent for a service that does not exist yet.
pub fn changes(from: Option<&Json>, to: &Json, networks: &[(String, String)]) -> Vec<Change> {
    let facts = |spec: &Json| {
        let mut facts: Vec<(String, String)> = Vec::new();
        let mut say = |what: &str, value: String| {
            if !value.is_empty() {
                facts.push((what.to_owned(), value));
            }
        };
        say("image", short_image(image(spec)).to_owned());
        say("replicas", replicas(spec).map(|r| r.to_string()).unwrap_or_default());
        for (name, value) in variables(spec) {
            let value = if is_secretive(&name) { crate::secret::REDACTED.to_owned() } else { value };
            say(&format!("environment variable {name}"), format!("`{value}`"));
        }
        let words = |path: &str| {
            let all = spec.pointer(path).and_then(Json::as_array);
            let all: Vec<&str> = all.map(|a| a.iter().filter_map(Json::as_str).collect()).unwrap_or_default();
            all.join(" ")
        };
        say("command", words("/TaskTemplate/ContainerSpec/Args"));
        say("placement", words("/TaskTemplate/Placement/Constraints"));
        let task = spec.get("TaskTemplate").cloned().unwrap_or_default();
        say("networks", network_names(&task, networks).join(" "));
        let endpoint = spec.get("EndpointSpec").cloned().unwrap_or_default();
        say("ports", ports(&endpoint).join(" "));
        say("endpoint mode", endpoint.get("Mode").and_then(Json::as_str).unwrap_or_default().to_owned());
        say("update policy", policy_words(spec).unwrap_or_default());
        facts
    };
    let (before, after) = (from.map(facts).unwrap_or_default(), facts(to));
    let find =
        |all: &[(String, String)], what: &str| all.iter().find(|(w, _)| w == what).map(|(_, v)| v.clone());
    let removed = before.iter().filter(|(what, _)| find(&after, what).is_none());
    let mut changes: Vec<Change> = after
        .iter()
        .chain(removed)
        .map(|(what, _)| Change { what: what.clone(), from: find(&before, what), to: find(&after, what) })
        .filter(|c| c.from != c.to)
        .collect();
    // A secret that changes reads the same on both sides.
    if let Some(from) = from {
        let (old, new) = (variables(from), variables(to));
        for (name, value) in &new {
            let other = old.iter().find(|(n, _)| n == name);
            if is_secretive(name) && other.is_some_and(|(_, v)| v != value) {
                let redacted = Some(crate::secret::REDACTED.to_owned());
                let what = format!("environment variable {name}");
                changes.push(Change { what, from: redacted.clone(), to: redacted });
            }
        }
        let same_image = short_image(image(from)) == short_image(image(to));
        if same_image && image(from) != image(to) {
            changes.push(Change {
                what: "image".into(),
                from: Some(image(from).into()),
                to: Some(image(to).into()),
            });
        }
    }
    changes
}

/// Variables whose values are not shown, in case somebody put a secret where none belongs.
fn is_secretive(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["PASS", "PWD", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "DSN", "AUTH", "URL", "URI"]
        .iter()
        .any(|w| name.contains(w))
}

/// `start-first, 1 at a time, watched for 5 s, then rollback on failure`
fn policy_words(spec: &Json) -> Option<String> {
    let config = spec.get("UpdateConfig")?;
    let order = config.get("Order").and_then(Json::as_str).unwrap_or("stop-first");
    let at_a_time = match config.get("Parallelism").and_then(Json::as_u64).unwrap_or(1) {
        0 => "all at once".to_owned(),
        n => format!("{n} at a time"),
    };
    let failure = config.get("FailureAction").and_then(Json::as_str).unwrap_or("pause");
    Some(format!(
        "{order}, {at_a_time}, watched for {}, on failure {failure}",
        crate::text::duration(monitor(spec))
    ))
}

/// What a change with this spec will be like, as a sentence for the card.
pub fn update_note(spec: &Json) -> String {
    let watched = crate::text::duration(monitor(spec));
    let config = spec.get("UpdateConfig").cloned().unwrap_or_default();
    let order = config.get("Order").and_then(Json::as_str).unwrap_or("stop-first");
    let pace = match config.get("Parallelism").and_then(Json::as_u64).unwrap_or(1) {
        0 => "all tasks at once".to_owned(),
        1 => "one task at a time".to_owned(),
        n => format!("{n} tasks at a time"),
    };
    let failure = match config.get("FailureAction").and_then(Json::as_str).unwrap_or("pause") {
        "rollback" => "rolls back by itself",
        "continue" => "carries on",
        _ => "stops and waits for a person",
    };
    format!("{order}, {pace}; {failure} if a task fails within {watched}")
}

/// Of the spec as it matters to people: Houston's own labels and the order of keys left out.
pub fn digest(spec: &Json) -> Digest {
    let mut spec = spec.clone();
    for path in ["/Labels", "/TaskTemplate/ContainerSpec/Labels"] {
        if let Some(labels) = spec.pointer_mut(path).and_then(Json::as_object_mut) {
            labels.retain(|name, _| !name.starts_with(LABELS));
        }
    }
    Digest::of(canonical(&spec).to_string().as_bytes())
}

/// Keys sorted; empty maps, lists and nulls left out, since engines of different ages write them or not.
fn canonical(value: &Json) -> Json {
    match value {
        Json::Object(map) => {
            let sorted: BTreeMap<&String, Json> = map
                .iter()
                .map(|(k, v)| (k, canonical(v)))
                .filter(|(_, v)| !(v.is_null() || is_empty(v)))
                .collect();
            sorted.into_iter().map(|(k, v)| (k.clone(), v)).collect::<Map<_, _>>().into()
        }
        Json::Array(items) => items.iter().map(canonical).collect(),
        // Engines write the ratio 0.0 as 0.
        Json::Number(n) if n.as_f64() == Some(0.0) => 0.into(),
        other => other.clone(),
    }
}

fn is_empty(v: &Json) -> bool {
    v.as_object().is_some_and(Map::is_empty) || v.as_array().is_some_and(Vec::is_empty)
}

/// The object at `path`, made where it is missing or something else.
fn object<'v>(value: &'v mut Json, path: &[&str]) -> &'v mut Map<String, Json> {
    if !value.is_object() {
        *value = Json::Object(Map::new());
    }
    let root = value.as_object_mut().expect("made an object above");
    object_in(root, path)
}

fn object_in<'v>(root: &'v mut Map<String, Json>, path: &[&str]) -> &'v mut Map<String, Json> {
    let mut at = root;
    for key in path {
        let next = at.entry(*key).or_insert_with(|| Json::Object(Map::new()));
        if !next.is_object() {
            *next = Json::Object(Map::new());
        }
        at = next.as_object_mut().expect("made an object above");
    }
    at
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::diagnostic::Location;

    fn declared() -> env::Service {
        env::Service {
            name: "web".into(),
            swarm_name: "shop_web".into(),
            image: "registry.example.com:5000/web".into(),
            version: "1.8".into(),
            replicas: env::Replicas { count: 3, min: 1, max: 5 },
            depends_on: Vec::new(),
            health: None,
            update: UpdatePolicy::default(),
            placement: Vec::new(),
            environment: [("MODE".to_owned(), "fast".to_owned())].into(),
            ports: Vec::new(),
            networks: vec!["back".into()],
            command: None,
            endpoint_mode: EndpointMode::Vip,
            at: Location::new("environments/prod.yaml", 1, 1),
        }
    }

    /// As a newer engine may give it back.
    fn running() -> Json {
        json!({
            "Name": "shop_web",
            "Labels": { "com.docker.stack.namespace": "shop", "houston.variables": "GONE" },
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": "registry.example.com:5000/web:1.7@sha256:abc",
                    "Env": ["GONE=1", "DB_PASSWORD=hunter2", "MODE=slow"],
                    "OomScoreAdj": -5,
                    "Secrets": [{ "SecretName": "tok" }],
                },
                "Placement": {},
                "Networks": [{ "Target": "net1", "Aliases": ["web"] }],
                "FutureField": { "a": 1 },
            },
            "Mode": { "Replicated": { "Replicas": 4 } },
            "UpdateConfig": { "Parallelism": 2, "FutureField": true },
            "EndpointSpec": { "Mode": "vip" },
            "FutureField": [1, 2],
        })
    }

    fn networks() -> Vec<(String, String)> {
        vec![("net1".to_owned(), "back".to_owned())]
    }

    #[test]
    fn what_is_not_declared_goes_back_as_it_came() {
        let mut spec = running();
        declare(&mut spec, &declared(), "1.8", &networks());
        for path in [
            "/FutureField",
            "/TaskTemplate/FutureField",
            "/TaskTemplate/Networks",
            "/TaskTemplate/ContainerSpec/OomScoreAdj",
            "/TaskTemplate/ContainerSpec/Secrets",
            "/UpdateConfig/FutureField",
            "/Mode",
            "/Labels/com.docker.stack.namespace",
        ] {
            assert_eq!(spec.pointer(path), running().pointer(path), "{path}");
        }
        assert_eq!(image(&spec), "registry.example.com:5000/web:1.8");
        assert_eq!(spec.pointer("/UpdateConfig/FailureAction"), Some(&json!("rollback")));
        assert_eq!(spec.pointer("/RollbackConfig/FailureAction"), Some(&json!("pause")));
    }

    #[test]
    fn only_variables_that_came_from_the_file_are_taken_out_with_it() {
        let mut spec = running();
        declare(&mut spec, &declared(), "1.8", &networks());
        let env = spec.pointer("/TaskTemplate/ContainerSpec/Env");
        assert_eq!(env, Some(&json!(["DB_PASSWORD=hunter2", "MODE=fast"])));
    }

    #[test]
    fn declaring_again_changes_nothing() {
        let mut once = running();
        declare(&mut once, &declared(), "1.8", &networks());
        let mut twice = once.clone();
        declare(&mut twice, &declared(), "1.8", &networks());
        assert_eq!(digest(&once), digest(&twice));
        assert_eq!(changes(Some(&once), &twice, &networks()), []);
    }

    #[test]
    fn a_digest_ignores_order_empty_things_and_our_own_labels() {
        let a = json!({ "A": 1, "B": {}, "Labels": { "houston.run": "x", "k": "v" }, "R": 0.0 });
        let b = json!({ "R": 0, "Labels": { "k": "v" }, "A": 1, "C": [] });
        assert_eq!(digest(&a), digest(&b));
        assert_ne!(digest(&a), digest(&json!({ "A": 2, "Labels": { "k": "v" }, "R": 0 })));
    }

    #[test]
    fn changes_read_like_sentences_and_show_no_secret() {
        let mut wanted = running();
        declare(&mut wanted, &declared(), "1.8", &networks());
        set_replicas(&mut wanted, 5);
        let mut rotated = wanted.clone();
        *rotated.pointer_mut("/TaskTemplate/ContainerSpec/Env/0").expect("a variable") =
            json!("DB_PASSWORD=hunter3");
        let shown = changes(Some(&running()), &rotated, &networks());
        let text = format!("{shown:?}");
        assert!(!text.contains("hunter"), "{text}");
        let find = |what: &str| {
            let change = shown.iter().find(|c| c.what == what).unwrap_or_else(|| panic!("{what}: {text}"));
            (change.from.as_deref(), change.to.as_deref())
        };
        assert_eq!(
            find("image"),
            (Some("registry.example.com:5000/web:1.7"), Some("registry.example.com:5000/web:1.8"))
        );
        assert_eq!(find("replicas"), (Some("4"), Some("5")));
        assert_eq!(find("environment variable GONE"), (Some("`1`"), None));
        assert_eq!(find("environment variable DB_PASSWORD"), (Some("[redacted]"), Some("[redacted]")));
        assert!(!shown.iter().any(|c| c.what == "networks"), "{text}");
    }

    #[test]
    fn versions_are_read_from_images() {
        for (image, expected) in [
            ("web:1.7", "1.7"),
            ("web:1.7@sha256:abc", "1.7"),
            ("web@sha256:abc", "sha256:abc"),
            ("registry.example.com:5000/web", "latest"),
            ("registry.example.com:5000/web:2", "2"),
            ("registry.example.com:5000/web@sha256:abc", "sha256:abc"),
        ] {
            assert_eq!(version(image), expected, "{image}");
        }
    }

    /// As the engine has it.
    fn service(spec: &Json, before: Option<&Json>) -> Service {
        let service = json!({"ID": "s", "Version": {"Index": 7}, "Spec": spec, "PreviousSpec": before});
        Service::read(&service).expect("a service")
    }

    #[test]
    fn containers_are_marked_only_where_they_are_replaced_anyway() {
        let before = service(&running(), None);
        let mut scaled = before.spec.clone();
        set_replicas(&mut scaled, 9);
        mark(&mut scaled, Some(&before), "houston-R-1-0");
        assert_eq!(scaled.get("TaskTemplate"), before.spec.get("TaskTemplate"));
        assert_eq!(label(&scaled, LABEL_RUN), Some("houston-R-1-0"));
        let mut updated = before.spec.clone();
        set_image(&mut updated, "web:2");
        mark(&mut updated, Some(&before), "houston-R-1-0");
        assert_eq!(task_token(&updated["TaskTemplate"]), Some("houston-R-1-0"));
    }

    #[test]
    fn what_bears_the_labels_of_one_sending_and_differs_is_not_all_of_it_ours() {
        let mut ours = running();
        mark(&mut ours, Some(&service(&running(), None)), "houston-R-1-0");
        assert_eq!(service(&ours, Some(&running())).token(), Some("houston-R-1-0"));
        let mut theirs = ours.clone();
        object(&mut theirs, &["TaskTemplate", "ContainerSpec"]).insert("Env".into(), json!(["COLOUR=red"]));
        assert_eq!(service(&theirs, Some(&ours)).token(), None);
        // Sent once more, as when an update that was paused is to go on; and sent anew by a later attempt.
        assert_eq!(service(&ours, Some(&ours)).token(), Some("houston-R-1-0"));
        let mut again = theirs.clone();
        sent(&mut again, Some(&Service { index: 9, ..service(&ours, None) }), "houston-R-1-0");
        assert_eq!(service(&again, Some(&ours)).token(), Some("houston-R-1-0"));
    }

    #[test]
    fn a_policy_is_told_in_one_sentence() {
        let mut spec = json!({});
        let policy = UpdatePolicy { monitor: Duration::from_secs(5), ..UpdatePolicy::default() };
        set_update_policy(&mut spec, &policy);
        assert_eq!(
            update_note(&spec),
            "start-first, one task at a time; rolls back by itself if a task fails within 5 s"
        );
    }

    #[test]
    fn a_hostile_spec_does_not_panic() {
        for mut spec in [
            json!(null),
            json!([]),
            json!({ "TaskTemplate": 3, "Labels": [], "Mode": "x", "EndpointSpec": 1 }),
        ] {
            declare(&mut spec, &declared(), "1.8", &[]);
            set_replicas(&mut spec, 2);
            assert_eq!(image(&spec), "registry.example.com:5000/web:1.8");
        }
    }
}
