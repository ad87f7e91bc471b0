//! The pages. The first one is one file without anything from elsewhere; the others are built from `ui/`, whose `dist`
//! `build.rs` embeds. All speak only the public API, by relative addresses.

mod assets;

#[cfg(test)]
pub(super) use assets::ASSETS;
pub(super) use assets::{asset, graph, licenses, query};

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};

const INDEX: &str = include_str!("index.html");
const FAVICON: &[u8] = include_bytes!("favicon.ico");

/// Everything that the page runs stands in it, and it talks to nobody but its server.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
     img-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'",
);

pub(super) async fn index() -> Response {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // A new binary may bring a new page.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    (headers, Html(INDEX)).into_response()
}

pub(super) async fn favicon() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("image/x-icon")),
        (header::CACHE_CONTROL, HeaderValue::from_static("max-age=86400")),
    ];
    (headers, FAVICON).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_writes_no_markup() {
        for forbidden in [
            "http://",
            "https://",
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
            "src=\"/",
            "href=\"/",
        ] {
            // The namespace of SVG is a name, not an address that is fetched.
            let text = INDEX.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains(forbidden), "{forbidden}");
        }
        assert!(INDEX.len() < 64 * 1024);
    }
}
