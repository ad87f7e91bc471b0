//! Counter resets that start times tell of.
//!
//! A start time says when a counter began to count from zero. `starts` is empty, or as long as `ts`; 0 means none. One
//! that is not before its own sample says nothing: so senders write that they do not know it.
//!
//! Source: Prometheus, `promql/promqltest/testdata/start_timestamps.test`.

/// The start time of a sample, if it has one that says something.
fn known(starts: &[i64], ts: &[i64], i: usize) -> Option<i64> {
    starts.get(i).copied().filter(|start| *start != 0 && *start < ts[i])
}

/// Whether the counter began anew between sample `i - 1` and sample `i`.
#[inline]
pub(super) fn started_between(starts: &[i64], ts: &[i64], i: usize) -> bool {
    // A start at the very time of the sample before is that of a delta, if that sample too says when it began. Else it
    // is what senders write that do not know.
    let before = || known(starts, ts, i - 1).is_some();
    known(starts, ts, i).is_some_and(|s| s > ts[i - 1] || (s == ts[i - 1] && before()))
}

/// Whether sample `i` claims to count since before sample `i - 1`, which claims another start or none.
pub(super) fn overlaps(starts: &[i64], ts: &[i64], i: usize) -> bool {
    known(starts, ts, i).is_some_and(|s| s < ts[i - 1] && s != starts[i - 1])
}

/// When the first sample's counter began, if that is after `after`.
pub(super) fn begun_within(starts: &[i64], ts: &[i64], after: i64) -> Option<i64> {
    known(starts, ts, 0).filter(|s| *s > after)
}
