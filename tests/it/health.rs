//! `/healthz` and `/readyz`, as a supervisor asks them.

use std::time::Duration;

use houston::sandbox::Dialect;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::cli::run;
use crate::support::house::{House, Setup};

/// Asks until the answer is this one.
async fn until(t: &House, path: &str, status: u16, begins: &str) {
    let socket = t.state().join("admin.sock");
    let client = reqwest::Client::builder().unix_socket(socket).no_proxy().build().expect("a client");
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = client.get(format!("http://localhost{path}")).send().await.expect("an answer");
        let found = answer.status().as_u16();
        let text = answer.text().await.expect("a text");
        if found == status && text.starts_with(begins) {
            return;
        }
        assert!(Instant::now() < deadline, "{path}: wanted {status} {begins:?}, got {found} {text:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_heard_and_is_gone_is_unhealthy_until_it_is_back() {
    for dialect in [Dialect::Monolith, Dialect::Streamer] {
        let silence = Some(Duration::from_secs(1));
        let t = House::with(Setup { dialect, services: Vec::new(), silence, ..Setup::default() }).await;
        until(&t, "/readyz", 200, "ready\n").await;
        t.control("refuse", json!({"ms": 3_600_000})).await;
        t.control("drop", json!({})).await;
        until(&t, "/readyz", 503, "not connected to Rocket.Chat\n").await;
        until(&t, "/healthz", 503, "Rocket.Chat was last heard ").await;
        // Nobody is to restart it for that: a run may be under way.
        let state = t.state().display().to_string();
        let (code, _, error) = tokio::task::block_in_place(|| run(&["healthcheck", "--state", &state]));
        assert_eq!((code, error.as_str()), (0, ""));
        t.control("clear", json!({})).await;
        until(&t, "/healthz", 200, "ok\n").await;
        until(&t, "/readyz", 200, "ready\n").await;
        t.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_opens_connections_and_says_nothing_keeps_no_probe_away_and_takes_no_more_than_a_few_files() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let houston = format!("http: {{listen: \"127.0.0.1:{port}\"}}\n");
    let t = House::with(Setup { services: Vec::new(), houston, ..Setup::default() }).await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
        stream.write_all(b"GET /livez HT").await.expect("sent");
        silent.push(stream);
    }
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.get(format!("http://127.0.0.1:{port}/livez")).send().await.expect("an answer");
    assert_eq!(answer.text().await.expect("a text"), "alive\n");
    let still = futures_util::future::join_all(silent.iter_mut().map(async |stream| {
        let mut answer = [0; 64];
        let closed = stream.read(&mut answer);
        usize::from(tokio::time::timeout(Duration::from_secs(2), closed).await.is_err())
    }));
    let open: usize = still.await.into_iter().sum();
    assert!((1..=256).contains(&open), "{open} of 300 are open");
    t.end().await;
}
