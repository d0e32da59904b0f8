//! FastChat's rules, one test each (`document`, `flat`, `tokens`), its published page and the server side by side
//! (`page_model`), its state under random sequences of steps (`model`) and its codecs under any input
//! (`codec_fuzz`). The fuzzer drives the last two.

pub(crate) mod codec_fuzz;
#[cfg(test)]
mod document;
#[cfg(test)]
mod flat;
pub(crate) mod model;
#[cfg(test)]
mod page_model;
#[cfg(test)]
mod tokens;

crate::testing::fuzz_targets!(model::World, codec_fuzz::decode_all);
