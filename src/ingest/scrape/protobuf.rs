//! A scraped body of protobuf.
//!
//! Source: Prometheus `model/textparse/protobufparse.go` (the series that a metric becomes, and their order).

use std::borrow::Cow;
use std::sync::Arc;

use super::classic::{Collected, Part};
use super::{Follower, Incoming, NotTaken, NumberLabel, ScrapeError, Traced, Walk};
use crate::exposition::format_openmetrics_float;
use crate::exposition::protobuf::{ClassicBucket, Family, FamilyType, Histogram, Metric, MetricFamilies};
use crate::exposition::remote_write::WireError;
use crate::ingest::LabelError;
use crate::ingest::families::FamilyNote;
use crate::ingest::features::TypeAndUnit;
use crate::model::{Labels, METRIC_NAME, MetricType, Timestamp};
use crate::storage::SampleValue;

/// One series of a metric.
#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    /// What the metric's name has behind the family's.
    suffix: &'static str,
    /// `le` or `quantile`, and its value.
    number: Option<(&'static str, f64)>,
    /// Tells native histograms from others.
    kind: u8,
    exemplar: Option<&'a [u8]>,
}

const PLAIN: Piece<'static> = Piece { suffix: "", number: None, kind: 0, exemplar: None };
const NATIVE: Piece<'static> = Piece { kind: 1, ..PLAIN };
const CONVERTED: Piece<'static> = Piece { kind: 2, ..PLAIN };

/// Why a body ends here.
enum Stop {
    Wire(WireError),
    Label(LabelError),
    Scrape(ScrapeError),
}

impl From<WireError> for Stop {
    fn from(e: WireError) -> Self {
        Stop::Wire(e)
    }
}

impl From<NotTaken> for Stop {
    fn from(e: NotTaken) -> Self {
        match e {
            NotTaken::Label(e) => Stop::Label(e),
            NotTaken::BucketLimit(e) => Stop::Scrape(e),
        }
    }
}

