//! A command's output on its way in: bytes into lines, lines into a bounded tail, secrets out.
//!
//! Must not: hold a whole output in memory, or hand out a line that has not been through the redactor.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::Stream;
use crate::secret::Redactor;

/// A line is cut into pieces of about this size, so that a file without line ends costs no more memory.
pub const LONGEST_LINE: usize = 64 * 1024;

/// What [`Tail`] keeps.
pub const TAIL_BYTES: usize = 64 * 1024;

/// Held back when a long line is cut, so that a secret on the cut is seen whole in the next piece.
const HELD_BACK: usize = 4 * 1024;

/// A command has ended, but something that it left behind holds its output open: how long silence lasts
/// until that is not waited for any more.
const SILENCE_AFTER_EXIT: Duration = Duration::from_secs(2);

/// How long what it left behind is listened to when it is not silent.
const LONGEST_AFTER_EXIT: Duration = Duration::from_secs(10);

/// Where both streams of a running command go: line by line to the caller, and into the tail.
pub(super) struct Sink<'a> {
    on_line: &'a (dyn Fn(Stream, &str) + Send + Sync),
    redactor: &'a Redactor,
    tail: Mutex<Tail>,
    /// Bytes so far, to tell silence from a slow end.
    bytes: AtomicU64,
}

impl<'a> Sink<'a> {
    pub(super) fn new(redactor: &'a Redactor, on_line: &'a (dyn Fn(Stream, &str) + Send + Sync)) -> Self {
        Self { on_line, redactor, tail: Mutex::default(), bytes: AtomicU64::new(0) }
    }

    pub(super) fn lines(&self) -> Lines {
        Lines::new(self.redactor.clone())
    }

    pub(super) fn line(&self, stream: Stream, line: &str) {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        (self.on_line)(stream, line);
    }

    /// Reads a stream to its end; a read error is its end too. `lines` is the caller's, so that what
    /// stands without a line end is not lost when this is dropped.
    pub(super) async fn pump(
        &self,
        reader: Option<impl AsyncRead + Unpin>,
        lines: &mut Lines,
        on_line: &(dyn Fn(&str) + Send + Sync),
    ) {
        let Some(mut reader) = reader else { return };
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = reader.read(&mut buffer).await {
            self.bytes.fetch_add(n as u64, Ordering::Relaxed);
            lines.push(&buffer[..n], &mut |line| on_line(line));
        }
    }

    /// Waits for the streams to end after the command did, as long as they are not silent.
    pub(super) async fn drain<F: Future>(&self, streams: Pin<&mut F>) {
        let silence = std::pin::pin!(self.silence());
        futures_util::future::select(streams, silence).await;
    }

    /// Returns when nothing more has come for a while, or when what comes does not come to an end.
    pub(super) async fn silence(&self) {
        let listen = async {
            loop {
                let before = self.bytes.load(Ordering::Relaxed);
                tokio::time::sleep(SILENCE_AFTER_EXIT).await;
                if self.bytes.load(Ordering::Relaxed) == before {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(LONGEST_AFTER_EXIT, listen).await;
    }

    pub(super) fn into_tail(self) -> String {
        self.tail.into_inner().unwrap_or_else(PoisonError::into_inner).into_text()
    }
}

/// Turns one stream's bytes into redacted lines. Line ends are `\n`, `\r\n` and a bare `\r` (progress
/// bars); what is not UTF-8 becomes `�`.
#[derive(Debug)]
pub struct Lines {
    pending: Vec<u8>,
    after_return: bool,
    redactor: Redactor,
}

impl Lines {
    pub fn new(redactor: Redactor) -> Self {
        Self { pending: Vec::new(), after_return: false, redactor }
    }

    /// Takes the next bytes and hands out every line that they complete.
    pub fn push(&mut self, mut bytes: &[u8], on_line: &mut dyn FnMut(&str)) {
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_return) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            // Looks at most one piece ahead, so that a long line is cut before it is stored whole.
            let ahead = &bytes[..bytes.len().min(LONGEST_LINE)];
            match ahead.iter().position(|b| matches!(b, b'\n' | b'\r')) {
                Some(end) => {
                    self.pending.extend_from_slice(&ahead[..end]);
                    self.after_return = ahead[end] == b'\r';
                    bytes = &bytes[end + 1..];
                    self.emit(on_line);
                }
                None => {
                    self.pending.extend_from_slice(ahead);
                    bytes = &bytes[ahead.len()..];
                    if self.pending.len() >= LONGEST_LINE {
                        self.cut(on_line);
                    }
                }
            }
        }
    }

    /// The stream has ended: hands out what stands without a line end.
    pub fn finish(mut self, on_line: &mut dyn FnMut(&str)) {
        if !self.pending.is_empty() {
            self.emit(on_line);
        }
    }

    fn emit(&mut self, on_line: &mut dyn FnMut(&str)) {
        let line = String::from_utf8_lossy(&self.pending);
        on_line(&self.redactor.redact(&line));
        self.pending.clear();
    }

    fn cut(&mut self, on_line: &mut dyn FnMut(&str)) {
        // A character that is still incomplete stays as bytes.
        let complete = match std::str::from_utf8(&self.pending) {
            Err(e) if e.error_len().is_none() => e.valid_up_to(),
            _ => self.pending.len(),
        };
        let text = String::from_utf8_lossy(&self.pending[..complete]);
        let text = self.redactor.redact(&text);
        let mut at = text.len().saturating_sub(HELD_BACK);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        on_line(&text[..at]);
        let mut rest = text.as_bytes()[at..].to_vec();
        rest.extend_from_slice(&self.pending[complete..]);
        self.pending = rest;
    }
}

/// The last lines of an output, at most [`TAIL_BYTES`] of them.
#[derive(Debug, Default)]
pub struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    pub fn push(&mut self, line: &str) {
        let mut start = line.len().saturating_sub(TAIL_BYTES - 1);
        while !line.is_char_boundary(start) {
            start += 1;
        }
        let line = &line[start..];
        self.bytes += line.len() + 1;
        self.lines.push_back(line.to_owned());
        while self.bytes > TAIL_BYTES {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.len() + 1;
        }
    }

