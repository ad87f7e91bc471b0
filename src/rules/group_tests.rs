use super::*;
use crate::model::{Matcher, is_stale_marker};
use crate::promql::{EngineOptions, Features};
use crate::rules::file;
use crate::storage::{Samples, StorageOptions};
use crate::telemetry::new_registry;
use crate::yaml::Source;

const MINUTE: i64 = 60_000;

/// A group over a storage that a test fills, ticked by hand.
struct Fixture {
    world: World,
    metrics: RuleMetrics,
    group: Group,
}

fn spec(rules: &str) -> Arc<GroupSpec> {
    let text = format!("groups:\n- name: g\n  interval: 1m\n{rules}");
    let file = file::load(&Source::new("r.yml", text), Features::default()).unwrap();
    Arc::clone(&file.groups[0])
}

impl Fixture {
    fn new(rules: &str) -> Self {
        let (clock, _hand) = Clock::manual(0);
        let options = StorageOptions { retention_ms: i64::MAX / 4, ..StorageOptions::default() };
        let settings = Settings { external_url: "http://sg".into(), ..Settings::default() };
        let world = World {
            engine: Engine::new(EngineOptions::default(), clock.clone()),
            storage: Storage::open(options).unwrap(),
            clock,
            settings: Arc::new(settings),
        };
        let metrics = RuleMetrics::register(&mut new_registry());
        let group = Group::new(spec(rules), &world.settings, &metrics);
        Fixture { world, metrics, group }
    }

    fn put(&self, series: &str, ts: Timestamp, value: f64) {
        let labels = labels(series);
        let mut appender = self.world.storage.appender();
        let series = appender.series(&labels).unwrap();
        appender.append(series, ts, value).unwrap();
        appender.commit().unwrap();
    }

    fn tick(&mut self, ts: Timestamp) -> TickOutput {
        self.group.tick(ts, &self.world)
    }

    /// What was sent at `ts`: `firing` or `resolved`, and the label `i`.
    fn sent(&mut self, ts: Timestamp) -> Vec<String> {
        let out = self.tick(ts);
        let state = |a: &Alert| if a.is_resolved_at(ts) { "resolved" } else { "firing" };
        out.alerts.iter().map(|a| format!("{} {}", state(a), a.labels.get("i").unwrap_or(""))).collect()
    }

    /// The samples of a series, staleness markers as `None`.
    fn samples(&self, series: &str) -> Vec<(Timestamp, Option<f64>)> {
        let wanted = labels(series);
        let matchers: Vec<Matcher> = wanted.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
        let mut all = Samples::default();
        for s in self.world.storage.reader().select(&matchers, i64::MIN / 2, i64::MAX / 2) {
            if *s.labels() == wanted {
                s.read(i64::MIN / 2, i64::MAX / 2, &mut all);
            }
        }
        let value = |v: &f64| (!is_stale_marker(*v)).then_some(*v);
        all.ts.iter().copied().zip(all.vs.iter().map(value)).collect()
    }

    fn active(&self) -> Vec<(String, AlertState)> {
        let view = self.group.shared.view();
        let mut all = Vec::new();
        for rule in view.rules {
            if let RuleViewKind::Alerting { alerts, .. } = rule.kind {
                all.extend(alerts.into_iter().map(|a| (a.labels.get("i").unwrap_or("").to_owned(), a.state)));
            }
        }
        all
    }

    /// A kill and a new start: what was saved and the samples survive.
    fn restart(&mut self, saved: &Op) {
        self.group = Group::new(Arc::clone(&self.group.shared.spec), &self.world.settings, &self.metrics);
        if let Op::Put { row, .. } = saved {
            let alerts = serde_json::from_slice(&row.body).unwrap();
            assert!(self.group.adopt(alerts).is_empty());
        }
    }
}

