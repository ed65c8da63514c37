//! Whole outputs on disk: one append-only, redacted file each, read back as head and tail.
//!
//! Must not: hold an output in memory, or say what it belongs to: its name is given.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::secret::Redactor;

/// Of a line in [`head_and_tail`]; longer ones end in `…`.
const LONGEST_SHOWN: usize = 4 * 1024;

/// Takes the lines of one output. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Transcript {
    path: PathBuf,
    file: Arc<Mutex<File>>,
    redactor: Redactor,
}

impl Transcript {
    /// Opens `<dir>/<name>.log` for appending, made with its folder if absent, readable by the owner only.
    pub fn open(dir: &Path, name: &str, redactor: Redactor) -> io::Result<Self> {
        if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{name}` is no name for a transcript"),
            ));
        }
        std::fs::create_dir_all(dir)?;
        let path = path(dir, name);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        Ok(Self { path, file: Arc::new(Mutex::new(file)), redactor })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one line in one write, so that lines of several writers do not mix. Line ends in it are
    /// kept. It is in the kernel's hands when this returns; it survives a crash of Houston, and a loss of
    /// power once [`Transcript::sync`] was called.
    pub fn line(&self, line: &str) -> io::Result<()> {
        let mut bytes = self.redactor.redact(line).into_owned().into_bytes();
        bytes.push(b'\n');
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&bytes)
    }

    /// Waits for the device.
    pub async fn sync(&self) -> io::Result<()> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).try_clone()?;
        tokio::task::spawn_blocking(move || file.sync_data()).await.map_err(io::Error::other)?
    }
}

/// Where the transcript of that name is kept.
pub fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.log"))
}

/// The beginning and the end of a long output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadAndTail {
    pub head: Vec<String>,
    /// Lines between `head` and `tail`.
    pub left_out: u64,
    pub tail: Vec<String>,
    /// Of the whole file.
    pub bytes: u64,
}

impl HeadAndTail {
    /// For people: the lines, and how many are not shown.
    pub fn into_text(self) -> String {
        let mut lines = self.head;
        if self.left_out > 0 {
            let left_out = usize::try_from(self.left_out).unwrap_or(usize::MAX);
            lines.push(format!("… {} left out …", crate::text::count(left_out, "line")));
        }
        lines.extend(self.tail);
        lines.join("\n")
    }
}

/// Reads the file once, keeping `head` and `tail` lines of at most 4 KiB each. Blocking: call it through
/// `spawn_blocking` for files that may be long.
pub fn head_and_tail(path: &Path, head: usize, tail: usize) -> io::Result<HeadAndTail> {
    let file = File::open(path)?;
    let mut out = HeadAndTail { bytes: file.metadata()?.len(), ..HeadAndTail::default() };
    let mut last: VecDeque<String> = VecDeque::new();
    let mut reader = BufReader::with_capacity(64 * 1024, file);
    let mut line = Vec::new();
    while read_line(&mut reader, &mut line)? {
        let text = String::from_utf8_lossy(&line).into_owned();
        if out.head.len() < head {
            out.head.push(text);
            continue;
        }
        last.push_back(text);
        if last.len() > tail {
            last.pop_front();
            out.left_out += 1;
        }
    }
    out.tail = last.into();
    Ok(out)
}

/// The next line without its end, cut to [`LONGEST_SHOWN`]; false at the end of the file.
fn read_line(reader: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let (mut any, mut cut) = (false, false);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        any = true;
        let end = buffer.iter().position(|b| *b == b'\n');
        let taken = &buffer[..end.unwrap_or(buffer.len())];
        let room = LONGEST_SHOWN.saturating_sub(line.len());
        cut |= taken.len() > room;
        line.extend_from_slice(&taken[..taken.len().min(room)]);
        let used = end.map_or(buffer.len(), |e| e + 1);
        reader.consume(used);
        if end.is_some() {
            break;
        }
    }
    if cut {
        line.extend_from_slice("…".as_bytes());
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_is_whole_redacted_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let redactor = Redactor::new();
        redactor.learn("MARKER-s3cr3t");
        let transcript = Transcript::open(&dir.path().join("t"), "R-41", redactor.clone()).expect("opens");
        transcript.line("token MARKER-s3cr3t").expect("writes");
        drop(transcript);
        let again = Transcript::open(&dir.path().join("t"), "R-41", redactor).expect("opens again");
        again.line("more").expect("writes");
        let text = std::fs::read_to_string(again.path()).expect("reads");
        assert_eq!(text, "token [redacted]\nmore\n");
        let mode = std::fs::metadata(again.path()).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_name_cannot_leave_the_folder() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["../x", "", ".hidden", "a/b"] {
            assert!(Transcript::open(dir.path(), name, Redactor::new()).is_err(), "{name}");
        }
    }

    #[test]
    fn head_and_tail_of_a_huge_file_say_what_is_left_out() {
        let dir = tempfile::tempdir().expect("a folder");
        let transcript = Transcript::open(dir.path(), "long", Redactor::new()).expect("opens");
        transcript.line(&"x".repeat(10_000_000)).expect("writes");
        for n in 1..=1000 {
            transcript.line(&n.to_string()).expect("writes");
        }
        let found = head_and_tail(transcript.path(), 2, 3).expect("reads");
        assert_eq!(found.head[0].chars().count(), LONGEST_SHOWN + 1);
        assert_eq!(found.head[1], "1");
        assert_eq!(found.left_out, 996);
        assert_eq!(found.tail, ["998", "999", "1000"]);
        let short = head_and_tail(transcript.path(), 2000, 3).expect("reads");
        assert_eq!((short.head.len(), short.left_out, short.tail.len()), (1001, 0, 0));
        assert!(found.into_text().contains("\n… 996 lines left out …\n998"));
    }
}
