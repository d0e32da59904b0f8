//! Tests of LOUDSYNC: its rules one by one (`access`, `document`, `upper_case`, `static_sessions`), the realm under
//! random sequences of client actions (`model`), and the codecs under any input (`codec_fuzz`). The fuzzer runs the
//! last two.

#[cfg(test)]
mod access;
pub(crate) mod codec_fuzz;
#[cfg(test)]
mod document;
pub(crate) mod model;
#[cfg(test)]
mod static_sessions;
#[cfg(test)]
mod upper_case;

crate::testing::fuzz_targets!(model::World, codec_fuzz::decode_all);
