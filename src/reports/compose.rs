//! From what was measured to a report. Pure.

use std::collections::BTreeMap;

use super::{Indicator, IndicatorStatus, Recommendation, Report, ReportAlert, ReportIndicator, Trend};
use crate::alerts::{AlertView, AlertViewState, HistoryEvent, HistoryEventKind};
use crate::analysis::{LinearFit, fit_line};
use crate::model::{Labels, Timestamp, format_duration_ms};
use crate::promql::MatrixSeries;

/// A line is taken for a trend when it explains at least so much of the variance.
const TREND_R_SQUARED: f64 = 0.7;
/// A trend is looked ahead for so many periods of the report.
const TREND_PERIODS_AHEAD: f64 = 4.0;
/// An alert that fired so often in one period flaps.
const FLAPPING_TIMES: usize = 3;
/// An alert that nobody has acknowledged for so long needs an owner.
const UNACKNOWLEDGED_MS: i64 = 30 * 60_000;

/// Everything that a report is made of.
#[derive(Debug)]
pub struct Measured<'a> {
    pub id: String,
    pub now: Timestamp,
    pub period_ms: i64,
    /// Each indicator with its series over the period.
    pub indicators: Vec<(&'a Indicator, Vec<MatrixSeries>)>,
    /// State changes within the period, in any order.
    pub events: Vec<HistoryEvent>,
    /// Alerts as they are now.
    pub alerts: Vec<AlertView>,
    /// Labels of the targets whose last scrape failed.
    pub targets_down: Vec<Labels>,
    /// What is to be said of samples that could not be read.
    pub partial: Option<&'static str>,
}

/// Puts a report together.
#[must_use]
pub fn compose(measured: &Measured<'_>) -> Report {
    let mut recommendations = Vec::new();
    let mut indicators = Vec::new();
    for (indicator, series) in &measured.indicators {
        for s in series {
            if let Some(row) = summarise(indicator, s) {
                recommendations.extend(advise_on_indicator(indicator, &row, measured.period_ms));
                indicators.push(row);
            }
        }
    }
    let alerts = list_alerts(measured);
    recommendations.extend(advise_on_flapping(&alerts));
    recommendations.extend(advise_on_unacknowledged(measured));
    recommendations.extend(measured.targets_down.iter().map(|labels| Recommendation {
        severity: IndicatorStatus::Critical,
        text: format!("Target {labels} cannot be scraped: see its last error under /api/v1/targets."),
        cause: format!("up{labels}"),
        value: 0.0,
    }));
    recommendations.extend(measured.partial.map(|note| Recommendation {
        severity: IndicatorStatus::Warning,
        text: format!("Some of the samples of this report are missing: {note}."),
        cause: "storage".to_owned(),
        value: 0.0,
    }));
    recommendations.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cause.cmp(&b.cause)));
    let worst_alert =
        measured.alerts.iter().filter(|a| a.state == AlertViewState::Firing).map(alert_status).max();
    let worst_indicator = indicators.iter().map(|i| i.status).max();
    let status = worst_indicator.max(worst_alert).unwrap_or(IndicatorStatus::Healthy);
    let summary = summary(&indicators, &alerts, measured);
    Report {
        id: measured.id.clone(),
        generated_at: measured.now,
        period_ms: measured.period_ms,
        from: measured.now - measured.period_ms,
        to: measured.now,
        status,
        summary,
        indicators,
        alerts,
        recommendations,
    }
}

/// The status that a firing alert gives: `critical` and `page` are critical, everything else is a warning but `info`
/// and `none`.
#[must_use]
pub fn alert_status(alert: &AlertView) -> IndicatorStatus {
    match alert.severity.as_str() {
        "critical" | "page" | "emergency" => IndicatorStatus::Critical,
        "info" | "none" => IndicatorStatus::Healthy,
        _ => IndicatorStatus::Warning,
    }
}

