//! When series began to count, as OpenMetrics says it: in `_created` samples, which stand behind those that they mean.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::exposition::{Entry, Format, Parser};
use crate::ingest::hash::{WideHash, WideHasher};
use crate::model::{METRIC_NAME, MetricType, Timestamp};

const SUFFIX: &str = "_created";

/// The times by family and labels.
#[derive(Debug, Default)]
pub(super) struct Created {
    /// Whether they were looked for.
    read: bool,
    times: HashMap<WideHash, Timestamp>,
    scratch: Vec<u8>,
}

impl Created {
    /// Looks through a whole body. Lines that do not parse are left to who reads all of them.
    pub fn read(body: &[u8], hasher: &WideHasher) -> Self {
        let mut created = Created { read: true, ..Created::default() };
        let finder = memchr::memmem::Finder::new(SUFFIX);
        let mut at = 0;
        while let Some(found) = finder.find(&body[at..]) {
            let begin = memchr::memrchr(b'\n', &body[..at + found]).map_or(0, |i| i + 1);
            at += found;
            at += memchr::memchr(b'\n', &body[at..]).map_or(body.len() - at, |i| i + 1);
            if body[begin] == b'#' {
                continue;
            }
            let mut parser = Parser::new(Format::OpenMetricsUtf8, body);
            parser.seek(begin);
            if let Ok(Some(Entry::Sample(sample))) = parser.next() {
                let mut pairs: Vec<_> = parser.labels().collect();
                let name = pairs.iter().position(|(n, _)| n == METRIC_NAME).map(|i| pairs.remove(i).1);
                let ms = sample.value * 1000.0;
                if let Some(family) = name.as_deref().and_then(|n| n.strip_suffix(SUFFIX))
                    && ms >= 1.0
                    && ms.is_finite()
                {
                    let key = created.key(hasher, family, "", &pairs);
                    created.times.entry(key).or_insert(ms as Timestamp);
                }
            }
        }
        created
    }

    /// Whether families of this type have such samples, which then are no series.
    pub fn knows(&self, metric_type: MetricType) -> bool {
        self.read && matches!(metric_type, MetricType::Counter | MetricType::Histogram | MetricType::Summary)
    }

    /// When the series of a family with these labels (without its name) began to count; 0 if nothing says so.
    pub fn start(
        &mut self,
        hasher: &WideHasher,
        family: &str,
        metric_type: MetricType,
        pairs: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> Timestamp {
        if self.times.is_empty() || !self.knows(metric_type) {
            return 0;
        }
        let without = match metric_type {
            MetricType::Histogram => "le",
            MetricType::Summary => "quantile",
            _ => "",
        };
        let key = self.key(hasher, family, without, pairs);
        self.times.get(&key).copied().unwrap_or(0)
    }

    fn key(
        &mut self,
        hasher: &WideHasher,
        family: &str,
        without: &str,
        pairs: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> WideHash {
        let mut pairs: Vec<(&str, &str)> =
            pairs.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).filter(|(n, _)| *n != without).collect();
        pairs.sort_unstable();
        self.scratch.clear();
        self.scratch.extend_from_slice(family.as_bytes());
        for text in pairs.into_iter().flat_map(|(n, v)| [n, v]) {
            self.scratch.push(0xff);
            self.scratch.extend_from_slice(text.as_bytes());
        }
        hasher.hash(&self.scratch)
    }
}
