//! The engine's front: limits, deadline, instant and range queries.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::ast::{Expr, selectors};
use super::charge::{Account, Charge};
use super::{Features, QueryResult, Selections, eval};
use crate::clock::Clock;
use crate::model::{GoRegex, Matcher, Timestamp};
use crate::storage::Reader;

/// What holds for every query.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// `--query.lookback-delta`
    pub lookback_ms: i64,
    /// The step of a subquery that names none (`global.evaluation_interval`).
    pub default_subquery_step_ms: i64,
    pub features: Features,
    pub limits: QueryLimits,
}

/// What a query may cost at most.
#[derive(Clone, Copy, Debug)]
pub struct QueryLimits {
    /// `--query.timeout`
    pub timeout: Duration,
    /// `--query.max-samples`
    pub max_samples: u64,
    /// `--query.max-memory`: bytes of the tables that a query holds at once.
    pub max_bytes: u64,
    /// `--query.max-memory-total`: the same of all queries that run at once, and of results that clients have not taken yet.
    pub max_bytes_total: u64,
    /// `--query.max-series`: series in the result.
    pub max_series: usize,
}

impl Default for QueryLimits {
    fn default() -> Self {
        QueryLimits {
            timeout: Duration::from_secs(120),
            max_samples: 50_000_000,
            max_bytes: 2 << 30,
            max_bytes_total: 4 << 30,
            max_series: 1_000_000,
        }
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            lookback_ms: 300_000,
            default_subquery_step_ms: 60_000,
            features: Features::default(),
            limits: QueryLimits::default(),
        }
    }
}

/// When and how a parsed expression is evaluated.
#[derive(Clone, Debug)]
pub struct QueryRequest {
    /// First (or only) evaluation time.
    pub start: Timestamp,
    /// Last evaluation time; equal to `start` for an instant query.
    pub end: Timestamp,
    /// 0 for an instant query.
    pub step_ms: i64,
    /// Instead of the engine's lookback.
    pub lookback_ms: Option<i64>,
    /// Instead of the engine's timeout, if shorter.
    pub timeout: Option<Duration>,
    /// Whether the result counts the samples of each step.
    pub per_step: bool,
    /// Whether the result says what each part of the expression cost.
    pub profile: bool,
    /// Set to true by whoever no longer wants the answer; the query then stops soon.
    pub cancelled: Arc<AtomicBool>,
}

impl QueryRequest {
    #[must_use]
    pub fn instant(ts: Timestamp) -> Self {
        QueryRequest {
            start: ts,
            end: ts,
            step_ms: 0,
            lookback_ms: None,
            timeout: None,
            per_step: false,
            profile: false,
            cancelled: Arc::default(),
        }
    }

    #[must_use]
    pub fn range(start: Timestamp, end: Timestamp, step_ms: i64) -> Self {
        QueryRequest { start, end, step_ms, ..QueryRequest::instant(start) }
    }
}

/// Why a query has no answer.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum QueryError {
    /// `errorType` "execution".
    #[error("{0}")]
    Execution(String),
    /// `errorType` "timeout".
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// `errorType` "canceled".
    #[error("query was canceled in expression evaluation")]
    Cancelled,
    /// `errorType` "execution".
    #[error(
        "query processing would load too many samples into memory in query execution (limit {limit}; raise it with --query.max-samples)"
    )]
    TooManySamples { limit: u64 },
    /// `errorType` "execution".
    #[error(
        "query processing would hold too much memory in query execution (limit {limit} bytes; raise it with --query.max-memory)"
    )]
    TooMuchMemory { limit: u64 },
    /// `errorType` "execution".
    #[error(
        "the queries that run now, and results that clients have not read yet, would hold too much memory together (limit {limit} bytes; raise it with --query.max-memory-total, or try again later)"
    )]
    TooMuchMemoryTogether { limit: u64 },
    /// `errorType` "execution".
    #[error(
        "the result has at least {series} series, more than the limit of {limit} (raise it with --query.max-series)"
    )]
    TooManySeries { series: usize, limit: usize },
}

