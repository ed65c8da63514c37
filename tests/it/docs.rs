//! The documentation does what it says: every command in a fenced `sh` block is run, with a Houston, a chat server and
//! something to deploy around it; what cannot run here stands in [`NOT_HERE`] with the reason. The files in
//! `docs/deploy` are used as an operator would.
//!
//! The YAML in the pages is loaded by `it::config`.

mod port_open;
mod step_kind;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::cli::Running;
use crate::support::house::House;

/// Commands that begin so are not run, because.
const NOT_HERE: &[(&str, &str)] = &[
    ("cargo build ", "builds the program; `./test` does with and without the feature"),
    ("cargo run ", "builds the program; `it::cli` and `it::page` start the demo"),
    ("./test", "runs this test"),
    ("docker ", "`it::image` does what `docs/operating.md` says on a real engine"),
    ("install -m ", "writes where only the machine's administrator may"),
    ("useradd ", "the same"),
    ("journalctl ", "reads the log of a machine's init system; `it::logs` reads the same lines"),
    ("systemctl enable ", "needs an init system; `the_unit_runs_what_it_names` runs what it would start"),
    ("benches/peers/peers.sh", "installs other people's programs; by hand"),
];

/// Commands that run until they are stopped, and what they say once they are up.
const UNTIL_STOPPED: &[(&str, &str)] = &[("houston serve ", "caught up"), ("houston sandbox", "sandbox: ")];

const PAGES: &[&str] = &[
    "README.md",
    "docs/administrator.md",
    "docs/getting-started.md",
    "docs/operating.md",
    "docs/playbooks.md",
    "docs/step-kinds.md",
];

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The commands of a page with the number of their line: comments away, continued lines as one.
fn commands(page: &str) -> Vec<(usize, String)> {
    let (mut commands, mut fenced, mut begun) = (Vec::new(), false, String::new());
    for (n, line) in page.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("```") {
            fenced = line == "```sh";
        } else if fenced {
            let line = line.split("   #").next().unwrap_or_default();
            let line = if line.starts_with('#') { "" } else { line.trim() };
            match line.strip_suffix('\\') {
                Some(part) => begun.push_str(part),
                None if line.is_empty() => {}
                None => commands.push((n + 1, std::mem::take(&mut begun) + line)),
            }
        }
    }
    commands
}

#[test]
fn commands_are_found_with_their_place() {
    let page = "# x\n```sh\na b    # c\n# d\n\ne \\\n  f\n```\n```yaml\ng\n```\n   ```sh\n   h # i\n   ```\n";
    let found = commands(page);
    assert_eq!(found, [(3, "a b".to_owned()), (7, "e f".to_owned()), (13, "h # i".to_owned())]);
}

