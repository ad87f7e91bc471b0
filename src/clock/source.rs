//! The system's clock and one that a test moves.

use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Tells the time and waits. Cloning gives a handle to the same clock.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { start: std::time::Instant },
    Manual(ManualClock),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the ambient clock")]
    pub fn system() -> Self {
        Clock(Source::System { start: std::time::Instant::now() })
    }

    /// A clock that stands at `now` until [`ManualClock::advance`] moves it.
    #[must_use]
    pub fn manual(now: i64) -> (Self, ManualClock) {
        let manual = ManualClock {
            state: Arc::new(Mutex::new(ManualState {
                now,
                elapsed: Duration::ZERO,
                per_reading: Duration::ZERO,
            })),
            moved: Arc::default(),
        };
        (Clock(Source::Manual(manual.clone())), manual)
    }

    /// Wall time in milliseconds since the epoch. It may jump.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the ambient clock")]
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System { .. } => match std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)
            {
                Ok(d) => d.as_millis() as i64,
                Err(e) => -(e.duration().as_millis() as i64),
            },
            Source::Manual(m) => m.lock().now,
        }
    }

    /// Time since this clock was made. It never goes back.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the ambient clock")]
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { start } => std::time::Instant::now().duration_since(*start),
            Source::Manual(m) => {
                let mut state = m.lock();
                let now = state.elapsed + state.per_reading;
                state.elapsed = now;
                now
            }
        }
    }

    /// Waits for `duration` by monotonic time.
    pub async fn sleep(&self, duration: Duration) {
        match &self.0 {
            Source::System { .. } => tokio::time::sleep(duration).await,
            Source::Manual(m) => {
                let until = m.lock().elapsed + duration;
                loop {
                    let moved = m.moved.notified();
                    tokio::pin!(moved);
                    // Registered before the check, so that no move is missed in between.
                    moved.as_mut().enable();
                    if m.lock().elapsed >= until {
                        return;
                    }
                    moved.await;
                }
            }
        }
    }

    /// Waits until wall time reaches `at`; a jump of the wall clock while waiting is noticed within a minute.
    pub async fn sleep_until_ms(&self, at: i64) {
        loop {
            let rest = at - self.now_ms();
            if rest <= 0 {
                return;
            }
            self.sleep(Duration::from_millis(rest.unsigned_abs().min(60_000))).await;
        }
    }
}

/// The hand that moves a manual clock.
#[derive(Clone, Debug)]
pub struct ManualClock {
    state: Arc<Mutex<ManualState>>,
    moved: Arc<tokio::sync::Notify>,
}

#[derive(Debug)]
struct ManualState {
    now: i64,
    elapsed: Duration,
    /// What each reading of the monotonic time adds to it.
    per_reading: Duration,
}

impl ManualClock {
    /// From now on every reading of the monotonic time moves it by `step`: so a deadline comes after so many readings,
    /// and the time tells how often it was read.
    pub fn advance_by_reading(&self, step: Duration) {
        self.lock().per_reading = step;
    }

    /// Moves wall and monotonic time forward and wakes whoever has waited long enough.
    pub fn advance(&self, by: Duration) {
        let mut state = self.lock();
        state.now += by.as_millis() as i64;
        state.elapsed += by;
        drop(state);
        self.moved.notify_waiters();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ManualState> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_when_moved() {
        let (clock, hand) = Clock::manual(1_000);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until_ms(3_000).await;
                clock.now_ms()
            }
        });
        tokio::task::yield_now().await;
        hand.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        hand.advance(Duration::from_secs(1));
        assert_eq!(sleeper.await.unwrap(), 3_000);
    }
}
