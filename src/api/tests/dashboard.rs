//! The dashboard's calls.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::json;

use super::support::*;
use crate::api::ApiLimits;

const API: &str = "/api/v1/dashboard";

#[tokio::test]
async fn indicators_have_value_unit_and_status() {
    let server = TestServer::new().await;
    server.store(&[("__name__", "memory_usage_mb"), ("app", "shop")], &[450.0]);
    server.store(&[("__name__", "api_latency_ms")], &[f64::NAN]);
    let data = server.get(&format!("{API}/metrics")).await.data();
    let names: Vec<_> = data.as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["targets_down", "memory_usage_mb", "api_latency_ms"]);
    assert_eq!(
        data[1],
        json!({"name": "memory_usage_mb", "labels": {"app": "shop"}, "value": 450.0, "unit": "MB",
            "timestamp": "2023-11-14T22:13:20Z", "status": "warning", "warning": "> 400", "critical": "> 500",
            "description": "Memory in use, as recorded", "expr": "memory_usage_mb"})
    );
    assert_eq!(data[2]["value"], json!(null));
    for (query, count) in
        [("status=warning", 1), ("status=healthy,warning", 3), ("name=api_latency_ms", 1), ("limit=1", 1)]
    {
        let data = server.get(&format!("{API}/metrics?{query}")).await.data();
        assert_eq!(data.as_array().unwrap().len(), count, "{query}");
    }
    let refused = server.get(&format!("{API}/metrics?status=bad")).await;
    refused.refused(400, "bad_data", "none of healthy, warning, critical");
    server.get(&format!("{API}/metrics?limit=x")).await.refused(400, "bad_data", "limit");
}

#[tokio::test]
async fn the_course_of_an_indicator_or_a_metric_is_given() {
    let server = TestServer::new().await;
    server.store(&[("__name__", "raw"), ("a", "b")], &[1.0, 2.0]);
    let data = server.get(&format!("{API}/metrics/history?name=targets_down")).await.data();
    assert_eq!(
        (&data["from"], &data["to"]),
        (&json!("2023-11-14T21:13:20Z"), &json!("2023-11-14T22:13:20Z"))
    );
    let points = data["series"][0]["points"].as_array().unwrap();
    assert_eq!((&data["step_seconds"], points.len(), &points[0]["value"]), (&json!(15.0), 241, &json!(0.0)));
    let data = server.get(&format!("{API}/metrics/history?name=raw&start=1699999985&step=15s")).await.data();
    assert_eq!(
        data["series"],
        json!([{"labels": {"a": "b"}, "points": [
            {"timestamp": "2023-11-14T22:13:05Z", "value": 1.0}, {"timestamp": "2023-11-14T22:13:20Z", "value": 2.0}]}])
    );
    let data = server.get(&format!("{API}/metrics/history?name=raw&start=1699999990&step=4s")).await.data();
    assert_eq!(data["from"], "2023-11-14T22:13:12Z", "the last step is the newest");
    assert_eq!(data["series"][0]["points"][2]["value"], 2.0);
    for (query, status, kind, text) in [
        ("", 400, "bad_data", "name"),
        ("?name=unknown", 404, "not_found", "no indicator and no metric"),
        ("?name=sum(up)", 404, "not_found", "no indicator and no metric"),
        ("?name=raw&start=x", 400, "bad_data", "start"),
        ("?name=raw&step=0", 400, "bad_data", "step"),
        ("?name=raw&start=0&step=1", 400, "bad_data", "11,000"),
        ("?name=raw&start=2000000000", 400, "bad_data", "end timestamp"),
    ] {
        server.get(&format!("{API}/metrics/history{query}")).await.refused(status, kind, text);
    }
}

