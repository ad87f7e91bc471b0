//! Regular expressions with the syntax and meaning of Go's `regexp` (RE2).
//!
//! `parse` reads Go's syntax into the intermediate form of the `regex` crates, of whose automata `engine` is made: their own
//! syntax means other things in places (`\d` is every Unicode digit there, `[a&&b]` an intersection, `\<` a word
//! boundary). `shape` finds the patterns that need no engine at all: sets of literals, `prefix.*`, `.+` and the like.
//! `alphabet` makes those small that repeat large classes. `expand` fills in captures as Go does. `recent` keeps what was
//! compiled last, for a dashboard or a rule asks with the same patterns again and again.
//!
//! No pattern takes longer than some 50 ms to compile, for that cannot be stopped; matching can be.

mod alphabet;
mod engine;
mod expand;
mod parse;
mod perl;
mod recent;
mod shape;

use std::fmt;
use std::sync::{Arc, OnceLock};

use regex_syntax::hir::{Hir, Look};

use engine::{Capturing, Engine, Source};
use shape::Shape;

/// Patterns of more open parentheses are read and compiled on a thread of their own, for that is done by recursion.
const NESTING_ON_ANY_STACK: usize = 100;
/// Enough for the deepest pattern, a build without optimisation included.
const ROOMY_STACK_BYTES: usize = 64 << 20;

/// A pattern that is no valid RE2 expression.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct RegexError {
    /// Go's text, such as ``error parsing regexp: missing closing ): `(` ``.
    pub message: String,
}

/// A compiled pattern. Cloning is cheap.
#[derive(Clone)]
pub struct GoRegex {
    inner: Arc<Inner>,
}

struct Inner {
    pattern: String,
    /// Names of groups by their number.
    names: Vec<(String, usize)>,
    shape: Shape,
    /// What the engines are made of.
    source: Source,
    /// `None` if the shape decides.
    engine: Option<Engine>,
    capturing: OnceLock<Option<Capturing>>,
    /// Whether `source` nests so deeply that walking it needs a large stack.
    deep: bool,
}

impl GoRegex {
    /// Compiles `pattern` so that it must match the whole text, with `.` matching newlines: `^(?s:pattern)$`.
    ///
    /// # Errors
    /// When the pattern is invalid or too large.
    pub fn anchored(pattern: &str) -> Result<Self, RegexError> {
        recent::anchored(pattern, Self::compile_anchored)
    }

    fn compile_anchored(pattern: &str) -> Result<Self, RegexError> {
        let deep = is_deep(pattern);
        with_room(deep, || {
            let parsed = parse::parse(pattern, true)?;
            let shape = Shape::of(&parsed.hir);
            let hir = Hir::concat(vec![Hir::look(Look::Start), parsed.hir, Hir::look(Look::End)]);
            Self::build(pattern, parsed.names, shape, hir, deep)
        })
        .unwrap_or_else(|| Err(too_large(pattern)))
    }

    /// Compiles `pattern` as it stands: it may match anywhere in the text.
    ///
    /// # Errors
    /// When the pattern is invalid or too large.
    pub fn unanchored(pattern: &str) -> Result<Self, RegexError> {
        let deep = is_deep(pattern);
        with_room(deep, || {
            let parsed = parse::parse(pattern, false)?;
            Self::build(pattern, parsed.names, Shape::any(), parsed.hir, deep)
        })
        .unwrap_or_else(|| Err(too_large(pattern)))
    }

    fn build(
        pattern: &str,
        names: Vec<(String, usize)>,
        shape: Shape,
        hir: Hir,
        deep: bool,
    ) -> Result<Self, RegexError> {
        let source = Source::new(hir);
        let engine = if shape.decides() {
            None
        } else {
            Some(Engine::compile(&source).ok_or_else(|| too_large(pattern))?)
        };
        let capturing = OnceLock::new();
        let inner = Inner { pattern: pattern.to_owned(), names, shape, source, engine, capturing, deep };
        Ok(GoRegex { inner: Arc::new(inner) })
    }

