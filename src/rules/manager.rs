//! The shell around groups: one task per group, its clock, the store and the channel of alerts.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use super::alerting;
use super::file::{GroupSpec, RuleFile};
use super::group::{Group, GroupShared, TickOutput, World};
use super::metrics::RuleMetrics;
use super::options::Settings;
use super::restore::{self, SavedAlert};
use super::view::GroupView;
use crate::clock::Clock;
use crate::model::{Alert, Timestamp};
use crate::promql::Engine;
use crate::state::Store;
use crate::storage::Storage;

/// What a [`Manager`] is made of.
#[derive(Debug)]
pub struct ManagerOptions {
    pub engine: Engine,
    pub storage: Storage,
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    /// Where alerts go.
    pub sender: mpsc::Sender<Vec<Alert>>,
    pub metrics: RuleMetrics,
    /// How many groups are evaluated at the same time.
    pub concurrency: usize,
}

/// How long the alert pipeline may take to accept a batch before the batch is sent again with the next evaluation.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Groups of files in the binary are evaluated at once after a start: they do not rely on what a first scrape brings.
const EAGER_FILE_PREFIX: &str = "shipped:";

/// Evaluates rule groups on their intervals. Cloning gives a handle to the same one.
#[derive(Clone, Debug)]
pub struct Manager {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: ManagerOptions,
    permits: Arc<Semaphore>,
    running: tokio::sync::Mutex<Running>,
    views: RwLock<Vec<Arc<GroupShared>>>,
}

#[derive(Debug, Default)]
struct Running {
    groups: Vec<RunningGroup>,
    settings: Option<Arc<Settings>>,
}

#[derive(Debug)]
struct RunningGroup {
    key: String,
    spec: Arc<GroupSpec>,
    group: Arc<Mutex<Group>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Manager {
    #[must_use]
    pub fn new(options: ManagerOptions) -> Self {
        let permits = Arc::new(Semaphore::new(options.concurrency.max(1)));
        Manager {
            inner: Arc::new(Inner {
                options,
                permits,
                running: Default::default(),
                views: Default::default(),
            }),
        }
    }

    /// Runs the groups of `files` from now on. Groups that have not changed go on undisturbed; a changed group takes over
    /// the state of the rules that are the same; alerts of rules that are gone are told to be resolved, their series end.
    /// The first call takes over what was saved before a restart.
    pub async fn apply(&self, files: Vec<RuleFile>, settings: Settings) {
        let inner = &self.inner;
        let mut running = inner.running.lock().await;
        let first = running.settings.is_none();
        let settings = Arc::new(settings);
        let same_settings = running.settings.as_ref() == Some(&settings);
        let specs: Vec<Arc<GroupSpec>> = files.into_iter().flat_map(|f| f.groups).collect();
        let mut before: HashMap<String, RunningGroup> =
            std::mem::take(&mut running.groups).into_iter().map(|g| (g.key.clone(), g)).collect();
        let mut saved = if first { inner.load().await } else { HashMap::new() };

        let mut groups: Vec<Result<RunningGroup, (Group, bool)>> = Vec::new();
        let mut homeless: Vec<SavedAlert> = Vec::new();
        let mut keys = HashSet::new();
        for spec in specs {
            let key = spec.key();
            if !keys.insert(key.clone()) {
                // A file that two patterns name is loaded once.
                continue;
            }
            match before.remove(&key) {
                Some(old) if same_settings && old.spec == spec => groups.push(Ok(old)),
                old => {
                    let mut group = Group::new(spec, &settings, &inner.options.metrics);
                    let was_running = old.is_some();
                    if let Some(old) = old
                        && let Some(old) = old.stop().await
                    {
                        homeless.extend(group.inherit(old, &settings));
                    }
                    if let Some(alerts) = saved.remove(&key) {
                        homeless.extend(group.adopt(alerts));
                    }
                    groups.push(Err((group, was_running)));
                }
            }
        }
        // What is left belongs to groups that are gone.
        let mut gone: Vec<String> = saved.keys().cloned().collect();
        homeless.extend(saved.into_values().flatten());
        for (key, old) in before {
            if let Some(old) = old.stop().await {
                homeless.extend(old.saved(&settings));
                inner.options.metrics.remove_group(&key);
                let storage = inner.options.storage.clone();
                blocking(move || old.end(&storage)).await;
            }
            gone.push(key);
        }
        for group in &mut groups {
            if let Err((group, _)) = group {
                homeless = group.adopt(homeless);
            }
        }
        inner.resolve(homeless, &settings).await;
        let now = inner.options.clock.now_ms();
        inner.save(gone.iter().map(|key| restore::to_op(key, &[], now)).collect()).await;

        let world = Arc::new(World {
            engine: inner.options.engine.clone(),
            storage: inner.options.storage.clone(),
            clock: inner.options.clock.clone(),
            settings: Arc::clone(&settings),
        });
        let mut views = Vec::new();
        for group in groups {
            let group = group.unwrap_or_else(|(group, was_running)| {
                RunningGroup::start(Arc::clone(inner), Arc::clone(&world), group, was_running)
            });
            views.push(group.group.lock().unwrap_or_else(PoisonError::into_inner).shared());
            running.groups.push(group);
        }
        running.settings = Some(settings);
        *inner.views.write().unwrap_or_else(PoisonError::into_inner) = views;
    }

    /// All groups as they are now, in the order of the files.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupView> {
        let views = self.inner.views.read().unwrap_or_else(PoisonError::into_inner).clone();
        views.iter().map(|g| g.view()).collect()
    }

