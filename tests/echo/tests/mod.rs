//! Echo's rules (`document`), its state under random stories (`model`), and its decoder on arbitrary input
//! (`codec_fuzz`).

pub(crate) mod codec_fuzz;
#[cfg(test)]
mod document;
pub(crate) mod model;

crate::testing::fuzz_targets!(model::World, codec_fuzz::decode_all);
