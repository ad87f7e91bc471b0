//! A bounded pool for work that blocks and uses the CPU: queries, exports, state reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::error::{ApiError, ErrorKind};
use crate::promql::QueryError;

/// So many pieces of work run at once, so many more wait, the rest is refused.
#[derive(Clone, Debug)]
pub struct Pool {
    running: Arc<Semaphore>,
    /// Permits of those who run or wait.
    admitted: Arc<Semaphore>,
    /// Longest wait.
    queue_timeout: Duration,
}

impl Pool {
    #[must_use]
    pub fn new(concurrency: usize, queue: usize, queue_timeout: Duration) -> Self {
        Pool {
            running: Arc::new(Semaphore::new(concurrency.max(1))),
            admitted: Arc::new(Semaphore::new(concurrency.max(1) + queue)),
            queue_timeout,
        }
    }

    /// Runs `work`, which must be small, here and now if the pool has room for it; else gives it back. Moving work of
    /// some tens of microseconds to another thread and back doubles what it costs.
    ///
    /// # Errors
    /// What `work` says; the work itself if there is no room.
    pub fn run_here<T, W>(&self, work: W) -> Result<Result<T, ApiError>, W>
    where
        W: FnOnce(Arc<AtomicBool>) -> Result<T, ApiError>,
    {
        let (Ok(_admitted), Ok(_running)) = (self.admitted.try_acquire(), self.running.try_acquire()) else {
            return Err(work);
        };
        Ok(work(Arc::default()))
    }

    /// Runs `work` on a blocking thread. It is given a flag that becomes true once nobody waits for the answer any
    /// more: then it should stop soon.
    ///
    /// # Errors
    /// 503 when the queue is full or the wait was too long; 500 when `work` panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(Arc<AtomicBool>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let admitted = Arc::clone(&self.admitted).try_acquire_owned().map_err(|_| {
            ApiError::new(ErrorKind::Unavailable, "too many requests of this kind are waiting already")
        })?;
        let running = tokio::time::timeout(self.queue_timeout, Arc::clone(&self.running).acquire_owned())
            .await
            .map_err(|_| ApiError::new(ErrorKind::Timeout, "query timed out in query queue"))?
            .map_err(|_| ApiError::new(ErrorKind::Unavailable, "the server is stopping"))?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let guard = CancelOnDrop(Arc::clone(&cancelled));
        let answer = tokio::task::spawn_blocking(move || {
            // Held until the work is done, also when nobody waits for it any more.
            let _permits = (admitted, running);
            work(cancelled)
        });
        let answer = answer.await;
        drop(guard);
        answer.unwrap_or_else(|e| Err(ApiError::internal("answering the request", e)))
    }
}

/// Refuses to go on with work that nobody waits for any more.
///
/// # Errors
/// When the flag that [`Pool::run`] gave to it has become true.
pub fn check_wanted(cancelled: &AtomicBool) -> Result<(), ApiError> {
    if cancelled.load(Ordering::Relaxed) { Err(QueryError::Cancelled.into()) } else { Ok(()) }
}

/// Tells the work that its asker has gone: hyper drops the handler's future when the client disconnects.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_past_the_queue_is_refused_and_dropping_cancels() {
        let pool = Pool::new(1, 0, Duration::from_secs(5));
        let (started, on_start) = tokio::sync::oneshot::channel();
        let (seen, on_seen) = tokio::sync::oneshot::channel();
        let first = tokio::spawn({
            let pool = pool.clone();
            async move {
                pool.run(move |cancelled| {
                    started.send(()).unwrap();
                    while !cancelled.load(Ordering::Relaxed) {
                        std::thread::yield_now();
                    }
                    seen.send(()).unwrap();
                    Ok(())
                })
                .await
            }
        });
        on_start.await.unwrap();
        assert_eq!(pool.run(|_| Ok(())).await.unwrap_err().kind, ErrorKind::Unavailable);
        first.abort();
        on_seen.await.unwrap();
    }

    #[test]
    fn small_work_waits_for_room_like_any_other() {
        let pool = Pool::new(1, 0, Duration::from_secs(5));
        let inner = pool.clone();
        let answer = pool.run_here(move |_| Ok(inner.run_here(|_| Ok(())).is_err()));
        assert!(matches!(answer, Ok(Ok(true))), "the only permit is taken while work runs");
        assert!(matches!(pool.run_here(|_| Ok(1)), Ok(Ok(1))));
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error() {
        let pool = Pool::new(1, 1, Duration::from_secs(5));
        let answer = pool.run::<()>(|_| panic!("a bug")).await;
        assert_eq!(answer.unwrap_err().kind, ErrorKind::Internal);
        assert_eq!(pool.run(|_| Ok(1)).await, Ok(1));
    }
}
