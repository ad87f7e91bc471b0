//! Pages of the history of state changes.

use super::entry::passes;
use super::{AlertViewState, HistoryEvent, HistoryEventKind, HistoryPage, HistoryQuery};
use crate::state::{Op, Order, Scan, StateError, Store, Table};

/// Events on a page, at most.
const PAGE_MAX: usize = 1_000;
/// Rows that one call looks at. A filter that few pass gives a short page then, with a cursor to go on.
const ROWS_LOOKED_AT_MAX: usize = 50_000;
/// Rows read at once.
const CHUNK: usize = 500;

/// A page of events, newest first. Blocks on the store. A cursor that is none gives the first page.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn page(store: &dyn Store, query: &HistoryQuery) -> Result<HistoryPage, StateError> {
    let limit = query.limit.clamp(1, PAGE_MAX);
    let mut page = HistoryPage::default();
    let mut after = query.cursor.as_deref().and_then(parse_cursor);
    let mut looked_at = 0;
    loop {
        let scan = Scan {
            from: query.from,
            to: query.to,
            order: Order::NewestFirst,
            after: after.clone(),
            limit: Some(CHUNK),
        };
        let rows = store.scan(Table::History, &scan)?;
        let last = rows.len() < CHUNK;
        for row in rows {
            if page.events.len() == limit || looked_at == ROWS_LOOKED_AT_MAX {
                page.next = after.map(|(ts, key)| format!("{ts}:{key}"));
                return Ok(page);
            }
            looked_at += 1;
            after = Some((row.ts, row.key));
            // One that cannot be read is passed over: history is to be looked at, nothing depends on it.
            let Ok(event) = serde_json::from_slice::<HistoryEvent>(&row.body) else { continue };
            let state = match event.kind {
                HistoryEventKind::Fired | HistoryEventKind::Escalated => AlertViewState::Firing,
                HistoryEventKind::Acknowledged => AlertViewState::Acknowledged,
                HistoryEventKind::Resolved => AlertViewState::Resolved,
            };
            if passes(&query.filter, &event.labels, state) {
                page.events.push(event);
            }
        }
        if last {
            return Ok(page);
        }
    }
}

/// Throws away the oldest events beyond `rows_max`, in steps. Blocks on the store.
///
/// # Errors
/// When the store fails.
pub(super) fn shorten(store: &dyn Store, rows_max: usize) -> Result<(), StateError> {
    let rows = usize::try_from(store.count(Table::History)?).unwrap_or(usize::MAX);
    let mut excess = rows.saturating_sub(rows_max);
    while excess > 0 {
        let oldest = Scan { limit: Some(excess.min(CHUNK)), ..Scan::default() };
        let rows = store.scan(Table::History, &oldest)?;
        if rows.is_empty() {
            break;
        }
        excess -= rows.len().min(excess);
        store.commit(
            rows.into_iter().map(|row| Op::Delete { table: Table::History, key: row.key }).collect(),
        )?;
    }
    Ok(())
}

/// Whether the text is the cursor of a page.
pub(super) fn is_cursor(text: &str) -> bool {
    parse_cursor(text).is_some()
}

fn parse_cursor(cursor: &str) -> Option<(i64, String)> {
    let (ts, key) = cursor.split_once(':')?;
    Some((ts.parse().ok()?, key.to_owned()))
}
