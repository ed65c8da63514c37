//! The way back: the database is destroyed, Houston refuses to go on without it and says what to type, and what is
//! typed brings it back. Nothing runs twice, and the operator hears what happened since the export.

use std::path::Path;

use crate::cli::run;
use crate::support::house::House;

/// The commands that the hints of a refusal name, with this build's binary.
pub fn commands(hints: &str) -> Vec<String> {
    let quoted = hints.lines().filter(|line| line.starts_with("hint: "));
    let commands = quoted.flat_map(|line| line.split('`').skip(1).step_by(2));
    commands
        // Looking further is no part of the way back.
        .filter(|command| !command.starts_with("houston doctor"))
        .map(|command| command.replace("houston ", &format!("{} ", env!("CARGO_BIN_EXE_houston"))))
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "the test types what the refusal says")]
pub fn typed(command: &str) -> String {
    let output = std::process::Command::new("bash").args(["-euc", command]).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command}: {}{}", said(&output.stdout), said(&output.stderr));
    said(&output.stdout)
}

/// What `serve` says when it does not start.
pub async fn refused(t: &House) -> String {
    let (config, state) = (t.config_dir().display().to_string(), t.state().display().to_string());
    let (code, _, error) =
        tokio::task::spawn_blocking(move || run(&["serve", "--config", &config, "--state", &state]))
            .await
            .unwrap();
    assert_eq!(code, 1, "{error}");
    error
}

pub fn destroy(database: &Path) {
    let path = database.join("db");
    let noise: Vec<u8> = std::fs::read(&path).unwrap().iter().map(|byte| byte ^ 0x5a).collect();
    std::fs::write(path, noise).unwrap();
}

async fn deploy(t: &House, version: &str, run: &str) {
    t.say("alice", "ops", &format!("!deploy prod web {version}")).await;
    let card = t.card().await;
    t.react("bob", &card, ":+1:").await;
    t.ended(run, &["deployed in"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_store_comes_back_and_nothing_runs_twice() {
    let mut t = House::start().await;
    deploy(&t, "1.8", "R-1").await;
    t.say("alice", "ops", "!deploy prod web 1.6").await;
    let card = t.card().await;

    // Of this moment, while Houston runs.
    let state = t.state();
    let exports = state.join("exports");
    std::fs::create_dir_all(&exports).unwrap();
    let export = exports.join("houston-20261125T031500Z.jsonl.gz");
    let command = format!(
        "{} store --state {} export | gzip > {}",
        env!("CARGO_BIN_EXE_houston"),
        state.display(),
        export.display()
    );
    tokio::task::spawn_blocking(move || typed(&command)).await.unwrap();

    // What the export does not know: a decision, a run from its beginning to its end, a lock.
    t.react("bob", &card, ":+1:").await;
    t.ended("R-2", &["deployed in"]).await;
    deploy(&t, "1.7", "R-3").await;
    t.stop().await;
    destroy(&state.join("journal"));

    let error = refused(&t).await;
    assert!(error.contains("the database in `"), "{error}");
    let commands = commands(&error);
    assert_eq!(commands.len(), 2, "{error}");
    assert!(commands[0].starts_with("mv ") && commands[1].contains(" import "), "{error}");
    typed(&commands[0]);
    // Half the way is no way: it does not begin with nothing.
    let error = refused(&t).await;
    assert!(error.contains("is gone, and the audit log beside it tells of runs"), "{error}");
    let said = typed(&commands[1]);
    for part in [
        "records imported, of 20",
        "R-2 `deploy prod web 1.6` by alice",
        "(the export knows its beginning)",
        "R-3 `deploy prod web 1.7` by alice",
        "Z: succeeded",
        "Ended as abandoned, since nobody knows how far they got: R-2.",
    ] {
        assert!(said.contains(part), "`{part}` is not in\n{said}");
    }

    t.start_again().await;
    // R-2's request still carries Bob's consent, and R-3's command stands in the room.
    t.until(&card, &["abandoned"]).await;
    t.expect("ops", &["deploy prod web 1.7", "still"]).await;
    t.silence_but("ops", &["R-2"]).await;
    assert_eq!(t.image("web").await, "demo/web:1.7", "nothing was carried out again");
    assert_eq!(t.runs(), ["deploy prod web 1.8", "deploy prod web 1.6"]);
    // It goes on, and no number is given twice.
    deploy(&t, "1.8", "R-4").await;
    assert_eq!(t.image("web").await, "demo/web:1.8");
    let ends: Vec<_> = t.audited().into_iter().filter(|entry| entry.event.action == "abandoned").collect();
    assert_eq!(ends.len(), 1, "{ends:?}");
    t.end().await;
}
