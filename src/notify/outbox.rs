//! The durable form of a notification: one row of the outbox.
//!
//! The body of a row is a line of JSON that says where it goes, and behind it the message as it will be posted.
//! The message is made when the notification is decided, not when it is sent: what a receiver is told after an
//! outage is what was true then.

use std::sync::Arc;

use bytes::Bytes;

use crate::model::Timestamp;
use crate::state::{Op, Row, Table};

/// A message on its way to one integration of one receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Grows with every notification; the order within a stream.
    pub seq: u64,
    pub receiver: Arc<str>,
    /// The position of the integration in its receiver.
    pub integration: usize,
    pub group_key: Arc<str>,
    /// When it was decided.
    pub created_at: Timestamp,
    /// The same for every attempt, also after a restart; no other notification has it.
    pub idempotency_key: String,
    /// The message as it is posted.
    pub body: Bytes,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    receiver: std::borrow::Cow<'a, str>,
    integration: usize,
    #[serde(borrow)]
    group_key: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    idempotency_key: std::borrow::Cow<'a, str>,
}

impl Notification {
    /// The row's key: the sequence number, so that keys sort as notifications do.
    fn key(seq: u64) -> String {
        format!("{seq:016x}")
    }

    /// Writes it to the outbox.
    #[must_use]
    pub fn put(&self) -> Op {
        let head = Head {
            receiver: (&*self.receiver).into(),
            integration: self.integration,
            group_key: (&*self.group_key).into(),
            idempotency_key: (&*self.idempotency_key).into(),
        };
        let mut body = serde_json::to_vec(&head).expect("the head is made of strings and numbers");
        body.push(b'\n');
        body.extend_from_slice(&self.body);
        Op::Put { table: Table::Outbox, row: Row { key: Self::key(self.seq), ts: self.created_at, body } }
    }

    /// Removes it from the outbox.
    #[must_use]
    pub fn delete(seq: u64) -> Op {
        Op::Delete { table: Table::Outbox, key: Self::key(seq) }
    }

    /// Reads a row back.
    ///
    /// # Errors
    /// What is wrong with the row.
    pub fn from_row(row: Row) -> Result<Self, String> {
        let seq = u64::from_str_radix(&row.key, 16).map_err(|e| format!("key {:?}: {e}", row.key))?;
        let line = row.body.iter().position(|b| *b == b'\n').ok_or("the body has no first line")?;
        let head: Head<'_> = serde_json::from_slice(&row.body[..line]).map_err(|e| e.to_string())?;
        Ok(Notification {
            seq,
            receiver: head.receiver.as_ref().into(),
            integration: head.integration,
            group_key: head.group_key.as_ref().into(),
            created_at: row.ts,
            idempotency_key: head.idempotency_key.into_owned(),
            body: Bytes::from(row.body).slice(line + 1..),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_gives_back_what_was_put() {
        let notification = Notification {
            seq: 17,
            receiver: "on call \"x\"".into(),
            integration: 2,
            group_key: "{}/{a=\"b\\n\"}:{}".into(),
            created_at: 1_700_000_000_000,
            idempotency_key: "k".into(),
            body: Bytes::from_static(b"{\"a\":\n1}"),
        };
        let Op::Put { table: Table::Outbox, row } = notification.put() else { panic!("no row is put") };
        assert_eq!(Notification::delete(17), Op::Delete { table: Table::Outbox, key: row.key.clone() });
        assert_eq!(Notification::from_row(row), Ok(notification));
    }

    #[test]
    fn a_broken_row_is_an_error() {
        for (key, body) in [("x", "{}\n"), ("1", "no line"), ("1", "{}\n{}")] {
            let row = Row { key: key.into(), ts: 0, body: body.as_bytes().to_vec() };
            assert!(Notification::from_row(row).is_err(), "{key} {body}");
        }
    }
}
