//! Indicators: what is watched, in which unit, and from where on it is trouble.

use std::fmt;
use std::str::FromStr;

use super::IndicatorStatus;
use crate::promql::ast::Expr;

/// A bound that a value must not pass, either way: `> 90`, `< 5`, `>= 1`, `<= 0`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    pub side: Side,
    pub bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Above,
    AtLeast,
    Below,
    AtMost,
}

impl Threshold {
    /// Whether `value` is past the bound; NaN never is.
    #[must_use]
    pub fn is_crossed_by(&self, value: f64) -> bool {
        match self.side {
            Side::Above => value > self.bound,
            Side::AtLeast => value >= self.bound,
            Side::Below => value < self.bound,
            Side::AtMost => value <= self.bound,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Above => ">",
            Side::AtLeast => ">=",
            Side::Below => "<",
            Side::AtMost => "<=",
        };
        write!(f, "{side} {}", self.bound)
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let sides = [(">=", Side::AtLeast), ("<=", Side::AtMost), (">", Side::Above), ("<", Side::Below)];
        let found =
            sides.iter().find_map(|(sign, side)| trimmed.strip_prefix(sign).map(|rest| (*side, rest)));
        let (side, rest) =
            found.ok_or_else(|| format!("{text:?} is no threshold: write it as \"> 90\" or \"< 5\""))?;
        match rest.trim().parse::<f64>() {
            Ok(bound) if bound.is_finite() => Ok(Threshold { side, bound }),
            _ => Err(format!("{text:?} is no threshold: {:?} is not a number", rest.trim())),
        }
    }
}

/// What is watched. One indicator may give several series.
#[derive(Clone, Debug)]
pub struct Indicator {
    pub name: String,
    pub description: String,
    /// The expression as it was written.
    pub query: String,
    pub expr: Expr,
    pub unit: String,
    pub warning: Option<Threshold>,
    pub critical: Option<Threshold>,
}

impl Indicator {
    /// The status of a value; NaN is healthy, since it says nothing.
    #[must_use]
    pub fn status(&self, value: f64) -> IndicatorStatus {
        let crossed = |t: &Option<Threshold>| t.is_some_and(|t| t.is_crossed_by(value));
        if crossed(&self.critical) {
            IndicatorStatus::Critical
        } else if crossed(&self.warning) {
            IndicatorStatus::Warning
        } else {
            IndicatorStatus::Healthy
        }
    }
}

/// Name, description, expression, unit, warning, critical.
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

/// Filesystems that hold no data of their own are left out; they are always full or always empty.
const SHIPPED: [Row; 13] = [
    (
        "host_cpu_usage",
        "Share of CPU time that is not idle",
        "100 * (1 - sum by (instance) (rate(node_cpu_seconds_total{mode=~\"idle|iowait\"}[1m])) / on (instance) count by (instance) (node_cpu_seconds_total{mode=\"idle\"}))",
        "%",
        "> 85",
        "> 95",
    ),
    (
        "host_memory_usage",
        "Share of memory that is not available",
        "100 * (1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes)",
        "%",
        "> 85",
        "> 95",
    ),
    (
        "host_filesystem_usage",
        "Share of a filesystem that is used",
        "100 * (1 - node_filesystem_avail_bytes{fstype!~\"tmpfs|ramfs|squashfs|overlay|iso9660|erofs\"} / node_filesystem_size_bytes)",
        "%",
        "> 80",
        "> 92",
    ),
    (
        "host_load_per_cpu",
        "Load average of one minute, per CPU",
        "node_load1 / on (instance) count by (instance) (node_cpu_seconds_total{mode=\"idle\"})",
        "",
        "> 2",
        "> 4",
    ),
    (
        "host_cpu_pressure",
        "Share of time in which a task waited for a CPU",
        "100 * rate(node_pressure_cpu_waiting_seconds_total[1m])",
        "%",
        "> 50",
        "> 90",
    ),
    (
        "host_io_pressure",
        "Share of time in which all tasks waited for I/O",
        "100 * rate(node_pressure_io_stalled_seconds_total[1m])",
        "%",
        "> 20",
        "> 50",
    ),
    (
        "host_file_descriptors",
        "Share of the system's file handles that are in use",
        "100 * node_filefd_allocated / node_filefd_maximum",
        "%",
        "> 70",
        "> 90",
    ),
    ("targets_down", "Targets whose last scrape failed", "count(up == 0) or vector(0)", "targets", "> 0", ""),
    (
        "notifications_pending",
        "Notifications that no receiver has taken yet",
        "sum(streamgate_notifications_outbox_pending)",
        "notifications",
        "> 10",
        "> 100",
    ),
    ("memory_usage_mb", "Memory in use, as recorded", "memory_usage_mb", "MB", "> 400", "> 500"),
    ("cpu_usage_percent", "CPU in use, as recorded", "cpu_usage_percent", "%", "> 60", "> 80"),
    ("api_latency_ms", "Latency, as recorded", "api_latency_ms", "ms", "> 50", "> 100"),
    ("cache_hit_rate", "Cache hits, as recorded", "cache_hit_rate", "%", "< 90", ""),
];

/// The indicators that run when the configuration names none: the host's, our own health, and four well-known names
/// that a program may record.
#[must_use]
pub fn shipped_indicators() -> Vec<Indicator> {
    SHIPPED.iter().map(shipped).collect()
}

fn shipped(&(name, description, query, unit, warning, critical): &Row) -> Indicator {
    let threshold =
        |t: &str| (!t.is_empty()).then(|| t.parse().expect("a test parses every shipped threshold"));
    Indicator {
        name: name.to_owned(),
        description: description.to_owned(),
        query: query.to_owned(),
        expr: crate::promql::parse(query).expect("a test parses every shipped expression"),
        unit: unit.to_owned(),
        warning: threshold(warning),
        critical: threshold(critical),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_indicator_is_sound() {
        let names: std::collections::BTreeSet<String> =
            shipped_indicators().into_iter().map(|i| i.name).collect();
        assert_eq!(names.len(), SHIPPED.len(), "names are unique");
    }

    #[test]
    fn thresholds_look_either_way() {
        for (text, value, crossed) in [
            ("> 5", 5.0, false),
            (">5", 5.1, true),
            (">= 5", 5.0, true),
            ("< 90", 89.0, true),
            ("<=1", 1.0, true),
            ("< 1", f64::NAN, false),
        ] {
            assert_eq!(text.parse::<Threshold>().unwrap().is_crossed_by(value), crossed, "{text} {value}");
        }
        for text in ["", "5", "> x", "= 5", "> NaN"] {
            assert!(text.parse::<Threshold>().is_err(), "{text}");
        }
    }

    #[test]
    fn critical_wins_over_warning() {
        let mut i = shipped(&SHIPPED[9]);
        assert_eq!(
            [400.0, 401.0, 501.0].map(|v| i.status(v)),
            [IndicatorStatus::Healthy, IndicatorStatus::Warning, IndicatorStatus::Critical]
        );
        i.critical = None;
        assert_eq!(i.status(501.0), IndicatorStatus::Warning);
    }
}
