//! What goes in, and what a reader of the storage sees.

mod pushed;
mod scrape;
mod write;

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