    /// The pattern as it was given.
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.inner.pattern
    }

    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.is_match_until(text, &|| false)
    }

    /// As [`GoRegex::is_match`]. Once `stop` says so the answer comes soon, and means nothing.
    #[must_use]
    pub fn is_match_until(&self, text: &str, stop: &dyn Fn() -> bool) -> bool {
        let engine = || self.inner.engine.as_ref().is_some_and(|e| e.is_match(text, stop));
        self.inner.shape.matches(text).unwrap_or_else(engine)
    }

    /// How much work [`GoRegex::is_match`] is at the very worst for a text of so many bytes, in steps of some ten nanoseconds.
    #[must_use]
    pub fn match_steps(&self, bytes: usize) -> usize {
        self.inner.engine.as_ref().map_or(bytes / 8, |e| e.steps(bytes))
    }

    /// How much work [`GoRegex::expand`] is at the very worst for a text of so many bytes, in steps of some ten nanoseconds.
    #[must_use]
    pub fn expand_steps(&self, bytes: usize) -> usize {
        self.capturing().map_or(0, |c| c.steps(bytes))
    }

    /// Gets ready for [`GoRegex::expand`] and [`GoRegex::replace_all`].
    ///
    /// # Errors
    /// When what has to be kept of all groups would take too much memory.
    pub fn check_groups(&self) -> Result<(), RegexError> {
        self.capturing().map(|_| ()).ok_or_else(|| too_large(self.pattern()))
    }

    /// About how many bytes [`GoRegex::expand`] takes in memory besides.
    #[must_use]
    pub fn expand_bytes(&self) -> u64 {
        self.capturing().map_or(0, Capturing::bytes) as u64
    }

    /// If `text` matches, `replacement` with `$1`, `${1}` and `${name}` filled in (Go's `Expand`). `None` as well if
    /// [`GoRegex::check_groups`] says that this pattern is too large for it.
    #[must_use]
    pub fn expand(&self, text: &str, replacement: &str) -> Option<String> {
        let found = self.capturing()?.first(text)?;
        let mut out = String::new();
        expand::expand(replacement, &self.inner.names, text, &found, &mut out);
        Some(out)
    }

    /// Every match in `text` replaced (Go's `ReplaceAllString`). None is if [`GoRegex::check_groups`] says that this
    /// pattern is too large for it.
    #[must_use]
    pub fn replace_all(&self, text: &str, replacement: &str) -> String {
        let Some(capturing) = self.capturing() else { return text.to_owned() };
        let (mut out, mut copied) = (String::new(), 0);
        capturing.each(text, |found| {
            let Some(whole) = found.group(0) else { return };
            out.push_str(&text[copied..whole.start]);
            expand::expand(replacement, &self.inner.names, text, found, &mut out);
            copied = whole.end;
        });
        out.push_str(&text[copied..]);
        out
    }

    /// All texts that match, ascending, if the pattern is a set of literals (`a|b|c`, `foo(bar|baz)?`, `v[12]`): the
    /// index looks them up. The empty text among them means that a missing label matches too.
    /// Always `None` for an unanchored pattern, as are the hints below.
    #[must_use]
    pub fn literals(&self) -> Option<&[String]> {
        self.inner.shape.literals()
    }

    /// The literal that each match begins with; empty if there is none.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.inner.shape.prefix
    }

    /// The literal that each match ends with; empty if there is none.
    #[must_use]
    pub fn suffix(&self) -> &str {
        &self.inner.shape.suffix
    }

    /// A literal that each match has somewhere in it; empty if none is known.
    #[must_use]
    pub fn contains(&self) -> &str {
        &self.inner.shape.contains
    }

    /// Whether every text matches (`.*`).
    #[must_use]
    pub fn is_match_all(&self) -> bool {
        self.inner.shape.is_match_all()
    }

    /// Whether every text but the empty one matches (`.+`).
    #[must_use]
    pub fn is_match_non_empty(&self) -> bool {
        self.inner.shape.is_match_non_empty()
    }

    /// About how many bytes it takes in memory, with what matching adds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let matching = self.inner.engine.as_ref().map_or(0, Engine::cache_bytes);
        (self.inner.pattern.len() + self.inner.shape.bytes() + self.engine_bytes() + matching) as u64
    }

    /// About how many bytes the engine takes, without what it adds while matching.
    fn engine_bytes(&self) -> usize {
        self.inner.engine.as_ref().map_or(0, Engine::bytes)
    }

    fn capturing(&self) -> Option<&Capturing> {
        let Inner { source, capturing, deep, .. } = &*self.inner;
        capturing.get_or_init(|| with_room(*deep, || Capturing::compile(source)).flatten()).as_ref()
    }
}

impl fmt::Debug for GoRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GoRegex").field(&self.inner.pattern).finish()
    }
}

/// Whether a pattern may nest deeply: escaped parentheses count as well.
fn is_deep(pattern: &str) -> bool {
    let (mut open, mut most) = (0_usize, 0);
    for b in pattern.bytes() {
        match b {
            b'(' => open += 1,
            b')' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most > NESTING_ON_ANY_STACK
}

/// Does the work, on a thread with a large stack if it is needed; `None` if there is no such thread to be had.
fn with_room<T: Send>(roomy: bool, work: impl FnOnce() -> T + Send) -> Option<T> {
    if !roomy {
        return Some(work());
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(ROOMY_STACK_BYTES).spawn_scoped(scope, work);
        thread.ok()?.join().ok()
    })
}

fn too_large(pattern: &str) -> RegexError {
    RegexError { message: format!("error parsing regexp: expression too large: `{}`", shortened(pattern)) }
}

/// At most the first hundred characters.
fn shortened(pattern: &str) -> String {
    pattern.chars().take(100).collect()
}

#[cfg(test)]
mod tests;
