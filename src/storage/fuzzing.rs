//! The codecs' fuzz targets; see the crate's module `fuzzing`.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use super::Samples;
pub use super::block::map::Map;
use super::block::reader::ReadScratch;
use super::block::{
    Block, BlockWriter, FOOTER_BYTES, FOOTER_FIELDS, Footer, HEADER_BYTES, PAGE_BYTES, PARTS, Part,
};
use super::chunk::histograms::{self as histogram_chunk, HistogramEncoder, same_bits, take_histogram};
use super::chunk::open::OpenChunk;
use super::chunk::starts::Starts;
use super::chunk::{floats as float_chunk, ints as int_chunk};
use super::coding::{Cursor, crc32c};
use super::disk::RealDisk;
use super::index::postings::Postings;
use super::wal::{frame, replay};
use crate::model::{FloatHistogram, Matcher, Span};

/// Numbers of eight bytes, at most as many as a chunk has; what is left over is dropped.
fn words(input: &[u8]) -> Vec<u64> {
    let word = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("a chunk of eight bytes"));
    input.chunks_exact(8).take(480).map(word).collect()
}

/// Small steps between numbers, as real columns have: each byte is a signed step, times a power of ten.
fn walk(input: &[u8]) -> Vec<i64> {
    let Some((unit, steps)) = input.split_first() else { return Vec::new() };
    let unit = 10i64.pow(u32::from(unit % 12));
    let mut at = 0i64;
    let step = |b: &u8| {
        at = at.wrapping_add(i64::from(*b as i8).wrapping_mul(unit));
        at
    };
    steps.iter().take(480).map(step).collect()
}

/// Columns of integers come back; damaged ones end.
pub fn ints(input: &[u8]) {
    let Some((n, bytes)) = input.split_first() else { return };
    let mut out = Vec::new();
    let n = usize::from(*n) * 20;
    if int_chunk::decode(&mut Cursor::new(bytes), n, &mut out).is_some() {
        assert_eq!(out.len(), n);
    }
    for column in [words(bytes).into_iter().map(|w| w as i64).collect(), walk(bytes)] {
        let (mut encoded, mut back) = (Vec::new(), Vec::new());
        int_chunk::encode(&column, &mut encoded);
        int_chunk::decode(&mut Cursor::new(&encoded), column.len(), &mut back).expect("just encoded");
        assert_eq!(back, column);
    }
}

/// Columns of floats come back bit for bit; damaged ones end.
pub fn floats(input: &[u8]) {
    let Some((n, bytes)) = input.split_first() else { return };
    let (mut out, mut scratch) = (Vec::new(), Vec::new());
    let count = usize::from(*n) * 20;
    if float_chunk::decode(bytes, count, &mut out, &mut scratch).is_some() {
        assert_eq!(out.len(), count);
    }
    let divisor = 10f64.powi(i32::from(n % 9));
    let columns: [Vec<f64>; 2] = [
        words(bytes).into_iter().map(f64::from_bits).collect(),
        walk(bytes).into_iter().map(|v| v as f64 / divisor).collect(),
    ];
    for column in columns {
        let (mut encoded, mut back) = (Vec::new(), Vec::new());
        float_chunk::encode(&column, &mut encoded);
        float_chunk::decode(&encoded, column.len(), &mut back, &mut scratch).expect("just encoded");
        assert!(same_floats(&back, &column), "{column:?} came back as {back:?}");
    }
}

