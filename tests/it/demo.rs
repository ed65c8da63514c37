//! `houston demo --swarm`: the demo's own story on a real Swarm, and what is left of it there: nothing.

use houston::providers::swarm::Swarm;
use serde_json::{Value as Json, json};

use crate::cli::{Running, houston};
use crate::support::parts;
use crate::support::rc::Person;
use crate::swarm::TURNS;

const LABEL: &str = "houston.demo";

/// One demo at a time on one Swarm: it takes away what an earlier one left.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn start(socket: &str) -> Running {
    let mut command = houston(&["demo", "--swarm", "--no-browser", "--port", "0"]);
    command.env("DOCKER_HOST", socket);
    Running::of(command)
}

async fn left(swarm: &Swarm) -> (usize, usize) {
    let services = swarm.services().await.unwrap();
    let ours = services.iter().filter(|service| service.label(LABEL).is_some()).count();
    (ours, swarm.images(LABEL).await.unwrap().len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_deploys_to_a_real_swarm_and_leaves_nothing_there() {
    let Some(socket) = parts::docker() else { return };
    let _turn = TURNS.acquire().await.unwrap();
    let _one = ONE.lock().await;
    let swarm = Swarm::local(&socket);
    let demo = start(&format!("unix://{}", socket.display()));
    let (line, _) = tokio::task::block_in_place(|| demo.until("Houston is up: "));
    let url = line.split_whitespace().last().unwrap();
    let (mut alice, bob) = (Person::login(url, "alice").await, Person::login(url, "bob").await);
    alice.say("ops", "!deploy prod web 1.8").await;
    let card = alice.expect_from("houston", ":clipboard: *R-1*").await;
    let text = card["msg"].as_str().unwrap();
    assert!(text.contains("web:1.7`") && text.contains("web:1.8`") && !text.contains("placement"), "{text}");
    bob.react(&card, ":+1:", true).await;
    alice.expect_from("houston", "deployed in").await;
    let web = swarm.service("houston-demo-web").await.unwrap().unwrap();
    assert!(web.image().ends_with("houston-demo/web:1.8"), "{}", web.image());
    assert!(web.label(LABEL).is_some());

    // A version whose health check fails is rolled back, and the room reads what the check said.
    alice.say("ops", "!deploy staging web 2.0").await;
    let failed = alice.expect_from("houston", "*failed*").await;
    assert!(failed["msg"].as_str().unwrap().contains("connection pool"), "{failed}");
    let (code, said) = tokio::task::block_in_place(|| demo.stop());
    assert_eq!(code, Some(0), "{}", said.join("\n"));
    assert_eq!(left(&swarm).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_of_somebody_else_keeps_the_demo_away() {
    let Some(socket) = parts::docker() else { return };
    let _turn = TURNS.acquire().await.unwrap();
    let _one = ONE.lock().await;
    let swarm = Swarm::local(&socket);
    let spec: Json = json!({
        "Name": "houston-demo-api",
        "TaskTemplate": {"ContainerSpec": {"Image": "app:v1"}},
        "Mode": {"Replicated": {"Replicas": 0}},
    });
    swarm.create_service(&spec).await.unwrap();
    let demo = start(&format!("unix://{}", socket.display()));
    let (line, _) = tokio::task::block_in_place(|| demo.until("error: "));
    let untouched = swarm.service("houston-demo-api").await.unwrap();
    swarm.remove_service("houston-demo-api").await.unwrap();
    assert!(line.contains("has a service `houston-demo-api` already"), "{line}");
    assert!(untouched.is_some_and(|service| service.image() == "app:v1"));
    assert_eq!(left(&swarm).await, (0, 0));
}

#[test]
fn without_an_engine_the_demo_says_what_to_do() {
    for (host, wanted) in [
        ("unix:///nonexistent/docker.sock", "no Docker engine answers on `/nonexistent/docker.sock`"),
        ("tcp://127.0.0.1:1", "DOCKER_HOST is `tcp://127.0.0.1:1`"),
    ] {
        let demo = start(host);
        let (line, _) = demo.until("error: ");
        assert!(line.contains(wanted), "{line}");
        demo.until("hint: ");
    }
}
