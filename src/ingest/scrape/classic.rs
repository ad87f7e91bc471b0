//! Classic histograms that become native ones with custom buckets.
//!
//! The series of one classic histogram stand together. They are collected until another begins; what contradicts itself
//! becomes nothing.
//!
//! Source: Prometheus `util/convertnhcb` (what contradicts itself), `model/textparse/nhcbparse.go` (what stands together).

use std::borrow::Cow;
use std::sync::Arc;

use super::{Follower, Incoming, NotTaken, ScrapeError, Traced, Walk};
use crate::exposition::parse_float;
use crate::ingest::hash::WideHash;
use crate::model::{FloatHistogram, METRIC_NAME, Span, Timestamp};
use crate::storage::SampleValue;

/// Buckets of one classic histogram; one with more becomes nothing.
const BUCKETS_MAX: usize = 1 << 16;

/// What one series says of its histogram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    /// Upper bound, cumulative count.
    Bucket(f64, f64),
    Count(f64),
    Sum(f64),
}

impl Part {
    /// By what a metric's name has behind the family's; `None` if it is no part.
    pub fn read(suffix: &str, pairs: &[(Cow<'_, str>, Cow<'_, str>)], value: f64) -> Option<Part> {
        match suffix {
            "_bucket" => {
                let bound = pairs.iter().find(|(n, _)| n == "le")?;
                let bound = parse_float(bound.1.as_bytes()).filter(|b| !b.is_nan())?;
                Some(Part::Bucket(bound, value))
            }
            "_count" => Some(Part::Count(value)),
            "_sum" => Some(Part::Sum(value)),
            _ => None,
        }
    }
}

/// A histogram that is being collected.
#[derive(Debug)]
pub(super) struct Classic {
    hash: WideHash,
    /// Of the body, with the family's name.
    pairs: Vec<(String, String)>,
    stated: Option<Timestamp>,
    start: Timestamp,
    traced: Vec<Traced>,
    collected: Collected,
}

/// The parts of a histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Collected {
    /// Bounds with cumulative counts.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

impl Collected {
    pub fn add(&mut self, part: Part) {
        match part {
            Part::Bucket(bound, count) if self.buckets.len() <= BUCKETS_MAX => {
                self.buckets.push((bound, count))
            }
            Part::Bucket(..) => {}
            Part::Count(count) => self.count = Some(count),
            Part::Sum(sum) => self.sum = sum,
        }
    }

    /// The native histogram that says the same; `None` if the parts contradict each other.
    pub fn converted(mut self) -> Option<FloatHistogram> {
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        self.buckets.dedup_by(|later, earlier| later.0 == earlier.0);
        let count = self.count.or(self.buckets.last().map(|b| b.1))?;
        if self.buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let cumulative = self.buckets.windows(2).all(|w| w[0].1 <= w[1].1);
        let fits = self.buckets.first().is_some_and(|(_, first)| *first >= 0.0)
            && self.buckets.last().is_some_and(|(_, last)| *last == count)
            && self.buckets.len() <= BUCKETS_MAX;
        if !cumulative || !fits {
            return None;
        }
        let mut below = 0.0;
        let counts: Vec<f64> = self
            .buckets
            .iter()
            .map(|(_, cumulative)| cumulative - std::mem::replace(&mut below, *cumulative))
            .collect();
        let mut h = FloatHistogram {
            schema: crate::model::CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive_spans: vec![Span { offset: 0, length: u32::try_from(counts.len()).unwrap_or(u32::MAX) }],
            positive_buckets: counts,
            custom_values: self
                .buckets
                .iter()
                .map(|(bound, _)| *bound)
                .filter(|b| *b != f64::INFINITY)
                .collect(),
            ..FloatHistogram::default()
        };
        h.compact();
        Some(h)
    }
}

impl Classic {
    pub fn trace(&mut self, labels: Vec<(String, String)>, value: f64, stated: Option<Timestamp>) {
        // One without a time could not be told from the same one of the scrape before.
        if stated.is_some() {
            self.traced.push(Traced { labels, value, stated });
        }
    }
}

impl Walk<'_> {
    /// Adds a part to the histogram of these labels (without the metric's name and `le`), and ends the one before if it
    /// is another.
    pub(super) fn collect_classic(
        &mut self,
        follower: &mut Follower<'_>,
        family: &str,
        pairs: Vec<(Cow<'_, str>, Cow<'_, str>)>,
        part: Part,
        stated: Option<Timestamp>,
        start: Timestamp,
    ) -> Result<(), ScrapeError> {
        let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = pairs;
        pairs.push((METRIC_NAME.into(), family.into()));
        if let Some(context) = &self.context
            && self.ingest.features.type_and_unit_labels
        {
            context.label(&mut pairs);
        }
        pairs.sort();
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        bytes.extend_from_slice(b"\xffclassic");
        for (name, value) in &pairs {
            bytes.push(0xff);
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0xff);
            bytes.extend_from_slice(value.as_bytes());
        }
        let hash = self.ingest.hasher.hash(&bytes);
        self.scratch = bytes;
        if self.classic.as_ref().is_some_and(|c| c.hash != hash) {
            self.end_classic(follower)?;
        }
        let classic = self.classic.get_or_insert_with(|| Classic {
            hash,
            pairs: pairs.into_iter().map(|(n, v)| (n.into_owned(), v.into_owned())).collect(),
            stated,
            start,
            traced: Vec::new(),
            collected: Collected::default(),
        });
        classic.collected.add(part);
        Ok(())
    }

    /// Takes the histogram that was collected, if there is one.
    pub(super) fn end_classic(&mut self, follower: &mut Follower<'_>) -> Result<(), ScrapeError> {
        let Some(Classic { hash, pairs, stated, start, traced, collected }) = self.classic.take() else {
            return Ok(());
        };
        let Some(h) = collected.converted() else { return Ok(()) };
        let value = SampleValue::Histogram(Arc::new(h));
        let incoming = Incoming { hash, len: u32::MAX, stated, start, value };
        let labels = |walk: &Self| {
            walk.composed(pairs.iter().map(|(n, v)| (n.as_str().into(), v.as_str().into())).collect())
        };
        self.take(follower, incoming, &traced, false, labels).map_err(|e| match e {
            NotTaken::Label(source) => {
                let family = pairs.iter().find(|(n, _)| n == METRIC_NAME).map(|(_, v)| v.clone());
                ScrapeError::Label { family: family.unwrap_or_default(), source }
            }
            NotTaken::BucketLimit(e) => e,
        })
    }
}
