use super::*;
use proptest::prelude::*;

/// Every entry as one line of text, ended by the error if there is one.
fn dump(format: Format, body: &[u8]) -> Vec<String> {
    let mut parser = Parser::new(format, body);
    let mut out = Vec::new();
    loop {
        match parser.next() {
            Ok(None) => return out,
            Ok(Some(Entry::Sample(s))) => {
                let labels: Vec<String> = parser.labels().map(|(n, v)| format!("{n}={v:?}")).collect();
                let ts = s.ts.map_or(String::new(), |t| format!(" @{t}"));
                let exemplar = s.exemplar.map_or(String::new(), |e| {
                    format!(" # {} {} {:?}", String::from_utf8_lossy(e.labels), e.value, e.ts)
                });
                out.push(format!("{} {}{ts}{exemplar}", labels.join(","), s.value));
            }
            Ok(Some(entry)) => out.push(format!("{entry:?}")),
            Err(e) => {
                out.push(e.to_string());
                return out;
            }
        }
    }
}

fn check(format: Format, body: &str, expected: &[&str]) {
    assert_eq!(dump(format, body.as_bytes()), expected, "{body}");
}

#[test]
fn text_is_read_with_its_liberties() {
    check(Format::Text, "", &[]);
    check(
        Format::Text,
        "# HELP a two\\nlines \\\\ \\\"\n# TYPE a counter\n\n  a { b = \"c\" , d = \"e\", } 1 123  \n#x\nb 2",
        &[
            r#"Help { family: "a", text: "two\nlines \\ \\\"" }"#,
            r#"Type { family: "a", metric_type: Counter }"#,
            r#"__name__="a",b="c",d="e" 1 @123"#,
            "Comment",
            r#"__name__="b" 2"#,
        ],
    );
    check(Format::Text, "{\"my.metric\",\"l.a\"=\"b\"} 1", &[r#"__name__="my.metric",l.a="b" 1"#]);
    check(Format::Text, "a{b=\"x\ny\\x\"} 1", &[r#"__name__="a",b="x\ny\\x" 1"#]);
}

#[test]
fn errors_say_where_and_what() {
    check(Format::Text, "a 1\nb x\n", &[r#"__name__="a" 1"#, r#"line 2 (byte 6): invalid metric value "x""#]);
    check(
        Format::Text,
        "a{b} 1",
        &["line 1 (byte 3): expected an equals sign after the label name, got \"} 1\""],
    );
    check(Format::Text, "{\"a\",\"b\"} 1", &["line 1 (byte 6): metric name already set"]);
    check(Format::Text, "{b=\"c\"} 1", &["line 1 (byte 0): metric name not set"]);
    check(Format::OpenMetrics, "a 1", &["line 1 (byte 3): data does not end with # EOF"]);
    check(
        Format::OpenMetrics,
        "a 1\n# EOF\n\n",
        &[r#"__name__="a" 1"#, "line 2 (byte 9): unexpected data after # EOF"],
    );
}

#[test]
fn openmetrics_is_read_strictly() {
    check(
        Format::OpenMetrics,
        "# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total 7 1.5 # {x=\"y\"} 1.5 2\n# EOF",
        &[
            r#"Type { family: "a_seconds", metric_type: Counter }"#,
            r#"Unit { family: "a_seconds", unit: "seconds" }"#,
            r#"__name__="a_seconds_total" 7 @1500 # x="y" 1.5 Some(2000)"#,
        ],
    );
    for body in [
        "a{ b=\"c\"} 1\n# EOF",
        "a  1\n# EOF",
        "a 1 \n# EOF",
        "\n# EOF",
        "# FOO a\n# EOF",
        "a{b=\"x\ny\"} 1\n# EOF",
    ] {
        let last = dump(Format::OpenMetrics, body.as_bytes()).pop().unwrap();
        assert!(last.starts_with("line "), "{body}: {last}");
    }
}

#[test]
fn a_known_series_is_read_without_its_labels() {
    let body = b"a{b=\"c\"} 12.5\na{b=\"c\"} 1 77\na{b=\"c\"} NaN\n";
    let mut parser = Parser::new(Format::Text, body);
    assert_eq!(parser.sample_after_series(8), Some((12.5, None)));
    assert_eq!(parser.sample_after_series(8), Some((1.0, Some(77))));
    assert_eq!(parser.sample_after_series(8), None);
    assert!(matches!(parser.next(), Ok(Some(Entry::Sample(s))) if s.value.is_nan()));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        dump(Format::Text, &body);
        dump(Format::OpenMetrics, &body);
    }

    #[test]
    fn nothing_near_the_grammar_makes_it_panic(
        body in "([a-z]{1,2}(\\{([a-z]?=?\"?[a-z\\\\]{0,2}\"?,?){0,3}\\}?)? ?[0-9.eE+-]{0,4}( [0-9]{1,3})?( # \\{)?\n?|# (HELP|TYPE|UNIT|EOF) ?[a-z\"]{0,3} ?[a-z]{0,7}\n?){0,6}",
        known in 0usize..20,
    ) {
        dump(Format::Text, body.as_bytes());
        dump(Format::OpenMetrics, body.as_bytes());
        Parser::new(Format::OpenMetrics, body.as_bytes()).sample_after_series(known);
    }

    /// What the short way reads is what the long way reads.
    #[test]
    fn the_known_series_path_agrees(value in "-?[0-9]{1,4}(\\.[0-9]{1,3})?(e-?[0-9])?", ts in proptest::option::of(0i64..9_999_999)) {
        let line = format!("a{{b=\"c\"}} {value}{}\n", ts.map_or(String::new(), |t| format!(" {t}")));
        let mut short = Parser::new(Format::Text, line.as_bytes());
        let got = short.sample_after_series(8).unwrap();
        let mut long = Parser::new(Format::Text, line.as_bytes());
        let Ok(Some(Entry::Sample(s))) = long.next() else { panic!("{line}") };
        prop_assert_eq!(got, (s.value, s.ts));
        prop_assert_eq!(short.position(), long.position());
    }
}
