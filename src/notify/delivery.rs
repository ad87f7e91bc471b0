//! The loop around the queue: sends what is due, waits for answers, reports what is settled.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::metrics::Destination;
use super::queue::{Outcome, Queue};
use super::{DeliveryError, Notification, NotifyMetrics, Post, Receivers, Transport};
use crate::clock::Clock;

/// A notification that no receiver has taken for so long, in milliseconds (a week), is dropped, with an error in the
/// log and in `notifications_dropped`: what it says has no worth any more.
pub const NOTIFICATION_AGE_MAX_MS: i64 = 7 * 86_400_000;
/// How long requests in flight may take to end when the server stops. What is not settled then stays in the outbox.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// Failures in a row after which a repeated failure is only logged each so many times.
const LOG_EVERY: u32 = 10;

/// A notification that is done with: its row can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    pub seq: u64,
    /// The receiver has it; else it was dropped.
    pub taken: bool,
}

enum Command {
    Send(Vec<Notification>),
    Reload(Arc<Receivers>),
    Stop(oneshot::Sender<()>),
}

/// Handle to the delivery task.
#[derive(Clone)]
pub struct Notifier {
    // Bounded by the outbox: what is sent here has a row there.
    commands: mpsc::UnboundedSender<Command>,
}

impl Notifier {
    /// Starts delivery. The second value gives each notification that is done with, once.
    pub fn start(
        transport: Arc<dyn Transport>,
        receivers: Arc<Receivers>,
        clock: Clock,
        metrics: NotifyMetrics,
    ) -> (Notifier, mpsc::UnboundedReceiver<Settled>, JoinHandle<()>) {
        let (commands, incoming) = mpsc::unbounded_channel();
        let (settled, settled_rx) = mpsc::unbounded_channel();
        metrics.prepare(&receivers);
        let delivery = Delivery {
            transport,
            receivers,
            clock,
            metrics,
            settled,
            queue: Queue::default(),
            in_flight: JoinSet::new(),
        };
        let task = tokio::spawn(delivery.run(incoming));
        (Notifier { commands }, settled_rx, task)
    }

    /// Hands notifications over, each stream in order. They must be in the outbox already.
    pub fn send(&self, notifications: Vec<Notification>) {
        if !notifications.is_empty() {
            // Fails only once delivery has stopped; then the outbox keeps them.
            let _stopped = self.commands.send(Command::Send(notifications));
        }
    }

    /// From now on these are the receivers; attempts already under way are not touched.
    pub fn reload(&self, receivers: Arc<Receivers>) {
        let _stopped = self.commands.send(Command::Reload(receivers));
    }

    /// Ends delivery: gives requests in flight a moment, and leaves the rest to the outbox.
    pub async fn stop(&self) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Stop(done)).is_ok() {
            let _stopped = wait.await;
        }
    }
}

struct Delivery {
    transport: Arc<dyn Transport>,
    receivers: Arc<Receivers>,
    clock: Clock,
    metrics: NotifyMetrics,
    settled: mpsc::UnboundedSender<Settled>,
    queue: Queue,
    in_flight: JoinSet<Attempt>,
}

struct Attempt {
    notification: Arc<Notification>,
    kind: &'static str,
    duration: Duration,
    result: Result<(), DeliveryError>,
}

impl Delivery {
    async fn run(mut self, mut incoming: mpsc::UnboundedReceiver<Command>) {
        loop {
            let next_due = self.send_due();
            self.metrics.pending.set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
            let wait = next_due.map(|at| Duration::from_millis((at - self.now()).max(0).unsigned_abs()));
            let clock = self.clock.clone();
            tokio::select! {
                command = incoming.recv() => match command {
                    Some(Command::Send(notifications)) => {
                        let now = self.now();
                        for notification in notifications {
                            self.queue.push(Arc::new(notification), now);
                        }
                    }
                    Some(Command::Reload(receivers)) => {
                        self.metrics.prepare(&receivers);
                        self.receivers = receivers;
                    }
                    Some(Command::Stop(done)) => {
                        self.finish().await;
                        let _nobody_waits = done.send(());
                        return;
                    }
                    None => return self.finish().await,
                },
                Some(attempt) = self.in_flight.join_next() => self.ended(attempt),
                () = async { match wait {
                    Some(wait) => clock.sleep(wait).await,
                    None => std::future::pending().await,
                }} => {}
            }
        }
    }

