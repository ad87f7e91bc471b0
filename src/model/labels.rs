//! Label sets.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// An immutable label set: pairs sorted by name, names unique, no empty value. Cloning is cheap.
///
/// All pairs stand in one string, each as `LEN name LEN value`; a length is written in base 64, least digit
/// first, one ASCII byte a digit, bit 6 meaning "more follow". So the whole is valid UTF-8, two sets are equal
/// when their bytes are, and a set costs one allocation.
#[derive(Clone, PartialEq, Eq)]
pub struct Labels {
    packed: Arc<str>,
}

impl Labels {
    /// The empty set.
    #[must_use]
    pub fn empty() -> Self {
        thread_local! {
            static EMPTY: Arc<str> = Arc::from("");
        }
        Labels { packed: EMPTY.with(Arc::clone) }
    }

    /// A set of these pairs in any order. A pair with an empty value is dropped; of two with one name the last wins.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        pairs.reverse();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        pairs.dedup_by(|a, b| a.0.as_ref() == b.0.as_ref());
        let mut packed = String::new();
        for (name, value) in &pairs {
            push_pair(&mut packed, name.as_ref(), value.as_ref());
        }
        Labels { packed: packed.into() }
    }

    /// A set of pairs that are already sorted by name, with unique names; pairs with an empty value are dropped.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        // Room for most sets, so that it grows once or never; it is given back at once.
        let mut packed = String::with_capacity(512);
        let mut before: Option<&str> = None;
        for (name, value) in pairs {
            debug_assert!(
                before.is_none_or(|b| b < name),
                "labels must be sorted: {before:?} before {name:?}"
            );
            before = Some(name);
            push_pair(&mut packed, name, value);
        }
        Labels { packed: packed.into() }
    }

    /// The pairs as one string; equal sets have equal strings. Its layout is an implementation detail of this type,
    /// fit as a key in memory but not for files.
    #[must_use]
    pub fn as_packed(&self) -> &str {
        &self.packed
    }

    /// The value of `name`; `None` if the set has no such label.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n >= name).and_then(|(n, v)| (n == name).then_some(v))
    }

    /// The metric name; empty if there is none.
    #[must_use]
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// The same set, borrowed.
    #[must_use]
    pub fn borrowed(&self) -> LabelsRef<'_> {
        LabelsRef { packed: &self.packed }
    }

    /// The pairs, ascending by name.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.packed }
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// This set without the metric name.
    #[must_use]
    pub fn without_metric_name(&self) -> Labels {
        if self.get(METRIC_NAME).is_none() {
            return self.clone();
        }
        Labels::from_sorted(self.iter().filter(|(n, _)| *n != METRIC_NAME))
    }

    /// Only the labels with these names (in any order).
    #[must_use]
    pub fn keep<S: AsRef<str>>(&self, names: &[S]) -> Labels {
        Labels::from_sorted(self.iter().filter(|(n, _)| names.iter().any(|k| k.as_ref() == *n)))
    }

    /// All labels but those with these names and the metric name.
    #[must_use]
    pub fn without<S: AsRef<str>>(&self, names: &[S]) -> Labels {
        let pairs = self.iter().filter(|(n, _)| *n != METRIC_NAME && !names.iter().any(|k| k.as_ref() == *n));
        Labels::from_sorted(pairs)
    }

    /// This set with `name` set to `value` (removed if that is empty).
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Labels {
        let before = self.iter().take_while(|(n, _)| *n < name);
        let after = self.iter().skip_while(|(n, _)| *n <= name);
        Labels::from_sorted(before.chain([(name, value)]).chain(after))
    }

    /// The fingerprint by which Alertmanager knows a label set: FNV-1a over names and values, each ended by 0xff.
    ///
    /// Source: prometheus/common, `model/signature.go`.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        const OFFSET: u64 = 14_695_981_039_346_656_037;
        const PRIME: u64 = 1_099_511_628_211;
        let mut h = OFFSET;
        let mut add = |bytes: &[u8]| {
            for b in bytes {
                h = (h ^ u64::from(*b)).wrapping_mul(PRIME);
            }
        };
        for (name, value) in self.iter() {
            add(name.as_bytes());
            add(&[0xff]);
            add(value.as_bytes());
            add(&[0xff]);
        }
        h
    }
}

impl Default for Labels {
    fn default() -> Self {
        Labels::empty()
    }
}

impl Hash for Labels {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.packed.hash(state);
    }
}

