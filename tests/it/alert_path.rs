//! Target, threshold, webhook, escalation, resolved; acknowledged; killed between firing and delivery.

use serde_json::{Value, json};

use crate::util::{Hook, Server, Target, until};

fn server(target: &Target, hook: &Hook) -> Server {
    let prometheus = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\nscrape_configs:\n- job_name: app\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
        target.port
    );
    let rules = "groups:\n- name: g\n  rules:\n  - alert: QueueDeep\n    expr: queue_depth > 10\n    for: 1s\n    labels: {severity: page}\n    annotations: {summary: 'queue {{ $labels.q }} is {{ $value }}'}\n";
    let alertmanager = format!(
        "route: {{receiver: first, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h, escalation_policy: climb}}\nreceivers:\n- name: first\n  webhook_configs: [{{url: '{}'}}]\n- name: second\n  webhook_configs: [{{url: '{}'}}]\nescalation_policies:\n- name: climb\n  steps: [{{after: 3s, receiver: second}}]\n",
        hook.url("/first"),
        hook.url("/second")
    );
    let files = [("prometheus.yml", prometheus.as_str()), ("rules.yml", rules), ("am.yml", &alertmanager)];
    Server::start(&["serve", "--config.file=prometheus.yml", "--alertmanager.config.file=am.yml"], &files)
}

fn of_queue(alerts: Vec<Value>, q: &str) -> Vec<Value> {
    alerts.into_iter().filter(|a| a["labels"]["q"] == q).collect()
}

fn wait_for(hook: &Hook, path: &str, status: &str, q: &str) -> Value {
    until(20, || of_queue(hook.alerts(path, status), q).into_iter().next())
        .unwrap_or_else(|| panic!("no {status} of queue {q} at {path}; got {:?}", hook.got()))
}

fn id_of(server: &Server, q: &str) -> String {
    until(5, || {
        let list = server.get("/api/v1/dashboard/alerts").json();
        let alert = list["data"]
            .as_array()
            .or_else(|| list["data"]["alerts"].as_array())?
            .iter()
            .find(|a| a["labels"]["q"] == q)?
            .clone();
        alert["id"].as_str().map(str::to_owned)
    })
    .expect("the alert is listed")
}

#[test]
fn an_alert_is_delivered_escalated_and_resolved_at_both() {
    let (target, hook) = (Target::new("queue_depth{q=\"a\"} 1\n"), Hook::new());
    let server = server(&target, &hook);
    until(10, || (target.hits() > 1).then_some(())).expect("the target is scraped");
    target.set("queue_depth{q=\"a\"} 20\n");
    let alert = wait_for(&hook, "/first", "firing", "a");
    assert_eq!(alert["annotations"]["summary"], "queue a is 20");
    assert_eq!(alert["labels"]["severity"], "page");
    let first = &hook.got()[0];
    assert_eq!((&first.body["version"], &first.body["status"]), (&json!("4"), &json!("firing")));
    assert!(first.headers.contains("content-type: application/json"), "{}", first.headers);
    wait_for(&hook, "/second", "firing", "a");
    target.set("queue_depth{q=\"a\"} 1\n");
    wait_for(&hook, "/first", "resolved", "a");
    wait_for(&hook, "/second", "resolved", "a");
    assert_eq!(of_queue(hook.alerts("/first", "firing"), "a").len(), 1, "told once: {:?}", hook.got());
    let history = server.get("/api/v1/dashboard/alerts/history").body;
    for kind in ["fired", "escalated", "resolved"] {
        assert!(history.contains(kind), "{kind} in {history}");
    }
}

#[test]
fn an_acknowledged_alert_is_not_escalated_not_even_after_a_kill() {
    let (target, hook) = (Target::new("queue_depth{q=\"a\"} 1\n"), Hook::new());
    let mut server = server(&target, &hook);
    target.set("queue_depth{q=\"a\"} 20\nqueue_depth{q=\"b\"} 30\n");
    wait_for(&hook, "/first", "firing", "a");
    wait_for(&hook, "/first", "firing", "b");
    let answer = server.post(
        &format!("/api/v1/dashboard/alerts/{}/acknowledge", id_of(&server, "b")),
        &json!({"by": "ops", "comment": "looking"}),
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
    server.kill();
    server.start_again();
    // The step of the other one fell due in the meantime, or does now.
    wait_for(&hook, "/second", "firing", "a");
    // Whoever would have escalated b had the same time to do so; a later alert proves that the pipeline goes on.
    target.set("queue_depth{q=\"a\"} 1\nqueue_depth{q=\"b\"} 30\nqueue_depth{q=\"c\"} 40\n");
    wait_for(&hook, "/second", "firing", "c");
    assert_eq!(of_queue(hook.alerts("/second", "firing"), "b"), Vec::<Value>::new());
    target.set("queue_depth{q=\"a\"} 1\nqueue_depth{q=\"b\"} 1\n");
    wait_for(&hook, "/first", "resolved", "b");
}

#[test]
fn a_kill_between_firing_and_delivery_loses_nothing() {
    let (target, hook) = (Target::new("queue_depth{q=\"a\"} 1\n"), Hook::new());
    let mut server = server(&target, &hook);
    hook.answer_with(503);
    target.set("queue_depth{q=\"a\"} 20\n");
    wait_for(&hook, "/first", "firing", "a");
    server.kill();
    let before = hook.got().len();
    hook.answer_with(200);
    // Over before it comes back: it must still be told that it fired, and that it is over.
    target.set("queue_depth{q=\"a\"} 1\n");
    server.start_again();
    until(20, || {
        let later = hook.got()[before..].to_vec();
        let told = |status: &str| {
            later.iter().any(|n| {
                n.path == "/first"
                    && n.body["alerts"].as_array().is_some_and(|l| l.iter().any(|a| a["status"] == status))
            })
        };
        (told("firing") && told("resolved")).then_some(())
    })
    .unwrap_or_else(|| panic!("lost: {:?}", hook.got()));
}