fn labels(series: &str) -> Labels {
    let (name, rest) = series.split_once('{').unwrap_or((series, "}"));
    let pairs = rest.trim_end_matches('}').split(',').filter_map(|p| p.split_once('='));
    let pairs = pairs.map(|(n, v)| (n.to_owned(), v.trim_matches('"').to_owned()));
    Labels::from_pairs(pairs.chain([("__name__".to_owned(), name.to_owned())]))
}

#[test]
fn a_recording_rule_writes_its_result_and_marks_what_vanishes() {
    let mut f = Fixture::new(
        "  rules:\n  - record: r\n    expr: m * 2\n    labels: {l: x, job: ''}\n  - record: s\n    expr: sum(r)\n  - record: t\n    expr: vector(time())\n",
    );
    f.put("m{i=\"1\",job=\"a\"}", 0, 1.0);
    f.put("m{i=\"2\",job=\"a\"}", 0, 2.0);
    let out = f.tick(0);
    assert_eq!((out.samples, out.failures), (4, 0));
    // A rule sees what the one before it wrote in the same tick.
    assert_eq!(f.samples("s"), [(0, Some(6.0))]);
    f.put("m{i=\"1\",job=\"a\"}", MINUTE, 5.0);
    f.put("m{i=\"2\",job=\"a\"}", MINUTE, stale_marker());
    f.tick(MINUTE);
    f.tick(2 * MINUTE);
    assert_eq!(
        f.samples("r{i=\"1\",l=\"x\"}"),
        [(0, Some(2.0)), (MINUTE, Some(10.0)), (2 * MINUTE, Some(10.0))]
    );
    assert_eq!(f.samples("r{i=\"2\",l=\"x\"}"), [(0, Some(4.0)), (MINUTE, None)]);
    assert_eq!(f.samples("t"), [(0, Some(0.0)), (MINUTE, Some(60.0)), (2 * MINUTE, Some(120.0))]);
}

#[test]
fn what_cannot_be_recorded_is_an_error_of_its_rule_alone() {
    let mut f = Fixture::new(
        "  limit: 1\n  rules:\n  - record: same\n    expr: m\n    labels: {i: x}\n  - record: many\n    expr: m\n  - record: ok\n    expr: sum(m)\n  - record: text\n    expr: '\"a\"'\n",
    );
    f.put("m{i=\"1\"}", 0, 1.0);
    f.tick(0);
    assert_eq!(f.samples("many{i=\"1\"}"), [(0, Some(1.0))]);
    f.put("m{i=\"2\"}", MINUTE, 1.0);
    assert_eq!(f.tick(MINUTE).failures, 3);
    let errors: Vec<Option<String>> = f.group.shared.view().rules.into_iter().map(|r| r.last_error).collect();
    assert_eq!(
        errors,
        [
            Some("exceeded limit of 1 with 2 series".to_owned()),
            Some("exceeded limit of 1 with 2 series".to_owned()),
            None,
            Some("rule result is not a vector or scalar".to_owned())
        ]
    );
    // A failed evaluation ends no series.
    assert_eq!(f.samples("many{i=\"1\"}"), [(0, Some(1.0))]);
    assert_eq!(f.samples("ok"), [(0, Some(1.0)), (MINUTE, Some(2.0))]);
}

#[test]
fn equal_label_sets_are_refused() {
    let mut f = Fixture::new(
        "  rules:\n  - record: same\n    expr: m\n    labels: {i: x}\n  - alert: A\n    expr: m\n    labels: {i: x}\n",
    );
    f.put("m{i=\"1\"}", 0, 1.0);
    f.put("m{i=\"2\"}", 0, 1.0);
    assert_eq!(f.tick(0).failures, 2);
    let errors = f.group.shared.view().rules.into_iter().filter_map(|r| r.last_error).collect::<Vec<_>>();
    assert_eq!(
        errors,
        [
            "vector contains metrics with the same labelset after applying rule labels",
            "vector contains metrics with the same labelset after applying alert labels"
        ]
    );
}

