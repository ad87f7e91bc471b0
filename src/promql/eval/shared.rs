//! What an expression needs more than once, such as both sides of `x / sum(x)`. What several expressions need is in
//! `promql::selections`.

use std::sync::{Arc, Mutex, PoisonError};

use super::context::Grid;
use super::profile::walk;
use super::times::Times;
use super::uses::each_use;
use crate::model::Matcher;
use crate::promql::ast::{Expr, ExprKind};
use crate::promql::kept::Tally;
use crate::promql::uses::{Asked, Found, Selected, Use, Uses};

/// So many selectors of an expression are compared with each other; what comes after them is selected by itself.
const SELECTORS_MAX: usize = 256;

/// The selections of the selectors that occur several times, and the samples that they share, for as long as the query
/// runs. Nothing, if each occurs once.
#[derive(Default)]
pub(super) struct Shared<'e> {
    repeated: Vec<(&'e [Matcher], Uses)>,
    made: Mutex<Vec<(&'e [Matcher], Selected)>>,
    tally: Option<Arc<Tally>>,
}

impl<'e> Shared<'e> {
    /// Of an expression that is evaluated over a grid.
    pub fn of(expr: &'e Expr, times: &Times, grid: Grid) -> Self {
        let mut all: Vec<&[Matcher]> = Vec::new();
        let mut repeated: Vec<(&[Matcher], Uses)> = Vec::new();
        walk(expr, 0, &mut |node, _| {
            let matchers = match &node.kind {
                ExprKind::Vector(v) => &v.matchers[..],
                ExprKind::Matrix(m) => &m.vector.matchers[..],
                _ => return,
            };
            if all.len() == SELECTORS_MAX {
                return;
            }
            if all.contains(&matchers) && !repeated.iter().any(|(r, _)| *r == matchers) {
                repeated.push((matchers, Uses::default()));
            }
            all.push(matchers);
        });
        if repeated.is_empty() {
            return Shared::default();
        }
        each_use(times, expr, grid, &mut |matchers, what| {
            if let Some((_, uses)) = repeated.iter_mut().find(|(r, _)| *r == matchers) {
                uses.add(what);
            }
        });
        Shared { repeated, made: Mutex::default(), tally: Some(Arc::default()) }
    }

    fn find_repeated(&self, matchers: &[Matcher]) -> Option<&(&'e [Matcher], Uses)> {
        self.repeated.iter().find(|(r, _)| *r == matchers)
    }

    /// What to ask for, for this use and others.
    pub fn asked(&self, matchers: &[Matcher], own: Use) -> Asked {
        self.find_repeated(matchers).map_or(Asked { select: own, keep: None }, |(_, uses)| uses.asked(own))
    }

    /// What was selected before, if it has all that is asked for.
    pub fn find(&self, matchers: &[Matcher], own: Use) -> Option<Found> {
        if self.repeated.is_empty() {
            return None;
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, found) = made.iter_mut().find(|(m, s)| *m == matchers && s.serves(own))?;
        Some(found.take(own.range))
    }

    /// Keeps what was selected, if another use may ask for it.
    pub fn keep(&self, matchers: &[Matcher], selected: Selected) {
        if let Some((matchers, _)) = self.find_repeated(matchers) {
            self.made.lock().unwrap_or_else(PoisonError::into_inner).push((matchers, selected));
        }
    }

    /// What the query keeps of samples; `None` if no selector occurs twice.
    pub fn tally(&self) -> Option<&Arc<Tally>> {
        self.tally.as_ref()
    }
}