fn same_floats(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// A growing chunk gives back what was appended, for any range.
pub fn open_chunk(input: &[u8]) {
    let mut chunk = OpenChunk::default();
    let (mut all, mut ts, mut v) = (Vec::new(), 0i64, 0.0f64);
    let mut cursor = Cursor::new(input);
    while let Some(op) = cursor.u8() {
        if all.len() >= 400 {
            break;
        }
        // The most frequent steps are the cheapest to say.
        let step = match op & 7 {
            0..=3 => 15_000,
            4 => i64::from(cursor.u8().unwrap_or(0)) + 1,
            5 => 15_001,
            6 => 14_999,
            _ => (cursor.u64().unwrap_or(1) >> 2) as i64 | 1,
        };
        v = match op >> 3 & 7 {
            0 | 1 => v,
            2 => v + 1.0,
            3 => v + f64::from(cursor.u8().unwrap_or(0)) / 8.0,
            4 => f64::from(cursor.u8().unwrap_or(0)) / 10.0,
            5 => -v,
            6 => crate::model::stale_marker(),
            _ => f64::from_bits(cursor.u64().unwrap_or(0)),
        };
        let Some(next) = ts.checked_add(step) else { break };
        if !chunk.has_room(next) {
            break;
        }
        ts = next;
        chunk.append(ts, v.to_bits());
        all.push((ts, v));
    }
    assert_eq!(chunk.len(), all.len());
    let Some((first, last)) = all.first().zip(all.last()) else { return };
    assert_eq!((chunk.first_ts(), chunk.last_ts(), chunk.last_bits()), (first.0, last.0, last.1.to_bits()));
    let middle = all[all.len() / 2].0;
    for (from, to) in [(i64::MIN, i64::MAX), (middle, i64::MAX), (i64::MIN, middle), (middle + 1, last.0 - 1)]
    {
        let (mut times, mut values) = (Vec::new(), Vec::new());
        chunk.read(from, to, &mut times, &mut values);
        let wanted: Vec<_> = all.iter().filter(|(t, _)| (from..=to).contains(t)).collect();
        assert!(times.iter().eq(wanted.iter().map(|(t, _)| t)), "{from}..={to}");
        assert!(same_floats(&values, &wanted.iter().map(|(_, v)| *v).collect::<Vec<_>>()), "{from}..={to}");
    }
}

/// Chunks of histograms come back bit for bit; damaged ones end.
pub fn histograms(input: &[u8]) {
    let Some((n, bytes)) = input.split_first() else { return };
    let (mut ts, mut hists) = (Vec::new(), Vec::new());
    let decoded = histogram_chunk::decode(bytes, usize::from(*n), i64::MIN, i64::MAX, &mut ts, &mut hists);
    assert_eq!(ts.len(), hists.len());
    assert!(decoded.is_none() || ts.len() == usize::from(*n));
    let mut encoder = HistogramEncoder::default();
    for (i, h) in hists.iter().take(100).enumerate() {
        encoder.append(i as i64 * 15_000, Arc::clone(h));
    }
    let (n, encoded) = (encoder.len(), encoder.finish());
    let (mut ts, mut back) = (Vec::new(), Vec::new());
    histogram_chunk::decode(&encoded, n, i64::MIN, i64::MAX, &mut ts, &mut back).expect("just encoded");
    assert!(back.len() == n && back.iter().zip(&hists).all(|(a, b)| same_bits(a, b)), "{hists:?}");
}

/// Start times come back; a damaged column ends.
pub fn starts(input: &[u8]) {
    if let Some(starts) = Starts::decode(input) {
        let mut encoded = Vec::new();
        starts.encode(&mut encoded);
        assert!(Starts::decode(&encoded).is_some());
    }
    let (mut starts, mut times, mut wanted) = (Starts::default(), Vec::new(), Vec::new());
    let mut ts = 0i64;
    for pair in input.chunks_exact(2).take(480) {
        ts += i64::from(pair[0] & 7) * 5_000 + 1;
        let start = match pair[0] >> 6 {
            0 => 0,
            1 => i64::from(pair[1]),
            2 => ts - i64::from(pair[1] & 3) * 1_000,
            _ => wanted.last().copied().unwrap_or(0),
        };
        starts.push(ts, start);
        times.push(ts);
        wanted.push(start);
    }
    let mut encoded = Vec::new();
    starts.encode(&mut encoded);
    for starts in [starts, Starts::decode(&encoded).expect("just encoded")] {
        let mut back = Vec::new();
        starts.read(&times, &mut back);
        assert_eq!(back, wanted, "at {times:?}");
    }
}

/// A set of ids, by operations of three bytes, is the set that it should be.
pub fn postings(input: &[u8]) {
    let (mut postings, mut model) = (Postings::default(), BTreeSet::new());
    for op in input.chunks_exact(3) {
        let id = u32::from(op[1]) | u32::from(op[2] & 3) << 15;
        if op[0] & 3 == 0 {
            model.remove(&id);
            assert_eq!(postings.remove(id), model.is_empty());
        } else {
            postings.insert(id);
            model.insert(id);
        }
        assert_eq!(postings.len(), model.len() as u64);
    }
    assert!(postings.bitmap().iter().eq(model));
}

/// Scanning any file of the log ends, in order and within the file; what is in whole frames is decoded or refused.
pub fn wal(input: &[u8]) {
    let scan = replay::scan(input);
    let mut before = 0;
    let mut in_order = |r: &Range<usize>| {
        assert!(r.start >= before && r.end <= input.len(), "{r:?} after {before} of {}", input.len());
        before = r.end;
    };
    scan.payloads.iter().for_each(&mut in_order);
    for payload in &scan.payloads {
        payload_ends(&input[payload.clone()]);
    }
    // Without a checksum in the way.
    payload_ends(input);
}

fn payload_ends(payload: &[u8]) {
    use frame::Section;
    for section in frame::sections(payload) {
        // Sections that a checksum has passed may still be cut off: `None`, but no panic.
        let _ended: Option<()> = match section {
            Section::Series(bytes) => {
                frame::each_series(bytes, |_, pairs| assert!(pairs.len() <= bytes.len()))
            }
            Section::SeriesCompressed(bytes) if bytes.len() < 1 << 16 => frame::decompress_series(bytes)
                .and_then(|raw| frame::each_series(&raw, |_, pairs| assert!(pairs.len() <= raw.len()))),
            Section::Floats(bytes) => frame::each_float(bytes, |_, _, _| {}),
            Section::Histograms(bytes) => frame::each_histogram(bytes, |_, _, h| has_all_buckets(&h)),
            Section::Metadata(bytes) => frame::each_metadata(bytes, |_, _| {}),
            Section::Samples(bytes) => frame::each_sample(bytes, |_| {}),
            // Nothing in them is decoded any further, or it is too long to be quick.
            _ => None,
        };
    }
    if let Some(h) = take_histogram(&mut Cursor::new(payload), None) {
        has_all_buckets(&h);
    }
}

fn has_all_buckets(h: &FloatHistogram) {
    let of = |spans: &[Span]| spans.iter().map(|s| s.length as usize).sum::<usize>();
    assert_eq!(of(&h.positive_spans), h.positive_buckets.len());
    assert_eq!(of(&h.negative_spans), h.negative_buckets.len());
}

/// A block with some of its bytes changed, whose checksums are right nevertheless, is refused or read to its end.
pub fn block(input: &[u8]) {
    static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(whole_block);
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let mut bytes = WHOLE.clone();
    let body = bytes.len() - FOOTER_BYTES;
    for change in input.chunks_exact(4).take(16) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
        // Half of the changes go where the index is, and some where the footer is.
        let at = match change[2] & 7 {
            0..=3 => HEADER_BYTES + at % (body - HEADER_BYTES),
            4..=6 => body - 1 - at % (body / 4),
            _ => body + at % (FOOTER_FIELDS * 8),
        };
        bytes[at] = if change[2] & 8 == 0 { change[3] } else { bytes[at].wrapping_add(change[3] | 1) };
    }
    mend(&mut bytes);
    // A process of the fuzzer and a thread of a test each have files of their own.
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("streamgate-fuzz-{}-{number}.block", std::process::id()));
    std::fs::write(&path, &bytes).expect("the folder for temporary files takes a file");
    let opened = Block::open(&RealDisk, &path);
    // The block stays readable without a name.
    std::fs::remove_file(&path).expect("just written");
    let Ok(block) = opened else { return };
    let _whole: bool = block.verify();
    let selected = block.select(&[Matcher::equal("job", "api")]);
    assert!(selected.max().is_none_or(|n| u64::from(n) < block.footer().series));
    block.each_pair(None, |_, _| {});
    block.each_pair(Some(&selected), |_, _| {});
    block.each_value("instance", |_| {});
    let mut scratch = ReadScratch::default();
    for series in 0..(block.footer().series.min(64) as u32 + 1) {
        drop(block.labels(series));
        for (from, to) in [(i64::MIN, i64::MAX), (100_000, 900_000)] {
            let mut out = Samples::default();
            block.read(series, from, to, &mut out, &mut scratch);
            assert_eq!(out.ts.len(), out.vs.len());
            assert_eq!(out.hist_ts.len(), out.hists.len());
            assert!(out.starts.is_empty() || out.starts.len() == out.ts.len());
            assert!(out.hist_starts.is_empty() || out.hist_starts.len() == out.hist_ts.len());
        }
    }
}

