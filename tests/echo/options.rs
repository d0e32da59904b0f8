//! The options of an Echo listener in the configuration.

use crate::realm::setting_list::settings;

settings! {
    /// The options of an Echo listener.
    pub struct Options {
        /// Texts that a connection has sent back to it, before it is closed with 4429.
        pub(super) max_echoes: u32 = 1000, "texts", 1..;
    }
}
