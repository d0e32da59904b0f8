//! The page on which people try a protocol in a browser: the protocol's own elements and script ([`TryPage`]) in a
//! frame that is the same for all, with the connection, the access token, and the messages as they went.

use super::page::Page;
use super::response::Response;
use crate::base::host::{Host, parse_authority};
use crate::realm::{Body, Protocol, SettingMap, TryPage};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// The frame.
const DOCUMENT: &str = include_str!("document.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// What stands in the document for the protocol's title, for its name in the configuration, and for its elements.
const TITLE: &str = "{title}";
const NAME: &str = "{name}";
const ELEMENTS: &str = "{elements}";

/// The tag whose attributes tell the script about the listener.
const ROOT_TAG: &str = "<html lang=\"en\"";

/// What a URL's path has only percent-encoded (the path percent-encode set of the WHATWG's URL standard, and `%`).
const NOT_IN_PATHS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// What a listener says about access tokens to its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenField {
    /// It reads none.
    Absent,
    /// It reads those that there are.
    Optional,
    /// It demands one.
    Required,
}

/// The page of one listener.
pub(crate) struct ListenerTryPage {
    name: &'static str,
    parts: &'static TryPage,
    /// The path of the page, percent-decoded.
    path: String,
    /// The options that the script has to know, as JSON in an attribute.
    options: String,
    /// The page itself, which is put together when it is asked for: most listeners never are.
    page: OnceLock<Page>,
}

impl ListenerTryPage {
    /// Creates the page of a listener of this protocol with these options; `None`: the protocol has none.
    pub(crate) fn of(protocol: &'static Protocol, options: &SettingMap) -> Option<Self> {
        let parts = protocol.try_page.as_ref()?;
        let names = parts.options.iter().copied();
        let known = names.filter_map(|name| Some((name.to_owned(), options.get(name)?.clone())));
        let known = Value::Object(known.collect::<Map<_, _>>());
        Some(Self {
            name: protocol.name,
            parts,
            path: decoded(&(parts.path)(options)).into_owned(),
            options: escape_attribute(&known.to_string()),
            page: OnceLock::new(),
        })
    }

    /// Returns the path of the page, as URLs have it.
    pub(crate) fn path(&self) -> String {
        utf8_percent_encode(&self.path, NOT_IN_PATHS).to_string()
    }

    /// Returns whether the page is at this path of a request.
    pub(crate) fn is_at(&self, path: &str) -> bool {
        decoded(path) == self.path
    }

    /// Returns the page for a request with this Host header.
    pub(crate) fn response(&self, host: Option<&str>, tokens: TokenField) -> Response {
        let page = self
            .page
            .get_or_init(|| put_together(self.name, self.parts));
        let tokens = match tokens {
            TokenField::Absent => "absent",
            TokenField::Optional => "optional",
            TokenField::Required => "required",
        };
        let attributes = format!(
            " data-tokens=\"{tokens}\" data-options=\"{}\"",
            self.options
        );
        let tag = page.html.find(ROOT_TAG).expect("the document has it");
        let at = tag + ROOT_TAG.len();
        let mut body = Body::default();
        body.push(&page.html, 0..at);
        body.push(&Arc::from(attributes.as_str()), 0..attributes.len());
        body.push(&page.html, at..page.html.len());
        page.response(body, &connect_src(host))
            .with_header("X-Content-Type-Options", "nosniff")
            .with_header("Cache-Control", "no-store")
    }
}

fn put_together(name: &str, parts: &TryPage) -> Page {
    let document = DOCUMENT
        .replace(TITLE, parts.title)
        .replace(NAME, name)
        .replace(ELEMENTS, parts.html);
    Page::new(&document, STYLE, &format!("{SCRIPT}{}", parts.script))
}

fn decoded(path: &str) -> Cow<'_, str> {
    percent_decode_str(path).decode_utf8_lossy()
}

/// Returns the sources of a policy that are the listener itself, by the name in the Host header. `'self'` is enough for
/// HTTP, and in new browsers for WebSockets; the others are for those where it is not. A policy has no IPv6 addresses.
fn connect_src(host: Option<&str>) -> String {
    match host.and_then(parse_authority) {
        Some((Host::Ip(IpAddr::V6(_)), _)) | None => "'self'".to_owned(),
        Some((host, port)) => {
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            format!("'self' ws://{host}{port} wss://{host}{port}")
        }
    }
}

/// Returns a text as the value of an attribute in double quotes.
fn escape_attribute(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::http::page::tests::assert_is_safe;
    use crate::protocols::PROTOCOLS;

    #[test]
    fn the_pages_load_nothing_and_their_policies_have_the_hashes_of_what_is_in_them() {
        for protocol in PROTOCOLS {
            let parts = protocol.try_page.as_ref();
            let page = parts.map(|parts| put_together(protocol.name, parts));
            page.iter().for_each(assert_is_safe);
        }
    }
}
