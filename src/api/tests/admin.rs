//! `/api/v1/admin/tsdb/…` as Prometheus answers.

use axum::body::Body;
use axum::http::Request;

use super::support::*;

async fn call_with(server: &TestServer, method: &str, call: &str) -> Answer {
    let uri = format!("/api/v1/admin/tsdb/{call}");
    server.send(Request::builder().method(method).uri(uri).body(Body::empty()).unwrap()).await
}

const CALLS: [&str; 3] = ["snapshot", "delete_series?match[]=up", "clean_tombstones"];

#[tokio::test]
async fn without_the_flag_nothing_is_done() {
    let server = TestServer::new().await;
    for call in CALLS {
        for method in ["POST", "PUT"] {
            let answer = call_with(&server, method, call).await;
            assert_eq!(answer.status, 500);
            let want = r#"{"status":"error","errorType":"unavailable","error":"admin APIs disabled"}"#;
            assert_eq!(answer.text(), want);
        }
        assert_eq!(server.get(&format!("/api/v1/admin/tsdb/{call}")).await.status, 405);
    }
}

#[tokio::test]
async fn snapshots_and_deletions() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup { with_admin: true, dir: Some(dir.path().to_owned()), ..Setup::default() };
    let server = TestServer::with(setup).await;
    server.store(&[("__name__", "up"), ("job", "a")], &[1.0, 1.0]);
    server.store(&[("__name__", "up"), ("job", "b")], &[1.0, 1.0]);
    let post = async |call: &str| call_with(&server, "POST", call).await;
    let answer = post("snapshot").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let name = answer.json()["data"]["name"].as_str().unwrap().to_owned();
    assert!(dir.path().join("snapshots").join(&name).join("blocks").is_dir());
    for (call, said) in [
        ("snapshot?skip_head=x", r#"invalid parameter "skip_head": unable to parse boolean"#),
        ("delete_series", "no match[] parameter provided"),
        ("delete_series?match[]=%7B", r#"invalid parameter "match[]""#),
        ("delete_series?match[]=up&start=x", r#"invalid parameter "start""#),
    ] {
        let answer = post(call).await;
        assert_eq!(answer.status, 400, "{call}");
        assert!(answer.text().contains("bad_data"));
        assert!(answer.json()["error"].as_str().unwrap().contains(said), "{call}: {}", answer.text());
    }
    for call in [
        "delete_series?match[]=up%7Bjob=%22a%22%7D",
        "clean_tombstones",
        "delete_series?match[]=up&start=9&end=3",
    ] {
        let answer = post(call).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (204, ""), "{call}");
    }
    let left = server.get("/api/v1/series?match[]=up").await.json();
    assert_eq!(left["data"].as_array().unwrap().len(), 1);
    assert_eq!(left["data"][0]["job"], "b");
    // What `match[]` may not select elsewhere may be deleted, as in Prometheus.
    assert_eq!(server.get("/api/v1/series?match[]=%7Bjob=~%22.*%22%7D").await.status, 400);
    assert_eq!(post("delete_series?match[]=%7Bjob=~%22.*%22%7D").await.status, 204);
    let left = server.get("/api/v1/series?match[]=up").await.json();
    assert_eq!(left["data"].as_array().unwrap().len(), 0);
}
