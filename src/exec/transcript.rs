//! Whole outputs on disk: one append-only, redacted file each, packed when nothing more comes, read back as head and
//! tail, or in pieces.
//!
//! Must not: hold an output in memory, or say what it belongs to: its name is given.

pub mod packed;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{Stream, stream};

use crate::secret::Redactor;
use crate::text;

/// Bytes of a line in [`head_and_tail`]; longer ones say how many more there are.
const LONGEST_SHOWN: usize = 4 * 1024;

/// Bytes of one output that are kept. Whoever prints without end must not fill the disk that the store and the
/// audit log stand on.
const MOST_KEPT: u64 = 256 * 1024 * 1024;

/// Takes the lines of one output. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Transcript {
    path: PathBuf,
    file: Arc<Mutex<Kept>>,
    redactor: Redactor,
    most: u64,
}

#[derive(Debug)]
struct Kept {
    file: File,
    bytes: u64,
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
        packed::unpack(&path)?;
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file: Arc::new(Mutex::new(Kept { file, bytes })), redactor, most: MOST_KEPT })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one line in one write, so that lines of several writers do not mix. Line ends in it are
    /// kept. It is in the kernel's hands when this returns; it survives a crash of Houston, and a loss of
    /// power once [`Transcript::sync`] was called. When enough is kept the file says so, and nothing more
    /// goes into it.
    pub fn line(&self, line: &str) -> io::Result<()> {
        let mut kept = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.bytes >= self.most {
            return Ok(());
        }
        let mut bytes = self.redactor.redact(line).into_owned().into_bytes();
        bytes.push(b'\n');
        if kept.bytes + bytes.len() as u64 >= self.most {
            kept.bytes = self.most;
            let said = format!("── more than {} bytes: nothing after this is kept\n", self.most);
            return kept.file.write_all(said.as_bytes());
        }
        kept.bytes += bytes.len() as u64;
        kept.file.write_all(&bytes)
    }

    /// Waits for the device.
    pub async fn sync(&self) -> io::Result<()> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).file.try_clone()?;
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
    /// Some line is shown in part.
    pub shortened: bool,
}

impl HeadAndTail {
    /// For a room: no line longer than [`text::LONGEST_SHOWN_LINE`], and the whole no longer than `most` UTF-16
    /// units, as far as two lines allow. What goes is counted.
    pub fn fit(&mut self, most: usize) {
        let mut units = 0;
        for line in self.head.iter_mut().chain(&mut self.tail) {
            if let Cow::Owned(short) = text::shorten(&text::defuse(line), text::LONGEST_SHOWN_LINE) {
                *line = short;
                self.shortened = true;
            }
            units += text::chat_len(line) + 1;
        }
        let mut first = 0;
        while units > most && first + 1 < self.tail.len() {
            units -= text::chat_len(&self.tail[first]) + 1;
            first += 1;
        }
        self.tail.drain(..first);
        self.left_out += first as u64;
    }

    /// Whether it shows every line whole.
    pub fn is_whole(&self) -> bool {
        self.left_out == 0 && !self.shortened
    }

    /// For people: the lines, and how many are not shown.
    pub fn into_text(self) -> String {
        let mut lines = self.head;
        if self.left_out > 0 {
            let left_out = usize::try_from(self.left_out).unwrap_or(usize::MAX);
            lines.push(format!("… {} left out …", text::count(left_out, "line")));
        }
        lines.extend(self.tail);
        lines.join("\n")
    }
}

/// Reads the file once, keeping `head` and `tail` lines of at most 4 KiB each. Blocking: call it through
/// `spawn_blocking` for files that may be long.
pub fn head_and_tail(path: &Path, head: usize, tail: usize) -> io::Result<HeadAndTail> {
    let mut out = HeadAndTail::default();
    let mut last: VecDeque<String> = VecDeque::new();
    let mut reader = BufReader::with_capacity(64 * 1024, packed::open(path)?);
    let mut line = Vec::new();
    while let Some(cut) = read_line(&mut reader, &mut line)? {
        out.shortened |= cut;
        let shown = String::from_utf8_lossy(&line).into_owned();
        if out.head.len() < head {
            out.head.push(shown);
            continue;
        }
        last.push_back(shown);
        if last.len() > tail {
            last.pop_front();
            out.left_out += 1;
        }
    }
    out.tail = last.into();
    Ok(out)
}

/// Whole lines out of the middle of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    pub text: String,
    /// Bytes of the output before it, and up to its end.
    pub from: u64,
    pub to: u64,
}

