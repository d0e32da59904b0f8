//! Pages for browsers: each is one document with its style and its script within, and may load nothing else.

use crate::net::http::response::Response;
use crate::realm::Body;
use data_encoding::BASE64;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Colours, texts and signs of all pages.
const BASE_STYLE: &str = include_str!("base.css");

/// What stands in a document for the style and the script.
const STYLE_LINK: &str = "<link rel=\"stylesheet\" href=\"style.css\">";
const SCRIPT_LINK: &str = "<script src=\"script.js\"></script>";

/// A page.
pub(crate) struct Page {
    pub(crate) html: Arc<str>,
    /// The sources of the `Content-Security-Policy` by which a browser knows the style and the script.
    style_hash: String,
    script_hash: String,
}

impl Page {
    /// Puts a page together. The document has a link to the style and one to the script, which are files of their own
    /// for those who write them.
    pub(crate) fn new(document: &str, style: &str, script: &str) -> Self {
        let style = format!("{BASE_STYLE}{style}");
        let html = document
            .replace(STYLE_LINK, &format!("<style>{style}</style>"))
            .replace(SCRIPT_LINK, &format!("<script>{script}</script>"));
        Self {
            html: html.into(),
            style_hash: hash(&style),
            script_hash: hash(script),
        }
    }

    /// Returns the page as a response. `body` is its [`html`](Self::html), in which attributes may be added;
    /// `connect_src` are the addresses that its script may connect to.
    pub(crate) fn response(&self, body: Body, connect_src: &str) -> Response {
        let policy = format!(
            "default-src 'none'; script-src '{}'; style-src '{}'; connect-src {connect_src}; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
            self.script_hash, self.style_hash
        );
        Response::ok("text/html; charset=utf-8", body)
            .with_header("Content-Security-Policy", policy)
            .with_header("Referrer-Policy", "no-referrer")
    }
}

/// Returns the source by which a policy admits this script or style (CSP Level 3 section 2.3.1).
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64.encode(&Sha256::digest(text)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns what is between the only `<name>` of a document and its end.
    pub(crate) fn inside<'a>(html: &'a str, name: &str) -> &'a str {
        let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
        let pieces: Vec<&str> = html.split(&begin).collect();
        assert_eq!(pieces.len(), 2, "one <{name}>");
        let (inside, rest) = pieces[1].split_once(&end).unwrap();
        assert!(!rest.contains(&end), "one </{name}>");
        inside
    }

    /// Fails unless the policy of a page admits its style and its script and nothing else, the page names nothing that
    /// could be loaded, and its script writes text as text only.
    pub(crate) fn assert_is_safe(page: &Page) {
        for (hash, element) in [(&page.script_hash, "script"), (&page.style_hash, "style")] {
            let expected = BASE64.encode(&Sha256::digest(inside(&page.html, element)));
            assert_eq!(hash, &format!("sha256-{expected}"), "{element}");
        }
        let namespace = "http://www.w3.org/2000/svg";
        let html = page.html.replace(namespace, "");
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
        for name in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
            "cookie",
        ] {
            assert!(!page.html.contains(name), "{name}");
        }
    }
}
