//! Evaluates indicators, makes reports on a schedule and when asked, and keeps them.

use std::sync::{Arc, PoisonError, RwLock};

use super::compose::{Measured, compose};
use super::config::Schedule;
use super::{Indicator, IndicatorView, Report, ReportSummary};
use crate::alerts::{AlertFilter, Alerts, HistoryQuery};
use crate::clock::Clock;
use crate::model::{Labels, Timestamp};
use crate::promql::{Engine, MatrixSeries, PointValue, QueryError, QueryRequest, Value, parse};
use crate::state::{Op, Order, Row, Scan, StateError, Store, Table};
use crate::storage::{Reader, Storage};

/// Points of an indicator that a report reads: enough for a trend, and bounded whatever the period.
const POINTS: i64 = 240;
/// State changes that one report takes in at most; the newest win.
const EVENTS_MAX: usize = 10_000;
/// The shortest step of an indicator's series.
const STEP_MIN_MS: i64 = 5_000;

/// What reports are made with.
#[derive(Clone, Debug)]
pub struct ReportsOptions {
    pub engine: Engine,
    pub storage: Storage,
    pub store: Arc<dyn Store>,
    pub alerts: Alerts,
    pub clock: Clock,
    pub indicators: Vec<Indicator>,
    pub schedule: Schedule,
}

#[derive(Debug, thiserror::Error)]
pub enum ReportsError {
    #[error("there is no indicator named {0:?}")]
    UnknownIndicator(String),
    #[error("indicator {name} cannot be evaluated")]
    Query {
        name: String,
        #[source]
        source: QueryError,
    },
    #[error("reports cannot be stored or read")]
    Store(#[from] StateError),
    #[error("a stored report cannot be read: {0}")]
    Decode(String),
    #[error("the work was interrupted")]
    Interrupted,
}

/// Handle to the indicators and reports; cloning is cheap.
#[derive(Clone, Debug)]
pub struct Reports {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    storage: Storage,
    store: Arc<dyn Store>,
    alerts: Alerts,
    clock: Clock,
    watched: RwLock<Arc<Watched>>,
}

/// What a reload replaces.
#[derive(Debug)]
struct Watched {
    indicators: Vec<Indicator>,
    schedule: Schedule,
}

impl Reports {
    #[must_use]
    pub fn new(options: ReportsOptions) -> Self {
        let ReportsOptions { engine, storage, store, alerts, clock, indicators, schedule } = options;
        let watched = RwLock::new(Arc::new(Watched { indicators, schedule }));
        Reports { shared: Arc::new(Shared { engine, storage, store, alerts, clock, watched }) }
    }

    /// Takes over a new configuration; reports that were made stay.
    pub fn reload(&self, indicators: Vec<Indicator>, schedule: Schedule) {
        *self.shared.watched.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Watched { indicators, schedule });
    }

    /// Makes a report each interval and drops those past retention, until the task is dropped.
    pub async fn run(self) {
        loop {
            let schedule = self.watched().schedule;
            // Without a schedule the loop still wakes, so that a reload can start one.
            let interval = if schedule.interval_ms > 0 { schedule.interval_ms } else { 60_000 };
            let now = self.shared.clock.now_ms();
            self.shared.clock.sleep_until_ms(now - now.rem_euclid(interval) + interval).await;
            if schedule.interval_ms > 0
                && let Err(error) = self.generate(schedule.period_ms).await
            {
                tracing::warn!(%error, "a scheduled report could not be made");
            }
        }
    }

    /// The present value of every indicator, one per series; an indicator without data gives none. Blocks.
    #[must_use]
    pub fn indicators(&self, now: Timestamp) -> Vec<IndicatorView> {
        let watched = self.watched();
        let reader = self.shared.storage.reader();
        let mut views = Vec::new();
        for indicator in &watched.indicators {
            let answer = self.shared.engine.evaluate(
                &indicator.query,
                &indicator.expr,
                &QueryRequest::instant(now),
                &reader,
            );
            match answer.map(|r| r.value) {
                Ok(Value::Vector(samples)) => {
                    views.extend(samples.into_iter().filter_map(|s| match s.value {
                        PointValue::Float(value) => Some(view(indicator, s.labels, value, now)),
                        PointValue::Histogram(_) => None,
                    }))
                }
                Ok(Value::Scalar { value, .. }) => views.push(view(indicator, Labels::empty(), value, now)),
                Ok(Value::String { .. } | Value::Matrix(_)) => {}
                Err(error) => {
                    tracing::debug!(indicator = indicator.name, %error, "an indicator could not be evaluated")
                }
            }
        }
        views
    }

