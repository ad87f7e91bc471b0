//! Our own metrics, which the metrics library writes in OpenMetrics only, in any format.

use super::{FamilySet, Format, Writer};
use crate::telemetry::Registry;

/// Our own metrics as a complete body. The library's text is read back and written anew, so that text 0.0.4 gets
/// the names that its readers expect (`TYPE x_total counter`, no `info`, `unknown`, `UNIT` or `EOF`).
///
/// # Errors
/// When a collector of the registry fails.
pub fn encode_registry(registry: &Registry, format: Format) -> Result<String, std::fmt::Error> {
    let mut writer = Writer::new(format);
    writer.registry(registry)?;
    Ok(writer.finish())
}

pub(super) fn registry_families(registry: &Registry) -> Result<FamilySet, std::fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    // The library's output is malformed only if a metric is registered under a bad name or twice: a bug of ours that
    // must not take the page down silently.
    FamilySet::parse(Format::OpenMetricsUtf8, text.as_bytes()).map_err(|e| {
        tracing::error!(error = %e, "our own metrics cannot be read back");
        std::fmt::Error
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

    #[test]
    fn our_own_metrics_come_in_both_formats() {
        let mut registry = crate::telemetry::new_registry();
        let (c, g): (Counter, Gauge) = (Counter::default(), Gauge::default());
        let h = Histogram::new([0.5, 1.0]);
        c.inc();
        g.set(7);
        h.observe(0.7);
        registry.register("requests", "Requests", c);
        registry.register("queue_length", "Length of the queue", g);
        registry.register("duration_seconds", "Duration", h);
        let text = encode_registry(&registry, Format::Text).unwrap();
        assert_eq!(
            text,
            "# HELP streamgate_duration_seconds Duration.\n# TYPE streamgate_duration_seconds histogram\n\
             streamgate_duration_seconds_bucket{le=\"0.5\"} 0\nstreamgate_duration_seconds_bucket{le=\"1.0\"} 1\n\
             streamgate_duration_seconds_bucket{le=\"+Inf\"} 1\nstreamgate_duration_seconds_sum 0.7\n\
             streamgate_duration_seconds_count 1\n\
             # HELP streamgate_queue_length Length of the queue.\n# TYPE streamgate_queue_length gauge\nstreamgate_queue_length 7\n\
             # HELP streamgate_requests_total Requests.\n# TYPE streamgate_requests_total counter\nstreamgate_requests_total 1\n"
        );
        let openmetrics = encode_registry(&registry, Format::OpenMetrics).unwrap();
        assert!(
            openmetrics.contains("# TYPE streamgate_requests counter\nstreamgate_requests_total 1.0\n"),
            "{openmetrics}"
        );
        assert!(openmetrics.ends_with("# EOF\n"));
    }
}
