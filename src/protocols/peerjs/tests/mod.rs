//! Tests of PeerJS: one per rule of its document (`document`), a model that is checked against random
//! sequences of steps (`model`), and the codec on arbitrary input (`codec_fuzz`). The fuzzer runs the
//! last two.

pub(crate) mod codec_fuzz;
#[cfg(test)]
mod document;
pub(crate) mod model;

crate::testing::fuzz_targets!(model::World, codec_fuzz::decode_all);
