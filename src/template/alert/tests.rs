//! Texts and what promtool 3.5 makes of them, for the sample `m{instance="host-12:80", job="a"} 6`.

use super::*;

const CASES: &[(&str, &str)] = &[
    (
        r#"{{ humanize "x" }}"#,
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:115: executing "__alert_A" at <humanize "x">: error calling humanize: strconv.ParseFloat: parsing "x": invalid syntax>"#,
    ),
    (
        "{{ $labels.foo.bar }}",
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:122: executing "__alert_A" at <$labels.foo.bar>: can't evaluate field bar in type string>"#,
    ),
    (
        "{{ .Nope }}",
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:115: executing "__alert_A" at <.Nope>: can't evaluate field Nope in type struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }>"#,
    ),
    (
        "{{ gt $value 5 }}",
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:115: executing "__alert_A" at <gt $value 5>: error calling gt: incompatible types for comparison: float64 and int>"#,
    ),
    (
        "{{ humanize 1 2 }}",
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:115: executing "__alert_A" at <humanize>: wrong number of args for humanize: want 1 got 2>"#,
    ),
    (
        "{{ toUpper 5 }}",
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:123: executing "__alert_A" at <5>: expected string; found 5>"#,
    ),
    (
        "{{ toUpper $value }}",
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:123: executing "__alert_A" at <$value>: wrong type for value; expected string; got float64>"#,
    ),
    (
        r#"{{ printf "%.1f %d %s %z %v" 5 "x" 3.5 1 }}"#,
        "%!f(int=5) %!d(string=x) %!s(float64=3.5) %!z(int=1) %!v(MISSING)",
    ),
    (
        "{{ 1e6 }} {{ 123456.0 }} {{ 1234567.0 }} {{ 0.0001 }} {{ 0.00001 }} {{ 1e21 }} {{ 100000.0 }} {{ 1e20 }}",
        "1e+06 123456 1.234567e+06 0.0001 1e-05 1e+21 100000 1e+20",
    ),
    (
        r#"{{ template "nope" }}"#,
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:124: executing "__alert_A" at <{{template "nope"}}>: template "nope" not defined>"#,
    ),
    (
        r#"{{ index $labels "nope" 1 }}"#,
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:115: executing "__alert_A" at <index $labels "nope" 1>: error calling index: index out of range: 1>"#,
    ),
    (
        r#"{{ query "nothing" | first | value }}"#,
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:133: executing "__alert_A" at <first>: error calling first: first() called on vector with no elements>"#,
    ),
    (
        "{{ $x = 3 }}",
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:120: executing "__alert_A" at <3>: undefined variable: $x>"#,
    ),
    (
        "{{ args 1 }} {{ (args 1).arg9 }} {{ nil }}",
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:148: executing "__alert_A" at <nil>: nil is not a command>"#,
    ),
    ("{{ with args 1 }}{{ .arg9 }}{{ end }}", "<no value>"),
    (
        "{{ len $value }}",
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:115: executing "__alert_A" at <len $value>: error calling len: len of type float64>"#,
    ),
    (
        "{{ eq $value 6 }}",
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:115: executing "__alert_A" at <eq $value 6>: error calling eq: incompatible types for comparison: float64 and int>"#,
    ),
    (
        r#"{{ "a" | printf "%q %v %5.1f|%-8v|%+d" 1 2.0 true }} {{ $labels | len }} {{ .Labels.instance | toUpper | title }}"#,
        "'\\x01' 2 %!f(bool= true)|a       |%!d(MISSING) 3 HOST-12:80",
    ),
    (r#"{{ (toTime 1435065584.5).Format "2006-01-02T15:04:05Z07:00" }}"#, "2015-06-23T13:19:44Z"),
    (
        r#"{{ printf "%T %T %T %T %T" 1 1.0 "a" $labels (toTime 1) }}"#,
        "int float64 string map[string]string *time.Time",
    ),
    (
        r#"{{ (query "m" | first).Labels.instance }} {{ (query "m" | first).Nope }}"#,
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:170: executing "__alert_A" at <first>: can't evaluate field Nope in type *template.sample>"#,
    ),
    (
        r#"{{ stripPort "a.b.c:80" }} {{ stripDomain "a.b.c:80" }} {{ stripDomain "1.2.3.4:80" }} {{ stripPort "[::1]:80" }}"#,
        "a.b.c a:80 1.2.3.4:80 ::1",
    ),
    (r#"{{ range $i := query "m" }}{{ break }}{{ end }}{{ range 3 }}x{{ . }}{{ end }}"#, "x0x1x2"),
    (r#"{{ if false }}{{ else if true }}y{{ end }}{{ with "" }}{{ else with "w" }}{{ . }}{{ end }}"#, "yw"),
    (
        r#"{{ define "x" }}[{{ . }}]{{ end }}{{ template "x" $value }}{{ block "y" 3 }}b{{ . }}{{ end }}"#,
        "[6]b3",
    ),
    (
        r#"{{ range query "nothing(" }}{{ end }}"#,
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:121: executing "__alert_A" at <query "nothing(">: error calling query: 1:9: parse error: unclosed left parenthesis>"#,
    ),
    (
        r#"{{ slice "abc" 1 9 }}"#,
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:115: executing "__alert_A" at <slice "abc" 1 9>: error calling slice: index out of range: 9>"#,
    ),
    (
        r#"{{ printf "%d %d" 1 }} {{ printf "%d" 1 2 }} {{ printf "%!" }} {{ printf "%5t|%x|%X|%08.3f|%+.2e|%g|%c|%U|%o|%b|%#x" true "hi" 255 3.14159 12345.678 1e7 65 65 8 5 255 }}"#,
        "1 %!d(MISSING) 1%!(EXTRA int=2) %!!(MISSING)  true|6869|FF|0003.142|+1.23e+04|1e+07|A|U+0041|10|101|0xff",
    ),
    (
        "{{ $labels.instance.foo }}",
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:122: executing "__alert_A" at <$labels.instance.foo>: can't evaluate field foo in type string>"#,
    ),
    (
        "{{ humanizeTimestamp 1e30 }}",
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:115: executing "__alert_A" at <humanizeTimestamp 1e30>: error calling humanizeTimestamp: 1e+30 cannot be represented as a nanoseconds timestamp since it overflows int64>"#,
    ),
    (
        "line1\nline2 {{ toUpper 5 }}",
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:2:17: executing "__alert_A" at <5>: expected string; found 5>"#,
    ),
    (
        r#"{{ and 1 2 3 }} {{ or 0 "" "z" }} {{ not 0 }} {{ le 1 1 }} {{ ne 1 2 }} {{ eq 1 2 3 1 }} {{ eq "a" 1 }}"#,
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:204: executing "__alert_A" at <eq "a" 1>: error calling eq: incompatible types for comparison: string and int>"#,
    ),
    (
        r#"{{ lt "a" "b" }} {{ lt true false }}"#,
        r#"<error expanding template: error executing template __alert_A: template: __alert_A:1:132: executing "__alert_A" at <lt true false>: error calling lt: invalid type for comparison>"#,
    ),
];

fn expand(text: &str) -> String {
    let labels = Labels::from_pairs([("__name__", "m"), ("instance", "host-12:80"), ("job", "a")]);
    let data = AlertData {
        labels: labels.clone(),
        external_labels: Labels::from_pairs([("region", "eu")]),
        external_url: "http://prom.example.org/p".into(),
        value: 6.0,
        now: 240_000,
    };
    let query = |q: &str| match q {
        "m" => Ok(vec![(labels.clone(), 6.0)]),
        "nothing" => Ok(vec![]),
        _ => Err("1:9: parse error: unclosed left parenthesis".to_owned()),
    };
    let template = AlertTemplate::parse("A", text).unwrap();
    let value = Value::Object(std::sync::Arc::new(data));
    match template.expand(&value, &query, "http://prom.example.org/p", 240_000) {
        Ok(text) => text,
        Err(e) => format!("<error expanding template: error executing template __alert_A: {e}>"),
    }
}

#[test]
fn texts_expand_as_in_prometheus() {
    for (text, expected) in CASES {
        assert_eq!(expand(text), *expected, "{text}");
    }
}

#[test]
fn further_functions() {
    for (text, expected) in [
        ("{{ externalURL }}|{{ pathPrefix }}", "http://prom.example.org/p|/p"),
        ("{{ now }} {{ toDuration 3661.5 }}", "240 1h1m1.5s"),
        ("{{ $externalLabels.region }}{{ .ExternalURL }}", "euhttp://prom.example.org/p"),
        (
            "{{ html \"<a>\" }} {{ js \"it's\" }} {{ urlquery \"a b&c\" }} {{ print 1 \"a\" }} {{ println \"z\" }}",
            "&lt;a&gt; it\\'s a+b%26c 1a z\n",
        ),
        ("{{- /* c */ -}} y ", "y "),
        ("a {{- 1 -}} b", "a1b"),
        ("{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}", "__name__=m;instance=host-12:80;job=a;"),
        (
            "{{ range $i, $e := query \"m\" }}{{ $i }}{{ $e | label \"job\" }}{{ $e.Value }}{{ else }}none{{ end }}",
            "0a6",
        ),
        (
            "{{ range 5 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}",
            "02",
        ),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ end }}{{ $x }}", "2"),
        ("{{ `raw\\` }} {{ 'a' }} {{ \"\\u00e9\\n\" }}", "raw\\ 97 é\n"),
        ("{{ (index (query \"m\") 0).Value | printf \"%.2f\" }}", "6.00"),
        ("{{ printf \"%v\" .Labels }}", "map[__name__:m instance:host-12:80 job:a]"),
    ] {
        assert_eq!(expand(text), expected, "{text}");
    }
}

#[test]
fn broken_texts_are_refused_with_their_place() {
    for (text, line, column, reason) in [
        ("{{ nosuchfunc }}", 1, 4, "function \"nosuchfunc\" not defined"),
        ("a\n {{ $value", 2, 11, "unclosed action"),
        ("{{ end }}", 1, 4, "unexpected {{end}}"),
        ("x {{ $nope }}", 1, 6, "undefined variable \"$nope\""),
        ("{{ range }}x{{ end }}", 1, 9, "missing value for range"),
        ("{{ 1 2 }", 1, 8, "unexpected \"}\" in operand"),
        ("{{ /* c */ }}", 1, 4, "unexpected \"/\" in command"),
        ("{{ \"a }}", 1, 4, "unterminated quoted string"),
        ("{{ else }}", 1, 4, "unexpected {{else}}"),
        ("{{ if true }}", 1, 14, "unexpected EOF"),
        ("{{ break }}", 1, 4, "{{break}} outside {{range}}"),
        ("{{ 1 | 2 }}", 1, 8, "non executable command in pipeline stage 2"),
        ("{{ (1 }}", 1, 7, "unclosed left paren"),
        ("{{ \"a\".b }}", 1, 7, "unexpected . after term \"\\\"a\\\"\""),
    ] {
        let e = AlertTemplate::parse("A", text).unwrap_err();
        assert_eq!((e.line, e.column, e.reason.as_str()), (line, column, reason), "{text}");
    }
    for text in ["{{ \"a\" | }}", "{{ template \"nope\" }}", "{{ .Nope }}"] {
        assert!(AlertTemplate::parse("A", text).is_ok(), "{text}");
    }
}

#[test]
fn no_text_runs_or_grows_without_bound() {
    for text in [
        "{{ range 1000 }}{{ range 1000 }}{{ range 1000 }}{{ end }}{{ end }}{{ end }}",
        "{{ range 100000 }}{{ printf \"%1000d\" 1 }}{{ end }}",
        "{{ define \"x\" }}{{ template \"x\" }}{{ end }}{{ template \"x\" }}",
        "{{ range 99999999999 }}{{ end }}",
    ] {
        assert!(expand(text).starts_with("<error"), "{text}");
    }
    let deep = format!("{}x{}", "{{ if true }}".repeat(5000), "{{ end }}".repeat(5000));
    assert!(AlertTemplate::parse("A", &deep).is_err());
}

proptest::proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in "(\\{\\{|\\}\\}|-|[ a-z.$|()\"'`/*:=,0-9]|if|range|end|else|\\PC){0,40}") {
        if let Ok(t) = AlertTemplate::parse("A", &text) {
            let data = Value::Labels(Labels::empty());
            let _ = t.expand(&data, &|_: &str| Ok(vec![]), "", 0);
        }
    }
}