/// Evaluates expressions. Cloning is cheap. Calls block and use the CPU: run them on the query pool.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) options: Arc<EngineOptions>,
    pub(super) clock: Clock,
    /// Bytes that all queries hold at present.
    pub(super) held: Arc<Account>,
}

impl Engine {
    /// The clock serves deadlines only, never the evaluation itself.
    #[must_use]
    pub fn new(options: EngineOptions, clock: Clock) -> Self {
        Engine { options: Arc::new(options), clock, held: Arc::default() }
    }

    #[must_use]
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// Whether evaluating `expr` takes a small part of a millisecond at most and touches nothing but memory: then it may
    /// be done on a thread that must not block. An estimate, itself of a few microseconds.
    #[must_use]
    pub fn is_small(&self, expr: &Expr, request: &QueryRequest, reader: &Reader) -> bool {
        eval::is_small(&self.options, expr, request, reader)
    }

    /// Evaluates `expr` (whose text was `query`, for the positions in annotations) over `reader`.
    /// An instant query gives any [`Value`](super::Value); a range query gives a matrix.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn evaluate(
        &self,
        query: &str,
        expr: &Expr,
        request: &QueryRequest,
        reader: &Reader,
    ) -> Result<QueryResult, QueryError> {
        eval::run(self, query, expr, request, reader, None)
    }

    /// As [`Engine::evaluate`], as one of several queries that read the same data and share what they select. What is
    /// kept of it has the bounds of one query.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn evaluate_sharing(
        &self,
        query: &str,
        expr: &Expr,
        request: &QueryRequest,
        reader: &Reader,
        selections: &Selections,
    ) -> Result<QueryResult, QueryError> {
        eval::run(self, query, expr, request, reader, Some(selections))
    }

    /// Tells which samples the instant queries at `ts` are going to read that share `selections`, so that what several of
    /// them need is asked for and decoded once. Without it they share less, and give the same.
    pub fn foresee<'e>(
        &self,
        selections: &mut Selections,
        expressions: impl IntoIterator<Item = &'e Expr>,
        ts: Timestamp,
    ) {
        if selections.is_empty() {
            return;
        }
        selections.clear_uses();
        for expr in expressions {
            eval::each_use_at(&self.options, expr, ts, &mut |matchers, what| {
                selections.add_use(matchers, what)
            });
        }
    }

    /// Puts what the regular expressions of a parsed expression take on the account of all queries, from before it waits
    /// for its turn.
    ///
    /// # Errors
    /// When it is more than one query, or all of them together, may hold.
    pub fn charge_regexes(&self, expr: &Expr) -> Result<Charge, QueryError> {
        let matchers = selectors(expr).into_iter().flat_map(|v| &v.matchers);
        let bytes: u64 = matchers.filter_map(Matcher::regex).map(GoRegex::bytes).sum();
        let limits = &self.options.limits;
        if bytes > limits.max_bytes {
            return Err(QueryError::TooMuchMemory { limit: limits.max_bytes });
        }
        self.charge(bytes)
    }

    /// Takes so many bytes on the account of all queries: for what is as large as a result and waits for a client.
    ///
    /// # Errors
    /// When that is past the bound of all queries together.
    pub fn charge(&self, bytes: u64) -> Result<Charge, QueryError> {
        let mut charge = Charge::of(&self.held, 0);
        self.raise(&mut charge, bytes)?;
        Ok(charge)
    }

    /// Adds so many bytes to a charge.
    ///
    /// # Errors
    /// As for [`Engine::charge`]; they stand on it all the same.
    pub fn raise(&self, charge: &mut Charge, bytes: u64) -> Result<(), QueryError> {
        let limit = self.options.limits.max_bytes_total;
        charge.raise(bytes);
        if self.held.is_over(limit) {
            return Err(QueryError::TooMuchMemoryTogether { limit });
        }
        Ok(())
    }

    /// Bytes that all queries hold at present, with results that are still being handed out.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held.bytes()
    }
}
