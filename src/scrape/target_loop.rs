//! The task that scrapes one target at its times.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::fetch::{Buffers, FetchError, Fetched, Request, gunzip};
use super::metrics::{ReasonLabel, ScrapeMetrics};
use super::target::Target;
use super::{ScrapeJob, TargetHealth};
use crate::clock::Clock;
use crate::http::ClientPool;
use crate::ingest::{Ingest, ScrapeCache, ScrapeOptions};
use crate::model::Timestamp;

/// A body of up to this many bytes is parsed on the network thread; a larger one would hold up other connections.
const INLINE_BYTES_MAX: usize = 1 << 20;
/// How much smaller than its content a gzip body is taken to be.
const GZIP_RATIO: usize = 8;
/// A scrape that begins at most this share of its interval late, and at most so many ms, carries the time at which it
/// was due, so that timestamps are evenly spaced and compress well.
const LATE_SHARE: i64 = 100;
const LATE_MS_MAX: i64 = 100;

/// What all loops use.
pub(super) struct Shared {
    pub ingest: Ingest,
    pub clock: Clock,
    pub clients: ClientPool,
    pub buffers: Buffers,
    pub metrics: ScrapeMetrics,
    /// Sent with each request: see [`INSTANCE_HEADER`](super::INSTANCE_HEADER).
    pub instance: String,
}

/// What one loop scrapes, and how.
#[derive(Debug)]
pub(super) struct Spec {
    pub target: Target,
    pub job: Arc<ScrapeJob>,
    /// Why every scrape of the pool fails: it has more targets than it may.
    pub forced_error: Option<String>,
    /// When in its interval the target is scraped, in ms.
    pub offset_ms: i64,
}

#[derive(Clone, Debug)]
pub(super) enum Order {
    Scrape(Arc<Spec>),
    /// The target is gone: mark its series stale.
    End,
    /// The server stops.
    Stop,
}

/// What outsiders see of a loop.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub health: TargetHealth,
    pub last_error: String,
    pub last_scrape: Option<Timestamp>,
    /// Seconds.
    pub last_duration: f64,
}

/// The hand on a running loop.
#[derive(Debug)]
pub(super) struct Handle {
    orders: watch::Sender<Order>,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Handle {
    /// Starts a loop; needs a Tokio runtime.
    pub fn start(shared: Arc<Shared>, spec: Arc<Spec>) -> Self {
        let state = Arc::new(Mutex::new(State {
            health: TargetHealth::Unknown,
            last_error: String::new(),
            last_scrape: None,
            last_duration: 0.0,
        }));
        let (orders, received) = watch::channel(Order::Scrape(Arc::clone(&spec)));
        let task = tokio::spawn(run(shared, spec, received, Arc::clone(&state)));
        Handle { orders, state, task }
    }

    /// The loop goes on with what it knows of the target, in the new way.
    pub fn change(&self, spec: Arc<Spec>) {
        self.orders.send_replace(Order::Scrape(spec));
    }

    /// The task ends by itself then.
    pub fn end(self, order: Order) -> tokio::task::JoinHandle<()> {
        self.orders.send_replace(order);
        self.task
    }

    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// When the next scrape is due, by both times: intervals count by monotonic time, timestamps by wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Schedule {
    interval_ms: i64,
    due_wall: Timestamp,
    due_monotonic: Duration,
}

impl Schedule {
    /// The next time of phase `offset_ms` after now.
    fn begin(interval_ms: i64, offset_ms: i64, wall: Timestamp, monotonic: Duration) -> Self {
        let wait = (offset_ms - wall).rem_euclid(interval_ms);
        Schedule {
            interval_ms,
            due_wall: wall + wait,
            due_monotonic: monotonic + Duration::from_millis(wait.unsigned_abs()),
        }
    }

    /// The timestamp of a scrape that begins now.
    fn timestamp(&mut self, wall: Timestamp) -> Timestamp {
        let late = wall - self.due_wall;
        if late.abs() <= (self.interval_ms / LATE_SHARE).min(LATE_MS_MAX) {
            return self.due_wall;
        }
        // A wall clock that was set counts from now on.
        if late.abs() > self.interval_ms {
            self.due_wall = wall;
        }
        wall
    }

