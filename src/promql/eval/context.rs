//! What every operator of one query needs: the data, the limits, the notes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::columns::SLOT_BYTES;
use super::notes::Notes;
use super::profile::Profile;
use super::shared::Shared;
use super::times::Times;
use crate::clock::Clock;
use crate::promql::ast::{BinaryOp, Expr, ExprKind, VectorSelector};
use crate::promql::charge::{Account, Charge};
use crate::promql::kept::{Room, Tally};
use crate::promql::{EngineOptions, QueryError, Selections};
use crate::storage::Reader;

/// Of the bytes that a query may hold, so large a share may be samples that are only kept for another use.
const KEPT_SHARE: u64 = 16;

pub(super) type Result<T> = std::result::Result<T, QueryError>;

/// Any other error of an evaluation.
pub(super) fn fail<T>(message: impl Into<String>) -> Result<T> {
    Err(QueryError::Execution(message.into()))
}

/// Evaluation times: `start`, `start + step`, … (`len` of them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub start: i64,
    /// At least 1.
    pub step: i64,
    pub len: usize,
}

impl Grid {
    /// A single time.
    pub fn at(time: i64) -> Self {
        Grid { start: time, step: 1, len: 1 }
    }

    #[inline]
    pub fn time(&self, i: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(i as i64))
    }

    /// The last time; the start if the grid is empty.
    pub fn end(&self) -> i64 {
        self.time(self.len.saturating_sub(1))
    }

    /// The first step that is not before `time`; the last step if all are.
    fn step_from(&self, time: i64) -> usize {
        let steps = time.saturating_sub(self.start).max(0) as u64;
        let step = usize::try_from(steps.div_ceil(self.step as u64)).unwrap_or(usize::MAX);
        step.min(self.len.saturating_sub(1))
    }

    pub fn shifted(&self, by: i64) -> Self {
        Grid { start: self.start.saturating_add(by), ..*self }
    }
}

/// One query's surroundings. Shared by the threads that work on it.
pub(super) struct Context<'a> {
    pub reader: &'a Reader,
    pub options: &'a EngineOptions,
    /// When it is evaluated.
    pub times: Times,
    pub clock: &'a Clock,
    /// On the clock's monotonic time.
    pub deadline: Duration,
    pub cancelled: &'a AtomicBool,
    pub notes: Notes,
    pub samples: SampleCount<'a>,
    /// What each node costs, if the query asks for it.
    pub profile: Option<Profile>,
    /// What is needed more than once.
    pub shared: Shared<'a>,
    /// Selections that other queries need as well.
    pub others: Option<&'a Selections>,
    /// Selectors of whose histograms only count and sum are asked for (by address; see [`stats_selectors`]).
    pub stats: HashSet<usize>,
    /// How many threads one operator may use.
    pub threads: usize,
}

/// What a table or a list takes: samples as Prometheus counts them, and bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub samples: u64,
    pub bytes: u64,
}

/// Samples of which nothing more is known: a value with its time.
impl From<u64> for Held {
    fn from(samples: u64) -> Self {
        Held { samples, bytes: samples.saturating_mul(16) }
    }
}

impl std::ops::Add for Held {
    type Output = Held;
    fn add(self, other: Held) -> Held {
        Held { samples: self.samples + other.samples, bytes: self.bytes + other.bytes }
    }
}

/// What is left; nothing rather than less than that.
impl std::ops::Sub for Held {
    type Output = Held;
    fn sub(self, other: Held) -> Held {
        Held {
            samples: self.samples.saturating_sub(other.samples),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }
}

/// Samples read and held, as Prometheus counts them, and the bytes that hold them.
#[derive(Debug)]
pub(super) struct SampleCount<'a> {
    /// Bytes that all queries hold together.
    together: &'a Arc<Account>,
    current: AtomicU64,
    peak: AtomicU64,
    bytes: AtomicU64,
    bytes_peak: AtomicU64,
    /// How many subqueries are being evaluated within each other. What they read counts only once their result is read.
    uncounted: AtomicUsize,
    /// Samples of each step of the query, if it asks for them.
    steps: Option<Steps>,
    pub total: AtomicU64,
    /// Samples taken from storage: one that several windows share counts once.
    pub fetched: AtomicU64,
    pub series: AtomicU64,
}

/// Samples by the steps of the query.
#[derive(Debug)]
struct Steps {
    /// Those that were evaluated.
    evaluated: Vec<AtomicU64>,
    /// Those that were taken from storage and that no earlier step had.
    fetched: Vec<AtomicU64>,
    /// The grids of the subqueries that are being evaluated within each other, each with the grid that needs it.
    subqueries: RwLock<Vec<(Grid, Grid)>>,
}

impl<'a> SampleCount<'a> {
    /// Nothing yet, beside what other queries hold.
    pub fn of(together: &'a Arc<Account>) -> Self {
        SampleCount {
            together,
            current: AtomicU64::default(),
            peak: AtomicU64::default(),
            bytes: AtomicU64::default(),
            bytes_peak: AtomicU64::default(),
            uncounted: AtomicUsize::default(),
            steps: None,
            total: AtomicU64::default(),
            fetched: AtomicU64::default(),
            series: AtomicU64::default(),
        }
    }

    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    pub fn peak_bytes(&self) -> u64 {
        self.bytes_peak.load(Ordering::Relaxed)
    }

