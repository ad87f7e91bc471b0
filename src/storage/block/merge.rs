//! Several blocks become one: what is imported joins what is there, and deleted samples are left out for good.

use std::io::{self, Write};

use super::{Block, BlockWriter, Footer};
use crate::model::Timestamp;
use crate::storage::api::Samples;
use crate::storage::block::reader::ReadScratch;
use crate::storage::columns::Collisions;
use crate::storage::maintain::write_series;

/// Writes what is left of `sources` in `from..=to` as one block that answers for `range`. Of two samples of one series
/// at one time that of the earlier source stays. Memory: the texts of the labels, and one series at a time, of which one
/// with very many samples in parts.
///
/// # Errors
/// When it cannot be written, or a source turns out to be damaged.
pub fn merge<W: Write>(
    sources: &[&Block],
    range: (Timestamp, Timestamp),
    out: W,
) -> io::Result<(Footer, Collisions)> {
    let mut texts: Vec<(&str, &str)> = Vec::new();
    let mut used = Vec::new();
    for block in sources {
        let pairs = block.pairs_of_left().ok_or_else(|| damaged(block))?;
        for p in &pairs {
            texts.push(block.pair_text(p).ok_or_else(|| damaged(block))?);
        }
        used.push(pairs);
    }
    texts.sort_unstable();
    texts.dedup();
    let mut cursors = Vec::new();
    for (block, pairs) in sources.iter().zip(&used) {
        let mut ranks = vec![0u32; block.pair_count()];
        for p in pairs {
            let text = block.pair_text(p).ok_or_else(|| damaged(block))?;
            ranks[p as usize] = texts.partition_point(|t| *t < text) as u32;
        }
        let mut cursor = Cursor { block, ranks, next: 0, pairs: Vec::new(), is_done: false };
        cursor.advance()?;
        cursors.push(cursor);
    }
    let mut writer = BlockWriter::new(out, range, &texts)?;
    let mut collisions = Collisions::default();
    let (mut samples, mut more) = (Samples::default(), Samples::default());
    let mut scratch = ReadScratch::default();
    let times = (range.0, range.1.saturating_sub(1));
    while let Some(first) = cursors.iter().filter(|c| !c.is_done).map(|c| &c.pairs).min().cloned() {
        let having = |c: &&mut Cursor<'_>| !c.is_done && c.pairs == first;
        let series: Vec<(&Block, u32)> =
            cursors.iter_mut().filter(having).map(|c| (c.block, c.next - 1)).collect();
        let cuts = Block::cuts(&series, times);
        let mut counted_until = None;
        let mut read = |from, to, samples: &mut Samples| {
            samples.clear();
            let mut met = Collisions::default();
            for (block, number) in &series {
                more.clear();
                block.read(*number, from, to, &mut more, &mut scratch);
                samples.merge(&mut more, &mut met);
            }
            // Parts are read twice.
            if counted_until.is_none_or(|until| to > until) {
                collisions.add(met);
                counted_until = Some(to);
            }
            true
        };
        write_series(&mut writer, &first, times, &cuts, &mut samples, &mut read)?;
        for cursor in cursors.iter_mut().filter(having) {
            cursor.advance()?;
        }
    }
    if let Some(block) = sources.iter().find(|b| b.is_damaged()) {
        return Err(damaged(block));
    }
    Ok((writer.finish()?, collisions))
}

fn damaged(block: &Block) -> io::Error {
    io::Error::other(format!("{} is damaged", block.path().display()))
}

/// Stands at one series of a source.
struct Cursor<'a> {
    block: &'a Block,
    /// The place of each of the block's pairs in the new one.
    ranks: Vec<u32>,
    /// The series after the one that `pairs` belongs to.
    next: u32,
    /// Those of a series without labels are none.
    pairs: Vec<u32>,
    is_done: bool,
}

impl Cursor<'_> {
    fn advance(&mut self) -> io::Result<()> {
        self.pairs.clear();
        while u64::from(self.next) < self.block.footer().series {
            let series = self.next;
            self.next += 1;
            if !self.block.is_deleted(series) {
                let pairs = self.block.pair_numbers(series).ok_or_else(|| damaged(self.block))?;
                self.pairs.extend(pairs.iter().map(|p| self.ranks[*p as usize]));
                return Ok(());
            }
        }
        self.is_done = true;
        Ok(())
    }
}
