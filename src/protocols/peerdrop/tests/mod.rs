//! Tests of PeerDrop: one per rule of its document (`document`) and of access tokens (`access`), a model that is
//! checked against random sequences of steps (`model`), and the codec on arbitrary input (`codec_fuzz`). The
//! fuzzer runs the last two.

#[cfg(test)]
mod access;
pub(crate) mod codec_fuzz;
#[cfg(test)]
mod document;
pub(crate) mod model;

crate::testing::fuzz_targets!(model::World, codec_fuzz::decode_all);
