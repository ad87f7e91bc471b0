//! The rule engine: files, groups, recording and alerting rules, their manager.
//!
//! Rules send [`Alert`](crate::model::Alert)s into a bounded channel and know nothing of who reads it.

pub mod file;
mod view;

pub use view::{ActiveAlertView, AlertState, GroupView, RuleHealth, RuleView, RuleViewKind};
