//! The status page: one document that loads nothing but `/status`, and shows it.

use crate::net::http::response::Response;
use data_encoding::BASE64;
use sha2::{Digest, Sha256};
use std::sync::{Arc, LazyLock};

/// The document. Its style and script are files of their own for those who write them.
const DOCUMENT: &str = include_str!("index.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// What stands in the document for the style and the script.
const STYLE_LINK: &str = "<link rel=\"stylesheet\" href=\"style.css\">";
const SCRIPT_LINK: &str = "<script src=\"script.js\"></script>";

static PAGE: LazyLock<Page> = LazyLock::new(Page::new);

struct Page {
    html: Arc<str>,
    /// The `Content-Security-Policy`: what the page may load and do.
    policy: String,
}

impl Page {
    fn new() -> Self {
        let html = DOCUMENT
            .replace(STYLE_LINK, &format!("<style>{STYLE}</style>"))
            .replace(SCRIPT_LINK, &format!("<script>{SCRIPT}</script>"));
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            hash(SCRIPT),
            hash(STYLE)
        );
        Self {
            html: html.into(),
            policy,
        }
    }
}

/// Returns the name by which a policy admits this script or style (CSP Level 3 section 2.3.1).
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(&Sha256::digest(text)))
}

/// Returns the page.
pub(super) fn response() -> Response {
    Response::ok("text/html; charset=utf-8", Arc::clone(&PAGE.html).into())
        .with_header("Content-Security-Policy", PAGE.policy.as_str())
        .with_header("Referrer-Policy", "no-referrer")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what is between the only `<name>` and its end.
    fn inside(name: &str) -> &'static str {
        let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
        let html: &'static str = &PAGE.html;
        let pieces: Vec<&str> = html.split(&begin).collect();
        assert_eq!(pieces.len(), 2, "one <{name}>");
        let (inside, rest) = pieces[1].split_once(&end).unwrap();
        assert!(!rest.contains(&end), "one </{name}>");
        inside
    }

    #[test]
    fn the_policy_has_the_hashes_of_what_is_in_the_page() {
        for (directive, element) in [("script-src", "script"), ("style-src", "style")] {
            let hash = BASE64.encode(&Sha256::digest(inside(element)));
            let expected = format!("; {directive} 'sha256-{hash}'; ");
            assert!(PAGE.policy.contains(&expected), "{}", PAGE.policy);
        }
    }

    #[test]
    fn the_page_names_nothing_that_could_be_loaded() {
        let namespace = "http://www.w3.org/2000/svg";
        let html = PAGE.html.replace(namespace, "");
        for name in [
            "src=",
            "href=\"style",
            "url(",
            "@import",
            "http://",
            "https://",
            "style=\"",
        ] {
            assert!(!html.contains(name), "{name}");
        }
    }

    #[test]
    fn the_script_writes_text_as_text_only() {
        for name in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "cookie",
        ] {
            assert!(!SCRIPT.contains(name), "{name}");
        }
    }
}
