//! Sizes as people read them.

/// `1.2 GiB`; whole bytes below one KiB.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return super::count(usize::try_from(n).unwrap_or(usize::MAX), "byte");
    }
    #[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
    let mut size = n as f64 / 1024.0;
    let mut unit = 0;
    // What rounds to 1024.0 is one of the next unit.
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_short() {
        let all = [0, 1, 1023, 1024, 1536, 1024 * 1024 - 1, 5 << 30];
        let shown = ["0 bytes", "1 byte", "1023 bytes", "1.0 KiB", "1.5 KiB", "1.0 MiB", "5.0 GiB"];
        assert_eq!(all.map(bytes), shown);
    }
}
