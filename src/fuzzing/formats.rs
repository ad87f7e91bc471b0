//! Formats from outside: regular expressions, durations, bodies of samples, templates, YAML.

use serde::Deserialize;

use crate::exposition::protobuf;
use crate::exposition::remote_write::{self, Encoding, Item, LabelPairs, WriteRequest, v2};
use crate::exposition::{FamilySet, Format, Parser, Writer};
use crate::model::{GoRegex, Labels, LabelsBuilder, format_duration_ms, parse_duration_ms};
use crate::promql::Features;
use crate::relabel;
use crate::template::{Limits, PrometheusFunctions, Template, Value};
use crate::yaml::{Problems, Source, Spanned};

/// Cuts an input at its line ends into at most `n` texts; what is missing is empty.
fn texts<const N: usize>(input: &[u8]) -> Option<[&str; N]> {
    let text = std::str::from_utf8(input).ok()?;
    let mut pieces = text.splitn(N, '\n');
    Some(std::array::from_fn(|_| pieces.next().unwrap_or("")))
}

/// Pattern, replacement, text: what is known of a pattern without an engine agrees with the engine.
pub fn regex(input: &[u8]) {
    let Some([pattern, replacement, text]) = texts(input) else { return };
    if pattern.len() > 256 {
        return;
    }
    if let Ok(regex) = GoRegex::anchored(pattern) {
        let matches = regex.is_match(text);
        // Filling in captures always takes an engine.
        let filled_in = matches && regex.check_groups().is_ok();
        assert_eq!(regex.expand(text, replacement).is_some(), filled_in, "{pattern:?} on {text:?}");
        if matches {
            assert!(text.starts_with(regex.prefix()), "{pattern:?} on {text:?}");
            assert!(text.ends_with(regex.suffix()), "{pattern:?} on {text:?}");
            assert!(text.contains(regex.contains()), "{pattern:?} on {text:?}");
            assert!(!regex.is_match_non_empty() || !text.is_empty());
        }
        assert!(!regex.is_match_all() || matches, "{pattern:?} on {text:?}");
        if let Some(literals) = regex.literals() {
            assert!(literals.is_sorted() && literals.iter().all(|l| regex.is_match(l)), "{pattern:?}");
            assert_eq!(literals.iter().any(|l| l == text), matches, "{pattern:?} on {text:?}");
        }
    }
    if let Ok(regex) = GoRegex::unanchored(pattern) {
        let replaced = regex.replace_all(text, "");
        assert!(replaced.len() <= text.len(), "{pattern:?} on {text:?}");
        drop(regex.replace_all(text, replacement));
    }
}

/// What a duration is printed as is the same duration.
pub fn duration(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(ms) = parse_duration_ms(text) {
        let printed = format_duration_ms(ms);
        assert_eq!(parse_duration_ms(&printed), Ok(ms), "{text:?} is printed as {printed:?}");
    }
    if let Ok(bytes) = input.try_into() {
        let ms = i64::from_le_bytes(bytes);
        let printed = format_duration_ms(ms);
        let read = parse_duration_ms(&printed);
        assert!(ms < 0 || read.is_err() || read == Ok(ms), "{ms} is printed as {printed:?}");
    }
}

/// Walking a body ends, and stays in it; what was read whole is written and read as the same.
pub fn exposition(input: &[u8]) {
    let Some((which, body)) = input.split_first() else { return };
    let types = [
        "text/plain; version=0.0.4",
        "text/plain; version=1.0.0; escaping=allow-utf-8",
        "application/openmetrics-text; version=1.0.0",
        "application/openmetrics-text; version=1.0.0; escaping=allow-utf-8",
    ];
    let format = Format::from_content_type(Some(types[usize::from(*which) % types.len()]));
    let format = format.expect("these are content types of ours");
    let mut parser = Parser::new(format, body);
    let mut before = 0;
    while let Ok(Some(_)) = parser.next() {
        let at = parser.position();
        assert!(at > before && at <= body.len(), "from {before} to {at} of {}", body.len());
        assert!(parser.labels().count() <= body.len());
        assert!(parser.line_since(before).len() <= at - before);
        before = at;
    }
    let Ok(set) = FamilySet::parse(format, body) else { return };
    let mut writer = Writer::new(Format::from_content_type(Some(types[1])).expect("as above"));
    writer.families(&set);
    let written = writer.finish();
    let again = FamilySet::parse(format_of_writer(types[1]), written.as_bytes());
    let again = again.unwrap_or_else(|e| panic!("{e} in {written}"));
    assert_eq!(again.series_count(), set.series_count(), "{written}");
}

