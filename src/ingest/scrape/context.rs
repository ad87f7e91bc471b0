//! The metric family that lines of text belong to.

use std::borrow::Cow;

use super::classic::Part;
use super::{Follower, InContext, ScrapeError, Walk};
use crate::exposition::{Parser, Sample, family_name};
use crate::ingest::features::TypeAndUnit;
use crate::ingest::hash::WideHash;
use crate::model::{METRIC_NAME, MetricType};

/// The family of the last TYPE, HELP or UNIT line.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    pub name: String,
    pub metric_type: MetricType,
    pub unit: String,
    /// Whether the sample that is being read belongs to it.
    belongs: bool,
}

impl Context {
    /// Adds what is known of the family to the labels of the sample that is being read.
    pub fn label(&self, pairs: &mut Vec<(Cow<'_, str>, Cow<'_, str>)>) {
        let known = self.known();
        pairs.retain(|(name, _)| !known.overrides(name));
        pairs.extend(known.pairs().map(|(name, value)| (name.into(), value.to_owned().into())));
    }

    /// What is known of the sample that is being read.
    fn known(&self) -> TypeAndUnit<'_> {
        if !self.belongs {
            return TypeAndUnit::default();
        }
        TypeAndUnit { metric_type: self.metric_type, unit: &self.unit }
    }
}

impl Walk<'_> {
    /// Notes what a line says of a family.
    pub(super) fn enter(
        &mut self,
        follower: &mut Follower<'_>,
        family: &str,
        says: impl FnOnce(&mut Context),
    ) -> Result<(), ScrapeError> {
        self.end_classic(follower)?;
        if let Some(context) = &mut self.context {
            if context.name != family {
                *context = Context { name: family.to_owned(), ..Context::default() };
            }
            says(context);
        }
        Ok(())
    }

    /// What the family makes of a sample's line.
    pub(super) fn in_context(
        &mut self,
        follower: &mut Follower<'_>,
        parser: &Parser<'_>,
        sample: &Sample<'_>,
    ) -> Result<InContext, ScrapeError> {
        let Some(context) = &mut self.context else { return Ok(InContext::Kept(0)) };
        let mut pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = parser.labels().collect();
        let Some((_, metric)) = pairs.iter().find(|(n, _)| n == METRIC_NAME).cloned() else {
            return Ok(InContext::Kept(0));
        };
        let of = |name: &str| (name == context.name).then_some(context.metric_type);
        context.belongs = family_name(&metric, of) == context.name;
        if !context.belongs {
            self.end_classic(follower)?;
            return Ok(InContext::Kept(0));
        }
        let (metric_type, suffix) = (context.metric_type, &metric[context.name.len()..]);
        if suffix == "_created" && self.created.knows(metric_type) {
            return Ok(InContext::Consumed);
        }
        pairs.retain(|(n, _)| n != METRIC_NAME);
        let start = self.created.start(&self.ingest.hasher, &context.name, metric_type, &pairs);
        if !self.options.histograms.classic_converted || metric_type != MetricType::Histogram {
            return Ok(InContext::Kept(start));
        }
        let Some(part) = Part::read(suffix, &pairs, sample.value) else {
            self.end_classic(follower)?;
            return Ok(InContext::Kept(start));
        };
        pairs.retain(|(n, _)| n != "le");
        let base = metric[..metric.len() - suffix.len()].to_owned();
        self.collect_classic(follower, &base, pairs, part, sample.ts, start)?;
        if let (Some(classic), Some(e)) =
            (&mut self.classic, sample.exemplar.filter(|_| self.keeps_exemplars))
        {
            classic.trace(e.label_pairs(), e.value, e.ts);
        }
        let kept = self.options.histograms.classic_always;
        Ok(if kept { InContext::Kept(start) } else { InContext::Consumed })
    }

    /// What a series is known by: its bytes, and where they become labels what is known of its family.
    pub(super) fn identity(&mut self, series: &[u8]) -> WideHash {
        let hasher = &self.ingest.hasher;
        match &self.context {
            Some(context) if self.ingest.features.type_and_unit_labels => {
                let known = context.known();
                self.scratch.clear();
                self.scratch.extend_from_slice(series);
                self.scratch.extend([0xff, known.metric_type as u8]);
                self.scratch.extend_from_slice(known.unit.as_bytes());
                hasher.hash(&self.scratch)
            }
            _ => hasher.hash(series),
        }
    }
}
