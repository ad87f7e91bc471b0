//! Tests of the parser as a whole: what it accepts, what it says, and that it prints what it read.

use proptest::prelude::*;

use super::*;
use crate::promql::ast::*;

fn all(text: &str) -> Result<Expr, ParseError> {
    parse_with(text, Features::all())
}

/// The text prints as `expected`.
fn prints(text: &str, expected: &str) {
    match all(text) {
        Ok(expr) => assert_eq!(expr.to_string(), expected, "{text}"),
        Err(e) => panic!("{text}: {e}"),
    }
}

/// The text is refused with this error.
fn refuses(text: &str, expected: &str) {
    match parse(text) {
        Ok(expr) => panic!("{text} was taken as {expr}"),
        Err(e) => assert_eq!(format!("{}:{}: {}", e.line, e.column, e.message), expected, "{text}"),
    }
}

#[test]
fn reads_every_kind_of_expression() {
    for same in [
        "1",
        "-1.5",
        "+Inf",
        "\"a\\nb\"",
        "up",
        "sum",
        "start",
        "by{by=\"x\"}",
        "offset offset 5m",
        "fill + fill (0) fill",
        "a:b:c",
        "up{a=\"b\",c!=\"d\",e=~\"f.*\",g!~\"h\"}",
        "{\"label.name\"=\"x\",__name__=\"foo.bar\"}",
        "up offset 5m",
        "up offset -1h30m",
        "up @ 1000.500 offset 1m",
        "up @ start()",
        "rate(up[5m])",
        "rate(up[5m] @ end() offset 1m)",
        "increase(up[5m] smoothed)",
        "increase(up[5m] anchored offset 1m)",
        "up smoothed",
        "max_over_time(rate(up[1m])[1h:])",
        "max_over_time(up[1h:30s] @ 0.000 offset -5m)",
        "up[5m * 2]",
        "up[(5m + step()) / 2]",
        "up[max_of(step(), 1m):min_of(range(), -step())]",
        "up offset (1m + 2)",
        "up offset -max_of(1m, 30)",
        "sum(up)",
        "sum by (a, \"b.c\") (up)",
        "sum without () (up)",
        "topk(3, up)",
        "count_values(\"v\", up)",
        "limit_ratio(-0.5, up)",
        "1 / -0s",
        "a + b",
        "a == bool on (x) b",
        "a * on (x) group_left (y, z) b",
        "a * ignoring () group_right () b",
        "a and on () b",
        "a or b unless c",
        "a </ 5",
        "h >/ -1",
        "a + on (x) fill_left (0) fill_right (1e+21) b",
        "a atan2 b",
        "-a ^ 2",
        "(1 + 2) * 3",
        "2 ^ -1",
        "time() - 5",
        "step() + start() - max_of(1, 2)",
        "info(up, {a=~\".*\"})",
        "histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m])))",
        "label_join(up, \"a\", \",\", \"b\", \"c\", \"d\")",
    ] {
        prints(same, same);
    }
    for (text, expected) in [
        ("0x1F", "31"),
        ("1_000", "1000"),
        ("5m", "5m"),
        ("a * -1h30m", "a * -1h30m"),
        ("inF", "+Inf"),
        ("- - 1", "1"),
        ("'a\"b'", "\"a\\\"b\""),
        ("`a\\b`", "\"a\\\\b\""),
        ("{\"foo.bar\", \"l.n\"=\"x\"}", "{\"l.n\"=\"x\",__name__=\"foo.bar\"}"),
        ("up{}", "up"),
        ("up{b='1',a='2',}", "up{a=\"2\",b=\"1\"}"),
        ("up[300]", "up[5m]"),
        ("up[0.5]", "up[500ms]"),
        ("up offset 5", "up offset 5s"),
        ("up offset 0s", "up"),
        ("up offset 1m @ 5", "up @ 5.000 offset 1m"),
        ("up @ 1e3", "up @ 1000.000"),
        ("sum(up) by (a)", "sum by (a) (up)"),
        ("SUM BY (a,) (up) # comment", "sum by (a) (up)"),
        ("up[5m] offset STEP()", "up[5m] offset step()"),
        ("a + ON(x) b", "a + on (x) b"),
        ("a + fill_right(1) fill_left(1) b", "a + fill (1) b"),
        ("# first\nup # then\n", "up"),
        ("metric offset 2 ^ 2", "metric offset 2s ^ 2"),
        ("metric offset step()*0", "metric offset step() * 0"),
        ("metric offset -min_of(step(), 1s)^0", "metric offset -min_of(step(), 1s) ^ 0"),
    ] {
        prints(text, expected);
    }
}

