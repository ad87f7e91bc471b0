//! `streamgate storage …`: work on a data directory that no server has open.

mod dump;
mod import;
mod inspect;
mod lines;
mod progress;
mod text;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use crate::model::{Timestamp, parse_duration_ms};
use crate::storage::{EXEMPLARS_MAX, Storage, StorageError, StorageOptions};

/// What `streamgate storage` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum StorageCommand {
    /// Show blocks, bytes per sample, metrics by series and churn, labels.
    #[command(visible_alias = "analyze", visible_alias = "list")]
    Inspect {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Rows of each table.
        #[arg(long, value_name = "N", default_value_t = 10)]
        limit: usize,
    },
    /// Read every checksum; one line for each problem, exit code 1 if there is one.
    Verify {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Write samples to standard output, as OpenMetrics with timestamps or with everything that is stored.
    Dump {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Selector of the series; can be repeated.
        #[arg(long = "match", value_name = "SELECTOR")]
        matchers: Vec<String>,
        /// `openmetrics`, which other programs read and which lacks native histograms, staleness markers, start times and
        /// exemplars; or `jsonl`, which has everything and can be imported.
        #[arg(long, value_name = "FORMAT", default_value = "openmetrics", value_parser = ["openmetrics", "jsonl"])]
        format: String,
        /// First time, RFC 3339 or Unix seconds.
        #[arg(long, alias = "min-time", value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
        start: Option<Timestamp>,
        /// Last time, RFC 3339 or Unix seconds.
        #[arg(long, alias = "max-time", value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
        end: Option<Timestamp>,
    },
    /// Take in OpenMetrics text with timestamps or a dump (`-` is standard input), or blocks of Prometheus or StreamGate.
    Import {
        /// The data directory that is imported into; made if it is not there.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Files of text, a block or data directory of Prometheus, a data directory or snapshot of StreamGate.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// How long the server keeps samples: what is older is warned of.
        #[arg(long = "storage.tsdb.retention.time", value_name = "DURATION", default_value = "15d", value_parser = duration)]
        retention_ms: i64,
    },
}

fn duration(text: &str) -> Result<i64, String> {
    parse_duration_ms(text).map_err(|e| e.to_string())
}

fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(seconds) = text.parse::<f64>()
        && (seconds * 1000.0).abs() < (1i64 << 53) as f64
    {
        #[allow(clippy::cast_possible_truncation, reason = "below 2^53")]
        return Ok((seconds * 1000.0).round() as i64);
    }
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|t| t.timestamp_millis())
        .map_err(|_| "it must be RFC 3339, such as 2026-01-01T00:00:00Z, or Unix seconds".to_owned())
}

/// Runs the command to its exit code.
pub(super) fn run(command: StorageCommand) -> ExitCode {
    let result = match command {
        StorageCommand::Inspect { dir, limit } => inspect::run(&dir, limit),
        StorageCommand::Verify { dir } => verify::run(&dir),
        StorageCommand::Dump { dir, matchers, format, start, end } => {
            let range = (start.unwrap_or(Timestamp::MIN), end.unwrap_or(Timestamp::MAX));
            if format == "jsonl" {
                dump::run_lines(&dir, &matchers, range)
            } else {
                dump::run(&dir, &matchers, range.0, range.1)
            }
        }
        StorageCommand::Import { dir, files, retention_ms } => import::run(&dir, &files, retention_ms),
    };
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("streamgate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether whoever read the output wanted no more.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// Opens a data directory to look at it.
fn open_to_read(dir: &Path) -> Result<Storage, StorageError> {
    Storage::open(StorageOptions {
        dir: Some(dir.to_owned()),
        read_only: true,
        exemplars_max: EXEMPLARS_MAX,
        ..StorageOptions::default()
    })
}

/// Says on standard error what of a data directory could not be read so far; whether there is something.
fn warn_of_damage(dir: &Path, storage: &Storage) -> bool {
    let stats = storage.stats();
    if stats.damaged > 0 {
        let at_least = if stats.damaged_uncounted > 0 { "at least " } else { "" };
        eprintln!(
            "warning: {}: {} damaged files and pieces of files are left out, of the WAL {at_least}{} samples (hint: streamgate storage verify {0})",
            dir.display(),
            stats.damaged,
            stats.lost_samples
        );
    }
    let blocks = storage.damaged_blocks();
    for block in &blocks {
        eprintln!(
            "warning: {}: it is damaged, and what cannot be read of it is left out (hint: streamgate storage verify {})",
            block.display(),
            dir.display()
        );
    }
    stats.damaged > 0 || !blocks.is_empty()
}

/// Exit code 1 if something was left out.
fn exit_code(is_whole: bool) -> ExitCode {
    if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A time for people; nothing for what lies out of the calendar.
fn day(ts: Timestamp) -> String {
    chrono::DateTime::from_timestamp_millis(ts)
        .map_or_else(|| ts.to_string(), |t| t.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Bytes for people.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}
