//! Test support: a harness for realms, and the fuzz targets, which are functions that take any bytes and
//! panic if a rule is broken.
//!
//! The program that libFuzzer runs is `fuzz/fuzz_targets/target.rs`; inputs worth keeping are in folders of seeds. A
//! test runs the targets on all seeds without a fuzzer, so a fault that was found once stays fixed.
//!
//! There are three kinds of targets. Some pass bytes to a function that parses them, such as [`request`]. The
//! `*_messages` targets (`codec_fuzz`) pass lines to a protocol's `decode`. The `*_model` targets (`model`)
//! read a story of clients that connect, send and disconnect, replay it in a
//! [`RealmHarness`](harness::RealmHarness), and compare the realm with a model. The last two are those of each
//! protocol in the table.

mod fuzz_origins;
mod fuzz_proxy;
mod fuzz_request;
mod fuzz_toolkit;
#[cfg_attr(fuzzing, allow(dead_code, reason = "the fuzzer uses only part of it"))]
pub(crate) mod harness;
mod input;
#[cfg(test)]
mod layers;
pub(crate) mod model;
#[cfg(test)]
pub(crate) mod spec_table;

use crate::protocols;
use fuzz_origins::origins;
use fuzz_proxy::proxy_header;
use fuzz_request::request;
use fuzz_toolkit::{configuration, frame_tracker, sanitize, token};
pub(crate) use input::{Input, messages};
use model::Model;
use std::sync::LazyLock;

/// A fuzz target's function: takes any bytes, and panics if a rule is broken.
type FuzzFn = fn(&[u8]);

/// The targets that are about no protocol, with their names, which are also those of their folders in `fuzz/seeds`.
const PARSERS: [(&str, FuzzFn); 7] = [
    ("configuration", configuration),
    ("frame_tracker", frame_tracker),
    ("origins", origins),
    ("proxy_header", proxy_header),
    ("request", request),
    ("sanitize", sanitize),
    ("token", token),
];

/// What the fuzzer and the tests run of a protocol. [`fuzz_targets!`] declares it in the protocol's folder, and the
/// table of protocols finds it there.
pub(crate) struct ProtocolFuzzTargets {
    /// Decodes a client's messages, one per line.
    messages: FuzzFn,
    /// Runs a story in the protocol's model.
    model: FuzzFn,
}

impl ProtocolFuzzTargets {
    pub(crate) const fn of<M: Model>(messages: FuzzFn) -> Self {
        Self {
            messages,
            model: model::run::<M>,
        }
    }
}

/// Declares what the fuzzer and the tests run of a protocol: its [`Model`], and the function that decodes a client's
/// messages. Belongs into `src/protocols/NAME/tests/mod.rs`.
///
/// Also declares the test that runs random stories in the model. It is in the protocol's folder, so that a failure
/// names the protocol, the models run side by side, and `cargo test --lib NAME` includes the protocol's own.
macro_rules! fuzz_targets {
    ($model:ty, $decode_all:path) => {
        /// What the fuzzer and the tests run of this protocol.
        pub(crate) const FUZZ_TARGETS: crate::testing::ProtocolFuzzTargets =
            crate::testing::ProtocolFuzzTargets::of::<$model>($decode_all);

        #[test]
        fn the_model_holds_whatever_clients_do() {
            crate::testing::model::assert_holds::<$model>();
        }
    };
}
pub(crate) use fuzz_targets;

/// A fuzz target.
struct FuzzTarget {
    name: String,
    /// The folder of its seeds, in the repository.
    #[cfg_attr(
        fuzzing,
        allow(dead_code, reason = "only tests read them; fuzz/run has the same rule")
    )]
    seeds: String,
    run: FuzzFn,
}

/// Returns all fuzz targets.
fn all_fuzz_targets() -> Vec<FuzzTarget> {
    let parsers = PARSERS.iter().map(|&(name, run)| FuzzTarget {
        name: name.to_owned(),
        seeds: format!("fuzz/seeds/{name}"),
        run,
    });
    let of_protocols = protocols::PROTOCOLS.iter().zip(protocols::FUZZ_TARGETS);
    let of_protocols = of_protocols.flat_map(|(protocol, targets)| {
        [("messages", targets.messages), ("model", targets.model)].map(|(kind, run)| FuzzTarget {
            name: format!("{}_{kind}", protocol.name),
            seeds: format!("src/protocols/{}/tests/seeds/{kind}", protocol.name),
            run,
        })
    });
    parsers.chain(of_protocols).collect()
}

/// Runs the target that the environment variable `FUZZ_TARGET` names.
pub fn run_chosen_target(bytes: &[u8]) {
    static CHOSEN: LazyLock<FuzzFn> = LazyLock::new(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        let targets = all_fuzz_targets();
        let chosen = targets.iter().find(|target| target.name == name);
        let names = || -> Vec<&str> { targets.iter().map(|target| &*target.name).collect() };
        chosen.map_or_else(
            || panic!("FUZZ_TARGET must be one of {}", names().join(", ")),
            |target| target.run,
        )
    });
    CHOSEN(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Path, PathBuf};

    /// Returns the paths in a folder of the repository, in order; none if it does not exist.
    fn entries(folder: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
        let paths = entries.into_iter().flatten();
        let mut paths: Vec<PathBuf> = paths.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }

    fn seeds(target: &FuzzTarget) -> Vec<Vec<u8>> {
        let files = entries(&target.seeds);
        assert!(
            !files.is_empty(),
            "{} lacks inputs for the fuzz target {}: add at least one file, such as an example of the protocol's \
             document (fuzz/README.md)",
            target.seeds,
            target.name
        );
        files
            .iter()
            .map(|file| std::fs::read(file).unwrap())
            .collect()
    }

    #[test]
    fn every_folder_of_seeds_has_a_target() {
        let of_protocols = entries("src/protocols").into_iter().flat_map(|protocol| {
            let name = protocol.file_name().unwrap().to_str().unwrap().to_owned();
            entries(&format!("src/protocols/{name}/tests/seeds"))
        });
        let targets = all_fuzz_targets();
        for folder in entries("fuzz/seeds").into_iter().chain(of_protocols) {
            assert!(
                targets.iter().any(|target| folder.ends_with(&target.seeds)),
                "{} belongs to no fuzz target: those of a protocol are in its tests/seeds/messages and model, \
                 others have the name of a function in PARSERS",
                folder.display()
            );
        }
    }

    #[test]
    fn no_seed_breaks_a_rule() {
        for target in all_fuzz_targets() {
            seeds(&target).iter().for_each(|seed| (target.run)(seed));
        }
    }

    proptest! {
        #[test]
        fn no_damaged_seed_breaks_a_rule(
            (target, pick) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let targets = all_fuzz_targets();
            let target = target.get(&targets);
            let seeds = seeds(target);
            let mut bytes = pick.get(&seeds).clone();
            for (index, byte) in damage.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
                let index = index.index(bytes.len());
                bytes[index] = *byte;
            }
            (target.run)(&bytes);
        }
    }
}
