//! Log lines in logfmt or JSON with the keys that Prometheus uses: `time`, `level`, `source`, `msg`, then fields.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    #[default]
    Logfmt,
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Logfmt => "logfmt",
            LogFormat::Json => "json",
        })
    }
}

/// Starts logging to standard error. `level` is `debug`, `info`, `warn` or `error`. A second call does nothing.
pub fn init_logging(format: LogFormat, level: &str) {
    use tracing_subscriber::EnvFilter;
    // What libraries say below a warning is of no use to an operator.
    let others = if level == "error" { "error" } else { "warn" };
    let subscriber = tracing_subscriber::fmt::Subscriber::builder()
        .with_env_filter(EnvFilter::new(format!("{others},streamgate={level}")))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(Lines { format })
        .fmt_fields(Fields { format })
        .finish();
    let _already_set = tracing::subscriber::set_global_default(subscriber);
}

/// Writes one event as one line.
#[derive(Clone, Copy, Debug)]
struct Lines {
    format: LogFormat,
}

/// Writes the fields of a span in the form in which [`Lines`] appends them.
#[derive(Clone, Copy, Debug)]
struct Fields {
    format: LogFormat,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Pairs::new(self.format);
        event.record(&mut fields);
        let mut line = Pairs::new(self.format);
        let meta = event.metadata();
        line.text("time", &now());
        line.text("level", level_name(*meta.level()));
        if let (Some(file), Some(number)) = (meta.file(), meta.line()) {
            let name = file.rsplit(['/', '\\']).next().unwrap_or(file);
            line.text("source", &format!("{name}:{number}"));
        }
        line.text("msg", &fields.message);
        line.out.push_str(&fields.out);
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>() {
                line.out.push_str(&fields.fields);
            }
        }
        match self.format {
            LogFormat::Logfmt => writeln!(out, "{}", line.out.trim_start()),
            LogFormat::Json => writeln!(out, "{{{}}}", line.out.trim_start_matches(',')),
        }
    }
}

impl<'a> FormatFields<'a> for Fields {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(
        &self,
        mut out: Writer<'a>,
        fields: R,
    ) -> fmt::Result {
        let mut pairs = Pairs::new(self.format);
        fields.record(&mut pairs);
        out.write_str(&pairs.out)
    }
}

/// RFC 3339 in UTC with milliseconds.
#[allow(
    clippy::disallowed_methods,
    reason = "a log line carries the machine's time also when a test moves the clock"
)]
fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

/// Collects ` key=value` or `,"key":value`; the message stands apart.
struct Pairs {
    format: LogFormat,
    message: String,
    out: String,
}

impl Pairs {
    fn new(format: LogFormat) -> Self {
        Pairs { format, message: String::new(), out: String::new() }
    }

    fn text(&mut self, key: &str, value: &str) {
        match self.format {
            LogFormat::Json => self.raw(key, &quoted(value)),
            LogFormat::Logfmt if is_bare(value) => self.raw(key, value),
            LogFormat::Logfmt => self.raw(key, &quoted(value)),
        }
    }

    /// A value that needs no quotes.
    fn raw(&mut self, key: &str, value: &str) {
        let _infallible = match self.format {
            LogFormat::Logfmt => write!(self.out, " {key}={value}"),
            LogFormat::Json => write!(self.out, ",{}:{value}", quoted(key)),
        };
    }
}

impl Visit for Pairs {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.text(field.name().trim_start_matches("r#"), value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field.name(), &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.raw(field.name(), &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.raw(field.name(), if value { "true" } else { "false" });
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinities.
        if value.is_finite() {
            self.raw(field.name(), &value.to_string());
        } else {
            self.text(field.name(), &value.to_string());
        }
    }
}

fn is_bare(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != '"' && c != '=')
}

fn quoted(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt::Subscriber::builder()
            .with_writer(move || writer.clone())
            .event_format(Lines { format })
            .fmt_fields(Fields { format })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("scrape", job = "node", target = "h:1");
            let _inside = span.enter();
            tracing::warn!(n = 3, ok = false, error = %"a \"b\"\nc", inf = f64::INFINITY, "It is late");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn logfmt_has_prometheus_keys() {
        let line = logged(LogFormat::Logfmt);
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.starts_with("time=20") && time.ends_with('Z'), "{line}");
        assert!(rest.starts_with("level=WARN source=logging.rs:"), "{line}");
        let (_, rest) = rest.split_once(" msg=").unwrap();
        assert_eq!(
            rest,
            "\"It is late\" n=3 ok=false error=\"a \\\"b\\\"\\nc\" inf=inf job=node target=h:1\n"
        );
    }

    #[test]
    fn json_is_json() {
        let value: serde_json::Value = serde_json::from_str(&logged(LogFormat::Json)).unwrap();
        assert_eq!(value["level"], "WARN");
        assert_eq!(value["msg"], "It is late");
        assert_eq!(value["n"], 3);
        assert_eq!(value["error"], "a \"b\"\nc");
        assert_eq!(value["inf"], "inf");
        assert_eq!(value["job"], "node");
    }
}
