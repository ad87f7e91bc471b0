//! `streamgate serve`: starts the log, reads the configuration once so that its faults are told before anything runs.

use std::process::ExitCode;

use super::ServeOptions;
use crate::config::{Config, LoadOptions};
use crate::telemetry::init_logging;
use crate::yaml::Problems;

/// Runs the server until it is told to stop.
pub(super) fn run(options: ServeOptions) -> ExitCode {
    init_logging(options.log_format, &options.log_level);
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    match load(&options) {
        Ok(_config) => ExitCode::SUCCESS,
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration that the options name.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(options: &ServeOptions) -> Result<Config, Problems> {
    match &options.config_file {
        Some(path) => Config::load(path, LoadOptions { features: options.features, rule_files: true }),
        None => Ok(Config::without_file()),
    }
}