impl Walk<'_> {
    pub(super) fn protobuf(&mut self, follower: &mut Follower<'_>, body: &[u8]) -> Result<(), ScrapeError> {
        // Numbers in labels have one form here, whatever the family's type.
        self.number_label = NumberLabel::None;
        let mut families = MetricFamilies::new(body);
        while let Some(mut family) = families.next()? {
            let note = FamilyNote {
                metric_type: Some(family.family_type.metric_type()),
                help: Some(family.help.to_owned()),
                unit: Some(family.unit.to_owned()),
            };
            self.notes.insert(family.name.to_owned(), note);
            self.metrics(follower, &mut family).map_err(|stop| match stop {
                Stop::Wire(e) => families.error(family.name, e).into(),
                Stop::Label(e) => families.error(family.name, e).into(),
                Stop::Scrape(e) => e,
            })?;
        }
        self.check_sample_limit()
    }

    fn metrics(&mut self, follower: &mut Follower<'_>, family: &mut Family<'_>) -> Result<(), Stop> {
        while let Some(metric) = family.next_metric()? {
            match family.family_type {
                FamilyType::Summary => self.summary(follower, family, &metric)?,
                FamilyType::Histogram | FamilyType::GaugeHistogram => {
                    self.histogram(follower, family, &metric)?;
                }
                other => {
                    let number = metric.number(other)?;
                    let piece = Piece { exemplar: number.exemplar, ..PLAIN };
                    self.float(follower, family, &metric, piece, number.start, number.value)?;
                }
            }
        }
        Ok(())
    }

    fn summary(
        &mut self,
        follower: &mut Follower<'_>,
        family: &Family<'_>,
        metric: &Metric<'_>,
    ) -> Result<(), Stop> {
        let summary = metric.summary()?;
        let start = summary.start;
        self.float(follower, family, metric, Piece { suffix: "_count", ..PLAIN }, start, summary.count)?;
        self.float(follower, family, metric, Piece { suffix: "_sum", ..PLAIN }, start, summary.sum)?;
        for (quantile, value) in summary.quantiles {
            let piece = Piece { number: Some(("quantile", quantile)), ..PLAIN };
            self.float(follower, family, metric, piece, start, value)?;
        }
        Ok(())
    }

    fn histogram(
        &mut self,
        follower: &mut Follower<'_>,
        family: &Family<'_>,
        metric: &Metric<'_>,
    ) -> Result<(), Stop> {
        let options = self.options.histograms;
        let h = metric.histogram()?;
        let is_native = h.is_native && options.native;
        if is_native {
            let value = h.native(family.family_type)?;
            let value = SampleValue::Histogram(Arc::new(value));
            let traced = self.native_exemplars(&h)?;
            self.piece(follower, family, metric, NATIVE, h.start, value, &traced)?;
            if options.classic_always && !h.buckets.is_empty() {
                self.classic(follower, family, metric, &h)?;
            }
            return Ok(());
        }
        // As Prometheus, which converts what is typed as a histogram and nothing else.
        let converts = options.classic_converted && family.family_type == FamilyType::Histogram;
        if converts {
            let mut collected = Collected::default();
            collected.add(Part::Count(h.count));
            collected.add(Part::Sum(h.sum));
            for bucket in h.buckets.iter().filter(|b| !b.upper_bound.is_nan()) {
                collected.add(Part::Bucket(bucket.upper_bound, bucket.cumulative_count));
            }
            if let Some(value) = collected.converted() {
                let value = SampleValue::Histogram(Arc::new(value));
                let traced = self.native_exemplars(&h)?;
                self.piece(follower, family, metric, CONVERTED, h.start, value, &traced)?;
            }
        }
        if !converts || options.classic_always {
            self.classic(follower, family, metric, &h)?;
        }
        Ok(())
    }

    fn classic(
        &mut self,
        follower: &mut Follower<'_>,
        family: &Family<'_>,
        metric: &Metric<'_>,
        h: &Histogram<'_>,
    ) -> Result<(), Stop> {
        self.float(follower, family, metric, Piece { suffix: "_count", ..PLAIN }, h.start, h.count)?;
        self.float(follower, family, metric, Piece { suffix: "_sum", ..PLAIN }, h.start, h.sum)?;
        let last = h.buckets.last().is_none_or(|b| b.upper_bound != f64::INFINITY).then_some(ClassicBucket {
            upper_bound: f64::INFINITY,
            cumulative_count: h.count,
            exemplar: None,
        });
        for bucket in h.buckets.iter().chain(&last) {
            let number = Some(("le", bucket.upper_bound));
            let piece = Piece { suffix: "_bucket", number, exemplar: bucket.exemplar, ..PLAIN };
            self.float(follower, family, metric, piece, h.start, bucket.cumulative_count)?;
        }
        Ok(())
    }

    /// The exemplars of a native histogram: its own, or else those of its classic buckets; those without a time cannot
    /// be told from the same ones of the scrape before.
    fn native_exemplars(&self, h: &Histogram<'_>) -> Result<Vec<Traced>, WireError> {
        let mut all = Vec::new();
        if self.keeps_exemplars {
            let of_buckets = h.buckets.iter().filter(|_| h.exemplars.is_empty()).filter_map(|b| b.exemplar);
            for message in h.exemplars.iter().copied().chain(of_buckets) {
                all.push(traced(message)?);
            }
            all.retain(|e| e.stated.is_some());
            all.sort_by(|a, b| a.stated.cmp(&b.stated).then(a.value.total_cmp(&b.value)));
        }
        Ok(all)
    }

    fn float(
        &mut self,
        follower: &mut Follower<'_>,
        family: &Family<'_>,
        metric: &Metric<'_>,
        piece: Piece<'_>,
        start: Timestamp,
        value: f64,
    ) -> Result<(), Stop> {
        let traced = match piece.exemplar.filter(|_| self.keeps_exemplars) {
            Some(message) => Some(traced(message)?),
            None => None,
        };
        self.piece(follower, family, metric, piece, start, SampleValue::Float(value), traced.as_slice())
    }

    #[allow(clippy::too_many_arguments, reason = "where a series comes from, what it is, and what it says")]
    fn piece(
        &mut self,
        follower: &mut Follower<'_>,
        family: &Family<'_>,
        metric: &Metric<'_>,
        piece: Piece<'_>,
        start: Timestamp,
        value: SampleValue,
        traced: &[Traced],
    ) -> Result<(), Stop> {
        let known = match self.ingest.features.type_and_unit_labels {
            true => TypeAndUnit { metric_type: family.family_type.metric_type(), unit: family.unit },
            false => TypeAndUnit { metric_type: MetricType::Unknown, unit: "" },
        };
        let key = &mut self.scratch;
        key.clear();
        for text in [family.name, piece.suffix, known.unit] {
            key.extend_from_slice(text.as_bytes());
            key.push(0xff);
        }
        key.extend([piece.kind, known.metric_type as u8, u8::from(piece.number.is_some())]);
        key.extend(piece.number.map_or(0, |(_, n)| n.to_bits()).to_le_bytes());
        key.extend_from_slice(&metric.labels);
        let incoming = Incoming {
            hash: self.ingest.hasher.hash(key),
            // No line of text begins with so much.
            len: u32::MAX,
            stated: metric.ts,
            // As far as the protocol is concerned, before 1970 nothing counted.
            start: start.max(0),
            value,
        };
        let mut malformed = None;
        let labels = |walk: &Self| match pairs(family, metric, piece, known) {
            Ok(pairs) => walk.composed(pairs),
            Err(e) => {
                malformed = Some(e);
                Ok(None::<Labels>)
            }
        };
        self.take(follower, incoming, traced, false, labels)?;
        malformed.map_or(Ok(()), |e| Err(e.into()))
    }
}

/// Name and value of a label.
type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The labels of a series as the body has them.
fn pairs<'a>(
    family: &Family<'a>,
    metric: &'a Metric<'_>,
    piece: Piece<'_>,
    known: TypeAndUnit<'a>,
) -> Result<Vec<Pair<'a>>, WireError> {
    let mut pairs: Vec<Pair<'a>> = Vec::with_capacity(8);
    let name: Cow<'_, str> = match piece.suffix {
        "" => family.name.into(),
        suffix => format!("{}{suffix}", family.name).into(),
    };
    pairs.push((METRIC_NAME.into(), name));
    for pair in metric.label_pairs() {
        let (name, value) = pair?;
        if !known.overrides(name) {
            pairs.push((name.into(), value.into()));
        }
    }
    pairs.extend(known.pairs().map(|(name, value)| (name.into(), value.into())));
    if let Some((label, number)) = piece.number {
        let mut text = String::new();
        format_openmetrics_float(&mut text, number);
        pairs.push((label.into(), text.into()));
    }
    Ok(pairs)
}

fn traced(message: &[u8]) -> Result<Traced, WireError> {
    let (labels, value, stated) = Metric::exemplar(message)?;
    let labels = labels.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    Ok(Traced { labels, value, stated })
}
