//! Every call of the dashboard API over HTTP, with bad input too.

use serde_json::{Value, json};

use crate::util::{Server, encode, until};

fn error(answer: &crate::util::Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.body);
    let json = answer.json();
    assert_eq!(json["status"], "error", "{json}");
    assert!(json["errorType"].is_string(), "{json}");
    json["error"].as_str().unwrap().to_owned()
}

fn data(answer: &crate::util::Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let json = answer.json();
    assert_eq!(json["status"], "success", "{json}");
    json["data"].clone()
}

#[test]
fn metrics_are_recorded_shown_and_kept_current() {
    let server = Server::start(&[], &[]);
    let path = "/api/v1/dashboard/metrics";
    data(&server.post(
        path,
        &json!({"name": "memory_usage_mb", "value": 450, "unit": "MB", "labels": {"app": "shop"}}),
    ));
    data(&server.post(path, &json!([{"name": "cache_hit_rate", "value": 97.5, "unit": "%"}, {"name": "my_queue", "value": 3, "unit": "jobs"}])));
    let find = |name: &str| {
        let list = data(&server.get(path));
        list.as_array().unwrap().iter().find(|m| m["name"] == name).cloned()
    };
    let memory = until(1, || find("memory_usage_mb")).expect("readable within a second");
    assert_eq!(
        (&memory["value"], &memory["status"], &memory["unit"]),
        (&json!(450.0), &json!("warning"), &json!("MB"))
    );
    assert_eq!(memory["labels"]["app"], "shop");
    assert!(memory["timestamp"].is_string());
    assert_eq!(find("cache_hit_rate").unwrap()["status"], "healthy");
    assert_eq!(find("my_queue").unwrap()["status"], "healthy", "a metric without an indicator is shown too");
    data(&server.post(
        path,
        &json!({"name": "memory_usage_mb", "value": 501, "unit": "MB", "labels": {"app": "shop"}}),
    ));
    until(3, || find("memory_usage_mb").filter(|m| m["status"] == "critical")).expect("replaced");
    let history = data(&server.get(&format!("{path}/history?name=memory_usage_mb")));
    assert!(history.to_string().contains("501"), "{history}");
    assert!(server.get("/metrics").body.contains("memory_usage_mb{app=\"shop\"} 501"));

    for bad in [
        json!({"name": "x"}),
        json!({"value": 1}),
        json!({"name": "", "value": 1, "unit": ""}),
        json!({"name": "x", "value": "many", "unit": ""}),
        json!({"name": "x", "value": 1, "unit": "", "labels": {"": "v"}}),
        json!({"name": "x", "value": 1, "unit": "", "colour": "red"}),
        json!({"name": "x", "value": 1, "unit": "", "labels": {"__name__": "y"}}),
        json!("x"),
    ] {
        error(&server.post(path, &bad), 400);
    }
    error(&server.send("POST", path, &[("Content-Type", "application/json")], b"{\"name\": "), 400);
    error(&server.send("POST", path, &[("Content-Type", "text/plain")], b"{}"), 415);
    error(&server.get(&format!("{path}/history")), 400);
    error(&server.get(&format!("{path}/history?name=nothing_of_the_kind")), 404);
    error(&server.get(&format!("{path}?limit=minus")), 400);
}

