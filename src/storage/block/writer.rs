//! Writes a block, series by series.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;

use super::{Footer, HEADER_BYTES, HISTOGRAM_CHUNK, MAGIC, PAGE_BYTES, PARTS, STARTS_CHUNK};
use crate::model::{FloatHistogram, Timestamp};
use crate::storage::api::Samples;
use crate::storage::chunk::histograms::HistogramEncoder;
use crate::storage::chunk::starts::Starts;
use crate::storage::chunk::{BLOCK_CHUNK_SAMPLES, floats, ints};
use crate::storage::coding::{crc32c, put_signed, put_varint};

/// A rest of fewer samples does not get a chunk of its own.
const CHUNK_REST_MAX: usize = BLOCK_CHUNK_SAMPLES / 4;

/// Memory for the values of a series that was longer is given back.
const SCRATCH_BYTES_KEPT: usize = 1 << 20;

/// How many time columns are remembered, to store them once. Series that share none are rare, and each of theirs would
/// cost as much memory here as it has samples.
const COLUMNS_REMEMBERED: usize = 4096;

/// Writes a block to `out`.
#[derive(Debug)]
pub struct BlockWriter<'a, W: Write> {
    out: W,
    /// Names and values, ascending, each pair once.
    pairs: &'a [(&'a str, &'a str)],
    page: Vec<u8>,
    page_checksums: Vec<u8>,
    footer: Footer,
    column_numbers: HashMap<Vec<Timestamp>, u32, foldhash::fast::RandomState>,
    columns: Vec<u8>,
    column_count: u32,
    /// The pairs of all series, one after the other.
    series_pairs: Vec<u32>,
    series_pair_ends: Vec<usize>,
    entries: Vec<u8>,
    entry_ends: Vec<u8>,
    /// Values of the series that is written, and what is said of its chunks.
    scratch: Vec<u8>,
    chunks: Vec<u8>,
    chunk: Vec<u8>,
}

