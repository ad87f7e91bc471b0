//! The loops that belong to no part: this machine's metrics, our own, what was pushed, and the upkeep of storage.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;
use crate::exposition::{Format, encode_registry};
use crate::host::{HostCollector, process_metrics};
use crate::ingest::{Ingest, Pushed, ScrapeCache, ScrapeOptions};
use crate::model::{Labels, Timestamp};
use crate::storage::Storage;
use crate::telemetry::{Registry, Repeats};

/// Host metrics and our own are collected this often.
pub const OWN_INTERVAL: Duration = Duration::from_secs(5);
/// Windows that ended are sealed, and the oldest fall off, this often.
pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(15);
/// The WAL is synced, with the policy `interval`, and memory and disk are looked at, this often.
pub const RELIEF_INTERVAL: Duration = Duration::from_secs(1);
/// Content-Type of what `host` writes.
const TEXT: &str = "text/plain; version=0.0.4";

/// Ends every loop when it becomes true.
pub type Stopped = watch::Receiver<bool>;

/// Runs `work` at once and then at each multiple of `interval`, on a blocking thread, one at a time. A tick that is
/// missed is not made up for.
pub async fn every<W>(clock: Clock, interval: Duration, mut stopped: Stopped, work: W)
where
    W: FnMut(Timestamp) + Send + 'static,
{
    let interval_ms = (interval.as_millis() as i64).max(1);
    let mut work = Some(work);
    loop {
        let Some(mut run) = work.take() else { return };
        let now = clock.now_ms();
        // A panic in there ends the loop; the log has its message.
        let done = tokio::task::spawn_blocking(move || {
            run(now);
            run
        });
        match done.await {
            Ok(run) => work = Some(run),
            Err(error) => tracing::error!(%error, "a loop ended"),
        }
        let now = clock.now_ms();
        let next = now - now.rem_euclid(interval_ms) + interval_ms;
        tokio::select! {
            _ = stopped.wait_for(|s| *s) => return,
            () = clock.sleep_until_ms(next) => {}
        }
    }
}

/// Collects this machine's metrics under `job="node"`.
pub fn host_tick(clock: &Clock, ingest: Ingest, instance: &str) -> impl FnMut(Timestamp) + Send + use<> {
    let mut collector = HostCollector::new(clock.clone());
    let clock = clock.clone();
    let mut sink = Sink::new(ingest, "node", instance);
    move |now| {
        let start = clock.monotonic();
        let body = collector.collect(now);
        sink.take(&body, now, clock.monotonic() - start);
    }
}

/// Stores our own metrics under `job="streamgate"`; what `/metrics` re-exports is not among them.
pub fn self_tick(
    clock: &Clock,
    ingest: Ingest,
    registry: Arc<Registry>,
    instance: &str,
) -> impl FnMut(Timestamp) + Send + use<> {
    let clock = clock.clone();
    let mut sink = Sink::new(ingest, "streamgate", instance);
    move |now| {
        let start = clock.monotonic();
        match encode_registry(&registry, Format::Text) {
            Ok(text) => sink.take(&(text + &process_metrics()), now, clock.monotonic() - start),
            Err(error) => tracing::error!(%error, "our own metrics cannot be written"),
        }
    }
}

/// Samples what was pushed again, so that it does not vanish after the lookback.
pub fn pushed_tick(pushed: Pushed) -> impl FnMut(Timestamp) + Send {
    let mut failed = Repeats::default();
    move |now| {
        if let Err(error) = pushed.sample_all(now)
            && let Some(repeated) = failed.say(&error.to_string(), now)
        {
            tracing::error!(%error, repeated, "what was pushed could not be sampled; it is tried again");
        }
    }
}

/// Puts the WAL on the disk, and makes room where it is short.
pub fn relief_tick(storage: Storage) -> impl FnMut(Timestamp) + Send {
    move |now| storage.relieve(now)
}

/// Seals windows that ended, and lets the oldest fall off.
pub fn upkeep_tick(storage: Storage) -> impl FnMut(Timestamp) + Send {
    move |now| {
        let done = storage.maintain(now);
        tracing::debug!(?done, "upkeep of storage");
    }
}

/// One job that is not fetched over HTTP.
struct Sink {
    ingest: Ingest,
    cache: ScrapeCache,
    options: ScrapeOptions,
    refused: Repeats,
}

impl Sink {
    fn new(ingest: Ingest, job: &str, instance: &str) -> Self {
        let options = ScrapeOptions {
            target_labels: Labels::from_pairs([("job", job), ("instance", instance)]),
            ..ScrapeOptions::default()
        };
        Sink { ingest, cache: ScrapeCache::default(), options, refused: Repeats::default() }
    }

    fn take(&mut self, body: &str, now: Timestamp, took: Duration) {
        let taken = self.ingest.scrape(
            &mut self.cache,
            &self.options,
            body.as_bytes(),
            Some(TEXT),
            now,
            took.as_secs_f64(),
        );
        if let Err(error) = taken
            && let Some(repeated) = self.refused.say(&error.to_string(), now)
        {
            let labels = &self.options.target_labels;
            tracing::error!(%error, %labels, repeated, "metrics of our own were refused");
        }
    }
}