impl Ord for Labels {
    /// Pair by pair, name before value; a set that is a prefix of another comes first (as in Prometheus).
    fn cmp(&self, other: &Self) -> Ordering {
        // Series that are sorted mostly have many of their first pairs in common.
        let same = common_bytes(self.packed.as_bytes(), other.packed.as_bytes());
        let mut iter = self.iter();
        let mut begin = 0;
        while iter.next().is_some() {
            let end = self.packed.len() - iter.rest.len();
            if end > same {
                break;
            }
            begin = end;
        }
        Iter { rest: &self.packed[begin..] }.cmp(Iter { rest: &other.packed[begin..] })
    }
}

/// How many bytes both begin with alike, at least but for the last few.
fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    const AT_ONCE: usize = 16;
    let pairs = a.chunks_exact(AT_ONCE).zip(b.chunks_exact(AT_ONCE));
    AT_ONCE * pairs.take_while(|(a, b)| a == b).count()
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = (&'a str, &'a str);
    type IntoIter = Iter<'a>;
    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for Labels {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(iter: T) -> Self {
        Labels::from_pairs(iter)
    }
}

/// `{a="b", c="d"}` with the metric name in front, as Prometheus prints a series.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric_name();
        let legacy = is_legacy_metric_name(name);
        if legacy {
            f.write_str(name)?;
            if self.len() == 1 {
                return Ok(());
            }
        }
        f.write_char('{')?;
        let mut first = true;
        if !name.is_empty() && !legacy {
            write!(f, "{name:?}")?;
            first = false;
        }
        for (n, v) in self.iter().filter(|(n, _)| *n != METRIC_NAME) {
            if !first {
                f.write_str(", ")?;
            }
            first = false;
            if is_legacy_label_name(n) { write!(f, "{n}={v:?}")? } else { write!(f, "{n:?}={v:?}")? }
        }
        f.write_char('}')
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As a JSON object, in label order.
impl serde::Serialize for Labels {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.iter())
    }
}

impl<'de> serde::Deserialize<'de> for Labels {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let map = std::collections::BTreeMap::<String, String>::deserialize(d)?;
        Ok(Labels::from_pairs(map))
    }
}

/// A label set that stands in a [`Labels`] or among [`LabelSets`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelsRef<'a> {
    packed: &'a str,
}

impl<'a> LabelsRef<'a> {
    /// As [`Labels::as_packed`].
    #[must_use]
    pub fn as_packed(self) -> &'a str {
        self.packed
    }

    /// The pairs, ascending by name.
    #[must_use]
    pub fn iter(self) -> Iter<'a> {
        Iter { rest: self.packed }
    }
}

/// Label sets one behind the other in one piece of memory, for whoever has many at once.
#[derive(Clone, Debug, Default)]
pub struct LabelSets {
    packed: String,
    ends: Vec<usize>,
}

impl LabelSets {
    /// With room for `sets` sets of `bytes` bytes altogether.
    #[must_use]
    pub fn with_capacity(sets: usize, bytes: usize) -> Self {
        LabelSets { packed: String::with_capacity(bytes), ends: Vec::with_capacity(sets) }
    }

    /// Makes room for `sets` more sets of `bytes` bytes altogether, and no more than that.
    pub fn reserve(&mut self, sets: usize, bytes: usize) {
        self.packed.reserve_exact(bytes);
        self.ends.reserve_exact(sets);
    }

    /// Takes all sets out; their memory is used again.
    pub fn clear(&mut self) {
        self.packed.clear();
        self.ends.clear();
    }

    /// Adds a set; the pairs as in [`Labels::from_sorted`].
    pub fn push_sorted<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) {
        pairs.into_iter().for_each(|(name, value)| push_pair(&mut self.packed, name, value));
        self.ends.push(self.packed.len());
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.packed.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The set that was added as number `i`, counted from 0; the empty set if there are not so many.
    #[must_use]
    pub fn get(&self, i: usize) -> LabelsRef<'_> {
        let Some(end) = self.ends.get(i) else { return LabelsRef { packed: "" } };
        let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
        LabelsRef { packed: &self.packed[start..*end] }
    }

    /// All sets in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = LabelsRef<'_>> {
        (0..self.len()).map(|i| self.get(i))
    }
}

/// Iterates over the pairs of a [`Labels`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let name = take(&mut self.rest);
        let value = take(&mut self.rest);
        Some((name, value))
    }
}

