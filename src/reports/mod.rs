//! Indicators, reports on a schedule, recommendations.

mod view;

pub use view::{IndicatorStatus, IndicatorView, Recommendation, Report, ReportAlert, ReportIndicator, Trend};