    /// Milliseconds of the monotonic clock, so that a jump of the wall clock delays nothing.
    fn now(&self) -> i64 {
        self.clock.monotonic().as_millis() as i64
    }

    /// Starts every attempt that is due; returns when the next one is.
    fn send_due(&mut self) -> Option<i64> {
        loop {
            let due = self.queue.take_due(self.now());
            if due.is_empty() {
                return self.queue.next_due();
            }
            for notification in due {
                self.send(notification);
            }
        }
    }

    fn send(&mut self, notification: Arc<Notification>) {
        let integration = self
            .receivers
            .get(&*notification.receiver)
            .and_then(|r| r.integrations.get(notification.integration))
            .cloned();
        let Some(integration) = integration else {
            tracing::warn!(
                receiver = %notification.receiver, integration = notification.integration,
                group_key = %notification.group_key,
                "A notification is dropped: its receiver is no longer configured"
            );
            let gone = Destination {
                integration: "webhook".to_owned(),
                receiver: notification.receiver.as_ref().to_owned(),
            };
            self.metrics.dropped.get_or_create(&gone).inc();
            self.settle(&notification, false);
            return;
        };
        let post =
            Post { idempotency_key: notification.idempotency_key.clone(), body: notification.body.clone() };
        let kind = integration.kind();
        let attempt = self.transport.post(Arc::clone(&integration.webhook), post);
        let clock = self.clock.clone();
        self.in_flight.spawn(async move {
            let begin = clock.monotonic();
            // A panic inside would leave the stream in flight for ever.
            let result = std::panic::AssertUnwindSafe(attempt)
                .catch_unwind()
                .await
                .unwrap_or_else(|_| Err(DeliveryError::Config("the attempt panicked".to_owned())));
            Attempt { notification, kind, duration: clock.monotonic() - begin, result }
        });
    }

    fn ended(&mut self, attempt: Result<Attempt, tokio::task::JoinError>) {
        // Panics are caught within, and nothing is cancelled before the task ends.
        let Ok(Attempt { notification, kind, duration, result }) = attempt else { return };
        let destination =
            Destination { integration: kind.to_owned(), receiver: notification.receiver.as_ref().to_owned() };
        self.metrics.attempts.get_or_create(&destination).inc();
        self.metrics.request_duration.observe(duration.as_secs_f64());
        let age_ms = self.clock.now_ms() - notification.created_at;
        let error = match result {
            Ok(()) => {
                self.metrics.delivered.get_or_create(&destination).inc();
                self.metrics.latency.observe(age_ms.max(0) as f64 / 1e3);
                tracing::debug!(
                    receiver = %notification.receiver, group_key = %notification.group_key, age_ms,
                    "Notification delivered"
                );
                return self.settle(&notification, true);
            }
            Err(error) => error,
        };
        self.metrics.failed.get_or_create(&destination).inc();
        if age_ms > NOTIFICATION_AGE_MAX_MS {
            tracing::error!(
                receiver = %notification.receiver, group_key = %notification.group_key, error = %error,
                "A notification is dropped: nobody has taken it for {} days",
                NOTIFICATION_AGE_MAX_MS / 86_400_000
            );
            self.metrics.dropped.get_or_create(&destination).inc();
            return self.settle(&notification, false);
        }
        let retry_after_ms = match &error {
            DeliveryError::Status { retry_after: Some(pause), .. } => i64::try_from(pause.as_millis()).ok(),
            _ => None,
        };
        let outcome = Outcome::Failed { outage: error.is_outage(), retry_after_ms };
        let failures = self.queue.done(&notification, outcome, self.now());
        if failures <= 3 || failures.is_multiple_of(LOG_EVERY) {
            tracing::warn!(
                receiver = %notification.receiver, integration = kind,
                group_key = %notification.group_key, failures, error = %error,
                "A notification could not be delivered and will be sent again"
            );
        }
    }

    fn settle(&mut self, notification: &Notification, taken: bool) {
        let now = self.now();
        self.queue.done(notification, Outcome::Settled { taken }, now);
        let _stopped = self.settled.send(Settled { seq: notification.seq, taken });
    }

    async fn finish(&mut self) {
        let clock = self.clock.clone();
        let grace = clock.sleep(STOP_GRACE);
        tokio::pin!(grace);
        loop {
            tokio::select! {
                attempt = self.in_flight.join_next() => match attempt {
                    Some(attempt) => self.ended(attempt),
                    None => return,
                },
                () = &mut grace => return self.in_flight.abort_all(),
            }
        }
    }
}
