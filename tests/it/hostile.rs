//! What hosts, engines and people say so that it looks like somebody else's word: a line of Houston's, an entry of the
//! audit log, a link in its voice, a terminal's own commands.

use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use crate::support::house::{House, Setup};

const FORGED: &str = "no\n:green_circle: *evil* 9 of 9 services well\n:white_check_mark: *approved* by carol, see \
                      [the card](https://evil.example) or <https://evil.example|here> @all";

/// An engine that answers whatever it is asked with this.
fn engine(socket: &Path, says: &str) {
    let listener = UnixListener::bind(socket).expect("a socket");
    let body = serde_json::json!({ "message": says }).to_string();
    tokio::spawn(async move {
        while let Ok((mut asked, _)) = listener.accept().await {
            let _ = asked.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 500 X\r\ncontent-length: {}\r\nconnection: close", body.len());
            let _ = asked.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await;
        }
    });
}

fn nothing_is_forged(text: &str) {
    let own = |line: &str| line.starts_with(":green_circle:") || line.starts_with(":white_check_mark:");
    assert!(!text.lines().any(own), "a line of its own: {text}");
    assert!(!text.contains("](") && !text.contains("<https"), "a link in Houston's voice: {text}");
    assert!(!text.contains("@all"), "{text}");
}

#[tokio::test]
async fn what_an_engine_answers_forges_no_line_and_no_link_of_houstons() {
    let dir = tempfile::tempdir().expect("a folder");
    let socket = dir.path().join("engine.sock");
    engine(&socket, FORGED);
    let evil = format!(
        "swarm: {{socket: {}}}\nservices:\n  web: {{image: demo/web, version: \"1.8\", swarm_name: evil-web}}\n",
        socket.display()
    );
    let files = vec![("environments/evil.yaml", evil)];
    let t = House::with(Setup { files, services: Vec::new(), ..Setup::default() }).await;
    t.say("alice", "ops", "!status evil").await;
    nothing_is_forged(&t.expect("ops", &[":red_circle: *evil* cannot be looked at", "the card"]).await.text);
    t.say("alice", "ops", "!deploy evil web 1.8").await;
    nothing_is_forged(
        &t.expect("ops", &[":x: `deploy evil web 1.8` cannot be planned", "the card"]).await.text,
    );
    t.end().await;
}

#[tokio::test]
async fn no_words_make_an_entry_of_the_audit_log_in_a_room_or_on_a_terminal() {
    let t = House::start().await;
    t.say("alice", "ops", "!deploy prod web 1.8").await;
    let card = t.card().await;
    t.react("bob", &card, ":-1:").await;
    t.expect("ops", &["@bob why?"]).await;
    let forged = "11-25 12:00:00Z R-1   approved  deploy prod web 1.8 (carol)";
    t.reply("bob", "ops", &card.id, &format!("not now\n{forged}\n    7  {forged}")).await;
    t.until(&card, &["*denied* by bob", "not now"]).await;
    // Up a line, and blank it.
    t.say("bob", "ops", "!lock prod/web hot\u{1b}[1A\u{1b}[2Kfix \u{9b}2J\u{202e}").await;
    t.expect("ops", &["is locked"]).await;
    t.say("bob", "ops", "!unlock prod/web").await;
    t.expect("ops", &["is free"]).await;
    t.say("carol", "ops", "!audit").await;
    let told = t.expect("ops", &["denied", "not now", "locked"]).await;
    assert!(!told.text.lines().any(|line| line.trim_start().starts_with("11-25 12:00")), "{}", told.text);
    let state = t.state().display().to_string();
    for args in [
        vec!["audit", "--state", &state],
        vec!["runs", "--state", &state],
        vec!["runs", "--state", &state, "show", "R-1"],
    ] {
        let (code, out, err) = super::cli::run(&args);
        assert_eq!(code, 0, "{args:?}: {err}");
        // What `show` sets in below its event is not one of its own.
        let forged = |line: &str| {
            let set_in = args.contains(&"show") && line.starts_with("    ");
            line.contains("12:00:00Z R-1") && !line.contains("not now") && !set_in
        };
        assert!(!out.lines().any(forged), "{args:?}: {out}");
        let foreign = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!out.contains(foreign), "{args:?}: {out:?}");
    }
    t.forget_what_was_said(&["ops"]);
    t.end().await;
}

/// What somebody at a host's address does after the first bytes.
#[derive(Clone, Copy)]
enum Then {
    Again,
    BreakOff,
    Nothing,
}

async fn no_sshd(says: &'static [u8], then: Then) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while stream.write_all(says).await.is_ok() {
                    match then {
                        Then::Again => {}
                        Then::BreakOff => return,
                        Then::Nothing => std::future::pending().await,
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_host_that_is_silent_or_never_stops_or_breaks_off_is_an_error_in_time_and_of_one_line() {
    use houston::exec::ExecError;
    use houston::exec::ssh::{SshOptions, SshPool};
    let ports = [
        no_sshd(b"welcome\x1b[2J to\nthis [host](https://evil.example)\r\n", Then::Again).await,
        no_sshd(&[b'x'; 4096], Then::Again).await,
        no_sshd(b"SSH-2.0-OpenSSH_9.9\r\n\x00\x00\x7f", Then::BreakOff).await,
        no_sshd(b"SSH-2.0-\xff\xfe\x1b[2Jno\nreally\r\n", Then::BreakOff).await,
        no_sshd(b"SSH-2.0-OpenSSH_9.9\r\n", Then::Nothing).await,
    ];
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("known_hosts"), "").expect("written");
    let options = SshOptions { connect_timeout: std::time::Duration::from_secs(2), ..SshOptions::default() };
    let pool = SshPool::new(dir.path(), options, houston::secret::Redactor::new()).expect("a pool");
    let tries = ports.map(|port| {
        let host = houston::config::environment::Host {
            name: format!("node{port}"),
            address: "127.0.0.1".into(),
            user: None,
            port,
            identity: None,
            known_hosts: Some(dir.path().join("known_hosts")),
            jump: vec![],
            at: houston::diagnostic::Location::new("environments/test.yaml", 1, 1),
        };
        let host = pool.host(&houston::ids::EnvName::new("test"), &host);
        async move {
            let begun = tokio::time::Instant::now();
            let Err(ExecError::NotStarted { reason, .. }) = host.connect().await else { panic!("connected") };
            assert!(begun.elapsed() < std::time::Duration::from_secs(15), "{reason}");
            assert!(reason.len() < 600 && !reason.contains(char::is_control), "{reason:?}");
        }
    });
    futures_util::future::join_all(tries).await;
}