    /// The course of one indicator. Blocks.
    ///
    /// # Errors
    /// When there is no such indicator, or its expression fails.
    pub fn history(
        &self,
        name: &str,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
    ) -> Result<Vec<MatrixSeries>, ReportsError> {
        let watched = self.watched();
        let indicator = watched.indicators.iter().find(|i| i.name == name);
        let indicator = indicator.ok_or_else(|| ReportsError::UnknownIndicator(name.to_owned()))?;
        self.range(indicator, from, to, step_ms, &self.shared.storage.reader())
    }

    /// Makes a report of the last `period_ms`, stores it, and drops those past retention.
    ///
    /// # Errors
    /// When an indicator fails or the store does.
    pub async fn generate(&self, period_ms: i64) -> Result<Report, ReportsError> {
        let now = self.shared.clock.now_ms();
        let history = HistoryQuery {
            from: Some(now - period_ms),
            to: Some(now),
            limit: EVENTS_MAX,
            ..HistoryQuery::default()
        };
        let events = self.shared.alerts.history(history).await.map(|page| page.events).unwrap_or_default();
        let alerts = self.shared.alerts.list(AlertFilter::default()).await;
        let this = self.clone();
        let work = move || this.measure_and_store(now, period_ms, events, alerts);
        tokio::task::spawn_blocking(work).await.map_err(|_| ReportsError::Interrupted)?
    }

