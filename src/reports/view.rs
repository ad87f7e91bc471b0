//! Indicators and reports as they are stored and shown.

use crate::model::{Labels, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IndicatorStatus {
    Healthy,
    Warning,
    Critical,
}

/// The current value of one indicator (one per series that its expression gives).
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct IndicatorView {
    pub name: String,
    pub labels: Labels,
    pub value: f64,
    pub unit: String,
    /// Milliseconds here; the API writes RFC 3339.
    pub timestamp: Timestamp,
    pub status: IndicatorStatus,
    pub warning: Option<String>,
    pub critical: Option<String>,
    pub description: String,
    pub expr: String,
}

/// A fitted straight line over a window.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Trend {
    /// Units per second.
    pub slope_per_second: f64,
    /// Length of the window that was fitted, in seconds.
    pub window_seconds: f64,
    /// How many samples were fitted.
    pub samples: usize,
    /// Share of the variance that the line explains, 0 to 1.
    pub r_squared: f64,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReportIndicator {
    pub name: String,
    pub labels: Labels,
    pub unit: String,
    pub status: IndicatorStatus,
    pub current: f64,
    pub min: f64,
    pub max: f64,
    pub avg: f64,
    /// Too few samples give none.
    pub trend: Option<Trend>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReportAlert {
    pub id: String,
    pub name: String,
    pub severity: String,
    pub state: String,
    pub labels: Labels,
    pub fired_at: Timestamp,
    pub resolved_at: Option<Timestamp>,
}

/// What to do, and the number that says so.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Recommendation {
    pub severity: IndicatorStatus,
    pub text: String,
    /// The indicator, alert or target that caused it.
    pub cause: String,
    pub value: f64,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Report {
    pub id: String,
    pub generated_at: Timestamp,
    pub period_ms: i64,
    pub from: Timestamp,
    pub to: Timestamp,
    pub status: IndicatorStatus,
    pub summary: String,
    pub indicators: Vec<ReportIndicator>,
    pub alerts: Vec<ReportAlert>,
    pub recommendations: Vec<Recommendation>,
}

/// A report without its contents, for lists.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReportSummary {
    pub id: String,
    pub generated_at: Timestamp,
    pub period_ms: i64,
    pub status: IndicatorStatus,
    pub summary: String,
}

impl From<&Report> for ReportSummary {
    fn from(r: &Report) -> Self {
        ReportSummary {
            id: r.id.clone(),
            generated_at: r.generated_at,
            period_ms: r.period_ms,
            status: r.status,
            summary: r.summary.clone(),
        }
    }
}
