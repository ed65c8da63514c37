//! A moment with the time zone in which it was meant, as rows keep it: the moment stays what it was, whatever becomes of
//! the rules of its zone, which come with the machine's zone data and change several times a year.
//!
//! Must not: refuse what tells a moment. A row that cannot be read would keep Houston from starting.

use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{OffsetConflict, TimeZone};
use jiff::{Timestamp, Zoned};
use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de};

/// What is written as `17:00+01:00[Europe/Lisbon]` was 16:00 UTC, whatever Lisbon's clocks say then.
const PARSER: DateTimeParser = DateTimeParser::new().offset_conflict(OffsetConflict::AlwaysOffset);

pub(super) fn serialize<S: Serializer>(at: &Zoned, to: S) -> Result<S::Ok, S::Error> {
    at.serialize(to)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Zoned, D::Error> {
    let written = String::deserialize(from)?;
    // Of a zone that is not known here the offset is left.
    let by_offset = || written.parse::<Timestamp>().map(|at| at.to_zoned(TimeZone::UTC));
    PARSER.parse_zoned(&written).or_else(|_| by_offset()).map_err(de::Error::custom)
}