/// One row of the report; `None` if the series has no finite value.
fn summarise(indicator: &Indicator, series: &MatrixSeries) -> Option<ReportIndicator> {
    let finite: Vec<(Timestamp, f64)> =
        series.floats.iter().copied().filter(|(_, v)| v.is_finite()).collect();
    let (_, current) = *finite.last()?;
    let (ts, vs): (Vec<_>, Vec<_>) = finite.into_iter().unzip();
    Some(ReportIndicator {
        name: indicator.name.clone(),
        labels: series.labels.without_metric_name(),
        unit: indicator.unit.clone(),
        status: indicator.status(current),
        current,
        min: vs.iter().copied().fold(f64::INFINITY, f64::min),
        max: vs.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        avg: vs.iter().map(|v| v / vs.len() as f64).sum(),
        trend: fit_line(&ts, &vs).map(|fit| trend(&fit)),
    })
}

fn trend(fit: &LinearFit) -> Trend {
    Trend {
        slope_per_second: fit.slope_per_second,
        window_seconds: fit.window_seconds,
        samples: fit.samples,
        r_squared: fit.r_squared,
    }
}

fn advise_on_indicator(
    indicator: &Indicator,
    row: &ReportIndicator,
    period_ms: i64,
) -> Option<Recommendation> {
    let cause = if row.labels.is_empty() { row.name.clone() } else { format!("{}{}", row.name, row.labels) };
    let unit = if row.unit.is_empty() { String::new() } else { format!(" {}", row.unit) };
    let crossed = match row.status {
        IndicatorStatus::Critical => indicator.critical,
        IndicatorStatus::Warning => indicator.warning,
        IndicatorStatus::Healthy => None,
    };
    if let Some(threshold) = crossed {
        let text = format!(
            "{cause} is at {}{unit} (threshold {threshold}; between {} and {} in this period): {}.",
            rounded(row.current),
            rounded(row.min),
            rounded(row.max),
            if row.status == IndicatorStatus::Critical { "act on it now" } else { "look into it" },
        );
        return Some(Recommendation { severity: row.status, text, cause, value: row.current });
    }
    let trend = row.trend.filter(|t| t.r_squared >= TREND_R_SQUARED)?;
    let threshold = indicator.critical.or(indicator.warning)?;
    let seconds = (threshold.bound - row.current) / trend.slope_per_second;
    let ahead = TREND_PERIODS_AHEAD * period_ms as f64 / 1000.0;
    if !(seconds.is_finite() && seconds > 0.0 && seconds <= ahead) {
        return None;
    }
    let text = format!(
        "{cause} is at {}{unit} and moves by {}{unit} an hour: it passes {threshold} in about {}. Plan for it.",
        rounded(row.current),
        rounded(trend.slope_per_second * 3600.0),
        format_duration_ms((seconds / 60.0).ceil() as i64 * 60_000)
    );
    Some(Recommendation { severity: IndicatorStatus::Warning, text, cause, value: trend.slope_per_second })
}

/// A number as a text says it: with four digits behind the point at most, and no zeros at its end.
fn rounded(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Each firing within the period, and what fired before it and still does; by time.
fn list_alerts(measured: &Measured<'_>) -> Vec<ReportAlert> {
    let mut events: Vec<&HistoryEvent> = measured.events.iter().collect();
    events.sort_by_key(|e| e.at);
    let mut list: Vec<ReportAlert> = Vec::new();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        match event.kind {
            HistoryEventKind::Fired => {
                open.insert(&event.alert_id, list.len());
                list.push(ReportAlert {
                    id: event.alert_id.clone(),
                    name: event.labels.get("alertname").unwrap_or("").to_owned(),
                    severity: event.severity.clone(),
                    state: "firing".to_owned(),
                    labels: event.labels.clone(),
                    fired_at: event.at,
                    resolved_at: None,
                });
            }
            HistoryEventKind::Acknowledged => {
                if let Some(i) = open.get(event.alert_id.as_str()) {
                    list[*i].state = "acknowledged".to_owned();
                }
            }
            HistoryEventKind::Resolved => {
                if let Some(i) = open.remove(event.alert_id.as_str()) {
                    list[i].state = "resolved".to_owned();
                    list[i].resolved_at = Some(event.at);
                }
            }
            HistoryEventKind::Escalated => {}
        }
    }
    for alert in measured.alerts.iter().filter(|a| a.state != AlertViewState::Resolved) {
        if !open.contains_key(alert.id.as_str()) {
            list.push(ReportAlert {
                id: alert.id.clone(),
                name: alert.labels.get("alertname").unwrap_or("").to_owned(),
                severity: alert.severity.clone(),
                state: if alert.state == AlertViewState::Acknowledged { "acknowledged" } else { "firing" }
                    .to_owned(),
                labels: alert.labels.clone(),
                fired_at: alert.starts_at,
                resolved_at: None,
            });
        }
    }
    list.sort_by_key(|a| a.fired_at);
    list
}

