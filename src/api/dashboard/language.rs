//! `/api/v1/dashboard/promql`: the words of the language, for completion and for whoever writes an editor.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use crate::api::json;
use crate::api::state::ApiState;
use crate::promql::ast::ValueType;
use crate::promql::{FEATURES, Features, functions};

#[derive(Serialize)]
struct Language {
    functions: Vec<Word>,
    aggregations: Vec<Word>,
    keywords: Vec<Word>,
    features: Vec<Feature>,
}

/// A word and whether a query may use it here.
#[derive(Serialize)]
struct Word {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    #[serde(rename = "argTypes", skip_serializing_if = "Option::is_none")]
    arg_types: Option<Vec<&'static str>>,
    /// As in `parse_query`: how many of the last argument may stand there.
    #[serde(skip_serializing_if = "Option::is_none")]
    variadic: Option<i32>,
    #[serde(rename = "returnType", skip_serializing_if = "Option::is_none")]
    return_type: Option<&'static str>,
    doc: &'static str,
    /// The feature that it needs.
    #[serde(skip_serializing_if = "Option::is_none")]
    feature: Option<&'static str>,
    enabled: bool,
}

#[derive(Serialize)]
struct Feature {
    name: &'static str,
    doc: &'static str,
    enabled: bool,
}

/// The words, each with whether it may be used here.
pub(super) async fn language(State(state): State<Arc<ApiState>>) -> Response {
    json::success(&of(state.engine.options().features))
}

fn of(on: Features) -> Language {
    let enabled = |name: Option<&str>| {
        name.is_none_or(|name| FEATURES.iter().find(|f| f.name == name).is_some_and(|f| on.has(f)))
    };
    let gate = |experimental: bool| experimental.then_some("promql-experimental-functions");
    let types = |list: &[ValueType]| Some(list.iter().map(|t| t.as_str()).collect());
    Language {
        functions: functions::all()
            .iter()
            .map(|f| Word {
                name: f.name,
                signature: Some(f.signature()),
                arg_types: types(f.args),
                variadic: Some(f.variadic),
                return_type: Some(f.returns.as_str()),
                doc: f.doc,
                feature: gate(f.experimental),
                enabled: enabled(gate(f.experimental)),
            })
            .collect(),
        aggregations: functions::aggregations()
            .iter()
            .map(|a| Word {
                name: a.op.as_str(),
                signature: Some(a.signature()),
                arg_types: types(&a.param.into_iter().chain([ValueType::Vector]).collect::<Vec<_>>()),
                variadic: Some(0),
                return_type: Some(ValueType::Vector.as_str()),
                doc: a.doc,
                feature: gate(a.experimental),
                enabled: enabled(gate(a.experimental)),
            })
            .collect(),
        keywords: functions::keywords()
            .iter()
            .map(|k| Word {
                name: k.word,
                signature: None,
                arg_types: None,
                variadic: None,
                return_type: None,
                doc: k.doc,
                feature: k.feature,
                enabled: enabled(k.feature),
            })
            .collect(),
        features: FEATURES.iter().map(|f| Feature { name: f.name, doc: f.doc, enabled: on.has(f) }).collect(),
    }
}
