//! Batches cut into pieces, each of which becomes a section: whatever a sender puts into a batch, no frame is longer than a
//! reader takes.

use super::frame::LoggedSample;
use crate::model::FloatHistogram;
use crate::storage::api::SampleValue;

/// So many histograms, and so many new series, are in one section at most.
pub const SECTION_ITEMS: usize = 4096;
/// A section ends before it has more bytes than this, unless they are of one item.
const SECTION_BYTES: usize = 16 << 20;
/// Sections of labels are shorter: they are compressed in memory that is used again and stays in the cache of a core. Longer
/// ones would not be packed any better.
const SERIES_SECTION_BYTES: usize = 256 << 10;
/// What a sample takes at most besides the parts of a histogram.
const SAMPLE_BYTES: usize = 64;
/// What a number, or a span, of a histogram takes at most.
const NUMBER_BYTES: usize = 10;

/// The pieces of `all`; `bytes` says what an item takes at most.
pub fn pieces<T>(all: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    pieces_up_to(SECTION_BYTES, all, bytes)
}

/// The same for new series.
pub fn series_pieces<T>(all: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    pieces_up_to(SERIES_SECTION_BYTES, all, bytes)
}

fn pieces_up_to<T>(bytes_max: usize, all: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = all;
    std::iter::from_fn(move || {
        let mut sum = 0usize;
        let fits = |item: &T| {
            sum = sum.saturating_add(bytes(item));
            sum <= bytes_max
        };
        let n = rest.iter().take(SECTION_ITEMS).map(fits).take_while(|fits| *fits).count();
        let (piece, others) = rest.split_at(n.max(1).min(rest.len()));
        rest = others;
        (!piece.is_empty()).then_some(piece)
    })
}

/// What a histogram takes at most.
#[must_use]
pub fn histogram_bytes(h: &FloatHistogram) -> usize {
    let buckets = h.positive_buckets.len() + h.negative_buckets.len() + h.custom_values.len();
    let spans = h.positive_spans.len() + h.negative_spans.len();
    SAMPLE_BYTES + NUMBER_BYTES * (buckets + spans)
}

/// What a sample takes at most.
#[must_use]
pub fn sample_bytes(sample: &LoggedSample) -> usize {
    match &sample.value {
        SampleValue::Float(_) => SAMPLE_BYTES,
        SampleValue::Histogram(h) => SAMPLE_BYTES + histogram_bytes(h),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_in_items_and_bytes() {
        let lengths = |all: &[usize]| pieces(all, |n| *n).map(<[usize]>::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[]), [0usize; 0]);
        assert_eq!(lengths(&vec![1; 10_000]), [4096, 4096, 1808]);
        let half = SECTION_BYTES / 2;
        assert_eq!(
            lengths(&[half, half, 1, SECTION_BYTES, 3 * SECTION_BYTES, usize::MAX, 1, 1]),
            [2, 1, 1, 1, 1, 2]
        );
    }

    #[test]
    fn a_histogram_takes_no_more_than_is_said() {
        use crate::storage::chunk::histograms::put_histogram;
        let n = 500;
        let h = FloatHistogram {
            schema: i32::MIN,
            count: f64::MIN_POSITIVE,
            sum: f64::MIN_POSITIVE,
            zero_count: f64::MIN_POSITIVE,
            positive_spans: vec![crate::model::Span { offset: i32::MIN, length: u32::MAX }; n],
            positive_buckets: vec![2_251_799_813_685_247.0; n],
            negative_buckets: vec![f64::MIN_POSITIVE; n],
            custom_values: vec![f64::MIN_POSITIVE; n],
            ..FloatHistogram::default()
        };
        let mut bytes = Vec::new();
        put_histogram(&mut bytes, None, &h);
        assert!(bytes.len() <= histogram_bytes(&h), "{}", bytes.len());
    }
}