/// Makes the checksums of a block's index and footer those of its bytes, as far as the footer makes sense.
fn mend(bytes: &mut [u8]) {
    let at = bytes.len() - FOOTER_BYTES;
    let mend_footer = |bytes: &mut [u8]| {
        let crc = u64::from(crc32c(&bytes[at..at + FOOTER_FIELDS * 8]));
        bytes[at + FOOTER_FIELDS * 8..][..8].copy_from_slice(&crc.to_le_bytes());
    };
    mend_footer(bytes);
    let Some(mut footer) = Footer::from_block(bytes) else { return };
    let part = |i: usize| footer.parts[i] as usize..footer.parts[i + 1] as usize;
    let data = HEADER_BYTES..HEADER_BYTES + footer.data_bytes as usize;
    let sums: Vec<u8> = bytes[data].chunks(PAGE_BYTES).flat_map(|p| crc32c(p).to_le_bytes()).collect();
    let checksums = part(Part::PageChecksums as usize);
    let n = sums.len().min(checksums.len());
    bytes[checksums.start..checksums.start + n].copy_from_slice(&sums[..n]);
    let of_parts: Vec<u8> = (0..PARTS).flat_map(|i| crc32c(&bytes[part(i)]).to_le_bytes()).collect();
    footer.index_crc = crc32c(&of_parts);
    bytes[at..].copy_from_slice(&footer.encode());
}

