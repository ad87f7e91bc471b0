//! What can be wrong with what comes in.

use super::{BudgetFull, LabelError, RemoteWriteStats};
use crate::exposition::protobuf::ProtobufError;
use crate::exposition::remote_write::{DecompressError, WireError};
use crate::exposition::{ParseError, UnsupportedContentType};
use crate::state::StateError;
use crate::storage::StorageError;

/// Why a scrape failed; `up` is 0 then and every series of the target is marked stale.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    #[error(transparent)]
    ContentType(#[from] UnsupportedContentType),
    /// The body, or the labels of one of its series.
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error(transparent)]
    Protobuf(#[from] ProtobufError),
    /// The labels of a series that stands on no line of its own.
    #[error("metric family {family:?}")]
    Label { family: String, source: LabelError },
    #[error(
        "histogram bucket limit exceeded: a native histogram has more than {limit} buckets at the lowest resolution"
    )]
    BucketLimit { limit: usize },
    #[error("sample limit exceeded: the scrape has more than {limit} samples")]
    SampleLimit { limit: usize },
    /// Nothing of this scrape was kept.
    #[error("the scrape cannot be stored")]
    Storage(#[from] StorageError),
}

/// Why a remote write request was refused, wholly or in part.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// Nothing of the request was taken; it may be sent again.
    #[error(transparent)]
    Busy(#[from] BudgetFull),
    /// Nothing of the request was taken.
    #[error("the request is no valid remote write message")]
    Wire(#[from] WireError),
    /// All else of the request was taken; sending it again changes nothing.
    #[error("{rejected} of the samples or series were refused, the first because: {reason}")]
    Partial { rejected: u64, reason: String, stats: RemoteWriteStats },
    /// Nothing of the request was taken; it may be sent again.
    #[error("the samples cannot be stored")]
    Storage(#[from] StorageError),
}

/// Why a push was refused. The group is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("the body has {bytes} bytes, more than the {limit} that are taken")]
    TooLarge { bytes: usize, limit: usize },
    #[error(transparent)]
    Parse(#[from] ParseError),
    #[error("{0}")]
    Invalid(String),
    #[error("pushed metrics are invalid or inconsistent with existing metrics: {0}")]
    Inconsistent(String),
    /// A limit on what is kept.
    #[error("{what} would exceed the limit of {limit}")]
    Limit { what: &'static str, limit: usize },
    #[error("the push cannot be kept")]
    State(#[from] StateError),
    #[error("the samples cannot be stored")]
    Storage(#[from] StorageError),
}
