//! The pages that `ui/` was built to, and everything that they name.

use std::collections::BTreeSet;
use std::io::Read as _;

use axum::body::Body;
use axum::http::{Request, header};

use super::support::*;
use crate::api::page::ASSETS;

fn address(name: &str) -> String {
    format!("/{}", name.strip_suffix(".html").unwrap_or(name))
}

#[tokio::test]
async fn every_file_of_the_ui_is_served_with_its_headers() {
    let server = TestServer::new().await;
    assert!(ASSETS.iter().any(|a| a.name == "query.html") && ASSETS.iter().any(|a| a.name == "licenses.md"));
    for asset in ASSETS {
        let path = address(asset.name);
        let plain = server.get(&path).await;
        assert_eq!(plain.status, 200, "{path}");
        let on_disk = format!("{}/ui/dist/{}", env!("CARGO_MANIFEST_DIR"), asset.name);
        assert_eq!(plain.body, std::fs::read(&on_disk).unwrap(), "{path}");
        assert!(plain.body.len() < 1024 * 1024, "{path} is too large to be reviewed");
        let is = |name: header::HeaderName| plain.headers[name].to_str().unwrap();
        let expected = match path.rsplit('.').next() {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("md") => "text/plain; charset=utf-8",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(is(header::CONTENT_TYPE), expected, "{path}");
        let cached =
            if path.starts_with("/assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
        assert_eq!(is(header::CACHE_CONTROL), cached, "{path}");
        assert_eq!(is(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert!(is(header::VARY).contains("accept-encoding"));
        let policy = is(header::CONTENT_SECURITY_POLICY);
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");

        let with = |name: header::HeaderName, value: &str| {
            server.send(Request::get(&path).header(name, value).body(Body::empty()).unwrap())
        };
        let zipped = with(header::ACCEPT_ENCODING, "gzip, deflate").await;
        assert_eq!(zipped.headers[header::CONTENT_ENCODING], "gzip", "{path}");
        assert_eq!(zipped.headers[header::ETAG], plain.headers[header::ETAG]);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&zipped.body[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain.body, "{path}");
        let known = with(header::IF_NONE_MATCH, is(header::ETAG)).await;
        assert_eq!((known.status.as_u16(), known.body.len()), (304, 0), "{path}");
        assert_eq!(with(header::IF_NONE_MATCH, "W/\"other\"").await.status, 200);
    }
    assert_eq!(server.get("/assets/nothing.js").await.status, 404);
    assert_eq!(server.get("/assets/..%2fquery.html").await.status, 404);
}

#[tokio::test]
async fn pages_name_only_files_that_are_there() {
    let names: BTreeSet<&str> = ASSETS.iter().map(|a| a.name).collect();
    for page in ASSETS.iter().filter(|a| a.name.ends_with(".html")) {
        let text = std::str::from_utf8(page.plain).unwrap();
        let attribute =
            |name: &'static str| text.split(name).skip(1).filter_map(|rest| rest.split('"').next());
        let named: Vec<&str> = attribute("src=\"").chain(attribute("href=\"")).collect();
        assert!(named.len() >= 3, "{named:?}");
        for address in named {
            let file = address.trim_start_matches("./");
            assert!(file == "favicon.ico" || names.contains(file), "{} names {address}", page.name);
        }
        assert!(!text.contains("<script>") && !text.contains("<style") && !text.contains(" style="));
    }
}

#[tokio::test]
async fn links_of_prometheus_lead_to_the_query_page() {
    for prefix in ["", "/gate"] {
        let server = TestServer::with(Setup { route_prefix: prefix.into(), ..Setup::default() }).await;
        let link = "g0.expr=up%20%3D%3D%200&g0.tab=1";
        let answer = server.get(&format!("{prefix}/graph?{link}")).await;
        assert_eq!(answer.status, 302);
        assert_eq!(answer.headers[header::LOCATION].to_str().unwrap(), format!("query?{link}"));
        assert_eq!(server.get(&format!("{prefix}/graph")).await.headers[header::LOCATION], "query");
        assert!(server.get(&format!("{prefix}/query")).await.text().contains("<title>Query"));
    }
}
