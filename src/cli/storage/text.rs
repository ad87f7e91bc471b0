//! OpenMetrics text of any length, line by line into an import.

use std::collections::HashMap;
use std::io::Read;

use anyhow::{Context as _, anyhow, bail};

use crate::exposition::{Entry, Format, ParseError, Parser};
use crate::model::{Labels, METRIC_NAME, Metadata};
use crate::storage::{Exemplar, Importer, SampleRef, ValueRef};

/// So much is parsed at once; a line may not be longer.
const CHUNK_BYTES: usize = 4 << 20;
const EOF: &[u8] = b"# EOF\n";
/// Metric families that a file may describe, and the text that is kept of each.
const FAMILIES_MAX: usize = 100_000;
const HELP_BYTES_MAX: usize = 4096;

/// Takes every sample and exemplar of `input`. `progress` hears how many bytes were read.
///
/// # Errors
/// At the first line that is no OpenMetrics or has no timestamp, with its number.
pub fn read(mut input: impl Read, into: &mut Importer, mut progress: impl FnMut(u64)) -> anyhow::Result<()> {
    let mut families: HashMap<String, Metadata> = HashMap::new();
    let mut buffer: Vec<u8> = Vec::with_capacity(CHUNK_BYTES + EOF.len());
    let (mut lines, mut bytes, mut ended) = (0usize, 0u64, false);
    loop {
        let free = CHUNK_BYTES - buffer.len();
        let n = (&mut input).take(free as u64).read_to_end(&mut buffer).context("it cannot be read")?;
        bytes += n as u64;
        progress(bytes);
        let at_end = n < free;
        if buffer.is_empty() {
            break;
        }
        if ended {
            bail!("line {}: there is more after # EOF", lines + 1);
        }
        if at_end && buffer.last() != Some(&b'\n') {
            // The end mark may come without a line's end.
            buffer.push(b'\n');
        }
        let Some(end) = memchr::memrchr(b'\n', &buffer).map(|i| i + 1) else {
            bail!("line {}: it is longer than {CHUNK_BYTES} bytes", lines + 1);
        };
        let rest = buffer.split_off(end);
        ended = buffer == EOF || buffer.ends_with(b"\n# EOF\n");
        if !ended {
            buffer.extend_from_slice(EOF);
        }
        parse(&buffer, lines, into, &mut families)?;
        lines += memchr::memchr_iter(b'\n', &buffer).count() - usize::from(!ended);
        buffer = rest;
        buffer.reserve(CHUNK_BYTES + EOF.len() - buffer.len());
        if at_end {
            break;
        }
    }
    if !ended {
        bail!("line {}: it does not end with # EOF, so it may have been cut off", lines + 1);
    }
    for (family, metadata) in families {
        into.describe(&family, metadata);
    }
    Ok(())
}

/// Takes the samples of whole lines, `before` of which were there before.
fn parse(
    body: &[u8],
    before: usize,
    into: &mut Importer,
    families: &mut HashMap<String, Metadata>,
) -> anyhow::Result<()> {
    let placed = |e: ParseError| anyhow!("line {}: {}", before + e.line, e.message);
    let mut parser = Parser::new(Format::OpenMetricsUtf8, body);
    let (mut last, mut labels): (&[u8], Labels) = (b"", Labels::empty());
    loop {
        let at = parser.position();
        let Some(entry) = parser.next().map_err(placed)? else { return Ok(()) };
        match entry {
            Entry::Type { family: name, metric_type } => {
                if let Some(f) = family(families, &name) {
                    f.metric_type = metric_type;
                }
            }
            Entry::Help { family: name, text } => {
                let cut = text.len().min(HELP_BYTES_MAX);
                let end = (0..=cut).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
                if let Some(f) = family(families, &name) {
                    text[..end].clone_into(&mut f.help);
                }
            }
            Entry::Unit { family: name, unit } => {
                if let Some(f) = family(families, &name) {
                    unit.clone_into(&mut f.unit);
                }
            }
            Entry::Comment => {}
            Entry::Sample(sample) => {
                let Some(ts) = sample.ts else {
                    return Err(placed(parser.error_at(at, "the sample has no timestamp")));
                };
                if sample.series != last {
                    labels = labels_of(&parser).map_err(|what| placed(parser.error_at(at, what)))?;
                    last = sample.series;
                }
                let value = ValueRef::Float(sample.value);
                into.push(&labels, SampleRef { ts, start: 0, value })
                    .context("the samples cannot be stored")?;
                if let Some(e) = sample.exemplar {
                    let own = Labels::from_pairs(e.label_pairs());
                    into.push_exemplar(
                        &labels,
                        Exemplar { labels: own, value: e.value, ts: e.ts.unwrap_or(ts) },
                    );
                }
            }
        }
    }
}

/// What is said of a family; `None` if it is one too many.
fn family<'a>(families: &'a mut HashMap<String, Metadata>, name: &str) -> Option<&'a mut Metadata> {
    let known = families.len() < FAMILIES_MAX || families.contains_key(name);
    known.then(|| families.entry(name.to_owned()).or_default())
}

fn labels_of(parser: &Parser<'_>) -> Result<Labels, &'static str> {
    let mut pairs: Vec<_> = parser.labels().collect();
    if pairs.first().is_none_or(|(n, v)| n != METRIC_NAME || v.is_empty()) {
        return Err("the sample has no metric name");
    }
    pairs.sort();
    if pairs.windows(2).any(|w| w[0].0 == w[1].0) {
        return Err("a label comes twice");
    }
    Ok(Labels::from_pairs(pairs))
}