const ALERT: &str = "  rules:\n  - alert: A\n    expr: m > 5\n    for: 2m\n    labels: {sev: '{{ if gt $value 8.0 }}high{{ else }}low{{ end }}'}\n    annotations: {text: '{{ $labels.i }} is {{ $value }}'}\n";

#[test]
fn an_alert_is_pending_then_fires_then_is_resolved() {
    let mut f = Fixture::new(ALERT);
    let firing = "ALERTS{alertname=\"A\",alertstate=\"firing\",i=\"1\",sev=\"low\"}";
    let pending = "ALERTS{alertname=\"A\",alertstate=\"pending\",i=\"1\",sev=\"low\"}";
    let since = "ALERTS_FOR_STATE{alertname=\"A\",i=\"1\",sev=\"low\"}";
    for (minute, value, sent, state) in [
        (0, 6.0, vec![], Some(AlertState::Pending)),
        (1, 6.0, vec![], Some(AlertState::Pending)),
        (2, 7.0, vec!["firing 1"], Some(AlertState::Firing)),
        (3, 7.0, vec![], Some(AlertState::Firing)),
        (4, 7.0, vec!["firing 1"], Some(AlertState::Firing)),
        (5, 1.0, vec!["resolved 1"], None),
        (6, 1.0, vec![], None),
        (7, 1.0, vec!["resolved 1"], None),
    ] {
        f.put("m{i=\"1\"}", minute * MINUTE, value);
        // The resend delay of one minute must be exceeded, so every second tick sends.
        assert_eq!(f.sent(minute * MINUTE), sent, "minute {minute}");
        let active = f.active();
        assert_eq!(active.first().map(|a| a.1), state, "minute {minute}");
    }
    assert_eq!(f.samples(pending), [(0, Some(1.0)), (MINUTE, Some(1.0)), (2 * MINUTE, None)]);
    assert_eq!(f.samples(firing)[..2], [(2 * MINUTE, Some(1.0)), (3 * MINUTE, Some(1.0))]);
    assert_eq!(f.samples(firing)[3..], [(5 * MINUTE, None)]);
    assert_eq!(f.samples(since)[4..], [(4 * MINUTE, Some(0.0)), (5 * MINUTE, None)]);
}

#[test]
fn what_is_sent_says_all_about_the_alert() {
    let mut f = Fixture::new(ALERT);
    for minute in 0..3 {
        f.put("m{i=\"1\"}", minute * MINUTE, 9.5);
    }
    let mut sent = Vec::new();
    for minute in 0..3 {
        sent.extend(f.tick(minute * MINUTE).alerts);
    }
    let alert = &sent[0];
    assert_eq!(alert.labels, Labels::from_pairs([("alertname", "A"), ("i", "1"), ("sev", "high")]));
    assert_eq!(alert.annotations.get("text"), Some("1 is 9.5"));
    assert_eq!((alert.starts_at, alert.ends_at), (2 * MINUTE, Some(6 * MINUTE)));
    assert_eq!(alert.generator_url, "http://sg/graph?g0.expr=m+%3E+5&g0.tab=1");
}

#[test]
fn resolved_alerts_are_forgotten_after_a_quarter_of_an_hour() {
    let mut f = Fixture::new("  rules:\n  - {alert: A, expr: m > 5}\n");
    f.put("m{i=\"1\"}", 0, 6.0);
    assert_eq!(f.sent(0), ["firing 1"]);
    f.put("m{i=\"1\"}", MINUTE, 1.0);
    assert_eq!(f.sent(MINUTE), ["resolved 1"]);
    assert_eq!(f.sent(15 * MINUTE), ["resolved 1"]);
    assert_eq!(f.sent(17 * MINUTE), [""; 0]);
    assert_eq!(f.sent(30 * MINUTE), [""; 0]);
    // It may fire anew at once.
    f.put("m{i=\"1\"}", 31 * MINUTE, 7.0);
    assert_eq!(f.sent(31 * MINUTE), ["firing 1"]);
}

