//! Durations as people type them, in a room, in a file and in a plan: one grammar, read and written here.
//!
//! Must not: round; for reading aloud there is [`super::duration`].

use std::time::Duration;

/// A hundred years. A longer one leaves what a clock can count to when it is added to now, and that is a panic.
const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// `500ms`, `30s`, `10m`, `2h`, `1d`, `2w`, and sums of them: `1h30m`; up to a hundred years. Phones begin words
/// with a capital letter, so case says nothing.
pub fn parse_duration(typed: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = typed.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let n: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let part = match rest[..unit_end].to_ascii_lowercase().as_str() {
            "ms" => Duration::from_millis(n),
            "s" | "sec" => Duration::from_secs(n),
            "m" | "min" => Duration::from_secs(n.checked_mul(60)?),
            "h" => Duration::from_secs(n.checked_mul(3600)?),
            "d" => Duration::from_secs(n.checked_mul(86_400)?),
            "w" => Duration::from_secs(n.checked_mul(604_800)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = rest[unit_end..].trim_start();
    }
    (total <= LONGEST).then_some(total)
}

/// So that [`parse_duration`] reads it back: `1h30m`. Nothing below a millisecond can be typed.
pub fn written_duration(d: Duration) -> String {
    let mut out = String::new();
    let mut left = d.as_millis();
    for (unit, millis) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if left >= millis {
            out.push_str(&format!("{}{unit}", left / millis));
            left %= millis;
        }
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_are_written_back_the_same() {
        for (text, seconds) in [("30s", 30), ("1h30m", 5400), ("2d", 172_800), ("0s", 0)] {
            let read = parse_duration(text).expect("a duration");
            assert_eq!(read, Duration::from_secs(seconds));
            assert_eq!(written_duration(read), text);
        }
        for (text, written) in
            [("500ms", "500ms"), ("90s", "1m30s"), ("1W", "7d"), ("2min", "2m"), ("1h 5 sec", "")]
        {
            let read = parse_duration(text).map(written_duration).unwrap_or_default();
            assert_eq!(read, written, "{text}");
        }
        let longest = parse_duration("36500d").expect("a hundred years");
        assert!(tokio::time::Instant::now().checked_add(longest).is_some(), "a deadline can be that far");
        for text in [
            "",
            "30",
            "s",
            "1.5h",
            "-1s",
            "10 parsecs",
            "99999999999999999999s",
            "9999999999999999999d",
            "36501d",
            "200000000000000d",
            "36500d 1ms",
            "1é",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
