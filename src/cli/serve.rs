//! `streamgate serve`: starts the log and hands over to `app`.

use std::process::ExitCode;

use super::ServeOptions;
use crate::alerts::{self, config::AlertmanagerConfig};
use crate::app;
use crate::config::{Config, LoadOptions, folder_of};
use crate::telemetry::init_logging;
use crate::yaml::{Problems, Source};

/// Runs the server until it is told to stop.
pub(super) fn run(options: ServeOptions) -> ExitCode {
    init_logging(options.log_format, &options.log_level);
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    threads.enable_all().thread_stack_size(options.features.depth.stack_bytes());
    let runtime = match threads.build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("streamgate: threads cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(app::run(options)) {
        Ok(()) => ExitCode::SUCCESS,
        // Its lines begin with FILE:LINE:COLUMN, so that an editor can go there.
        Err(app::AppError::Config(problems)) => {
            eprintln!("{problems}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("streamgate: {:#}", anyhow::Error::new(error));
            ExitCode::FAILURE
        }
    }
}

/// The configurations that the options name: that of the server and that of the alert pipeline.
///
/// # Errors
/// Everything that is wrong with either.
pub fn load(options: &ServeOptions) -> Result<(Config, AlertmanagerConfig), Problems> {
    let config = match &options.config_file {
        Some(path) => Config::load(
            path,
            LoadOptions { features: options.features, scrape: options.scrape_features, rule_files: true },
        ),
        None => Ok(Config::without_file()),
    };
    let alerts = match &options.alertmanager_config_file {
        Some(path) => Source::read(path)
            .map_err(|problem| Problems { list: vec![problem] })
            .and_then(|source| alerts::config::load(&source, folder_of(path))),
        None => Ok(AlertmanagerConfig::default()),
    };
    match (config, alerts) {
        (Ok(config), Ok(alerts)) => Ok((config, alerts)),
        (Err(mut problems), Err(more)) => {
            problems.extend(more);
            Err(problems)
        }
        (Err(problems), _) | (_, Err(problems)) => Err(problems),
    }
}
