//! Groups and recorded metrics as rows of the state store.

use serde::{Deserialize, Serialize};

use super::group::Group;
use super::record::RecordedMetric;
use crate::exposition::{Family, SeriesValue, format_float, parse_float};
use crate::model::{Labels, Metadata, Timestamp};
use crate::state::{Op, Row, Table};

/// What a key begins with.
const GROUP: &str = "group:";
const METRIC: &str = "metric:";

#[derive(Serialize, Deserialize)]
struct GroupRow {
    labels: Labels,
    push_time: Option<Timestamp>,
    push_failure_time: Option<Timestamp>,
    families: Vec<FamilyRow>,
}

#[derive(Serialize, Deserialize)]
struct FamilyRow {
    name: String,
    metadata: Metadata,
    /// Values as text, since JSON has no infinities.
    series: Vec<(Labels, String)>,
}

#[derive(Serialize, Deserialize)]
struct MetricRow {
    labels: Labels,
    value: String,
    unit: String,
    ts: Timestamp,
}

/// What a row holds.
pub(super) enum Kept {
    Group(Labels, Group),
    Metric(RecordedMetric),
}

fn text(value: f64) -> String {
    let mut out = String::new();
    format_float(&mut out, value);
    out
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("labels, texts and numbers are all representable")
}

fn key(kind: &str, labels: &Labels) -> String {
    let labels = serde_json::to_string(labels).expect("labels are representable");
    format!("{kind}{labels}")
}

pub(super) fn put_group(labels: &Labels, group: &Group, now: Timestamp) -> Op {
    let families = group.families.iter().map(|(name, f)| FamilyRow {
        name: name.clone(),
        metadata: f.metadata.clone(),
        series: f.series.iter().map(|s| (s.labels.clone(), text(s.value))).collect(),
    });
    let row = GroupRow {
        labels: labels.clone(),
        push_time: group.push_time,
        push_failure_time: group.push_failure_time,
        families: families.collect(),
    };
    put(Row { key: key(GROUP, labels), ts: now, body: json(&row) })
}

pub(super) fn delete_group(labels: &Labels) -> Op {
    Op::Delete { table: Table::Pushed, key: key(GROUP, labels) }
}

pub(super) fn put_metric(metric: &RecordedMetric) -> Op {
    let row = MetricRow {
        labels: metric.labels.clone(),
        value: text(metric.value),
        unit: metric.unit.clone(),
        ts: metric.ts,
    };
    put(Row { key: key(METRIC, &metric.labels), ts: metric.ts, body: json(&row) })
}

fn put(row: Row) -> Op {
    Op::Put { table: Table::Pushed, row }
}

/// Reads a row back; `None` if it is not one of ours.
pub(super) fn read(row: &Row) -> Option<Kept> {
    if row.key.starts_with(METRIC) {
        let m: MetricRow = serde_json::from_slice(&row.body).ok()?;
        let value = parse_float(m.value.as_bytes())?;
        return Some(Kept::Metric(RecordedMetric { labels: m.labels, value, unit: m.unit, ts: m.ts }));
    }
    let g: GroupRow = serde_json::from_slice(&row.body).ok()?;
    let mut group =
        Group { push_time: g.push_time, push_failure_time: g.push_failure_time, ..Group::default() };
    for family in g.families {
        let series = family.series.into_iter().map(|(labels, value)| {
            Some(SeriesValue { labels, value: parse_float(value.as_bytes())?, ts: None })
        });
        let series = series.collect::<Option<Vec<_>>>()?;
        group.families.insert(family.name, Family { metadata: family.metadata, series });
    }
    Some(Kept::Group(g.labels, group))
}
