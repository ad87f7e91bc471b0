//! This machine's metrics from /proc and /sys under node_exporter's names, handed to ingest.
