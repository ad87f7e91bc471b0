//! What each node of an expression costs: kept only for a query that asks for it.
//!
//! Nodes are known by their address in the tree, which nobody moves while it is evaluated.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::context::unwrap_parens;
use crate::clock::Clock;
use crate::model::Matcher;
use crate::promql::ProfileNode;
use crate::promql::ast::{Expr, ExprKind};
use crate::storage::SampleSlices;

/// The counters of all nodes of one expression.
pub(super) struct Profile {
    nodes: HashMap<usize, Counters>,
    /// From the matchers of a selector to its node.
    selectors: HashMap<usize, usize>,
}

#[derive(Default)]
struct Counters {
    evaluations: AtomicU64,
    nanos: AtomicU64,
    rows: AtomicU64,
    points: AtomicU64,
    selected: AtomicU64,
    read: AtomicU64,
}

/// The node without its parentheses, which cost nothing.
fn key(expr: &Expr) -> usize {
    std::ptr::from_ref(unwrap_parens(expr)) as usize
}

fn matchers_of(expr: &Expr) -> Option<&[Matcher]> {
    match &expr.kind {
        ExprKind::Vector(v) => Some(&v.matchers),
        ExprKind::Matrix(m) => Some(&m.vector.matchers),
        _ => None,
    }
}

impl Profile {
    pub fn new(expr: &Expr) -> Self {
        let mut profile = Profile { nodes: HashMap::new(), selectors: HashMap::new() };
        walk(expr, 0, &mut |node, _| {
            profile.nodes.insert(key(node), Counters::default());
            if let Some(matchers) = matchers_of(node) {
                profile.selectors.insert(matchers.as_ptr() as usize, key(node));
            }
        });
        profile
    }

    fn of(&self, expr: &Expr) -> Option<&Counters> {
        self.nodes.get(&key(expr))
    }

    /// Runs an evaluation of the node and notes how long it took.
    pub fn timed<T>(&self, expr: &Expr, clock: &Clock, work: impl FnOnce() -> T) -> T {
        // What is in parentheses is noted when its turn comes.
        if !matches!(expr.kind, ExprKind::Paren(_))
            && let Some(counters) = self.of(expr)
        {
            counters.evaluations.fetch_add(1, Ordering::Relaxed);
        }
        self.busy(expr, clock, work)
    }

    /// Runs a part of an evaluation of the node, perhaps on one of several threads.
    pub fn busy<T>(&self, expr: &Expr, clock: &Clock, work: impl FnOnce() -> T) -> T {
        let begun = clock.monotonic();
        let result = work();
        if !matches!(expr.kind, ExprKind::Paren(_))
            && let Some(counters) = self.of(expr)
        {
            let nanos = u64::try_from((clock.monotonic() - begun).as_nanos()).unwrap_or(u64::MAX);
            counters.nanos.fetch_add(nanos, Ordering::Relaxed);
        }
        result
    }

    /// The node turned out to be evaluated in another way, which will be noted by itself.
    pub fn forget(&self, expr: &Expr) {
        if let Some(counters) = self.of(expr) {
            counters.evaluations.store(0, Ordering::Relaxed);
            counters.nanos.store(0, Ordering::Relaxed);
        }
    }

    /// The node gave so many rows with so many points in them.
    pub fn gave(&self, expr: &Expr, rows: usize, points: u64) {
        if !matches!(expr.kind, ExprKind::Paren(_))
            && let Some(counters) = self.of(expr)
        {
            counters.rows.fetch_add(rows as u64, Ordering::Relaxed);
            counters.points.fetch_add(points, Ordering::Relaxed);
        }
    }

    /// The selector with these matchers found so many series.
    pub fn selected(&self, matchers: &[Matcher], series: usize) {
        let node = self.selectors.get(&(matchers.as_ptr() as usize));
        if let Some(counters) = node.and_then(|n| self.nodes.get(n)) {
            counters.evaluations.fetch_max(1, Ordering::Relaxed);
            counters.selected.fetch_add(series as u64, Ordering::Relaxed);
        }
    }

    /// The range vector has read these samples of one series.
    pub fn read(&self, argument: &Expr, samples: &SampleSlices<'_>) {
        if let Some(counters) = self.of(argument) {
            counters.read.fetch_add((samples.ts.len() + samples.hist_ts.len()) as u64, Ordering::Relaxed);
        }
    }

    /// What was noted, node by node.
    pub fn finish(self, expr: &Expr) -> Vec<ProfileNode> {
        let mut list: Vec<ProfileNode> = Vec::new();
        walk(expr, 0, &mut |node, depth| {
            let Some(c) = self.of(node) else { return };
            let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
            let total = Duration::from_nanos(get(&c.nanos));
            let is_range = matches!(node.kind, ExprKind::Matrix(_));
            let read = if is_range { get(&c.read) } else { get(&c.points) };
            list.push(ProfileNode {
                depth,
                operator: node.operator(),
                pos: node.pos.clone(),
                evaluations: get(&c.evaluations),
                total,
                own: total,
                series: if is_range { get(&c.selected) } else { get(&c.rows) },
                samples: if is_range { read } else { get(&c.points) },
                selected: matchers_of(node).map(|_| (get(&c.selected), read)),
            });
        });
        for i in 0..list.len() {
            let children = list[i + 1..].iter().take_while(|n| n.depth > list[i].depth);
            let within = children.filter(|n| n.depth == list[i].depth + 1).map(|n| n.total).sum();
            list[i].own = list[i].total.saturating_sub(within);
        }
        list
    }
}

/// Every node but parentheses, a parent before its children.
pub(super) fn walk<'e>(expr: &'e Expr, depth: usize, f: &mut dyn FnMut(&'e Expr, usize)) {
    let expr = unwrap_parens(expr);
    f(expr, depth);
    match &expr.kind {
        ExprKind::Unary { expr, .. } => walk(expr, depth + 1, f),
        ExprKind::Binary(b) => {
            walk(&b.lhs, depth + 1, f);
            walk(&b.rhs, depth + 1, f);
        }
        ExprKind::Aggregate(a) => {
            a.param.iter().for_each(|p| walk(p, depth + 1, f));
            walk(&a.expr, depth + 1, f);
        }
        ExprKind::Call(c) => c.args.iter().for_each(|a| walk(a, depth + 1, f)),
        ExprKind::Subquery(s) => walk(&s.expr, depth + 1, f),
        ExprKind::Number(_)
        | ExprKind::Duration(_)
        | ExprKind::String(_)
        | ExprKind::Paren(_)
        | ExprKind::Vector(_)
        | ExprKind::Matrix(_) => {}
    }
}
