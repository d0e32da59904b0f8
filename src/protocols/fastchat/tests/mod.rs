//! FastChat's rules, one test each (`access`, `document`, `flat`), its published page and the server side by side
//! (`page_model`), its state under random sequences of steps (`model`) and its codecs under any input
//! (`codec_fuzz`). The fuzzer drives the last two.

#[cfg(test)]
mod access;
pub(crate) mod codec_fuzz;
#[cfg(test)]
mod document;
#[cfg(test)]
mod flat;
pub(crate) mod model;
#[cfg(test)]
mod page_model;

crate::testing::fuzz_targets!(model::World, codec_fuzz::decode_all);
