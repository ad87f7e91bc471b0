//! Patterns that match without an engine, and what the index can know of the others.

use regex_syntax::hir::{Class, Hir, HirKind};

/// A set of literals may have so many members, …
const MAX_LITERALS: usize = 20_000;
/// … and combining parts (`[ab][cd]`) may make so many.
const MAX_PRODUCT: usize = 256;

/// What is known of the texts that a whole pattern matches.
pub(super) struct Shape {
    rule: Rule,
    /// Each match begins with this, …
    pub(super) prefix: String,
    /// … ends with this …
    pub(super) suffix: String,
    /// … and has this in it.
    pub(super) contains: String,
}

enum Rule {
    /// The prefix and the suffix do not decide: the engine does.
    Engine,
    /// Exactly these, ascending.
    Literals(Vec<String>),
    /// The prefix, at least so many bytes of anything, and the suffix.
    Affixes { gap: usize },
    /// `.*text.*`
    Contains(Box<memchr::memmem::Finder<'static>>),
}

impl Shape {
    /// Of a pattern about which nothing is known.
    pub(super) fn any() -> Shape {
        Shape { rule: Rule::Engine, prefix: String::new(), suffix: String::new(), contains: String::new() }
    }

    /// Of a pattern that has to match the whole text.
    pub(super) fn of(hir: &Hir) -> Shape {
        let mut shape = Shape::any();
        if let Some(mut set) = literals(hir) {
            set.sort();
            set.dedup();
            if let [only] = set.as_slice() {
                (shape.prefix, shape.suffix) = (only.clone(), only.clone());
            }
            shape.rule = Rule::Literals(set);
            return shape;
        }
        let mut parts = Vec::new();
        flatten(hir, &mut parts);
        match parts.as_slice() {
            [Part::Any(a), Part::Text(t), Part::Any(b)] if a + b == 0 => {
                shape.contains.clone_from(t);
                shape.rule = Rule::Contains(Box::new(memchr::memmem::Finder::new(t).into_owned()));
                return shape;
            }
            [Part::Any(gap)]
            | [Part::Text(_), Part::Any(gap)]
            | [Part::Any(gap), Part::Text(_)]
            | [Part::Text(_), Part::Any(gap), Part::Text(_)] => shape.rule = Rule::Affixes { gap: *gap },
            _ => {}
        }
        if let Some(Part::Text(t)) = parts.first() {
            shape.prefix.clone_from(t);
        }
        if let Some(Part::Text(t)) = parts.last() {
            shape.suffix.clone_from(t);
        }
        let inner = parts.iter().filter_map(|p| if let Part::Text(t) = p { Some(t) } else { None });
        shape.contains = inner.max_by_key(|t| t.len()).cloned().unwrap_or_default();
        shape
    }

    /// Whether [`Shape::matches`] knows every answer.
    pub(super) fn decides(&self) -> bool {
        !matches!(self.rule, Rule::Engine)
    }

    /// Whether the text matches, if that can be told from the shape.
    pub(super) fn matches(&self, text: &str) -> Option<bool> {
        Some(match &self.rule {
            Rule::Literals(set) => set.binary_search_by(|l| l.as_str().cmp(text)).is_ok(),
            Rule::Affixes { gap } => {
                text.len() >= self.prefix.len() + gap + self.suffix.len() && self.has_ends(text)
            }
            Rule::Contains(finder) => finder.find(text.as_bytes()).is_some(),
            Rule::Engine => {
                return if self.has_ends(text) { None } else { Some(false) };
            }
        })
    }

    /// An empty text is not compared: the C library's comparison with AVX-512 takes 150 ns for it, for it then loads
    /// from where an empty text points to, which is no memory.
    fn has_ends(&self, text: &str) -> bool {
        (self.prefix.is_empty() || text.starts_with(&self.prefix))
            && (self.suffix.is_empty() || text.ends_with(&self.suffix))
    }

    pub(super) fn literals(&self) -> Option<&[String]> {
        if let Rule::Literals(set) = &self.rule { Some(set) } else { None }
    }

    /// About how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let set: usize = self.literals().iter().flat_map(|set| set.iter()).map(|l| 24 + l.len()).sum();
        set + self.prefix.len() + self.suffix.len() + self.contains.len()
    }

    pub(super) fn is_match_all(&self) -> bool {
        matches!(self.rule, Rule::Affixes { gap: 0 }) && self.prefix.is_empty() && self.suffix.is_empty()
    }

    pub(super) fn is_match_non_empty(&self) -> bool {
        matches!(self.rule, Rule::Affixes { gap: 1 }) && self.prefix.is_empty() && self.suffix.is_empty()
    }
}

/// A part of a concatenation.
enum Part {
    Text(String),
    /// Anything, of at least so many characters (0 or 1).
    Any(usize),
    /// Something else.
    Other,
}

fn flatten(hir: &Hir, parts: &mut Vec<Part>) {
    match hir.kind() {
        HirKind::Concat(subs) => subs.iter().for_each(|s| flatten(s, parts)),
        HirKind::Capture(c) => flatten(&c.sub, parts),
        HirKind::Empty => {}
        HirKind::Literal(l) => match (std::str::from_utf8(&l.0), parts.last_mut()) {
            (Ok(text), Some(Part::Text(before))) => before.push_str(text),
            (Ok(text), _) => parts.push(Part::Text(text.to_owned())),
            (Err(_), _) => parts.push(Part::Other),
        },
        HirKind::Repetition(r) if r.max.is_none() && r.min <= 1 && is_anything(&r.sub) => {
            parts.push(Part::Any(r.min as usize));
        }
        _ => parts.push(Part::Other),
    }
}

/// Whether this is any one character.
fn is_anything(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Class(Class::Unicode(c)) => {
            matches!(c.ranges(), [r] if r.start() == '\0' && r.end() == char::MAX)
        }
        HirKind::Capture(c) => is_anything(&c.sub),
        _ => false,
    }
}

/// All texts that this matches, if they are few.
fn literals(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(l) => Some(vec![std::str::from_utf8(&l.0).ok()?.to_owned()]),
        HirKind::Class(Class::Unicode(c)) => {
            let count: usize = c.ranges().iter().map(|r| r.len()).sum();
            (count <= MAX_PRODUCT)
                .then(|| c.ranges().iter().flat_map(|r| r.start()..=r.end()).map(String::from).collect())
        }
        HirKind::Capture(c) => literals(&c.sub),
        HirKind::Repetition(r) if r.max == Some(1) => {
            let mut set = literals(&r.sub)?;
            if r.min == 0 {
                set.push(String::new());
            }
            Some(set)
        }
        HirKind::Alternation(subs) => {
            let mut all = Vec::new();
            for sub in subs {
                all.extend(literals(sub)?);
                if all.len() > MAX_LITERALS {
                    return None;
                }
            }
            Some(all)
        }
        HirKind::Concat(subs) => {
            let mut all = vec![String::new()];
            for sub in subs {
                let next = literals(sub)?;
                let (many, product) = (all.len().max(next.len()), all.len() * next.len());
                // One text in front of many makes no more of them; two sets multiply.
                if product > many.max(MAX_PRODUCT) {
                    return None;
                }
                all = all.iter().flat_map(|a| next.iter().map(move |b| format!("{a}{b}"))).collect();
            }
            Some(all)
        }
        _ => None,
    }
}
