//! What goes in, and what a reader of the storage sees.

mod pushed;
mod scrape;
mod scrape_families;
mod write;
mod write_v2;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::model::{Matcher, Timestamp, is_stale_marker};
use crate::storage::{Samples, Storage, StorageOptions};

/// A time that any storage takes.
const T0: Timestamp = 1_700_000_000_000;

fn ingest() -> Ingest {
    ingest_with(IngestLimits::default())
}

fn ingest_with(limits: IngestLimits) -> Ingest {
    let storage = Storage::open(StorageOptions::default()).unwrap();
    Ingest::new(storage, limits, Arc::default())
}

fn ingest_that(features: IngestFeatures) -> Ingest {
    let storage = Storage::open(StorageOptions { exemplars_max: 100, ..StorageOptions::default() }).unwrap();
    Ingest::with_features(storage, IngestLimits::default(), features, Arc::default())
}

/// As [`stored`], with start times as `@seconds since T0` and histograms as they are printed.
fn stored_whole(ingest: &Ingest, name: &str) -> BTreeMap<String, String> {
    let matcher = Matcher::new(crate::model::MatchOp::Regex, "__name__", name).unwrap();
    let all = (T0 - 3_600_000, T0 + 3_600_000);
    let seconds = |ts: Timestamp| (ts - T0) as f64 / 1000.0;
    let mut out = BTreeMap::new();
    for series in ingest.storage().reader().select(&[matcher], all.0, all.1) {
        let mut samples = Samples::default();
        series.read(all.0, all.1, &mut samples);
        let start = |starts: &[Timestamp], i: usize| match starts.get(i) {
            Some(start) if *start != 0 => format!("@{}", seconds(*start)),
            _ => String::new(),
        };
        let mut texts = Vec::new();
        for (i, (ts, v)) in samples.ts.iter().zip(&samples.vs).enumerate() {
            let v = if is_stale_marker(*v) { "stale".to_owned() } else { v.to_string() };
            texts.push((*ts, format!("{}={v}{}", seconds(*ts), start(&samples.starts, i))));
        }
        for (i, (ts, h)) in samples.hist_ts.iter().zip(&samples.hists).enumerate() {
            let h = if h.is_stale_marker() { "stale".to_owned() } else { h.to_string() };
            texts.push((*ts, format!("{}={h}{}", seconds(*ts), start(&samples.hist_starts, i))));
        }
        texts.sort_by_key(|(ts, _)| *ts);
        let texts: Vec<String> = texts.into_iter().map(|(_, text)| text).collect();
        out.insert(series.labels().to_string(), texts.join(" "));
    }
    out
}

/// All series whose name matches, as text, with `seconds since T0=value`; a staleness marker is `stale`.
fn stored(ingest: &Ingest, name: &str) -> BTreeMap<String, String> {
    let matcher = Matcher::new(crate::model::MatchOp::Regex, "__name__", name).unwrap();
    let all = (T0 - 3_600_000, T0 + 3_600_000);
    let mut out = BTreeMap::new();
    for series in ingest.storage().reader().select(&[matcher], all.0, all.1) {
        let mut samples = Samples::default();
        series.read(all.0, all.1, &mut samples);
        let texts = samples.ts.iter().zip(&samples.vs).map(|(t, v)| {
            let seconds = (t - T0) as f64 / 1000.0;
            if is_stale_marker(*v) { format!("{seconds}=stale") } else { format!("{seconds}={v}") }
        });
        let texts: Vec<String> = texts.collect();
        if !texts.is_empty() {
            out.insert(series.labels().to_string(), texts.join(" "));
        }
    }
    out
}

fn check(ingest: &Ingest, name: &str, expected: &[(&str, &str)]) {
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(s, v)| ((*s).to_owned(), (*v).to_owned())).collect();
    assert_eq!(stored(ingest, name), expected);
}
