//! What a query answers.

use std::sync::Arc;

use super::charge::Charge;
use crate::model::{FloatHistogram, Labels, Timestamp};

/// A float or a native histogram.
#[derive(Clone, Debug, PartialEq)]
pub enum PointValue {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// One element of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSample {
    pub labels: Labels,
    pub ts: Timestamp,
    pub value: PointValue,
}

/// One series of a range vector: floats and histograms apart, each ascending by time (ms).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MatrixSeries {
    pub labels: Labels,
    pub floats: Vec<(Timestamp, f64)>,
    pub histograms: Vec<(Timestamp, Arc<FloatHistogram>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar {
        ts: Timestamp,
        value: f64,
    },
    String {
        ts: Timestamp,
        value: String,
    },
    /// In the order that the expression gives (`sort`, `topk`), else in none.
    Vector(Vec<VectorSample>),
    /// Sorted by labels.
    Matrix(Vec<MatrixSeries>),
}

/// Warnings and infos, each once, as Prometheus's API shows them: `PromQL info: … (1:5)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

/// What a query cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueryStats {
    /// Samples that the query read, as Prometheus counts them.
    pub total_samples: u64,
    /// Samples that were taken from storage: one that is in several windows of a range counts once.
    pub samples_read: u64,
    /// The most samples that it held at once.
    pub peak_samples: u64,
    pub series_selected: u64,
    /// The most bytes of tables that it held at once.
    pub peak_bytes: u64,
    /// Samples that were not decoded again, for another selector of the expression had decoded them.
    pub samples_reused: u64,
}

/// Samples of one step of a query; [`QueryStats`] has the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSamples {
    pub ts: Timestamp,
    /// Those that it read, as Prometheus counts them.
    pub total: u64,
    /// Those that were taken from storage for it: what an earlier step has taken is not among them.
    pub read: u64,
}

/// What a part of an expression cost. Nodes stand in the order in which they begin to be evaluated: a parent before
/// its children, `depth` deeper.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileNode {
    /// 0 for the whole expression.
    pub depth: usize,
    /// The part as a short text: an operator without its operands, a selector, a literal.
    pub operator: String,
    /// Its place in the text.
    pub pos: super::ast::Pos,
    /// How often it was evaluated; 0 if it never was.
    pub evaluations: u64,
    /// Time in it and its children. Of parts that run within the operator above them, series by series, the time of all
    /// threads is added up.
    pub total: std::time::Duration,
    /// `total` without that of its children.
    pub own: std::time::Duration,
    /// Rows and points that it gave.
    pub series: u64,
    pub samples: u64,
    /// Series that a selector found, and samples that it read from storage; `None` for all else.
    pub selected: Option<(u64, u64)>,
}

#[derive(Debug)]
pub struct QueryResult {
    pub value: Value,
    pub annotations: Annotations,
    pub stats: QueryStats,
    /// The samples of each step, if the request asked for them.
    pub samples_per_step: Vec<StepSamples>,
    /// What each part cost, if the request asked for it.
    pub profile: Vec<ProfileNode>,
    /// The result's memory on the account of all queries: whoever keeps the result keeps this with it.
    pub charge: Charge,
}

impl MatrixSeries {
    /// About what it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let histograms: u64 = self.histograms.iter().map(|(_, h)| histogram_bytes(h)).sum();
        (size_of::<Self>() + label_bytes(&self.labels) + self.floats.capacity() * 16) as u64 + histograms
    }
}

impl Value {
    /// About what it takes in memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Value::Scalar { .. } => 0,
            Value::String { value, .. } => value.len() as u64,
            Value::Matrix(matrix) => matrix.iter().map(MatrixSeries::bytes).sum(),
            Value::Vector(vector) => {
                let sample = |s: &VectorSample| {
                    let own = (size_of::<VectorSample>() + label_bytes(&s.labels)) as u64;
                    own + if let PointValue::Histogram(h) = &s.value { histogram_bytes(h) } else { 0 }
                };
                vector.iter().map(sample).sum()
            }
        }
    }
}

fn label_bytes(labels: &Labels) -> usize {
    /// What stands beside the text of a label set.
    const OVERHEAD: usize = 32;
    labels.as_packed().len() + OVERHEAD
}

fn histogram_bytes(h: &FloatHistogram) -> u64 {
    16 * h.size_in_samples()
}
