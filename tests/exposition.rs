//! Bodies with the verdict of a real Prometheus: `$STREAMGATE_SHARED/exposition` (by default `../shared/exposition`).
//! Each is scraped as a target's answer would be; what is stored must be what Prometheus stored.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use streamgate::exposition::{format_openmetrics_float, parse_float};
use streamgate::ingest::{Ingest, IngestLimits, ScrapeCache, ScrapeOptions};
use streamgate::model::{Labels, MatchOp, Matcher};
use streamgate::storage::{Samples, Storage, StorageOptions};

const T0: i64 = 1_700_000_000_000;

fn folder() -> PathBuf {
    let shared = std::env::var("STREAMGATE_SHARED").unwrap_or_else(|_| "../shared".to_owned());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(shared).join("exposition")
}

/// Series as text with their value.
type Series = BTreeMap<Labels, String>;

fn stored(ingest: &Ingest) -> Series {
    let any = Matcher::new(MatchOp::Regex, "__name__", ".+").unwrap();
    let mut out = Series::new();
    for series in ingest.storage().reader().select(&[any], T0, T0) {
        let mut samples = Samples::default();
        series.read(T0, T0, &mut samples);
        if let Some(v) = samples.vs.first() {
            out.insert(series.labels().clone(), value(*v));
        }
    }
    out
}

/// Two texts of one value are equal.
fn value(v: f64) -> String {
    let mut text = String::new();
    format_openmetrics_float(&mut text, v);
    text
}

/// What was stored by 2.42, changed where Prometheus 3 differs: bounds and quantiles come in one form.
fn expected_series(expected: &Value, body_types: &BTreeMap<String, String>) -> Series {
    let mut out = Series::new();
    for entry in expected["series"].as_array().unwrap() {
        let labels = entry[0].as_object().unwrap();
        let name = labels["__name__"].as_str().unwrap();
        let number = body_types.iter().find_map(|(family, kind)| match kind.as_str() {
            "histogram" if name == format!("{family}_bucket") => Some("le"),
            "summary" if name == family => Some("quantile"),
            _ => None,
        });
        let pairs = labels.iter().map(|(n, v)| {
            let v = v.as_str().unwrap();
            let parsed = parse_float(v.as_bytes()).filter(|_| number == Some(n));
            (n.clone(), parsed.map_or_else(|| v.to_owned(), value))
        });
        let v = parse_float(entry[1].as_str().unwrap().as_bytes()).unwrap();
        out.insert(Labels::from_pairs(pairs), value(v));
    }
    out
}

fn check(entry: &Value) -> Result<(), String> {
    let file = entry["file"].as_str().unwrap();
    let body = fs::read(folder().join(file)).unwrap();
    let content_type = match entry["format"].as_str().unwrap() {
        "text" => "text/plain; version=0.0.4",
        _ => "application/openmetrics-text; version=1.0.0; charset=utf-8",
    };
    let storage = Storage::open(StorageOptions::default()).unwrap();
    let ingest = Ingest::new(storage, IngestLimits::default(), Arc::default());
    let options = ScrapeOptions { honor_labels: true, honor_timestamps: false, ..ScrapeOptions::default() };
    let mut cache = ScrapeCache::default();
    let result = ingest.scrape(&mut cache, &options, &body, Some(content_type), T0, 0.1);
    let valid = match (entry["valid"].as_bool(), entry["note"].as_str()) {
        (Some(valid), _) => valid,
        (None, Some(note)) if note.contains("quoted") => entry["python_client"]["result"] == "ok",
        (None, _) => return Ok(()),
    };
    let stats = match (result, valid) {
        (Err(_), false) => return Ok(()),
        (Err(e), true) => return Err(format!("refused: {e}")),
        (Ok(_), false) => return Err("accepted, must be refused".to_owned()),
        (Ok(stats), true) => stats,
    };
    let samples = entry["samples"].as_u64().unwrap() as usize;
    if entry["valid"].is_boolean() && stats.scraped != samples {
        return Err(format!("{} samples, expected {samples}", stats.scraped));
    }
    let Some(expected) = entry["expected"].as_str() else { return Ok(()) };
    let expected: Value = serde_json::from_slice(&fs::read(folder().join(expected)).unwrap()).unwrap();
    let own = [
        "up",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
        "scrape_samples_post_metric_relabeling",
        "scrape_series_added",
    ];
    let mut got = stored(&ingest);
    got.retain(|labels, _| !(labels.len() == 1 && own.contains(&labels.metric_name())));
    let metadata = expected["metadata"].as_object().unwrap();
    let types = metadata.iter().map(|(n, m)| (n.clone(), m["type"].as_str().unwrap().to_owned())).collect();
    let wanted = expected_series(&expected, &types);
    for (labels, v) in &wanted {
        if got.get(labels) != Some(v) {
            return Err(format!("{labels} is {:?}, expected {v}", got.get(labels)));
        }
    }
    if let Some(extra) = got.keys().find(|l| !wanted.contains_key(l)) {
        return Err(format!("{extra} should not be there"));
    }
    let known: BTreeMap<String, _> = ingest.storage().reader().metadata().into_iter().collect();
    for (family, m) in metadata {
        let Some(got) = known.get(family) else { return Err(format!("no metadata of {family}")) };
        let got = [got.metric_type.as_str(), got.help.as_str(), got.unit.as_str()];
        let wanted = ["type", "help", "unit"].map(|k| m[k].as_str().unwrap());
        if got != wanted {
            return Err(format!("metadata of {family} is {got:?}, expected {wanted:?}"));
        }
    }
    Ok(())
}

#[test]
fn bodies_are_judged_as_prometheus_judges_them() {
    let Ok(manifest) = fs::read(folder().join("manifest.json")) else {
        eprintln!("skipped: {} is not there (set STREAMGATE_SHARED)", folder().display());
        return;
    };
    let manifest: Vec<Value> = serde_json::from_slice(&manifest).unwrap();
    let (read, binary): (Vec<_>, Vec<_>) = manifest.iter().partition(|e| e["format"] != "protobuf");
    eprintln!("skipped: {} protobuf bodies, which are not negotiated", binary.len());
    let mut failed = Vec::new();
    for entry in &read {
        if let Err(reason) = check(entry) {
            failed.push(format!("{}: {reason}", entry["file"].as_str().unwrap()));
        }
    }
    eprintln!("exposition: {} of {} bodies as Prometheus has them", read.len() - failed.len(), read.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