    /// These samples are no longer held.
    pub fn release(&self, held: impl Into<Held>) {
        let held = held.into();
        lower(&self.current, held.samples);
        // Only what this query has added is taken off what all hold.
        self.together.subtract(lower(&self.bytes, held.bytes));
    }

    /// As [`SampleCount::hand_over`], if all queries hold no more than `most` together.
    pub fn hand_over_below(&self, bytes: u64, most: u64) -> Option<Charge> {
        (self.together.bytes() <= most).then(|| self.hand_over(bytes))
    }

    /// So many of the bytes outlive the query.
    pub fn hand_over(&self, bytes: u64) -> Charge {
        Charge::of(self.together, lower(&self.bytes, bytes))
    }

    /// Counts samples that were evaluated.
    pub fn read(&self, samples: u64) {
        if self.counts() {
            self.total.fetch_add(samples, Ordering::Relaxed);
        }
    }

    /// Counts samples that were taken from storage, be it for a subquery.
    pub fn fetch(&self, samples: u64) {
        self.fetched.fetch_add(samples, Ordering::Relaxed);
    }

    fn counts(&self) -> bool {
        self.uncounted.load(Ordering::Relaxed) == 0
    }

    /// Whether samples are to be counted by step.
    pub fn by_step(&self) -> bool {
        self.steps.is_some()
    }

    /// Counts samples of one step that were evaluated; they are in the total as well.
    pub fn read_at(&self, step: usize, samples: u64) {
        if let Some(count) = self.steps.as_ref().and_then(|s| s.evaluated.get(step))
            && self.counts()
        {
            count.fetch_add(samples, Ordering::Relaxed);
        }
    }

    /// Counts samples of one step that were taken from storage; they are among those fetched as well. What a step of a
    /// subquery takes is taken for the first step of the query that does not lie before it.
    pub fn fetch_at(&self, step: usize, samples: u64) {
        let Some(steps) = &self.steps else { return };
        let subqueries = steps.subqueries.read().unwrap_or_else(PoisonError::into_inner);
        let step = subqueries.iter().rev().fold(step, |step, (own, outer)| outer.step_from(own.time(step)));
        if let Some(count) = steps.fetched.get(step) {
            count.fetch_add(samples, Ordering::Relaxed);
        }
    }

    /// Evaluates what is inside a subquery, on a grid of its own, for the steps of another.
    pub fn inside_subquery<T>(&self, own: Grid, outer: Grid, work: impl FnOnce() -> T) -> T {
        let subqueries = self.steps.as_ref().map(|s| &s.subqueries);
        let write = || subqueries.map(|s| s.write().unwrap_or_else(PoisonError::into_inner));
        self.uncounted.fetch_add(1, Ordering::Relaxed);
        if let Some(mut grids) = write() {
            grids.push((own, outer));
        }
        let result = work();
        if let Some(mut grids) = write() {
            grids.pop();
        }
        self.uncounted.fetch_sub(1, Ordering::Relaxed);
        result
    }

    /// Evaluates once what holds for `len` steps: its samples count for each of them.
    pub fn repeated<T>(&self, len: usize, work: impl FnOnce() -> T) -> T {
        let steps = self.steps.as_ref().map_or(&[] as &[AtomicU64], |s| &s.evaluated);
        let first = || steps.first().map_or(0, |n| n.load(Ordering::Relaxed));
        let (total, step) = (self.total.load(Ordering::Relaxed), first());
        let result = work();
        let more = self.total.load(Ordering::Relaxed) - total;
        self.total.fetch_add(more.saturating_mul(len as u64 - 1), Ordering::Relaxed);
        let more = first() - step;
        for count in steps.iter().take(len).skip(1) {
            count.fetch_add(more, Ordering::Relaxed);
        }
        result
    }

    /// Samples by step from here on, for a query of so many steps.
    pub fn count_steps(&mut self, len: usize) {
        let none = || (0..len).map(|_| AtomicU64::new(0)).collect();
        self.steps = Some(Steps { evaluated: none(), fetched: none(), subqueries: RwLock::default() });
    }

    /// The samples of each step, evaluated and taken from storage, if they were counted.
    pub fn steps(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        self.steps.iter().flat_map(move |s| s.evaluated.iter().map(load).zip(s.fetched.iter().map(load)))
    }
}

/// A query that ends, however it does, holds nothing any more.
impl Drop for SampleCount<'_> {
    fn drop(&mut self) {
        self.together.subtract(*self.bytes.get_mut());
    }
}

/// Lowers a count, not below zero; answers by how much.
fn lower(count: &AtomicU64, by: u64) -> u64 {
    let lowered =
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(by)));
    lowered.unwrap_or(0).min(by)
}

