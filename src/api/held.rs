//! Large answers, on their way to slow readers.
//!
//! What waits for a client stands on the account of `--query.max-memory-total`, and a client that does not take a piece
//! of it within [`WRITE_TIMEOUT`] gets no more: the answer is dropped then and there, also when nobody asks the body for
//! its next piece (as HTTP/2 does not while the client grants no room).

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::watch;

use super::error::ApiError;
use super::json::PIECE_BYTES;
use super::metrics::ApiMetrics;
use super::state::ApiState;
use crate::promql::Charge;

/// So long may a client take for a piece of [`PIECE_BYTES`], and a write to its connection may wait. Prometheus has
/// no such bound, and no flag for it: its `--web.read-timeout` is about requests.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// A body that was written whole and is handed out in pieces, so that compressing one does not hold a worker for long.
pub(super) struct Whole(pub Bytes);

impl hyper::body::Body for Whole {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let n = self.0.len().min(PIECE_BYTES);
        Poll::Ready((n > 0).then(|| Ok(Frame::data(self.0.split_to(n)))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

/// Charges an answer that is longer than a piece, and watches whether it is read. Results of queries, whose length is
/// not known before, bring a charge of their own.
pub(super) async fn hold(State(state): State<Arc<ApiState>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let bytes = response.body().size_hint().exact();
    if bytes.is_some_and(|b| b <= PIECE_BYTES as u64) {
        return response;
    }
    match state.engine.charge(bytes.unwrap_or(0)) {
        Err(error) => ApiError::from(error).into_response(),
        Ok(charge) => response.map(|body| watched(body, charge, WRITE_TIMEOUT, &state.metrics)),
    }
}

/// The body, for as long as each of its pieces is taken within `timeout`.
fn watched(body: Body, charge: Charge, timeout: Duration, metrics: &ApiMetrics) -> Body {
    let size_hint = body.size_hint();
    let rest = Arc::new(Mutex::new(Some((body, charge))));
    let (taken, mut progress) = watch::channel(());
    let (watched, given_up) = (Arc::downgrade(&rest), metrics.answers_given_up.clone());
    tokio::spawn(async move {
        loop {
            match tokio::time::timeout(timeout, progress.changed()).await {
                Ok(Ok(())) => {}
                // The connection has let go of the body.
                Ok(Err(_)) => return,
                Err(_) => break,
            }
        }
        let Some(rest) = watched.upgrade() else { return };
        if rest.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            given_up.inc();
            tracing::debug!("an answer is given up: its client does not read it");
        }
    });
    Body::new(Watched { rest, taken, size_hint })
}

struct Watched {
    /// Nothing once it was given up.
    rest: Arc<Mutex<Option<(Body, Charge)>>>,
    taken: watch::Sender<()>,
    size_hint: SizeHint,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let mut rest = this.rest.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((body, _)) = rest.as_mut() else {
            let error = io::Error::new(io::ErrorKind::TimedOut, "the client reads too slowly");
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        this.size_hint = body.size_hint();
        if polled.is_ready() {
            this.taken.send_replace(());
        }
        polled
    }

    fn size_hint(&self) -> SizeHint {
        self.size_hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::clock::Clock;
    use crate::promql::{Engine, EngineOptions};
    use crate::telemetry;

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_a_piece_in_time_gets_all_and_whoever_does_not_frees_the_rest() {
        let metrics = ApiMetrics::register(&mut telemetry::new_registry());
        let engine = Engine::new(EngineOptions::default(), Clock::system());
        let text: Vec<u8> = (0..5 * PIECE_BYTES + 7).map(|i| i as u8).collect();
        let answer = || {
            let body = Body::new(Whole(Bytes::from(text.clone())));
            watched(body, engine.charge(text.len() as u64).unwrap(), WRITE_TIMEOUT, &metrics)
        };
        let (mut slow, mut got) = (answer(), Vec::new());
        assert_eq!(slow.size_hint().exact(), Some(text.len() as u64));
        while let Some(frame) = slow.frame().await {
            got.extend_from_slice(&frame.unwrap().into_data().unwrap());
            tokio::time::sleep(WRITE_TIMEOUT - Duration::from_secs(1)).await;
        }
        assert!(got == text);
        drop(slow);
        assert_eq!((engine.held_bytes(), metrics.answers_given_up.get()), (0, 0));

        let mut deaf = answer();
        assert!(deaf.frame().await.unwrap().is_ok());
        assert_eq!(engine.held_bytes(), text.len() as u64);
        tokio::time::sleep(WRITE_TIMEOUT + Duration::from_secs(1)).await;
        assert_eq!((engine.held_bytes(), metrics.answers_given_up.get()), (0, 1));
        assert!(deaf.frame().await.unwrap().is_err());
    }
}