fn format_of_writer(content_type: &str) -> Format {
    Format::from_content_type(Some(content_type)).expect("a content type of ours")
}

/// The first byte chooses: a message, or one within snappy or zstd.
pub fn remote_write(input: &[u8]) {
    const LIMIT: usize = 1 << 20;
    let Some((which, body)) = input.split_first() else { return };
    let mut message = Vec::new();
    let unpacked = match which % 3 {
        0 => {
            message.extend_from_slice(body);
            Ok(())
        }
        1 => remote_write::decompress(Encoding::Snappy, body, LIMIT, &mut message),
        _ => remote_write::decompress(Encoding::Zstd, body, LIMIT, &mut message),
    };
    if unpacked.is_err() {
        return;
    }
    assert!(message.len() <= LIMIT.max(body.len()));
    let packed = remote_write::compress_snappy(&message);
    let mut again = Vec::new();
    let unpacked = remote_write::decompress(Encoding::Snappy, &packed, message.len(), &mut again);
    assert!(unpacked.is_ok() && again == message);
    let mut request = WriteRequest::new(&message);
    while let Ok(Some(item)) = request.next() {
        match item {
            Item::Series(series) => {
                series.label_pairs().take_while(Result::is_ok).for_each(drop);
                let mut values = series.values();
                while let Ok(Some(value)) = values.next() {
                    if let Ok(Some((_, h))) = value.histogram() {
                        let of = |spans: &[crate::model::Span]| {
                            spans.iter().map(|s| s.length as usize).sum::<usize>()
                        };
                        assert_eq!(of(&h.positive_spans), h.positive_buckets.len());
                        assert_eq!(of(&h.negative_spans), h.negative_buckets.len());
                    }
                }
            }
            Item::Metadata(m) => drop(m.to_metadata()),
        }
    }
}

/// A body of protobuf: what is read fits together, and what is written of it reads back the same.
pub fn protobuf(body: &[u8]) {
    let mut families = protobuf::MetricFamilies::new(body);
    while let Ok(Some(mut family)) = families.next() {
        let of = family.family_type;
        assert!(!family.name.is_empty());
        while let Ok(Some(metric)) = family.next_metric() {
            assert!(metric.label_pairs().count() <= body.len());
            drop(metric.summary());
            let mut exemplars: Vec<&[u8]> =
                metric.number(of).ok().and_then(|n| n.exemplar).into_iter().collect();
            if let Ok(h) = metric.histogram() {
                exemplars
                    .extend(h.exemplars.iter().copied().chain(h.buckets.iter().filter_map(|b| b.exemplar)));
                if let Ok(native) = h.native(of)
                    && native.count.is_finite()
                    && native.sum.is_finite()
                {
                    let spans =
                        |spans: &[crate::model::Span]| spans.iter().map(|s| s.length as usize).sum::<usize>();
                    assert_eq!(spans(&native.positive_spans), native.positive_buckets.len());
                    assert_eq!(spans(&native.negative_spans), native.negative_buckets.len());
                    written_again(&native, of);
                }
            }
            for exemplar in exemplars {
                drop(protobuf::Metric::exemplar(exemplar));
            }
        }
    }
}

fn written_again(h: &crate::model::FloatHistogram, of: protobuf::FamilyType) {
    // The writer states float counts, of which a count of 0 would not say that they are.
    if h.count <= 0.0 || h.positive_buckets.iter().chain(&h.negative_buckets).any(|b| b.is_nan()) {
        return;
    }
    let mut writer = protobuf::Writer::new();
    writer.begin_family("h", of);
    writer.histogram([], 1, h);
    let body = writer.finish();
    let mut family = protobuf::MetricFamilies::new(&body).next().ok().flatten().expect("one family");
    let metric = family.next_metric().ok().flatten().expect("one metric");
    let again = metric.histogram().and_then(|h| h.native(of)).expect("a histogram");
    assert_eq!(format!("{again:?}"), format!("{h:?}"));
}

