//! The message that a webhook gets: Alertmanager's format, version "4".

use chrono::{SecondsFormat, TimeZone, Utc};

use crate::model::{Labels, Timestamp};

/// The version of the format, as the message states it.
const VERSION: &str = "4";
/// Go's zero time: how an alert that still fires states its end.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Firing,
    Resolved,
}

/// One alert of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageAlert {
    pub status: Status,
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at: Timestamp,
    /// When it ended; of no meaning while it fires.
    pub ends_at: Timestamp,
    pub generator_url: String,
    pub fingerprint: u64,
}

/// What a receiver is told of one aggregation group.
///
/// Source: alertmanager, `notify/webhook/webhook.go` and `template/template.go`.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    pub receiver: &'a str,
    /// Why it is told now.
    pub reason: &'a str,
    pub group_key: &'a str,
    pub group_labels: &'a Labels,
    pub external_url: &'a str,
    /// Never empty.
    pub alerts: &'a [MessageAlert],
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct WireMessage<'a> {
    receiver: &'a str,
    status: Status,
    alerts: Vec<WireAlert<'a>>,
    #[serde(rename = "notification_reason")]
    reason: &'a str,
    group_labels: &'a Labels,
    common_labels: Labels,
    common_annotations: Labels,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: usize,
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct WireAlert<'a> {
    status: Status,
    labels: &'a Labels,
    annotations: &'a Labels,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    fingerprint: String,
}

impl Message<'_> {
    /// The JSON body. Of more than `alerts_max` alerts (0 means all) only the first are written, and the message
    /// says how many are left out. The status is that of all; what the alerts have in common is said of those that
    /// are written, as upstream does: of one alert, all its labels and annotations.
    #[must_use]
    pub fn to_json(&self, alerts_max: usize) -> Vec<u8> {
        let shown = if alerts_max == 0 { self.alerts.len() } else { self.alerts.len().min(alerts_max) };
        let written = &self.alerts[..shown];
        let firing = self.alerts.iter().any(|a| a.status == Status::Firing);
        let wire = WireMessage {
            receiver: self.receiver,
            status: if firing { Status::Firing } else { Status::Resolved },
            alerts: written.iter().map(WireAlert::from).collect(),
            reason: self.reason,
            group_labels: self.group_labels,
            common_labels: common(written.iter().map(|a| &a.labels)),
            common_annotations: common(written.iter().map(|a| &a.annotations)),
            external_url: self.external_url,
            version: VERSION,
            group_key: self.group_key,
            truncated_alerts: self.alerts.len() - shown,
        };
        serde_json::to_vec(&wire).expect("a message is made of strings and numbers")
    }
}

impl<'a> From<&'a MessageAlert> for WireAlert<'a> {
    fn from(a: &'a MessageAlert) -> Self {
        WireAlert {
            status: a.status,
            labels: &a.labels,
            annotations: &a.annotations,
            starts_at: go_time(a.starts_at),
            ends_at: match a.status {
                Status::Firing => NO_TIME.to_owned(),
                Status::Resolved => go_time(a.ends_at),
            },
            generator_url: &a.generator_url,
            fingerprint: format!("{:016x}", a.fingerprint),
        }
    }
}

/// The pairs that all sets have.
fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(first) = sets.next() else { return Labels::empty() };
    let mut pairs: Vec<(&str, &str)> = first.iter().collect();
    for set in sets {
        if pairs.is_empty() {
            break;
        }
        pairs.retain(|(name, value)| set.get(name) == Some(*value));
    }
    Labels::from_sorted(pairs)
}

/// A time as Go writes it in JSON (RFC 3339, UTC, no trailing zeros of the fraction).
#[must_use]
pub fn go_time(ms: Timestamp) -> String {
    let Some(time) = Utc.timestamp_millis_opt(ms).single() else { return NO_TIME.to_owned() };
    let text = time.to_rfc3339_opts(SecondsFormat::Millis, true);
    match text.strip_suffix('Z').and_then(|t| t.split_once('.')) {
        Some((seconds, fraction)) => match fraction.trim_end_matches('0') {
            "" => format!("{seconds}Z"),
            fraction => format!("{seconds}.{fraction}Z"),
        },
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(status: Status, instance: &str) -> MessageAlert {
        let labels = Labels::from_pairs([("alertname", "Down"), ("instance", instance)]);
        MessageAlert {
            status,
            fingerprint: labels.fingerprint(),
            labels,
            annotations: Labels::from_pairs([("summary", instance)]),
            starts_at: 1_700_000_000_120,
            ends_at: 1_700_000_060_000,
            generator_url: "http://s/graph".to_owned(),
        }
    }

    fn message(alerts: &[MessageAlert], alerts_max: usize) -> serde_json::Value {
        let group_labels = Labels::from_pairs([("alertname", "Down")]);
        let message = Message {
            receiver: "ops",
            reason: "first notification",
            group_key: r#"{}:{alertname="Down"}"#,
            group_labels: &group_labels,
            external_url: "http://s",
            alerts,
        };
        serde_json::from_slice(&message.to_json(alerts_max)).unwrap()
    }

    #[test]
    fn a_message_has_every_field_of_version_4() {
        let one = message(&[alert(Status::Firing, "a")], 0);
        let expected = serde_json::json!({
            "receiver": "ops", "status": "firing",
            "alerts": [{
                "status": "firing", "labels": {"alertname": "Down", "instance": "a"},
                "annotations": {"summary": "a"}, "startsAt": "2023-11-14T22:13:20.12Z",
                "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://s/graph",
                "fingerprint": format!("{:016x}", alert(Status::Firing, "a").fingerprint),
            }],
            "notification_reason": "first notification",
            "groupLabels": {"alertname": "Down"},
            "commonLabels": {"alertname": "Down", "instance": "a"}, "commonAnnotations": {"summary": "a"},
            "externalURL": "http://s", "version": "4", "groupKey": "{}:{alertname=\"Down\"}",
            "truncatedAlerts": 0,
        });
        assert_eq!(one, expected);
    }

    #[test]
    fn the_status_is_that_of_all_alerts_and_what_is_common_that_of_those_written() {
        let alerts = [alert(Status::Resolved, "a"), alert(Status::Firing, "b")];
        let both = message(&alerts, 0);
        assert_eq!(both["commonLabels"], serde_json::json!({"alertname": "Down"}));
        assert_eq!(both["commonAnnotations"], serde_json::json!({}));
        let one = message(&alerts, 1);
        assert_eq!(one["status"], "firing");
        assert_eq!(one["alerts"].as_array().unwrap().len(), 1);
        assert_eq!(one["alerts"][0]["endsAt"], "2023-11-14T22:14:20Z");
        assert_eq!(one["truncatedAlerts"], 1);
        assert_eq!(one["commonLabels"], serde_json::json!({"alertname": "Down", "instance": "a"}));
        assert_eq!(one["commonAnnotations"], serde_json::json!({"summary": "a"}));
        assert_eq!(message(&[alert(Status::Resolved, "a")], 0)["status"], "resolved");
    }
}