#[test]
fn binds_as_tightly_as_prometheus() {
    fn shape(e: &Expr) -> String {
        match &e.kind {
            ExprKind::Binary(b) => format!("({} {} {})", shape(&b.lhs), b.op.as_str(), shape(&b.rhs)),
            ExprKind::Unary { expr, .. } => format!("(-{})", shape(expr)),
            _ => e.to_string(),
        }
    }
    for (text, expected) in [
        ("a + b * c", "(a + (b * c))"),
        ("a - b - c", "((a - b) - c)"),
        ("a ^ b ^ c", "(a ^ (b ^ c))"),
        ("-a ^ b", "(-(a ^ b))"),
        ("-a * b", "((-a) * b)"),
        ("a ^ -b * c", "((a ^ (-b)) * c)"),
        ("a or b and c", "(a or (b and c))"),
        ("a and b unless c", "((a and b) unless c)"),
        ("a == b + c", "(a == (b + c))"),
        ("a < b == c", "((a < b) == c)"),
        ("a </ 1 + 2", "(a </ (1 + 2))"),
        ("a % b atan2 c", "((a % b) atan2 c)"),
        ("a + b offset 5m", "(a + b offset 5m)"),
    ] {
        assert_eq!(shape(&all(text).unwrap()), expected, "{text}");
    }
}

