//! The pools of targets, one for each job.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::discovery::{FILE_POLL_MS, FileGroups, TargetGroup};
use super::fetch::Buffers;
use super::metrics::JobLabel;
use super::target::{Outcome, Target, TargetKey, build};
use super::target_loop::{Handle, Order, Shared, Spec};
use super::{DroppedTargetView, ScrapeJob, ScrapeMetrics, TargetView};
use crate::clock::Clock;
use crate::http::ClientPool;
use crate::ingest::Ingest;
use crate::model::Labels;

/// How long a stop waits for scrapes that are being written.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Scrapes the targets of the configured jobs. Cloning gives a handle to the same one.
#[derive(Clone)]
pub struct ScrapeManager {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    pools: Mutex<Pools>,
}

#[derive(Default)]
struct Pools {
    by_job: BTreeMap<String, Pool>,
    /// Tasks of targets that are gone, until they have ended.
    ending: Vec<JoinHandle<()>>,
    stopped: bool,
}

struct Pool {
    job: Arc<ScrapeJob>,
    /// The first of the jobs since that scrape alike: it stays while a reload changes nothing about the scraping, so
    /// that one pointer tells a target that need not change.
    how: Arc<ScrapeJob>,
    /// What target files hold now.
    file_groups: Vec<TargetGroup>,
    file_task: Option<JoinHandle<()>>,
    loops: BTreeMap<TargetKey, Running>,
    dropped: Vec<Labels>,
}

struct Running {
    spec: Arc<Spec>,
    handle: Handle,
}

impl ScrapeManager {
    /// `instance` tells this process from every other.
    #[must_use]
    pub fn new(
        ingest: Ingest,
        clock: Clock,
        clients: ClientPool,
        metrics: ScrapeMetrics,
        instance: String,
    ) -> Self {
        let shared = Shared { ingest, clock, clients, buffers: Buffers::default(), metrics, instance };
        ScrapeManager { inner: Arc::new(Inner { shared: Arc::new(shared), pools: Mutex::default() }) }
    }

    /// Makes `jobs` the jobs that are scraped. A target that was there before keeps its task and its cache; one that is
    /// gone ends with staleness markers. Needs a Tokio runtime.
    pub fn apply(&self, jobs: Vec<ScrapeJob>) {
        let inner = &self.inner;
        let mut pools = inner.pools();
        if pools.stopped {
            return;
        }
        let wanted: Vec<&str> = jobs.iter().map(|j| j.job_name.as_str()).collect();
        let gone: Vec<String> =
            pools.by_job.keys().filter(|n| !wanted.contains(&n.as_str())).cloned().collect();
        for name in gone {
            if let Some(mut pool) = pools.by_job.remove(&name) {
                pool.stop_files();
                let loops = std::mem::take(&mut pool.loops);
                pools.ending.extend(loops.into_values().map(|r| r.handle.end(Order::End)));
                inner.shared.metrics.targets.remove(&JobLabel { scrape_job: name });
            }
        }
        for job in jobs {
            let name = job.job_name.clone();
            let job = Arc::new(job);
            let pool = pools.by_job.entry(name.clone()).or_insert_with(|| Pool {
                job: Arc::clone(&job),
                how: Arc::clone(&job),
                file_groups: Vec::new(),
                file_task: None,
                loops: BTreeMap::new(),
                dropped: Vec::new(),
            });
            if pool.job.file_sd != job.file_sd || pool.file_task.is_none() {
                pool.stop_files();
                if job.file_sd.is_empty() {
                    pool.file_groups.clear();
                } else {
                    pool.file_task = Some(tokio::spawn(watch_files(Arc::downgrade(inner), Arc::clone(&job))));
                }
            }
            if !pool.how.scrapes_like(&job) {
                pool.how = Arc::clone(&job);
            }
            pool.job = job;
            let ended = pool.sync(&inner.shared);
            pools.ending.extend(ended);
        }
        pools.ending.retain(|task| !task.is_finished());
    }

    /// All targets that are scraped, by job and labels.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetView> {
        let pools = self.inner.pools();
        let views = pools.by_job.iter().flat_map(|(name, pool)| {
            pool.loops.values().map(move |running| {
                let Target { discovered, labels, url, interval_ms, timeout_ms } = &running.spec.target;
                let state = running.handle.state();
                TargetView {
                    scrape_pool: name.clone(),
                    discovered_labels: discovered.clone(),
                    labels: labels.clone(),
                    scrape_url: url.to_string(),
                    global_url: url.to_string(),
                    last_error: state.last_error,
                    last_scrape: state.last_scrape,
                    last_scrape_duration: state.last_duration,
                    health: state.health,
                    scrape_interval_ms: *interval_ms,
                    scrape_timeout_ms: *timeout_ms,
                }
            })
        });
        views.collect()
    }

    /// Targets that relabelling dropped.
    #[must_use]
    pub fn dropped_targets(&self) -> Vec<DroppedTargetView> {
        let pools = self.inner.pools();
        let views = pools.by_job.iter().flat_map(|(name, pool)| {
            pool.dropped.iter().map(move |labels| DroppedTargetView {
                scrape_pool: name.clone(),
                discovered_labels: labels.clone(),
            })
        });
        views.collect()
    }

    /// Ends all scraping without staleness markers: the next start goes on with the same series.
    pub async fn stop(&self) {
        let mut tasks = {
            let mut pools = self.inner.pools();
            pools.stopped = true;
            let mut tasks = std::mem::take(&mut pools.ending);
            for (_, mut pool) in std::mem::take(&mut pools.by_job) {
                pool.stop_files();
                let loops = std::mem::take(&mut pool.loops);
                tasks.extend(loops.into_values().map(|r| r.handle.end(Order::Stop)));
            }
            tasks
        };
        let all = async {
            for task in &mut tasks {
                let _ended_or_panicked = task.await;
            }
        };
        tokio::select! {
            () = all => {}
            () = self.inner.shared.clock.sleep(STOP_TIMEOUT) => {
                tracing::warn!("Scrapes did not end in time");
            }
        }
    }
}

