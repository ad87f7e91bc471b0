//! `streamgate storage dump`: samples as OpenMetrics text, family by family; or everything, as JSON lines (`lines`).
//!
//! OpenMetrics cannot say everything that is stored: native histograms, staleness markers and start times are left out
//! and counted. The samples of a series stand together, ascending in time, which every reader of backfilled data takes;
//! the specification would have the buckets of a histogram together by time.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};

use super::lines::LinesWriter;
use super::{exit_code, open_to_read, warn_of_damage};
use crate::exposition::{Format, Writer, family_name};
use crate::model::{Labels, METRIC_NAME, Matcher, Metadata, MetricType, Timestamp, is_stale_marker};
use crate::promql::parse_selector;
use crate::storage::{Reader, Samples};

/// What could not be written.
#[derive(Default)]
struct LeftOut {
    histograms: u64,
    stale: u64,
    nameless: u64,
}

/// What `--match` says; everything if it says nothing.
fn selectors_of(texts: &[String]) -> anyhow::Result<Vec<Vec<Matcher>>> {
    let selectors: Vec<Vec<Matcher>> = texts
        .iter()
        .map(|text| parse_selector(text).map_err(|e| anyhow!("--match {text:?}: {e}")))
        .collect::<anyhow::Result<_>>()?;
    Ok(if selectors.is_empty() { vec![Vec::new()] } else { selectors })
}

/// Writes JSON lines.
pub fn run_lines(
    dir: &Path,
    selectors: &[String],
    range: (Timestamp, Timestamp),
) -> anyhow::Result<ExitCode> {
    let selectors = selectors_of(selectors)?;
    let storage = open_to_read(dir)?;
    let out = BufWriter::with_capacity(1 << 18, std::io::stdout().lock());
    lines(&storage.reader(), &selectors, range, out)?.flush().context("standard output")?;
    Ok(exit_code(!warn_of_damage(dir, &storage)))
}

fn lines<W: Write>(
    reader: &Reader,
    selectors: &[Vec<Matcher>],
    (from, to): (Timestamp, Timestamp),
    out: W,
) -> anyhow::Result<W> {
    let mut writer = LinesWriter::begin(out)?;
    let metadata: BTreeMap<String, Metadata> = reader.metadata().into_iter().collect();
    let exemplars = reader.exemplars(selectors, from, to);
    let mut names = std::collections::BTreeSet::from([String::new()]);
    for selector in selectors {
        names.extend(reader.label_values(METRIC_NAME, selector, from, to));
    }
    names.extend(exemplars.iter().map(|(labels, _)| labels.metric_name().to_owned()));
    let known = |name: &String| family_name(name, |f| metadata.get(f).map(|m| m.metric_type)).to_owned();
    let families: std::collections::BTreeSet<String> = names.iter().map(known).collect();
    for (family, metadata) in families.iter().filter_map(|f| metadata.get_key_value(f)) {
        writer.family(family, metadata)?;
    }
    let mut samples = Samples::default();
    for name in &names {
        for (i, selector) in selectors.iter().enumerate() {
            let mut matchers = selector.clone();
            matchers.push(Matcher::equal(METRIC_NAME, name.as_str()));
            for series in reader.select(&matchers, from, to) {
                if is_selected(series.labels(), &selectors[..i]) {
                    continue;
                }
                samples.clear();
                series.read(from, to, &mut samples);
                writer.series(series.labels(), &samples)?;
            }
        }
    }
    for (labels, exemplars) in &exemplars {
        writer.exemplars(labels, exemplars)?;
    }
    writer.end()
}

/// Whether any of these selectors selects a series.
fn is_selected(labels: &Labels, selectors: &[Vec<Matcher>]) -> bool {
    selectors.iter().any(|s| s.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or(""))))
}

