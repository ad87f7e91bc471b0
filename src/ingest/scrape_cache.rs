//! What a target's last scrape looked like, line by line.

use std::collections::HashSet;
use std::sync::Arc;

use hashbrown::HashTable;

use super::hash::WideHash;
use crate::model::Labels;
use crate::relabel::Rules;
use crate::storage::SeriesRef;

/// Which labels hold numbers, by the type of the family whose lines are read: they are stored in one form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum NumberLabel {
    #[default]
    None,
    Le,
    Quantile,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    /// HELP or UNIT.
    Comment,
    /// TYPE, after which this label holds numbers.
    Type(NumberLabel),
    /// A sample of a series, read while this label held numbers.
    Sample(SeriesRef, NumberLabel),
    /// A sample whose series relabelling drops.
    Dropped(NumberLabel),
}

/// One line: of a sample the series, of a comment all of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub hash: WideHash,
    pub len: u32,
    pub kind: LineKind,
    /// Whether a staleness marker is due when the line goes away.
    pub tracked: bool,
    /// Whether the scrape that is being read has it, once the two differ.
    pub seen: bool,
}

/// What the lines were resolved with; lines mean nothing under other settings.
#[derive(Clone, Debug)]
pub(super) struct ResolvedWith {
    pub target_labels: Labels,
    pub honor_labels: bool,
    pub metric_relabel: Arc<Rules>,
}

/// A target's memory: the lines of its last scrape in their order, and the series that tell about the scrape itself.
/// It takes 40 bytes a line.
#[derive(Debug, Default)]
pub struct ScrapeCache {
    pub(super) lines: Vec<Line>,
    /// Whether the lines' series are alive: their last sample is no staleness marker.
    pub(super) live: bool,
    pub(super) resolved_with: Option<ResolvedWith>,
    pub(super) report: Option<[SeriesRef; 5]>,
    /// Series of before a change of settings, to be marked stale with the next scrape unless they come again.
    pub(super) outdated: Vec<SeriesRef>,
}

impl ScrapeCache {
    /// Series that are alive and due a marker when they go.
    pub(super) fn live_series(&self) -> impl Iterator<Item = SeriesRef> {
        let lines = self.lines.iter().filter(|l| self.live && l.tracked).filter_map(Line::series);
        lines.chain(self.outdated.iter().copied())
    }

    /// How many lines of the last scrape are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl Line {
    pub fn series(&self) -> Option<SeriesRef> {
        match self.kind {
            LineKind::Sample(series, _) => Some(series),
            _ => None,
        }
    }
}

/// How far ahead a line is looked for before a table of all lines is made: a few series that went away.
const AHEAD: usize = 8;

/// Follows a scrape along the lines of the one before. While both agree nothing is written; from the first difference
/// on, the lines of the new one are collected.
#[derive(Debug)]
pub(super) struct Follower<'c> {
    pub lines: &'c mut Vec<Line>,
    /// The line that is expected next.
    pub cursor: usize,
    /// The new lines, once they differ; and how many lines of the old agreed.
    changed: Option<(Vec<Line>, usize)>,
    table: Option<HashTable<u32>>,
}

impl<'c> Follower<'c> {
    pub fn new(lines: &'c mut Vec<Line>) -> Self {
        Follower { lines, cursor: 0, changed: None, table: None }
    }

    #[inline]
    pub fn expected(&self) -> Option<&Line> {
        self.lines.get(self.cursor)
    }

    /// Takes the expected line as seen.
    #[inline]
    pub fn accept(&mut self) {
        if self.changed.is_some() {
            self.accept_at(self.cursor);
        } else {
            self.cursor += 1;
        }
    }

    /// Takes line `at` as seen and goes on behind it.
    pub fn accept_at(&mut self, at: usize) {
        if at != self.cursor || self.changed.is_some() {
            self.lines[at].seen = true;
            let line = Line { seen: false, ..self.lines[at] };
            self.change().push(line);
        }
        self.cursor = at + 1;
    }

    /// Adds a line that the scrape before did not have.
    pub fn add(&mut self, line: Line) {
        self.change().push(line);
    }

    fn change(&mut self) -> &mut Vec<Line> {
        let (lines, cursor) = (&*self.lines, self.cursor);
        &mut self.changed.get_or_insert_with(|| (lines[..cursor.min(lines.len())].to_vec(), cursor)).0
    }

    /// Where a line with this hash was, nearest expected first.
    pub fn find(&mut self, hash: WideHash) -> Option<usize> {
        let end = (self.cursor + AHEAD).min(self.lines.len());
        if let Some(at) = (self.cursor..end).find(|i| self.lines[*i].hash == hash) {
            return Some(at);
        }
        let lines = &*self.lines;
        let table = self.table.get_or_insert_with(|| {
            let mut table = HashTable::with_capacity(lines.len());
            for (i, line) in lines.iter().enumerate() {
                table.insert_unique(line.hash[0], i as u32, |i| lines[*i as usize].hash[0]);
            }
            table
        });
        table.find(hash[0], |i| lines[*i as usize].hash == hash).map(|i| *i as usize)
    }

    /// Ends the scrape: the lines are the new ones from now on. Gives the series that went away.
    pub fn finish(mut self) -> Vec<SeriesRef> {
        if self.changed.is_none() && self.cursor >= self.lines.len() {
            return Vec::new();
        }
        self.change();
        let Some((new, agreed)) = self.changed else { return Vec::new() };
        let old = std::mem::replace(self.lines, new);
        let rest = old.get(agreed..).unwrap_or(&[]);
        let mut gone: Vec<SeriesRef> =
            rest.iter().filter(|l| !l.seen && l.tracked).filter_map(Line::series).collect();
        if !gone.is_empty() {
            // The same series may have come on another line.
            let here: HashSet<SeriesRef> = self.lines.iter().filter_map(Line::series).collect();
            gone.retain(|s| !here.contains(s));
            gone.sort_unstable();
            gone.dedup();
        }
        gone
    }

    /// Ends the scrape without taking it: the lines are as they were.
    pub fn abandon(self) {
        for line in self.lines.iter_mut() {
            line.seen = false;
        }
    }
}
