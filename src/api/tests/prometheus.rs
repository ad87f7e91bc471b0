//! Prometheus's own calls.

use std::sync::Arc;

use serde_json::json;

use super::support::*;
use crate::api::LiveConfig;
use crate::model::{Labels, Matcher, MetricType};

#[tokio::test]
async fn instant_queries_answer_each_type() {
    let server = TestServer::new().await;
    server.store(&[("__name__", "up"), ("job", "a\"b")], &[1.0, 0.0]);
    assert_eq!(
        server.get("/api/v1/query?query=up").await.data(),
        json!({"resultType": "vector", "result": [{"metric": {"__name__": "up", "job": "a\"b"}, "value": [1_700_000_000, "0"]}]})
    );
    assert_eq!(
        server.get("/api/v1/query?query=2.5&time=2023-11-14T22:13:20.5Z").await.data(),
        json!({"resultType": "scalar", "result": [1_700_000_000.5, "2.5"]})
    );
    assert_eq!(
        server.post_form("/api/v1/query", "query=%22a%22").await.data(),
        json!({"resultType": "string", "result": [1_700_000_000, "a"]})
    );
    let matrix = server.get("/api/v1/query?query=up[1m]").await.data();
    assert_eq!(matrix["result"][0]["values"], json!([[1_699_999_985, "1"], [1_700_000_000, "0"]]));
    let stats = server.get("/api/v1/query?query=up&stats=all").await.data();
    assert_eq!(stats["stats"]["samples"]["totalQueryableSamples"], 1);
    assert_eq!(stats["stats"]["samples"]["samplesRead"], 1);
}

#[tokio::test]
async fn other_words_for_statistics_are_warned_of() {
    let server = TestServer::new().await;
    for (text, warned) in [("", false), ("true", false), ("all", false), ("yes", true)] {
        for path in ["query?query=1", "query_range?query=1&start=0&end=1&step=1"] {
            let answer = server.get(&format!("/api/v1/{path}&stats={text}")).await.json();
            let warnings = if warned {
                json!([
                    "value \"yes\" for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""
                ])
            } else {
                json!(null)
            };
            assert_eq!(answer["warnings"], warnings, "{path} {text}");
            assert_eq!(answer["data"]["stats"].is_object(), !text.is_empty(), "{path} {text}");
        }
    }
}

#[tokio::test]
async fn range_queries_answer_a_matrix() {
    let server = TestServer::new().await;
    server.store(&[("__name__", "x")], &[1.0, 2.5, 4.0]);
    let data = server.get("/api/v1/query_range?query=x&start=1699999985&end=1700000000&step=15").await.data();
    assert_eq!(
        data,
        json!({"resultType": "matrix", "result": [{"metric": {"__name__": "x"}, "values": [[1_699_999_985, "2.5"], [1_700_000_000, "4"]]}]})
    );
    // The body of a form counts before the URL.
    let data = server
        .post_form("/api/v1/query_range?query=y&step=15", "query=x&start=1700000000&end=1700000000")
        .await
        .data();
    assert_eq!(data["result"][0]["values"][0][1], "4");
}

#[tokio::test]
async fn a_limit_cuts_and_warns() {
    let server = TestServer::new().await;
    for job in ["a", "b", "c"] {
        server.store(&[("__name__", "up"), ("job", job)], &[1.0]);
    }
    let warning = json!(["results truncated due to limit"]);
    for path in [
        "/api/v1/query?query=up&limit=2",
        "/api/v1/series?match[]=up&limit=2",
        "/api/v1/label/job/values?limit=2",
        "/api/v1/labels?limit=1",
    ] {
        assert_eq!(server.get(path).await.json()["warnings"], warning, "{path}");
    }
    assert_eq!(server.get("/api/v1/query?query=up&limit=3").await.json()["warnings"], json!(null));
}