#[test]
fn every_page_is_looked_at() {
    let mut pages: Vec<String> = std::fs::read_dir(here("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().into_string().unwrap()))
        .filter(|name| name.ends_with(".md"))
        .collect();
    pages.retain(|page| std::fs::read_to_string(here(page)).unwrap().contains("```sh"));
    pages.sort();
    for page in pages {
        assert!(PAGES.contains(&page.as_str()), "the commands of {page} are run by nobody: add it to PAGES");
    }
}

/// A folder as the reader of a page has it, and a house whose state and configuration the commands are about.
struct Desk {
    house: House,
    dir: tempfile::TempDir,
}

impl Desk {
    async fn new() -> Self {
        let house = House::start().await;
        let dir = tempfile::tempdir().unwrap();
        let desk = Self { house, dir };
        let bin = desk.dir.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_houston"), bin.join("houston")).unwrap();
        desk
    }

    /// `DIR` is the house's configuration, with what the page adds to it. The page's own server and machines are not
    /// here, so these two files are the house's, unless the page's environment needs no machine.
    fn open(&self, page: &str, text: &str) {
        let dir = self.dir.path().join("DIR");
        let _ = std::fs::remove_dir_all(&dir);
        copy(&self.house.state().with_file_name("config"), &dir);
        for (path, block) in super::config::files_of_page(text) {
            let elsewhere =
                path == "houston.yaml" || path == "environments/prod.yaml" && page != "docs/playbooks.md";
            if !elsewhere {
                let path = dir.join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, block).unwrap();
            }
        }
    }

    /// The command with the places of this desk in place of the reader's.
    fn here(&self, command: &str) -> String {
        let state = self.house.state().display().to_string();
        command
            .replace("/var/lib/houston", &state)
            .replace("/etc/houston", "DIR")
            .replace("--state STATE", &format!("--state {state}"))
            .replace("HOUSTON_TOKEN=…", "HOUSTON_TOKEN=a-token")
    }

    #[expect(clippy::disallowed_methods, reason = "the test types what a reader would type")]
    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("bash");
        let path = format!("{}:{}", self.dir.path().join("bin").display(), std::env::var("PATH").unwrap());
        shell.args(["-euo", "pipefail", "-c", command]).current_dir(self.dir.path()).env("PATH", path);
        shell.stdin(Stdio::null());
        shell
    }

    /// What went wrong.
    async fn run(&mut self, command: &str) -> Result<(), String> {
        match command {
            "systemctl stop houston" => self.house.stop().await,
            "systemctl start houston" => self.house.start_again().await,
            _ => {
                let command = self.here(command);
                let long = UNTIL_STOPPED.iter().find(|(begin, _)| command.contains(begin));
                if let Some((_, up)) = long {
                    // The house's Houston has the other folder.
                    let state = self.house.state().display().to_string();
                    let command = format!("exec env {}", command.replace(&state, "fresh-state"));
                    let shell = self.shell(&command);
                    let code = tokio::task::block_in_place(|| {
                        let running = Running::of(shell);
                        running.until(up);
                        running.stop().0
                    });
                    return if code == Some(0) { Ok(()) } else { Err(format!("exit code {code:?}")) };
                }
                let output: Output = tokio::task::block_in_place(|| self.shell(&command).output().unwrap());
                if !output.status.success() {
                    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    return Err(format!(
                        "{}: {}{}",
                        output.status,
                        said(&output.stdout),
                        said(&output.stderr)
                    ));
                }
            }
        }
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_in_the_documentation_runs() {
    let mut desk = Desk::new().await;
    let (mut wrong, mut ran) = (Vec::new(), 0);
    for page in PAGES {
        let text = std::fs::read_to_string(here(page)).unwrap();
        desk.open(page, &text);
        for (line, command) in commands(&text) {
            if NOT_HERE.iter().any(|(begin, _)| command.starts_with(begin)) {
                continue;
            }
            ran += 1;
            if let Err(why) = desk.run(&command).await {
                wrong.push(format!("{page}:{line}: `{command}`: {why}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "mend the page, or say in NOT_HERE why it cannot run here:\n{}",
        wrong.join("\n")
    );
    assert!(ran >= 10, "only {ran} commands were found");
}

#[test]
fn what_is_not_run_is_still_there() {
    let pages: Vec<String> = PAGES.iter().map(|page| std::fs::read_to_string(here(page)).unwrap()).collect();
    let all: Vec<String> = pages.iter().flat_map(|page| commands(page)).map(|(_, command)| command).collect();
    for (begin, why) in NOT_HERE.iter().filter(|(begin, _)| !begin.starts_with("benches/")) {
        assert!(
            all.iter().any(|command| command.starts_with(begin)),
            "no page has `{begin}` ({why}): take it out"
        );
    }
}

/// `docs/deploy/houston.service`: what it would start runs, stops as systemd stops it, and is not started again and
/// again when the configuration is wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_unit_runs_what_it_names() {
    let unit = std::fs::read_to_string(here("docs/deploy/houston.service")).unwrap();
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(&format!("{key}=")));
        line.unwrap_or_else(|| panic!("the unit has no {key}")).to_owned()
    };
    let desk = Desk::new().await;
    desk.open("", "");
    let start = value("ExecStart").replace("/usr/local/bin/houston", "houston");
    let start =
        format!("exec {}", start.replace("/etc/houston", "DIR").replace("/var/lib/houston", "unit-state"));
    let (code, folder) = tokio::task::block_in_place(|| {
        let running = Running::of(desk.shell(&start));
        running.until("caught up");
        (running.stop().0, desk.dir.path().join("unit-state"))
    });
    assert_eq!(code, Some(0));
    assert!(folder.join("audit.jsonl").exists());

    std::fs::write(desk.dir.path().join("DIR/houston.yaml"), "rocketchat: {}\n").unwrap();
    let wrong = tokio::task::block_in_place(|| desk.shell(&start).output().unwrap());
    assert_eq!(wrong.status.code().map(|code| code.to_string()), Some(value("RestartPreventExitStatus")));

    // Where there is a systemd, it is asked as well.
    let checked = desk.dir.path().join("houston.service");
    std::fs::write(&checked, unit.replace("/usr/local/bin/houston", env!("CARGO_BIN_EXE_houston"))).unwrap();
    let ask = format!(
        "command -v systemd-analyze >/dev/null || exit 0; systemd-analyze verify '{}'",
        checked.display()
    );
    let asked = tokio::task::block_in_place(|| desk.shell(&ask).output().unwrap());
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(asked.status.success() && !said.contains("houston.service"), "{said}");
}
