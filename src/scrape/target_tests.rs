use super::*;
use crate::scrape::ScrapeDefaults;
use crate::scrape::config::RawScrapeConfig;
use crate::yaml::{Mark, Problems, Source};

fn job(text: &str) -> ScrapeJob {
    let source = Source::new("f", format!("job_name: j\n{text}"));
    let raw: RawScrapeConfig = source.parse().unwrap();
    let mut problems = Problems::default();
    let folder = std::path::Path::new("/");
    let job = raw.resolve(Mark::default(), &ScrapeDefaults::default(), &source, folder, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    job
}

fn of(pairs: &[(&str, &str)], text: &str) -> Result<Outcome, String> {
    let labels = LabelsBuilder::from(&Labels::from_pairs(pairs.iter().copied()));
    build(labels, &job(text))
}

fn target(pairs: &[(&str, &str)], text: &str) -> Target {
    match of(pairs, text) {
        Ok(Outcome::Target(target)) => *target,
        other => panic!("{pairs:?}: {other:?}"),
    }
}

#[test]
fn a_target_has_job_instance_and_url() {
    let t = target(&[("__address__", "h:1"), ("x", "y"), ("__meta_filepath", "f")], "");
    assert_eq!(t.labels.to_string(), r#"{instance="h:1", job="j", x="y"}"#);
    assert_eq!(t.url.as_str(), "http://h:1/metrics");
    assert_eq!((t.interval_ms, t.timeout_ms), (60_000, 10_000));
    assert_eq!(
        t.discovered.to_string(),
        r#"{__address__="h:1", __meta_filepath="f", __metrics_path__="/metrics", __scheme__="http", __scrape_interval__="1m", __scrape_timeout__="10s", job="j", x="y"}"#
    );
}

#[test]
fn relabelling_decides_address_path_parameters_and_times() {
    let t = target(
        &[("__address__", "http://probe.me/x")],
        "scheme: https\nmetrics_path: /probe\nparams: {module: [a, b], q: [c]}\nrelabel_configs:\n\
         - {source_labels: [__address__], target_label: __param_target}\n\
         - {source_labels: [__param_target], target_label: instance}\n\
         - {target_label: __address__, replacement: 'exporter:9115'}\n\
         - {target_label: __param_module, replacement: z}\n\
         - {target_label: __scrape_interval__, replacement: 5s}\n\
         - {target_label: __scrape_timeout__, replacement: 3s}\n",
    );
    assert_eq!(
        t.url.as_str(),
        "https://exporter:9115/probe?module=z&module=b&q=c&target=http%3A%2F%2Fprobe.me%2Fx"
    );
    assert_eq!(t.labels.get("instance"), Some("http://probe.me/x"));
    assert_eq!((t.interval_ms, t.timeout_ms), (5_000, 3_000));
}

#[test]
fn what_makes_no_target_is_told() {
    for (pairs, text, said) in [
        (&[][..], "", "no address"),
        (&[("__address__", "a/b")], "", "not a valid hostname"),
        (&[("__address__", "a:b")], "", "no URL"),
        (&[("__address__", "a"), ("__scrape_interval__", "x")], "", "error parsing scrape interval"),
        (&[("__address__", "a"), ("__scrape_interval__", "0")], "", "cannot be 0"),
        (&[("__address__", "a"), ("__scrape_interval__", "1s")], "", "timeout cannot be greater"),
    ] {
        let error = of(pairs, text).unwrap_err();
        assert!(error.contains(said), "{pairs:?}: {error}");
    }
    let dropped =
        of(&[("__address__", "a")], "relabel_configs: [{action: drop, source_labels: [job], regex: j}]\n");
    assert!(matches!(dropped, Ok(Outcome::Dropped(_))), "{dropped:?}");
}

#[test]
fn offsets_are_stable_and_spread() {
    let offsets: Vec<i64> = (0..1000)
        .map(|i| target(&[("__address__", &format!("h{i}:9100"))], "").key().offset_ms(10_000))
        .collect();
    assert_eq!(offsets[0], target(&[("__address__", "h0:9100")], "").key().offset_ms(10_000));
    for second in 0..10 {
        let n = offsets.iter().filter(|o| **o / 1000 == second).count();
        assert!((60..140).contains(&n), "{n} of 1000 targets in second {second}");
    }
}
