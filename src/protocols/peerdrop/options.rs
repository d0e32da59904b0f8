//! The options of a PeerDrop listener in the configuration.

use crate::realm::setting_list::settings;

/// Greatest length of a code.
pub(super) const MAX_CODE_LENGTH: u8 = 12;

settings! {
    /// The options of a PeerDrop listener in the configuration. Their upper limits bound the table of wrong codes,
    /// which holds all of a minute.
    pub struct Options {
        /// Length of a code. After a reload the codes that are in use stay as they are.
        pub(super) code_length: u8 = 6, "characters", 4..=u64::from(MAX_CODE_LENGTH);

        /// Wrong codes in a minute from one IPv4 address or IPv6 /64 network, at which its joins are rejected for a
        /// minute with Close 4429. From a /56 network four times as many, from a /48 sixteen times as many. Creating is
        /// still allowed. 0: no limit.
        pub(super) wrong_codes_per_minute: u32 = 10, "codes", ..=1000;

        /// Wrong codes in a minute of all clients together, above which each join, right or wrong, waits for a second
        /// before its code is looked up. 0: no limit.
        pub(super) total_wrong_codes_per_minute: u32 = 1000, "codes", ..=10_000;

        /// Joins that wait at a time because of `total_wrong_codes_per_minute`. Above it: Close 4429.
        pub(super) max_waiting_joins: u32 = 200, "joins", 1..=1000;

        /// Joins of one IPv4 address or IPv6 /56 network that wait at a time. Above it: Close 4429.
        pub(super) max_waiting_joins_per_ip: u32 = 4, "joins", 1..=1000;
    }
}
