//! Tests of Workspace: its rules one by one (`document`), a model with random clients (`model`), and its
//! codecs with arbitrary input (`codec_fuzz`). The fuzzer runs the last two.

pub(crate) mod codec_fuzz;
#[cfg(test)]
mod document;
pub(crate) mod model;
