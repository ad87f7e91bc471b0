//! The Alertmanager file, with `escalation_policies` of our own: raw, then checked.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::matchers::parse_matchers;
use super::route::{GroupBy, Route, Routes, matchers_key, sort_matchers};
use crate::http::{HttpConfig, RawHttpConfig};
use crate::model::{Matcher, is_legacy_label_name, parse_duration_ms};
use crate::notify::config::RawReceiver;
use crate::notify::{Receiver, Receivers};
use crate::yaml::{Mark, Pairs, Problems, Source, Spanned, Upstream, mark, nearest, null_is_default};

const RESOLVE_TIMEOUT_DEFAULT_MS: i64 = 300_000;
const GROUP_WAIT_DEFAULT_MS: i64 = 30_000;
const GROUP_INTERVAL_DEFAULT_MS: i64 = 300_000;
const REPEAT_INTERVAL_DEFAULT_MS: i64 = 4 * 3_600_000;
/// Routes within routes; deeper trees are refused.
const ROUTE_DEPTH_MAX: usize = 64;

/// Keys that exist upstream and not here.
const UPSTREAM_KEYS: &[Upstream] = &[
    Upstream {
        among: "escalation_policies",
        keys: &["inhibit_rules", "templates", "time_intervals", "mute_time_intervals", "tracing", "labels"],
    },
    Upstream { among: "group_wait", keys: &["mute_time_intervals", "active_time_intervals", "labels"] },
    Upstream {
        among: "resolve_timeout",
        keys: &[
            "jira_api_url",
            "mattermost_webhook_url",
            "mattermost_webhook_url_file",
            "opsgenie_api_key",
            "opsgenie_api_key_file",
            "opsgenie_api_url",
            "pagerduty_url",
            "rocketchat_api_url",
            "rocketchat_token",
            "rocketchat_token_file",
            "rocketchat_token_id",
            "rocketchat_token_id_file",
            "slack_api_url",
            "slack_api_url_file",
            "slack_app_token",
            "slack_app_token_file",
            "slack_app_url",
            "smtp_auth_identity",
            "smtp_auth_password",
            "smtp_auth_password_file",
            "smtp_auth_secret",
            "smtp_auth_secret_file",
            "smtp_auth_username",
            "smtp_force_implicit_tls",
            "smtp_from",
            "smtp_hello",
            "smtp_require_tls",
            "smtp_smarthost",
            "smtp_tls_config",
            "telegram_api_url",
            "telegram_bot_token",
            "telegram_bot_token_file",
            "victorops_api_key",
            "victorops_api_key_file",
            "victorops_api_url",
            "webex_api_url",
            "wechat_api_corp_id",
            "wechat_api_secret",
            "wechat_api_secret_file",
            "wechat_api_url",
        ],
    },
];

