//! The figures that a realm shows an operator.

/// How much a realm has, and how often it has refused a client for being too fast.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Numbers of what the realm keeps, by names in the protocol's terms, such as `users`: lower case, with
    /// underscores. Always the same names in the same order.
    pub sizes: Vec<(&'static str, usize)>,
    /// Messages and connections that were refused because their client was above a rate limit, since the start.
    pub rate_limited: u64,
}
