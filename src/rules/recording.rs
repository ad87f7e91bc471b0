//! Recording rules: the result of an expression under a new name.
//!
//! Source: Prometheus, `rules/recording.go`.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::file::RuleSpec;
use super::series::SeriesCache;
use crate::model::{Labels, LabelsBuilder, METRIC_NAME};
use crate::promql::VectorSample;

/// What a recording rule keeps between evaluations.
#[derive(Debug, Default)]
pub(super) struct Recording {
    /// The labels of what is written by those of the result: they hardly ever change.
    outputs: HashMap<Labels, Labels, RandomState>,
}

impl Recording {
    /// States what the result `samples` becomes.
    pub fn state(
        &mut self,
        spec: &RuleSpec,
        samples: Vec<VectorSample>,
        limit: u64,
        series: &mut SeriesCache,
    ) -> Result<(), String> {
        if limit > 0 && samples.len() as u64 > limit {
            return Err(format!("exceeded limit of {limit} with {} series", samples.len()));
        }
        // Churn must not let the cache grow past what is in use.
        if self.outputs.len() > 2 * samples.len() + 16 {
            self.outputs.clear();
        }
        for sample in samples {
            let output = match self.outputs.get(&sample.labels) {
                Some(output) => output.clone(),
                None => {
                    let output = output_labels(spec, &sample.labels);
                    self.outputs.insert(sample.labels, output.clone());
                    output
                }
            };
            if !series.state(output, sample.value) {
                return Err(
                    "vector contains metrics with the same labelset after applying rule labels".into()
                );
            }
        }
        Ok(())
    }
}

fn output_labels(spec: &RuleSpec, result: &Labels) -> Labels {
    let mut builder = LabelsBuilder::from(result);
    builder.set(METRIC_NAME, &spec.name);
    for (name, value) in &spec.labels {
        builder.set(name, value);
    }
    builder.build()
}