    /// Ends all groups after the evaluations that are going on. Series are not marked stale and alerts not resolved: the
    /// next start goes on from here.
    pub async fn stop(&self) {
        let mut running = self.inner.running.lock().await;
        let groups = std::mem::take(&mut running.groups);
        for group in &groups {
            let _ = group.stop.send(true);
        }
        for group in groups {
            group.stop().await;
        }
    }
}

impl RunningGroup {
    fn start(inner: Arc<Inner>, world: Arc<World>, group: Group, was_running: bool) -> Self {
        let shared = group.shared();
        let group = Arc::new(Mutex::new(group));
        let (stop, stopped) = watch::channel(false);
        let eager = !was_running && shared.spec.file.starts_with(EAGER_FILE_PREFIX);
        let (key, spec) = (shared.key.clone(), Arc::clone(&shared.spec));
        let task = tokio::spawn(run(inner, world, Arc::clone(&group), shared, stopped, eager));
        RunningGroup { key, spec, group, stop, task }
    }

    /// Ends the task and gives its group back.
    async fn stop(self) -> Option<Group> {
        let _ = self.stop.send(true);
        if let Err(e) = self.task.await {
            tracing::error!(group = self.key, error = %e, "the task of a rule group failed");
        }
        let group = Arc::try_unwrap(self.group).ok()?;
        Some(group.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The last of the group's slots that is not after `now`. Slots are `interval_ms` apart, and a hash of the group spreads
/// them, so that groups do not all start at once and each keeps its times over a restart.
fn slot(hash: u64, interval_ms: i64, now: Timestamp) -> Timestamp {
    let offset = (hash % interval_ms.unsigned_abs()) as i64;
    (now - offset).div_euclid(interval_ms) * interval_ms + offset
}

async fn run(
    inner: Arc<Inner>,
    world: Arc<World>,
    group: Arc<Mutex<Group>>,
    shared: Arc<GroupShared>,
    mut stopped: watch::Receiver<bool>,
    eager: bool,
) {
    let clock = &inner.options.clock;
    let (hash, interval) = (shared.hash(), shared.interval_ms);
    let metrics = group.lock().unwrap_or_else(PoisonError::into_inner).metrics().clone();
    if eager {
        inner.evaluate(&world, &group, clock.now_ms()).await;
    }
    let mut next = slot(hash, interval, clock.now_ms()) + interval;
    loop {
        let rest = next - clock.now_ms();
        if rest > interval {
            // The wall clock was set back.
            next = slot(hash, interval, clock.now_ms()) + interval;
            continue;
        }
        if rest > 0 {
            tokio::select! {
                () = clock.sleep(Duration::from_millis(rest.unsigned_abs().min(60_000))) => continue,
                _ = stopped.changed() => return,
            }
        }
        if *stopped.borrow() {
            return;
        }
        inner.evaluate(&world, &group, next).await;
        let behind = ((clock.now_ms() - next) / interval).max(1);
        if behind > 1 {
            metrics.iterations_missed.inc_by(behind.unsigned_abs() - 1);
            metrics.iterations.inc_by(behind.unsigned_abs() - 1);
            tracing::warn!(group = shared.key, missed = behind - 1, "rule group evaluations were missed");
        }
        next += behind * interval;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::error!(%error, "work of the rule engine failed");
            None
        }
    }
}

impl Inner {
    async fn evaluate(&self, world: &Arc<World>, group: &Arc<Mutex<Group>>, ts: Timestamp) {
        let Ok(permit) = self.permits.acquire().await else { return };
        let (task_group, task_world) = (Arc::clone(group), Arc::clone(world));
        let store = Arc::clone(&self.options.store);
        let alerts = blocking(move || {
            let mut group = task_group.lock().unwrap_or_else(PoisonError::into_inner);
            let TickOutput { alerts, save, .. } = group.tick(ts, &task_world);
            // What fires is known to the store before anybody is told.
            if let Some(op) = save
                && let Err(error) = store.commit(vec![op])
            {
                group.unsaved(&error.to_string(), ts);
            }
            alerts
        })
        .await;
        drop(permit);
        let alerts = alerts.unwrap_or_default();
        if !alerts.is_empty() && !self.send(alerts).await {
            group.lock().unwrap_or_else(PoisonError::into_inner).unsent(ts);
        }
    }

    /// Hands alerts to the pipeline; false if it did not take them in time.
    async fn send(&self, alerts: Vec<Alert>) -> bool {
        let count = alerts.len() as u64;
        let sent = tokio::select! {
            sent = self.options.sender.send(alerts) => sent.is_ok(),
            () = self.options.clock.sleep(SEND_TIMEOUT) => false,
        };
        if !sent {
            self.options.metrics.alerts_undelivered.inc_by(count);
            tracing::warn!(count, "the alert pipeline did not take alerts in time; they are sent again");
        }
        sent
    }

    async fn load(&self) -> HashMap<String, Vec<SavedAlert>> {
        let store = Arc::clone(&self.options.store);
        match blocking(move || restore::load(&*store)).await {
            Some(Ok(saved)) => saved,
            Some(Err(error)) => {
                tracing::warn!(%error, "the saved state of rules cannot be read; firing alerts begin anew");
                HashMap::new()
            }
            None => HashMap::new(),
        }
    }

    async fn save(&self, ops: Vec<crate::state::Op>) {
        let store = Arc::clone(&self.options.store);
        if let Some(Err(error)) = blocking(move || store.commit(ops)).await {
            tracing::warn!(%error, "the state of rules that are gone cannot be removed");
        }
    }

    /// Tells that alerts whose rules are gone have ended.
    async fn resolve(&self, alerts: Vec<SavedAlert>, settings: &Settings) {
        let now = self.options.clock.now_ms();
        let ended = alerts.iter().map(|saved| {
            let mut alert = saved.to_active();
            alert.resolved_at = Some(saved.resolved_at.unwrap_or(now));
            alerting::message(&alert, now, 0, settings, saved.generator_url.clone())
        });
        let ended: Vec<Alert> = ended.collect();
        if !ended.is_empty() {
            self.send(ended).await;
        }
    }
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
