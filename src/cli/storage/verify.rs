//! `streamgate storage verify`.

use std::path::Path;
use std::process::ExitCode;

use super::progress::Progress;
use crate::cli::say::say;

pub fn run(dir: &Path) -> anyhow::Result<ExitCode> {
    let mut progress = Progress::new("reading");
    let done = crate::storage::verify(
        dir,
        |problem| say(format_args!("{problem}")),
        |done, all| progress.at(done, all),
    )?;
    drop(progress);
    say(format_args!(
        "{}: {} blocks with {} samples, {} WAL segments, {} checkpoints, {} read: {}",
        dir.display(),
        done.blocks,
        done.samples,
        done.segments,
        done.checkpoints,
        super::bytes(done.bytes),
        match done.problems {
            0 => "no problem".to_owned(),
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        }
    ));
    Ok(if done.problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