/// A message of remote write 2.0: what is read refers to what is there, and its labels can be written as 1.0 has them.
pub fn remote_write_v2(message: &[u8]) {
    let mut symbols = v2::Symbols::default();
    if symbols.read(message).is_err() {
        return;
    }
    let (mut request, mut refs, mut labels) = (v2::Request::new(message), Vec::new(), Vec::new());
    while let Ok(Some(mut series)) = request.next(&mut refs) {
        assert!(refs.len() % 2 == 0 && refs.len() <= message.len());
        labels.clear();
        let mut pushed = 0;
        for pair in refs.chunks_exact(2) {
            let (Ok(name), Ok(value)) = (symbols.get(message, pair[0]), symbols.get(message, pair[1])) else {
                break;
            };
            if labels.len() + name.len() + value.len() < 1 << 16 {
                v2::push_label(&mut labels, name, value);
                pushed += 1;
            }
        }
        assert_eq!(LabelPairs::new(&labels).count(), pushed, "{labels:?}");
        drop(series.metadata());
        while let Ok(Some(item)) = series.next_item() {
            match item {
                v2::SeriesItem::Float { .. } => {}
                v2::SeriesItem::Exemplar(bytes) => {
                    if let Ok((refs, _, _)) = v2::exemplar(bytes) {
                        assert!(refs.len() % 2 == 0 && refs.len() <= bytes.len());
                    }
                }
                v2::SeriesItem::Histogram(bytes) => {
                    if let Ok((_, _, h)) = series.histogram(bytes) {
                        let of = |spans: &[crate::model::Span]| {
                            spans.iter().map(|s| s.length as usize).sum::<usize>()
                        };
                        assert_eq!(of(&h.positive_spans), h.positive_buckets.len());
                        assert_eq!(of(&h.negative_spans), h.negative_buckets.len());
                    }
                }
            }
        }
    }
}

/// Any text is refused, or executed within its limits.
pub fn template(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.len() > 4096 {
        return;
    }
    let sample = |name: &str, v: f64| (Labels::from_pairs([("__name__", name), ("job", "a"), ("le", "")]), v);
    let query = |q: &str| match q.len() % 3 {
        0 => Err("refused".to_owned()),
        1 => Ok(Vec::new()),
        _ => Ok(vec![sample("up", 1.0), sample("down", f64::NAN), sample("x", -1e9)]),
    };
    let functions =
        PrometheusFunctions { query: &query, external_url: "http://localhost", now: 1_700_000_000_123 };
    let Ok(template) = Template::parse("t", text, &functions) else { return };
    let list =
        Value::List(vec![Value::Int(-3), Value::Float(2.5), Value::str("z"), Value::Bool(true)].into());
    let data = Value::Map(
        [
            ("Labels".to_owned(), Value::Labels(Labels::from_pairs([("a", "b"), ("job", "x<y>")]))),
            ("Value".to_owned(), Value::Float(12.25)),
            ("List".to_owned(), list),
            ("At".to_owned(), Value::Time(1_700_000_000_000)),
            ("For".to_owned(), Value::Duration(90_000_000_000)),
        ]
        .into_iter()
        .collect::<std::collections::BTreeMap<_, _>>()
        .into(),
    );
    let limits = Limits { output_bytes_max: 1 << 14, steps_max: 2_000, depth_max: 50 };
    if let Ok(out) = template.execute(&data, &functions, limits) {
        assert!(out.len() <= limits.output_bytes_max, "{} bytes", out.len());
    }
}

/// Any text is refused with places in it, or is a rule file.
pub fn rule_file(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.len() > 8192 {
        return;
    }
    let source = Source::new("f.yml", text);
    if let Err(problems) = crate::rules::file::load(&source, Features::all()) {
        assert!(!problems.is_empty());
        assert!(!problems.to_string().is_empty());
    }
}

#[derive(Debug, Default, Deserialize)]
struct RelabelFile {
    rules: Vec<Spanned<relabel::RelabelConfig>>,
}

/// Any list of rules is refused, or makes a label set of a label set.
pub fn relabel(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.len() > 4096 {
        return;
    }
    let source = Source::new("f.yml", text);
    let Ok(file) = source.parse::<RelabelFile>() else { return };
    let mut problems = Problems::default();
    let rules = relabel::resolve(&file.rules, &source, &mut problems);
    let labels =
        [("__name__", "requests_total"), ("job", "api"), ("instance", "10.0.0.1:9090"), ("ä", "é\n")];
    let mut builder = LabelsBuilder::from(&Labels::from_pairs(labels));
    if rules.apply(&mut builder) {
        let out = builder.build();
        assert!(out.iter().is_sorted(), "{out}");
        assert!(out.iter().all(|(_, value)| !value.is_empty()), "{out}");
    }
}
