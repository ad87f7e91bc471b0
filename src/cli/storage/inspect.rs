//! `streamgate storage inspect`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use super::{bytes, day, exit_code, open_to_read, warn_of_damage};
use crate::storage::{Inspection, StorageStats};

pub fn run(dir: &Path, limit: usize) -> anyhow::Result<ExitCode> {
    let storage = open_to_read(dir)?;
    let text = describe(&storage.inspect(), &storage.stats(), limit)?;
    let wal = folder_bytes(&dir.join("wal"));
    let aside = folder_bytes(&dir.join("quarantine"));
    let mut out = std::io::stdout().lock();
    write!(out, "{text}")?;
    writeln!(out, "\nWAL: {} files, {}", wal.0, bytes(wal.1))?;
    if aside.0 > 0 {
        writeln!(out, "Set aside as damaged, in quarantine/: {} files, {}", aside.0, bytes(aside.1))?;
    }
    out.flush()?;
    Ok(exit_code(!warn_of_damage(dir, &storage)))
}

/// How many files a folder has, and their bytes.
fn folder_bytes(dir: &Path) -> (u64, u64) {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|f| f.metadata().ok()).fold((0, 0), |all, m| (all.0 + 1, all.1 + m.len()))
}

fn describe(found: &Inspection, stats: &StorageStats, limit: usize) -> Result<String, std::fmt::Error> {
    let mut out = String::new();
    let (mut samples, mut values, mut times, mut index) = (0u64, 0u64, 0u64, 0u64);
    let mut rows = vec![
        ["from", "to", "series", "new", "samples", "size", "B/sample", "values", "times", "index"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let per = |n: u64, samples: u64| {
        if samples == 0 { "-".to_owned() } else { format!("{:.3}", n as f64 / samples as f64) }
    };
    for block in &found.blocks {
        let s = &block.stats;
        samples += s.samples;
        values += block.value_bytes;
        times += block.time_bytes;
        index += block.index_bytes;
        let deleted = if s.deleted_series > 0 {
            format!(" ({} with deletions)", s.deleted_series)
        } else {
            String::new()
        };
        rows.push(vec![
            day(s.range.0),
            day(s.range.1),
            format!("{}{deleted}", s.series),
            block.series_new.to_string(),
            s.samples.to_string(),
            bytes(s.bytes),
            per(s.bytes, s.samples),
            per(block.value_bytes, s.samples),
            per(block.time_bytes, s.samples),
            per(block.index_bytes, s.samples),
        ]);
    }
    let all = values + times + index;
    rows.push(vec![
        "all blocks".into(),
        String::new(),
        String::new(),
        String::new(),
        samples.to_string(),
        bytes(all),
        per(all, samples),
        per(values, samples),
        per(times, samples),
        per(index, samples),
    ]);
    writeln!(
        out,
        "Blocks ({}); new: series that the block before has not; bytes per sample",
        found.blocks.len()
    )?;
    table(&mut out, &rows)?;
    writeln!(
        out,
        "\nIn memory: {} series ({} new), {} samples, {}, from {} to {}",
        stats.series,
        found.head_series_new,
        stats.head_samples,
        bytes(stats.head_bytes),
        stats.head_min_ts.map_or("-".to_owned(), day),
        stats.head_min_ts.and(stats.max_ts).map_or("-".to_owned(), day),
    )?;
    writeln!(out, "Series over all time: {}", found.series)?;
    writeln!(out, "\nMetrics by series; later: series that the oldest block has not")?;
    let mut rows =
        vec![["metric", "series", "later", "samples", "B/sample of values"].map(str::to_owned).to_vec()];
    for m in found.metrics.iter().take(limit) {
        rows.push(vec![
            m.name.clone(),
            m.series.to_string(),
            m.series_later.to_string(),
            m.samples.to_string(),
            per(m.value_bytes, m.samples),
        ]);
    }
    table(&mut out, &rows)?;
    writeln!(out, "\nMetrics by later series (churn)")?;
    let mut churn: Vec<_> = found.metrics.iter().filter(|m| m.series_later > 0).collect();
    churn.sort_by(|a, b| b.series_later.cmp(&a.series_later).then_with(|| a.name.cmp(&b.name)));
    let rows: Vec<_> =
        churn.iter().take(limit).map(|m| vec![m.name.clone(), m.series_later.to_string()]).collect();
    table(&mut out, &rows)?;
    for (title, list) in [("Label names by values", &found.labels), ("Label pairs by series", &found.pairs)] {
        writeln!(out, "\n{title}")?;
        let rows: Vec<_> = list.iter().take(limit).map(|(n, c)| vec![n.clone(), c.to_string()]).collect();
        table(&mut out, &rows)?;
    }
    Ok(out)
}

/// Columns side by side; the first to the left, numbers to the right.
fn table(out: &mut String, rows: &[Vec<String>]) -> Result<(), std::fmt::Error> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (i, (text, width)) in row.iter().zip(&widths).enumerate() {
            if i == 0 {
                write!(line, "  {text:<width$}")?;
            } else {
                write!(line, "  {text:>width$}")?;
            }
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}
