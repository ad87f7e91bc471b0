//! Templates in the labels and annotations of alerting rules.

use std::sync::Arc;

use super::exec::Limits;
use super::parse::Template;
use super::prometheus::PrometheusFunctions;
use super::value::{Object, TemplateError, Value};
use crate::model::{Labels, Timestamp};

pub use super::prometheus::QueryFn;

/// What stands before every alert text, so that it may say `$labels`.
const PRELUDE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// What an alert text is expanded with.
#[derive(Clone, Debug)]
pub struct AlertData {
    /// Of the element of the result, with its metric name.
    pub labels: Labels,
    pub external_labels: Labels,
    pub external_url: Arc<str>,
    pub value: f64,
    /// When the rule is evaluated.
    pub now: Timestamp,
}

impl Object for AlertData {
    fn type_name(&self) -> &str {
        "struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }"
    }

    fn field(&self, name: &str) -> Option<Value> {
        match name {
            "Labels" => Some(Value::Labels(self.labels.clone())),
            "ExternalLabels" => Some(Value::Labels(self.external_labels.clone())),
            "ExternalURL" => Some(Value::String(Arc::clone(&self.external_url))),
            "Value" => Some(Value::Float(self.value)),
            _ => None,
        }
    }
}

/// A label or annotation text of an alerting rule, parsed once.
#[derive(Clone, Debug)]
pub struct AlertTemplate(Form);

#[derive(Clone, Debug)]
enum Form {
    /// Nothing to expand.
    Plain(String),
    Template(Template),
}

impl AlertTemplate {
    /// Parses the text of a rule for the alert `alert`.
    ///
    /// # Errors
    /// What Prometheus refuses when it loads a rule. Places are those in `text`.
    pub fn parse(alert: &str, text: &str) -> Result<AlertTemplate, TemplateError> {
        if !text.contains("{{") {
            return Ok(AlertTemplate(Form::Plain(text.to_owned())));
        }
        let no_query = |_: &str| Err(String::new());
        let functions = PrometheusFunctions { query: &no_query, external_url: "", now: 0 };
        Template::parse(&format!("__alert_{alert}"), &format!("{PRELUDE}{text}"), &functions)
            .map(|t| AlertTemplate(Form::Template(t)))
            .map_err(|e| in_text(text, e))
    }

    /// The text, if there is nothing to expand in it.
    #[must_use]
    pub fn as_plain(&self) -> Option<&str> {
        match &self.0 {
            Form::Plain(text) => Some(text),
            Form::Template(_) => None,
        }
    }

    /// Expands the text.
    ///
    /// # Errors
    /// What fails in executing; the message is Go's, whose columns count the prelude that Prometheus puts in front.
    pub fn expand(
        &self,
        data: &Value,
        query: &QueryFn<'_>,
        external_url: &str,
        now: Timestamp,
    ) -> Result<String, TemplateError> {
        match &self.0 {
            Form::Plain(text) => Ok(text.clone()),
            Form::Template(template) => {
                let functions = PrometheusFunctions { query, external_url, now };
                template.execute(data, &functions, Limits::default())
            }
        }
    }
}

/// Moves the place of an error from the text with the prelude to the text as the rule has it.
fn in_text(text: &str, e: TemplateError) -> TemplateError {
    TemplateError::at(text, e.offset.saturating_sub(PRELUDE.len()), e.message, e.reason)
}

/// Parses and expands one text of the alert `alert`.
///
/// # Errors
/// What is wrong with the text, or fails in executing it.
pub fn expand_alert(
    alert: &str,
    text: &str,
    data: &AlertData,
    query: &QueryFn<'_>,
) -> Result<String, TemplateError> {
    let value = Value::Object(Arc::new(data.clone()));
    AlertTemplate::parse(alert, text)?
        .expand(&value, query, &data.external_url, data.now)
        .map_err(|e| in_text(text, e))
}

#[cfg(test)]
mod tests;
