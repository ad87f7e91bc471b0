//! What holds for every request: paths, methods, prefix, origin, lifecycle, page, counting.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::json;

use super::support::*;
use crate::api::{Lifecycle, PartState};

#[tokio::test]
async fn wrong_paths_and_methods_are_told() {
    let server = TestServer::new().await;
    server.get("/api/v1/nothing").await.refused(404, "not_found", "/api/v1/nothing");
    server.get("/api/v1/dashboard/nothing").await.refused(404, "not_found", "nothing");
    let text = server.get("/nothing").await;
    assert_eq!((text.status.as_u16(), text.text().as_str()), (404, "there is no /nothing here\n"));
    let wrong = server.post_json("/api/v1/rules", "{}").await;
    wrong.refused(405, "bad_data", "does not take POST");
    assert!(wrong.headers[header::ALLOW].to_str().unwrap().contains("GET"));
    server.post_json("/api/v1/dashboard/status", "{}").await.refused(405, "bad_data", "POST");
    assert_eq!(server.get("/-/reload").await.status, 405);
    let head = server.send(Request::head("/api/v1/labels").body(Body::empty()).unwrap()).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

#[tokio::test]
async fn a_prefix_moves_everything() {
    let server = TestServer::with(Setup { route_prefix: "/gate".into(), ..Setup::default() }).await;
    assert_eq!(server.get("/gate/-/healthy").await.status, 200);
    assert_eq!(server.get("/gate/api/v1/labels").await.data(), json!([]));
    assert_eq!(server.get("/gate/api/v1/dashboard/status").await.data()["status"], "healthy");
    assert!(server.get("/gate/").await.text().contains("<title>StreamGate</title>"));
    for path in ["/", "/gate"] {
        let answer = server.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.headers[header::LOCATION].to_str().unwrap()),
            (307, "/gate/")
        );
    }
    assert_eq!(server.get("/-/healthy").await.status, 404);
    server.get("/gate/api/v1/nothing").await.refused(404, "not_found", "nothing");
    let put = Request::put("/gate/metrics/job/j").body(Body::from("a 1\n")).unwrap();
    assert_eq!(server.send(put).await.status, 200);
    let metrics = server.get("/gate/metrics").await.text();
    assert!(
        metrics.contains("streamgate_http_requests_total{code=\"200\",handler=\"/api/v1/labels\"} 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let server = TestServer::with(Setup { with_lifecycle: true, ..Setup::default() }).await;
    let from = |origin: &str, path: &str| {
        let request =
            Request::post(path).header(header::HOST, "127.0.0.1:9090").header(header::ORIGIN, origin);
        request
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(r#"{"name": "m", "value": 1}"#))
            .unwrap()
    };
    let path = "/api/v1/dashboard/metrics";
    server.send(from("http://evil.example", path)).await.refused(403, "bad_data", "another site");
    assert_eq!(server.send(from("http://evil.example", "/-/quit")).await.status, 403);
    assert_eq!(server.send(from("http://evil.example", "/metrics/job/j")).await.status, 403);
    assert_eq!(server.send(from("http://evil.example", "/api/v1/labels")).await.status, 200, "it only reads");
    assert_eq!(server.send(from("http://127.0.0.1:9090", path)).await.status, 200);
    assert_eq!(server.send(from("https://mon.example", path)).await.status, 200);
}

#[tokio::test]
async fn readiness_and_health_name_their_parts() {
    let server = TestServer::new().await;
    assert_eq!(server.get("/-/healthy").await.status, 200);
    let waiting = server.get("/-/ready").await;
    assert_eq!(waiting.status, 503);
    assert!(waiting.text().contains("storage starting"));
    assert_eq!(server.get("/health").await.data()["status"], "starting");
    server.readiness.set_all(&PartState::Running);
    assert_eq!(server.get("/-/ready").await.status, 200);
    assert_eq!(
        server.get("/health").await.data(),
        json!({"status": "healthy", "ready": true, "version": "0.1.0", "uptime_seconds": 5.0, "parts": {"rules": "running", "storage": "running"}})
    );
    server.readiness.set("rules", PartState::Failed("no".into()));
    let health = server.get("/health").await.data();
    assert_eq!((&health["status"], &health["parts"]["rules"]), (&json!("degraded"), &json!("failed: no")));
}

#[tokio::test]
async fn lifecycle_calls_need_their_flag() {
    let server = TestServer::new().await;
    for path in ["/-/reload", "/-/quit"] {
        let answer = server.post_json(path, "").await;
        assert_eq!(answer.status, 403);
        assert!(answer.text().contains("--web.enable-lifecycle"));
    }
    let mut server = TestServer::with(Setup { with_lifecycle: true, ..Setup::default() }).await;
    let mut events = server.lifecycle.take().unwrap();
    tokio::spawn(async move {
        let mut outcomes = vec![Err("f.yml:3:1: no".to_owned()), Ok(())];
        while let Some(event) = events.recv().await {
            if let Lifecycle::Reload(reply) = event {
                reply.send(outcomes.pop().unwrap()).unwrap();
            }
        }
    });
    assert_eq!(server.post_json("/-/reload", "").await.status, 200);
    let put = Request::put("/-/reload").body(Body::empty()).unwrap();
    let failed = server.send(put).await;
    assert_eq!(
        (failed.status.as_u16(), failed.text().as_str()),
        (500, "failed to reload config: f.yml:3:1: no\n")
    );
    assert_eq!(server.post_json("/-/quit", "").await.status, 200);
}

#[tokio::test]
async fn the_page_and_its_icon_are_served() {
    let server = TestServer::new().await;
    let page = server.get("/").await;
    assert_eq!(page.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert!(page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap().contains("default-src 'none'"));
    assert_eq!(page.headers[header::X_FRAME_OPTIONS], "SAMEORIGIN");
    assert_eq!(server.get("/favicon.ico").await.headers[header::CONTENT_TYPE], "image/x-icon");
}

#[tokio::test]
async fn large_answers_are_compressed_whole() {
    let server = TestServer::new().await;
    for i in 0..3_000 {
        server.store(&[("__name__", "many"), ("i", &i.to_string())], &[f64::from(i)]);
    }
    let plain = server.get("/api/v1/query?query=many").await;
    let request = Request::get("/api/v1/query?query=many")
        .header(header::ACCEPT_ENCODING, "gzip")
        .body(Body::empty())
        .unwrap();
    let zipped = server.send(request).await;
    assert_eq!(zipped.headers[header::CONTENT_ENCODING], "gzip");
    assert!(plain.body.len() > 128 * 1024 && zipped.body.len() < plain.body.len() / 4);
    let mut text = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(&zipped.body[..]), &mut text).unwrap();
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["data"]["result"]
            .as_array()
            .unwrap()
            .len(),
        3_000
    );
}

#[tokio::test]
async fn pages_of_other_origins_may_read_what_prometheus_lets_them_read() {
    let check = async |server: &TestServer, method: &str, path: &str, origin: Option<&str>| {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        let of = |name: &str| {
            let all: Vec<&str> = answer.headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect();
            all.join(",")
        };
        let rest = [
            of("access-control-allow-headers"),
            of("access-control-allow-methods"),
            of("access-control-expose-headers"),
        ];
        let rest = match rest.each_ref().map(String::as_str) {
            ["Accept, Authorization, Content-Type, Origin", "GET, POST, OPTIONS", "Date"] => "all",
            ["", "", ""] => "none",
            _ => panic!("{rest:?}"),
        };
        let varies = of("vary").contains("Origin");
        (answer.status.as_u16(), of("access-control-allow-origin"), rest, varies)
    };
    let any = TestServer::new().await;
    let some =
        TestServer::with(Setup { cors_origin: Some("https?://(a|b)\\.com"), ..Setup::default() }).await;
    let (a, c) = (Some("http://a.com"), Some("http://a.com.c.com"));
    let origin = |text: &str| text.to_owned();
    // As a Prometheus 3.5 answers.
    for (path, status) in [("/api/v1/labels", 200), ("/api/v1/query?query=(", 400)] {
        assert_eq!(check(&any, "GET", path, c).await, (status, origin("*"), "all", true));
        assert_eq!(check(&some, "GET", path, a).await, (status, origin("http://a.com"), "all", true));
        assert_eq!(check(&some, "GET", path, c).await, (status, origin(""), "all", true));
        assert_eq!(check(&some, "GET", path, None).await, (status, origin(""), "none", true));
    }
    for path in ["/api/v1/query", "/api/v1/nothing", "/api/v1/write", "/api/v1/admin/tsdb/snapshot"] {
        assert_eq!(check(&any, "OPTIONS", path, c).await, (204, origin("*"), "all", true));
        assert_eq!(check(&some, "OPTIONS", path, a).await, (204, origin("http://a.com"), "all", true));
        assert_eq!(check(&some, "OPTIONS", path, None).await, (204, origin(""), "none", true));
    }
    for path in ["/federate?match[]=x", "/metrics", "/api/v1/nothing", "/"] {
        assert_eq!(check(&any, "GET", path, c).await.2, "none", "{path}");
    }
    // Of what only this server has, pages of other sites may read and change nothing.
    assert_eq!(check(&any, "GET", "/api/v1/dashboard/status", c).await, (200, origin(""), "none", false));
    assert_eq!(check(&any, "OPTIONS", "/api/v1/dashboard/alerts", c).await, (405, origin(""), "none", false));
    assert_eq!(check(&any, "POST", "/api/v1/write", c).await, (403, origin(""), "none", false));
}

#[tokio::test]
async fn listings_have_the_memory_limit_of_queries() {
    let server = TestServer::with(Setup { memory_total: Some(100_000), ..Setup::default() }).await;
    let long = "x".repeat(1000);
    for i in 0..60 {
        server.store(&[("__name__", "m"), ("long", &format!("{i}{long}"))], &[1.0]);
    }
    let paths = ["/api/v1/series?match[]=m", "/api/v1/label/long/values", "/federate?match[]=m"];
    // Sixty fit, but not beside what others have not read.
    for path in ["/api/v1/series?match[]=m&limit=1", paths[1]] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    let others = server.engine.charge(70_000).unwrap();
    for path in paths {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 422, "{path}");
        assert!(answer.text().contains("--query.max-memory-total"), "{}", answer.text());
    }
    assert_eq!(server.engine.held_bytes(), 70_000);
    drop(others);
    assert_eq!(server.engine.held_bytes(), 0);
}
