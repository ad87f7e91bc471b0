//! The shell around the core: one task that waits for alerts, calls, settled notifications and the clock, commits, and
//! then acts.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::config::AlertmanagerConfig;
use super::core::{Core, Effects, Limits};
use super::load::Stored;
use super::metrics::AlertsMetrics;
use super::{AlertFilter, AlertRefusal, AlertView, HistoryPage, HistoryQuery, NewAlert, history};
use crate::clock::Clock;
use crate::model::{Alert, Timestamp};
use crate::notify::{Notifier, NotifyMetrics, Settled, Transport};
use crate::state::{Op, StateError, Store, Table};
use crate::telemetry::Repeats;

/// Calls that wait for the task; a caller waits beyond that.
const CALLS_MAX: usize = 1_024;
/// Messages taken from each channel before a commit. What arrives together is committed together.
const BATCH_MAX: usize = 256;
/// The pause before a commit that failed is tried again.
const COMMIT_RETRY: Duration = Duration::from_secs(1);
/// How often old history is thrown away, in milliseconds.
const CLEAN_UP_EVERY_MS: i64 = 3_600_000;

/// What the pipeline is built of.
pub struct PipelineOptions {
    pub config: Arc<AlertmanagerConfig>,
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    pub transport: Arc<dyn Transport>,
    /// Where this server is reached from outside; part of each message.
    pub external_url: String,
    pub limits: Limits,
    pub metrics: AlertsMetrics,
    pub notify_metrics: NotifyMetrics,
}

/// Starts the pipeline.
#[derive(Debug)]
pub struct Pipeline;

impl Pipeline {
    /// Reads the state that was committed last, takes up delivery where it was, and begins to take alerts from `inbox`,
    /// where rules send them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(
        options: PipelineOptions,
        inbox: mpsc::Receiver<Vec<Alert>>,
    ) -> Result<Alerts, StateError> {
        let PipelineOptions {
            config,
            store,
            clock,
            transport,
            external_url,
            limits,
            metrics,
            notify_metrics,
        } = options;
        let reader = Arc::clone(&store);
        let stored = blocking(move || Stored::read(&*reader)).await?;
        let receivers = Arc::clone(&config.receivers);
        let (core, waiting) =
            Core::load(config, external_url, limits, metrics.clone(), stored, clock.now_ms());
        let (notifier, settled, _delivery) =
            Notifier::start(transport, receivers, clock.clone(), notify_metrics);
        notifier.send(waiting);
        let (calls, incoming) = mpsc::channel(CALLS_MAX);
        let shell = Shell {
            clean_up_at: clock.now_ms(),
            core,
            store: Arc::clone(&store),
            clock,
            notifier,
            metrics,
            unsaved: Vec::new(),
            undurable: Repeats::default(),
        };
        let task = tokio::spawn(shell.run(inbox, incoming, settled));
        Ok(Alerts { calls, store, task: Arc::new(std::sync::Mutex::new(Some(task))) })
    }
}

/// Handle to the pipeline; a clone is a handle to the same one.
#[derive(Clone, Debug)]
pub struct Alerts {
    calls: mpsc::Sender<Call>,
    store: Arc<dyn Store>,
    task: Arc<std::sync::Mutex<Option<JoinHandle<()>>>>,
}

type Answer = oneshot::Sender<Result<AlertView, AlertRefusal>>;

enum Call {
    List(AlertFilter, oneshot::Sender<Vec<AlertView>>),
    Get(String, oneshot::Sender<Option<AlertView>>),
    Create(NewAlert, Answer),
    Acknowledge { id: String, by: String, comment: Option<String>, answer: Answer },
    Resolve { id: String, by: String, comment: Option<String>, answer: Answer },
    Post(Vec<Alert>, oneshot::Sender<Result<(), AlertRefusal>>),
    Reload(Arc<AlertmanagerConfig>, oneshot::Sender<()>),
    Stop,
}

impl Alerts {
    /// The alerts that pass the filter, newest first.
    pub async fn list(&self, filter: AlertFilter) -> Vec<AlertView> {
        self.call(|answer| Call::List(filter, answer)).await.unwrap_or_default()
    }

    /// The alert with this id, if it fires or has been resolved lately.
    pub async fn get(&self, id: &str) -> Option<AlertView> {
        self.call(|answer| Call::Get(id.to_owned(), answer)).await.flatten()
    }

    /// Raises an alert that fires until it is resolved by a call. On return it is durable.
    ///
    /// # Errors
    /// When the labels are invalid, there are too many alerts, or the store fails.
    pub async fn create(&self, new: NewAlert) -> Result<AlertView, AlertRefusal> {
        self.call(|answer| Call::Create(new, answer)).await.unwrap_or_else(|| Err(stopped()))
    }

