//! Indicators, and reports on what they did: on a schedule and when asked for.
//!
//! An *indicator* is an expression with a unit and thresholds ([`Indicator`]); [`Reports`] evaluates them, makes a
//! [`Report`] of a period and keeps it in the state store. A report is put together by the pure
//! [`compose`](compose::compose) from what was measured: columns, alert history, targets.
//!
//! Invariant: every recommendation names the indicator, alert or target and the number that caused it.

mod compose;
pub mod config;
mod indicator;
mod service;
mod view;

pub use compose::alert_status;
pub use indicator::{Indicator, Threshold, shipped_indicators};
pub use service::{Reports, ReportsError, ReportsOptions};
pub use view::{
    IndicatorStatus, IndicatorView, Recommendation, Report, ReportAlert, ReportIndicator, ReportSummary,
    Trend,
};