#[test]
fn alerts_are_created_once_acknowledged_and_resolved() {
    let server = Server::start(&[], &[]);
    let path = "/api/v1/dashboard/alerts";
    let new = json!({"title": "Cellar flooded", "message": "water at the door", "severity": "critical", "labels": {"site": "hq"}});
    let created = data(&server.post(path, &new));
    let id = created["id"].as_str().expect("the id is a string").to_owned();
    assert_eq!(created["labels"]["alertname"], "Cellar flooded");
    assert_eq!(created["annotations"]["summary"], "water at the door");
    assert_eq!((&created["severity"], &created["state"]), (&json!("critical"), &json!("firing")));
    assert_eq!(data(&server.post(path, &new))["id"], id.as_str(), "the same alert is one entry");
    let list = |query: &str| data(&server.get(&format!("{path}{query}"))).as_array().unwrap().clone();
    assert_eq!(list("").iter().filter(|a| a["labels"]["site"] == "hq").count(), 1);
    assert_eq!(list("?severity=critical&state=firing").iter().filter(|a| a["id"] == id.as_str()).count(), 1);
    assert_eq!(list("?severity=info").iter().filter(|a| a["id"] == id.as_str()).count(), 0);
    assert_eq!(list(&format!("?matcher={}", encode("site=\"hq\""))).len(), 1);

    let who = json!({"by": "ada", "comment": "on my way"});
    let acknowledged = data(&server.post(&format!("{path}/{id}/acknowledge"), &who));
    assert_eq!(
        (&acknowledged["state"], &acknowledged["acknowledged_by"]),
        (&json!("acknowledged"), &json!("ada"))
    );
    let resolved = data(&server.post(&format!("{path}/{id}/resolve"), &who));
    assert_eq!(resolved["state"], "resolved");
    assert!(resolved["ends_at"].is_string());

    let history = data(&server.get(&format!("{path}/history?matcher={}", encode("site=\"hq\""))));
    let events = history["events"].as_array().or_else(|| history.as_array()).unwrap();
    let kinds: Vec<&str> = events.iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["resolved", "acknowledged", "fired"], "newest first");
    assert_eq!((&events[1]["by"], &events[1]["comment"]), (&json!("ada"), &json!("on my way")));

    for bad in [
        json!({"message": "no title", "severity": "info"}),
        json!({"title": "", "message": "m", "severity": "info"}),
        json!({"title": "t", "message": "m", "severity": 3}),
        json!({"title": "t", "message": "m", "severity": "info", "labels": {"a": 1}}),
        json!([]),
    ] {
        error(&server.post(path, &bad), 400);
    }
    error(&server.post(&format!("{path}/{id}/acknowledge"), &json!({"comment": "by nobody"})), 400);
    error(&server.post(&format!("{path}/0123456789abcdef/resolve"), &who), 404);
    error(&server.post(&format!("{path}/not-an-id/resolve"), &who), 404);
    error(&server.get(&format!("{path}?state=sleeping")), 400);
    error(&server.get(&format!("{path}?matcher={}", encode("{{"))), 400);
}

#[test]
fn reports_are_made_listed_and_found_again() {
    let server = Server::start(&[], &[]);
    let path = "/api/v1/dashboard/reports";
    data(
        &server.post(
            "/api/v1/dashboard/metrics",
            &json!({"name": "api_latency_ms", "value": 180, "unit": "ms"}),
        ),
    );
    for period in ["1h", "24h", "7d", "30d"] {
        let report = data(&server.post(path, &json!({"period": period})));
        let id = report["id"].as_str().unwrap();
        assert_eq!(data(&server.get(&format!("{path}/{id}")))["id"], id);
        assert!(
            report["summary"].is_string() && report["indicators"].is_array() && report["alerts"].is_array()
        );
        let recommendations = report["recommendations"].as_array().unwrap();
        let latency =
            recommendations.iter().find(|r| r["cause"].as_str().unwrap().starts_with("api_latency_ms"));
        assert_eq!(latency.expect("a critical indicator causes a recommendation")["value"], 180.0);
    }
    let list = data(&server.get(path));
    assert!(list.as_array().unwrap().len() >= 4, "{list}");
    assert_eq!(data(&server.get(&format!("{path}?limit=1"))).as_array().unwrap().len(), 1);
    assert!(data(&server.get(&format!("{path}/latest")))["id"].is_string());
    error(&server.get(&format!("{path}/nothing")), 404);
    for bad in
        [json!({"period": "2h"}), json!({}), json!({"period": 1}), json!({"period": "1h", "format": "pdf"})]
    {
        error(&server.post(path, &bad), 400);
    }
}

#[test]
fn status_and_health_sum_it_up() {
    let server = Server::start(&[], &[]);
    data(
        &server
            .post("/api/v1/dashboard/alerts", &json!({"title": "T", "message": "m", "severity": "critical"})),
    );
    let status = data(&server.get("/api/v1/dashboard/status"));
    assert!(status.to_string().contains("critical"), "{status}");
    let health = server.get("/health");
    assert_eq!(health.status, 200, "{}", health.body);
    assert!(health.json().is_object());
    error(&server.get("/api/v1/dashboard/nothing"), 404);
    assert_eq!(server.send("DELETE", "/api/v1/dashboard/status", &[], b"").status, 405);
}
