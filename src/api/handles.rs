//! What handlers ask of the rest of the server.

use std::future::Future;
use std::pin::Pin;

use crate::alerts::{AlertFilter, AlertRefusal, AlertView, HistoryPage, HistoryQuery, NewAlert};
use crate::exposition::FamilySet;
use crate::model::{Labels, Timestamp};
use crate::promql::MatrixSeries;
use crate::reports::{IndicatorView, Report, ReportSummary};
use crate::scrape::{DroppedTargetView, TargetView};

pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

pub trait AlertsHandle: Send + Sync {
    fn list(&self, filter: AlertFilter) -> Answer<'_, Vec<AlertView>>;
    fn get<'a>(&'a self, id: &'a str) -> Answer<'a, Option<AlertView>>;
    fn create(&self, alert: NewAlert) -> Answer<'_, Result<AlertView, AlertRefusal>>;
    fn acknowledge<'a>(
        &'a self,
        id: &'a str,
        by: &'a str,
        comment: &'a str,
    ) -> Answer<'a, Result<AlertView, AlertRefusal>>;
    fn resolve<'a>(
        &'a self,
        id: &'a str,
        by: &'a str,
        comment: &'a str,
    ) -> Answer<'a, Result<AlertView, AlertRefusal>>;
    fn history(&self, query: HistoryQuery) -> Answer<'_, Result<HistoryPage, AlertRefusal>>;
}

pub trait TargetsHandle: Send + Sync {
    fn targets(&self) -> Vec<TargetView>;
    fn dropped_targets(&self) -> Vec<DroppedTargetView>;
}

/// Calls block: they evaluate expressions and read the state store.
pub trait ReportsHandle: Send + Sync {
    fn indicators(&self, now: Timestamp) -> Vec<IndicatorView>;
    fn history(
        &self,
        name: &str,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
    ) -> Result<Vec<MatrixSeries>, super::ApiError>;
    fn generate(&self, period_ms: i64) -> Answer<'_, Result<Report, super::ApiError>>;
    fn list(&self, limit: usize) -> Result<Vec<ReportSummary>, super::ApiError>;
    fn latest(&self) -> Result<Option<Report>, super::ApiError>;
    fn get(&self, id: &str) -> Result<Option<Report>, super::ApiError>;
}

#[derive(Clone, Debug, PartialEq)]
pub struct RecordedMetric {
    pub name: String,
    pub value: f64,
    pub unit: String,
    pub labels: Labels,
    pub timestamp: Option<Timestamp>,
}

pub trait PushHandle: Send + Sync {
    fn remote_write(&self, body: &[u8], encoding: &str) -> Result<(), super::ApiError>;
    fn put(
        &self,
        group: &Labels,
        body: &[u8],
        replace_all: bool,
        content_type: &str,
        now: Timestamp,
    ) -> Result<(), super::ApiError>;
    fn delete(&self, group: &Labels) -> Result<(), super::ApiError>;
    fn record(&self, metrics: &[RecordedMetric], now: Timestamp) -> Result<(), super::ApiError>;
    /// The present values of what was recorded by JSON.
    fn recorded(&self) -> Vec<RecordedMetric>;
    fn families(&self) -> Vec<FamilySet>;
}