pub fn run(dir: &Path, selectors: &[String], from: Timestamp, to: Timestamp) -> anyhow::Result<ExitCode> {
    let selectors = selectors_of(selectors)?;
    let storage = open_to_read(dir)?;
    let mut out = BufWriter::with_capacity(1 << 18, std::io::stdout().lock());
    let left_out = write_all(&storage.reader(), &selectors, (from, to), &mut out)?;
    out.flush().context("standard output")?;
    for (n, what) in [
        (
            left_out.histograms,
            "native histograms were left out: OpenMetrics cannot express them (hint: --format=jsonl has everything)",
        ),
        (
            left_out.stale,
            "staleness markers were left out: OpenMetrics cannot express them (hint: --format=jsonl)",
        ),
        (left_out.nameless, "series without a metric name were left out"),
    ] {
        if n > 0 {
            eprintln!("warning: {n} {what}");
        }
    }
    Ok(exit_code(!warn_of_damage(dir, &storage)))
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
                series.extend(selected.into_iter().filter(|s| !is_selected(s.labels(), &selectors[..i])));
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
    use crate::model::{CounterResetHint, FloatHistogram, Span, stale_marker};
    use crate::storage::{Exemplar, ImportOptions, SampleValue, Storage, StorageOptions};
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

    /// A storage in a folder with one of everything.
    fn of_everything(dir: &Path) -> Storage {
        let options =
            StorageOptions { dir: Some(dir.to_owned()), exemplars_max: 10, ..StorageOptions::default() };
        let storage = Storage::open(options).unwrap();
        let mut a = storage.appender();
        let labels = |name: &str| Labels::from_pairs([("__name__", name), ("x", "a\"b\n")]);
        let floats = a.series(&labels("c_total")).unwrap();
        let values = [1.5, f64::INFINITY, -0.0, f64::from_bits(0x7ff8_0000_0000_0007), f64::MIN_POSITIVE];
        for (i, v) in values.into_iter().enumerate() {
            a.append(floats, 1000 * (1 + i as i64), v).unwrap();
        }
        a.append_with_start(floats, 9000, 8500, SampleValue::Float(0.1)).unwrap();
        a.append_among_started(floats, 10_000, 0, SampleValue::Float(stale_marker())).unwrap();
        let nameless = a.series(&Labels::from_pairs([("y", "1")])).unwrap();
        a.append(nameless, 5, 5.0).unwrap();
        let native = a.series(&labels("native")).unwrap();
        let h = FloatHistogram {
            counter_reset_hint: CounterResetHint::NotReset,
            schema: 3,
            zero_threshold: 0.001,
            zero_count: 0.5,
            count: 7.5,
            sum: f64::NAN,
            positive_spans: vec![Span { offset: -3, length: 1 }, Span { offset: 2, length: 2 }],
            positive_buckets: vec![1.0, 2.0, 3.0],
            negative_spans: vec![Span { offset: 1, length: 1 }],
            negative_buckets: vec![1.0],
            custom_values: vec![],
        };
        let custom = FloatHistogram {
            schema: -53,
            count: 3.0,
            sum: 4.0,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1.0, 2.0],
            custom_values: vec![1.0],
            ..FloatHistogram::default()
        };
        let stale = FloatHistogram { sum: stale_marker(), ..FloatHistogram::default() };
        a.append_with_start(native, 1000, 500, SampleValue::Histogram(Arc::new(h))).unwrap();
        a.append_with_start(native, 2000, 500, SampleValue::Histogram(Arc::new(custom))).unwrap();
        a.append_among_started(native, 3000, 0, SampleValue::Histogram(Arc::new(stale))).unwrap();
        let exemplar = |ts| Exemplar { labels: Labels::from_pairs([("trace_id", "t")]), value: 0.25, ts };
        a.append_exemplar(floats, exemplar(1000)).unwrap();
        a.append_exemplar(native, exemplar(1001)).unwrap();
        a.commit().unwrap();
        let known = Metadata { metric_type: MetricType::Counter, help: "Help.".into(), unit: String::new() };
        storage.set_metadata("c_total", known);
        storage
    }

    fn lines_of(storage: &Storage) -> String {
        let out = lines(&storage.reader(), &[vec![]], (Timestamp::MIN, Timestamp::MAX), Vec::new()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_dump_of_what_is_damaged_says_so() {
        let dir = tempfile::tempdir().unwrap();
        of_everything(dir.path()).seal_all().unwrap();
        let blocks = || std::fs::read_dir(dir.path().join("blocks")).unwrap().map(|e| e.unwrap().path());
        let dump = || {
            let storage = open_to_read(dir.path()).unwrap();
            (lines_of(&storage).len(), warn_of_damage(dir.path(), &storage))
        };
        let (whole, damaged) = dump();
        assert!(!damaged);
        for at in [20, usize::MAX] {
            let block = blocks().max().unwrap();
            let was = std::fs::read(&block).unwrap();
            let mut bytes = was.clone();
            let at = at.min(bytes.len() - 20);
            bytes[at] ^= 1;
            std::fs::write(&block, bytes).unwrap();
            let (length, damaged) = dump();
            assert!(damaged && length < whole, "at {at}");
            std::fs::write(&block, was).unwrap();
        }
    }

    #[test]
    fn json_lines_have_everything_and_are_read_back() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let storage = of_everything(from.path());
        let text = lines_of(&storage);
        let mut expected = vec![
            r#"{"streamgate":"samples","version":1}"#,
            r#"{"family":"c_total","type":"counter","help":"Help.","unit":""}"#,
            r#"{"labels":{"y":"1"},"samples":[[5,5.0]]}"#,
            r#"{"labels":{"__name__":"c_total","x":"a\"b\n"},"samples":[[1000,1.5],[2000,"+Inf"],[3000,-0.0],[4000,"NaN:7ff8000000000007"],[5000,2.2250738585072014e-308],[9000,0.1,8500],[10000,"stale"]]}"#,
        ];
        let native = r#"{"labels":{"__name__":"native","x":"a\"b\n"},"histograms":[[1000,{"count":7.5,"sum":"NaN","schema":3,"zero_threshold":0.001,"zero_count":0.5,"positive":{"spans":[[-3,1],[2,2]],"counts":[1.0,2.0,3.0]},"negative":{"spans":[[1,1]],"counts":[1.0]},"counter_reset":"not_reset"},500],[2000,{"count":3.0,"sum":4.0,"schema":-53,"positive":{"spans":[[0,2]],"counts":[1.0,2.0]},"bounds":[1.0]},500],[3000,{"count":0.0,"sum":"stale","schema":0}]]}"#;
        expected.extend([
            native,
            r#"{"labels":{"__name__":"c_total","x":"a\"b\n"},"exemplars":[{"labels":{"trace_id":"t"},"value":0.25,"ts":1000}]}"#,
            r#"{"labels":{"__name__":"native","x":"a\"b\n"},"exemplars":[{"labels":{"trace_id":"t"},"value":0.25,"ts":1001}]}"#,
            r#"{"end":{"samples":11,"exemplars":2}}"#,
        ]);
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
        let options = StorageOptions {
            dir: Some(to.path().to_owned()),
            exemplars_max: 10,
            ..StorageOptions::default()
        };
        let import = |text: &str| {
            let storage = Storage::open(options.clone()).unwrap();
            let importing = ImportOptions {
                latest: Timestamp::MAX,
                kept_from: Timestamp::MIN,
                block_ms: 7_200_000,
                buffer_samples: 3,
            };
            let mut importer = storage.importer(importing).unwrap();
            super::super::lines::read(text.as_bytes(), &mut importer, |_| ()).unwrap();
            importer.finish(|_, _| ()).unwrap()
        };
        let done = import(&text);
        assert_eq!((done.samples, done.exemplars, done.exemplars_left_out), (11, 2, 0));
        assert_eq!(lines_of(&Storage::open(options.clone()).unwrap()), text, "after a restart");
        let again = import(&text);
        assert_eq!((again.repeated, again.conflicting, again.exemplars_left_out), (11, 0, 2));
        assert_eq!(lines_of(&Storage::open(options).unwrap()), text);
    }
}
