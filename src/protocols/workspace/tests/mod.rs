//! Tests of Workspace: its rules one by one (`document`, which has the table of all, and `access`, `announcements`, `takeovers`,
//! `texts`), a model with random clients (`model`), and its
//! codecs with arbitrary input (`codec_fuzz`). The fuzzer runs the last two.

#[cfg(test)]
mod access;
#[cfg(test)]
mod announcements;
pub(crate) mod codec_fuzz;
#[cfg(test)]
mod document;
pub(crate) mod model;
#[cfg(test)]
mod takeovers;
#[cfg(test)]
mod texts;

crate::testing::fuzz_targets!(model::World, codec_fuzz::decode_all);
