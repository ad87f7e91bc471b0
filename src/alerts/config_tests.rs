use super::*;
use std::io::Write as _;

fn parse(text: &str) -> Result<AlertmanagerConfig, Problems> {
    load(&Source::new("am.yml", text), Path::new("/etc/am"))
}

#[track_caller]
fn check_bad(text: &str, expected: &[&str]) {
    let problems = parse(text).expect_err(text).to_string();
    let lines: Vec<&str> = problems.lines().filter(|l| l.starts_with("am.yml")).collect();
    assert_eq!(lines.len(), expected.len(), "{text}\n{problems}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{text}\n{line}\nshould begin {expected}");
    }
}

const RECEIVERS: &str = "receivers: [{name: r}, {name: s}]\n";

#[test]
fn routes_inherit_and_have_upstream_keys() {
    let config = parse(
        "global: {resolve_timeout: 1m}\n\
         route:\n  receiver: r\n  group_by: [b, a]\n  group_wait: 0s\n  escalation_policy: p\n  routes:\n\
         \x20 - match: {z: '1'}\n    match_re: {a: 'x|y'}\n    matchers: ['c!=\"d\"', 'e=~f']\n    continue: true\n    receiver: s\n\
         \x20   routes: [{group_by: ['...'], repeat_interval: 1h, escalation_policy: ''}]\n\
         \x20 - matchers: [a=b]\n\
         receivers: [{name: r}, {name: s, webhook_configs: [{url: 'http://h/x', send_resolved: false, max_alerts: 3}, {url_file: u, timeout: 2s}]}]\n\
         escalation_policies: [{name: p, steps: [{after: 10m, receiver: s}, {after: 5m, receiver: r}]}]\n",
    )
    .unwrap();
    assert_eq!(config.resolve_timeout_ms, 60_000);
    let keys: Vec<&str> = config.routes.list.iter().map(|r| r.key.as_str()).collect();
    let long = r#"{}/{a=~"^(?:x|y)$",c!="d",e=~"f",z="1"}"#;
    assert_eq!(keys, ["{}", long, &format!("{long}/{{}}"), r#"{}/{a="b"}"#]);
    let [root, first, inner, last] = &config.routes.list[..] else { panic!("four routes") };
    assert_eq!(root.policy.as_ref().unwrap().steps[0].after_ms, 300_000);
    assert_eq!(
        (root.group_wait_ms, root.group_interval_ms, root.repeat_interval_ms),
        (0, 300_000, 14_400_000)
    );
    assert_eq!((first.receiver.as_str(), first.goes_on, first.policy.is_some()), ("s", true, true));
    assert_eq!((&inner.group_by, inner.repeat_interval_ms, &inner.policy), (&GroupBy::All, 3_600_000, &None));
    assert_eq!(
        (last.receiver.as_str(), &last.group_by),
        ("r", &GroupBy::Labels(vec!["a".into(), "b".into()]))
    );
    let s = &config.receivers["s"].integrations;
    assert_eq!((s[0].send_resolved, s[0].webhook.max_alerts, s[0].webhook.timeout_ms), (false, 3, 10_000));
    assert_eq!(s[1].webhook.url, crate::notify::UrlSource::File("/etc/am/u".into()));
    assert_eq!((s[1].send_resolved, s[1].webhook.timeout_ms), (true, 2_000));
}

#[test]
fn alerts_take_the_deepest_routes_that_match() {
    let config = parse(&format!(
        "route:\n  receiver: r\n  routes:\n  - matchers: [a=1]\n    continue: true\n  - matchers: ['a=~\"1|2\"']\n    routes:\n    - matchers: [b=1]\n    - matchers: [b=1]\n  - matchers: [a!=9]\n{RECEIVERS}"
    ))
    .unwrap();
    let of =
        |pairs: &[(&str, &str)]| config.routes.of(&crate::model::Labels::from_pairs(pairs.iter().copied()));
    assert_eq!(of(&[("a", "1")]), [1, 2]);
    assert_eq!(of(&[("a", "1"), ("b", "1")]), [1, 3]);
    assert_eq!(of(&[("a", "2"), ("b", "2")]), [2]);
    assert_eq!(of(&[("x", "2")]), [5]);
    assert_eq!(of(&[("a", "9")]), [0]);
    let labels = crate::model::Labels::from_pairs([("alertname", "x\n\"ü"), ("b", "1")]);
    assert_eq!(
        config.routes.list[3].group_key(&labels),
        "{}/{a=~\"1|2\"}/{b=\"1\"}:{alertname=\"x\\n\\\"ü\", b=\"1\"}"
    );
}

/// What Alertmanager 0.33.1 sends.
#[test]
fn group_keys_and_fingerprints_are_those_of_alertmanager() {
    let config = parse(&format!(
        "route:\n  receiver: r\n  routes:\n  - match: {{z: '1'}}\n    match_re: {{a: 'x|y'}}\n    matchers: ['c!=\"d\\\"q\"', 'e=~f']\n{RECEIVERS}"
    ))
    .unwrap();
    let labels = |pairs: &[(&str, &str)]| crate::model::Labels::from_pairs(pairs.iter().copied());
    let all = labels(&[
        ("a", "x"),
        ("alertname", "x\n\"\u{fc}\u{1}\t"),
        ("c", "d"),
        ("e", "f"),
        ("job", "j"),
        ("z", "1"),
    ]);
    assert_eq!(
        config.routes.list[1].group_key(&all),
        "{}/{a=~\"^(?:x|y)$\",c!=\"d\\\"q\",e=~\"f\",z=\"1\"}:{a=\"x\", alertname=\"x\\n\\\"\u{fc}\\x01\\t\", c=\"d\", e=\"f\", job=\"j\", z=\"1\"}"
    );
    assert_eq!(format!("{:016x}", all.fingerprint()), "b890e6b1ba0be5cc");
    assert_eq!(
        format!("{:016x}", labels(&[("alertname", "n"), ("job", "j")]).fingerprint()),
        "1eb4834c7f078ed3"
    );
}

#[test]
fn everything_wrong_is_reported_with_its_place() {
    check_bad(
        "route: {receiver: nobody}\nreceivers: [{name: r}]\n",
        &["am.yml:1:19: undefined receiver \"nobody\""],
    );
    check_bad(
        "route:\n  receiver: r\n  matchers: ['a=~(']\nreceivers: [{name: r}]\n",
        &["am.yml:3:14: root route must not", "am.yml:3:18: bad matcher"],
    );
    check_bad("receivers: [{name: r}]\n", &["am.yml:1:1: no route provided"]);
    check_bad("", &["am.yml:1:1: no route provided"]);
    check_bad(
        "route:\n  group_wait: 5\n  group_interval: 0s\n  repeat_interval: 0s\n  continue: true\n  group_by: [a, a, '...']\n  escalation_policy: x\n",
        &[
            "am.yml:2:3: root route must specify a default receiver",
            "am.yml:5:13: cannot have continue",
            "am.yml:6:17: duplicated label",
            "am.yml:6:14: cannot have wildcard",
            "am.yml:2:15: not a valid duration",
            "am.yml:3:19: group_interval cannot be zero",
            "am.yml:4:20: repeat_interval cannot be zero",
            "am.yml:7:22: undefined escalation policy",
        ],
    );
    check_bad(
        "route: {receiver: r}\nreceivers:\n- name: r\n- name: r\n- webhook_configs: [{}]\n- name: s\n  webhook_configs:\n  - url: ftp://x\n  - url: http://x\n    url_file: y\n  - {url: 'http://x', timeout: x}\n",
        &[
            "am.yml:4:9: notification config name \"r\" is not unique",
            "am.yml:5:21: one of url or url_file",
            "am.yml:5:3: missing name in receiver",
            "am.yml:8:10: unsupported scheme",
            "am.yml:10:15: at most one of url",
            "am.yml:11:32: not a valid duration",
        ],
    );
    check_bad(
        "route: {receiver: r}\nreceivers: [{name: r}]\nescalation_policies:\n- name: p\n  until: never\n  steps: [{after: 5, receiver: q}, {receiver: r}, {after: 5m}]\n- name: p\n",
        &[
            "am.yml:5:10: \"never\" is none of",
            "am.yml:6:19: not a valid duration",
            "am.yml:6:32: undefined receiver \"q\"",
            "am.yml:6:36: `after` is missing",
            "am.yml:6:51: `receiver` is missing",
            "am.yml:7:3: an escalation policy needs",
            "am.yml:7:9: escalation policy name \"p\" is not unique",
        ],
    );
}

#[test]
fn keys_of_upstream_that_do_not_exist_here_are_refused_by_name() {
    check_bad(
        "inhibit_rules: []\ntime_intervals: []\ntemplates: []\nglobal:\n  smtp_from: a\nroute:\n  receiver: r\n  mute_time_intervals: [x]\nreceivers:\n- name: r\n  email_configs: []\n",
        &[
            "am.yml:1:1: `inhibit_rules` is not supported yet",
            "am.yml:2:1: `time_intervals` is not supported yet",
            "am.yml:3:1: `templates` is not supported yet",
            "am.yml:5:3: `smtp_from` is not supported yet",
            "am.yml:8:3: `mute_time_intervals` is not supported yet",
            "am.yml:11:3: `email_configs` is not supported yet",
        ],
    );
    check_bad("rout: {}\n", &["am.yml:1:1: unknown field `rout`"]);
}

/// Configurations with known verdicts: what upstream refuses is refused here; what upstream takes is taken, or refused
/// only because of keys that are not supported yet.
#[test]
fn agrees_with_upstream_on_its_own_test_files() {
    let shared = std::env::var("STREAMGATE_SHARED").unwrap_or_else(|_| "../shared".to_owned());
    let root = Path::new(&shared).join("promtool");
    let Ok(manifest) = std::fs::read_to_string(root.join("manifest.json")) else {
        // Printing macros are silent in a test that passes.
        let said = format!("\nSKIPPED: {} is absent; set STREAMGATE_SHARED\n", root.display());
        std::io::stderr().write_all(said.as_bytes()).unwrap();
        return;
    };
    let cases: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let (mut same, mut unsupported) = (0, Vec::new());
    for case in cases.as_array().unwrap().iter().filter(|c| c["kind"] == "alertmanager config") {
        let file = case["file"].as_str().unwrap();
        let verdict = case.get("expected_0_34").unwrap_or(&case["amtool_0_25"]).as_str().unwrap();
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        match load(&Source::new(file, text), &root) {
            Ok(_) => assert_eq!(verdict, "valid", "{file} should be refused"),
            Err(problems) if verdict == "valid" => {
                for problem in &problems.list {
                    assert!(problem.message.ends_with("is not supported yet"), "{file}: {problem}");
                }
                unsupported.push(file.to_owned());
                continue;
            }
            Err(_) => {}
        }
        same += 1;
    }
    eprintln!("{same} as upstream; refused for keys that are not supported yet: {unsupported:#?}");
    assert!(same > 10, "the manifest has its cases");
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "(route|receivers|name|match|group_by|steps|after|[:{}\\[\\]\", \n]|[a-z0-9]){0,40}") {
        let _verdict = parse(&text);
    }
}
