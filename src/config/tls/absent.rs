//! What stands for certificates in a build without TLS: there is none.

use crate::realm::setting_types::ValueError;
use std::time::SystemTime;

/// A certificate with its key, of which there is none.
pub(super) enum Identity {}

impl Identity {
    /// Why there is none.
    pub(super) const MISSING: Option<&'static str> = Some(
        "this build has no TLS; install a package of switchboard, build it with \"cargo build --release --features tls\", or \
         leave this out and put a proxy in front that ends TLS",
    );

    pub(super) fn read(_: &str, _: &str) -> Result<Self, ValueError> {
        Err(Self::MISSING.unwrap_or_default().into())
    }

    pub(super) fn stamp(&self) -> Stamp {
        match *self {}
    }

    pub(super) fn not_before(&self) -> SystemTime {
        match *self {}
    }

    pub(super) fn not_after(&self) -> SystemTime {
        match *self {}
    }

    pub(super) fn is_same(&self, _: &Self) -> bool {
        match *self {}
    }
}

/// The state of files, of which there are none.
#[derive(Clone, PartialEq)]
pub(crate) struct Stamp;

impl Stamp {
    pub(super) fn of(_: &str, _: &str) -> Self {
        Self
    }
}