impl<'a, W: Write> BlockWriter<'a, W> {
    /// Begins a block that answers for the times from `range.0` up to but not with `range.1`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new(
        mut out: W,
        range: (Timestamp, Timestamp),
        pairs: &'a [(&'a str, &'a str)],
    ) -> io::Result<Self> {
        let mut header = [0; HEADER_BYTES];
        header[..MAGIC.len()].copy_from_slice(&MAGIC);
        out.write_all(&header)?;
        Ok(BlockWriter {
            out,
            pairs,
            page: Vec::with_capacity(PAGE_BYTES),
            page_checksums: Vec::new(),
            footer: Footer { range, ts: (Timestamp::MAX, Timestamp::MIN), ..Footer::default() },
            column_numbers: HashMap::default(),
            columns: Vec::new(),
            column_count: 0,
            series_pairs: Vec::new(),
            series_pair_ends: Vec::new(),
            entries: Vec::new(),
            entry_ends: Vec::new(),
            scratch: Vec::new(),
            chunks: Vec::new(),
            chunk: Vec::new(),
        })
    }

    /// Adds a series with samples: `pairs` are positions in the block's pairs, ascending. Series come in the order of
    /// their labels. One without samples is left out.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn series(&mut self, pairs: &[u32], samples: &Samples) -> io::Result<()> {
        self.floats(samples)?;
        self.histograms(samples);
        if let Some(starts) = starts(samples) {
            let at = self.scratch.len();
            starts.encode(&mut self.scratch);
            put_varint(&mut self.chunks, STARTS_CHUNK);
            put_varint(&mut self.chunks, (self.scratch.len() - at) as u64);
        }
        self.end_series(pairs)
    }

    /// Adds floats, without their start times, to a series that comes in parts: first all of its floats, then all of its
    /// histograms, each in the order of time, then [`BlockWriter::end_series`].
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn floats(&mut self, samples: &Samples) -> io::Result<()> {
        for (ts, vs) in split(&samples.ts).map(|r| (&samples.ts[r.clone()], &samples.vs[r])) {
            let column = self.column(ts)?;
            let at = self.scratch.len();
            floats::encode(vs, &mut self.scratch);
            put_varint(&mut self.chunks, u64::from(column) << 1);
            put_varint(&mut self.chunks, (self.scratch.len() - at) as u64);
            self.count(ts);
        }
        Ok(())
    }

    /// Adds histograms, without their start times, to a series that comes in parts.
    pub fn histograms(&mut self, samples: &Samples) {
        for (ts, hs) in split(&samples.hist_ts).map(|r| (&samples.hist_ts[r.clone()], &samples.hists[r])) {
            let bytes = histogram_chunk(ts, hs);
            let chunks = &mut self.chunks;
            put_varint(chunks, HISTOGRAM_CHUNK);
            put_varint(chunks, bytes.len() as u64);
            put_varint(chunks, ts.len() as u64);
            put_signed(chunks, ts[0]);
            put_varint(chunks, ts[ts.len() - 1].wrapping_sub(ts[0]) as u64);
            self.scratch.extend_from_slice(&bytes);
            self.count(ts);
        }
    }

    /// Ends a series that came in parts; see [`BlockWriter::series`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end_series(&mut self, pairs: &[u32]) -> io::Result<()> {
        if self.chunks.is_empty() {
            return Ok(());
        }
        put_varint(&mut self.entries, pairs.len() as u64);
        let mut before = 0;
        for p in pairs {
            put_varint(&mut self.entries, u64::from(p - before));
            before = *p;
        }
        put_varint(&mut self.entries, self.footer.data_bytes);
        self.entries.extend_from_slice(&self.chunks);
        self.chunks.clear();
        self.entry_ends.extend_from_slice(&fit(self.entries.len())?.to_le_bytes());
        self.series_pairs.extend_from_slice(pairs);
        self.series_pair_ends.push(self.series_pairs.len());
        self.footer.series += 1;
        let mut bytes = std::mem::take(&mut self.scratch);
        self.data(&bytes)?;
        bytes.clear();
        bytes.shrink_to(SCRATCH_BYTES_KEPT);
        self.scratch = bytes;
        Ok(())
    }

    fn count(&mut self, ts: &[Timestamp]) {
        self.footer.chunks += 1;
        self.footer.samples += ts.len() as u64;
        if let (Some(first), Some(last)) = (ts.first(), ts.last()) {
            self.footer.ts.0 = self.footer.ts.0.min(*first);
            self.footer.ts.1 = self.footer.ts.1.max(*last);
        }
    }

    /// The number of a time column, written if it is new.
    fn column(&mut self, ts: &[Timestamp]) -> io::Result<u32> {
        if let Some(number) = self.column_numbers.get(ts) {
            return Ok(*number);
        }
        let mut bytes = std::mem::take(&mut self.chunk);
        bytes.clear();
        ints::encode(ts, &mut bytes);
        let first = ts.first().copied().unwrap_or(0) as u64;
        let last = ts.last().copied().unwrap_or(0) as u64;
        for field in [self.footer.data_bytes, bytes.len() as u64, ts.len() as u64, first, last] {
            self.columns.extend_from_slice(&field.to_le_bytes());
        }
        self.data(&bytes)?;
        self.chunk = bytes;
        let number = self.column_count;
        self.column_count += 1;
        if self.column_numbers.len() < COLUMNS_REMEMBERED {
            self.column_numbers.insert(ts.to_vec(), number);
        }
        Ok(number)
    }

    fn data(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.footer.data_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let n = bytes.len().min(PAGE_BYTES - self.page.len());
            self.page.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.page.len() == PAGE_BYTES {
                self.end_page()?;
            }
        }
        Ok(())
    }

    fn end_page(&mut self) -> io::Result<()> {
        self.page_checksums.extend_from_slice(&crc32c(&self.page).to_le_bytes());
        self.out.write_all(&self.page)?;
        self.page.clear();
        Ok(())
    }

    /// Writes the index and the footer. Returns the footer and how to write on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<Footer> {
        if !self.page.is_empty() {
            self.end_page()?;
        }
        let (symbol_ends, symbols, numbers) = self.symbols()?;
        let (pairs, postings) = self.postings(&numbers)?;
        let parts: [Vec<u8>; PARTS] = [
            self.page_checksums,
            self.columns,
            symbol_ends,
            symbols,
            pairs,
            postings,
            self.entry_ends,
            self.entries,
        ];
        // One checksum over all parts: over the list of theirs, so that none is copied.
        let mut checksums = Vec::new();
        self.footer.parts[0] = HEADER_BYTES as u64 + self.footer.data_bytes;
        for (i, part) in parts.iter().enumerate() {
            self.out.write_all(part)?;
            checksums.extend_from_slice(&crc32c(part).to_le_bytes());
            self.footer.parts[i + 1] = self.footer.parts[i] + part.len() as u64;
        }
        self.footer.index_crc = crc32c(&checksums);
        self.out.write_all(&self.footer.encode())?;
        Ok(self.footer)
    }

    /// Every text of the pairs once, ascending: where each ends, the texts, and their numbers.
    #[allow(clippy::type_complexity, reason = "three parts of one thing, used once")]
    fn symbols(&self) -> io::Result<(Vec<u8>, Vec<u8>, BTreeMap<&'a str, u32>)> {
        let mut numbers: BTreeMap<&str, u32> =
            self.pairs.iter().flat_map(|(n, v)| [(*n, 0), (*v, 0)]).collect();
        let (mut ends, mut texts) = (Vec::new(), Vec::new());
        for (i, (text, number)) in numbers.iter_mut().enumerate() {
            *number = fit(i)?;
            texts.extend_from_slice(text.as_bytes());
            ends.extend_from_slice(&fit(texts.len())?.to_le_bytes());
        }
        Ok((ends, texts, numbers))
    }

    fn postings(&self, numbers: &BTreeMap<&str, u32>) -> io::Result<(Vec<u8>, Vec<u8>)> {
        // Sorted by pair with one pass over all: how many series each has, then where its list begins.
        let mut starts = vec![0usize; self.pairs.len() + 1];
        for p in &self.series_pairs {
            starts[*p as usize + 1] += 1;
        }
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut lists = vec![0u32; self.series_pairs.len()];
        let mut next = starts.clone();
        let mut from = 0;
        for (series, end) in self.series_pair_ends.iter().enumerate() {
            for p in &self.series_pairs[from..*end] {
                lists[next[*p as usize]] = series as u32;
                next[*p as usize] += 1;
            }
            from = *end;
        }
        let (mut pairs, mut postings) = (Vec::new(), Vec::new());
        for (i, (name, value)) in self.pairs.iter().enumerate() {
            pairs.extend_from_slice(&numbers[name].to_le_bytes());
            pairs.extend_from_slice(&numbers[value].to_le_bytes());
            pairs.extend_from_slice(&fit(postings.len())?.to_le_bytes());
            put_postings(&mut postings, &lists[starts[i]..starts[i + 1]]);
        }
        Ok((pairs, postings))
    }
}