    /// The newest reports, newest first. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list(&self, limit: usize) -> Result<Vec<ReportSummary>, ReportsError> {
        let scan = Scan { order: Order::NewestFirst, limit: Some(limit), ..Scan::default() };
        let rows = self.shared.store.scan(Table::Reports, &scan)?;
        rows.iter().map(|row| decode(row).map(|r| ReportSummary::from(&r))).collect()
    }

    /// Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn latest(&self) -> Result<Option<Report>, ReportsError> {
        let scan = Scan { order: Order::NewestFirst, limit: Some(1), ..Scan::default() };
        self.shared.store.scan(Table::Reports, &scan)?.first().map(decode).transpose()
    }

    /// Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn get(&self, id: &str) -> Result<Option<Report>, ReportsError> {
        self.shared.store.get(Table::Reports, id)?.as_ref().map(decode).transpose()
    }

    fn watched(&self) -> Arc<Watched> {
        Arc::clone(&self.shared.watched.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn range(
        &self,
        indicator: &Indicator,
        from: Timestamp,
        to: Timestamp,
        step_ms: i64,
        reader: &Reader,
    ) -> Result<Vec<MatrixSeries>, ReportsError> {
        let request = QueryRequest::range(from, to, step_ms.max(1));
        let answer = self.shared.engine.evaluate(&indicator.query, &indicator.expr, &request, reader);
        match answer {
            Ok(result) => Ok(if let Value::Matrix(series) = result.value { series } else { Vec::new() }),
            Err(source) => Err(ReportsError::Query { name: indicator.name.clone(), source }),
        }
    }

    fn measure_and_store(
        &self,
        now: Timestamp,
        period_ms: i64,
        events: Vec<crate::alerts::HistoryEvent>,
        alerts: Vec<crate::alerts::AlertView>,
    ) -> Result<Report, ReportsError> {
        let watched = self.watched();
        let step = (period_ms / POINTS).max(STEP_MIN_MS);
        let mut indicators = Vec::new();
        let reader = self.shared.storage.reader();
        for indicator in &watched.indicators {
            match self.range(indicator, now - period_ms, now, step, &reader) {
                Ok(series) => indicators.push((indicator, series)),
                // One expression that fails (many-to-many, say) must not cost the others their report.
                Err(error) => {
                    tracing::warn!(indicator = indicator.name, %error, "an indicator is missing from a report")
                }
            }
        }
        let id = self.free_id(now)?;
        let targets_down = self.targets_down(now);
        let partial = reader.partial_note();
        let report =
            compose(&Measured { id, now, period_ms, indicators, events, alerts, targets_down, partial });
        let body = serde_json::to_vec(&report).map_err(|e| ReportsError::Decode(e.to_string()))?;
        let row = Row { key: report.id.clone(), ts: now, body };
        let expired = Op::DeleteBefore { table: Table::Reports, before: now - watched.schedule.retention_ms };
        self.shared.store.commit(vec![Op::Put { table: Table::Reports, row }, expired])?;
        Ok(report)
    }

    /// The time of the report in UTC, with a number behind it if that is taken.
    fn free_id(&self, now: Timestamp) -> Result<String, ReportsError> {
        let time = chrono::DateTime::from_timestamp_millis(now).unwrap_or_default();
        let base = time.format("%Y%m%dT%H%M%S%3fZ").to_string();
        let mut id = base.clone();
        let mut n = 1;
        while self.shared.store.get(Table::Reports, &id)?.is_some() {
            n += 1;
            id = format!("{base}-{n}");
        }
        Ok(id)
    }

    fn targets_down(&self, now: Timestamp) -> Vec<Labels> {
        let query = "up == 0";
        let Ok(expr) = parse(query) else { return Vec::new() };
        let answer = self.shared.engine.evaluate(
            query,
            &expr,
            &QueryRequest::instant(now),
            &self.shared.storage.reader(),
        );
        match answer.map(|r| r.value) {
            Ok(Value::Vector(samples)) => {
                samples.into_iter().map(|s| s.labels.without_metric_name()).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn view(indicator: &Indicator, labels: Labels, value: f64, now: Timestamp) -> IndicatorView {
    IndicatorView {
        name: indicator.name.clone(),
        labels: labels.without_metric_name(),
        value,
        unit: indicator.unit.clone(),
        timestamp: now,
        status: indicator.status(value),
        warning: indicator.warning.map(|t| t.to_string()),
        critical: indicator.critical.map(|t| t.to_string()),
        description: indicator.description.clone(),
        expr: indicator.query.clone(),
    }
}

fn decode(row: &Row) -> Result<Report, ReportsError> {
    serde_json::from_slice(&row.body).map_err(|e| ReportsError::Decode(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::{AlertmanagerConfig, AlertsMetrics, Limits, NewAlert, Pipeline, PipelineOptions};
    use crate::http::ClientPool;
    use crate::notify::{HttpTransport, NotifyMetrics};
    use crate::promql::EngineOptions;
    use crate::state::SqliteStore;
    use crate::storage::StorageOptions;
    use crate::telemetry::new_registry;

    const NOW: Timestamp = 1_700_000_000_000;

    async fn reports() -> (Reports, crate::clock::ManualClock) {
        let (clock, hand) = Clock::manual(NOW);
        let storage = Storage::open(StorageOptions::default()).unwrap();
        let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
        let mut registry = new_registry();
        let (_sender, inbox) = tokio::sync::mpsc::channel(1);
        let alerts = Pipeline::start(
            PipelineOptions {
                config: Arc::new(AlertmanagerConfig::default()),
                store: Arc::clone(&store),
                clock: clock.clone(),
                transport: Arc::new(HttpTransport::new(ClientPool::new())),
                external_url: String::new(),
                limits: Limits::default(),
                metrics: AlertsMetrics::register(&mut registry),
                notify_metrics: NotifyMetrics::register(&mut registry),
            },
            inbox,
        )
        .await
        .unwrap();
        let mut batch = storage.appender();
        let series =
            batch.series(&Labels::from_pairs([("__name__", "api_latency_ms"), ("app", "shop")])).unwrap();
        for i in 0..60 {
            batch.append(series, NOW - 3_600_000 + i * 60_000, 120.0).unwrap();
        }
        batch.commit().unwrap();
        let reports = Reports::new(ReportsOptions {
            engine: Engine::new(EngineOptions::default(), clock.clone()),
            storage,
            store,
            alerts,
            clock,
            indicators: super::super::shipped_indicators(),
            schedule: Schedule::default(),
        });
        (reports, hand)
    }

    #[tokio::test]
    async fn a_report_is_kept_and_found_until_retention() {
        let (reports, hand) = reports().await;
        let labels = Labels::from_pairs([("alertname", "Flood"), ("severity", "critical")]);
        let new = NewAlert { labels, annotations: Labels::empty(), generator_url: String::new() };
        reports.shared.alerts.create(new).await.unwrap();
        let report = reports.generate(3_600_000).await.unwrap();
        assert_eq!(report.status, super::super::IndicatorStatus::Critical);
        let latency = report.indicators.iter().find(|i| i.name == "api_latency_ms").unwrap();
        assert_eq!((latency.current, latency.labels.get("app")), (120.0, Some("shop")));
        assert!(
            report
                .recommendations
                .iter()
                .any(|r| r.cause == "api_latency_ms{app=\"shop\"}" && r.value == 120.0)
        );
        assert_eq!(report.alerts.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["Flood"]);
        assert_eq!(reports.get(&report.id).unwrap().as_ref(), Some(&report));
        let second = reports.generate(3_600_000).await.unwrap();
        assert_ne!(second.id, report.id, "two within a millisecond are two");
        assert_eq!(reports.list(10).unwrap().len(), 2);

        hand.advance(std::time::Duration::from_secs(31 * 86_400));
        reports.generate(3_600_000).await.unwrap();
        assert_eq!(reports.list(10).unwrap().len(), 1, "the others are past retention");
        assert!(matches!(reports.history("none", 0, 1, 1), Err(ReportsError::UnknownIndicator(_))));
    }
}
