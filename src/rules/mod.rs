//! The rule engine: files, groups, recording and alerting rules, their manager.
//!
//! The way of a rule: [`file::load`] checks a rule file and gives [`GroupSpec`](file::GroupSpec)s; [`Group::tick`] evaluates
//! the rules of one group at one time, in order, and gives what has to be sent and saved; [`Manager`] is the shell
//! that ticks every group on its interval. Rules send [`Alert`](crate::model::Alert)s into a bounded channel and know
//! nothing of who reads it.
//!
//! Reading order: `file`, `group`, `recording`, `alerting`, `series`, `restore`, `manager`, `shipped`, `unittest`.
//!
//! Invariants: a tick reads no clock but to measure; what fires is durable before it is sent; an alert that was sent as firing is
//! sent as resolved when its rule no longer produces it, over restarts and reloads too; a series that a rule no
//! longer produces gets a staleness marker.

mod alerting;
pub mod file;
mod group;
mod manager;
mod metrics;
mod options;
mod reads;
mod recording;
mod restore;
mod series;
mod shipped;
pub mod unittest;
mod view;

pub use group::{Group, TickOutput, World};
pub use manager::{Manager, ManagerOptions};
pub use metrics::RuleMetrics;
pub use options::Settings;
pub use shipped::shipped_files;
pub use view::{ActiveAlertView, AlertState, GroupView, RuleHealth, RuleView, RuleViewKind};
