//! Runs that nothing can kill, shown with the real binary: `houston serve` is killed before and after every sync of
//! the store while people deploy, and everything is as if it had not been.
//!
//! In `real` it is killed at any time, on a real Swarm and a real sshd.
//!
//! A trial that failed is named as a variable: `HOUSTON_TEST_KILLS='crash before:4 after:3'` plays it again, in
//! `a_trial_by_its_name`. `HOUSTON_TEST_SEED=N` draws the same lots.

mod door;
mod ending;
mod exports;
mod lives;
mod old;
mod real;
mod stage;
mod stories;
mod take_over;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use houston::store::SyncPoint;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::Instant;

use ending::{Ending, said, said_otherwise};
use lives::Kill;
use stage::Stage;
use stories::{SCHEDULE, STORIES, Story};

/// Names trials that are played again: a story, and when Houston is killed in each of its lives.
const AGAIN: &str = "HOUSTON_TEST_KILLS";

/// Stories that are killed at every place in each run of the tests.
const EVERYWHERE: [&str; 2] = ["scale", "old"];

/// Trials at one time: they mostly wait.
const SIDE_BY_SIDE: usize = 6;

/// How long the rooms may take to read as they should once the story is over: an edit has its pace.
const LAST_EDITS: Duration = Duration::from_secs(20);

/// Syncs while it stops, beyond those that were counted.
const AT_THE_END: u64 = 2;

fn story(name: &str) -> &'static Story {
    STORIES.iter().find(|story| story.name == name).unwrap_or_else(|| panic!("the story `{name}`"))
}

/// A story without a kill: how it ends, and how often the store is synced.
async fn undisturbed(story: &Story) -> (Ending, u64) {
    undisturbed_on(story, Stage::set(&story.scene, Vec::new()).await).await
}

async fn undisturbed_on(story: &Story, mut stage: Stage) -> (Ending, u64) {
    (story.play)(&stage).await;
    stage.settled().await;
    let (syncs, before) = (stage.syncs().await, said(&stage));
    stage.stop().await;
    let ending = Ending::of(&stage).await;
    assert_eq!(ending.said, before, "everything was said while it ran");
    stage.strike().await;
    (ending, syncs)
}

/// The story, with a Houston that is killed; whether it was. Panics with all that differs.
async fn killed(story: &Story, undisturbed: &Ending, kills: Vec<Kill>) -> bool {
    let stage = Stage::set(&story.scene, kills).await;
    played(story, undisturbed, stage).await > 0
}

/// The story on a stage; how often Houston was killed there. Panics with all that differs.
async fn played(story: &Story, undisturbed: &Ending, mut stage: Stage) -> usize {
    (story.play)(&stage).await;
    stage.settled().await;
    let deadline = Instant::now() + LAST_EDITS;
    while Instant::now() < deadline && !said_otherwise(&said(&stage), &undisturbed.said).is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let deaths = stage.stop().await;
    let differences = Ending::of(&stage).await.differences(undisturbed);
    assert!(differences.is_empty(), "{}\n{}", differences.join("\n"), stage.told());
    stage.strike().await;
    deaths
}

/// A trial's name, which plays it again.
fn name(story: &Story, kills: &[Kill]) -> String {
    let kills: Vec<String> = kills.iter().map(ToString::to_string).collect();
    format!("{AGAIN}='{} {}'", story.name, kills.join(" "))
}

