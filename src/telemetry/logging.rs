//! Log lines in logfmt or JSON with the keys that Prometheus uses: `time`, `level`, `source`, `msg`, then fields.

use std::fmt;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Logfmt,
    Json,
}

/// Starts logging to standard error. `level` is `debug`, `info`, `warn` or `error`. A second call does nothing.
pub fn init_logging(format: LogFormat, level: &str) {
    use tracing_subscriber::{EnvFilter, fmt as subscriber};
    let filter = EnvFilter::new(format!("warn,streamgate={level}"));
    let builder = subscriber::Subscriber::builder()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let _already_set = match format {
        LogFormat::Logfmt => tracing::subscriber::set_global_default(builder.finish()),
        LogFormat::Json => tracing::subscriber::set_global_default(builder.json().finish()),
    };
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Logfmt => "logfmt",
            LogFormat::Json => "json",
        })
    }
}
