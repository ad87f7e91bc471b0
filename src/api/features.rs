//! `/api/v1/features`: what this server can do, by Prometheus's categories and names.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::json;
use super::state::ApiState;
use crate::promql::{FEATURES, Features, functions};

type Category = BTreeMap<&'static str, bool>;

/// What is always there. Operators that are words stand among the keywords of the language as well.
const API: &[&str] = &[
    "exclude_alerts",
    "label_values_match",
    "query_stats",
    "query_warnings",
    "remote_write_receiver",
    "time_range_labels",
    "time_range_series",
];
const PROMQL: &[&str] =
    &["at_modifier", "duration_expr", "negative_offset", "per_query_lookback_delta", "subqueries"];
const OPERATORS: &[&str] = &[
    "!=", "!~", "%", "*", "+", "-", "/", "<", "</", "<=", "==", "=~", ">", ">/", ">=", "@", "^", "and",
    "atan2", "or", "unless",
];

/// Each feature that this server knows, and whether it is on; what it lacks is not named.
pub(super) async fn features(State(state): State<Arc<ApiState>>) -> Response {
    let on = state.engine.options().features;
    let mut api = always(API);
    api.insert("admin", state.enable_admin);
    api.insert("lifecycle", state.lifecycle.is_some());
    let categories: BTreeMap<&str, Category> = BTreeMap::from([
        ("api", api),
        ("promql", language(on)),
        (
            "promql_functions",
            functions::all().iter().map(|f| (f.name, !f.experimental || on.experimental_functions)).collect(),
        ),
        ("promql_operators", operators(on)),
    ]);
    json::success(&categories)
}

fn always(names: &[&'static str]) -> Category {
    names.iter().map(|name| (*name, true)).collect()
}

fn language(on: Features) -> Category {
    let is_on = |name: &str| FEATURES.iter().any(|f| f.name == name && on.has(f));
    let words = functions::keywords().iter().filter(|k| !OPERATORS.contains(&k.word));
    let mut all = always(PROMQL);
    all.extend(words.map(|k| (k.word, k.feature.is_none_or(is_on))));
    all.insert("delayed_name_removal", on.delayed_name_removal);
    all.insert("per_step_stats", on.per_step_stats);
    all.insert("type_and_unit_labels", on.type_and_unit_labels);
    all.insert("use_start_timestamps", on.use_start_timestamps);
    all
}

/// Aggregations count as operators.
fn operators(on: Features) -> Category {
    let aggregations = functions::aggregations();
    let mut all = always(OPERATORS);
    all.extend(aggregations.iter().map(|a| (a.op.as_str(), !a.experimental || on.experimental_functions)));
    all
}
