//! What a reload replaces: it takes effect whole or not at all, and says which.

use std::sync::Arc;

use tokio::sync::watch;

use crate::alerts::Alerts;
use crate::alerts::config::AlertmanagerConfig;
use crate::api::LiveConfig;
use crate::cli::{self, ServeOptions};
use crate::clock::Clock;
use crate::config::Config;
use crate::model::Matcher;
use crate::reports::{Reports, shipped_indicators};
use crate::rules::file::RuleFile;
use crate::rules::{Manager, Settings, shipped_files};
use crate::scrape::ScrapeManager;
use crate::storage::Storage;
use crate::yaml::{Problems, Source};

/// Everything that files say, checked.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    pub alerting: Arc<AlertmanagerConfig>,
    pub rule_files: Vec<RuleFile>,
    /// The text of the configuration file.
    pub text: String,
}

/// Reads every file that the options name. Blocks.
///
/// # Errors
/// Every problem of every file.
pub fn load(options: &ServeOptions) -> Result<Loaded, Problems> {
    let (mut config, alerting) = cli::load(options)?;
    let mut rule_files = if config.shipped_rules { shipped_files() } else { Vec::new() };
    rule_files.append(&mut config.rule_files);
    let text = match &options.config_file {
        Some(path) => Source::read(path).map(|s| s.text).unwrap_or_default(),
        None => String::new(),
    };
    Ok(Loaded { config, alerting: Arc::new(alerting), rule_files, text })
}

/// The parts that a reload reaches.
pub struct Reloader {
    pub options: Arc<ServeOptions>,
    pub external_url: String,
    pub clock: Clock,
    pub storage: Storage,
    pub scrapes: ScrapeManager,
    pub rules: Manager,
    pub alerts: Alerts,
    pub reports: Reports,
    pub live: watch::Sender<Arc<LiveConfig>>,
    pub host: watch::Sender<bool>,
}

impl Reloader {
    /// Loads the files again and, if all of them are right, replaces what they say.
    ///
    /// # Errors
    /// Every problem; then everything is as it was.
    pub async fn reload(&self) -> Result<(), String> {
        let options = Arc::clone(&self.options);
        let loaded = tokio::task::spawn_blocking(move || load(&options)).await;
        match loaded {
            Ok(Ok(loaded)) => {
                self.apply(loaded).await;
                tracing::info!("the configuration was reloaded");
                Ok(())
            }
            Ok(Err(problems)) => {
                let now = self.clock.now_ms();
                self.live.send_modify(|live| Arc::make_mut(live).failed_at = Some(now));
                tracing::error!(%problems, "the configuration was not reloaded: the one before still holds");
                Err(problems.to_string())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Makes `loaded` what holds.
    pub async fn apply(&self, loaded: Loaded) {
        let Loaded { config, alerting, rule_files, text } = loaded;
        let settings = Settings {
            interval_ms: config.evaluation_interval_ms,
            query_offset_ms: 0,
            external_labels: config.external_labels.clone(),
            external_url: self.external_url.as_str().into(),
            resend_delay_ms: self.options.resend_delay_ms,
            outage_tolerance_ms: self.options.for_outage_tolerance_ms,
            for_grace_period_ms: self.options.for_grace_period_ms,
        };
        let live = LiveConfig {
            yaml: text,
            loaded_at: self.clock.now_ms(),
            failed_at: None,
            external_labels: config.external_labels,
            host: config.host_metrics.then(|| vec![Matcher::equal("job", "node"), name_begins_with_node()]),
            export_match: config.export.add,
            export_drop: config.export.drop,
        };
        if self.options.exemplar_storage {
            self.storage.set_exemplars_max(config.storage.exemplars_max);
        }
        self.storage.set_out_of_order_window(config.storage.out_of_order_window_ms);
        // The receivers of an alert are there before the rules that raise it.
        self.alerts.reload(alerting).await;
        self.rules.apply(rule_files, settings).await;
        self.scrapes.apply(config.jobs);
        self.reports.reload(config.indicators.unwrap_or_else(shipped_indicators), config.reports);
        self.live.send_replace(Arc::new(live));
        self.host.send_replace(config.host_metrics);
    }
}

fn name_begins_with_node() -> Matcher {
    Matcher::new(crate::model::MatchOp::Regex, crate::model::METRIC_NAME, "node_.+")
        .expect("the pattern is a constant")
}