/// A small block with all that a block may hold.
fn whole_block() -> Vec<u8> {
    let pairs = [
        ("__name__", "counter"),
        ("__name__", "latency"),
        ("instance", "0"),
        ("instance", "1"),
        ("instance", "2"),
        ("job", "api"),
        ("job", "db"),
    ];
    let mut bytes = Vec::new();
    let mut writer = BlockWriter::new(&mut bytes, (0, 7_200_000), &pairs).expect("memory takes all");
    for (name, instance, job) in (0..2).flat_map(|n| (2..5).flat_map(move |i| (5..7).map(move |j| (n, i, j))))
    {
        let mut samples = Samples::default();
        for step in 0..70 * i64::from(instance) {
            let ts = step * 15_000 + i64::from(job);
            if name == 0 || step % 40 == 0 {
                samples.ts.push(ts);
                samples.vs.push(if job == 5 { step as f64 * 0.25 } else { (step * step % 97) as f64 / 7.0 });
            } else {
                samples.hist_ts.push(ts);
                samples.hists.push(Arc::new(FloatHistogram {
                    count: step as f64 * 3.0,
                    sum: step as f64 * 1.5,
                    positive_spans: vec![Span { offset: 1, length: 2 }],
                    positive_buckets: vec![step as f64, step as f64 * 2.0],
                    ..FloatHistogram::default()
                }));
            }
        }
        if job == 6 {
            samples.starts = vec![1; samples.ts.len()];
            samples.hist_starts = vec![1; samples.hist_ts.len()];
        }
        writer.series(&[name, instance, job], &samples).expect("memory takes all");
    }
    writer.finish().expect("memory takes all");
    bytes
}
