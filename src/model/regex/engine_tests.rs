use std::cell::Cell;

use proptest::prelude::*;

use super::super::parse::parse;
use super::*;

fn plain(pattern: &str) -> Source {
    let hir = parse(pattern, true).unwrap_or_else(|e| panic!("{pattern}: {e}")).hir;
    Source { cost: cost(&hir), hir, alphabet: None }
}

/// Over its own alphabet, whether that is cheaper or not.
fn rewritten(pattern: &str) -> Option<Source> {
    let (alphabet, hir) = Alphabet::of(&plain(pattern).hir)?;
    Some(Source { cost: cost(&hir), hir, alphabet: Some(Arc::new(alphabet)) })
}

fn is_match(engine: &Engine, text: &str) -> bool {
    engine.is_match(text, &|| false)
}

type Group = Option<std::ops::Range<usize>>;

/// All groups of the first match, and where all matches are.
fn captured(source: &Source, text: &str) -> (Vec<Group>, Vec<Group>) {
    let capturing = Capturing::compile(source).unwrap();
    let groups = capturing.first(text).map_or(vec![], |f| (0..5).map(|i| f.group(i)).collect());
    let mut all = Vec::new();
    capturing.each(text, |f| all.push(f.group(0)));
    (groups, all)
}

/// How large the automaton is, in states; 0 if it is refused.
fn states(pattern: &str) -> usize {
    let source = Source::new(parse(pattern, true).unwrap().hir);
    Engine::compile(&source).map_or(0, |e| e.steps(1))
}

#[test]
fn large_classes_make_small_automata() {
    for (pattern, most) in [
        (r"\pL{1000}", 1_100),
        (r"(\pL{1,100}){1,9}", 2_000),
        (r"(?i)[^\pN]{900}", 1_000),
        (r"(?:\pL|\pN|\pS){1,300}", 2_000),
        (r"(.{0,31}){0,32}x", 3_000),
    ] {
        let states = states(pattern);
        assert!((2..most).contains(&states), "{pattern}: {states}");
    }
}

#[test]
fn what_cannot_be_made_small_is_refused_before_it_is_compiled() {
    // Words and lines are looked for in bytes.
    assert!(states(r"\b\pL{50}") > 1_000);
    assert_eq!(states(r"\b\pL{900}"), 0);
    assert_eq!(states(&format!("(?:{}){{1000}}", "ab".repeat(500))), 0);
    // More kinds of characters than there are bytes.
    let many: String =
        (0..400).filter_map(|i| char::from_u32(0x4e00 + i)).map(|c| format!("{c}|[^{c}]x|")).collect();
    assert!(Alphabet::of(&plain(&many).hir).is_none());
    assert!(states(&many) > 400);
}

#[test]
fn an_awful_match_can_be_stopped() {
    // Each byte of the text makes another state of the DFA.
    let engine = Engine::compile(&plain(&"(.*a|b)".repeat(500))).unwrap();
    let text = "ab".repeat(20_000);
    let asked = Cell::new(0_usize);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() == 3
    };
    engine.is_match(&text, &stop);
    assert_eq!(asked.get(), 3);
    let pieces = engine.steps(text.len()) / STEPS_BETWEEN_CHECKS;
    assert!(pieces > 100, "{pieces}");
}

fn patterns() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(vec![
        "a",
        "é",
        "aé",
        ".",
        r"\pL",
        r"[^\pL]",
        "[a-f]",
        "(?i)kß",
        "",
        "^",
        "$",
        r"\x{10FFFF}",
        "[^\\x00-\\x{10FFFF}]",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}{b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}|{b})")),
            inner.clone().prop_map(|a| format!("(?:{a})*")),
            inner.prop_map(|a| format!("({a}){{1,3}}?")),
        ]
    })
}

proptest! {
    #[test]
    fn an_alphabet_changes_nothing(
        pattern in patterns(),
        texts in proptest::collection::vec("[abkKéßx1\u{212a}\u{10ffff} \n]{0,8}", 1..20),
    ) {
        let (plain, rewritten) = (plain(&pattern), rewritten(&pattern).unwrap());
        let engines = (Engine::compile(&plain).unwrap(), Engine::compile(&rewritten).unwrap());
        for text in &texts {
            prop_assert_eq!(is_match(&engines.0, text), is_match(&engines.1, text), "{} on {:?}", pattern, text);
            prop_assert_eq!(captured(&plain, text), captured(&rewritten, text), "{} on {:?}", pattern, text);
        }
    }

    #[test]
    fn step_by_step_is_the_same(
        pattern in patterns(),
        texts in proptest::collection::vec("[abkKéßx1 \n]{0,8}", 1..20),
    ) {
        let engine = Engine::compile(&plain(&pattern)).unwrap();
        for text in &texts {
            let mut cache = engine.caches.get();
            let by_steps = engine.is_match_by_steps(&mut cache, text.as_bytes(), &|| false);
            drop(cache);
            prop_assert_eq!(is_match(&engine, text), by_steps, "{} on {:?}", pattern, text);
        }
    }
}
