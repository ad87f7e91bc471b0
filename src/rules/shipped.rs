//! The rule files in the binary; the same files lie in the folder `rules/` of the repository.

use super::file::{self, RuleFile};
use crate::promql::Features;
use crate::yaml::Source;

const FILES: [(&str, &str); 4] = [
    ("shipped:host.yml", include_str!("../../rules/host.yml")),
    ("shipped:targets.yml", include_str!("../../rules/targets.yml")),
    ("shipped:recorded.yml", include_str!("../../rules/recorded.yml")),
    ("shipped:streamgate.yml", include_str!("../../rules/streamgate.yml")),
];

/// The shipped rule files. Their names begin with `shipped:`.
#[must_use]
pub fn shipped_files() -> Vec<RuleFile> {
    let load = |(name, text): &(&str, &str)| {
        file::load(&Source::new(*name, *text), Features::default())
            .expect("shipped rule files are valid: a test loads them")
    };
    FILES.iter().map(load).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::unittest;

    const TESTS: [(&str, &str); 4] = [
        ("host", include_str!("../../rules/tests/host_test.yml")),
        ("targets", include_str!("../../rules/tests/targets_test.yml")),
        ("recorded", include_str!("../../rules/tests/recorded_test.yml")),
        ("streamgate", include_str!("../../rules/tests/streamgate_test.yml")),
    ];

    #[test]
    fn every_shipped_alert_fires_in_a_test_and_not_on_a_healthy_day() {
        for ((name, rules), (_, test)) in FILES.iter().zip(TESTS) {
            let read = |_: &str| Ok(vec![Source::new(*name, *rules)]);
            let outcomes =
                unittest::run_source(&Source::new(*name, test), Features::default(), read).unwrap();
            for outcome in &outcomes {
                assert!(
                    outcome.failures.is_empty(),
                    "{name}: {}: {}",
                    outcome.name,
                    outcome.failures.join("\n")
                );
            }
            let file = file::load(&Source::new(*name, *rules), Features::default()).unwrap();
            for rule in file.groups.iter().flat_map(|g| &g.rules).filter(|r| r.is_alerting()) {
                let fires = format!("{} fires", rule.name);
                assert!(
                    outcomes.iter().any(|o| o.name == fires),
                    "{name}: no test in which {} fires",
                    rule.name
                );
            }
        }
    }

    #[test]
    fn shipped_alerts_say_what_they_mean() {
        let files = shipped_files();
        let rules: Vec<_> = files.iter().flat_map(|f| &f.groups).flat_map(|g| &g.rules).collect();
        assert!(rules.len() >= 10);
        for rule in rules {
            if let file::RuleKind::Alerting { annotations, .. } = &rule.kind {
                let names: Vec<&str> = annotations.iter().map(|(n, _)| n.as_str()).collect();
                assert_eq!(names, ["description", "summary"], "{}", rule.name);
                let severity = rule.labels.iter().find(|(n, _)| n == "severity").map(|(_, v)| v.as_str());
                assert!(matches!(severity, Some("warning" | "critical")), "{}", rule.name);
            }
        }
    }
}
