//! PeerJS's rules, one test each (`document`), its model under random stories (`model`), and its
//! codecs under any input (`codec_fuzz`). The fuzzer drives the last two.

pub(crate) mod codec_fuzz;
#[cfg(test)]
mod document;
pub(crate) mod model;
