//! The table of protocols. A new protocol is one folder here, its `mod` and one line in the table.

pub mod fastchat;
pub mod loudsync;
pub mod peerdrop;
pub mod peerjs;
pub mod workspace;

use crate::realm::Protocol;

/// Declares the table of protocols and, for tests and the fuzzer, the table of their fuzz targets.
macro_rules! table {
    ($($folder:ident),* $(,)?) => {
        /// All protocols that the configuration can name.
        pub static PROTOCOLS: &[&Protocol] = &[$(&$folder::PROTOCOL),*];

        /// What tests and the fuzzer run of each protocol, in the order of [`PROTOCOLS`].
        #[cfg(any(test, fuzzing))]
        pub(crate) static FUZZ_TARGETS: &[crate::testing::ProtocolFuzzTargets] =
            &[$($folder::tests::FUZZ_TARGETS),*];
    };
}

table! {
    peerdrop,
    fastchat,
    workspace,
    loudsync,
    peerjs,
}

/// Returns the protocol of this name, whatever its case.
pub fn by_name(name: &str) -> Option<&'static Protocol> {
    let mut protocols = PROTOCOLS.iter().copied();
    protocols.find(|protocol| protocol.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::close::CloseReason;
    use crate::realm::SettingMap;
    use crate::testing::harness::{RealmHarness, no_lines};
    use serde_json::json;

    /// The close reasons that a client of each protocol can be given.
    fn reasons() -> impl Iterator<Item = Vec<CloseReason>> {
        let of = |protocol: &&Protocol| [protocol.close_reasons, &CloseReason::COMMON].concat();
        PROTOCOLS.iter().map(of)
    }

    #[test]
    fn the_same_options_change_nothing() {
        for protocol in PROTOCOLS {
            let mut harness = RealmHarness::of(protocol);
            let endpoint = (protocol.endpoint)(&SettingMap::new());
            harness.open(1, &format!("{endpoint}?key=peerjs&id=a&token=a"));
            assert_eq!(harness.reconfigure(json!({})), no_lines());
            assert!(harness.open_connections().eq([1]));
        }
    }

    #[test]
    fn codes_are_sorted_and_in_the_ranges_of_the_rfc() {
        let lists = PROTOCOLS.iter().map(|protocol| protocol.close_reasons);
        for list in lists.chain([&CloseReason::COMMON[..]]) {
            let codes: Vec<u16> = list.iter().map(|reason| reason.code()).collect();
            assert!(codes.is_sorted(), "{codes:?}");
            let is_valid = |code| matches!(code, 1000..=1014 | 4000..=4999);
            assert!(codes.into_iter().all(is_valid));
        }
    }

    #[test]
    fn reasons_fit_a_close_frame_and_are_distinct() {
        for reasons in reasons() {
            for (index, reason) in reasons.iter().enumerate() {
                let text = reason.reason();
                assert!(text.len() <= 123);
                let mut others = reasons[index + 1..].iter();
                assert!(others.all(|other| other.reason() != text), "{text}");
            }
        }
    }
}
