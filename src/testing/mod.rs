//! Test support: a harness for realms, and the fuzz targets, which are functions that take any bytes and
//! panic if a rule is broken.
//!
//! The programs that libFuzzer runs are in `fuzz/fuzz_targets`, one line each; inputs worth keeping are in
//! `fuzz/seeds`. A test runs the targets on all seeds without a fuzzer, so a fault that was found once stays
//! fixed.
//!
//! There are three kinds of targets. Some pass bytes to a function that parses them, such as [`request`]. The
//! `*_messages` targets (`codec_fuzz`) pass lines to a protocol's `decode`. The `*_model` targets (`model`)
//! read a story of clients that connect, send and disconnect, replay it in a
//! [`RealmHarness`](harness::RealmHarness), and compare the realm with a model.

mod fuzz_origins;
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

pub use fuzz_origins::origins;
pub use fuzz_request::request;
pub use fuzz_toolkit::{configuration, frame_tracker, sanitize, token};
pub(crate) use input::{Input, messages};

/// A fuzz target: takes any bytes, and panics if a rule is broken.
pub type Target = fn(&[u8]);

/// All fuzz targets with their names, which are also those of their programs and of their folders of seeds.
pub const TARGETS: [(&str, Target); 16] = [
    ("frame_tracker", frame_tracker),
    ("configuration", configuration),
    ("fastchat_messages", fastchat_messages),
    ("fastchat_model", fastchat_model),
    ("loudsync_messages", loudsync_messages),
    ("loudsync_model", loudsync_model),
    ("origins", origins),
    ("peerdrop_messages", peerdrop_messages),
    ("peerdrop_model", peerdrop_model),
    ("peerjs_messages", peerjs_messages),
    ("peerjs_model", peerjs_model),
    ("request", request),
    ("sanitize", sanitize),
    ("token", token),
    ("workspace_messages", workspace_messages),
    ("workspace_model", workspace_model),
];

/// Decodes a FastChat client's messages.
pub fn fastchat_messages(bytes: &[u8]) {
    crate::protocols::fastchat::tests::codec_fuzz::decode_all(bytes);
}

/// Replays a story of FastChat clients.
pub fn fastchat_model(bytes: &[u8]) {
    crate::protocols::fastchat::tests::model::run(bytes);
}

/// Decodes a LOUDSYNC client's messages.
pub fn loudsync_messages(bytes: &[u8]) {
    crate::protocols::loudsync::tests::codec_fuzz::decode_all(bytes);
}

/// Replays a story of LOUDSYNC clients.
pub fn loudsync_model(bytes: &[u8]) {
    crate::protocols::loudsync::tests::model::run(bytes);
}

/// Decodes a PeerDrop client's messages.
pub fn peerdrop_messages(bytes: &[u8]) {
    crate::protocols::peerdrop::tests::codec_fuzz::decode_all(bytes);
}

/// Replays a story of PeerDrop clients.
pub fn peerdrop_model(bytes: &[u8]) {
    crate::protocols::peerdrop::tests::model::run(bytes);
}

/// Decodes a PeerJS client's messages.
pub fn peerjs_messages(bytes: &[u8]) {
    crate::protocols::peerjs::tests::codec_fuzz::decode_all(bytes);
}

/// Replays a story of PeerJS clients.
pub fn peerjs_model(bytes: &[u8]) {
    crate::protocols::peerjs::tests::model::run(bytes);
}

/// Decodes a Workspace client's messages.
pub fn workspace_messages(bytes: &[u8]) {
    crate::protocols::workspace::tests::codec_fuzz::decode_all(bytes);
}

/// Replays a story of Workspace clients.
pub fn workspace_model(bytes: &[u8]) {
    crate::protocols::workspace::tests::model::run(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    fn within_fuzz(folder: &str) -> PathBuf {
        [env!("CARGO_MANIFEST_DIR"), "fuzz", folder]
            .iter()
            .collect()
    }

    fn names(folder: &str) -> BTreeSet<String> {
        let entries = std::fs::read_dir(within_fuzz(folder)).unwrap();
        let name = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        entries.map(|entry| name(entry.unwrap().path())).collect()
    }

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let files = std::fs::read_dir(within_fuzz("seeds").join(target)).unwrap();
        let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        files
            .iter()
            .map(|file| std::fs::read(file).unwrap())
            .collect()
    }

    #[test]
    fn every_target_has_a_program_and_seeds() {
        let targets: BTreeSet<String> = TARGETS.map(|(name, _)| name.to_owned()).into();
        assert_eq!(names("fuzz_targets"), targets);
        let manifest = std::fs::read_to_string(within_fuzz("Cargo.toml")).unwrap();
        for target in &targets {
            let path = format!("fuzz_targets/{target}.rs");
            assert!(manifest.contains(&format!("path = \"{path}\"")), "{path}");
            let program = std::fs::read_to_string(within_fuzz(&path)).unwrap();
            assert!(
                program.contains(&format!("testing::{target}(bytes)")),
                "{path}"
            );
        }
        assert_eq!(names("seeds"), targets);
    }

    #[test]
    fn no_seed_breaks_a_rule() {
        for (name, target) in TARGETS {
            let seeds = seeds(name);
            assert!(!seeds.is_empty(), "{name} has no seeds");
            seeds.iter().for_each(|seed| target(seed));
        }
    }

    proptest! {
        #[test]
        fn no_damaged_seed_breaks_a_rule(
            (target, pick) in (0..TARGETS.len(), any::<prop::sample::Index>()),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let (name, target) = TARGETS[target];
            let seeds = seeds(name);
            let mut bytes = pick.get(&seeds).clone();
            for (index, byte) in damage.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
                let index = index.index(bytes.len());
                bytes[index] = *byte;
            }
            target(&bytes);
        }
    }
}
