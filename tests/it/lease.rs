//! Two Houstons on one account with folders of their own: one acts, the other stands by, and takes over.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::cli::run;
use crate::support::house;
use crate::support::line::Line;
use crate::support::pair::{Bot, Pair};

/// Longer than any test waits: whatever is quicker has not waited for it.
const LONG: &str = "lease: {duration: 10m}\n";

/// As long as a test may take.
const SHORT: &str = "lease: {duration: 3s}\n";

/// Soon tried again, and held for longer than a busy machine stalls.
const STEADY: &str = "lease: {duration: 15s}\n";

/// The value of `houston_acts`.
async fn acts(bot: &Bot) -> Option<String> {
    let (_, exposed) = bot.ask("/metrics").await?;
    exposed.lines().find_map(|line| line.strip_prefix("houston_acts ")).map(str::to_owned)
}

/// What stands in the one lease of the engine.
async fn record(it: &Pair) -> Value {
    let configs = it.docker("GET", "/configs", None).await;
    let labels = &configs[0]["Spec"]["Labels"];
    serde_json::from_str(labels["houston.lease"].as_str().unwrap_or("null")).unwrap()
}

/// Until the lease tells of a run that has begun, so that whoever takes over knows of it.
async fn told_of(it: &Pair, run: &str) {
    for _ in 0..2000 {
        let record = record(it).await;
        let mut at_work = record["at_work"].as_array().into_iter().flatten();
        if at_work.any(|one| one["command"] == run && one["begun"] == true) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the lease does not tell of {run}: {}", record(it).await);
}

fn runs_of(it: &Pair, state: &str) -> String {
    run(&["runs", "--state", &it.path(state).display().to_string()]).1
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_stands_by_until_the_first_stops_and_then_need_not_wait() {
    let it = Pair::new(&[("web", 1)]).await;
    it.configure("one", &it.socket(), LONG);
    it.configure("two", &it.socket(), LONG);
    let mut first = it.serve("one", "state-one");
    first.is(200, "ready").await;
    let mut second = it.serve("two", "state-two");
    let standing = format!(
        "standing by: another Houston holds the lease in the Swarm of `staging`: `houston serve`, process {} on ",
        first.pid()
    );
    second.is(503, &standing).await;
    assert_eq!((acts(&first).await.as_deref(), acts(&second).await.as_deref()), (Some("1"), Some("0")));
    assert_eq!(second.ask("/livez").await.map(|(status, _)| status), Some(200));
    assert!(second.log().contains("standing by: another Houston holds the lease"), "{}", second.log());
    let state = it.path("state-two").display().to_string();
    let (code, _, error) = run(&["runs", "--state", &state]);
    assert!(code == 1 && error.contains("standing by"), "{error}");
    it.say("alice", "!ping one").await;
    it.hear(&["pong one"]).await;
    it.say("alice", "!deploy staging web 1.8").await;
    it.hear(&["*R-1*", "deployed in"]).await;

    first.signal(Signal::SIGTERM);
    let (code, _) = first.ended().await;
    assert_eq!(code, Some(0), "{}", first.log());
    second.is(200, "ready").await;
    assert!(second.log().contains("taken over from `houston serve`, process"), "{}", second.log());
    it.say("alice", "!ping two").await;
    it.hear(&["pong two"]).await;
    it.say("alice", "!deploy staging web 1.7").await;
    it.hear(&["*R-1*", "1.7", "deployed in"]).await;
    assert!(!it.said().iter().any(|said| said.contains("still meant")), "{:?}", it.said());
    assert_eq!((it.count("pong one"), it.count("pong two")), (1, 1));

    // Back again it is the one that stands by, and is asked to stop while it does.
    let mut back = it.serve("one", "state-one");
    back.is(503, "standing by").await;
    back.signal(Signal::SIGTERM);
    assert_eq!(back.ended().await.0, Some(0), "{}", back.log());
    // Killed, it is back at once on its own folder, since nobody else can have that one.
    second.signal(Signal::SIGKILL);
    second.ended().await;
    let again = it.serve("two", "state-two");
    again.is(200, "ready").await;
    assert_eq!(again.log().matches("standing by").count(), 1, "the first time only: {}", again.log());
    it.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_from_a_killed_one_says_what_it_cannot_know_and_does_nothing_again() {
    let it = Pair::new(&[("web", 1), ("api", 1)]).await;
    it.configure("one", &it.socket(), SHORT);
    it.configure("two", &it.socket(), SHORT);
    let mut first = it.serve("one", "state-one");
    first.is(200, "ready").await;
    let mut second = it.serve("two", "state-two");
    second.is(503, "standing by").await;
    it.say("alice", "!ping before").await;
    it.hear(&["pong before"]).await;
    it.say("alice", "!deploy staging web 1.8-slower").await;
    it.hear(&["*R-1*", "1 of"]).await;
    told_of(&it, "deploy staging web 1.8-slower").await;
    first.signal(Signal::SIGKILL);
    first.ended().await;

    second.is(200, "ready").await;
    let told = it.hear(&["*R-1* `deploy staging web 1.8-slower` was carried out by another Houston"]).await;
    assert!(told.contains("has not renewed its lease for 3 s. I have taken over"), "{told}");
    assert!(told.contains("`!status staging` shows what is so now"), "{told}");
    it.say("alice", "!ping after").await;
    it.hear(&["pong after"]).await;
    it.say("alice", "!deploy staging api 1.8").await;
    it.hear(&["api", "deployed in"]).await;
    // The one update of web that there was.
    let web = it.docker("GET", "/services/web", None).await;
    assert_eq!(web["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Image"], "demo/web:1.7");
    assert_eq!(it.image("web").await, "demo/web:1.8-slower");
    let known = runs_of(&it, "state-two");
    assert!(known.contains("deploy staging api 1.8") && !known.contains("web"), "{known}");
    assert_eq!(it.count("pong before"), 1);
    assert!(!it.said().iter().any(|said| said.contains("still meant")), "{:?}", it.said());

    // The other way round: its own run is its own again.
    let mut back = it.serve("one", "state-one");
    back.is(503, "standing by").await;
    second.signal(Signal::SIGTERM);
    second.ended().await;
    back.is(200, "ready").await;
    it.hear(&["*R-1*", "I was away for", "1.8-slower"]).await;
    it.say("alice", "!cancel R-1").await;
    it.hear(&["*R-1*", "cancelled", "1.8-slower"]).await;
    back.signal(Signal::SIGTERM);
    back.ended().await;
    it.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_from_the_lease_stops_acting_before_another_begins() {
    let it = Pair::new(&[("web", 1)]).await;
    let line = Line::new(it.path("one.sock"), &it.socket());
    it.configure("one", line.path(), SHORT);
    it.configure("two", &it.socket(), SHORT);
    let first = it.serve("one", "state-one");
    first.is(200, "ready").await;
    let second = it.serve("two", "state-two");
    second.is(503, "standing by").await;
    it.say("alice", "!deploy staging web 1.8-slower").await;
    it.hear(&["*R-1*", "1 of"]).await;
    told_of(&it, "deploy staging web 1.8-slower").await;
    line.cut();
    // Never both, however often one looks.
    let (mut alone, mut other) = (true, false);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    while !other {
        // The second first: had it just begun, the first would have stopped before.
        other = acts(&second).await.as_deref() == Some("1");
        alone = acts(&first).await.as_deref() == Some("1");
        assert!(!(alone && other), "both act\n{}\n{}", first.log(), second.log());
        assert!(tokio::time::Instant::now() < deadline, "nobody takes over\n{}", second.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!alone);
    let why = "nothing is begun: I could not renew my lease in the Swarm of `staging`, and another Houston may have it";
    first.is(503, why).await;
    second.is(200, "ready").await;
    // It cannot know that another has it: what acts is refused, and done by the other.
    it.say("bob", "!lock staging/web maintenance").await;
    it.hear(&["`staging/web` is locked"]).await;
    it.hear(&["I did nothing with `lock staging/web maintenance`", "could not renew my lease"]).await;
    line.mend();
    first.is(503, "standing by: another Houston holds the lease").await;
    it.say("bob", "!locks").await;
    it.hear(&["staging/web", "maintenance"]).await;
    assert!(
        it.said().iter().any(|said| said.contains("*R-1*") && said.contains("was carried out by another"))
    );
    it.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_cut_off_for_a_while_goes_on_when_nobody_was_quicker() {
    let it = Pair::new(&[("web", 1)]).await;
    let line = Line::new(it.path("one.sock"), &it.socket());
    it.configure("one", line.path(), SHORT);
    let first = it.serve("one", "state-one");
    first.is(200, "ready").await;
    it.say("alice", "!deploy staging web 1.8-slow").await;
    it.hear(&["*R-1*", "1 of"]).await;
    // Before that the run has nothing on the cluster that would go on without it.
    while it.image("web").await != "demo/web:1.8-slow" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    line.cut();
    first.is(503, "nothing is begun").await;
    it.say("alice", "!status").await;
    it.hear(&[":warning: I begin nothing: I could not renew my lease"]).await;
    assert!(!it.said().iter().any(|said| said.contains("deployed in")));
    line.mend();
    it.hear(&["*R-1*", "deployed in"]).await;
    first.is(200, "ready").await;
    let web = it.docker("GET", "/services/web", None).await;
    assert_eq!(web["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Image"], "demo/web:1.7");
    assert_eq!(first.log().matches("Houston 0.1.0 is up").count(), 1, "{}", first.log());
    it.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_answers_at_the_start_it_reads_and_begins_nothing_until_it_is_told_otherwise() {
    let it = Pair::new(&[("web", 1)]).await;
    let line = Line::new(it.path("one.sock"), &it.socket());
    line.cut();
    it.configure("one", line.path(), STEADY);
    let mut first = it.serve("one", "state-one");
    first.is(503, "nothing is begun: I cannot tell whether another Houston holds the lease").await;
    it.say("alice", "!ping one").await;
    it.hear(&["pong one"]).await;
    it.say("alice", "!lock staging/web maintenance").await;
    it.hear(&["I did nothing with `lock staging/web maintenance`", "`lease: {enabled: false}`"]).await;
    first.signal(Signal::SIGTERM);
    first.ended().await;
    it.configure("one", line.path(), "lease: {enabled: false}\n");
    let mut first = it.serve("one", "state-one");
    first.is(200, "ready").await;
    it.say("alice", "!lock staging/web works").await;
    it.hear(&["`staging/web` is locked"]).await;
    first.signal(Signal::SIGTERM);
    first.ended().await;
    // And in the ordinary way, when somebody answers.
    it.configure("one", line.path(), STEADY);
    let first = it.serve("one", "state-one");
    first.is(503, "nothing is begun").await;
    line.mend();
    first.is(200, "ready").await;
    it.say("alice", "!unlock staging/web").await;
    it.hear(&["`staging/web` is free"]).await;
    it.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_swarm_keeps_a_lease_too() {
    let Some(docker) = crate::support::parts::docker() else { return };
    let it = Pair::new(&[]).await;
    it.configure("one", &docker, SHORT);
    it.configure("two", &docker, SHORT);
    let mut first = it.serve("one", "state-one");
    first.is(200, "ready").await;
    let mut second = it.serve("two", "state-two");
    second.is(503, "standing by: another Houston holds the lease").await;
    first.signal(Signal::SIGKILL);
    first.ended().await;
    second.is(200, "ready").await;
    let mut third = it.serve("one", "state-one");
    third.is(503, "standing by").await;
    second.signal(Signal::SIGTERM);
    second.ended().await;
    third.is(200, "ready").await;
    third.signal(Signal::SIGTERM);
    third.ended().await;
    let configs = house::ask_engine(&docker, "GET", "/configs", None).await;
    for config in configs.as_array().unwrap() {
        if config["Spec"]["Name"].as_str().unwrap().starts_with("houston-lease-") {
            house::ask_engine(
                &docker,
                "DELETE",
                &format!("/configs/{}", config["ID"].as_str().unwrap()),
                None,
            )
            .await;
        }
    }
    it.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_config_is_taken_under_its_version_and_only_of_its_labels() {
    let it = Pair::new(&[]).await;
    let client = reqwest::Client::builder().unix_socket(it.socket()).no_proxy().build().unwrap();
    let post = async |path: String, body: Value| {
        let sent = client.post(format!("http://engine{path}")).json(&body).send().await.unwrap();
        (sent.status().as_u16(), sent.text().await.unwrap())
    };
    let (status, said) = post("/configs/create".into(), json!({"Name": "c", "Labels": {}})).await;
    assert!(status == 400 && said.contains("config data must be larger than 0"), "{status} {said}");
    let spec = |label: &str| json!({"Name": "c", "Labels": {"a": label}, "Data": "eA=="});
    assert_eq!(post("/configs/create".into(), spec("1")).await.0, 201);
    assert_eq!(post("/configs/create".into(), spec("1")).await.0, 409);
    let found = it.docker("GET", "/configs/c", None).await;
    let version = found["Version"]["Index"].as_u64().unwrap();
    let update = |version: u64| format!("/configs/c/update?version={version}");
    assert_eq!(post(update(version), spec("2")).await.0, 200);
    let (status, said) = post(update(version), spec("3")).await;
    assert!(status == 500 && said.contains("update out of sequence"), "{status} {said}");
    let found = it.docker("GET", "/configs/c", None).await;
    assert_eq!(found["Spec"]["Labels"]["a"], "2");
    assert!(found["Version"]["Index"].as_u64().unwrap() > version);
    let (status, said) = post(update(version), json!({"Name": "c", "Data": "eQ=="})).await;
    assert!(status == 400 && said.contains("only updates to Labels are allowed"), "{status} {said}");
    let (status, said) = post("/configs/c/update".into(), spec("4")).await;
    assert!(status == 400 && said.contains("invalid config version"), "{status} {said}");
    assert_eq!(post("/configs/none/update?version=1".into(), spec("4")).await.0, 404);
    it.end().await;
}
