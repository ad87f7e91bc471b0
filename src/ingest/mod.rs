//! The one road from bytes to the appender: parse, relabel, limits, series cache, staleness, pushed groups.
