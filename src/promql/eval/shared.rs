//! Selections that an expression needs more than once, such as both sides of `x / sum(x)`. Those that several
//! expressions need are in `promql::selections`.

use std::sync::{Arc, Mutex, PoisonError};

use super::profile::walk;
use crate::model::Matcher;
use crate::promql::ast::{Expr, ExprKind};
use crate::promql::selections::Selected;
use crate::storage::{Need, Selection};

/// So many selectors of an expression are compared with each other; what comes after them is selected by itself.
const SELECTORS_MAX: usize = 256;

/// The selections of the selectors that occur several times, for as long as the query runs.
#[derive(Default)]
pub(super) struct Shared<'e> {
    repeated: Vec<&'e [Matcher]>,
    made: Mutex<Vec<(&'e [Matcher], Selected)>>,
}

impl<'e> Shared<'e> {
    pub fn of(expr: &'e Expr) -> Self {
        let mut all: Vec<&[Matcher]> = Vec::new();
        let mut repeated: Vec<&[Matcher]> = Vec::new();
        walk(expr, 0, &mut |node, _| {
            let matchers = match &node.kind {
                ExprKind::Vector(v) => &v.matchers[..],
                ExprKind::Matrix(m) => &m.vector.matchers[..],
                _ => return,
            };
            if all.len() == SELECTORS_MAX {
                return;
            }
            if all.contains(&matchers) && !repeated.contains(&matchers) {
                repeated.push(matchers);
            }
            all.push(matchers);
        });
        Shared { repeated, made: Mutex::default() }
    }

    /// The selection for these matchers, if an earlier one has all that is asked for; else what `select` makes.
    pub fn get<E>(
        &self,
        matchers: &[Matcher],
        range: (i64, i64),
        need: Need,
        select: impl FnOnce() -> Result<Arc<Selection>, E>,
    ) -> Result<Arc<Selection>, E> {
        let Some(matchers) = self.repeated.iter().copied().find(|r| *r == matchers) else {
            return select();
        };
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = made().iter().find(|(m, s)| *m == matchers && s.serves(range, need)) {
            return Ok(Arc::clone(&found.selection));
        }
        let selection = select()?;
        made().push((matchers, Selected { range, need, selection: Arc::clone(&selection) }));
        Ok(selection)
    }
}
