//! Trend, seasonality, forecast, anomaly and change as pure functions over columns.