#[tokio::test]
async fn bad_queries_are_refused_in_prometheus_words() {
    let server = TestServer::new().await;
    for (path, status, kind, text) in [
        (
            "query?query=up&time=x",
            400,
            "bad_data",
            r#"invalid parameter "time": invalid time value for 'time': cannot parse "x" to a valid timestamp"#,
        ),
        ("query?query=sum(", 400, "bad_data", r#"invalid parameter "query": 1:"#),
        ("query", 400, "bad_data", r#"invalid parameter "query""#),
        ("query?query=up&timeout=x", 400, "bad_data", r#"invalid parameter "timeout""#),
        ("query?query=up&limit=-1", 400, "bad_data", "limit must be non-negative"),
        ("query?query=up&lookback_delta=x", 400, "bad_data", "error parsing lookback delta duration"),
        (
            "query_range?query=up&end=1&step=1",
            400,
            "bad_data",
            r#"invalid parameter "start": cannot parse "" to a valid timestamp"#,
        ),
        (
            "query_range?query=up&start=2&end=1&step=1",
            400,
            "bad_data",
            "end timestamp must not be before start time",
        ),
        (
            "query_range?query=up&start=1&end=2&step=0",
            400,
            "bad_data",
            "zero or negative query resolution step widths are not accepted",
        ),
        (
            "query_range?query=up&start=0&end=11001&step=1",
            400,
            "bad_data",
            "exceeded maximum resolution of 11,000 points per timeseries",
        ),
        (
            "query_range?query=up[1m]&start=0&end=1&step=1",
            400,
            "bad_data",
            r#"invalid expression type "range vector" for range query"#,
        ),
        ("series", 400, "bad_data", "no match[] parameter provided"),
        ("series?match[]={x=\"\"}", 400, "bad_data", "must contain at least one non-empty matcher"),
        ("series?match[]=sum(up)", 400, "bad_data", r#"invalid parameter "match[]""#),
        ("query_exemplars?query=up&start=5&end=1", 400, "bad_data", "must not be before start"),
        ("label/%FF/values", 400, "bad_data", "invalid label name"),
        ("rules?type=x", 400, "bad_data", "not supported value"),
        ("rules?group_next_token=x", 400, "bad_data", "group_limit"),
        ("targets?state=x", 400, "bad_data", "none of active, dropped, any"),
        ("status/tsdb?limit=0", 400, "bad_data", "positive"),
        ("nothing", 404, "not_found", "there is no"),
    ] {
        let path = format!("/api/v1/{}", path.replace('{', "%7B").replace('}', "%7D").replace('"', "%22"));
        server.get(&path).await.refused(status, kind, text);
    }
    assert_eq!(server.get("/api/v1/query_range?query=up&start=0&end=11000&step=1").await.status, 200);
    for path in ["labels?start=5&end=1", "label/job/values?start=5&end=1", "series?match[]=up&start=5&end=1"]
    {
        let answer = server.get(&format!("/api/v1/{path}")).await;
        assert_eq!(answer.json()["data"], serde_json::json!([]), "{path}");
    }
    for lookback in ["0", "-5"] {
        assert_eq!(
            server.get(&format!("/api/v1/query?query=up&lookback_delta={lookback}")).await.status,
            200
        );
    }
}

#[tokio::test]
async fn what_is_stored_is_listed() {
    let server = TestServer::new().await;
    server.store(&[("__name__", "up"), ("job", "a")], &[1.0]);
    server.store(&[("__name__", "down"), ("job", "b"), ("http.status", "5")], &[1.0]);
    server.describe("up", MetricType::Gauge, "Whether it is up");
    assert_eq!(server.get("/api/v1/labels").await.data(), json!(["__name__", "http.status", "job"]));
    assert_eq!(server.get("/api/v1/labels?match[]=up").await.data(), json!(["__name__", "job"]));
    assert_eq!(server.get("/api/v1/label/job/values").await.data(), json!(["a", "b"]));
    assert_eq!(
        server.get("/api/v1/label/job/values?match[]=up&match[]=down").await.data(),
        json!(["a", "b"])
    );
    assert_eq!(server.get("/api/v1/label/U__http_2e_status/values").await.data(), json!(["5"]));
    assert_eq!(
        server.post_form("/api/v1/series", "match[]=up&match[]=%7Bjob%3D%22a%22%7D").await.data(),
        json!([{"__name__": "up", "job": "a"}])
    );
    let known = json!({"up": [{"type": "gauge", "help": "Whether it is up", "unit": ""}]});
    assert_eq!(server.get("/api/v1/metadata").await.data(), known);
    assert_eq!(server.get("/api/v1/metadata?limit=-1&limit_per_metric=-1").await.data(), known);
    assert_eq!(server.get("/api/v1/metadata?metric=other").await.data(), json!({}));
    let tsdb = server.get("/api/v1/status/tsdb").await.data();
    assert_eq!(tsdb["headStats"]["numSeries"], 2);
    assert_eq!(tsdb["labelValueCountByLabelName"][0], json!({"name": "__name__", "value": 2}));
}

#[tokio::test]
async fn rules_and_their_alerts_are_shown() {
    let server = TestServer::new().await;
    server.store(&[("__name__", "two"), ("i", "1")], &[1.0]);
    server.store(&[("__name__", "two"), ("i", "2")], &[1.0]);
    server.run_rules(RULES).await;
    let data = server.get("/api/v1/rules").await.data();
    assert_eq!(data["groups"][0]["name"], "g1");
    assert_eq!(data["groups"][0]["interval"], 15.0);
    let (alerting, recording) = (&data["groups"][0]["rules"][0], &data["groups"][0]["rules"][1]);
    assert_eq!((&alerting["type"], &alerting["state"]), (&json!("alerting"), &json!("firing")));
    assert_eq!((&alerting["duration"], &alerting["keepFiringFor"]), (&json!(0.0), &json!(0.0)));
    assert_eq!(alerting["alerts"][0]["value"], "5e-01");
    assert!(alerting["lastEvaluation"].as_str().unwrap().starts_with("2023-11-14T22:1"), "{alerting}");
    assert_eq!((&recording["type"], &recording["health"]), (&json!("recording"), &json!("err")));
    assert!(recording["lastError"].as_str().unwrap().contains("many-to-many"), "{recording}");

    let names = |data: &serde_json::Value| {
        let groups = data["groups"].as_array().unwrap();
        let one = |g: &serde_json::Value| {
            (g["name"].as_str().unwrap().to_owned(), g["rules"].as_array().unwrap().len())
        };
        groups.iter().map(one).collect::<Vec<_>>()
    };
    for (query, expected) in [
        ("type=alert", vec![("g1".to_owned(), 1), ("g2".to_owned(), 1)]),
        ("rule_group[]=g2", vec![("g2".to_owned(), 2)]),
        ("file[]=other.yml", vec![]),
        ("rule_name[]=Down&rule_group[]=g1", vec![("g1".to_owned(), 1)]),
        ("match[]=%7Bseverity%3D%22none%22%7D", vec![]),
        ("match[]=%7Bseverity%3D%22page%22%7D", vec![("g1".to_owned(), 1), ("g2".to_owned(), 1)]),
        ("group_limit=1", vec![("g1".to_owned(), 2)]),
        ("group_limit=1&group_next_token=shipped:r.yml%3Bg2", vec![("g2".to_owned(), 2)]),
    ] {
        assert_eq!(names(&server.get(&format!("/api/v1/rules?{query}")).await.data()), expected, "{query}");
    }
    assert_eq!(server.get("/api/v1/rules?group_limit=1").await.data()["groupNextToken"], "shipped:r.yml;g2");
    let bare = server.get("/api/v1/rules?exclude_alerts=true").await.data();
    assert_eq!(bare["groups"][0]["rules"][0]["alerts"], json!([]));
    let alerts = server.get("/api/v1/alerts").await.data();
    assert_eq!(alerts["alerts"].as_array().unwrap().len(), 2);
    assert_eq!(alerts["alerts"][0]["labels"], json!({"alertname": "Down", "severity": "page"}));
    assert_eq!(alerts["alerts"][0]["activeAt"], alerting["lastEvaluation"]);
}

#[tokio::test]
async fn targets_are_shown() {
    let server = TestServer::new().await;
    server.scrape(
        "job_name: app\nscrape_interval: 15s\nscrape_timeout: 10s\nstatic_configs: [{targets: ['127.0.0.1:1', '127.0.0.1:2']}]\n\
         relabel_configs: [{source_labels: [__address__], regex: '.*:2', action: drop}]\n",
    );
    let data = server.get("/api/v1/targets").await.data();
    let target = &data["activeTargets"][0];
    assert_eq!(target["discoveredLabels"]["__address__"], "127.0.0.1:1");
    assert_eq!(target["labels"], json!({"instance": "127.0.0.1:1", "job": "app"}));
    assert_eq!(
        [
            &target["scrapePool"],
            &target["scrapeUrl"],
            &target["health"],
            &target["lastError"],
            &target["lastScrape"]
        ],
        ["app", "http://127.0.0.1:1/metrics", "unknown", "", "0001-01-01T00:00:00Z"]
    );
    assert_eq!(
        (&target["scrapeInterval"], &target["scrapeTimeout"], &target["lastScrapeDuration"]),
        (&json!("15s"), &json!("10s"), &json!(0.0))
    );
    assert_eq!(data["droppedTargets"][0]["discoveredLabels"]["__address__"], "127.0.0.1:2");
    assert_eq!(data["droppedTargetCounts"], json!({"app": 1}));
    assert_eq!(server.get("/api/v1/targets?state=dropped").await.data()["activeTargets"], json!([]));
    assert_eq!(server.get("/api/v1/targets?state=active").await.data()["droppedTargets"], json!([]));
    assert_eq!(server.get("/api/v1/targets?scrapePool=other").await.data()["activeTargets"], json!([]));
    assert_eq!(server.get("/api/v1/scrape_pools").await.data(), json!({"scrapePools": ["app"]}));
}

#[tokio::test]
async fn what_is_known_of_the_metrics_of_a_target_is_shown() {
    let server = TestServer::new().await;
    server.scrape(
        "job_name: app\nscrape_interval: 15s\nscrape_timeout: 10s\nstatic_configs: [{targets: ['127.0.0.1:1', '127.0.0.1:2']}]\n",
    );
    let one = [("job", "app"), ("instance", "127.0.0.1:1")];
    for name in ["h_bucket", "h_count", "a", "unknown"] {
        server.store(&[&[("__name__", name)][..], &one].concat(), &[1.0]);
    }
    server.store(&[("__name__", "a"), ("job", "app"), ("instance", "127.0.0.1:2")], &[1.0]);
    server.store(&[("__name__", "b"), ("job", "other")], &[1.0]);
    server.describe("h", MetricType::Histogram, "How long.");
    server.describe("a", MetricType::Gauge, "How much.");
    server.describe("b", MetricType::Gauge, "Of nobody.");
    let a = |n: u8, metric: Option<&str>| {
        let target = json!({"instance": format!("127.0.0.1:{n}"), "job": "app"});
        let mut entry = json!({"target": target, "type": "gauge", "help": "How much.", "unit": ""});
        if let Some(metric) = metric {
            entry["metric"] = json!(metric);
        }
        entry
    };
    let h = json!({"target": {"instance": "127.0.0.1:1", "job": "app"}, "metric": "h", "type": "histogram", "help": "How long.", "unit": ""});
    for (query, expected) in [
        ("", json!([a(1, Some("a")), h, a(2, Some("a"))])),
        ("?metric=a", json!([a(1, None), a(2, None)])),
        ("?limit=1", json!([a(1, Some("a"))])),
        ("?match_target=%7Binstance=~%22.*:2%22%7D", json!([a(2, Some("a"))])),
    ] {
        assert_eq!(server.get(&format!("/api/v1/targets/metadata{query}")).await.data(), expected, "{query}");
    }
    let wrong = server.get("/api/v1/targets/metadata?match_target=x(").await;
    wrong.refused(400, "bad_data", "match_target");
}

#[tokio::test]
async fn the_server_says_what_it_is() {
    let server = TestServer::new().await;
    assert_eq!(server.get("/api/v1/status/buildinfo").await.data()["version"], "3.14.0+streamgate-0.1.0");
    assert_eq!(server.get("/api/v1/status/runtimeinfo").await.data()["startTime"], "2023-11-14T22:13:15Z");
    assert_eq!(server.get("/api/v1/status/flags").await.data(), json!({}));
    assert_eq!(server.get("/api/v1/status/config").await.data(), json!({"yaml": ""}));
    assert_eq!(server.get("/api/v1/format_query?query=sum(up)by(job)").await.data(), "sum by (job) (up)");
    server.get("/api/v1/format_query?query=sum(").await.refused(400, "bad_data", "parse error");
}

#[tokio::test]
async fn a_reload_that_failed_is_told() {
    let server = TestServer::new().await;
    let loaded = |failed_at| LiveConfig { loaded_at: 1_700_000_000_000, failed_at, ..LiveConfig::default() };
    server.live.send_replace(Arc::new(loaded(None)));
    let info = server.get("/api/v1/status/runtimeinfo").await.data();
    assert_eq!(
        [&info["reloadConfigSuccess"], &info["lastConfigTime"], &info["corruptionCount"]],
        [&json!(true), &json!("2023-11-14T22:13:20Z"), &json!(0)]
    );
    assert_eq!(server.get("/api/v1/notifications").await.data(), json!([]));
    server.live.send_replace(Arc::new(loaded(Some(1_700_000_060_000))));
    let info = server.get("/api/v1/status/runtimeinfo").await.data();
    assert_eq!(info["reloadConfigSuccess"], false);
    assert_eq!(
        server.get("/api/v1/notifications").await.data(),
        json!([{"text": "Configuration reload has failed.", "date": "2023-11-14T22:14:20Z", "active": true}])
    );
    assert_eq!(
        server.get("/api/v1/alertmanagers").await.data(),
        json!({"activeAlertmanagers": [], "droppedAlertmanagers": []})
    );
}

#[tokio::test]
async fn features_are_listed() {
    let server = TestServer::new().await;
    let data = server.get("/api/v1/features").await.data();
    for (category, name, on) in [
        ("api", "admin", false),
        ("api", "query_stats", true),
        ("promql", "duration_expr", true),
        ("promql", "fill", false),
        ("promql", "offset", true),
        ("promql_functions", "rate", true),
        ("promql_functions", "info", false),
        ("promql_operators", "limitk", false),
        ("promql_operators", "</", true),
        ("promql_operators", "and", true),
    ] {
        assert_eq!(data[category][name], on, "{category} {name}");
    }
    assert_eq!(data["promql"]["and"], json!(null));
}

#[tokio::test]
async fn calculated_durations_are_trees_of_their_own() {
    let server = TestServer::new().await;
    let ask = async |query: &str| {
        let query: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        server.get(&format!("/api/v1/parse_query?query={query}")).await.data()
    };
    let number =
        |val: &str, duration: bool| json!({"type": "numberLiteral", "val": val, "duration": duration});
    let calculated = |op: &str, lhs: serde_json::Value, rhs: serde_json::Value, wrapped: bool| json!({"type": "durationExpr", "op": op, "lhs": lhs, "rhs": rhs, "wrapped": wrapped});
    let step = || calculated("step", json!(null), json!(null), false);
    let plain = ask("foo[5m] offset -(1m)").await;
    assert_eq!((&plain["range"], &plain["rangeExpr"]), (&json!(300_000), &json!(null)));
    assert_eq!((&plain["offset"], &plain["offsetExpr"]), (&json!(-60_000), &json!(null)));
    let matrix = ask("foo[max_of(step(), 5m + 3m)] offset (10m / 2)").await;
    assert_eq!(matrix["range"], 0);
    let sum = calculated("+", number("300", true), number("180", true), false);
    assert_eq!(matrix["rangeExpr"], calculated("max_of", step(), sum, false));
    assert_eq!(matrix["offsetExpr"], calculated("/", number("600", true), number("2", false), true));
    let subquery = ask("foo[range():1s * 2] offset -step()").await;
    assert_eq!(subquery["rangeExpr"], calculated("range", json!(null), json!(null), false));
    assert_eq!(subquery["stepExpr"], calculated("*", number("1", true), number("2", false), false));
    assert_eq!(subquery["offsetExpr"], calculated("-", json!(null), step(), false));
    assert_eq!(subquery["expr"]["offsetExpr"], json!(null));
}

#[tokio::test]
async fn parse_errors_say_which_part_is_wrong() {
    let server = TestServer::new().await;
    for path in ["query", "query_range?start=0&end=1&step=1", "format_query", "parse_query"] {
        let separator = if path.contains('?') { '&' } else { '?' };
        let answer = server.get(&format!("/api/v1/{path}{separator}query=1%2B%0A+rte(x)")).await;
        assert_eq!(
            answer.json(),
            json!({
                "status": "error", "errorType": "bad_data",
                "error": "invalid parameter \"query\": 2:2: parse error: unknown function with name \"rte\"; did you mean \"rate\"?",
                "range": {"start": 4, "end": 7, "line": 2, "column": 2},
                "hint": "did you mean \"rate\"?",
            }),
            "{path}"
        );
    }
    // What is wrong with another parameter has no place in the expression.
    assert_eq!(server.get("/api/v1/query?query=up&time=x").await.json()["range"], json!(null));
}

#[tokio::test]
async fn trees_have_prometheus_shape() {
    let server = TestServer::new().await;
    let selector = |kind: &str, name: &str| {
        json!({"type": kind, "name": name, "offset": 0, "offsetExpr": null, "timestamp": null, "startOrEnd": null, "anchored": false,
            "smoothed": false, "matchers": [{"name": "__name__", "type": "=", "value": name}]})
    };
    let mut shifted = selector("vectorSelector", "up");
    shifted["matchers"] =
        json!([{"name": "a", "type": "=~", "value": "b"}, {"name": "__name__", "type": "=", "value": "up"}]);
    shifted["offset"] = json!(-300_000);
    shifted["startOrEnd"] = json!("end");
    let mut ranged = selector("matrixSelector", "up");
    ranged["range"] = json!(300_000);
    ranged["rangeExpr"] = json!(null);
    ranged["timestamp"] = json!(12_500);
    for (query, tree) in [
        ("5m", json!({"type": "numberLiteral", "val": "300"})),
        ("\"a\"", json!({"type": "stringLiteral", "val": "a"})),
        ("up{a=~\"b\"} @ end() offset -5m", shifted),
        (
            "rate(up[5m] @ 12.5)",
            json!({"type": "call", "args": [ranged],
                "func": {"name": "rate", "argTypes": ["matrix"], "variadic": 0, "returnType": "vector"}}),
        ),
        (
            "(-topk by (a) (3, up))",
            json!({"type": "parenExpr", "expr": {"type": "unaryExpr", "op": "-", "expr": {
                "type": "aggregation", "op": "topk", "without": false, "grouping": ["a"],
                "param": {"type": "numberLiteral", "val": "3"}, "expr": selector("vectorSelector", "up")}}}),
        ),
        (
            "up > bool 1",
            json!({"type": "binaryExpr", "op": ">", "bool": true, "matching": null,
                "lhs": selector("vectorSelector", "up"), "rhs": {"type": "numberLiteral", "val": "1"}}),
        ),
        (
            "up + on (a) group_left (b) y",
            json!({"type": "binaryExpr", "op": "+", "bool": false,
                "matching": {"card": "many-to-one", "labels": ["a"], "on": true, "include": ["b"],
                    "fillValues": {"lhs": null, "rhs": null}},
                "lhs": selector("vectorSelector", "up"), "rhs": selector("vectorSelector", "y")}),
        ),
        (
            "up[5m:] offset 1m",
            json!({"type": "subquery", "expr": selector("vectorSelector", "up"), "range": 300_000, "rangeExpr": null,
                "step": 0, "stepExpr": null, "offset": 60_000, "offsetExpr": null, "timestamp": null, "startOrEnd": null}),
        ),
    ] {
        let path = format!(
            "/api/v1/parse_query?query={}",
            form_urlencoded::byte_serialize(query.as_bytes()).collect::<String>()
        );
        assert_eq!(server.get(&path).await.data(), tree, "{query}");
    }
}

#[tokio::test]
async fn an_explained_query_shows_its_plan() {
    let server = TestServer::new().await;
    server.store(&[("__name__", "x")], &[1.0, 2.5, 4.0]);
    let data = server.get("/api/v1/query?query=sum(x)&explain=true").await.data();
    let plan = data["stats"]["plan"].as_array().unwrap();
    assert_eq!(plan.len(), 2);
    assert_eq!((&plan[0]["operator"], &plan[0]["depth"]), (&json!("sum"), &json!(0)));
    assert_eq!((&plan[1]["selectedSeries"], &plan[1]["readSamples"]), (&json!(1), &json!(1)));
    assert_eq!((&plan[1]["start"], &plan[1]["end"]), (&json!(4), &json!(5)));
    assert!(data["stats"]["timings"]["queryPreparationTime"].is_number());
    let plain = server.get("/api/v1/query?query=sum(x)&stats=true").await.data();
    assert_eq!(plain["stats"]["plan"], json!(null));
    server.get("/api/v1/query?query=x&explain=perhaps").await.refused(
        400,
        "bad_data",
        "neither true nor false",
    );
}

#[tokio::test]
async fn large_answers_come_in_pieces_and_compressed() {
    let server = TestServer::new().await;
    for n in 0..200 {
        server.store(&[("__name__", "x"), ("n", &n.to_string())], &[1.5; 40]);
    }
    let path = "/api/v1/query_range?query=x&start=1699999400&end=1700000000&step=15";
    let plain = server.get(path).await;
    assert_eq!(plain.headers.get("content-length"), None, "its length is not known before");
    assert_eq!(plain.data()["result"].as_array().unwrap().len(), 200);
    for encoding in ["gzip", "zstd"] {
        let request = axum::http::Request::get(path).header("Accept-Encoding", encoding);
        let packed = server.send(request.body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!(packed.headers["content-encoding"], encoding);
        assert!(packed.body.len() * 4 < plain.body.len());
        let unpacked = match encoding {
            "gzip" => {
                std::io::read_to_string(flate2::read::GzDecoder::new(&packed.body[..])).unwrap().into_bytes()
            }
            _ => zstd::decode_all(&packed.body[..]).unwrap(),
        };
        assert!(unpacked == plain.body, "{encoding} loses something");
    }
    let small = server.get("/api/v1/query?query=1").await;
    assert!(small.headers.contains_key("content-length"));
}

#[tokio::test]
async fn the_language_is_described() {
    let server = TestServer::new().await;
    let data = server.get("/api/v1/dashboard/promql").await.data();
    let find = |list: &str, name: &str| {
        data[list].as_array().unwrap().iter().find(|w| w["name"] == name).cloned().unwrap()
    };
    let rate = find("functions", "rate");
    assert_eq!((&rate["signature"], &rate["enabled"]), (&json!("rate(range vector)"), &json!(true)));
    let limitk = find("aggregations", "limitk");
    assert_eq!(limitk["feature"], "promql-experimental-functions");
    assert_eq!(limitk["enabled"], false);
    assert_eq!(find("keywords", "offset")["enabled"], true);
    assert_eq!(find("features", "promql-binop-fill-modifiers")["enabled"], false);
}

#[tokio::test]
async fn limits_name_themselves() {
    let limits =
        crate::api::ApiLimits { query_steps_max: 10, expression_bytes_max: 20, ..Default::default() };
    let server = TestServer::with(Setup { limits, ..Setup::default() }).await;
    server.get("/api/v1/query_range?query=1&start=0&end=10&step=1").await.data();
    server
        .get("/api/v1/query_range?query=1&start=0&end=11&step=1")
        .await
        .refused(400, "bad_data", "of 10 points per timeseries. Try decreasing the query resolution (?step=XX), or raise --query.max-steps");
    server.post_form("/api/v1/query", "query=1%2B1%2B1%2B1%2B1%2B1%2B1%2B1%2B1%2B1%2B1").await.refused(
        400,
        "bad_data",
        "--query.max-expression-length",
    );
}

#[tokio::test]
async fn what_could_not_be_read_is_told_with_every_list() {
    use crate::storage::{Storage, StorageOptions};
    let dir = tempfile::tempdir().unwrap();
    let storage =
        Storage::open(StorageOptions { dir: Some(dir.path().to_owned()), ..StorageOptions::default() })
            .unwrap();
    let mut appender = storage.appender();
    let series = appender.series(&Labels::from_pairs([("__name__", "up"), ("job", "a")])).unwrap();
    appender.append(series, NOW - 60_000, 1.0).unwrap();
    appender.commit().unwrap();
    storage.seal_all().unwrap();
    drop(storage);
    let block = std::fs::read_dir(dir.path().join("blocks")).unwrap().next().unwrap().unwrap().path();
    // Of the index, so that not even names can be read.
    let mut bytes = std::fs::read(&block).unwrap();
    let at = bytes.len() - 200;
    bytes[at] ^= 1;
    std::fs::write(block, bytes).unwrap();
    let server = TestServer::with(Setup { dir: Some(dir.path().to_owned()), ..Setup::default() }).await;
    for path in ["series?match[]=up", "labels", "labels?match[]=up", "label/job/values", "query?query=up"] {
        let answer = server.get(&format!("/api/v1/{path}")).await.json();
        let warning = answer["warnings"][0].as_str().unwrap_or_default();
        assert!(warning.starts_with("the answer is not whole"), "{path}: {answer}");
    }
    let export_match = vec![vec![Matcher::equal("__name__", "up")]];
    server.live.send(Arc::new(LiveConfig { export_match, ..LiveConfig::default() })).unwrap();
    for (n, path) in ["/federate?match[]=up", "/metrics"].iter().enumerate() {
        assert_eq!(server.get(path).await.status, 200);
        let own = server.get("/metrics").await.text();
        let line = format!("streamgate_federation_warnings_total {}\n", 2 * n + 1);
        assert!(own.contains(&line), "{path}: {own}");
    }
}
