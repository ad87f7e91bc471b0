//! What `ui/` was built to: pages, and the scripts and styles that they name by the hash of their content.

use axum::extract::{Path, RawQuery, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::{body, request};

/// A file of `ui/dist`.
pub(in crate::api) struct Asset {
    /// Its path below `ui/dist`.
    pub name: &'static str,
    pub mime: &'static str,
    /// Changes with the content. Weak, for the same content may go out in several encodings.
    pub etag: &'static str,
    pub plain: &'static [u8],
    pub gzip: &'static [u8],
}

/// All files, by name; `build.rs` writes the table.
pub(in crate::api) static ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/ui.rs"));

/// Scripts and styles are files of this server, nothing is inline, and no text can become markup: the pages' scripts
/// have no use for the calls that would make it so.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
     form-action 'none'; base-uri 'none'; frame-ancestors 'self'; require-trusted-types-for 'script'; trusted-types 'none'",
);

/// The page that asks queries.
pub(in crate::api) async fn query(headers: HeaderMap) -> Response {
    named("query.html", &headers)
}

/// Where Prometheus's links lead: the same page, with the same parameters. Relative, for a proxy may have put the
/// server elsewhere.
pub(in crate::api) async fn graph(RawQuery(query): RawQuery) -> Response {
    let to = query.map_or_else(|| "query".to_owned(), |q| format!("query?{q}"));
    match HeaderValue::from_str(&to) {
        Ok(location) => (StatusCode::FOUND, [(header::LOCATION, location)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// Whose work the pages contain.
pub(in crate::api) async fn licenses(headers: HeaderMap) -> Response {
    named("licenses.md", &headers)
}

pub(in crate::api) async fn asset(Path(name): Path<String>, request: Request) -> Response {
    let name = format!("assets/{name}");
    match ASSETS.iter().find(|a| a.name == name) {
        Some(found) => answer(found, request.headers()),
        None => request::not_found(request).await,
    }
}

fn named(name: &str, headers: &HeaderMap) -> Response {
    let found = ASSETS.iter().find(|a| a.name == name).expect("a test holds that ui/dist has every page");
    answer(found, headers)
}

fn answer(asset: &Asset, headers: &HeaderMap) -> Response {
    // The hash in the name of an asset makes it another one when it changes; a new binary may bring new pages.
    let age =
        if asset.name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let always = [
        (header::CACHE_CONTROL, HeaderValue::from_static(age)),
        (header::ETAG, HeaderValue::from_static(asset.etag)),
        (header::VARY, HeaderValue::from_static("accept-encoding")),
    ];
    if body::text(headers, header::IF_NONE_MATCH).split(',').any(|tag| tag.trim() == asset.etag) {
        return (StatusCode::NOT_MODIFIED, always).into_response();
    }
    let kind = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.mime)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    if takes_gzip(body::text(headers, header::ACCEPT_ENCODING)) {
        let encoding = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
        return (always, kind, encoding, asset.gzip).into_response();
    }
    (always, kind, asset.plain).into_response()
}

/// Whether `Accept-Encoding` names gzip, or everything, and does not refuse it.
fn takes_gzip(accepted: &str) -> bool {
    let quality = |wanted: &str| {
        accepted.split(',').find_map(|one| {
            let (coding, weight) = one.split_once(';').unwrap_or((one, ""));
            let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>).unwrap_or(0.0);
            coding.trim().eq_ignore_ascii_case(wanted).then_some(weight)
        })
    };
    quality("gzip").or_else(|| quality("*")).is_some_and(|weight| weight > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_named_and_not_refused() {
        for (accepted, expected) in [
            ("gzip, deflate, br", true),
            ("GZIP;q=0.5", true),
            ("*", true),
            ("", false),
            ("br, zstd", false),
            ("gzip;q=0, *", false),
            ("gzip;q=x", false),
        ] {
            assert_eq!(takes_gzip(accepted), expected, "{accepted}");
        }
    }
}