/// The file as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawAlertmanager {
    #[serde(default, deserialize_with = "null_is_default")]
    pub global: RawGlobal,
    pub route: Option<Spanned<RawRoute>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub receivers: Vec<Spanned<RawReceiver>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub escalation_policies: Vec<Spanned<RawPolicy>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawGlobal {
    pub resolve_timeout: Option<Spanned<String>>,
    pub http_config: Option<RawHttpConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRoute {
    pub receiver: Option<Spanned<String>>,
    pub group_by: Option<Vec<Spanned<String>>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub matchers: Vec<Spanned<String>>,
    #[serde(rename = "match", default, deserialize_with = "null_is_default")]
    pub equal: Pairs<Option<Spanned<String>>>,
    #[serde(rename = "match_re", default, deserialize_with = "null_is_default")]
    pub regex: Pairs<Option<Spanned<String>>>,
    #[serde(rename = "continue")]
    pub goes_on: Option<Spanned<bool>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub routes: Vec<Spanned<RawRoute>>,
    pub group_wait: Option<Spanned<String>>,
    pub group_interval: Option<Spanned<String>>,
    pub repeat_interval: Option<Spanned<String>>,
    pub escalation_policy: Option<Spanned<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPolicy {
    pub name: Option<Spanned<String>>,
    pub until: Option<Spanned<String>>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub steps: Vec<Spanned<RawStep>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawStep {
    pub after: Option<Spanned<String>>,
    pub receiver: Option<Spanned<String>>,
}

/// What ends an escalation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Acknowledging, and resolving.
    Acknowledged,
    /// Only resolving.
    Resolved,
}

/// Whom to tell, and when, of an alert that keeps firing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscalationPolicy {
    pub name: String,
    pub until: Until,
    /// By `after`.
    pub steps: Vec<EscalationStep>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EscalationStep {
    /// Counted from when the alert began to fire.
    pub after_ms: i64,
    pub receiver: String,
}

/// The checked configuration of the alert pipeline.
#[derive(Clone, Debug)]
pub struct AlertmanagerConfig {
    /// How long an alert fires that is not sent again and states no end.
    pub resolve_timeout_ms: i64,
    pub routes: Routes,
    pub receivers: Arc<Receivers>,
}

impl Default for AlertmanagerConfig {
    /// Without a file: one route to a receiver that tells nobody. Alerts are still kept and shown.
    fn default() -> Self {
        let name = "default".to_owned();
        let root = Route {
            key: "{}".to_owned(),
            matchers: Vec::new(),
            receiver: name.clone(),
            group_by: GroupBy::Labels(Vec::new()),
            group_wait_ms: GROUP_WAIT_DEFAULT_MS,
            group_interval_ms: GROUP_INTERVAL_DEFAULT_MS,
            repeat_interval_ms: REPEAT_INTERVAL_DEFAULT_MS,
            goes_on: false,
            policy: None,
            children: Vec::new(),
        };
        let receiver = Receiver { name: name.clone(), integrations: Vec::new() };
        AlertmanagerConfig {
            resolve_timeout_ms: RESOLVE_TIMEOUT_DEFAULT_MS,
            routes: Routes { list: vec![root] },
            receivers: Arc::new(BTreeMap::from([(name, Arc::new(receiver))])),
        }
    }
}

/// Reads an Alertmanager file; relative paths in it count from `folder`, that of the file.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn load(source: &Source, folder: &Path) -> Result<AlertmanagerConfig, Problems> {
    let upstream: Vec<Upstream> =
        [UPSTREAM_KEYS, crate::notify::config::UPSTREAM_KEYS, crate::http::UPSTREAM_KEYS].concat();
    source.parse_known::<RawAlertmanager>(&upstream)?.resolve(source, folder)
}

impl RawAlertmanager {
    /// # Errors
    /// As [`load`].
    pub fn resolve(&self, source: &Source, folder: &Path) -> Result<AlertmanagerConfig, Problems> {
        let mut check = Check { source, problems: Problems::default() };
        let http = match &self.global.http_config {
            Some(section) => section.resolve(source, folder, &mut check.problems),
            None => HttpConfig::default(),
        };
        let resolve_timeout_ms =
            check.duration(self.global.resolve_timeout.as_ref()).unwrap_or(RESOLVE_TIMEOUT_DEFAULT_MS);
        let mut receivers = Receivers::new();
        for raw in &self.receivers {
            let receiver = raw.value.resolve(&http, source, folder, &mut check.problems);
            match &raw.value.name {
                Some(name) if !name.value.is_empty() => {
                    if receivers.insert(receiver.name.clone(), Arc::new(receiver)).is_some() {
                        check.fail(
                            mark(name),
                            format!("notification config name {:?} is not unique", name.value),
                        );
                    }
                }
                _ => check.fail(mark(raw), "missing name in receiver"),
            }
        }
        let policies = self.policies(&receivers, &mut check);
        let mut tree = Tree { check, receivers: &receivers, policies: &policies, list: Vec::new() };
        match &self.route {
            Some(root) => tree.root(root),
            None => tree.check.fail(Mark { line: 1, column: 1 }, "no route provided in config"),
        }
        let (problems, list) = (tree.check.problems, tree.list);
        if problems.is_empty() {
            Ok(AlertmanagerConfig {
                resolve_timeout_ms,
                routes: Routes { list },
                receivers: Arc::new(receivers),
            })
        } else {
            Err(problems)
        }
    }

    fn policies(
        &self,
        receivers: &Receivers,
        check: &mut Check<'_>,
    ) -> BTreeMap<String, Arc<EscalationPolicy>> {
        let mut policies = BTreeMap::new();
        for entry in &self.escalation_policies {
            let raw = &entry.value;
            let until = match raw.until.as_ref().map(|u| (u, u.value.as_str())) {
                None | Some((_, "acknowledged")) => Until::Acknowledged,
                Some((_, "resolved")) => Until::Resolved,
                Some((until, other)) => {
                    check.fail(mark(until), format!("{other:?} is none of acknowledged, resolved"));
                    Until::Acknowledged
                }
            };
            if raw.steps.is_empty() {
                check.fail(mark(entry), "an escalation policy needs at least one step");
            }
            let mut steps: Vec<EscalationStep> = Vec::new();
            for step in &raw.steps {
                let after = check.duration(step.value.after.as_ref());
                if step.value.after.is_none() {
                    check.fail(mark(step), "`after` is missing in this step");
                }
                match &step.value.receiver {
                    Some(name) => {
                        check.receiver(name, receivers, "escalation policy");
                        let new = EscalationStep {
                            after_ms: after.unwrap_or_default(),
                            receiver: name.value.clone(),
                        };
                        if after.is_some() && steps.contains(&new) {
                            check.fail(mark(step), "this step is already there");
                        }
                        steps.push(new);
                    }
                    None => check.fail(mark(step), "`receiver` is missing in this step"),
                }
            }
            steps.sort_by_key(|s| s.after_ms);
            match &raw.name {
                Some(name) if !name.value.is_empty() => {
                    let policy = EscalationPolicy { name: name.value.clone(), until, steps };
                    if policies.insert(name.value.clone(), Arc::new(policy)).is_some() {
                        check.fail(
                            mark(name),
                            format!("escalation policy name {:?} is not unique", name.value),
                        );
                    }
                }
                _ => check.fail(mark(entry), "missing name in escalation policy"),
            }
        }
        policies
    }
}

struct Check<'a> {
    source: &'a Source,
    problems: Problems,
}