/// The last lines of what is there, about `most` bytes of them. Blocking.
pub fn last(path: &Path, most: usize) -> io::Result<Piece> {
    let (bytes, from) = match packed::plain_len(path)? {
        Some(long) => {
            let from = long.saturating_sub(most as u64);
            let mut bytes = Vec::new();
            packed::skip(path, from)?.read_to_end(&mut bytes)?;
            (bytes, from)
        }
        None => end_of(packed::open(path)?, most)?,
    };
    let begun = match from {
        0 => 0,
        _ => bytes.iter().position(|b| *b == b'\n').map_or(0, |end| end + 1),
    };
    Ok(Piece::of(&bytes[begun..], from + begun as u64))
}

/// The last `most` bytes, and how many are before them.
fn end_of(mut whole: impl Read, most: usize) -> io::Result<(Vec<u8>, u64)> {
    let (mut end, mut before) = (Vec::new(), 0);
    loop {
        let read = whole.by_ref().take(most.max(1) as u64).read_to_end(&mut end)?;
        let over = end.len().saturating_sub(most);
        end.drain(..over);
        before += over as u64;
        if read == 0 {
            return Ok((end, before));
        }
    }
}

/// The lines that follow the first `from` bytes, about `most` bytes of them; a line that is being written is not
/// among them. Blocking.
pub fn after(path: &Path, from: u64, most: usize) -> io::Result<Piece> {
    let mut bytes = Vec::new();
    packed::skip(path, from)?.take(most as u64).read_to_end(&mut bytes)?;
    match bytes.iter().rposition(|b| *b == b'\n') {
        Some(end) => bytes.truncate(end + 1),
        // A line that is longer than a piece comes in several.
        None if bytes.len() < most => bytes.clear(),
        None => {}
    }
    Ok(Piece::of(&bytes, from))
}

/// The whole, piece by piece: it may be large.
pub fn pieces(whole: Box<dyn Read + Send>) -> impl Stream<Item = io::Result<Vec<u8>>> + Send {
    stream::try_unfold(whole, async |mut whole| {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = Vec::new();
            whole.by_ref().take(64 * 1024).read_to_end(&mut piece)?;
            io::Result::Ok((piece, whole))
        });
        let (piece, whole) = read.await.map_err(io::Error::other)??;
        Ok((!piece.is_empty()).then_some((piece, whole)))
    })
}

impl Piece {
    fn of(bytes: &[u8], from: u64) -> Self {
        let to = from.saturating_add(bytes.len() as u64);
        Self { text: String::from_utf8_lossy(bytes).into_owned(), from, to }
    }
}

/// The next line without its end, cut to [`LONGEST_SHOWN`], and whether it was; `None` at the end of the file.
fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<bool>> {
    line.clear();
    let (mut any, mut cut) = (false, 0);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            break;
        }
        any = true;
        let end = buffer.iter().position(|b| *b == b'\n');
        let taken = &buffer[..end.unwrap_or(buffer.len())];
        let room = LONGEST_SHOWN.saturating_sub(line.len());
        cut += taken.len().saturating_sub(room);
        line.extend_from_slice(&taken[..taken.len().min(room)]);
        let used = end.map_or(buffer.len(), |e| e + 1);
        reader.consume(used);
        if end.is_some() {
            break;
        }
    }
    if cut > 0 {
        line.extend_from_slice(format!(" … {} left out", text::count(cut, "byte")).as_bytes());
    }
    Ok(any.then_some(cut > 0))
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
    fn output_without_end_does_not_fill_the_disk() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || {
            let opened = Transcript::open(dir.path(), "R-41", Redactor::new()).expect("opens");
            Transcript { most: 1000, ..opened }
        };
        let transcript = open();
        for _ in 0..1000 {
            transcript.line("0123456789").expect("writes");
        }
        let text = std::fs::read_to_string(transcript.path()).expect("reads");
        assert!(text.len() < 1100 && text.ends_with("── more than 1000 bytes: nothing after this is kept\n"));
        drop(transcript);
        open().line("x").expect("is not kept");
        assert_eq!(
            std::fs::read_to_string(open().path()).expect("reads"),
            text,
            "also by who opens it again"
        );
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
        assert!(found.head[0].ends_with(&format!("x … {} bytes left out", 10_000_000 - LONGEST_SHOWN)));
        assert!(!found.is_whole());
        assert_eq!(found.head[1], "1");
        assert_eq!(found.left_out, 996);
        assert_eq!(found.tail, ["998", "999", "1000"]);
        let short = head_and_tail(transcript.path(), 2000, 3).expect("reads");
        assert_eq!((short.head.len(), short.left_out, short.tail.len()), (1001, 0, 0));
        assert!(found.into_text().contains("\n… 996 lines left out …\n998"));
        let beyond = after(transcript.path(), u64::MAX, 10).expect("reads");
        assert_eq!(beyond, Piece { text: String::new(), from: u64::MAX, to: u64::MAX });
    }
}