#[test]
fn keep_firing_for_bridges_a_gap() {
    let mut f = Fixture::new("  rules:\n  - {alert: A, expr: m > 5, keep_firing_for: 3m}\n");
    let values = [6.0, 1.0, 1.0, 6.0, 1.0, 1.0, 1.0, 1.0];
    let mut states = Vec::new();
    for (minute, value) in values.into_iter().enumerate() {
        let ts = minute as i64 * MINUTE;
        f.put("m{i=\"1\"}", ts, value);
        f.tick(ts);
        states.push(!f.active().is_empty());
    }
    assert_eq!(states, [true, true, true, true, true, true, true, false]);
}

#[test]
fn past_the_limit_no_alert_is_active() {
    let mut f = Fixture::new("  limit: 1\n  rules:\n  - {alert: A, expr: m > 5}\n");
    f.put("m{i=\"1\"}", 0, 6.0);
    assert_eq!(f.sent(0), ["firing 1"]);
    f.put("m{i=\"2\"}", MINUTE, 6.0);
    let out = f.tick(MINUTE);
    assert_eq!((out.failures, out.alerts.len()), (1, 0));
    assert!(f.active().is_empty());
    assert_eq!(
        f.group.shared.view().rules[0].last_error.as_deref(),
        Some("exceeded limit of 1 with 2 alerts")
    );
}

#[test]
fn what_was_not_taken_is_sent_again() {
    let mut f = Fixture::new("  rules:\n  - {alert: A, expr: m > 5}\n");
    f.put("m{i=\"1\"}", 0, 6.0);
    assert_eq!(f.sent(0), ["firing 1"]);
    f.group.unsent(0);
    assert_eq!(f.sent(1000), ["firing 1"]);
    assert_eq!(f.sent(2000), [""; 0]);
}

#[test]
fn an_alert_that_ends_during_a_restart_is_told_to_be_resolved() {
    let mut f = Fixture::new("  rules:\n  - {alert: A, expr: m > 5, for: 1m}\n");
    for (minute, value) in [(0, 6.0), (1, 6.0)] {
        f.put("m{i=\"1\"}", minute * MINUTE, value);
        f.put("m{i=\"2\"}", minute * MINUTE, value);
    }
    f.tick(0);
    let out = f.tick(MINUTE);
    assert_eq!(out.alerts.len(), 2);
    let saved = out.save.expect("two alerts began to fire");
    f.put("m{i=\"1\"}", 2 * MINUTE, 1.0);
    f.put("m{i=\"2\"}", 2 * MINUTE, 6.0);
    f.restart(&saved);
    // One goes on firing since when it did; of the other nothing is concluded from one evaluation.
    let first = f.tick(2 * MINUTE);
    assert_eq!(first.alerts.len(), 1);
    assert_eq!((first.alerts[0].labels.get("i"), first.alerts[0].starts_at), (Some("2"), MINUTE));
    assert_eq!(f.sent(2 * MINUTE + 5000), ["resolved 1"]);
    assert_eq!(f.active(), [("2".to_owned(), AlertState::Firing)]);
}

#[test]
fn nothing_is_concluded_before_the_first_scrapes_after_a_long_outage() {
    let mut f = Fixture::new("  rules:\n  - {alert: A, expr: m > 5}\n");
    f.put("m{i=\"1\"}", 0, 6.0);
    let saved = f.tick(0).save.unwrap();
    f.restart(&saved);
    let start = 30 * MINUTE;
    assert_eq!(f.sent(start), [""; 0]);
    assert_eq!(f.sent(start + 5000), [""; 0]);
    assert_eq!(f.sent(start + 10_000), [""; 0]);
    f.put("m{i=\"1\"}", start + 12_000, 6.0);
    assert_eq!(f.sent(start + 15_000), ["firing 1"]);
}

