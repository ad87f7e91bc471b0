//! `streamgate storage dump`: samples as OpenMetrics text, family by family.
//!
//! OpenMetrics cannot say everything that is stored: native histograms, staleness markers and start times are left out
//! and counted. The samples of a series stand together, ascending in time, which every reader of backfilled data takes;
//! the specification would have the buckets of a histogram together by time.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};

use super::open_to_read;
use crate::exposition::{Format, Writer, family_name};
use crate::model::{METRIC_NAME, Matcher, Metadata, MetricType, Timestamp, is_stale_marker};
use crate::promql::parse_selector;
use crate::storage::{Reader, Samples};

/// What could not be written.
#[derive(Default)]
struct LeftOut {
    histograms: u64,
    stale: u64,
    nameless: u64,
}

pub fn run(dir: &Path, selectors: &[String], from: Timestamp, to: Timestamp) -> anyhow::Result<ExitCode> {
    let selectors: Vec<Vec<Matcher>> = selectors
        .iter()
        .map(|text| parse_selector(text).map_err(|e| anyhow!("--match {text:?}: {e}")))
        .collect::<anyhow::Result<_>>()?;
    let selectors = if selectors.is_empty() { vec![Vec::new()] } else { selectors };
    let storage = open_to_read(dir)?;
    let mut out = BufWriter::with_capacity(1 << 18, std::io::stdout().lock());
    let left_out = write_all(&storage.reader(), &selectors, (from, to), &mut out)?;
    out.flush().context("standard output")?;
    for (n, what) in [
        (
            left_out.histograms,
            "native histograms were left out: OpenMetrics cannot express them (hint: make a snapshot, or import the directory itself)",
        ),
        (left_out.stale, "staleness markers were left out: OpenMetrics cannot express them"),
        (left_out.nameless, "series without a metric name were left out"),
    ] {
        if n > 0 {
            eprintln!("warning: {n} {what}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_all(
    reader: &Reader,
    selectors: &[Vec<Matcher>],
    (from, to): (Timestamp, Timestamp),
    out: &mut impl Write,
) -> anyhow::Result<LeftOut> {
    let mut left_out = LeftOut::default();
    let mut writer = Writer::new(Format::OpenMetricsUtf8);
    for ((family, _), (metadata, names)) in families(reader, selectors, from, to) {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut is_begun = false;
        for name in &names {
            let mut series = Vec::new();
            for (i, selector) in selectors.iter().enumerate() {
                let mut matchers = selector.clone();
                matchers.push(Matcher::equal(METRIC_NAME, *name));
                let selected = reader.select(&matchers, from, to);
                // What an earlier selector has selected is there already.
                let earlier = &selectors[..i];
                let is_new = |l: &crate::model::Labels| {
                    !earlier.iter().any(|s| s.iter().all(|m| m.matches(l.get(&m.name).unwrap_or(""))))
                };
                series.extend(selected.into_iter().filter(|s| is_new(s.labels())));
            }
            series.sort_by(|a, b| a.labels().cmp(b.labels()));
            let mut samples = Samples::default();
            for s in &series {
                samples.clear();
                s.read(from, to, &mut samples);
                left_out.histograms += samples.hist_ts.len() as u64;
                let stale = samples.vs.iter().filter(|v| is_stale_marker(**v)).count();
                left_out.stale += stale as u64;
                if stale == samples.ts.len() {
                    continue;
                }
                if name.is_empty() {
                    left_out.nameless += 1;
                    continue;
                }
                if !is_begun {
                    writer.begin_family(&family, &metadata, &names);
                    is_begun = true;
                }
                let floats = samples.ts.iter().copied().zip(samples.vs.iter().copied());
                writer.series(s.labels(), floats.filter(|(_, v)| !is_stale_marker(*v)));
                out.write_all(writer.take().as_bytes()).context("standard output")?;
            }
        }
    }
    out.write_all(writer.finish().as_bytes()).context("standard output")?;
    Ok(left_out)
}

type Families = BTreeMap<(String, bool), (Metadata, Vec<String>)>;

/// The metric names by their families, so that no family comes twice.
fn families(reader: &Reader, selectors: &[Vec<Matcher>], from: Timestamp, to: Timestamp) -> Families {
    let metadata: BTreeMap<String, Metadata> = reader.metadata().into_iter().collect();
    let mut names = std::collections::BTreeSet::new();
    for selector in selectors {
        names.extend(reader.label_values(METRIC_NAME, selector, from, to));
    }
    names.insert(String::new());
    let mut families = Families::new();
    for name in names {
        let family = family_name(&name, |f| metadata.get(f).map(|m| m.metric_type)).to_owned();
        let known = metadata.get(&family).cloned().unwrap_or_default();
        // A counter is named without its suffix; that name may belong to another family.
        let bare = match known.metric_type {
            MetricType::Counter => family.strip_suffix("_total"),
            MetricType::Info => family.strip_suffix("_info"),
            _ => None,
        };
        let taken = bare.is_some_and(|b| metadata.contains_key(b));
        let known = if taken { Metadata { metric_type: MetricType::Unknown, ..known } } else { known };
        families.entry((family, taken)).or_insert_with(|| (known, Vec::new())).1.push(name);
    }
    families
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FloatHistogram, Labels, stale_marker};
    use crate::storage::{Storage, StorageOptions};
    use std::sync::Arc;

    #[test]
    fn families_stand_together_and_what_cannot_be_said_is_counted() {
        let storage = Storage::open(StorageOptions::default()).unwrap();
        let mut a = storage.appender();
        for (name, label, ts, v) in [
            ("h_bucket", ("le", "1"), 1000, 1.0),
            ("h_bucket", ("le", "+Inf"), 1000, 2.0),
            ("h_bytes", ("x", "a\"b"), 1500, 0.25),
            ("h_count", ("", ""), 1000, 2.0),
            ("h_sum", ("", ""), 1000, 2.5),
            ("c_total", ("", ""), 1000, 7.0),
            ("c_total", ("", ""), 2000, 8.0),
            ("c_total", ("", ""), 3000, stale_marker()),
            ("odd name", ("", ""), 1, 1.0),
        ] {
            let labels = [("__name__", name), label].into_iter().filter(|(n, _)| !n.is_empty());
            let s = a.series(&Labels::from_pairs(labels)).unwrap();
            a.append(s, ts, v).unwrap();
        }
        let s = a.series(&Labels::from_pairs([("__name__", "native")])).unwrap();
        a.append_histogram(s, 5, Arc::new(FloatHistogram::default())).unwrap();
        a.commit().unwrap();
        let known =
            |metric_type, help: &str| Metadata { metric_type, help: help.into(), unit: String::new() };
        storage.set_metadata("h", known(MetricType::Histogram, "A histogram"));
        storage.set_metadata("c_total", known(MetricType::Counter, ""));
        let mut out = Vec::new();
        let left_out = write_all(&storage.reader(), &[vec![]], (0, 10_000), &mut out).unwrap();
        assert_eq!((left_out.histograms, left_out.stale, left_out.nameless), (1, 1, 0));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "# TYPE c counter\nc_total 7.0 1\nc_total 8.0 2\n\
             # HELP h A histogram\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2.0 1\nh_bucket{le=\"1\"} 1.0 1\n\
             h_count 2.0 1\nh_sum 2.5 1\n\
             # TYPE h_bytes unknown\nh_bytes{x=\"a\\\"b\"} 0.25 1.500\n\
             # TYPE \"odd name\" unknown\n{\"odd name\"} 1.0 0.001\n# EOF\n"
        );
        let mut out = Vec::new();
        let selectors = [vec![Matcher::equal("le", "1")], vec![Matcher::equal(METRIC_NAME, "h_bucket")]];
        write_all(&storage.reader(), &selectors, (0, 10_000), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().matches("h_bucket{").count(), 2);
    }
}
