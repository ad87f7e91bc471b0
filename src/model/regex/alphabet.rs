//! The few characters that a pattern tells apart.
//!
//! `\pL{1000}` as an automaton over bytes has three hundred thousand states, for every repetition spells out the UTF-8
//! of all letters. Yet it asks of a character only whether it is a letter. So for patterns with large classes the
//! characters are put into kinds, two characters being of one kind if each class of the pattern has both or neither; every
//! kind gets a byte, the pattern is rewritten to these bytes, and each text is translated before it is matched.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;
use regex_syntax::hir::{
    Capture, Class, ClassBytes, ClassBytesRange, ClassUnicode, Hir, HirKind, Look, Repetition,
};

/// Sorting characters into kinds may look at so many stretches of characters.
const STRETCHES_MAX: usize = 1 << 20;

/// The kind of every character.
pub(super) struct Alphabet {
    /// Where stretches of characters of one kind begin, ascending, from 0, …
    starts: Vec<u32>,
    /// … and their kinds.
    kinds: Vec<u8>,
    ascii: [u8; 128],
}

impl Alphabet {
    /// The kinds of characters that `hir` tells apart, and `hir` over their bytes: a text matches if its translation
    /// does. `None` if there are more kinds than bytes, or if `hir` looks at words or lines.
    pub(super) fn of(hir: &Hir) -> Option<(Alphabet, Hir)> {
        let mut classes = Classes::default();
        classes.gather(hir)?;
        let alphabet = classes.kinds()?;
        let rewritten =
            Rewriting { alphabet: &alphabet, classes: HashMap::default(), bounds: Vec::new() }.hir(hir)?;
        Some((alphabet, rewritten))
    }

    fn kind(&self, c: char) -> u8 {
        match self.ascii.get(c as usize) {
            Some(kind) => *kind,
            None => self.looked_up(c),
        }
    }

    fn looked_up(&self, c: char) -> u8 {
        self.kinds[self.starts.partition_point(|s| *s <= u32::from(c)) - 1]
    }

    /// The text with a byte for each character.
    pub(super) fn translate(&self, text: &str) -> Vec<u8> {
        text.chars().map(|c| self.kind(c)).collect()
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.starts.len() * 5 + size_of::<Alphabet>()
    }

    /// The class as one of bytes.
    fn class(&self, class: &[Bounds]) -> Hir {
        let mut kinds = [false; 256];
        for (from, to) in class {
            let stretches =
                self.starts.partition_point(|s| s < from)..self.starts.partition_point(|s| s < to);
            self.kinds[stretches].iter().for_each(|k| kinds[usize::from(*k)] = true);
        }
        let of_class = (0..=255u8).filter(|k| kinds[usize::from(*k)]);
        Hir::class(Class::Bytes(ClassBytes::new(of_class.map(|k| ClassBytesRange::new(k, k)))))
    }
}

/// Rewrites a pattern to bytes.
struct Rewriting<'a> {
    alphabet: &'a Alphabet,
    /// Those that have been rewritten.
    classes: HashMap<Vec<Bounds>, Hir, RandomState>,
    /// Of the class at hand.
    bounds: Vec<Bounds>,
}

impl Rewriting<'_> {
    fn hir(&mut self, hir: &Hir) -> Option<Hir> {
        Some(match hir.kind() {
            HirKind::Empty => Hir::empty(),
            HirKind::Look(look) => Hir::look(*look),
            HirKind::Literal(l) => {
                Hir::literal(self.alphabet.translate(std::str::from_utf8(&l.0).ok()?).into_boxed_slice())
            }
            HirKind::Class(Class::Unicode(class)) => {
                bounds(class, &mut self.bounds);
                match self.classes.get(self.bounds.as_slice()) {
                    Some(known) => known.clone(),
                    None => {
                        let rewritten = self.alphabet.class(&self.bounds);
                        self.classes.insert(self.bounds.clone(), rewritten.clone());
                        rewritten
                    }
                }
            }
            HirKind::Class(Class::Bytes(_)) => Hir::fail(),
            HirKind::Repetition(Repetition { min, max, greedy, sub }) => {
                let sub = Box::new(self.hir(sub)?);
                Hir::repetition(Repetition { min: *min, max: *max, greedy: *greedy, sub })
            }
            HirKind::Capture(Capture { index, sub, .. }) => {
                let sub = Box::new(self.hir(sub)?);
                Hir::capture(Capture { index: *index, name: None, sub })
            }
            HirKind::Concat(subs) => Hir::concat(self.all(subs)?),
            HirKind::Alternation(subs) => Hir::alternation(self.all(subs)?),
        })
    }

    fn all(&mut self, subs: &[Hir]) -> Option<Vec<Hir>> {
        subs.iter().map(|s| self.hir(s)).collect()
    }
}