fn advise_on_flapping(alerts: &[ReportAlert]) -> Vec<Recommendation> {
    let mut times: BTreeMap<&str, (&ReportAlert, usize)> = BTreeMap::new();
    for alert in alerts {
        times.entry(&alert.id).or_insert((alert, 0)).1 += 1;
    }
    let flapping = times.into_values().filter(|(_, n)| *n >= FLAPPING_TIMES);
    flapping
        .map(|(alert, n)| Recommendation {
            severity: IndicatorStatus::Warning,
            text: format!(
                "Alert {} fired {n} times in this period: a longer `for` or `keep_firing_for` would calm it.",
                alert.labels
            ),
            cause: format!("alert {}", alert.id),
            value: n as f64,
        })
        .collect()
}

fn advise_on_unacknowledged(measured: &Measured<'_>) -> Vec<Recommendation> {
    let waiting =
        |a: &&AlertView| a.state == AlertViewState::Firing && measured.now - a.starts_at >= UNACKNOWLEDGED_MS;
    let advise = |a: &AlertView| {
        let firing_ms = measured.now - a.starts_at;
        Recommendation {
            severity: alert_status(a).max(IndicatorStatus::Warning),
            text: format!(
                "Alert {} has been firing for {} and nobody has acknowledged it: give it an owner.",
                a.labels,
                format_duration_ms(firing_ms / 60_000 * 60_000)
            ),
            cause: format!("alert {}", a.id),
            value: firing_ms as f64 / 1000.0,
        }
    };
    measured.alerts.iter().filter(waiting).map(advise).collect()
}

/// A period as the API names it: `1h`, `24h`, `7d`.
fn period_name(ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    match ms / DAY_MS {
        1 if ms == DAY_MS => "24h".to_owned(),
        days if days > 0 && ms % DAY_MS == 0 => format!("{days}d"),
        _ => format_duration_ms(ms),
    }
}