impl Check<'_> {
    fn fail(&mut self, at: Mark, message: impl Into<String>) {
        self.problems.push(self.source.problem(at, message));
    }

    fn duration(&mut self, text: Option<&Spanned<String>>) -> Option<i64> {
        let text = text?;
        match parse_duration_ms(&text.value) {
            Ok(ms) => Some(ms),
            Err(e) => {
                self.fail(mark(text), e.to_string());
                None
            }
        }
    }

    fn receiver(&mut self, name: &Spanned<String>, receivers: &Receivers, used_in: &str) {
        if receivers.contains_key(&name.value) {
            return;
        }
        let message = format!("undefined receiver {:?} used in {used_in}", name.value);
        let mut problem = self.source.problem(mark(name), message);
        problem.hint = nearest(&name.value, receivers.keys().map(String::as_str))
            .map(|near| format!("did you mean {near:?}?"));
        self.problems.push(problem);
    }
}

struct Tree<'a> {
    check: Check<'a>,
    receivers: &'a Receivers,
    policies: &'a BTreeMap<String, Arc<EscalationPolicy>>,
    list: Vec<Route>,
}

impl Tree<'_> {
    fn root(&mut self, raw: &Spanned<RawRoute>) {
        let route = &raw.value;
        if route.receiver.as_ref().is_none_or(|r| r.value.is_empty()) {
            self.check.fail(mark(raw), "root route must specify a default receiver");
        }
        let matcher = route
            .matchers
            .first()
            .map(mark)
            .or_else(|| route.equal.iter().next().map(|(k, _)| mark(k)))
            .or_else(|| route.regex.iter().next().map(|(k, _)| mark(k)));
        if let Some(at) = matcher {
            self.check.fail(at, "root route must not have any matchers");
        }
        if let Some(goes_on) = route.goes_on.as_ref().filter(|c| c.value) {
            self.check.fail(mark(goes_on), "cannot have continue in root route");
        }
        let inherited = Route {
            key: String::new(),
            matchers: Vec::new(),
            receiver: String::new(),
            group_by: GroupBy::Labels(Vec::new()),
            group_wait_ms: GROUP_WAIT_DEFAULT_MS,
            group_interval_ms: GROUP_INTERVAL_DEFAULT_MS,
            repeat_interval_ms: REPEAT_INTERVAL_DEFAULT_MS,
            goes_on: false,
            policy: None,
            children: Vec::new(),
        };
        self.add(raw, &inherited, 0);
    }

    /// Adds a route and its children; returns its position.
    fn add(&mut self, raw: &Spanned<RawRoute>, parent: &Route, depth: usize) -> usize {
        let text = &raw.value;
        let matchers = self.matchers(text);
        let own_key = matchers_key(&matchers);
        let mut route = Route {
            key: if depth == 0 { own_key } else { format!("{}/{own_key}", parent.key) },
            matchers,
            goes_on: text.goes_on.as_ref().is_some_and(|c| c.value),
            children: Vec::new(),
            ..parent.clone()
        };
        if let Some(name) = text.receiver.as_ref().filter(|r| !r.value.is_empty()) {
            self.check.receiver(name, self.receivers, "route");
            route.receiver = name.value.clone();
        }
        if let Some(names) = text.group_by.as_ref().filter(|g| !g.is_empty()) {
            route.group_by = self.group_by(names);
        }
        if let Some(ms) = self.check.duration(text.group_wait.as_ref()) {
            route.group_wait_ms = ms;
        }
        for (value, name, into) in [
            (&text.group_interval, "group_interval", &mut route.group_interval_ms),
            (&text.repeat_interval, "repeat_interval", &mut route.repeat_interval_ms),
        ] {
            match (value, self.check.duration(value.as_ref())) {
                (Some(value), Some(0)) => self.check.fail(mark(value), format!("{name} cannot be zero")),
                (_, Some(ms)) => *into = ms,
                (_, None) => {}
            }
        }
        if let Some(name) = &text.escalation_policy {
            route.policy = self.policies.get(&name.value).cloned();
            // An empty name takes an inherited policy away.
            if route.policy.is_none() && !name.value.is_empty() {
                let message = format!("undefined escalation policy {:?} used in route", name.value);
                let mut problem = self.check.source.problem(mark(name), message);
                problem.hint = nearest(&name.value, self.policies.keys().map(String::as_str))
                    .map(|near| format!("did you mean {near:?}?"));
                self.check.problems.push(problem);
            }
        }
        let at = self.list.len();
        self.list.push(route.clone());
        if depth >= ROUTE_DEPTH_MAX && !text.routes.is_empty() {
            self.check.fail(mark(raw), format!("routes are nested deeper than {ROUTE_DEPTH_MAX}"));
            return at;
        }
        for child in &text.routes {
            let child = self.add(child, &route, depth + 1);
            self.list[at].children.push(child);
        }
        at
    }

    fn matchers(&mut self, raw: &RawRoute) -> Vec<Matcher> {
        let mut matchers = Vec::new();
        for (pairs, regex) in [(&raw.equal, false), (&raw.regex, true)] {
            for (name, value) in pairs.iter() {
                if !is_legacy_label_name(&name.value) {
                    let message = format!(
                        "invalid label name {:?} in {}",
                        name.value,
                        match regex {
                            true => "match_re",
                            false => "match",
                        }
                    );
                    self.check.fail(mark(name), message);
                }
                let text = value.as_ref().map(|v| v.value.as_str()).unwrap_or_default();
                if !regex {
                    matchers.push(Matcher::equal(name.value.clone(), text));
                    continue;
                }
                // The anchors are part of the route's key upstream, so they are here; they change no match.
                let anchored = format!("^(?:{text})$");
                match Matcher::new(crate::model::MatchOp::Regex, name.value.clone(), anchored) {
                    Ok(matcher) => matchers.push(matcher),
                    Err(e) => self.check.fail(value.as_ref().map_or(mark(name), mark), e.to_string()),
                }
            }
        }
        for text in &raw.matchers {
            match parse_matchers(&text.value) {
                Ok(list) => matchers.extend(list),
                Err(e) => {
                    let problem = self.check.source.problem_in(
                        text,
                        e.offset,
                        format!("bad matcher {:?}: {}", text.value, e.message),
                    );
                    self.check.problems.push(problem);
                }
            }
        }
        sort_matchers(&mut matchers);
        matchers
    }

    fn group_by(&mut self, names: &[Spanned<String>]) -> GroupBy {
        let mut labels: Vec<String> = Vec::new();
        let mut all = false;
        for name in names {
            if name.value == "..." {
                all = true;
            } else if name.value.is_empty() {
                self.check.fail(mark(name), "invalid label name \"\" in group_by list");
            } else if labels.contains(&name.value) {
                self.check.fail(mark(name), format!("duplicated label {:?} in group_by", name.value));
            } else {
                labels.push(name.value.clone());
            }
        }
        if all && !labels.is_empty() {
            let at = names.first().map(mark).unwrap_or_default();
            self.check.fail(at, "cannot have wildcard group_by (`...`) and other labels at the same time");
        }
        labels.sort();
        if all { GroupBy::All } else { GroupBy::Labels(labels) }
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