    /// Moves on to the next scrape and returns how many are let go: all that are late by an interval or more. One that
    /// is late by less follows at once.
    fn advance(&mut self, monotonic: Duration) -> u64 {
        let late_ms = monotonic.saturating_sub(self.due_monotonic).as_millis() as i64;
        let steps = (late_ms / self.interval_ms).max(1);
        self.due_wall += steps * self.interval_ms;
        self.due_monotonic += Duration::from_millis((steps * self.interval_ms).unsigned_abs());
        (steps - 1).unsigned_abs()
    }
}

async fn run(
    shared: Arc<Shared>,
    mut spec: Arc<Spec>,
    mut orders: watch::Receiver<Order>,
    state: Arc<Mutex<State>>,
) {
    let clock = &shared.clock;
    let schedule = |spec: &Spec| {
        let now = (clock.now_ms(), clock.monotonic());
        Schedule::begin(spec.target.interval_ms, spec.offset_ms, now.0, now.1)
    };
    let mut next = schedule(&spec);
    let mut work = Work::new(&shared, &spec);
    loop {
        let order = orders.borrow_and_update().clone();
        match order {
            Order::Scrape(changed) => {
                if !Arc::ptr_eq(&changed, &spec) {
                    if changed.target.interval_ms != spec.target.interval_ms {
                        next = schedule(&changed);
                    }
                    spec = changed;
                    work.follow(&shared, &spec);
                }
            }
            Order::End => return work.end(&shared).await,
            Order::Stop => return,
        }
        let wait = next.due_monotonic.saturating_sub(clock.monotonic());
        if !wait.is_zero() {
            tokio::select! {
                () = clock.sleep(wait) => {}
                changed = orders.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            // Whoever was woken by an order looks at it, and at the clock, first.
            if orders.has_changed().unwrap_or(true) || clock.monotonic() < next.due_monotonic {
                continue;
            }
        }
        let ts = next.timestamp(clock.now_ms());
        work.scrape(&shared, &spec, ts, &mut orders, &state).await;
        shared.metrics.skipped.inc_by(next.advance(clock.monotonic()));
    }
}

/// When the series of a target that is gone end: now, but after their newest sample, which a marker cannot replace. They
/// meet when a target goes in the millisecond of its scrape, or the wall clock was set back.
fn end_marker_time(now: Timestamp, newest: Timestamp) -> Timestamp {
    now.max(newest.saturating_add(1))
}

/// What a loop carries from scrape to scrape.
struct Work {
    cache: ScrapeCache,
    options: Arc<ScrapeOptions>,
    request: Request,
    /// The latest timestamp of a scrape; `None` if there are no series to mark stale at the end.
    newest: Option<Timestamp>,
}

impl Work {
    fn new(shared: &Shared, spec: &Spec) -> Self {
        Work {
            cache: ScrapeCache::default(),
            options: options(spec),
            request: request(shared, spec),
            newest: None,
        }
    }

    fn follow(&mut self, shared: &Shared, spec: &Spec) {
        self.options = options(spec);
        self.request = request(shared, spec);
    }

    async fn scrape(
        &mut self,
        shared: &Arc<Shared>,
        spec: &Spec,
        ts: Timestamp,
        orders: &mut watch::Receiver<Order>,
        state: &Mutex<State>,
    ) {
        let started = shared.clock.monotonic();
        let fetched = match &spec.forced_error {
            Some(reason) => Err((reason.clone(), "target_limit")),
            None => {
                let fetched = tokio::select! {
                    fetched = self.request.send(shared.buffers.take()) => fetched,
                    () = shared.clock.sleep(Duration::from_millis(spec.target.timeout_ms.unsigned_abs())) => {
                        Err(FetchError::Timeout(spec.target.timeout_ms))
                    }
                    () = left(orders) => return,
                };
                fetched.map_err(|e| (e.to_string(), e.reason()))
            }
        };
        self.newest = self.newest.max(Some(ts));
        let duration = |shared: &Shared| (shared.clock.monotonic().saturating_sub(started)).as_secs_f64();
        let outcome = match fetched {
            Ok(fetched) => {
                shared.metrics.body_bytes.inc_by(fetched.body.len() as u64);
                self.ingest(shared, fetched, ts, duration(shared)).await
            }
            Err(failure) => {
                self.failed(shared, ts, duration(shared)).await;
                Err(failure)
            }
        };
        let seconds = duration(shared);
        shared.metrics.scrapes.inc();
        shared.metrics.duration.observe(seconds);
        let last_error = match outcome {
            Ok(()) => String::new(),
            Err((error, reason)) => {
                shared.metrics.failures.get_or_create(&ReasonLabel { reason }).inc();
                tracing::debug!(job = spec.job.job_name, target = %spec.target.url, error, "Scrape failed");
                error
            }
        };
        let health = if last_error.is_empty() { TargetHealth::Up } else { TargetHealth::Down };
        *lock(state) = State { health, last_error, last_scrape: Some(ts), last_duration: seconds };
    }

    async fn ingest(
        &mut self,
        shared: &Arc<Shared>,
        fetched: Fetched,
        ts: Timestamp,
        seconds: f64,
    ) -> Result<(), (String, &'static str)> {
        let bytes = fetched.body.len() * if fetched.gzip { GZIP_RATIO } else { 1 };
        let limit = self.request.body_bytes_max;
        let options = Arc::clone(&self.options);
        let shared = Arc::clone(shared);
        self.with_cache(bytes <= INLINE_BYTES_MAX, move |cache| {
            let Fetched { mut body, gzip, content_type } = fetched;
            if gzip {
                let mut plain = shared.buffers.take();
                let unpacked = gunzip(&body, limit, &mut plain);
                shared.buffers.put(std::mem::replace(&mut body, plain));
                if let Err(e) = unpacked {
                    let _logged = shared.ingest.scrape_failed(cache, &options, ts, seconds);
                    return Err((e.to_string(), e.reason()));
                }
            }
            let result = shared.ingest.scrape(cache, &options, &body, content_type.as_deref(), ts, seconds);
            shared.buffers.put(body);
            result.map(|_stats| ()).map_err(|e| (crate::http::error_chain(&e), "ingest"))
        })
        .await
    }

    async fn failed(&mut self, shared: &Arc<Shared>, ts: Timestamp, seconds: f64) {
        let (options, shared) = (Arc::clone(&self.options), Arc::clone(shared));
        self.with_cache(true, move |cache| {
            let _logged = shared.ingest.scrape_failed(cache, &options, ts, seconds);
        })
        .await;
    }

    async fn end(mut self, shared: &Arc<Shared>) {
        let Some(newest) = self.newest else { return };
        let (options, shared) = (Arc::clone(&self.options), Arc::clone(shared));
        let ts = end_marker_time(shared.clock.now_ms(), newest);
        self.with_cache(true, move |cache| {
            let _logged = shared.ingest.end_of_target(cache, &options, ts);
        })
        .await;
    }

    /// Runs `work` here, or on a thread for long work.
    async fn with_cache<R: Send + 'static>(
        &mut self,
        here: bool,
        work: impl FnOnce(&mut ScrapeCache) -> R + Send + 'static,
    ) -> R {
        if here {
            return work(&mut self.cache);
        }
        let mut cache = std::mem::take(&mut self.cache);
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut cache);
            (cache, result)
        });
        match done.await {
            Ok((cache, result)) => {
                self.cache = cache;
                result
            }
            Err(e) => match e.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down and takes this task with it.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }
}