fn summary(indicators: &[ReportIndicator], alerts: &[ReportAlert], measured: &Measured<'_>) -> String {
    let count = |status| indicators.iter().filter(|i| i.status == status).count();
    let firing = alerts.iter().filter(|a| a.resolved_at.is_none()).count();
    let several = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut text = format!(
        "Last {}: {}, {} critical, {} warning; {}, {firing} not resolved",
        period_name(measured.period_ms),
        several(indicators.len(), "indicator"),
        count(IndicatorStatus::Critical),
        count(IndicatorStatus::Warning),
        several(alerts.len(), "alert"),
    );
    match measured.targets_down.len() {
        0 => {}
        1 => text.push_str("; 1 target is down"),
        n => text.push_str(&format!("; {n} targets are down")),
    }
    text.push('.');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::ast::{Expr, ExprKind};

    const NOW: Timestamp = 1_700_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn indicator(warning: &str, critical: &str) -> Indicator {
        Indicator {
            name: "disk".into(),
            description: String::new(),
            query: "1".into(),
            expr: Expr { kind: ExprKind::Number(1.0), pos: 0..1 },
            unit: "%".into(),
            warning: warning.parse().ok(),
            critical: critical.parse().ok(),
        }
    }

    fn series(values: impl Iterator<Item = f64>) -> MatrixSeries {
        let floats = values.enumerate().map(|(i, v)| (NOW - HOUR + i as i64 * 60_000, v)).collect();
        MatrixSeries { labels: Labels::from_pairs([("mount", "/")]), floats, histograms: Vec::new() }
    }

    fn event(at: Timestamp, kind: HistoryEventKind) -> HistoryEvent {
        HistoryEvent {
            at,
            alert_id: "a1".into(),
            kind,
            labels: Labels::from_pairs([("alertname", "Down")]),
            annotations: Labels::empty(),
            severity: "page".into(),
            by: None,
            comment: None,
            receiver: None,
        }
    }

    fn report(
        indicators: Vec<(&Indicator, Vec<MatrixSeries>)>,
        events: Vec<HistoryEvent>,
        targets_down: Vec<Labels>,
    ) -> Report {
        compose(&Measured {
            id: "r".into(),
            now: NOW,
            period_ms: HOUR,
            indicators,
            events,
            alerts: Vec::new(),
            targets_down,
            partial: None,
        })
    }

    #[test]
    fn a_healthy_hour_recommends_nothing() {
        let i = indicator("> 80", "> 90");
        let r = report(
            vec![(&i, vec![series((0..60).map(|n| 40.0 + f64::from(n % 2)))])],
            Vec::new(),
            Vec::new(),
        );
        assert_eq!((r.status, r.recommendations.len()), (IndicatorStatus::Healthy, 0), "{r:?}");
        assert_eq!((r.indicators[0].min, r.indicators[0].max), (40.0, 41.0));
    }

    #[test]
    fn each_recommendation_names_its_cause_and_number() {
        let i = indicator("> 80", "> 90");
        let full = report(vec![(&i, vec![series(std::iter::repeat_n(95.0, 60))])], Vec::new(), Vec::new());
        assert_eq!(full.status, IndicatorStatus::Critical);
        assert_eq!(
            (full.recommendations[0].cause.as_str(), full.recommendations[0].value),
            ("disk{mount=\"/\"}", 95.0)
        );

        let filling = report(
            vec![(&i, vec![series((0..60).map(|n| 20.0 + f64::from(n) * 0.9))])],
            Vec::new(),
            Vec::new(),
        );
        assert!(filling.recommendations[0].text.contains("passes > 90"), "{filling:?}");

        let down = report(Vec::new(), Vec::new(), vec![Labels::from_pairs([("job", "app")])]);
        assert_eq!(down.recommendations[0].cause, "up{job=\"app\"}");
    }

    #[test]
    fn a_summary_names_the_period_as_it_was_asked_for() {
        let day = 24 * HOUR;
        for (ms, name) in [(HOUR, "1h"), (day, "24h"), (7 * day, "7d"), (30 * day, "30d"), (90_000, "1m30s")]
        {
            assert_eq!(period_name(ms), name);
        }
        let i = indicator("> 80", "> 90");
        let r = report(vec![(&i, vec![series(std::iter::repeat_n(95.0, 60))])], Vec::new(), Vec::new());
        assert_eq!(r.summary, "Last 1h: 1 indicator, 1 critical, 0 warning; 0 alerts, 0 not resolved.");
        let text = &r.recommendations[0].text;
        assert!(text.contains("is at 95 % (threshold > 90; between 95 and 95 "), "{text}");
        assert_eq!((rounded(0.5), rounded(1e-9), rounded(-20.0)), ("0.5".into(), "0".into(), "-20".into()));
    }

    #[test]
    fn alerts_are_paired_and_flapping_is_named() {
        let mut events = Vec::new();
        for n in 0..3 {
            events.push(event(NOW - 600_000 + n * 100_000, HistoryEventKind::Fired));
            events.push(event(NOW - 550_000 + n * 100_000, HistoryEventKind::Resolved));
        }
        let r = report(Vec::new(), events, Vec::new());
        assert_eq!(r.alerts.len(), 3);
        assert!(r.alerts.iter().all(|a| a.state == "resolved" && a.resolved_at.is_some()));
        assert_eq!((r.recommendations.len(), r.recommendations[0].value), (1, 3.0));
    }
}