impl Inner {
    fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what target files hold now; false when the job is gone.
    fn set_file_groups(&self, name: &str, groups: Vec<TargetGroup>) -> bool {
        let mut pools = self.pools();
        let Some(pool) = pools.by_job.get_mut(name) else { return false };
        pool.file_groups = groups;
        let ended = pool.sync(&self.shared);
        pools.ending.extend(ended);
        pools.ending.retain(|task| !task.is_finished());
        true
    }
}

impl Pool {
    fn stop_files(&mut self) {
        if let Some(task) = self.file_task.take() {
            task.abort();
        }
    }

    /// Brings the loops in line with job and discovered label sets; returns the tasks of targets that are gone.
    fn sync(&mut self, shared: &Arc<Shared>) -> Vec<JoinHandle<()>> {
        let mut wanted: BTreeMap<TargetKey, Target> = BTreeMap::new();
        self.dropped.clear();
        let groups = self.job.static_groups.iter().chain(&self.file_groups);
        for labels in groups.flat_map(TargetGroup::label_sets) {
            match build(labels, &self.job) {
                Ok(Outcome::Target(target)) => {
                    wanted.entry(target.key()).or_insert(*target);
                }
                Ok(Outcome::Dropped(labels)) => {
                    let max = self.job.keep_dropped_targets;
                    if max == 0 || self.dropped.len() < max {
                        self.dropped.push(labels);
                    }
                }
                Err(error) => {
                    tracing::warn!(job = self.job.job_name, error, "A discovered target cannot be scraped");
                }
            }
        }
        let limit = self.job.limits.targets;
        let forced_error = (limit > 0 && wanted.len() > limit)
            .then(|| format!("target_limit exceeded (number of targets: {}, limit: {limit})", wanted.len()));
        let label = JobLabel { scrape_job: self.job.job_name.clone() };
        shared.metrics.targets.get_or_create(&label).set(wanted.len() as i64);

        let mut ended = Vec::new();
        for (key, target) in wanted.iter() {
            let Some(running) = self.loops.get_mut(key) else { continue };
            let same = running.spec.target == *target && running.spec.forced_error == forced_error;
            if !same || !Arc::ptr_eq(&running.spec.job, &self.how) {
                running.spec = spec(key, target.clone(), &self.how, &forced_error);
                running.handle.change(Arc::clone(&running.spec));
            }
        }
        let gone: Vec<TargetKey> = self.loops.keys().filter(|k| !wanted.contains_key(k)).cloned().collect();
        for key in gone {
            ended.extend(self.loops.remove(&key).map(|r| r.handle.end(Order::End)));
        }
        for (key, target) in wanted {
            if !self.loops.contains_key(&key) {
                let spec = spec(&key, target, &self.how, &forced_error);
                let handle = Handle::start(Arc::clone(shared), Arc::clone(&spec));
                self.loops.insert(key, Running { spec, handle });
            }
        }
        ended
    }
}

fn spec(key: &TargetKey, target: Target, job: &Arc<ScrapeJob>, forced_error: &Option<String>) -> Arc<Spec> {
    let offset_ms = key.offset_ms(target.interval_ms);
    Arc::new(Spec { target, job: Arc::clone(job), forced_error: forced_error.clone(), offset_ms })
}

/// Looks at the target files of a job again and again.
async fn watch_files(inner: Weak<Inner>, job: Arc<ScrapeJob>) {
    let mut files = FileGroups::default();
    let mut first = true;
    let every = job.file_sd.iter().map(|f| f.refresh_ms).min().unwrap_or(FILE_POLL_MS).min(FILE_POLL_MS);
    loop {
        let configs = job.file_sd.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let (changed, errors) = files.refresh(&configs);
            (files, changed, errors)
        });
        let Ok((read, changed, errors)) = looked.await else { return };
        files = read;
        let Some(manager) = inner.upgrade() else { return };
        for error in errors {
            manager.shared.metrics.file_sd_errors.inc();
            tracing::warn!(
                job = job.job_name,
                error,
                "A target file cannot be read; its targets stay as they were"
            );
        }
        if (changed || first) && !manager.set_file_groups(&job.job_name, files.groups()) {
            return;
        }
        first = false;
        let clock = manager.shared.clock.clone();
        drop(manager);
        clock.sleep(Duration::from_millis(every.unsigned_abs())).await;
    }
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
