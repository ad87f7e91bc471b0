//! From an alert to a decision to notify: inbox, route, aggregation group, dedup, escalation policy, history.
pub mod config;
mod matchers;
mod route;
mod view;

pub use view::{
    AlertFilter, AlertRefusal, AlertView, AlertViewState, HistoryEvent, HistoryEventKind, HistoryPage,
    HistoryQuery, NewAlert,
};
