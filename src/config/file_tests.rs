use super::*;

const OPTIONS: LoadOptions = LoadOptions {
    features: Features {
        experimental_functions: false,
        extended_range_selectors: false,
        binop_fill_modifiers: false,
        delayed_name_removal: false,
        per_step_stats: false,
        use_start_timestamps: false,
        type_and_unit_labels: false,
        depth: crate::promql::Depth::DEFAULT,
        regexes: crate::promql::RegexMemory::DEFAULT,
    },
    scrape: ScrapeFeatures { native_histograms: false, protobuf_first: false },
    rule_files: true,
};

fn load(files: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let prefix = format!("{}/", folder.path().display());
    Config::load(&folder.path().join(files[0].0), OPTIONS).map_err(|p| p.to_string().replace(&prefix, ""))
}

fn problems(text: &str) -> String {
    load(&[("f", text)]).err().unwrap_or_default()
}

#[test]
fn nothing_runs_that_the_file_does_not_say() {
    for text in ["", "global:\n", "# nothing\n", "scrape_configs:\nrule_files:\n"] {
        let config = load(&[("f", text)]).unwrap();
        assert!(config.jobs.is_empty() && config.rule_files.is_empty(), "{text:?}");
        assert!(!config.host_metrics && !config.shipped_rules && config.indicators.is_none());
        assert_eq!(config.evaluation_interval_ms, 60_000);
    }
}

#[test]
fn without_a_file_machine_and_server_are_watched() {
    let config = Config::without_file();
    assert!(config.host_metrics && config.shipped_rules && config.indicators.is_none());
    assert!(config.jobs.is_empty() && config.rule_files.is_empty());
}

#[test]
fn every_section_is_read() {
    let config = load(&[
        (
            "f",
            "global: {scrape_interval: 15s, evaluation_interval: 30s, sample_limit: 7, external_labels: {a: b, c: $$x}}\n\
             rule_files: ['r/*.yml', r/a.yml]\nscrape_config_files: [more.yml]\n\
             scrape_configs:\n- job_name: a\n- job_name: b\n  scrape_interval: 5s\n  sample_limit: 9\n\
             host_metrics: true\nshipped_rules: true\nexport: {match: ['{job=\"a\"}'], drop: [up]}\n\
             indicators:\n- {name: i, expr: up, warning: '< 1'}\nreports: {interval: 10m}\n",
        ),
        ("more.yml", "scrape_configs: [{job_name: c, bearer_token_file: t}]\n"),
        ("r/a.yml", ""),
        ("r/b.yml", "groups: [{name: g, rules: [{record: a, expr: up}]}]\n"),
    ])
    .unwrap();
    let jobs: Vec<_> =
        config.jobs.iter().map(|j| (j.job_name.as_str(), j.interval_ms, j.limits.samples)).collect();
    assert_eq!(jobs, [("a", 15_000, 7), ("b", 5_000, 9), ("c", 15_000, 7)]);
    let names: Vec<_> = config.rule_files.iter().map(|f| f.name.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["a.yml", "b.yml"]);
    assert_eq!(config.rule_files[1].groups.len(), 1);
    assert_eq!(config.evaluation_interval_ms, 30_000);
    assert_eq!(config.external_labels, Labels::from_pairs([("a", "b"), ("c", "$x")]));
    assert!(config.host_metrics && config.shipped_rules);
    assert_eq!((config.export.add.len(), config.export.drop.len()), (1, 1));
    assert_eq!(config.indicators.unwrap().len(), 1);
    assert_eq!(config.reports.interval_ms, 600_000);
}

#[test]
fn each_fault_is_told_with_its_place() {
    for (text, expected) in [
        (
            "scrape_configs:\n- job_name: a\n  scrape_intervall: 5s\n",
            "f:3:3: unknown field `scrape_intervall`",
        ),
        ("global:\n  scrape_interval: fast\n", "f:2:20: not a valid duration string"),
        ("scrape_configs:\n- job_name: a\n  relabel_configs:\n  - regex: '('\n", "f:4:12: "),
        ("scrape_configs:\n- job_name: a\n- job_name: a\n", "f:3:13: found multiple scrape configs"),
        ("alerting:\n  alertmanagers: []\n", "f:1:1: `alerting` is not supported yet"),
        ("global: {query_log_file: x}\n", "f:1:10: `query_log_file` is not supported yet"),
        (
            "scrape_configs: [{job_name: a, tls_config: {ca_ref: x}}]\n",
            "f:1:45: `ca_ref` is not supported yet",
        ),
        ("rule_files: [none.yml]\n", "f:1:14: \"none.yml\" does not point to an existing file"),
        ("rule_files: ['a*/b.yml']\n", "f:1:14: invalid rule file path"),
        ("rule_files: [.]\n", "f:1:14: "),
        ("export: {match: ['up{']}\n", "f:1:"),
        ("indicators: [{name: a, expr: 'sum('}]\n", "f:1:"),
        ("reports: {interval: x}\n", "f:1:21: "),
        ("hostmetrics: true\n", "f:1:1: unknown field `hostmetrics`\n  hint: did you mean `host_metrics`?"),
        ("scrape_configs: [null]\n", "f:1:18: "),
    ] {
        let told = problems(text);
        assert!(told.starts_with(expected), "{text:?}: {told}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let told = problems(
        "global:\n  scrape_interval: x\n  evaluation_interval: y\nscrape_configs:\n- job_name: ''\n- job_name: b\n  scheme: ftp\n",
    );
    let lines: Vec<&str> = told.lines().map(|l| l.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["f:2:20", "f:3:24", "f:5:13", "f:7:11"], "{told}");
}

#[test]
fn names_of_jobs_are_unique_over_all_files() {
    let told = load(&[
        ("f", "scrape_config_files: [more.yml]\nscrape_configs: [{job_name: a}]\n"),
        ("more.yml", "scrape_configs: [{job_name: a, x: y}]\n"),
    ])
    .unwrap_err();
    assert!(told.starts_with("more.yml:1:32: unknown field `x`"), "{told}");
    let told = load(&[
        ("f", "scrape_config_files: [more.yml]\nscrape_configs: [{job_name: a}]\n"),
        ("more.yml", "scrape_configs: [{job_name: a}]\n"),
    ])
    .unwrap_err();
    assert!(
        told.starts_with(
            "more.yml:1:29: found multiple scrape configs with job name \"a\", first found in f"
        ),
        "{told}"
    );
}

#[test]
fn faults_of_rule_files_are_told_too() {
    let told = load(&[
        ("f", "rule_files: [r.yml]\nscrape_configs:\n- job_name: a\n  scheme: x\n"),
        ("r.yml", "groups:\n- name: g\n  rules:\n  - record: a\n    expr: |\n      up\n        + sum(\n"),
    ])
    .unwrap_err();
    assert!(told.contains("r.yml:7:") && told.contains("f:4:11: "), "{told}");
}

#[test]
fn a_path_beside_the_file_stays_as_it_is_written() {
    for (file, joined) in
        [("p.yml", "r.yml"), ("./p.yml", "r.yml"), ("etc/p.yml", "etc/r.yml"), ("/p.yml", "/r.yml")]
    {
        assert_eq!(folder_of(Path::new(file)).join("r.yml").to_str(), Some(joined), "{file}");
    }
}