/// Runs of consecutive ids: their number, then each: gap to the one before, length less one.
pub fn put_postings(out: &mut Vec<u8>, ids: &[u32]) {
    let runs = || ids.chunk_by(|a, b| a + 1 == *b);
    put_varint(out, runs().count() as u64);
    let mut next = 0;
    for run in runs() {
        put_varint(out, u64::from(run[0] - next));
        put_varint(out, run.len() as u64 - 1);
        next = run[0] + run.len() as u32;
    }
}

/// The start times of floats and histograms; `None` if there are none.
fn starts(samples: &Samples) -> Option<Starts> {
    if samples.starts.is_empty() && samples.hist_starts.is_empty() {
        return None;
    }
    let none = |starts: &[Timestamp], i: usize| starts.get(i).copied().unwrap_or(0);
    let floats = samples.ts.iter().enumerate().map(|(i, ts)| (*ts, none(&samples.starts, i)));
    let hists = samples.hist_ts.iter().enumerate().map(|(i, ts)| (*ts, none(&samples.hist_starts, i)));
    let mut all: Vec<(Timestamp, Timestamp)> = floats.chain(hists).collect();
    all.sort_unstable_by_key(|(ts, _)| *ts);
    let mut starts = Starts::default();
    all.iter().for_each(|(ts, start)| starts.push(*ts, *start));
    Some(starts).filter(|s| !s.is_empty())
}

fn histogram_chunk(ts: &[Timestamp], hs: &[Arc<FloatHistogram>]) -> Vec<u8> {
    let mut encoder = HistogramEncoder::default();
    for (t, h) in ts.iter().zip(hs) {
        encoder.append(*t, Arc::clone(h));
    }
    encoder.finish()
}

/// The ranges of a column's chunks.
fn split(ts: &[Timestamp]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let n = ts.len();
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == n {
            return None;
        }
        let rest = n - at;
        let take = if rest <= BLOCK_CHUNK_SAMPLES + CHUNK_REST_MAX { rest } else { BLOCK_CHUNK_SAMPLES };
        at += take;
        Some(at - take..at)
    })
}

fn fit(n: usize) -> io::Result<u32> {
    u32::try_from(n).map_err(|_| io::Error::other("a block's index is larger than 4 GiB"))
}
