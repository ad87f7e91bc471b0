//! Matching by automata.
//!
//! Whether a text matches is told by a lazy DFA that runs forward only: what it is made of is compiled in a third of the
//! time of the `regex` crates' own engine, which has a second automaton that runs backward to find where a match begins. And
//! it can be stopped: a pattern may make it build a new state for each byte, of some hundred thousand states of the NFA.
//! What groups captured is found by an engine that is made only if it is asked for.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use regex_automata::hybrid::dfa::{Builder, Cache, Config, DFA};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_automata::util::captures::Captures;
use regex_automata::util::pool::Pool;
use regex_automata::util::start;
use regex_automata::{Anchored, Input, meta};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::alphabet::Alphabet;

/// The states of one automaton take at most so many bytes: room for a pattern of the longest expression, character by
/// character.
const SIZE_LIMIT: usize = 8 << 20;

/// Work of compiling, in ranges of characters, above which a pattern is rewritten to the few characters that it tells apart, …
const COST_REWRITTEN: u64 = 8_000;
/// … and above which it is refused, for compiling cannot be stopped: some 50 ns each at the worst, so 30 ms.
const COST_MAX: u64 = 600_000;

/// What the engine for captures keeps of every group in every state may take so much, in bytes.
const SLOTS_BYTES_MAX: usize = 64 << 20;

/// So many states of the NFA, times bytes of a text, may be gone through between two looks at whether to stop: a millisecond or two.
const STEPS_BETWEEN_CHECKS: usize = 1 << 18;

type CachePool = Pool<Cache, Box<dyn Fn() -> Cache + Send + Sync + UnwindSafe + RefUnwindSafe>>;

/// A pattern that is ready to be compiled.
pub(super) struct Source {
    hir: Hir,
    alphabet: Option<Arc<Alphabet>>,
    /// About how many ranges of bytes its automaton spells out; it has no more states than that, by and large.
    cost: u64,
}

impl Source {
    pub(super) fn new(hir: Hir) -> Source {
        let source = Source { cost: cost(&hir), hir, alphabet: None };
        if source.cost > COST_REWRITTEN { source.rewritten() } else { source }
    }

    /// Over its own alphabet, if that makes it cheaper.
    fn rewritten(self) -> Source {
        match Alphabet::of(&self.hir) {
            Some((alphabet, hir)) if cost(&hir) < self.cost => {
                Source { cost: cost(&hir), hir, alphabet: Some(Arc::new(alphabet)) }
            }
            _ => self,
        }
    }
}

/// Tells whether texts match.
pub(super) struct Engine {
    dfa: Arc<DFA>,
    caches: CachePool,
    alphabet: Option<Arc<Alphabet>>,
}

impl Engine {
    /// `None` if it is too large, or would take too long to compile.
    pub(super) fn compile(source: &Source) -> Option<Engine> {
        if source.cost > COST_MAX {
            return None;
        }
        let config = thompson::Config::new()
            .utf8(source.alphabet.is_none())
            .which_captures(WhichCaptures::None)
            .nfa_size_limit(Some(SIZE_LIMIT));
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(&source.hir).ok()?;
        // It never gives up: there is nothing behind it, and whoever waits for it can stop it.
        let config = Config::new().skip_cache_capacity_check(true).minimum_cache_clear_count(None);
        let dfa = Arc::new(Builder::new().configure(config).build_from_nfa(nfa).ok()?);
        let shared = Arc::clone(&dfa);
        let caches: CachePool = Pool::new(Box::new(move || shared.create_cache()));
        Some(Engine { dfa, caches, alphabet: source.alphabet.clone() })
    }

    /// How many states it goes through at the very worst for a text of so many bytes.
    pub(super) fn steps(&self, bytes: usize) -> usize {
        self.dfa.get_nfa().states().len().saturating_mul(bytes)
    }

    /// Whether the text matches. Once `stop` says so the answer comes soon, and means nothing.
    pub(super) fn is_match(&self, text: &str, stop: &dyn Fn() -> bool) -> bool {
        let translated = self.alphabet.as_ref().map(|a| a.translate(text));
        let bytes = translated.as_deref().unwrap_or(text.as_bytes());
        let mut cache = self.caches.get();
        if self.steps(bytes.len()) > STEPS_BETWEEN_CHECKS {
            return self.is_match_by_steps(&mut cache, bytes, stop);
        }
        let input = Input::new(bytes).earliest(true);
        self.dfa.try_search_fwd(&mut cache, &input).is_ok_and(|m| m.is_some())
    }

    fn is_match_by_steps(&self, cache: &mut Cache, bytes: &[u8], stop: &dyn Fn() -> bool) -> bool {
        const NEVER: &str = "a lazy DFA that may clear its cache any number of times does not give up";
        let begin = start::Config::new().anchored(Anchored::No);
        let mut state =
            self.dfa.start_state(cache, &begin).expect("a DFA without quit bytes has a start state");
        // The work of a look, in bytes: each may need a new state.
        let between = (STEPS_BETWEEN_CHECKS / self.steps(1).max(1)).max(1);
        for piece in bytes.chunks(between) {
            if stop() {
                return false;
            }
            for byte in piece {
                state = self.dfa.next_state(cache, state, *byte).expect(NEVER);
                if state.is_tagged() && (state.is_match() || state.is_dead()) {
                    return state.is_match();
                }
            }
        }
        self.dfa.next_eoi_state(cache, state).expect(NEVER).is_match()
    }

