//! Tests of the whole: Go's syntax, Go's errors, and that shapes say what the engine says.

use proptest::prelude::*;

use super::*;

/// The anchored pattern matches the first texts and not the others.
fn check(pattern: &str, matching: &[&str], other: &[&str]) {
    let regex = GoRegex::anchored(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
    for (texts, expected) in [(matching, true), (other, false)] {
        for text in texts {
            assert_eq!(regex.is_match(text), expected, "{pattern} on {text:?}");
            assert_eq!(regex.expand(text, "").is_some(), expected, "the engine, {pattern} on {text:?}");
        }
    }
}

#[test]
fn means_what_go_means() {
    check("a.c", &["abc", "a\nc", "aéc"], &["xabc", "abcx", "ac"]);
    check(r"\d\w\s", &["1a "], &["٣a ", "1é ", "1a\u{a0}"]);
    check(r"\Qa.b\E+", &["a.b", "a.bb"], &["axb"]);
    check(r"\Qa.b", &["a.b"], &["axb"]);
    check(r"\101\x41\x{1F600}", &["AA😀"], &["AA"]);
    check(r"\07", &["\x07"], &["07"]);
    check(r"[\d-z]", &["5", "-", "z"], &["a"]);
    check(r"[a[b]", &["a", "[", "b"], &["]"]);
    check(r"[a&&b]", &["a", "&", "b"], &[""]);
    check(r"[[:alpha:]_]+", &["ab_"], &["é", "1"]);
    check(r"[^[:^digit:]]", &["1"], &["a"]);
    check(r"[]a]", &["]", "a"], &["b"]);
    // The colon is a member, not the end of a name.
    check(r"[[:]", &["[", ":"], &["]"]);
    check(r"[^\n]", &["a"], &["\n"]);
    check(r"\<a\>", &["<a>"], &["a"]);
    check("a{", &["a{"], &["a"]);
    check("a{,5}", &["a{,5}"], &["a"]);
    check("a{2}", &["aa"], &["a", "aaa"]);
    check("a{2,}", &["aa", "aaa"], &["a"]);
    check("(?i)straße|X", &["STRAßE", "x"], &["a"]);
    check("(?i:a)b", &["Ab"], &["AB"]);
    check("a(?i)b|c", &["aB", "C"], &["A"]);
    check("(?-s:a.b)", &["axb"], &["a\nb"]);
    check(r"\p{Greek}\PL\pN\p{^Lu}", &["α-1a"], &["a-1a"]);
    check(r"\p{greek}\p{Letter}\p{lowercase-letter}", &["αbc"], &["abc", "αbC"]);
    check(r"\p{ASCII}\p{Old Persian}\p{Any}[\p{Cs}x]", &["a\u{103a0}bx"], &["ä\u{103a0}bx"]);
    check("(?m)^a$.*", &["a", "a\nb"], &["ab"]);
    check("^a$", &["a"], &["ba", "a\n"]);
    check(r"\ba\B", &[], &["a"]);
    check(r"\Aa\z", &["a"], &["aa"]);
    check("", &[""], &["a"]);
    check("a||b", &["", "a", "b"], &["ab"]);
    check("^*a", &["a"], &["b"]);
    check(r"\_\-", &["_-"], &["-"]);
    check("(?U)a+?", &["aaa"], &[""]);
    check(r"[^\x00-\x{10FFFF}]", &[], &["a", ""]);
}

#[test]
fn errors_are_gos() {
    for (pattern, expected) in [
        ("(", "missing closing ): `(`"),
        ("a)", "unexpected ): `a)`"),
        ("(?x)", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?", "invalid or unsupported Perl syntax: `(?`"),
        ("(?i", "invalid or unsupported Perl syntax: `(?i`"),
        ("(?-)", "invalid or unsupported Perl syntax: `(?-)`"),
        ("(?--s)", "invalid or unsupported Perl syntax: `(?--`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("(?P<a b>c)", "invalid named capture: `(?P<a b>`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a*+?", "invalid nested repetition operator: `*+?`"),
        ("x{3}{4}", "invalid nested repetition operator: `{3}{4}`"),
        ("x{1001}", "invalid repeat count: `{1001}`"),
        ("x{2,1}", "invalid repeat count: `{2,1}`"),
        ("(a{1000}){1000}", "invalid repeat count: `{1000}`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("(*)", "missing argument to repetition operator: `*`"),
        ("a|+?", "missing argument to repetition operator: `+?`"),
        ("{2}", "missing argument to repetition operator: `{2}`"),
        ("(?i)*", "missing argument to repetition operator: `*`"),
        ("[a", "missing closing ]: `[a`"),
        ("[]", "missing closing ]: `[]`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"\pX", r"invalid character class range: `\pX`"),
        (r"\p{Lowercase}", r"invalid character class range: `\p{Lowercase}`"),
        (r"\p{IsGreek}", r"invalid character class range: `\p{IsGreek}`"),
        (r"\p{Zyyy}", r"invalid character class range: `\p{Zyyy}`"),
        (r"\p{Katakana_Or_Hiragana}", r"invalid character class range: `\p{Katakana_Or_Hiragana}`"),
        (r"\p", r"invalid character class range: `\p`"),
        (r"\q", r"invalid escape sequence: `\q`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\x1", r"invalid escape sequence: `\x1`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        (r"[a-\d]", r"invalid escape sequence: `\d`"),
        ("a\\", "trailing backslash at end of expression: ``"),
    ] {
        let error = GoRegex::anchored(pattern).expect_err(pattern);
        assert_eq!(error.message, format!("error parsing regexp: {expected}"), "{pattern}");
    }
    for huge in [format!("(?:{}){{1000}}x", "ab".repeat(500)), "(".repeat(10_000)] {
        assert!(GoRegex::anchored(&huge).is_err());
    }
}

#[test]
fn fills_in_captures_as_go_does() {
    let regex = GoRegex::anchored(r"(?P<first>\w+)-(\d+)(x)?").unwrap();
    for (template, expected) in [
        ("$1", "ab"),
        ("${1}x", "abx"),
        ("$1x", ""),
        ("$first/$2", "ab/12"),
        ("${first}", "ab"),
        ("$$1", "$1"),
        ("a$", "a$"),
        ("${1", "${1"),
        ("$-", "$-"),
        ("$3|$9|$nope", "||"),
        ("$0", "ab-12"),
        ("äö", "äö"),
    ] {
        assert_eq!(regex.expand("ab-12", template).as_deref(), Some(expected), "{template}");
    }
    assert_eq!(regex.expand("ab", "$1"), None);
}

#[test]
fn replaces_all_matches() {
    for (pattern, text, template, expected) in [
        ("a*", "baaac", "x", "xbxcx"),
        ("(.)b", "abcb", "$1-", "a-c-"),
        ("x", "abc", "y", "abc"),
        ("", "aé", "-", "-a-é-"),
        (r"\.|:", "a.b:c", "_", "a_b_c"),
    ] {
        assert_eq!(GoRegex::unanchored(pattern).unwrap().replace_all(text, template), expected, "{pattern}");
    }
}

#[test]
fn tells_the_index_what_it_can() {
    let literals = |p: &str| GoRegex::anchored(p).unwrap().literals().map(|l| l.join(" "));
    for (pattern, expected) in [
        ("a", Some("a")),
        ("b|a|b", Some("a b")),
        ("foo(bar|baz)?", Some("foo foobar foobaz")),
        ("v[12]|w", Some("v1 v2 w")),
        ("(?i)ab", Some("AB Ab aB ab")),
        ("api|api-v2|app", Some("api api-v2 app")),
        ("a.b", None),
        ("a+", None),
        ("^a", None),
    ] {
        assert_eq!(literals(pattern).as_deref(), expected, "{pattern}");
    }
    for (pattern, prefix, suffix, contains) in [
        ("a.*", "a", "", "a"),
        (".*b", "", "b", "b"),
        ("a.+bc", "a", "bc", "bc"),
        (".*abc.*", "", "", "abc"),
        ("ab[0-9]+longer.*c", "ab", "c", "longer"),
        ("(a|b).*", "", "", ""),
    ] {
        let r = GoRegex::anchored(pattern).unwrap();
        assert_eq!((r.prefix(), r.suffix(), r.contains()), (prefix, suffix, contains), "{pattern}");
    }
    for (pattern, all, non_empty) in
        [(".*", true, false), (".+", false, true), ("(.*)", true, false), ("a.*", false, false)]
    {
        let r = GoRegex::anchored(pattern).unwrap();
        assert_eq!((r.is_match_all(), r.is_match_non_empty()), (all, non_empty), "{pattern}");
    }
    assert!(!GoRegex::unanchored(".*").unwrap().is_match_all());
}

#[test]
fn patterns_may_nest_as_deeply_as_gos() {
    let nested = |open: &str, n: usize, close: &str| open.repeat(n) + "x" + &close.repeat(n);
    let groups = GoRegex::anchored(&nested("(", 990, ")?")).unwrap();
    assert!(groups.is_match("x") && groups.is_match("") && !groups.is_match("xx"));
    // A shape decides on this one: what captures need is compiled later.
    let literal = GoRegex::anchored(&nested("(", 990, ")")).unwrap();
    assert!(literal.is_match("x") && literal.literals().is_some());
    assert_eq!(literal.expand("x", "$1-$990").as_deref(), Some("x-x"));
    assert!(GoRegex::unanchored(&nested("(?:a|", 990, ")")).unwrap().is_match("x"));
    for open in ["(", "(?:", "(?P<n>"] {
        let error = GoRegex::anchored(&nested(open, 1001, ")")).unwrap_err().message;
        assert!(error.starts_with("error parsing regexp: expression nests too deeply"), "{error}");
    }
}

#[test]
fn patterns_may_be_large_but_not_boundless() {
    let letters = GoRegex::anchored(r"\pL{255}").unwrap();
    assert!(letters.is_match(&"é".repeat(255)) && !letters.is_match(&"é".repeat(254)));
    assert!((50_000..500_000).contains(&letters.bytes()), "{}", letters.bytes());
    assert!(GoRegex::anchored(r"\pL{1000}").is_ok_and(|r| r.is_match(&"é".repeat(1000))));
    for pattern in [
        r"\pL".repeat(10_000),
        format!("(?i)[{}]", r"\pL".repeat(20_000)),
        "a?".repeat(100_000),
        format!("(?i){}", "ab".repeat(60_000)),
    ] {
        let error = GoRegex::anchored(&pattern).unwrap_err().message;
        assert!(error.starts_with("error parsing regexp: expression too large"), "{error}");
        assert!(error.len() < 200);
    }
}

/// For each state and each group of the engine for captures there would be a slot: 86 GB for the first.
#[test]
fn to_match_takes_no_memory_for_groups() {
    for (pattern, times, matches) in
        [("(a|b?)", 30_000, true), ("(.*a|b)", 2_000, false), ("(a)", 20_000, false)]
    {
        let regex = GoRegex::anchored(&pattern.repeat(times)).unwrap();
        assert!(regex.is_match("aba") == matches && !regex.is_match("x"), "{pattern}");
        let error = regex.check_groups().unwrap_err().message;
        assert!(error.starts_with("error parsing regexp: expression too large"), "{error}");
        assert_eq!(regex.expand("a", "$1"), None);
    }
    let many = GoRegex::anchored(&"(a|b)".repeat(200)).unwrap();
    many.check_groups().unwrap();
    assert_eq!(many.expand(&"ab".repeat(100), "$1$200").as_deref(), Some("ab"));
}

#[test]
fn a_large_set_of_literals_needs_no_engine() {
    let words: Vec<String> = (0..15_000).map(|i| format!("host-{i}\\.example\\.org")).collect();
    let regex = GoRegex::anchored(&words.join("|")).unwrap();
    assert!(regex.is_match("host-14999.example.org"));
    assert!(!regex.is_match("host-15000.example.org"));
}

fn patterns() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(vec![
        "a", "b", "ab", ".", ".*", ".+", "[ab]", "[^a]", "", "(?i)A", "a?", "é", "\\d", "^", "$", "\\b",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}{b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}|{b})")),
            inner.clone().prop_map(|a| format!("(?:{a})*")),
            inner.prop_map(|a| format!("({a}){{1,2}}?")),
        ]
    })
}

proptest! {
    #[test]
    fn shapes_and_hints_agree_with_the_engine(
        pattern in patterns(),
        texts in proptest::collection::vec("[abé1 \n]{0,6}", 1..20),
    ) {
        let regex = GoRegex::anchored(&pattern).unwrap();
        // The same syntax, but for what means something else there.
        let twin = regex::Regex::new(&format!("^(?s:{})$", pattern.replace("\\d", "[0-9]").replace("\\b", "(?-u:\\b)"))).unwrap();
        for text in &texts {
            let matches = twin.is_match(text);
            prop_assert_eq!(regex.is_match(text), matches, "{} on {:?}", pattern, text);
            prop_assert_eq!(regex.expand(text, "").is_some(), matches);
            if matches {
                prop_assert!(text.starts_with(regex.prefix()) && text.ends_with(regex.suffix()));
                prop_assert!(text.contains(regex.contains()));
                prop_assert!(regex.literals().is_none_or(|l| l.contains(text)));
                prop_assert!(!(regex.is_match_non_empty() && text.is_empty()));
            } else {
                prop_assert!(!regex.is_match_all());
            }
        }
    }

    #[test]
    fn any_pattern_compiles_or_is_refused(pattern in "[a-z()\\[\\]{}\\\\?*+|^$.,:<>P0-9é-]{0,30}") {
        if let Ok(regex) = GoRegex::anchored(&pattern) {
            let _ = regex.is_match("abc");
            drop(regex.expand("abc", "$1"));
        }
        drop(GoRegex::unanchored(&pattern).map(|r| r.replace_all("aéb", "$0")));
    }
}
