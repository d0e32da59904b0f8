//! What a fuzzer drives: functions that take any octets and panic where a rule is broken.
//!
//! The programs that libFuzzer runs are in `fuzz/fuzz_targets`, a line each, and inputs that are worth
//! keeping in `fuzz/seeds`. A test feeds all of those to their functions without any fuzzer, so that what
//! was found once stays found.
//!
//! There are three kinds. Some give octets to a function that reads them, such as [`request`]. Those of
//! `reading` give lines to a protocol's `decode`. Those of `walk` read a story, who comes, says what and
//! goes, and act it at a realm's desk, where the models of the random walks look on.

mod fuzz_request;
mod fuzz_toolkit;
#[cfg_attr(
    fuzzing,
    allow(dead_code, reason = "the tests need more of it than the fuzzer")
)]
pub(crate) mod harness;
mod input;
pub(crate) mod model;
#[cfg(test)]
pub(crate) mod spec_table;

pub use fuzz_request::request;
pub use fuzz_toolkit::{configuration, frame_tracker, sanitize, token};
pub(crate) use input::{Input, messages};

/// A function that takes any octets.
pub type Target = fn(&[u8]);

/// All of them, by the names of their programs and of the folders of their seeds.
pub const TARGETS: [(&str, Target); 15] = [
    ("frame_tracker", frame_tracker),
    ("configuration", configuration),
    ("fastchat_messages", fastchat_messages),
    ("fastchat_model", fastchat_model),
    ("loudsync_messages", loudsync_messages),
    ("loudsync_model", loudsync_model),
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

/// FastChat reads a client's messages.
pub fn fastchat_messages(bytes: &[u8]) {
    crate::protocols::fastchat::tests::codec_fuzz::read_all(bytes);
}

/// FastChat's clients do what the story says.
pub fn fastchat_model(bytes: &[u8]) {
    crate::protocols::fastchat::tests::model::run(bytes);
}

/// LOUDSYNC reads a client's messages.
pub fn loudsync_messages(bytes: &[u8]) {
    crate::protocols::loudsync::tests::codec_fuzz::read_all(bytes);
}

/// LOUDSYNC's clients do what the story says.
pub fn loudsync_model(bytes: &[u8]) {
    crate::protocols::loudsync::tests::model::run(bytes);
}

/// PeerDrop reads a client's messages.
pub fn peerdrop_messages(bytes: &[u8]) {
    crate::protocols::peerdrop::tests::codec_fuzz::read_all(bytes);
}

/// PeerDrop's clients do what the story says.
pub fn peerdrop_model(bytes: &[u8]) {
    crate::protocols::peerdrop::tests::model::run(bytes);
}

/// PeerJS reads a client's messages.
pub fn peerjs_messages(bytes: &[u8]) {
    crate::protocols::peerjs::tests::codec_fuzz::read_all(bytes);
}

/// PeerJS's clients do what the story says.
pub fn peerjs_model(bytes: &[u8]) {
    crate::protocols::peerjs::tests::model::run(bytes);
}

/// Workspace reads a client's messages.
pub fn workspace_messages(bytes: &[u8]) {
    crate::protocols::workspace::tests::codec_fuzz::read_all(bytes);
}

/// Workspace's clients do what the story says.
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
            for (at, byte) in damage.iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            target(&bytes);
        }
    }
}
