//! Aggregations of one time.

use std::collections::BTreeMap;

use super::ranges::{quantile, variance};
use super::{Result, Twin, Vector, unique, unknown};
use crate::model::Labels;
use crate::promql::ast::{Aggregate, AggregateOp, ExprKind};

impl Twin<'_> {
    pub fn aggregate(&self, a: &Aggregate, time: i64) -> Result<Vector> {
        let mut groups: BTreeMap<Labels, Vector> = BTreeMap::new();
        let mut left_out = a.labels.clone();
        left_out.push("__name__".to_owned());
        for (labels, v) in self.vector(&a.expr, time)? {
            let group = if a.without { labels.without(&left_out) } else { labels.keep(&a.labels) };
            groups.entry(group).or_default().push((labels, v));
        }
        let mut out = Vec::new();
        for (group, members) in groups {
            let values: Vec<f64> = members.iter().map(|(_, v)| *v).collect();
            let n = values.len() as f64;
            let best = |better: fn(f64, f64) -> bool| {
                values.iter().copied().fold(f64::NAN, |a, b| if better(b, a) || a.is_nan() { b } else { a })
            };
            out.push(match a.op {
                AggregateOp::Sum => (group, values.iter().sum()),
                AggregateOp::Avg => (group, values.iter().sum::<f64>() / n),
                AggregateOp::Count => (group, n),
                AggregateOp::Group => (group, 1.0),
                AggregateOp::Min => (group, best(|a, b| a < b)),
                AggregateOp::Max => (group, best(|a, b| a > b)),
                AggregateOp::Stdvar => (group, variance(&values)),
                AggregateOp::Stddev => (group, variance(&values).sqrt()),
                AggregateOp::Quantile => {
                    let q = self.param(a, time)?;
                    (group, quantile(q, &values))
                }
                AggregateOp::TopK | AggregateOp::BottomK => {
                    let sign = if a.op == AggregateOp::TopK { -1.0 } else { 1.0 };
                    let mut members = members;
                    // NaN comes last in both.
                    members.sort_by(|(_, a), (_, b)| {
                        a.is_nan().cmp(&b.is_nan()).then((sign * a).total_cmp(&(sign * b)))
                    });
                    members.truncate(self.param(a, time)?.max(0.0) as usize);
                    out.extend(members);
                    continue;
                }
                AggregateOp::CountValues => {
                    let Some(ExprKind::String(name)) = a.param.as_ref().map(|p| &p.kind) else {
                        return unknown("a label name that is no literal");
                    };
                    let mut counts: BTreeMap<String, f64> = BTreeMap::new();
                    for v in values {
                        *counts.entry(crate::model::GoFloat(v).to_string()).or_default() += 1.0;
                    }
                    out.extend(counts.into_iter().map(|(text, n)| (group.with(name, &text), n)));
                    continue;
                }
                AggregateOp::LimitK | AggregateOp::LimitRatio => return unknown("limits"),
            });
        }
        unique(out)
    }

    fn param(&self, a: &Aggregate, time: i64) -> Result<f64> {
        a.param.as_ref().map_or_else(|| unknown("no parameter"), |p| self.scalar(p, time))
    }
}