    /// Takes in alerts as a client posts them; one without an end fires for the resolve timeout. On return they are
    /// durable. Invalid ones are passed over and counted.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn post(&self, alerts: Vec<Alert>) -> Result<(), AlertRefusal> {
        self.call(|answer| Call::Post(alerts, answer)).await.unwrap_or_else(|| Err(stopped()))
    }

    /// Records that `by` looks after an alert. On return it is durable.
    ///
    /// # Errors
    /// When there is no such alert, it is acknowledged or resolved already, or the store fails.
    pub async fn acknowledge(
        &self,
        id: &str,
        by: &str,
        comment: Option<&str>,
    ) -> Result<AlertView, AlertRefusal> {
        let (id, by, comment) = (id.to_owned(), by.to_owned(), comment.map(str::to_owned));
        self.call(|answer| Call::Acknowledge { id, by, comment, answer })
            .await
            .unwrap_or_else(|| Err(stopped()))
    }

    /// Ends an alert; one that a rule still states stays resolved until its expression has been false once. On return
    /// it is durable.
    ///
    /// # Errors
    /// When there is no such alert, it is resolved already, or the store fails.
    pub async fn resolve(
        &self,
        id: &str,
        by: &str,
        comment: Option<&str>,
    ) -> Result<AlertView, AlertRefusal> {
        let (id, by, comment) = (id.to_owned(), by.to_owned(), comment.map(str::to_owned));
        self.call(|answer| Call::Resolve { id, by, comment, answer }).await.unwrap_or_else(|| Err(stopped()))
    }

    /// State changes, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn history(&self, query: HistoryQuery) -> Result<HistoryPage, StateError> {
        let store = Arc::clone(&self.store);
        blocking(move || history::page(&*store, &query)).await
    }

    /// From now on another configuration holds; on return it does.
    pub async fn reload(&self, config: Arc<AlertmanagerConfig>) {
        let _stopped = self.call(|answer| Call::Reload(config, answer)).await;
    }

    /// Commits what is under way, gives requests in flight a moment, and ends.
    pub async fn stop(&self) {
        let _stopped = self.calls.send(Call::Stop).await;
        let task = self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ended = task.await;
        }
    }

    async fn call<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Option<T> {
        let (answer, wait) = oneshot::channel();
        self.calls.send(call(answer)).await.ok()?;
        wait.await.ok()
    }
}

fn stopped() -> AlertRefusal {
    AlertRefusal::Store("the alert pipeline has stopped".to_owned())
}

/// Answers that are given once the change is durable.
enum Reply {
    View(Answer, Box<Result<AlertView, AlertRefusal>>),
    Posted(oneshot::Sender<Result<(), AlertRefusal>>),
    Done(oneshot::Sender<()>),
}

struct Shell {
    core: Core,
    store: Arc<dyn Store>,
    clock: Clock,
    notifier: Notifier,
    metrics: AlertsMetrics,
    /// What a commit that failed should have made durable.
    unsaved: Vec<Op>,
    /// That they cannot be.
    undurable: Repeats,
    clean_up_at: Timestamp,
}

