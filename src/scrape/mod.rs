//! Discovery, target, pool and loop: fetches bodies and hands them to ingest.

mod view;

pub use view::{DroppedTargetView, TargetHealth, TargetView};