#[inline]
fn take<'a>(rest: &mut &'a str) -> &'a str {
    let bytes = rest.as_bytes();
    let (mut len, mut shift, mut at) = (0usize, 0, 0);
    loop {
        let b = bytes[at];
        at += 1;
        len |= usize::from(b & 0x3f) << shift;
        if b & 0x40 == 0 {
            break;
        }
        shift += 6;
    }
    let text = &rest[at..at + len];
    *rest = &rest[at + len..];
    text
}

fn push_pair(packed: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    push_text(packed, name);
    push_text(packed, value);
}

fn push_text(packed: &mut String, text: &str) {
    let mut len = text.len();
    while len >= 64 {
        packed.push(char::from((len & 0x3f) as u8 | 0x40));
        len >>= 6;
    }
    packed.push(char::from(len as u8));
    packed.push_str(text);
}

/// Changes a label set pair by pair.
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: std::collections::BTreeMap<String, String>,
}

impl LabelsBuilder {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name`; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        if value.is_empty() {
            self.pairs.remove(name);
        } else {
            self.pairs.insert(name.to_owned(), value.to_owned());
        }
        self
    }

    pub fn remove(&mut self, name: &str) -> &mut Self {
        self.pairs.remove(name);
        self
    }

    /// The value of `name`; empty if there is none.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.pairs.get(name).map_or("", String::as_str)
    }

    /// The pairs, ascending by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        self.pairs.retain(|n, v| keep(n, v));
    }

    #[must_use]
    pub fn build(&self) -> Labels {
        Labels::from_sorted(self.iter())
    }
}

impl From<&Labels> for LabelsBuilder {
    fn from(labels: &Labels) -> Self {
        LabelsBuilder { pairs: labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect() }
    }
}

/// Whether `name` can be written as a metric name without quotes: `[a-zA-Z_:][a-zA-Z0-9_:]*`.
#[must_use]
pub fn is_legacy_metric_name(name: &str) -> bool {
    let ok =
        |i: usize, b: u8| b.is_ascii_alphabetic() || b == b'_' || b == b':' || (i > 0 && b.is_ascii_digit());
    !name.is_empty() && name.bytes().enumerate().all(|(i, b)| ok(i, b))
}

/// Whether `name` can be written as a label name without quotes: `[a-zA-Z_][a-zA-Z0-9_]*`.
#[must_use]
pub fn is_legacy_label_name(name: &str) -> bool {
    is_legacy_metric_name(name) && !name.contains(':')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_sorted_unique_and_never_empty() {
        let l = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
        assert_eq!(l.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "3")]);
        assert_eq!(l.get("b"), Some("3"));
        assert_eq!(l.get("aa"), None);
    }

    #[test]
    fn prints_as_a_selector() {
        let l = Labels::from_pairs([(METRIC_NAME, "up"), ("job", "a\"b")]);
        assert_eq!(l.to_string(), r#"up{job="a\"b"}"#);
        assert_eq!(Labels::from_pairs([(METRIC_NAME, "a.b")]).to_string(), r#"{"a.b"}"#);
        assert_eq!(Labels::from_pairs([(METRIC_NAME, "up")]).to_string(), "up");
        assert_eq!(Labels::empty().to_string(), "{}");
    }

    proptest! {
        #[test]
        fn order_is_that_of_the_pairs(
            common in proptest::collection::btree_map("[a-c]{1,3}", "[a-zé]{1,30}", 0..6),
            a in proptest::collection::btree_map("[a-e]{1,3}", "[a-cé]{1,4}", 0..4),
            b in proptest::collection::btree_map("[a-e]{1,3}", "[a-cé]{1,4}", 0..4),
        ) {
            let of = |more: &std::collections::BTreeMap<String, String>| Labels::from_pairs(common.iter().chain(more));
            let (a, b) = (of(&a), of(&b));
            let pairs = |l: &Labels| l.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>();
            prop_assert_eq!(a.cmp(&b), pairs(&a).cmp(&pairs(&b)));
            prop_assert_eq!(a.cmp(&a.clone()), Ordering::Equal);
        }
    }

    #[test]
    fn fingerprint_is_alertmanagers() {
        // FNV-1a 64 of nothing is its offset basis.
        assert_eq!(Labels::empty().fingerprint(), 14_695_981_039_346_656_037);
    }

    proptest! {
        #[test]
        fn packing_loses_nothing(pairs in proptest::collection::btree_map(".{0,8}", ".{1,300}", 0..8)) {
            let l = Labels::from_pairs(pairs.iter());
            let back: std::collections::BTreeMap<String, String> = l.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(back, pairs);
        }
    }
}
