//! What is pushed and stays: groups as of the Pushgateway, and metrics recorded by JSON.
//!
//! A group is known by its grouping labels and stays until it is deleted, over restarts; a recorded metric stays until
//! it is replaced. [`Pushed::sample_all`] appends every current value anew, so that none vanishes after the lookback.
//!
//! Invariants: a group or metric is durable in the state store before the call that brought it returns; what is
//! refused leaves everything as it was; no series is in two groups, and no family has two types.
//!
//! Source: prometheus/pushgateway `README.md` and `storage/diskmetricstore.go` (semantics and messages).

mod group;
mod handle;
mod path;
mod record;
mod rows;

pub use group::GroupView;
pub use handle::Pushed;
pub use path::group_labels;
pub use record::{JsonMetric, RecordedMetric};
