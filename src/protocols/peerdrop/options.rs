//! The options of a PeerDrop listener in the configuration.

use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The options of a PeerDrop listener in the configuration.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Characters in a code.
    pub(super) code_length: u8,
    /// Wrong codes per minute from one IPv4 address or IPv6 /64, at which it may not join for a minute; four
    /// times as many from a /56, sixteen times as many from a /48; 0: no limit.
    pub(super) wrong_codes_per_minute: u32,
    /// Wrong codes per minute from all clients together, above which joins wait for a second; 0: no limit.
    pub(super) total_wrong_codes_per_minute: u32,
    /// Joins that wait at a time.
    pub(super) max_waiting_joins: u32,
    /// Joins of one IPv4 address or IPv6 /56 that wait at a time.
    pub(super) max_waiting_joins_per_ip: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            code_length: 6,
            wrong_codes_per_minute: 10,
            total_wrong_codes_per_minute: 1000,
            max_waiting_joins: 200,
            max_waiting_joins_per_ip: 4,
        }
    }
}

impl Options {
    /// Checks the range of each option. The upper limits bound the table of wrong codes, which holds all of a
    /// minute.
    ///
    /// # Errors
    /// The first option that is out of range, as [`Realm::new`](crate::realm::Realm::new) returns it.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        check("code_length", self.code_length.into(), 4..=12, "characters")?;
        for (key, value, range, unit) in [
            (
                "wrong_codes_per_minute",
                self.wrong_codes_per_minute,
                0..=1000,
                "codes",
            ),
            (
                "total_wrong_codes_per_minute",
                self.total_wrong_codes_per_minute,
                0..=10_000,
                "codes",
            ),
            (
                "max_waiting_joins",
                self.max_waiting_joins,
                1..=1000,
                "joins",
            ),
            (
                "max_waiting_joins_per_ip",
                self.max_waiting_joins_per_ip,
                1..=1000,
                "joins",
            ),
        ] {
            check(key, value, range, unit)?;
        }
        Ok(())
    }
}

fn check(
    key: &'static str,
    value: u32,
    range: RangeInclusive<u32>,
    unit: &str,
) -> Result<(), (&'static str, String)> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err((
        key,
        format!("must be {least} to {most} {unit}, not {value}"),
    ))
}
