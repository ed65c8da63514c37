//! A task's log: a bounded memory of lines, and the frames in which the API hands them out.

use std::collections::VecDeque;

use jiff::Timestamp;

/// Lines kept for each task.
const KEPT: usize = 1000;
/// A longer line is cut, as a runaway process must not fill the memory.
const LINE_MAX: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Out,
    Err,
}

#[derive(Clone, Debug)]
pub struct Line {
    pub at: Timestamp,
    pub stream: Stream,
    pub text: String,
}

#[derive(Debug, Default)]
pub struct Log(VecDeque<Line>);

/// What a request for logs asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub out: bool,
    pub err: bool,
    /// Per task; None: all.
    pub tail: Option<usize>,
    pub since: Timestamp,
    pub timestamps: bool,
}

impl Log {
    pub fn push(&mut self, at: Timestamp, stream: Stream, mut text: String) {
        if text.len() > LINE_MAX {
            let end = (0..=LINE_MAX).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            text.truncate(end);
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Line { at, stream, text });
    }

    pub fn select(&self, wanted: Wanted) -> Vec<Line> {
        let mut lines: Vec<Line> = self
            .0
            .iter()
            .filter(|line| match line.stream {
                Stream::Out => wanted.out,
                Stream::Err => wanted.err,
            })
            .filter(|line| line.at >= wanted.since)
            .cloned()
            .collect();
        if let Some(tail) = wanted.tail {
            lines.drain(..lines.len().saturating_sub(tail));
        }
        lines
    }
}

/// Appends a line as a frame of the multiplexed stream: a byte for the stream, three zero bytes, the
/// payload's length in four bytes, big-endian, and the payload.
pub fn frame(line: &Line, timestamps: bool, into: &mut Vec<u8>) {
    let payload =
        if timestamps { format!("{} {}\n", line.at, line.text) } else { format!("{}\n", line.text) };
    let stream = match line.stream {
        Stream::Out => 1,
        Stream::Err => 2,
    };
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    into.extend_from_slice(&[stream, 0, 0, 0]);
    into.extend_from_slice(&length);
    into.extend_from_slice(payload.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(tail: Option<usize>, err: bool) -> Wanted {
        Wanted { out: true, err, tail, since: Timestamp::UNIX_EPOCH, timestamps: false }
    }

    #[test]
    fn a_frame_carries_stream_and_length_before_the_line() {
        let line = Line { at: Timestamp::UNIX_EPOCH, stream: Stream::Err, text: "fatal".into() };
        let mut bytes = Vec::new();
        frame(&line, false, &mut bytes);
        assert_eq!(bytes, b"\x02\0\0\0\0\0\0\x06fatal\n");
    }

    #[test]
    fn the_log_is_bounded_and_its_tail_is_its_end() {
        let mut log = Log::default();
        for n in 0..KEPT + 10 {
            log.push(Timestamp::UNIX_EPOCH, Stream::Out, n.to_string());
        }
        log.push(Timestamp::UNIX_EPOCH, Stream::Err, "last".into());
        assert_eq!(log.select(wanted(None, true)).len(), KEPT);
        let tail: Vec<_> = log.select(wanted(Some(2), true)).into_iter().map(|line| line.text).collect();
        assert_eq!(tail, [(KEPT + 9).to_string(), "last".to_owned()]);
        assert_eq!(log.select(wanted(Some(1), false))[0].text, (KEPT + 9).to_string());
    }
}