#[test]
fn the_for_clock_survives_a_restart() {
    // (for, pending before, outage, when it fires, all in minutes)
    for (hold, before, outage, fires) in [
        // Below the grace period: what was waited counts, the outage does not.
        (5, 3, 1, 6),
        // It was firing, so it does.
        (5, 5, 2, 7),
        // Remaining below the grace period: that is waited for.
        (20, 15, 3, 28),
        (60, 10, 5, 65),
        // Longer than the tolerance: begins anew.
        (5, 3, 70, 78),
    ] {
        let mut f = Fixture::new(&format!("  rules:\n  - {{alert: A, expr: m > 5, for: {hold}m}}\n"));
        let mut fired_at = None;
        for minute in (0..=before).chain(before + outage..=before + outage + 70) {
            if minute == before + outage {
                f.restart(&Op::Delete { table: crate::state::Table::Rules, key: String::new() });
                fired_at = None;
            }
            f.put("m{i=\"1\"}", minute * MINUTE, 6.0);
            f.tick(minute * MINUTE);
            if fired_at.is_none() && f.active()[0].1 == AlertState::Firing {
                fired_at = Some(minute);
            }
        }
        assert_eq!(fired_at, Some(fires), "for {hold}m, pending {before}m, outage {outage}m");
    }
}

#[test]
fn a_reload_keeps_what_is_the_same_and_ends_what_is_gone() {
    let mut f = Fixture::new(
        "  rules:\n  - {alert: A, expr: m > 5, for: 1m}\n  - {alert: B, expr: m > 5}\n  - {record: r, expr: m}\n  - {record: s, expr: m}\n",
    );
    for minute in 0..4 {
        f.put("m{i=\"1\"}", minute * MINUTE, 6.0);
    }
    f.tick(0);
    f.tick(MINUTE);
    let changed = spec("  rules:\n  - {record: s, expr: m + 1}\n  - {alert: A, expr: m > 4, for: 1m}\n");
    let mut new = Group::new(changed, &f.world.settings, &f.metrics);
    let old =
        std::mem::replace(&mut f.group, Group::new(spec("  rules: []\n"), &f.world.settings, &f.metrics));
    let rest = new.inherit(old, &f.world.settings);
    assert_eq!(rest.iter().map(|a| a.rule.as_str()).collect::<Vec<_>>(), ["B"]);
    f.group = new;
    f.tick(2 * MINUTE);
    assert_eq!(f.samples("r{i=\"1\"}"), [(0, Some(6.0)), (MINUTE, Some(6.0)), (2 * MINUTE, None)]);
    assert_eq!(f.samples("s{i=\"1\"}")[2], (2 * MINUTE, Some(7.0)));
    assert_eq!(f.active(), [("1".to_owned(), AlertState::Firing)]);
    let view = f.group.shared.view();
    assert_eq!(view.rules[1].query, "m > 4");
    let b = "ALERTS{alertname=\"B\",alertstate=\"firing\",i=\"1\"}";
    assert_eq!(f.samples(b).last(), Some(&(2 * MINUTE, None)));
}

#[test]
fn templates_may_query_and_a_failing_one_says_so() {
    let mut f = Fixture::new(
        "  rules:\n  - alert: A\n    expr: m > 5\n    annotations:\n      sum: '{{ with query \"sum(m)\" }}{{ . | first | value }}{{ end }}'\n      bad: '{{ query \"sum(\" }}'\n",
    );
    f.put("m{i=\"1\"}", 0, 6.0);
    f.put("m{i=\"2\"}", 0, 1.5);
    let out = f.tick(0);
    assert_eq!(out.alerts[0].annotations.get("sum"), Some("7.5"));
    let bad = out.alerts[0].annotations.get("bad").unwrap();
    assert!(
        bad.starts_with(
            "<error expanding template: error executing template __alert_A: template: __alert_A:1:115"
        ),
        "{bad}"
    );
}

