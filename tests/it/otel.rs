//! What the real program exports with the feature `otel`, as a collector reads it; and that nothing waits for one.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::logs::{MARKER, Stage};
use crate::support::house::Setup;
use crate::support::otlp::{Collector, Span};

const HEADERS: &str = "x-key=a-key-of-the-collector";

async fn stage(endpoint: &str) -> Stage {
    let setup = Setup { password: Some(MARKER.to_owned()), ..Setup::default() };
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", HEADERS),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("HOUSTON_LOG", "info"),
    ];
    Stage::set(setup, &env).await
}

/// The run as a whole, and what is in its trace.
fn trace_of<'s>(spans: &'s [Span], run: &str) -> (&'s Span, Vec<&'s Span>) {
    let mut whole = spans.iter().filter(|span| span.name.starts_with("run ") && span.get("run.id") == run);
    let (whole, another) = (whole.next().expect("the run"), whole.next());
    assert_eq!(another, None, "said once");
    let inside = spans.iter().filter(|span| span.trace == whole.trace && span.id != whole.id);
    (whole, inside.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_one_trace_with_its_steps_also_over_a_restart() {
    let collector = Collector::start().await;
    let mut stage = stage(&collector.url).await;
    stage.house.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = stage.house.card().await;
    stage.restart().await;
    let t = &stage.house;
    t.react("bob", &card, ":+1:").await;
    t.ended("R-1", &["deployed in"]).await;
    t.say("alice", "ops", "!deploy prod web 1.9").await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    t.ended("R-2", &["*failed*"]).await;
    t.say("alice", "ops", "hello to everybody").await;
    let room = t.sandbox.room_id("ops").expect("a room");
    let log = stage.log().await;
    let warned: Vec<_> = log.iter().filter(|line| line.get("level") == "WARN" && !line.says("R-2")).collect();
    let warned: Vec<_> = warned.iter().map(|line| line.get("message")).collect();
    assert!(warned.is_empty(), "nothing was lost: {warned:?}");

    let (spans, bytes) = collector.spans();
    for (run, failed) in [("R-1", false), ("R-2", true)] {
        let (whole, inside) = trace_of(&spans, run);
        assert!(whole.parent.is_empty() && whole.name == "run deploy", "{whole:?}");
        assert_eq!((whole.trace.len(), whole.id.len()), (16, 8));
        assert_eq!([whole.get("user.id"), whole.get("room.id")], ["u-alice", &room]);
        assert_eq!(whole.get("run.outcome"), if failed { "failed" } else { "succeeded" });
        let names: BTreeSet<&str> = inside.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["approval", "step swarm_service"]), "{run}");
        for span in &inside {
            assert_eq!(span.parent, whole.id, "{span:?}");
            assert_eq!(span.get("run.id"), run);
            assert!(
                whole.begun <= span.begun && span.begun <= span.ended && span.ended <= whole.ended,
                "{span:?}"
            );
        }
        let step = inside.iter().find(|span| span.name.starts_with("step")).expect("a step");
        assert_eq!([step.get("step.id"), step.get("step.attempt")], ["update", "1"]);
        let wanted = if failed { 2 } else { 0 };
        assert_eq!((step.status, whole.status), (wanted, wanted), "{step:?}");
    }
    let commands: Vec<_> = spans.iter().filter(|span| span.name == "command deploy").collect();
    let runs: Vec<&str> = commands.iter().map(|span| span.get("run.id")).collect();
    assert_eq!(runs, ["R-1", "R-2"]);
    let reactions = spans.iter().filter(|span| span.name == "reaction" && span.get("user.id") == "u-bob");
    let decided: BTreeSet<&str> = reactions.map(|span| span.get("run.id")).collect();
    assert_eq!(decided, BTreeSet::from(["R-1", "R-2"]));
    let others: Vec<_> =
        spans.iter().filter(|span| ["message", "request", "run"].contains(&&*span.name)).collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(spans.iter().all(|span| span.resource["service.name"] == "houston"));
    // Names and ids, and nothing that anybody said.
    let text = String::from_utf8_lossy(&bytes);
    for said in [MARKER, "1.8", "everybody", "migration"] {
        assert!(!text.contains(said), "`{said}` is exported");
    }
}

/// A collector that is not there, and one that takes the connection and says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_waits_for_a_collector_and_its_absence_is_said_once() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nobody = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        gone.local_addr().expect("an address")
    };
    for (endpoint, warnings) in [(nobody, 1), (silent.local_addr().expect("an address"), 0)] {
        let stage = stage(&format!("http://{endpoint}")).await;
        let t = &stage.house;
        for n in 1..=3 {
            t.say("alice", "ops", &format!("!scale prod web {}", 1 + n % 2)).await;
            let card = t.card().await;
            t.react("bob", &card, ":+1:").await;
            t.ended(&format!("R-{n}"), &["scaled in"]).await;
        }
        let asked = Instant::now();
        let log = stage.log().await;
        assert!(asked.elapsed() < Duration::from_secs(20), "a stop does not wait for it");
        let lost: Vec<_> = log.iter().filter(|line| line.says("spans are lost")).collect();
        assert_eq!(
            lost.len(),
            warnings,
            "{:?}",
            lost.iter().map(|line| line.get("message")).collect::<Vec<_>>()
        );
        assert!(lost.iter().all(|line| !line.says("a-key-of-the-collector")));
    }
}