#[test]
fn says_what_prometheus_says() {
    for (text, expected) in [
        ("", "1:1: no expression found in input"),
        ("  ", "1:1: no expression found in input"),
        ("# c", "1:1: no expression found in input"),
        ("sum some_metric by (test)", "1:5: unexpected identifier \"some_metric\""),
        ("sum(foo bar)", "1:9: unexpected identifier \"bar\" in aggregation"),
        ("rate(foo bar", "1:10: unexpected identifier \"bar\""),
        ("sum(foo) by test", "1:13: unexpected identifier \"test\" in grouping opts, expected \"(\""),
        ("foo{a=b}", "1:7: unexpected identifier \"b\" in label matching, expected string"),
        ("foo[5m", "1:7: unclosed left bracket"),
        ("foo[5m 5m]", "1:8: unexpected duration \"5m\" in subquery or range, expected \":\" or \"]\""),
        (
            "foo[5m*]",
            "1:8: unexpected \"]\" in subquery or range selector, expected number, duration, step(), or range()",
        ),
        ("foo[", "1:5: unexpected end of input in duration expression"),
        (
            "foo offset",
            "1:11: unexpected end of input in offset, expected number, duration, step(), or range()",
        ),
        ("foo @", "1:6: unexpected end of input in @, expected timestamp"),
        ("foo @ bar", "1:7: unexpected identifier \"bar\" in @, expected timestamp"),
        ("foo @ inf", "1:1: timestamp out of bounds for @ modifier: +Inf"),
        ("(foo", "1:5: unclosed left parenthesis"),
        ("foo)", "1:5: unexpected right parenthesis ')'"),
        ("foo{", "1:5: unexpected end of input inside braces"),
        ("foo{a}", "1:6: unexpected \"}\" in label matching, expected label matching operator"),
        (
            "foo{a=\"b\" c=\"d\"}",
            "1:11: unexpected identifier \"c\" in label matching, expected \",\" or \"}\"",
        ),
        (
            "a + on(i) group_left group_right b",
            "1:22: unexpected <group_right> in grouping opts, expected \"(\"",
        ),
        ("a + on(i) group_left bool b", "1:22: unexpected <bool> in grouping opts, expected \"(\""),
        ("a + on(i) group_right * b", "1:23: unexpected <op:*> in grouping opts, expected \"(\""),
        ("foo{,}", "1:5: unexpected \",\" in label matching, expected identifier or \"}\""),
        ("foo{$x}", "1:5: unexpected character inside braces: '$'"),
        ("foo{a=\"b", "1:7: unterminated quoted string"),
        ("1 + ", "1:5: unexpected end of input"),
        ("a\n  + on foo", "2:8: unexpected identifier \"foo\" in grouping opts, expected \"(\""),
        ("sum by (5) (foo)", "1:9: unexpected number \"5\" in grouping opts, expected label"),
        ("foo == 1_", "1:8: bad number or duration syntax: \"1_\""),
        ("5mx", "1:1: bad number or duration syntax: \"5mx\""),
        ("a bool b", "1:3: unexpected <bool>"),
        ("a=b", "1:2: unexpected \"=\""),
        ("a !b", "1:3: unexpected character after '!': 'b'"),
        ("$x", "1:1: unexpected character: '$'"),
        ("`a", "1:1: unterminated raw string"),
        ("\"\\q\"", "1:1: unknown escape sequence U+0071 'q'"),
        ("foo[x]", "1:5: unexpected character in duration expression: 'x'"),
        ("foo[5m:5s 1", "1:11: unexpected number \"1\" in subquery selector, expected \"]\""),
        ("foo[5m\"", "1:7: unterminated quoted string"),
        ("foo[5m'x'", "1:7: unexpected string \"'x'\" in subquery or range, expected \":\" or \"]\""),
        ("foo[5m{", "1:7: unexpected \"{\" in subquery or range, expected \":\" or \"]\""),
        ("foo[0s]", "1:5: duration must be greater than 0"),
        ("foo[-5m]", "1:5: duration must be greater than 0"),
        ("foo[5m][5m]", "1:8: ranges only allowed for vector selectors"),
        ("foo[5m] [5m:]", "1:1: subquery is only allowed on instant vector, got matrix instead"),
        ("foo offset 5m offset 3m", "1:1: offset may not be set multiple times"),
        (
            "(foo) offset 5m",
            "1:1: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("rate(foo,,", "1:9: trailing commas not allowed in function call args"),
        ("sum(foo, *", "1:8: trailing commas not allowed in function call args"),
        ("rate(foo,)", "1:9: trailing commas not allowed in function call args"),
        ("rate()", "1:1: expected 1 argument(s) in call to \"rate\", got 0"),
        ("label_join(a)", "1:1: expected at least 3 argument(s) in call to \"label_join\", got 1"),
        ("round(a, 1, 2)", "1:1: expected at most 2 argument(s) in call to \"round\", got 3"),
        ("rte(foo[5m])", "1:1: unknown function with name \"rte\""),
        ("rate(foo)", "1:6: expected type range vector in call to function \"rate\", got instant vector"),
        ("sum(1)", "1:5: expected type instant vector in aggregation expression, got scalar"),
        ("topk(\"a\", b)", "1:6: expected type scalar in aggregation parameter, got string"),
        ("sum()", "1:1: no arguments for aggregate expression provided"),
        ("topk(foo)", "1:1: wrong number of arguments for aggregate expression provided, expected 2, got 1"),
        (
            "limitk(1,foo)",
            "1:1: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
        ),
        ("info(foo)", "1:1: function \"info\" is not enabled"),
        ("count_values(\"a\\xc5z\", b)", "1:14: invalid label name \"a\\xc5z\""),
        ("{}", "1:1: vector selector must contain at least one non-empty matcher"),
        ("{a=~\".*\"}", "1:1: vector selector must contain at least one non-empty matcher"),
        ("foo{__name__=\"bar\"}", "1:1: metric name must not be set twice: \"foo\" or \"bar\""),
        ("\"a\" + 1", "1:1: binary expression must contain only scalar and instant vector types"),
        (
            "-\"a\"",
            "1:1: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
        ),
        ("1 < 2", "1:3: comparisons between scalars must use BOOL modifier"),
        ("a + bool b", "1:3: bool modifier can only be used on comparison operators"),
        ("a and 1", "1:1: set operator \"and\" not allowed in binary scalar expression"),
        ("a and on(x) group_left c", "1:1: no grouping allowed for \"and\" operation"),
        ("a + on(b) group_left(b) c", "1:3: label \"b\" must not occur in ON and GROUP clause at once"),
        ("a + on(b) 1", "1:1: vector matching only allowed between instant vectors"),
        ("a + fill(1) b", "1:1: binop fill modifiers are experimental and not enabled"),
        ("a smoothed", "1:1: smoothed modifier is experimental and not enabled"),
    ] {
        refuses(text, expected);
    }
}

#[test]
fn an_offset_may_have_several_signs() {
    let all = |text: &str| parse_with(text, Features::all()).map(|e| e.to_string()).map_err(|e| e.message);
    assert_eq!(all("up offset --5m"), Ok("up offset 5m".to_owned()));
    assert_eq!(all("up offset -+- -(5m)"), Ok("up offset -5m".to_owned()));
    // Behind the sign comes a duration, not a sum.
    assert!(all("up offset -").is_err());
}

#[test]
fn regular_expressions_of_an_expression_are_bounded_together() {
    let features = Features { regexes: RegexMemory(1 << 20), ..Features::all() };
    let one = r#"{a=~"([a-z]+x){1000}"}"#;
    assert!(parse_with(one, features).is_ok());
    let error = parse_with(&format!("{one} or {one} or 1"), features).unwrap_err();
    assert_eq!(error.pos.start, one.len() + 5);
    assert_eq!(
        error.message,
        "the compiled regular expressions take more than 1 MiB up to here; raise the limit with --query.max-regex-memory"
    );
}

#[test]
fn hints_at_what_was_meant() {
    for (text, hint) in [
        ("rte(foo[5m])", Some("did you mean \"rate\"?")),
        ("rte(", Some("did you mean \"rate\"?")),
        ("sum by (job) (rte(foo[5m])", Some("did you mean \"rate\"?")),
        ("summ by (job) (foo)", Some("did you mean \"sum\"?")),
        ("foo offst 5m", Some("did you mean \"offset\"?")),
        ("foo + onn (a) bar", Some("did you mean \"on\"?")),
        ("foo * ignorng (a) bar", Some("did you mean \"ignoring\"?")),
        ("foo unles bar", Some("did you mean \"unless\"?")),
        ("foo && bar", Some("did you mean \"and\"?")),
        ("foo || bar", Some("did you mean \"or\"?")),
        ("foo = 5", Some("did you mean \"==\"?")),
        ("foo{a==\"b\"}", None),
        ("foo +", None),
        ("foo{a=\"x\" or a=\"y\"}", None),
        ("foo OR OR bar", None),
        ("summ(foo)", Some("did you mean \"sum\"?")),
        ("histogram_quntile(0.9, foo)", Some("did you mean \"histogram_quantile\"?")),
        ("xyzzy(foo)", None),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.hint.as_deref(), hint, "{text}");
    }
    assert_eq!(parse("rte(foo)").unwrap_err().pos, 0..3);
    let empty = parse("").unwrap_err().to_string();
    assert_eq!(empty, "unknown position: parse error: no expression found in input");
    let shown = parse("rte(foo[5m])").unwrap_err().to_string();
    assert_eq!(shown, "1:1: parse error: unknown function with name \"rte\"; did you mean \"rate\"?");
}

#[test]
fn knows_the_place_of_every_node() {
    let text = "sum(rate(foo{a=\"b\"}[5m] offset 1m)) by (x) / -bar";
    let expr = parse(text).unwrap();
    let ExprKind::Binary(b) = &expr.kind else { panic!("{expr:?}") };
    assert_eq!(&text[expr.pos.clone()], text);
    assert_eq!(&text[b.lhs.pos.clone()], "sum(rate(foo{a=\"b\"}[5m] offset 1m)) by (x)");
    assert_eq!(&text[b.rhs.pos.clone()], "-bar");
    let ExprKind::Aggregate(a) = &b.lhs.kind else { panic!("{expr:?}") };
    assert_eq!(&text[a.expr.pos.clone()], "rate(foo{a=\"b\"}[5m] offset 1m)");
    let ExprKind::Call(c) = &a.expr.kind else { panic!("{expr:?}") };
    assert_eq!(&text[c.args[0].pos.clone()], "foo{a=\"b\"}[5m] offset 1m");
}

#[test]
fn depth_and_length_are_bounded() {
    let ok = MAX_NESTING - 1;
    assert!(parse(&("(".repeat(ok) + "1" + &")".repeat(ok))).is_ok());
    assert!(parse(&("a+".repeat(MAX_DEPTH - 2) + "a")).is_ok());
    for text in [
        "(".repeat(100_000) + "1" + &")".repeat(100_000),
        "-".repeat(100_000) + "a",
        "a+".repeat(100_000) + "a",
        "a^".repeat(100_000) + "a",
        "sum(".repeat(50_000),
        "a[".to_owned() + &"(".repeat(100_000),
        "a".to_owned() + &"[1m:]".repeat(20_000),
        "a offset ".to_owned() + &"-(".repeat(50_000),
    ] {
        assert!(all(&text).is_err());
    }
    let long = format!("{{a=\"{}\"}}", "x".repeat(MAX_LENGTH));
    assert!(parse(&long).unwrap_err().message.contains("is longer than"));
}

#[test]
fn strings_may_hold_bytes_that_are_no_text() {
    let text = |query: &str| match parse(query).unwrap().kind {
        ExprKind::String(s) => s,
        other => panic!("{other:?}"),
    };
    assert_eq!(text(r#""a\xffz""#), "a\u{fffd}z");
    assert_eq!(text(r#""\xc3\xa4""#), "ä");
    assert_eq!(parse_selector(r#"a{b="\xff"}"#).unwrap()[0].value, "\u{fffd}");
    assert!(parse(r#"label_replace(a, "b", "\xff", "c", "d")"#).is_ok());
    refuses(r#"a{b=~"\xff"}"#, r#"1:6: error parsing regexp: invalid UTF-8: "\xff""#);
    refuses(r#"{"a\xff"}"#, r#"1:2: invalid metric name "a\xff""#);
    refuses(r#"a{"b\xff"="c"}"#, r#"1:3: invalid label name "b\xff""#);
}

#[test]
fn the_depth_is_a_setting() {
    fn check(levels: usize) {
        let features = Features { depth: Depth::new(levels).unwrap(), ..Features::all() };
        let nesting = features.depth.nesting();
        let nested = |n: usize| "(".repeat(n) + "1" + &")".repeat(n);
        let chain = |n: usize| "a+".repeat(n) + "a";
        for (fits, too_deep) in [(nested(nesting - 1), nested(nesting)), (chain(levels - 2), chain(levels))] {
            assert!(parse_with(&fits, features).is_ok(), "{levels}");
            let error = parse_with(&too_deep, features).unwrap_err().to_string();
            assert!(error.contains("nests deeper than"), "{error}");
            assert!(error.contains(&format!("--query.max-expression-depth is {levels} ")), "{error}");
        }
    }
    check(20);
    // The deepest has room in the stack that threads are given for it, in builds without optimisation too.
    let most = *Depth::RANGE.end();
    let thread = std::thread::Builder::new().stack_size(Depth::new(most).unwrap().stack_bytes());
    thread.spawn(move || check(most)).unwrap().join().unwrap();
    assert!(Depth::new(most + 1).is_none() && Depth::new(0).is_none());
}

#[test]
fn selectors_for_the_api() {
    let matchers = parse_selector("up{job=~\"a|b\"}").unwrap();
    let shown: Vec<String> =
        matchers.iter().map(|m| format!("{}{}{}", m.name, m.op.as_str(), m.value)).collect();
    assert_eq!(shown, ["job=~a|b", "__name__=up"]);
    assert!(parse_selector("{}").unwrap().is_empty());
    for bad in ["up[5m]", "up offset 5m", "1", "rate(up)", "up{a=~\"(\"}", ""] {
        assert!(parse_selector(bad).is_err(), "{bad}");
    }
}

#[test]
fn lays_out_long_expressions() {
    let text = "sum by (job, instance) (rate(http_requests_total{job=\"api\",code=~\"5..\"}[5m])) / on (job) group_left () \
                sum by (job) (rate(http_requests_total{job=\"api\"}[5m])) > 0.05";
    let expected = r#"    sum by (job, instance) (rate(http_requests_total{code=~"5..",job="api"}[5m]))
  / on (job) group_left ()
    sum by (job) (rate(http_requests_total{job="api"}[5m]))
>
  0.05"#;
    let pretty = parse(text).unwrap().pretty();
    assert_eq!(pretty, expected);
    assert_eq!(parse(&pretty).unwrap().pretty(), expected);
    assert_eq!(parse("sum(up)").unwrap().pretty(), "sum(up)");
}

/// Text that is likely to be an expression.
fn expression() -> impl Strategy<Value = String> {
    let label =
        prop_oneof![Just("job".to_owned()), Just("by".to_owned()), Just("\"a.b\"".to_owned()), "[a-z_]{1,4}"];
    let labels = proptest::collection::vec(label.clone(), 0..3).prop_map(|l| l.join(", "));
    let matcher = (label, prop_oneof![Just("="), Just("!="), Just("=~"), Just("!~")], "[a-z.\"\\\\é]{0,5}")
        .prop_map(|(l, op, v)| {
            let v = if op.contains('~') { v.replace('\\', "") } else { v };
            format!("{l}{op}{}", crate::promql::quote::quoted(&v))
        });
    let selector = ("[a-zA-Z_:]{1,5}", proptest::collection::vec(matcher, 0..3))
        .prop_map(|(name, matchers)| format!("{name}_{{{}}}", matchers.join(",")));
    let duration = prop_oneof![
        Just("5m".to_owned()),
        Just("1h30m".to_owned()),
        Just("90".to_owned()),
        Just("step()".to_owned()),
        Just("(range() + 1m) * 2".to_owned()),
        Just("min_of(1m, -step() ^ 2)".to_owned()),
    ];
    let shift = prop_oneof![
        3 => Just(String::new()),
        1 => Just(" offset -5m".to_owned()),
        1 => Just(" offset (1m - step())".to_owned()),
        1 => Just(" @ 17.5".to_owned()),
        1 => Just(" @ end() offset 1d".to_owned()),
    ];
    let mode = prop_oneof![3 => Just(""), 1 => Just(" anchored"), 1 => Just(" smoothed")];
    let number = prop_oneof![
        Just("1".to_owned()),
        Just("-0.5".to_owned()),
        Just("Inf".to_owned()),
        Just("5m".to_owned()),
        Just("1e300".to_owned())
    ];
    let vector = (selector.clone(), mode.clone(), shift.clone()).prop_map(|(s, m, o)| format!("{s}{m}{o}"));
    let rate = (selector, duration.clone(), mode, shift.clone())
        .prop_map(|(s, d, m, o)| format!("rate({s}[{d}]{m}{o})"));
    let leaf = prop_oneof![vector, rate];
    leaf.prop_recursive(4, 24, 3, move |inner| {
        let op = prop_oneof![
            Just("+"),
            Just("-"),
            Just("*"),
            Just("^"),
            Just("%"),
            Just("atan2"),
            Just("=="),
            Just(">= bool"),
            Just("and"),
            Just("or"),
            Just("unless"),
            Just("</"),
            Just("/ on (a) group_left (b)"),
            Just("!= ignoring (x)"),
            Just("+ on () fill_left (1)"),
            Just("* fill (-Inf)"),
        ];
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (number.clone(), inner.clone()).prop_map(|(n, a)| format!("{n} ^ {a}")),
            inner.clone().prop_map(|a| format!("-{a}")),
            inner.clone().prop_map(|a| format!("({a})")),
            (labels.clone(), inner.clone()).prop_map(|(l, a)| format!("sum by ({l}) ({a})")),
            (labels.clone(), inner.clone()).prop_map(|(l, a)| format!("quantile without ({l}) (0.5, {a})")),
            inner.clone().prop_map(|a| format!("label_replace({a}, \"a\", \"$1\", `b`, '(.*)')")),
            (inner, duration.clone(), shift.clone())
                .prop_map(|(a, d, o)| format!("max_over_time(({a})[{d}:{d}]{o})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gives_a_tree_or_an_error(text in ".{0,60}") {
        drop(all(&text));
    }

    #[test]
    fn any_words_of_the_language_give_a_tree_or_an_error(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "sum", "by", "(", ")", "[", "]", "{", "}", ",", ":", "5m", "1", "foo", "\"a\"", "=", "=~", "-", "+",
                "*", "^", "</", ">/", "and", "offset", "@", "start", "end()", "step()", "range()", "on", "group_left",
                "bool", "fill", "rate", "min_of", "max_of", "smoothed", "anchored", "#", "\n", "a:b", "!=", "'", "`",
            ]),
            0..25,
        ),
        glue in prop_oneof![Just(""), Just(" ")],
    ) {
        let text = words.join(glue);
        if let Err(e) = all(&text) {
            prop_assert!(e.pos.start <= text.len() && e.pos.end <= text.len() && e.pos.start <= e.pos.end, "{:?}", e);
        }
    }

    #[test]
    fn printing_and_parsing_gives_the_same_tree(text in expression()) {
        if let Ok(expr) = all(&text) {
            let printed = expr.to_string();
            let again = all(&printed).map_err(|e| TestCaseError::fail(format!("{text} -> {printed}: {e}")))?;
            prop_assert_eq!(shape(&again), shape(&expr), "{} -> {}", text, printed);
            prop_assert_eq!(again.to_string(), printed);
            let pretty = expr.pretty();
            let laid_out = all(&pretty).map_err(|e| TestCaseError::fail(format!("{pretty}: {e}")))?;
            prop_assert_eq!(shape(&laid_out), shape(&expr));
        }
    }
}

/// The tree without its positions, and with matchers in order.
fn shape(expr: &Expr) -> String {
    fn sorted(v: &mut VectorSelector) {
        v.matchers.sort_by_key(|m| (m.name.clone(), m.op.as_str(), m.value.clone()));
    }
    fn duration(d: &mut DurationExpr) {
        match d {
            DurationExpr::Binary { lhs, rhs, pos, .. } => {
                *pos = 0..0;
                duration(lhs);
                duration(rhs);
            }
            DurationExpr::Min(a, b) | DurationExpr::Max(a, b) => {
                duration(a);
                duration(b);
            }
            DurationExpr::Negate(a) | DurationExpr::Paren(a) => duration(a),
            _ => {}
        }
    }
    fn shift(s: &mut TimeShift) {
        if let Some(offset) = &mut s.offset {
            duration(offset);
        }
    }
    fn strip(e: &mut Expr) {
        e.pos = 0..0;
        match &mut e.kind {
            ExprKind::Paren(a) | ExprKind::Unary { expr: a, .. } => strip(a),
            ExprKind::Binary(b) => {
                strip(&mut b.lhs);
                strip(&mut b.rhs);
            }
            ExprKind::Aggregate(a) => {
                strip(&mut a.expr);
                a.param.iter_mut().for_each(strip);
            }
            ExprKind::Call(c) => c.args.iter_mut().for_each(strip),
            ExprKind::Vector(v) => {
                sorted(v);
                shift(&mut v.shift);
            }
            ExprKind::Matrix(m) => {
                sorted(&mut m.vector);
                shift(&mut m.vector.shift);
                duration(&mut m.range);
            }
            ExprKind::Subquery(s) => {
                strip(&mut s.expr);
                shift(&mut s.shift);
                duration(&mut s.range);
                s.step.iter_mut().for_each(duration);
            }
            ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => {}
        }
    }
    let mut expr = expr.clone();
    strip(&mut expr);
    format!("{expr:?}")
}

#[test]
fn parsing_can_be_stopped_before_each_regular_expression() {
    let text = r#"sum(a{b="c",d=~"e.*f"}) + g{h!~"i.*j"} + k{l="m"}"#;
    let asked = std::cell::Cell::new(0);
    let parse = |stop_at: usize| {
        asked.set(0);
        super::parse_until(text, Features::default(), &|| {
            asked.set(asked.get() + 1);
            asked.get() == stop_at
        })
    };
    assert!(parse(0).is_ok());
    assert_eq!(asked.get(), 2);
    let error = parse(2).unwrap_err();
    assert_eq!((error.message.as_str(), &text[error.pos]), ("parsing was stopped", r#"h!~"i.*j""#));
}