/// Returns once the loop is told to end or to stop.
async fn left(orders: &mut watch::Receiver<Order>) {
    while matches!(*orders.borrow_and_update(), Order::Scrape(_)) {
        if orders.changed().await.is_err() {
            return;
        }
    }
}

fn options(spec: &Spec) -> Arc<ScrapeOptions> {
    let job = &spec.job;
    Arc::new(ScrapeOptions {
        target_labels: spec.target.labels.clone(),
        honor_labels: job.honor_labels,
        honor_timestamps: job.honor_timestamps,
        track_timestamps_staleness: job.track_timestamps_staleness,
        metric_relabel: Arc::clone(&job.metric_relabel),
        sample_limit: job.limits.samples,
        label_limit: job.limits.labels,
        label_name_length_limit: job.limits.label_name_bytes,
        label_value_length_limit: job.limits.label_value_bytes,
        fallback_format: job.fallback_format,
        histograms: job.histograms,
    })
}

fn request(shared: &Shared, spec: &Spec) -> Request {
    Request {
        client: shared.clients.client(&spec.job.http),
        url: spec.target.url.clone(),
        accept: spec.job.accept.clone(),
        compressed: spec.job.enable_compression,
        timeout_ms: spec.target.timeout_ms,
        body_bytes_max: spec.job.body_bytes_max,
        instance: shared.instance.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_target_that_goes_as_it_is_scraped_ends_after_its_sample() {
        assert_eq!(end_marker_time(10, 9), 10);
        assert_eq!(end_marker_time(10, 10), 11);
        assert_eq!(end_marker_time(10, 12), 13);
    }

    #[test]
    fn scrapes_are_due_at_their_phase() {
        let s = Schedule::begin(10_000, 3_000, 1_000_000_000, ms(50));
        assert_eq!((s.due_wall, s.due_monotonic), (1_000_003_000, ms(3_050)));
        let s = Schedule::begin(10_000, 3_000, 1_000_004_000, ms(50));
        assert_eq!(s.due_wall, 1_000_013_000);
    }

    #[test]
    fn a_little_late_carries_the_due_time() {
        let mut s = Schedule::begin(10_000, 0, 0, ms(0));
        assert_eq!(s.timestamp(80), 0);
        assert_eq!(s.timestamp(101), 101);
        assert_eq!(s.due_wall, 0, "late, and the phase stays");
        assert_eq!(s.timestamp(3_600_000), 3_600_000);
        assert_eq!(s.due_wall, 3_600_000, "the wall clock was set");
    }

    #[test]
    fn scrapes_that_are_too_late_are_let_go() {
        let mut s = Schedule::begin(10_000, 0, 0, ms(0));
        assert_eq!((s.advance(ms(5)), s.due_monotonic), (0, ms(10_000)));
        // The scrape took 12 s: the next one follows at once.
        assert_eq!((s.advance(ms(22_000)), s.due_monotonic), (0, ms(20_000)));
        // 45 s: two are let go, the newest follows at once.
        assert_eq!((s.advance(ms(55_000)), s.due_wall), (2, 50_000));
    }
}
