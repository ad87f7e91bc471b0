//! Bytes to entries and back: text 0.0.4, OpenMetrics 1.0, remote write.