#[test]
fn a_query_offset_shifts_what_is_read_and_written() {
    let mut f = Fixture::new("  query_offset: 1m\n  rules:\n  - {record: r, expr: m}\n");
    f.put("m{i=\"1\"}", 0, 1.0);
    f.put("m{i=\"1\"}", MINUTE, 2.0);
    f.tick(MINUTE);
    assert_eq!(f.samples("r{i=\"1\"}"), [(0, Some(1.0))]);
}

#[test]
fn a_week_of_ticks_passes_quickly() {
    let mut f = Fixture::new(ALERT);
    let mut sent = 0;
    for minute in 0..7 * 24 * 60 {
        let ts = minute * MINUTE;
        f.put("m{i=\"1\"}", ts, if minute % 60 < 10 { 6.0 } else { 1.0 });
        sent += f.tick(ts).alerts.iter().filter(|a| !a.is_resolved_at(ts)).count();
    }
    // Each hour it fires for eight ticks, and every second one is sent.
    assert_eq!(sent, 7 * 24 * 4);
}

#[test]
fn what_several_rules_select_is_selected_once() {
    let rules = "  rules:\n  - {record: a, expr: sum(x)}\n  - {record: b, expr: max(x) - min(x)}\n  \
         - {record: c, expr: 'count(rate(x[3m]))'}\n  - {record: d, expr: 'sum(rate(x[2m]))'}\n  \
         - {record: x, expr: a + 100, labels: {i: new} }\n  - {record: e, expr: sum(x)}\n  \
         - {alert: High, expr: x > 100}\n  - {record: f, expr: y}\n";
    let mut fixture = Fixture::new(rules);
    for minute in 0..4 {
        for i in 0..5 {
            fixture.put(&format!("x{{i=\"{i}\"}}"), minute * MINUTE, f64::from(i) + minute as f64);
        }
    }
    let out = fixture.tick(3 * MINUTE);
    assert_eq!(out.failures, 0);
    let value = |series: &str| fixture.samples(series)[0].1;
    assert_eq!((value("a"), value("b"), value("c")), (Some(25.0), Some(4.0), Some(5.0)));
    // The rules behind the one that writes `x` see what it wrote.
    assert_eq!((value("x{i=\"new\"}"), value("e")), (Some(125.0), Some(150.0)));
    assert_eq!(fixture.active(), [("new".to_owned(), AlertState::Firing)]);
    // Of the two ranges, the shorter one's samples: two of each series.
    assert_eq!(fixture.group.selections.samples_reused(), 10);
    // The first `x` after the new one is read anew, and `c` and `d` need more than the others, and not the same.
    assert_eq!(fixture.group.selections.reused(), 4);
    // Nothing is held between ticks.
    assert_eq!(fixture.world.engine.held_bytes(), 0);
}

#[test]
fn what_finds_no_room_is_not_kept() {
    let rules = "  rules:\n  - {record: a, expr: sum(x)}\n  - {record: b, expr: sum(x)}\n";
    let mut fixture = Fixture::new(rules);
    for i in 0..100 {
        fixture.put(&format!("x{{i=\"{i}\"}}"), 0, 1.0);
    }
    let mut seen = Vec::new();
    for bytes in (1_000..40_000).step_by(500) {
        let limits = crate::promql::QueryLimits { max_bytes_total: bytes, ..Default::default() };
        fixture.world.engine =
            Engine::new(EngineOptions { limits, ..EngineOptions::default() }, fixture.world.clock.clone());
        fixture.group = Group::new(spec(rules), &fixture.world.settings, &fixture.metrics);
        let failures = fixture.tick(bytes as i64).failures;
        seen.push((failures, fixture.group.selections.reused()));
        assert_eq!(fixture.world.engine.held_bytes(), 0);
    }
    seen.dedup();
    // Too little for one rule; enough for each by itself; enough to keep what the other one needs.
    assert_eq!(seen, [(2, 0), (0, 0), (0, 1)]);
}