    /// The lines, joined by `\n`.
    pub fn into_text(self) -> String {
        Vec::from(self.lines).join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(chunks: &[&[u8]], redactor: &Redactor) -> Vec<String> {
        let mut out = Vec::new();
        let mut lines = Lines::new(redactor.clone());
        for chunk in chunks {
            lines.push(chunk, &mut |l| out.push(l.to_owned()));
        }
        lines.finish(&mut |l| out.push(l.to_owned()));
        out
    }

    #[test]
    fn lines_are_found_wherever_the_chunks_end() {
        let text = "eins\r\nzwei é\r10%\r\n\nlast".as_bytes();
        let whole = lines_of(&[text], &Redactor::new());
        assert_eq!(whole, ["eins", "zwei é", "10%", "", "last"]);
        for at in 0..text.len() {
            assert_eq!(lines_of(&[&text[..at], &text[at..]], &Redactor::new()), whole, "cut at {at}");
        }
    }

    #[test]
    fn invalid_utf8_does_not_stop_the_output() {
        assert_eq!(lines_of(&[b"a\xff\xfeb\nok\n"], &Redactor::new()), ["a\u{fffd}\u{fffd}b", "ok"]);
    }

    #[test]
    fn a_ten_megabyte_line_comes_in_pieces_and_bounded_memory() {
        let mut lines = Lines::new(Redactor::new());
        let (mut bytes, mut pieces) = (0, 0);
        let chunk = "é".repeat(50_000);
        for _ in 0..105 {
            lines.push(chunk.as_bytes(), &mut |l| {
                bytes += l.len();
                pieces += 1;
                assert!(l.len() <= 2 * LONGEST_LINE && !l.contains('\u{fffd}'));
            });
            assert!(lines.pending.capacity() <= 4 * LONGEST_LINE, "{}", lines.pending.capacity());
        }
        lines.finish(&mut |l| bytes += l.len());
        assert_eq!(bytes, 10_500_000);
        assert!(pieces > 100);
    }

    #[test]
    fn a_secret_is_taken_out_even_where_a_long_line_is_cut() {
        let redactor = Redactor::new();
        redactor.learn("MARKER-s3cr3t-MARKER");
        for offset in (0..40).chain(LONGEST_LINE - HELD_BACK - 40..LONGEST_LINE - HELD_BACK + 40) {
            let mut text = "x".repeat(LONGEST_LINE - 20 - offset % 40 + offset / 40);
            text.push_str("MARKER-s3cr3t-MARKER");
            text.push_str(&"y".repeat(LONGEST_LINE));
            let joined = lines_of(&[text.as_bytes()], &redactor).concat();
            assert!(!joined.contains("s3cr3t"), "leaked at offset {offset}");
            assert!(joined.contains("[redacted]"));
        }
    }

    #[test]
    fn the_tail_keeps_the_end_and_its_bound() {
        let mut tail = Tail::default();
        for n in 0..20_000 {
            tail.push(&format!("line {n}"));
        }
        let text = tail.into_text();
        assert!(text.len() <= TAIL_BYTES && text.ends_with("line 19999") && text.len() > TAIL_BYTES - 100);
        let mut tail = Tail::default();
        tail.push(&"é".repeat(TAIL_BYTES));
        assert!(tail.into_text().len() <= TAIL_BYTES);
    }
}
