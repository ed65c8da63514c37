//! Secret references into secrets: files, environment variables, commands.
//!
//! Must not: put a value, or what a command printed to standard output, into an error.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::local::Local;
use super::{Command, ExecError, Runner as _, Stream};
use crate::secret::{Redactor, Secret, SecretRef};

/// A secret is a token, a password or a key: more than this is a mistake.
const LARGEST: usize = 64 * 1024;

/// How long a command may take to tell a secret.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a secret could not be had.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("the secret from {reference} {reason}")]
pub struct SecretError {
    pub reference: SecretRef,
    pub reason: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// Fetches the value and registers it with `redactor`. Relative files are taken from `base`, the
/// configuration's folder. One line end at the end is not part of the value.
pub async fn resolve(reference: &SecretRef, base: &Path, redactor: &Redactor) -> Result<Secret, SecretError> {
    let error =
        |reason: String, hint: Option<String>| SecretError { reference: reference.clone(), reason, hint };
    let value = match reference {
        SecretRef::File(path) => {
            let path = base.join(path);
            read(&path).await.map_err(|e| {
                let hint = match e.kind() {
                    std::io::ErrorKind::NotFound => Some(format!("put it into `{}`", path.display())),
                    std::io::ErrorKind::PermissionDenied => {
                        Some(format!("let Houston's user read `{}`", path.display()))
                    }
                    _ => None,
                };
                error(format!("cannot be read: {e}"), hint)
            })?
        }
        SecretRef::Env(name) => crate::config::env::get(name).ok_or_else(|| {
            error("is not set, or empty".into(), Some(format!("set `{name}` where Houston is started")))
        })?,
        SecretRef::Command(argv) => {
            let (program, args) = argv.split_first().ok_or_else(|| error("names no program".into(), None))?;
            // The output is the secret, so nothing of it is known to the redactor yet: it is caught here
            // and goes nowhere else.
            let caught = std::sync::Mutex::new((Vec::new(), None));
            let on_line = |stream: Stream, line: &str| {
                let mut caught = caught.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                match stream {
                    Stream::Out => caught.0.push(line.to_owned()),
                    Stream::Err => caught.1 = Some(line.to_owned()),
                }
            };
            let command = Command {
                program: program.clone(),
                args: args.to_vec(),
                stdin: None,
                timeout: Some(COMMAND_TIMEOUT),
            };
            let runner = Local::new(Redactor::new()).dir(base).with_whole_environment();
            let exit = runner.run(&command, &on_line, &CancellationToken::new()).await.map_err(|e| {
                let hint = match &e {
                    ExecError::NotStarted { hint, .. } => hint.clone(),
                    _ => None,
                };
                error(format!("cannot be fetched: {e}"), hint)
            })?;
            let (lines, complaint) = caught.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            if exit.code != Some(0) {
                let code =
                    exit.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
                let complaint = complaint.map(|c| format!("it said: {}", redactor.redact(&c)));
                return Err(error(format!("was not told: the command ended with {code}"), complaint));
            }
            lines.join("\n")
        }
    };
    let value = value.strip_suffix('\n').map_or(value.as_str(), |v| v.strip_suffix('\r').unwrap_or(v));
    if value.is_empty() {
        return Err(error("is empty".into(), None));
    }
    if value.len() > LARGEST {
        return Err(error(format!("is larger than {} KiB", LARGEST / 1024), None));
    }
    Ok(Secret::new(value, redactor))
}

async fn read(path: &Path) -> std::io::Result<String> {
    use tokio::io::AsyncReadExt as _;
    let mut bytes = Vec::new();
    tokio::fs::File::open(path).await?.take(LARGEST as u64 + 2).read_to_end(&mut bytes).await?;
    String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> SecretRef {
        SecretRef::Command(words.iter().map(|w| (*w).to_owned()).collect())
    }

    #[tokio::test]
    async fn a_secret_comes_from_a_file_beside_the_configuration_and_is_redacted_from_then_on() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("token"), "MARKER-s3cr3t\n").expect("writes");
        let redactor = Redactor::new();
        let secret =
            resolve(&SecretRef::File("token".into()), dir.path(), &redactor).await.expect("resolves");
        assert_eq!(secret.expose(), "MARKER-s3cr3t");
        assert_eq!(redactor.redact("x MARKER-s3cr3t"), "x [redacted]");
    }

    #[tokio::test]
    async fn a_command_tells_a_secret_of_several_lines() {
        let redactor = Redactor::new();
        let secret = resolve(&argv(&["printf", "line one\nline two\n"]), Path::new("."), &redactor)
            .await
            .expect("resolves");
        assert_eq!(secret.expose(), "line one\nline two");
        assert_eq!(redactor.redact("a line two"), "a [redacted]");
    }

    #[tokio::test]
    async fn errors_say_what_to_do_and_never_what_was_printed() {
        let redactor = Redactor::new();
        let base = Path::new(".");
        let missing = resolve(&SecretRef::File("no/such".into()), base, &redactor).await.expect_err("fails");
        assert!(missing.hint.expect("a hint").contains("no/such"));
        let unset =
            resolve(&SecretRef::Env("HOUSTON_NO_SUCH".into()), base, &redactor).await.expect_err("fails");
        assert!(unset.to_string().contains("HOUSTON_NO_SUCH"), "{unset}");
        let failed = resolve(
            &argv(&["sh", "-c", "echo half-$((40+2))-secret; echo locked >&2; exit 4"]),
            base,
            &redactor,
        )
        .await
        .expect_err("fails");
        assert!(failed.to_string().contains("exit code 4"), "{failed}");
        assert_eq!(failed.hint.as_deref(), Some("it said: locked"));
        assert!(!format!("{failed} {failed:?}").contains("half-42-secret"));
        let empty = resolve(&argv(&["true"]), base, &redactor).await.expect_err("fails");
        assert!(empty.to_string().ends_with("is empty"), "{empty}");
    }
}
