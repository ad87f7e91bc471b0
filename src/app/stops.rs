//! What has to be stopped, last started first.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// How long one part may take to stop before the next is stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

type Stop = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// A named, last-in-first-out list of stops.
#[derive(Default)]
pub struct Stops {
    list: Vec<(&'static str, Stop)>,
}

impl Stops {
    /// Adds a part that was just started.
    pub fn push<F>(&mut self, name: &'static str, stop: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.list.push((name, Box::new(move || Box::pin(stop()))));
    }

    /// Stops everything; a part that does not stop in time is left behind.
    pub async fn run(mut self) {
        while let Some((name, stop)) = self.list.pop() {
            tracing::debug!(part = name, "stopping");
            if tokio::time::timeout(STOP_TIMEOUT, stop()).await.is_err() {
                tracing::warn!(part = name, "did not stop in time");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_started_stops_first_and_none_holds_up_the_others() {
        let order: Arc<Mutex<Vec<&str>>> = Arc::default();
        let mut stops = Stops::default();
        for name in ["storage", "rules"] {
            let order = Arc::clone(&order);
            stops.push(name, move || async move { order.lock().unwrap().push(name) });
        }
        stops.push("stuck", std::future::pending);
        stops.run().await;
        assert_eq!(*order.lock().unwrap(), ["rules", "storage"]);
    }
}
