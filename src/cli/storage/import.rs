//! `streamgate storage import`: history of other servers.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use super::progress::Progress;
use super::{bytes, day, lines, open_to_read, text, warn_of_damage};
use crate::cli::say::say;
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::storage::{
    EXEMPLARS_MAX, ImportOptions, Imported, Importer, Samples, Storage, StorageOptions, prometheus,
};

/// Samples further ahead of the clock are left out.
const AHEAD_MAX_MS: i64 = 600_000;
/// Blocks of history are at most a day long, and no longer than a tenth of what is kept, as Prometheus's.
const BLOCK_MS_MAX: i64 = 86_400_000;
const BLOCK_MS_MIN: i64 = 2 * 3_600_000;
const BUFFER_SAMPLES: usize = 4 << 20;

pub fn run(dir: &Path, files: &[std::path::PathBuf], retention_ms: i64) -> anyhow::Result<ExitCode> {
    let now = Clock::system().now_ms();
    if dir.is_file() {
        anyhow::bail!("{} is a file: the data directory comes first, then what is imported", dir.display());
    }
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    // The ring of exemplars is as large as any that is here already: a server makes it as small as it should be.
    let storage = Storage::open(StorageOptions {
        dir: Some(dir.to_owned()),
        exemplars_max: EXEMPLARS_MAX,
        ..StorageOptions::default()
    })?;
    let options = ImportOptions {
        latest: now.saturating_add(AHEAD_MAX_MS),
        kept_from: now.saturating_sub(retention_ms),
        block_ms: (retention_ms / 10).clamp(BLOCK_MS_MIN, BLOCK_MS_MAX),
        buffer_samples: BUFFER_SAMPLES,
    };
    let mut importer = storage.importer(options)?;
    for file in files {
        one(file, &mut importer).with_context(|| file.display().to_string())?;
    }
    let mut progress = Progress::new("writing blocks");
    let done = importer.finish(|done, all| progress.at(done as u64, all as u64))?;
    drop(progress);
    storage.flush()?;
    report(dir, &done, retention_ms);
    // What is damaged here does not matter to what was imported.
    let _told = warn_of_damage(dir, &storage);
    Ok(ExitCode::SUCCESS)
}

fn one(file: &Path, into: &mut Importer) -> anyhow::Result<()> {
    let mut progress = Progress::new("reading");
    if file.is_dir() {
        if file.join("blocks").is_dir() {
            return own(file, into, &mut progress);
        }
        let all = prometheus::bytes_of(file);
        let done = prometheus::import(file, into, |n| progress.at(n, all))?;
        drop(progress);
        say(format_args!(
            "{}: {} samples of {} series from {} blocks and {} records of the WAL of a Prometheus",
            file.display(),
            done.samples,
            done.series,
            done.blocks,
            done.wal_records
        ));
        for (n, what) in [
            (done.deleted, "samples were deleted there and are left out"),
            (done.unknown, "chunks or records are of a kind that is not known here, and were left out"),
            (
                done.torn_bytes,
                "bytes at the end of its WAL are no whole record, as a crash leaves them, or damaged",
            ),
            (done.nameless, "samples of the WAL belong to a series that it does not name, and were left out"),
        ] {
            if n > 0 {
                eprintln!("warning: {}: {n} {what}", file.display());
            }
        }
        return Ok(());
    }
    if file == Path::new("-") {
        text_or_lines(std::io::stdin().lock(), into, |n| progress.at(n, 0))
    } else {
        let input = File::open(file)?;
        let all = input.metadata().map_or(0, |m| m.len());
        text_or_lines(BufReader::with_capacity(1 << 18, input), into, |n| progress.at(n, all))
    }
}

/// A dump is told from OpenMetrics by how it begins.
fn text_or_lines(
    mut input: impl BufRead,
    into: &mut Importer,
    progress: impl FnMut(u64),
) -> anyhow::Result<()> {
    let begin = input.fill_buf().context("it cannot be read")?;
    if begin.starts_with(&lines::BEGIN[..begin.len().min(lines::BEGIN.len())]) && !begin.is_empty() {
        lines::read(input, into, progress)?;
    } else {
        text::read(input, into, progress)?;
    }
    Ok(())
}

/// A data directory or snapshot of our own, with all that it has.
fn own(dir: &Path, into: &mut Importer, progress: &mut Progress) -> anyhow::Result<()> {
    let storage = open_to_read(dir)?;
    let reader = storage.reader();
    for (family, metadata) in reader.metadata() {
        into.describe(&family, metadata);
    }
    for (labels, exemplars) in reader.exemplars(&[Vec::new()], Timestamp::MIN, Timestamp::MAX) {
        exemplars.into_iter().for_each(|e| into.push_exemplar(&labels, e));
    }
    let names = reader.label_values("__name__", &[], Timestamp::MIN, Timestamp::MAX);
    // Those without a name as well.
    let names: Vec<String> = std::iter::once(String::new()).chain(names).collect();
    let (mut samples, mut series) = (Samples::default(), 0u64);
    let before = into.so_far().samples;
    for (i, name) in names.iter().enumerate() {
        let matcher = [crate::model::Matcher::equal("__name__", name.as_str())];
        for s in reader.select(&matcher, Timestamp::MIN, Timestamp::MAX) {
            samples.clear();
            s.read(Timestamp::MIN, Timestamp::MAX, &mut samples);
            series += 1;
            for sample in samples.in_order() {
                into.push(s.labels(), sample).context("the samples cannot be stored")?;
            }
        }
        progress.at(i as u64 + 1, names.len() as u64);
    }
    say(format_args!("{}: {} samples of {series} series", dir.display(), into.so_far().samples - before));
    if warn_of_damage(dir, &storage) {
        anyhow::bail!(
            "it is damaged, and nothing was imported (hint: `storage dump --format=jsonl` writes what can be read of it, and `storage import` takes that)"
        );
    }
    Ok(())
}

fn report(dir: &Path, done: &Imported, retention_ms: i64) {
    if done.exemplars > 0 {
        say(format_args!(
            "{}: {} exemplars, for a server with --enable-feature=exemplar-storage",
            dir.display(),
            done.exemplars
        ));
    }
    if done.exemplars_left_out > 0 {
        eprintln!(
            "warning: {} exemplars were left out: they are there already, or older than others of their series",
            done.exemplars_left_out
        );
    }
    let Some((first, last)) = done.ts else {
        say(format_args!("{}: nothing was imported", dir.display()));
        return;
    };
    say(format_args!(
        "{}: {} samples from {} to {}: {} new blocks, {} merged with what was there, {}",
        dir.display(),
        done.samples,
        day(first),
        day(last),
        done.blocks_new,
        done.blocks_merged,
        bytes(done.bytes)
    ));
    if done.repeated > 0 {
        say(format_args!("{}: {} samples were there already", dir.display(), done.repeated));
    }
    for (n, what) in [
        (done.conflicting, "samples have another value than what was there, which stays".to_owned()),
        (done.too_late, "samples are more than 10 minutes in the future and were left out (hint: timestamps are seconds in OpenMetrics)".to_owned()),
        (
            done.old,
            format!(
                "samples are older than what a server with --storage.tsdb.retention.time={} keeps: it removes them soon after \
                 its start (hint: start it with a longer one, and say so here as well)",
                crate::model::format_duration_ms(retention_ms)
            ),
        ),
    ] {
        if n > 0 {
            eprintln!("warning: {n} {what}");
        }
    }
}
