//! An engine's log stream: frames of both streams, each with a header of eight bytes, unless the
//! container has a terminal.

/// The text of both streams in their order. A stream that was cut, or that is no frames at all, gives
/// what can be read of it.
pub(super) fn demultiplex(mut bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len());
    while let Some((header, rest)) = bytes.split_at_checked(8) {
        let [kind, 0, 0, 0, size @ ..] = header else { break };
        let Ok(size) = <[u8; 4]>::try_from(size) else { break };
        if *kind > 2 {
            break;
        }
        let size = (u32::from_be_bytes(size) as usize).min(rest.len());
        let (frame, rest) = rest.split_at(size);
        out.extend_from_slice(frame);
        bytes = rest;
    }
    if out.is_empty() && !bytes.is_empty() && bytes.first().is_some_and(|b| *b > 2) {
        out.extend_from_slice(bytes);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The last `n` lines, each cut to a length that a message can carry.
pub(super) fn last_lines(text: &str, n: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(n);
    let cut: Vec<_> = lines[from..].iter().map(|l| crate::text::ellipsis(l.trim_end(), 300)).collect();
    cut.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, text: &str) -> Vec<u8> {
        let mut out = vec![kind, 0, 0, 0];
        out.extend_from_slice(&(text.len() as u32).to_be_bytes());
        out.extend_from_slice(text.as_bytes());
        out
    }

    #[test]
    fn both_streams_come_out_in_their_order() {
        let bytes = [frame(1, "one\n"), frame(2, "two\n"), frame(1, "three\n")].concat();
        assert_eq!(demultiplex(&bytes), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_cut_or_hostile_stream_gives_what_can_be_read() {
        let mut bytes = frame(1, "hello world\n");
        bytes.truncate(13);
        assert_eq!(demultiplex(&bytes), "hello");
        assert_eq!(demultiplex(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, b'x']), "x");
        assert_eq!(demultiplex(b"plain text of a terminal"), "plain text of a terminal");
        assert_eq!(demultiplex(&[]), "");
        assert_eq!(demultiplex(&[1, 0]), "");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
    }
}
