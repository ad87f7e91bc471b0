//! Borrowed columns: those of one series, or a stretch of them.

use std::ops::Range;
use std::sync::Arc;

use super::api::Samples;
use crate::model::{FloatHistogram, Timestamp};

/// The columns of [`Samples`], borrowed; the same holds for them.
#[derive(Clone, Copy, Debug, Default)]
pub struct SampleSlices<'a> {
    pub ts: &'a [Timestamp],
    pub vs: &'a [f64],
    pub starts: &'a [Timestamp],
    pub hist_ts: &'a [Timestamp],
    pub hists: &'a [Arc<FloatHistogram>],
    pub hist_starts: &'a [Timestamp],
}

impl<'a> SampleSlices<'a> {
    /// How many samples there are.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.ts.len() + self.hist_ts.len()
    }

    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty() && self.hist_ts.is_empty()
    }

    /// The samples with a time in `from..=to`.
    #[must_use]
    pub fn within(&self, from: Timestamp, to: Timestamp) -> SampleSlices<'a> {
        let range = |ts: &[Timestamp]| {
            let first = ts.partition_point(|t| *t < from);
            first..first + ts[first..].partition_point(|t| *t <= to)
        };
        self.cut(range(self.ts), range(self.hist_ts))
    }

    /// The same without start times.
    #[inline]
    #[must_use]
    pub fn without_starts(self) -> SampleSlices<'a> {
        SampleSlices { starts: &[], hist_starts: &[], ..self }
    }

    fn cut(&self, floats: Range<usize>, histograms: Range<usize>) -> SampleSlices<'a> {
        // Start times of which none is stated are left out, as in columns that were read by themselves.
        let starts = |column: &'a [Timestamp], range: Range<usize>| {
            let starts = column.get(range).unwrap_or(&[]);
            if starts.iter().all(|s| *s == 0) { &[] } else { starts }
        };
        SampleSlices {
            ts: &self.ts[floats.clone()],
            vs: &self.vs[floats.clone()],
            starts: starts(self.starts, floats),
            hist_ts: &self.hist_ts[histograms.clone()],
            hists: &self.hists[histograms.clone()],
            hist_starts: starts(self.hist_starts, histograms),
        }
    }
}

impl Samples {
    /// All of the columns.
    #[inline]
    #[must_use]
    pub fn slices(&self) -> SampleSlices<'_> {
        let Samples { ts, vs, starts, hist_ts, hists, hist_starts } = self;
        SampleSlices { ts, vs, starts, hist_ts, hists, hist_starts }
    }

    /// The floats and the histograms at these places: of columns that hold several series, one after the other, those of
    /// one.
    #[must_use]
    pub fn stretch(&self, floats: Range<usize>, histograms: Range<usize>) -> SampleSlices<'_> {
        self.slices().cut(floats, histograms)
    }
}

impl From<SampleSlices<'_>> for Samples {
    fn from(slices: SampleSlices<'_>) -> Self {
        Samples {
            ts: slices.ts.to_vec(),
            vs: slices.vs.to_vec(),
            starts: slices.starts.to_vec(),
            hist_ts: slices.hist_ts.to_vec(),
            hists: slices.hists.to_vec(),
            hist_starts: slices.hist_starts.to_vec(),
        }
    }
}
