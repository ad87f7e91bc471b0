use super::*;
use crate::http::{Authentication, SecretSource};

fn resolve(text: &str) -> (ScrapeJob, String) {
    let source = Source::new("f", text);
    let mut problems = Problems::default();
    let tables: Vec<Upstream> = [UPSTREAM_KEYS, crate::http::UPSTREAM_KEYS].concat();
    let raw = match source.parse_known::<RawScrapeConfig>(&tables) {
        Ok(raw) => raw,
        Err(found) => {
            problems = found;
            RawScrapeConfig::default()
        }
    };
    let told = !problems.is_empty();
    let mut found = Problems::default();
    let at = Mark { line: 1, column: 1 };
    let job = raw.resolve(at, &ScrapeDefaults::default(), &source, Path::new("/etc"), &mut found);
    if !told {
        problems = found;
    }
    (job, problems.to_string())
}

#[test]
fn defaults_are_prometheus_defaults() {
    let (job, problems) = resolve("job_name: a\n");
    assert_eq!(problems, "");
    assert_eq!((job.interval_ms, job.timeout_ms), (60_000, 10_000));
    assert_eq!((job.scheme.as_str(), job.metrics_path.as_str()), ("http", "/metrics"));
    assert!(
        !job.honor_labels
            && job.honor_timestamps
            && !job.track_timestamps_staleness
            && job.enable_compression
    );
    assert_eq!(job.accept, crate::exposition::ACCEPT_HEADER);
}

#[test]
fn every_key_is_read() {
    let (job, problems) = resolve(
        "job_name: a\nscrape_interval: 5s\nscrape_timeout: 2s\nhonor_labels: true\nhonor_timestamps: false\n\
         track_timestamps_staleness: true\nparams: {module: [x, y]}\nmetrics_path: /p\nscheme: https\n\
         body_size_limit: 1MB\nsample_limit: 1\ntarget_limit: 2\nlabel_limit: 3\nlabel_name_length_limit: 4\n\
         label_value_length_limit: 5\nkeep_dropped_targets: 6\nenable_compression: false\n\
         scrape_protocols: [PrometheusText0.0.4]\nfallback_scrape_protocol: PrometheusText0.0.4\n\
         bearer_token: t\nfile_sd_configs: [{files: [t/*.yml], refresh_interval: 1m}]\n\
         static_configs: [{targets: ['h:1'], labels: {x: y}}]\n",
    );
    assert_eq!(problems, "");
    assert_eq!((job.interval_ms, job.timeout_ms, job.body_bytes_max), (5_000, 2_000, 1 << 20));
    let limits = Limits { samples: 1, targets: 2, labels: 3, label_name_bytes: 4, label_value_bytes: 5 };
    assert_eq!((job.limits, job.keep_dropped_targets), (limits, 6));
    assert_eq!(job.accept, "text/plain;version=0.0.4;q=0.6,*/*;q=0.5");
    assert_eq!(job.fallback_format, Some(BodyFormat::Text(Format::Text)));
    assert_eq!(job.file_sd, [FileSd { files: vec!["/etc/t/*.yml".into()], refresh_ms: 60_000 }]);
    assert_eq!(job.static_groups[0].labels, [("x".to_owned(), "y".to_owned())]);
    let credentials = SecretSource::Value(Secret::new("t"));
    assert_eq!(
        job.http.authentication,
        Some(Authentication::Header { kind: "Bearer".to_owned(), credentials })
    );
}

#[test]
fn a_short_interval_shortens_the_default_timeout() {
    assert_eq!(resolve("job_name: a\nscrape_interval: 2s\n").0.timeout_ms, 2_000);
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, expected) in [
        ("scheme: http\n", "f:1:1: job_name is empty"),
        ("job_name: a\nscrape_interval: fast\n", "f:2:18: not a valid duration string: \"fast\""),
        ("job_name: a\nscrape_interval: 1s\nscrape_timeout: 2s\n", "f:3:17: scrape timeout greater"),
        ("job_name: a\nscheme: ftp\n", "f:2:9: scheme \"ftp\""),
        ("job_name: a\nbody_size_limit: 5\n", "f:2:18: a size needs a unit"),
        ("job_name: a\nscrape_protocols: []\n", "f:2:19: scrape_protocols cannot be empty"),
        ("job_name: a\nscrape_protocols: [PrometheusText0.0.5]\n", "f:2:20: unknown scrape protocol"),
        (
            "job_name: a\nscrape_protocols: [PrometheusText0.0.4, PrometheusText0.0.4]\n",
            "f:2:41: duplicated protocol",
        ),
        (
            "job_name: a\nstatic_configs: [{targets: ['http://h:1']}]\n",
            "f:2:29: \"http://h:1\" is not a valid",
        ),
        ("job_name: a\nfile_sd_configs: [{files: [a.txt]}]\n", "f:2:28: path name \"a.txt\""),
        ("job_name: a\nfile_sd_configs: [{}]\n", "f:2:19: file service discovery"),
        ("job_name: a\nrelabel_configs:\n- regex: '('\n", "f:3:10: "),
        ("job_name: a\nrelabel_configs: [null]\n", "f:2:19: "),
        (
            "job_name: a\nkubernetes_sd_configs: [{role: pod}]\n",
            "f:2:1: `kubernetes_sd_configs` is not supported",
        ),
        ("job_name: a\noauth2: {}\n", "f:2:1: `oauth2` is not supported"),
        ("job_name: a\nmetric_name_validation_scheme: legacy\n", "f:2:32: "),
        ("job_name: a\nmetric_name_escaping_scheme: x\n", "f:2:30: unknown escaping scheme"),
        ("job_name: a\nsample_limit: -1\n", "f:2:15: "),
    ] {
        let (_, problems) = resolve(text);
        assert!(problems.starts_with(expected), "{text:?}: {problems}");
        assert_eq!(problems.lines().filter(|l| l.starts_with("f:")).count(), 1, "{problems}");
    }
}