/// The first character of a range and the one behind its last.
type Bounds = (u32, u32);

/// What a pattern asks of a character.
#[derive(Default)]
struct Classes {
    distinct: HashSet<Vec<Bounds>, RandomState>,
    /// Ranges of those.
    ranges: usize,
    /// Of the class at hand.
    bounds: Vec<Bounds>,
}

impl Classes {
    /// Takes all classes and literal characters of `hir`; `None` if they are too many.
    fn gather(&mut self, hir: &Hir) -> Option<()> {
        match hir.kind() {
            HirKind::Empty | HirKind::Look(Look::Start | Look::End) => Some(()),
            // The class of nothing is one of bytes.
            HirKind::Class(Class::Bytes(class)) if class.ranges().is_empty() => Some(()),
            HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => None,
            HirKind::Literal(l) => std::str::from_utf8(&l.0).ok()?.chars().try_for_each(|c| {
                self.bounds.clear();
                self.bounds.push((u32::from(c), u32::from(c) + 1));
                self.add()
            }),
            HirKind::Class(Class::Unicode(class)) => {
                bounds(class, &mut self.bounds);
                self.add()
            }
            HirKind::Repetition(r) => self.gather(&r.sub),
            HirKind::Capture(c) => self.gather(&c.sub),
            HirKind::Concat(subs) | HirKind::Alternation(subs) => {
                subs.iter().try_for_each(|s| self.gather(s))
            }
        }
    }

    /// Adds the class whose bounds are at hand.
    fn add(&mut self) -> Option<()> {
        if !self.distinct.contains(self.bounds.as_slice()) {
            self.ranges += self.bounds.len();
            self.distinct.insert(self.bounds.clone());
        }
        (self.ranges <= STRETCHES_MAX / 16).then_some(())
    }

    /// Refines one kind, that of all characters, by each class.
    fn kinds(&self) -> Option<Alphabet> {
        let mut starts: Vec<u32> = self.distinct.iter().flatten().flat_map(|(a, b)| [*a, *b]).collect();
        starts.push(0);
        starts.sort_unstable();
        starts.dedup();
        let at = |c: u32| starts.partition_point(|s| *s < c);
        let mut kinds = vec![0_u8; starts.len()];
        let (mut count, mut looked_at) = (1_usize, 0);
        for class in &self.distinct {
            let stretches: Vec<usize> = class.iter().flat_map(|(a, b)| at(*a)..at(*b)).collect();
            looked_at += stretches.len() + starts.len();
            if looked_at > STRETCHES_MAX {
                return None;
            }
            // How many stretches each kind has, and how many of these the class has.
            let (mut all, mut inside) = ([0_usize; 256], [0_usize; 256]);
            kinds.iter().for_each(|k| all[usize::from(*k)] += 1);
            stretches.iter().for_each(|s| inside[usize::from(kinds[*s])] += 1);
            // What becomes of those of a kind that the class has only a part of.
            let mut split: [Option<u8>; 256] = [None; 256];
            for stretch in stretches {
                let kind = usize::from(kinds[stretch]);
                if inside[kind] == all[kind] {
                    continue;
                }
                if split[kind].is_none() {
                    split[kind] = Some(u8::try_from(count).ok()?);
                    count += 1;
                }
                kinds[stretch] = split[kind].unwrap_or_default();
            }
        }
        let mut alphabet = Alphabet { starts, kinds, ascii: [0; 128] };
        alphabet.ascii = std::array::from_fn(|b| alphabet.looked_up(char::from(b as u8)));
        Some(alphabet)
    }
}

/// The bounds of a class's ranges, instead of what is in `into`.
fn bounds(class: &ClassUnicode, into: &mut Vec<Bounds>) {
    into.clear();
    into.extend(class.ranges().iter().map(|r| (u32::from(r.start()), u32::from(r.end()) + 1)));
}