/// Plays all of the trials. What each of them comes to; panics with those that failed.
async fn play(trials: Vec<(&'static Story, Arc<Ending>, Vec<Kill>)>) -> Vec<(String, bool)> {
    let played = futures_util::stream::iter(trials).map(|(story, undisturbed, kills)| async move {
        let place = name(story, &kills);
        let trial = killed(story, &undisturbed, kills);
        (place, AssertUnwindSafe(trial).catch_unwind().await)
    });
    let played: Vec<_> = played.buffer_unordered(SIDE_BY_SIDE).collect().await;
    let (mut ended, mut failed) = (Vec::new(), Vec::new());
    for (place, outcome) in played {
        match outcome {
            Ok(hit) => ended.push((place, hit)),
            Err(panic) => failed.push(format!("==== {place}\n{}", why(&*panic))),
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {} trials failed\n{}",
        failed.len(),
        failed.len() + ended.len(),
        failed.join("\n")
    );
    ended
}

fn why(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn points(syncs: u64) -> impl Iterator<Item = Kill> {
    (1..=syncs + AT_THE_END)
        .flat_map(|n| [SyncPoint::Before, SyncPoint::After].map(|point| Kill::At(point, n)))
}

/// Killed before and after every sync of the story.
#[expect(clippy::print_stderr, reason = "how many places there were is what it shows")]
async fn everywhere(story: &'static Story) {
    let (ending, syncs) = undisturbed(story).await;
    let ending = Arc::new(ending);
    let trials: Vec<_> = points(syncs).map(|kill| (story, ending.clone(), vec![kill])).collect();
    let count = trials.len();
    let hit = play(trials).await.iter().filter(|(_, hit)| *hit).count();
    eprintln!("`{}`: killed at {hit} of {count} places, {syncs} syncs", story.name);
    // Those at the end are perhaps never reached, and syncs that wait at the same time are one.
    assert!(hit * 10 >= count * 7, "only {hit} of {count} places were reached");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_story_is_the_same_wherever_it_is_killed() {
    everywhere(story("scale")).await;
}

/// Removing is over soon after the start: what is killed there is killed in the middle of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_old_is_gone_or_whole_wherever_it_is_killed() {
    everywhere(story("old")).await;
}

/// Stories, kills and second kills drawn by lot: every run of the tests looks at other places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stderr, reason = "the seed has to be seen where a trial fails")]
async fn every_story_is_the_same_at_places_drawn_by_lot() {
    const OF_EACH: usize = 2;
    let (seed, mut lot) = lot();
    eprintln!("HOUSTON_TEST_SEED={seed}");
    let mut trials = Vec::new();
    let short = |story: &&Story| !EVERYWHERE.contains(&story.name) && story.name != SCHEDULE;
    for story in STORIES.iter().filter(|story| story.playable()).filter(short) {
        let (ending, syncs) = undisturbed(story).await;
        let ending = Arc::new(ending);
        let points: Vec<Kill> = points(syncs - AT_THE_END).collect();
        for _ in 0..OF_EACH {
            let mut draw = || points[lot.random_range(0..points.len())];
            // The second one comes into the recovery.
            trials.push((story, ending.clone(), vec![draw(), draw()]));
        }
    }
    play(trials).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `./test --long` runs it"]
async fn every_story_is_the_same_wherever_it_is_killed() {
    let mut failed = Vec::new();
    for story in STORIES.iter().filter(|story| story.playable()) {
        if let Err(panic) = AssertUnwindSafe(everywhere(story)).catch_unwind().await {
            failed.push(why(&*panic));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Not a test by itself: plays a trial again that failed in one of the others, as often as there are places for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_by_its_name() {
    let Some(named) = variable(AGAIN) else { return };
    let mut words = named.split(' ');
    let story = story(words.next().unwrap_or_default());
    assert!(story.playable(), "it takes a real sshd: HOUSTON_TEST_SSHD names one");
    let kills: Vec<Kill> = words.map(|word| word.parse().expect("`before:N`, `after:N` or `Nms`")).collect();
    let ending = Arc::new(undisturbed(story).await.0);
    play((0..2 * SIDE_BY_SIDE).map(|_| (story, ending.clone(), kills.clone())).collect()).await;
}

fn lot() -> (u64, SmallRng) {
    let seed =
        variable("HOUSTON_TEST_SEED").map_or_else(rand::random, |seed| seed.parse().expect("a number"));
    (seed, SmallRng::seed_from_u64(seed))
}

fn variable(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the tests' own switches are no configuration of Houston")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[test]
fn there_is_a_story_for_every_playbook_that_comes_with_houston() {
    let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/playbooks")).expect("is there");
    let playbooks: BTreeSet<String> = folder
        .flatten()
        .map(|file| file.path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    // What restic does is left to hosts and found again by its name, as in the story `hosts`; `backup` tells the rest.
    let elsewhere = ["backup", "backup-init", "backup-verify", "restore"].map(str::to_owned);
    let told = STORIES.iter().filter_map(|story| story.playbook.map(str::to_owned));
    let told: BTreeSet<String> = told.chain(elsewhere).collect();
    assert_eq!(playbooks, told, "each needs a story in `tests/it/kills/stories.rs`");
}