#[tokio::test]
async fn metrics_are_recorded_one_by_one_or_as_a_list() {
    let server = TestServer::new().await;
    let path = format!("{API}/metrics");
    let one = r#"{"name": "m", "value": 1, "unit": "MB", "labels": {"a": "b"}, "timestamp": "2023-11-14T22:13:19.5Z"}"#;
    assert_eq!(server.post_json(&path, one).await.data(), json!({"recorded": 1}));
    let list = r#" [{"name": "m", "value": 2.5}, {"name": "n", "value": -1, "timestamp": 1700000000}] "#;
    assert_eq!(server.post_json(&path, list).await.data(), json!({"recorded": 2}));
    let shown = server.get(&path).await.data();
    assert_eq!(
        (&shown[3]["name"], &shown[3]["value"], &shown[3]["status"]),
        (&json!("n"), &json!(-1.0), &json!("healthy"))
    );
    let recorded = || -> Vec<(String, f64, i64)> {
        server.pushed.recorded().into_iter().map(|m| (m.labels.to_string(), m.value, m.ts)).collect()
    };
    let expected =
        [("m".to_owned(), 2.5, NOW), (r#"m{a="b"}"#.to_owned(), 1.0, NOW - 500), ("n".to_owned(), -1.0, NOW)];
    assert_eq!(recorded(), expected);
    let history =
        server.get(&format!("{API}/metrics/history?name=m&start=1699999999.5&step=500ms")).await.data();
    assert_eq!(
        history["series"][1]["points"][0],
        json!({"timestamp": "2023-11-14T22:13:19.500Z", "value": 1.0})
    );
    for (body, text) in [
        ("", "EOF"),
        ("{", "line 1 column 1"),
        (r#"{"name": "m"}"#, "missing field `value`"),
        (r#"{"name": "m", "value": "1"}"#, "invalid type"),
        (r#"{"name": "m", "value": null}"#, "invalid type"),
        (r#"{"name": "m", "value": 1e999}"#, "out of range"),
        (r#"{"name": "m", "value": 1, "extra": 2}"#, "unknown field `extra`"),
        (r#"{"name": "", "value": 1}"#, "name must not be empty"),
        (r#"{"name": "m", "value": 1, "labels": {"__x": "y"}}"#, "invalid label name"),
        (r#"{"name": "m", "value": 1, "labels": ["x"]}"#, "invalid type"),
        (r#"{"name": "m", "value": 1, "timestamp": "soon"}"#, "no valid time"),
        (r#"{"name": "m", "value": 1, "timestamp": true}"#, "timestamp must be"),
        ("[]", "empty"),
        (r#"[{"name": "m", "value": 1}, {"name": "", "value": 1}]"#, "metric 1: name"),
        ("5", "invalid type"),
    ] {
        server.post_json(&path, body).await.refused(400, "bad_data", text);
    }
    assert_eq!(recorded(), expected, "a refused call records nothing");
}

#[tokio::test]
async fn alerts_are_listed_and_filtered() {
    let server = TestServer::new().await;
    server.raise("a1", "page", NOW - 2_000).await;
    server.raise("a2", "warning", NOW - 1_000).await;
    let over = server.raise("a3", "page", NOW - 3_000).await;
    server.alerts.resolve(&over, "ops", None).await.unwrap();
    for (query, jobs) in [
        ("", vec!["a2", "a1", "a3"]),
        ("state=firing", vec!["a2", "a1"]),
        ("state=firing&state=resolved&severity=page", vec!["a1", "a3"]),
        ("severity=page,warning&limit=1", vec!["a2"]),
        ("matcher=job%3D~%22a[13]%22", vec!["a1", "a3"]),
        ("match[]=%7Bjob%21%3D%22a1%22%7D", vec!["a2", "a3"]),
    ] {
        let data = server.get(&format!("{API}/alerts?{query}")).await.data();
        let found: Vec<_> =
            data.as_array().unwrap().iter().map(|a| a["labels"]["job"].as_str().unwrap()).collect();
        assert_eq!(found, jobs, "{query}");
    }
    let one = server.get(&format!("{API}/alerts/{over}")).await.data();
    assert_eq!(
        (&one["state"], &one["severity"], &one["starts_at"], &one["ends_at"], &one["resolved_by"]),
        (
            &json!("resolved"),
            &json!("page"),
            &json!("2023-11-14T22:13:17Z"),
            &json!("2023-11-14T22:13:20Z"),
            &json!("ops")
        )
    );
    assert_eq!(one["labels"]["alertname"], "Down");
    server.get(&format!("{API}/alerts/zz")).await.refused(404, "not_found", "zz");
    server.get(&format!("{API}/alerts?state=gone")).await.refused(400, "bad_data", "none of firing");
    server.get(&format!("{API}/alerts?matcher=x")).await.refused(400, "bad_data", "matcher");
}

#[tokio::test]
async fn alerts_are_raised_acknowledged_and_resolved() {
    let server = TestServer::new().await;
    let body = r#"{"title": "Backup", "message": "none since Monday", "severity": "page", "labels": {"host": "db1"}}"#;
    let made = server.post_json(&format!("{API}/alerts"), body).await.data();
    assert_eq!(made["labels"], json!({"alertname": "Backup", "host": "db1", "severity": "page"}));
    assert_eq!(made["annotations"], json!({"summary": "none since Monday"}));
    let id = made["id"].as_str().unwrap();
    let acknowledged = server
        .post_json(&format!("{API}/alerts/{id}/acknowledge"), r#"{"by": "ops", "comment": "on it"}"#)
        .await
        .data();
    assert_eq!(
        (&acknowledged["state"], &acknowledged["acknowledged_by"]),
        (&json!("acknowledged"), &json!("ops"))
    );
    let resolved = server.post_json(&format!("{API}/alerts/{id}/resolve"), r#"{"by": "ops"}"#).await.data();
    assert_eq!((&resolved["state"], &resolved["resolved_by"]), (&json!("resolved"), &json!("ops")));

    server
        .post_json(&format!("{API}/alerts/{id}/resolve"), r#"{"by": "ops"}"#)
        .await
        .refused(409, "bad_data", "already");
    for action in ["acknowledge", "resolve"] {
        server.post_json(&format!("{API}/alerts/zz/{action}"), r#"{"by": "ops"}"#).await.refused(
            404,
            "not_found",
            "zz",
        );
        let path = format!("{API}/alerts/{id}/{action}");
        server.post_json(&path, r#"{"by": " "}"#).await.refused(400, "bad_data", "by must not be empty");
        server.post_json(&path, r#"{"comment": "x"}"#).await.refused(400, "bad_data", "missing field `by`");
        server.post_json(&path, r#"{"by": "x", "until": 5}"#).await.refused(
            400,
            "bad_data",
            "unknown field `until`",
        );
        server.post_json(&path, "").await.refused(400, "bad_data", "EOF");
    }
    for (body, text) in [
        (r#"{"message": "m", "severity": "page"}"#, "missing field `title`"),
        (r#"{"title": " ", "message": "m", "severity": "page"}"#, "title must not be empty"),
        (r#"{"title": "t", "message": 5, "severity": "page"}"#, "invalid type"),
        (
            r#"{"title": "t", "message": "m", "severity": "page", "labels": {"severity": "none"}}"#,
            "contradicts",
        ),
        (
            r#"{"title": "t", "message": "m", "severity": "page", "labels": {"__x": "y"}}"#,
            "invalid label name",
        ),
        (r#"{"title": "t", "message": "m", "severity": "page", "state": "firing"}"#, "unknown field `state`"),
        ("null", "must be a JSON object"),
        (r#"["t", "m", "page"]"#, "must be a JSON object"),
    ] {
        server.post_json(&format!("{API}/alerts"), body).await.refused(400, "bad_data", text);
    }
}

#[tokio::test]
async fn history_comes_in_pages() {
    let server = TestServer::new().await;
    let id = server.raise("a1", "page", NOW).await;
    server.alerts.acknowledge(&id, "ada", Some("on it")).await.unwrap();
    server.alerts.resolve(&id, "ada", None).await.unwrap();
    let page = server.get(&format!("{API}/alerts/history?limit=2")).await.data();
    assert_eq!(
        (&page["events"][0]["kind"], &page["events"][0]["at"], &page["events"][1]["comment"]),
        (&json!("resolved"), &json!("2023-11-14T22:13:20Z"), &json!("on it"))
    );
    let next: String = form_urlencoded::byte_serialize(page["next"].as_str().unwrap().as_bytes()).collect();
    let page = server.get(&format!("{API}/alerts/history?limit=2&cursor={next}")).await.data();
    assert_eq!((page["events"].as_array().unwrap().len(), &page["next"]), (1, &json!(null)));
    let none = server.get(&format!("{API}/alerts/history?severity=info")).await.data();
    assert_eq!(none["events"], json!([]));
    server.get(&format!("{API}/alerts/history?end=x")).await.refused(400, "bad_data", "end");
    server.get(&format!("{API}/alerts/history?cursor=2")).await.refused(400, "bad_data", "cursor");
}

#[tokio::test]
async fn reports_are_made_and_read() {
    let server = TestServer::new().await;
    server.get(&format!("{API}/reports/latest")).await.refused(404, "not_found", "no report");
    server.store(&[("__name__", "api_latency_ms"), ("app", "shop")], &[150.0, 180.0]);
    let made = server.post_json(&format!("{API}/reports"), r#"{"period": "7d"}"#).await.data();
    assert_eq!((&made["period"], &made["from"]), (&json!("7d"), &json!("2023-11-07T22:13:20Z")));
    assert_eq!((&made["status"], &made["recommendations"][0]["value"]), (&json!("critical"), &json!(180.0)));
    let second = server.post_json(&format!("{API}/reports"), r#"{"period": "24h"}"#).await.data();
    let list = server.get(&format!("{API}/reports")).await.data();
    assert_eq!((&list[0]["id"], &list[1]["id"]), (&second["id"], &made["id"]));
    assert_eq!(
        (&list[0]["period"], &list[0]["generated_at"]),
        (&json!("24h"), &json!("2023-11-14T22:13:20Z"))
    );
    assert_eq!(server.get(&format!("{API}/reports?limit=1")).await.data().as_array().unwrap().len(), 1);
    let id = made["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("{API}/reports/{id}")).await.data(), made);
    assert_eq!(server.get(&format!("{API}/reports/latest")).await.data(), second);
    server.get(&format!("{API}/reports/zz")).await.refused(404, "not_found", "zz");
    for (body, text) in [
        (r#"{"period": "2h"}"#, "none of 1h, 24h, 7d, 30d"),
        (r#"{"period": 24}"#, "invalid type"),
        ("{}", "missing field `period`"),
        (r#"{"period": "1h", "x": 1}"#, "unknown field `x`"),
    ] {
        server.post_json(&format!("{API}/reports"), body).await.refused(400, "bad_data", text);
    }
}

#[tokio::test]
async fn status_adds_everything_up() {
    let server = TestServer::new().await;
    let empty = server.get(&format!("{API}/status")).await.data();
    assert_eq!((&empty["status"], &empty["alerts"]["total"]), (&json!("healthy"), &json!(0)));
    server.store(&[("__name__", "cpu_usage_percent")], &[65.0]);
    let paged = server.raise("a1", "page", NOW).await;
    server.alerts.resolve(&paged, "ops", None).await.unwrap();
    server.raise("a2", "info", NOW).await;
    let bare = server.raise("a3", "", NOW).await;
    server.alerts.acknowledge(&bare, "ops", None).await.unwrap();
    server.scrape("job_name: app\nstatic_configs: [{targets: ['127.0.0.1:1']}]\n");
    let calm = "{alert: Calm, expr: vector(0) > 1}";
    server
        .run_rules(&format!("groups:\n- name: g\n  rules:\n  - {calm}\n  - {{record: one, expr: '1'}}\n"))
        .await;
    assert_eq!(
        server.get(&format!("{API}/status")).await.data(),
        json!({"status": "warning", "timestamp": "2023-11-14T22:13:20Z",
            "indicators": {"total": 2, "healthy": 1, "warning": 1, "critical": 0},
            "alerts": {"total": 3, "by_state": {"acknowledged": 1, "firing": 1, "resolved": 1}, "by_severity": {"info": 1, "none": 1}},
            "targets": {"total": 1, "up": 0, "down": 0, "unknown": 1},
            "rules": {"groups": 1, "total": 2, "healthy": 2, "failing": 0}})
    );
    server.raise("a4", "page", NOW).await;
    assert_eq!(server.get(&format!("{API}/status")).await.data()["status"], "critical");
}

#[tokio::test]
async fn bodies_must_be_json_of_a_bounded_size() {
    let server = TestServer::with(Setup {
        limits: ApiLimits { json_bytes_max: 100, ..ApiLimits::default() },
        ..Setup::default()
    })
    .await;
    let path = format!("{API}/metrics");
    let body = r#"{"name": "m", "value": 1}"#;
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"] {
        let request =
            Request::post(&path).header(header::CONTENT_TYPE, content_type).body(Body::from(body)).unwrap();
        server.send(request).await.refused(415, "bad_data", "application/json");
    }
    let request = Request::post(&path)
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .body(Body::from(body))
        .unwrap();
    assert_eq!(server.send(request).await.status, 200);
    server.post_json(&path, &format!("{body}{}", " ".repeat(100))).await.refused(
        413,
        "bad_data",
        "100 bytes",
    );

    let gzip = |text: &str| {
        use std::io::Write as _;
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    };
    let zipped = |bytes: Vec<u8>, encoding: &str| {
        let request = Request::post(&path).header(header::CONTENT_TYPE, "application/json");
        request.header(header::CONTENT_ENCODING, encoding).body(Body::from(bytes)).unwrap()
    };
    assert_eq!(server.send(zipped(gzip(body), "gzip")).await.status, 200);
    server.send(zipped(gzip(&" ".repeat(5_000)), "gzip")).await.refused(413, "bad_data", "decompressed");
    server.send(zipped(b"no gzip".to_vec(), "gzip")).await.refused(400, "bad_data", "gzip");
    server.send(zipped(body.into(), "br")).await.refused(415, "bad_data", "br");
}