#[test]
fn jobs_are_compared_by_how_they_scrape() {
    let job = |text: &str| resolve(text).0;
    let a = job(
        "job_name: a\nmetric_relabel_configs: [{action: drop, source_labels: [x], regex: y}]\nbearer_token: t\n",
    );
    let moved = job(
        "job_name: a\n\nbearer_token: t\nmetric_relabel_configs:\n- {action: drop, source_labels: [x], regex: y}\nstatic_configs: [{targets: [a]}]\n",
    );
    assert!(a.scrapes_like(&moved));
    for other in [
        "job_name: a\nbearer_token: t\n",
        "job_name: a\nmetric_relabel_configs: [{action: drop, source_labels: [x], regex: z}]\nbearer_token: t\n",
        "job_name: a\nmetric_relabel_configs: [{action: drop, source_labels: [x], regex: y}]\nbearer_token: u\n",
    ] {
        assert!(!a.scrapes_like(&job(other)), "{other}");
    }
}

#[test]
fn native_histograms_are_asked_for_by_protobuf() {
    let protobuf = |text: &str, defaults: &ScrapeDefaults| {
        let source = Source::new("f", text);
        let tables: Vec<Upstream> = [UPSTREAM_KEYS, crate::http::UPSTREAM_KEYS].concat();
        let raw: RawScrapeConfig = source.parse_known(&tables).unwrap();
        let mut found = Problems::default();
        let at = Mark { line: 1, column: 1 };
        let job = raw.resolve(at, defaults, &source, Path::new("/"), &mut found);
        assert!(found.is_empty(), "{found}");
        (job.accept.starts_with(&format!("{PROTOBUF_CONTENT_TYPE};q=0.6,")), job.histograms)
    };
    let off = ScrapeDefaults::default();
    let on = ScrapeDefaults { native_histograms: true, ..ScrapeDefaults::default() };
    let first = ScrapeDefaults { protobuf_first: true, ..ScrapeDefaults::default() };
    assert_eq!(protobuf("job_name: a\n", &off), (false, HistogramOptions::default()));
    let native = HistogramOptions { native: true, ..HistogramOptions::default() };
    assert_eq!(protobuf("job_name: a\n", &on), (true, native));
    assert_eq!(protobuf("job_name: a\nscrape_native_histograms: true\n", &off), (true, native));
    assert!(!protobuf("job_name: a\nscrape_native_histograms: false\n", &on).0);
    assert!(!protobuf("job_name: a\nscrape_protocols: [PrometheusText0.0.4]\n", &on).0);
    assert!(protobuf("job_name: a\n", &first).0);
    let text = "job_name: a\nalways_scrape_classic_histograms: true\nconvert_classic_histograms_to_nhcb: true\n\
                native_histogram_bucket_limit: 160\nnative_histogram_min_bucket_factor: 1.1\n";
    let set = HistogramOptions {
        native: false,
        classic_always: true,
        classic_converted: true,
        bucket_limit: 160,
        schema_max: 2,
    };
    assert_eq!(protobuf(text, &off), (false, set));
}

#[test]
fn a_bucket_factor_is_a_schema() {
    // As Prometheus's documentation lists them.
    for (factor, schema) in [
        (0.0, 8),
        (1.002, 8),
        (1.003, 7),
        (1.01, 6),
        (1.1, 2),
        (2.0, 0),
        (4.0, -1),
        (1e300, -4),
        (65536.0, -4),
    ] {
        assert_eq!(schema_of_factor(factor), schema, "{factor}");
    }
    assert_eq!(schema_of_factor(f64::NAN), 8);
}
