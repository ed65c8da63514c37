//! Runs that nothing can kill, on a real Swarm and a real sshd: `houston serve` is killed at times drawn by lot, again
//! and again, until the run is over: a service is updated, and a command runs on a host for a while.
//!
//! `HOUSTON_TEST_SEED=N` draws the same times; `HOUSTON_TEST_RANDOM_KILLS=N` is how often it is killed.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use rand::RngExt as _;

use super::lives::Kill;
use super::stage::{Scene, Service, Stage, sshd};
use super::stories::{Story, asked_and_approved};
use super::{lot, name, played, undisturbed_on, variable, why};
use crate::support::parts;
use crate::swarm::TURNS;

/// Trials at one time. How many load the Swarm is limited for all tests together.
const SIDE_BY_SIDE: usize = 3;

/// Of one run, at most: then it is left alone and has to come to its end.
const OF_ONE_RUN: usize = 7;

/// How long a life lasts, in milliseconds: from before Houston listens until after most of what it does.
const LIFE: std::ops::Range<u64> = 100..2500;

const STORY: Story = Story {
    name: "real",
    playbook: None,
    scene: Scene {
        services: &[Service { name: "web", tasks: 1, more: "" }],
        houston: "",
        prod: "hosts:\n  node1: {ssh: \"127.0.0.1:PORT\", identity: SSHD/id, known_hosts: SSHD/known_hosts}\n",
        files: &[("commands/tour.yaml", super::stories::TOUR), ("playbooks/tour.yaml", PLAYBOOK)],
        old_runs: false,
    },
    ssh: true,
    play: |stage| {
        Box::pin(async move {
            asked_and_approved(stage, "!tour prod").await;
            stage.see(&["@alice `tour prod` done in"]).await;
        })
    },
};

/// What ran twice would stand there twice.
const PLAYBOOK: &str = "
description: An update, and a command that takes its time
inputs: {environment: {type: environment}}
on_failure: stop
steps:
  - id: update
    swarm_service: {action: update, service: web, version: v2}
  - id: work
    ssh:
      host: node1
      command: [sh, -c, \"for n in 1 2 3 4 5 6; do echo line $n; echo $n >>MARKS/work; sleep 0.5; done\"]
  - id: back
    swarm_service: {action: scale, service: web, replicas: 2}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_at_any_time_on_real_parts_change_nothing() {
    kills(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes seven minutes: `./test --long` runs it"]
async fn five_hundred_kills_at_any_time_on_real_parts_change_nothing() {
    kills(500).await;
}

/// Until there were so many.
#[expect(clippy::print_stderr, reason = "the seed, and how many there were, are what it shows")]
async fn kills(wanted: usize) {
    let Some(docker) = parts::docker() else { return };
    if parts::sshd().is_none() || sshd().is_none() {
        return;
    }
    let wanted = variable("HOUSTON_TEST_RANDOM_KILLS").map_or(wanted, |n| n.parse().expect("a number"));
    let (seed, mut lot) = lot();
    eprintln!("HOUSTON_TEST_SEED={seed}");
    let undisturbed = {
        let _turn = TURNS.acquire().await.expect("never closed");
        undisturbed_on(&STORY, Stage::on(&docker, &STORY.scene, Vec::new()).await).await.0
    };
    let (mut killed, mut runs, mut failed) = (0, 0, Vec::new());
    while killed < wanted && failed.is_empty() {
        // As many as it probably takes, so that the last one does not run alone.
        let expected = (wanted - killed).div_ceil(OF_ONE_RUN - 1).max(1);
        let trials: Vec<Vec<Kill>> = (0..expected)
            .map(|_| {
                let life = |_| Kill::After(Duration::from_millis(lot.random_range(LIFE)));
                (0..OF_ONE_RUN).map(life).collect()
            })
            .collect();
        runs += trials.len();
        let played = futures_util::stream::iter(trials).map(|kills| {
            let (docker, undisturbed) = (&docker, &undisturbed);
            async move { trial(docker, undisturbed, kills).await }
        });
        for outcome in played.buffer_unordered(SIDE_BY_SIDE).collect::<Vec<_>>().await {
            match outcome {
                Ok(deaths) => killed += deaths,
                Err(why) => failed.push(why),
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {runs} runs, HOUSTON_TEST_SEED={seed}\n{}",
        failed.len(),
        failed.join("\n")
    );
    eprintln!("killed {killed} times in {runs} runs");
}

async fn trial(docker: &Path, undisturbed: &super::Ending, kills: Vec<Kill>) -> Result<usize, String> {
    let _turn = TURNS.acquire().await.expect("never closed");
    let named = name(&STORY, &kills);
    let trial = async {
        let stage = Stage::on(docker, &STORY.scene, kills).await;
        played(&STORY, undisturbed, stage).await
    };
    AssertUnwindSafe(trial).catch_unwind().await.map_err(|panic| format!("==== {named}\n{}", why(&*panic)))
}
