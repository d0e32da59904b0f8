//! The status page: one document that loads nothing but `/status`, and shows it.

use crate::net::http::page::Page;
use crate::net::http::response::Response;
use std::sync::{Arc, LazyLock};

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    Page::new(
        include_str!("index.html"),
        include_str!("style.css"),
        include_str!("script.js"),
    )
});

/// Returns the page.
pub(super) fn response() -> Response {
    PAGE.response(Arc::clone(&PAGE.html).into(), "'self'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::http::page::tests::assert_is_safe;

    #[test]
    fn the_page_loads_nothing_and_its_policy_has_the_hashes_of_what_is_in_it() {
        assert_is_safe(&PAGE);
    }
}