    /// About how many bytes it takes, without what it adds while matching.
    pub(super) fn bytes(&self) -> usize {
        self.dfa.get_nfa().memory_usage() + self.alphabet.as_ref().map_or(0, |a| a.bytes())
    }

    /// About how many bytes matching adds, by one thread.
    pub(super) fn cache_bytes(&self) -> usize {
        let most = self.dfa.get_config().get_cache_capacity().max(self.bytes());
        most.min(8 * self.bytes())
    }
}

/// Finds what groups captured.
pub(super) struct Capturing {
    regex: meta::Regex,
    alphabet: Option<Arc<Alphabet>>,
    states: usize,
    slots_bytes: usize,
}

impl Capturing {
    /// `None` if it is too large, or would take too long to compile.
    pub(super) fn compile(source: &Source) -> Option<Capturing> {
        let small = source.cost <= COST_REWRITTEN;
        let config = meta::Config::new()
            .utf8_empty(source.alphabet.is_none())
            .nfa_size_limit(Some(SIZE_LIMIT))
            .hybrid(small)
            .dfa(small)
            .onepass(small);
        let groups = source.hir.properties().explicit_captures_len() + 1;
        let states = usize::try_from(source.cost).ok()?;
        // For each state, now and after the next byte: where each group begins and ends.
        let slots_bytes = states.saturating_mul(groups).saturating_mul(2 * 2 * size_of::<usize>());
        if source.cost > COST_MAX || slots_bytes > SLOTS_BYTES_MAX {
            return None;
        }
        let regex = meta::Regex::builder().configure(config).build_from_hir(&source.hir).ok()?;
        Some(Capturing { regex, alphabet: source.alphabet.clone(), states, slots_bytes })
    }

    /// About how many bytes it takes, with what it adds while matching.
    pub(super) fn bytes(&self) -> usize {
        2 * self.regex.memory_usage() + self.slots_bytes
    }

    /// How many states it goes through at the very worst for a text of so many bytes.
    pub(super) fn steps(&self, bytes: usize) -> usize {
        self.states.saturating_mul(bytes)
    }

    /// The first match in `text`, if there is one.
    pub(super) fn first(&self, text: &str) -> Option<Found> {
        let mut captures = self.regex.create_captures();
        let Some(alphabet) = &self.alphabet else {
            self.regex.captures(text, &mut captures);
            return captures.is_match().then_some(Found { captures, offsets: None });
        };
        self.regex.captures(alphabet.translate(text).as_slice(), &mut captures);
        captures.is_match().then(|| Found { captures, offsets: Some(offsets(text)) })
    }

    /// Calls `f` with each match in `text`.
    pub(super) fn each(&self, text: &str, mut f: impl FnMut(&Found)) {
        let translated = self.alphabet.as_ref().map(|a| a.translate(text));
        let bytes = translated.as_deref().unwrap_or(text.as_bytes());
        let shared = translated.as_ref().map(|_| offsets(text));
        for captures in self.regex.captures_iter(bytes) {
            f(&Found { captures, offsets: shared.clone() });
        }
    }
}

/// A match.
pub(super) struct Found {
    captures: Captures,
    /// Where each character begins, and where the text ends, if a character is a byte in `captures`.
    offsets: Option<Arc<[usize]>>,
}

impl Found {
    /// Where in the text the group of this number matched, 0 being the whole; as a range of bytes.
    pub(super) fn group(&self, number: usize) -> Option<std::ops::Range<usize>> {
        let span = self.captures.get_group(number)?;
        Some(match &self.offsets {
            None => span.range(),
            Some(offsets) => offsets[span.start]..offsets[span.end],
        })
    }
}

fn offsets(text: &str) -> Arc<[usize]> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).collect()
}

/// About how many ranges of bytes the automaton of this spells out.
fn cost(hir: &Hir) -> u64 {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(l) => l.0.len() as u64,
        // A range beyond ASCII is several sequences of several bytes.
        HirKind::Class(Class::Unicode(c)) => {
            1 + c.ranges().iter().map(|r| if r.end().is_ascii() { 1 } else { 6 }).sum::<u64>()
        }
        HirKind::Class(Class::Bytes(c)) => 1 + c.ranges().len() as u64,
        HirKind::Repetition(r) => {
            let copies = u64::from(r.max.unwrap_or(r.min)).max(1);
            cost(&r.sub).saturating_add(1).saturating_mul(copies)
        }
        HirKind::Capture(c) => cost(&c.sub).saturating_add(2),
        HirKind::Concat(subs) | HirKind::Alternation(subs) => {
            subs.iter().map(cost).fold(1, u64::saturating_add)
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
