use super::*;

fn problems(text: &str) -> Vec<String> {
    match load(&Source::new("r.yml", text), Features::default()) {
        Ok(_) => Vec::new(),
        Err(p) => p.list.iter().map(|p| format!("{}:{}: {}", p.line, p.column, p.message)).collect(),
    }
}

#[test]
fn what_is_wrong_is_named_where_it_stands() {
    let check = |text: &str, expected: &[&str]| assert_eq!(problems(text), expected, "{text}");
    check("", &[]);
    check("groups:\n", &[]);
    check("groups:\n- name: g\n- name: g\n", &["3:9: groupname: \"g\" is repeated in the same file"]);
    check("groups:\n- rules: []\n", &["2:3: Groupname must not be empty"]);
    check(
        "groups:\n- name: g\n  interval: soon\n  limit: -1\n",
        &[
            "3:13: group \"g\": not a valid duration string: \"soon\"",
            "4:10: group \"g\": the limit must not be negative",
        ],
    );
    let rule = |lines: &[&str]| format!("groups:\n- name: g\n  rules:\n  - {}\n", lines.join("\n    "));
    let about = "group \"g\", rule 1, \"a\": ";
    for (lines, expected) in [
        (&["record: a", "expr: sum("][..], "5:15: {}could not parse expression: unclosed left parenthesis"),
        (
            &["alert: a", "expr: |", "  up == 0", "    and rte(x[5m])"],
            "7:13: {}could not parse expression: unknown function with name \"rte\"",
        ),
        (&["alert: a", "expr: up", "for: soon"], "6:10: {}not a valid duration string: \"soon\""),
        (&["alert: a"], "4:12: {}field 'expr' must be set in rule"),
        (&["record: a", "expr: up", "for: 5m"], "6:10: {}invalid field 'for' in recording rule"),
        (&["record: a", "expr: up", "labels: {__name__: b}"], "6:14: {}invalid label name: __name__"),
        (
            &["record: a", "expr: up", "annotations: {b: c}"],
            "6:19: {}invalid field 'annotations' in recording rule",
        ),
        (
            &["alert: a", "expr: up", "labels:", "  x: 'y {{ $nope }}'"],
            "7:16: {}label \"x\": template: undefined variable \"$nope\"",
        ),
        (
            &["alert: a", "expr: up", "annotations:", "  x: |", "    one", "    {{ end }}"],
            "9:12: {}annotation \"x\": template: unexpected {{end}}",
        ),
        (&["alert: a", "record: b", "expr: up"], "4:12: {}only one of 'record' and 'alert' must be set"),
    ] {
        assert_eq!(problems(&rule(lines)), [expected.replace("{}", about)], "{lines:?}");
    }
    check(
        &rule(&["record: 'a{b=\"c\"}'", "expr: up"]),
        &[
            "4:13: group \"g\", rule 1, \"a{b=\\\"c\\\"}\": braces present in the recording rule name; should it be in expr?: a{b=\"c\"}",
        ],
    );
    check(&rule(&["expr: up"]), &["4:5: group \"g\", rule 1, \"\": one of 'record' or 'alert' must be set"]);
}

#[test]
fn every_problem_is_told_at_once() {
    let text = "groups:\n- name: g\n  rules:\n  - {alert: a, expr: 'rate(up)'}\n  - {record: b, expr: ')'}\n- name: g\n";
    assert_eq!(problems(text).len(), 3);
}

#[test]
fn group_labels_are_the_default_of_rule_labels() {
    let text = "groups:\n- name: g\n  interval: 30s\n  limit: 5\n  labels: {team: a, env: x}\n  rules:\n  - record: r\n    expr: up\n    labels: {team: b, none: ''}\n  - alert: A\n    expr: |\n      up == 0\n    for: 1m\n    labels: ~\n";
    let file = load(&Source::new("r.yml", text), Features::default()).unwrap();
    let group = &file.groups[0];
    assert_eq!((group.interval_ms, group.limit, group.query_offset_ms), (Some(30_000), 5, None));
    let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    assert_eq!(group.rules[0].labels, [pair("env", "x"), pair("none", ""), pair("team", "b")]);
    assert_eq!(group.rules[1].labels, [pair("env", "x"), pair("team", "a")]);
    assert_eq!(group.rules[1].query, "up == 0");
    assert_eq!(group.key(), "r.yml;g");
}
