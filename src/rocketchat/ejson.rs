//! Rocket.Chat's three ways to write a moment: EJSON `{"$date": ms}` over DDP, ISO 8601 over REST, and bare
//! milliseconds here and there.
//!
//! Must not: fail. What is no moment is `None`.

use jiff::Timestamp;
use serde_json::Value;

/// The moment that `value` stands for.
pub fn timestamp(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Object(map) => map.get("$date").and_then(millis),
        Value::String(text) => text.parse().ok(),
        Value::Number(_) => millis(value),
        _ => None,
    }
}

fn millis(value: &Value) -> Option<Timestamp> {
    let ms = value.as_i64().or_else(|| {
        // Beyond 2^53 a double is no millisecond; the cast saturates and jiff refuses what is out of range.
        value.as_f64().filter(|ms| ms.is_finite()).map(|ms| ms as i64)
    })?;
    Timestamp::from_millisecond(ms).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_way_to_write_a_moment_is_understood() {
        let expected = Timestamp::from_millisecond(1_795_377_351_347).expect("in range");
        for value in [
            json!({"$date": 1_795_377_351_347_i64}),
            json!(1_795_377_351_347_i64),
            json!(1_795_377_351_347.0),
            json!("2026-11-22T19:55:51.347Z"),
        ] {
            assert_eq!(timestamp(&value), Some(expected), "{value}");
        }
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for value in [
            json!(null),
            json!({"$date": null}),
            json!({}),
            json!([]),
            json!("yesterday"),
            json!(1e300),
            json!(i64::MAX),
            json!({"$date": {"$date": 1}}),
        ] {
            assert_eq!(timestamp(&value), None, "{value}");
        }
    }
}