impl Shell {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Vec<Alert>>,
        mut calls: mpsc::Receiver<Call>,
        mut settled: mpsc::UnboundedReceiver<Settled>,
    ) {
        let (mut batches, mut asked, mut done) = (Vec::new(), Vec::new(), Vec::new());
        let (mut inbox_open, mut stopping) = (true, false);
        // Anything that fell due while the server was down is done now.
        self.act(Vec::new()).await;
        while !stopping {
            let wait = self.wait();
            let clock = self.clock.clone();
            tokio::select! {
                n = inbox.recv_many(&mut batches, BATCH_MAX), if inbox_open => inbox_open = n > 0,
                n = calls.recv_many(&mut asked, BATCH_MAX) => stopping = n == 0,
                _ = settled.recv_many(&mut done, BATCH_MAX) => {}
                () = clock.sleep(wait) => {}
            }
            // What came in the same moment goes into the same commit.
            while batches.len() < BATCH_MAX
                && let Ok(batch) = inbox.try_recv()
            {
                batches.push(batch);
            }
            while done.len() < BATCH_MAX
                && let Ok(one) = settled.try_recv()
            {
                done.push(one);
            }
            let now = self.clock.now_ms();
            for batch in batches.drain(..) {
                self.core.receive(batch, now);
            }
            self.core.settled(std::mem::take(&mut done));
            let mut replies = Vec::new();
            for call in asked.drain(..) {
                match self.answer(call, now) {
                    Some(reply) => replies.extend(reply),
                    None => stopping = true,
                }
            }
            if now >= self.clean_up_at {
                self.core.clean_up(now);
                self.shorten_history().await;
                self.clean_up_at = now + CLEAN_UP_EVERY_MS;
            }
            self.act(replies).await;
        }
        self.notifier.stop().await;
        while let Ok(one) = settled.try_recv() {
            done.push(one);
        }
        self.core.settled(done);
        self.act(Vec::new()).await;
    }

    /// How long nothing will happen by itself.
    fn wait(&self) -> Duration {
        let now = self.clock.now_ms();
        let next = self.core.next_wakeup().unwrap_or(Timestamp::MAX).min(self.clean_up_at);
        let wait = Duration::from_millis(next.saturating_sub(now).max(0).unsigned_abs());
        // The wall clock may be set; that is noticed within a minute.
        let wait = wait.min(Duration::from_secs(60));
        if self.unsaved.is_empty() { wait } else { wait.min(COMMIT_RETRY) }
    }

    /// Does what is asked; `None` when that is to stop.
    fn answer(&mut self, call: Call, now: Timestamp) -> Option<Option<Reply>> {
        let reply = match call {
            // Nobody may wait any more; that is theirs to know.
            Call::List(filter, answer) => {
                let _gone = answer.send(self.core.list(&filter));
                return Some(None);
            }
            Call::Get(id, answer) => {
                let _gone = answer.send(self.core.get(&id));
                return Some(None);
            }
            Call::Create(new, answer) => Reply::View(answer, Box::new(self.core.create(new, now))),
            Call::Acknowledge { id, by, comment, answer } => {
                Reply::View(answer, Box::new(self.core.acknowledge(&id, &by, comment.as_deref(), now)))
            }
            Call::Resolve { id, by, comment, answer } => {
                Reply::View(answer, Box::new(self.core.resolve_by_call(&id, &by, comment.as_deref(), now)))
            }
            Call::Post(alerts, answer) => {
                self.core.receive(alerts, now);
                Reply::Posted(answer)
            }
            Call::Reload(config, answer) => {
                self.notifier.reload(Arc::clone(&config.receivers));
                self.core.reload(config, now);
                Reply::Done(answer)
            }
            Call::Stop => return None,
        };
        Some(Some(reply))
    }

    /// Keeps history within its limit of rows: the oldest go.
    async fn shorten_history(&mut self) {
        let (store, rows_max) = (Arc::clone(&self.store), self.core.history_rows_max());
        let result = blocking(move || history::shorten(&*store, rows_max)).await;
        if let Err(e) = result {
            tracing::error!(error = %e, "Alert history could not be shortened");
        }
    }

    /// Runs what is due, commits, and only then sends and answers.
    async fn act(&mut self, replies: Vec<Reply>) {
        let Effects { ops, notifications } = self.core.finish(self.clock.now_ms());
        let saved = self.commit(ops).await;
        // If the disk fails, people must hear of trouble all the more: they are told without the safety of the outbox.
        self.notifier.send(notifications);
        for reply in replies {
            match reply {
                Reply::View(answer, result) => {
                    let _gone = answer.send(match &saved {
                        Err(e) if result.is_ok() => Err(AlertRefusal::Store(e.to_string())),
                        _ => *result,
                    });
                }
                Reply::Posted(answer) => {
                    let _gone =
                        answer.send(saved.as_ref().map_err(|e| AlertRefusal::Store(e.to_string())).copied());
                }
                Reply::Done(answer) => {
                    let _gone = answer.send(());
                }
            }
        }
    }

    async fn commit(&mut self, ops: Vec<Op>) -> Result<(), StateError> {
        let mut all = std::mem::take(&mut self.unsaved);
        all.extend(ops);
        if all.is_empty() {
            return Ok(());
        }
        let (store, copy) = (Arc::clone(&self.store), all.clone());
        let result = blocking(move || store.commit(copy)).await;
        self.metrics.commits.inc();
        if let Err(e) = &result {
            self.metrics.commits_failed.inc();
            if let Some(repeated) = self.undurable.say(&e.to_string(), self.clock.now_ms()) {
                tracing::error!(error = %e, ops = all.len(), repeated, "Alert state could not be made durable; it will be tried again");
            }
            self.unsaved = last_of_each(all);
        } else if self.undurable.over() {
            tracing::info!("Alert state is durable again");
        }
        result
    }
}

/// Only the last change of each row, so that what waits for a broken disk is bounded by the state itself.
fn last_of_each(ops: Vec<Op>) -> Vec<Op> {
    let mut last: HashMap<(Table, String), usize> = HashMap::new();
    for (i, op) in ops.iter().enumerate() {
        let key = match op {
            Op::Put { table, row } => (*table, row.key.clone()),
            Op::Delete { table, key } => (*table, key.clone()),
            Op::DeleteBefore { table, .. } => (*table, String::new()),
        };
        last.insert(key, i);
    }
    let mut keep: Vec<usize> = last.into_values().collect();
    keep.sort_unstable();
    // History alone grows while the disk is broken: the newest is kept.
    let mut history = 0;
    let mut kept: Vec<Op> = Vec::with_capacity(keep.len());
    let mut ops: Vec<Option<Op>> = ops.into_iter().map(Some).collect();
    for i in keep.into_iter().rev() {
        let Some(op) = ops[i].take() else { continue };
        history += usize::from(matches!(op, Op::Put { table: Table::History, .. }));
        if history <= UNSAVED_HISTORY_MAX || !matches!(op, Op::Put { table: Table::History, .. }) {
            kept.push(op);
        }
    }
    kept.reverse();
    kept
}

/// Events of history that are held while the disk is broken.
const UNSAVED_HISTORY_MAX: usize = 10_000;

/// Runs what waits for the disk beside the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, StateError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(StateError::Failed(e.to_string())))
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
