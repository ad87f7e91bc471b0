//! One tick of 1,000 rules: 40 groups of 25, seven recording rules to three alerting ones with `for`, over 10,000 live
//! series of 40 instances, with the samples of ten minutes, 5 s apart.
//!
//! Run with `cargo bench --bench rules_tick`. The figure to watch is CPU time per 1,000 evaluations; the samples come
//! from a fixed formula.
#![allow(clippy::unwrap_used, reason = "it fails by panicking")]

use std::sync::Arc;

use streamgate::clock::Clock;
use streamgate::model::Labels;
use streamgate::promql::{Engine, EngineOptions, Features};
use streamgate::rules::{Group, RuleMetrics, Settings, World, file};
use streamgate::storage::{Storage, StorageOptions};
use streamgate::telemetry::new_registry;
use streamgate::yaml::Source;

const STEP_MS: i64 = 5_000;
const SAMPLES: i64 = 120;
const START_MS: i64 = 1_700_000_000_000;

fn main() {
    divan::main();
}

fn storage() -> Storage {
    let storage = Storage::open(StorageOptions::default()).unwrap();
    let mut all = Vec::new();
    for instance in 0..40 {
        let base = |name: &str, more: &[(&str, String)]| {
            let mut pairs = vec![
                ("__name__", name.to_owned()),
                ("instance", format!("10.8.0.{}:9100", instance + 1)),
                ("job", "node".to_owned()),
            ];
            pairs.extend(more.iter().cloned());
            Labels::from_pairs(pairs)
        };
        for cpu in 0..8 {
            for mode in ["idle", "user", "system", "iowait", "irq", "softirq", "steal", "nice"] {
                let labels = [("cpu", cpu.to_string()), ("mode", mode.to_owned())];
                all.push(base("node_cpu_seconds_total", &labels));
            }
        }
        for device in 0..20 {
            let device = [("device", format!("d{device}"))];
            all.push(base("node_network_receive_bytes_total", &device));
            all.push(base("node_disk_io_time_seconds_total", &device));
        }
        for mount in 0..20 {
            let mount = [("mountpoint", format!("/m{mount}"))];
            all.push(base("node_filesystem_avail_bytes", &mount));
            all.push(base("node_filesystem_size_bytes", &mount));
        }
        for name in
            ["node_load1", "node_load5", "up", "node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes"]
        {
            all.push(base(name, &[]));
        }
        for other in 0..100 {
            all.push(base("other", &[("i", other.to_string())]));
        }
    }
    for i in 0..SAMPLES {
        let mut appender = storage.appender();
        for (n, labels) in all.iter().enumerate() {
            let series = appender.series(labels).unwrap();
            appender.append(series, START_MS + i * STEP_MS, (i * 3 + n as i64 % 7) as f64).unwrap();
        }
        appender.commit().unwrap();
    }
    storage
}

fn rules() -> Vec<Arc<file::GroupSpec>> {
    let recording = [
        (
            "instance:cpu_busy:rate1m",
            "avg by (instance) (rate(node_cpu_seconds_total{mode!=\"idle\",instance=\"I\"}[1m]))",
        ),
        (
            "instance:net_rx:rate1m",
            "sum by (instance) (rate(node_network_receive_bytes_total{instance=\"I\"}[1m]))",
        ),
        (
            "instance:mem_used:ratio",
            "1 - node_memory_MemAvailable_bytes{instance=\"I\"} / node_memory_MemTotal_bytes{instance=\"I\"}",
        ),
        ("mode:cpu:rate1m", "sum by (mode) (rate(node_cpu_seconds_total{instance=\"I\"}[1m]))"),
        (
            "mountpoint:fs_used:ratio",
            "1 - node_filesystem_avail_bytes{instance=\"I\"} / node_filesystem_size_bytes{instance=\"I\"}",
        ),
        (
            "device:disk_io:rate1m",
            "sum by (device) (rate(node_disk_io_time_seconds_total{instance=\"I\"}[1m]))",
        ),
        ("instance:load:max1m", "max_over_time(node_load1{instance=\"I\"}[1m])"),
    ];
    let alerting = [
        (
            "FilesystemAlmostFull",
            "node_filesystem_avail_bytes{instance=\"I\"} / node_filesystem_size_bytes{instance=\"I\"} < 0.05",
            "30s",
        ),
        (
            "HighLoad",
            "node_load1{instance=\"I\"} > 1.5 and on (instance) node_load5{instance=\"I\"} > 0",
            "1m",
        ),
        ("InstanceDown", "up{instance=\"I\"} == 0", "15s"),
    ];
    let mut text = "groups:\n".to_owned();
    for group in 0..40 {
        text.push_str(&format!("- name: g{group}\n  interval: 5s\n  rules:\n"));
        for k in group * 25..group * 25 + 25 {
            let instance = format!("10.8.0.{}:9100", k / 10 % 40 + 1);
            let rule = match k % 10 {
                n @ 0..7 => {
                    let (name, expr) = recording[n];
                    format!(
                        "  - record: {name}\n    expr: '{}'\n    labels: {{slot: s{k}}}\n",
                        expr.replace("\"I\"", &format!("\"{instance}\""))
                    )
                }
                n => {
                    let (name, expr, hold) = alerting[n - 7];
                    format!(
                        "  - alert: {name}\n    expr: '{}'\n    for: {hold}\n    labels: {{slot: s{k}, severity: page}}\n    annotations:\n      summary: 'rule {k} on {{{{ $labels.instance }}}} is {{{{ $value }}}}'\n",
                        expr.replace("\"I\"", &format!("\"{instance}\""))
                    )
                }
            };
            text.push_str(&rule);
        }
    }
    file::load(&Source::new("rules.yml", text), Features::default()).unwrap().groups
}

#[divan::bench(sample_count = 20)]
fn thousand_rules(bencher: divan::Bencher) {
    let clock = Clock::system();
    let world = World {
        engine: Engine::new(EngineOptions::default(), clock.clone()),
        storage: storage(),
        clock,
        settings: Arc::new(Settings::default()),
    };
    let metrics = RuleMetrics::register(&mut new_registry());
    let mut groups: Vec<Group> =
        rules().into_iter().map(|spec| Group::new(spec, &world.settings, &metrics)).collect();
    let mut ts = START_MS + (SAMPLES - 20) * STEP_MS;
    // The first ticks make the series and fill the caches.
    for _ in 0..2 {
        ts += 1_000;
        groups.iter_mut().for_each(|g| assert_eq!(g.tick(ts, &world).failures, 0));
    }
    bencher.counter(divan::counter::ItemsCount::new(1_000u32)).bench_local(|| {
        ts += 1_000;
        groups.iter_mut().map(|g| g.tick(ts, &world).samples).sum::<u64>()
    });
}