impl Context<'_> {
    /// Where decoded samples may be kept: a small share of what the query, and all of them, may hold.
    pub fn room(&self, tally: &Arc<Tally>) -> Room {
        let limits = &self.options.limits;
        Room {
            account: Arc::clone(self.samples.together),
            tally: Arc::clone(tally),
            bytes_max: limits.max_bytes / KEPT_SHARE,
            together_max: limits.max_bytes_total / 2,
        }
    }

    /// Called between pieces of work of at most some milliseconds.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(QueryError::Cancelled);
        }
        if self.clock.monotonic() > self.deadline {
            return Err(QueryError::Timeout);
        }
        Ok(())
    }

    /// Notes that so much more is held.
    pub fn hold(&self, held: impl Into<Held>) -> Result<()> {
        let Held { samples, bytes } = held.into();
        let now = self.samples.current.fetch_add(samples, Ordering::Relaxed) + samples;
        self.samples.peak.fetch_max(now, Ordering::Relaxed);
        let now_bytes = self.samples.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let kept = self.shared.tally().map_or(0, |t| t.bytes());
        self.samples.bytes_peak.fetch_max(now_bytes + kept, Ordering::Relaxed);
        // Before anything is refused: what the query holds comes off the account when it ends.
        self.samples.together.add(bytes);
        if now > self.options.limits.max_samples {
            return Err(self.too_many());
        }
        if kept > 0 && now_bytes + kept > self.options.limits.max_bytes {
            // What is only kept gives way.
            self.samples.together.give_up(self.shared.tally());
        }
        if now_bytes > self.options.limits.max_bytes {
            return Err(self.too_large());
        }
        if self.samples.together.is_over(self.options.limits.max_bytes_total) {
            return Err(QueryError::TooMuchMemoryTogether { limit: self.options.limits.max_bytes_total });
        }
        Ok(())
    }

    /// Refuses a result of so many series.
    pub fn check_series(&self, series: usize) -> Result<()> {
        let limit = self.options.limits.max_series;
        if series > limit { Err(QueryError::TooManySeries { series, limit }) } else { Ok(()) }
    }

    pub fn too_large(&self) -> QueryError {
        QueryError::TooMuchMemory { limit: self.options.limits.max_bytes }
    }

    pub fn too_many(&self) -> QueryError {
        QueryError::TooManySamples { limit: self.options.limits.max_samples }
    }

    /// Refuses a table that would be too large to allocate, however few of its slots are taken in the end.
    pub fn check_slots(&self, rows: usize, steps: usize) -> Result<()> {
        let most = self.options.limits.max_samples.saturating_mul(2).saturating_add(1_000_000);
        let slots = (rows as u64).saturating_mul(steps as u64);
        if slots > most {
            return Err(self.too_many());
        }
        if slots.saturating_mul(SLOT_BYTES) > self.options.limits.max_bytes {
            return Err(self.too_large());
        }
        Ok(())
    }

    /// Whether only counts, sums and resets of a selector's histograms matter.
    pub fn stats_only(&self, v: &VectorSelector) -> bool {
        !self.stats.is_empty() && self.stats.contains(&(std::ptr::from_ref(v) as usize))
    }

    /// Whether metric names are dropped only at the end of the evaluation.
    pub fn delayed(&self) -> bool {
        self.options.features.delayed_name_removal
    }
}

/// The selectors below `histogram_count`, `histogram_sum` and `histogram_avg`: their histograms are reduced as they are
/// read. Not so below a subquery, whose resets need the buckets, nor below what needs whole histograms.
pub(super) fn stats_selectors(expr: &Expr) -> HashSet<usize> {
    fn walk(e: &Expr, stats: bool, whole: bool, found: &mut HashSet<usize>) {
        match &e.kind {
            ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => {}
            ExprKind::Paren(e) | ExprKind::Unary { expr: e, .. } => walk(e, stats, whole, found),
            ExprKind::Binary(b) => {
                // Trimming needs the buckets, whatever is asked of the result.
                let trims = matches!(b.op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
                let (stats, whole) = (stats && !trims, whole || trims);
                walk(&b.lhs, stats, whole, found);
                walk(&b.rhs, stats, whole, found);
            }
            ExprKind::Aggregate(a) => {
                walk(&a.expr, stats, whole, found);
                a.param.iter().for_each(|p| walk(p, stats, whole, found));
            }
            ExprKind::Call(c) => {
                let stats = match c.function {
                    "histogram_count" | "histogram_sum" | "histogram_avg" => !whole,
                    "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => false,
                    _ => stats,
                };
                c.args.iter().for_each(|a| walk(a, stats, whole, found));
            }
            ExprKind::Vector(v) if stats => {
                found.insert(std::ptr::from_ref(v) as usize);
            }
            ExprKind::Matrix(m) if stats => {
                found.insert(std::ptr::from_ref(&m.vector) as usize);
            }
            ExprKind::Vector(_) | ExprKind::Matrix(_) => {}
            ExprKind::Subquery(s) => walk(&s.expr, false, true, found),
        }
    }
    let mut found = HashSet::new();
    walk(expr, false, false, &mut found);
    found
}

/// An expression without the parentheses around it.
pub(super) fn unwrap_parens(mut e: &Expr) -> &Expr {
    while let ExprKind::Paren(inner) = &e.kind {
        e = inner;
    }
    e
}
