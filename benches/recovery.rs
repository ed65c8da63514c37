//! How long Houston takes to stand on its feet again after it was killed in the middle of its work.
//!
//! Must not: make the runs up: they are asked for in chat, begun, and then the process is killed.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::client::Client;
use crate::processes::{Home, Sandbox, room_id, token};
use crate::table::Table;

/// Runs under way when the process is killed.
const NUMBERS: [usize; 3] = [1, 100, 10_000];
/// Asked for at a time, so that the way in is never the measure.
const AT_ONCE: usize = 50;
const PATIENCE: Duration = Duration::from_secs(1200);

/// Waits: nothing outside of Houston takes part in the figure.
const COMMAND: &str = "hold:\n  summary: Waits.\n  playbook: hold\n";
const PLAYBOOK: &str =
    "description: Wait\ninputs: {}\nsteps:\n  - id: hold\n    wait: {for: 6h}\non_failure: stop\n";

pub async fn after_a_kill(dir: &Path, table: &mut Table) {
    for runs in NUMBERS {
        let sandbox = Sandbox::start(dir).await;
        let home = Home::new(dir.join(format!("recovery-{runs}")), &sandbox.url);
        home.write("commands/hold.yaml", COMMAND);
        home.write("playbooks/hold.yaml", PLAYBOOK);
        let mut observer = Client::connect(&sandbox.url, &token("alice")).await;
        observer.hear_room(&room_id("ops")).await;

        let houston = home.serve();
        // What was said before an account's first start is not for it.
        timeout(PATIENCE, answers(&sandbox, &mut observer)).await.expect("it starts");
        begin(&sandbox, &mut observer, runs).await;
        houston.kill();
        sandbox.say("ops", "!ping back").await;

        let begun = Instant::now();
        let houston = home.serve();
        let (answered, told) = timeout(PATIENCE, recovered(&mut observer, runs)).await.expect("it recovers");
        let (memory, _) = houston.memory();
        houston.stop();
        let seconds = |until: Instant| format!("{:.2} s", (until - begun).as_secs_f64());
        table.row(
            format!("killed with {runs} runs under way: start → first answer; → every run's message goes on"),
            format!("{}; {} ({memory:.0} MB)", seconds(answered), seconds(told)),
            "",
        );
    }
}

async fn answers(sandbox: &Sandbox, observer: &mut Client) {
    for attempt in 0.. {
        sandbox.say("ops", &format!("!ping up{attempt}")).await;
        if timeout(Duration::from_millis(50), observer.message_with("pong up")).await.is_ok() {
            return;
        }
    }
}

/// Until each run's message says that its step is under way.
async fn begin(sandbox: &Sandbox, observer: &mut Client, runs: usize) {
    let mut asked = 0;
    let mut under_way = HashSet::new();
    while under_way.len() < runs {
        while asked < runs && asked < under_way.len() + AT_ONCE {
            sandbox.say("ops", "!hold").await;
            asked += 1;
        }
        let heard = timeout(PATIENCE, observer.next()).await.expect("runs begin");
        if let Some((id, text)) = message(&heard.text)
            && text.contains("*R-")
            && text.contains(":hourglass")
        {
            under_way.insert(id);
        }
    }
}

/// When the ping was answered, and when the last of the messages said that Houston was away.
async fn recovered(observer: &mut Client, runs: usize) -> (Instant, Instant) {
    let mut answered = None;
    let mut told = HashSet::new();
    loop {
        let heard = observer.next().await;
        let Some((id, text)) = message(&heard.text) else { continue };
        if text == "pong back" {
            answered = Some(heard.at);
        } else if text.contains("I was away") {
            told.insert(id);
        }
        if let (Some(answered), true) = (answered, told.len() >= runs) {
            return (answered, heard.at);
        }
    }
}

fn message(frame: &str) -> Option<(String, String)> {
    let frame: Value = serde_json::from_str(frame).ok()?;
    let document = frame.pointer("/fields/args/0")?;
    Some((document["_id"].as_str()?.to_owned(), document["msg"].as_str()?.to_owned()))
}
