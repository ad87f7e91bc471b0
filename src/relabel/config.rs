//! `relabel_configs` and `metric_relabel_configs` as they stand in the YAML, and their checks.

use serde::Deserialize;

use super::rules::{Action, Rule, Rules};
use crate::model::GoRegex;
use crate::yaml::{Mark, Problem, Problems, Source, Spanned, mark, nearest, null_is_default};

pub(super) const SEPARATOR_DEFAULT: &str = ";";
pub(super) const REGEX_DEFAULT: &str = "(.*)";
pub(super) const REPLACEMENT_DEFAULT: &str = "$1";

/// One rule, as written. What is left out or null has the default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelabelConfig {
    #[serde(default, deserialize_with = "null_is_default")]
    pub source_labels: Vec<Spanned<String>>,
    #[serde(default)]
    pub separator: Option<Spanned<String>>,
    #[serde(default)]
    pub regex: Option<Spanned<String>>,
    #[serde(default)]
    pub modulus: Option<Spanned<u64>>,
    #[serde(default)]
    pub target_label: Option<Spanned<String>>,
    #[serde(default)]
    pub replacement: Option<Spanned<String>>,
    #[serde(default)]
    pub action: Option<Spanned<String>>,
}

/// Checks and compiles the rules of one list. What is wrong goes to `problems`; such a rule is left out.
pub fn resolve(list: &[Spanned<RelabelConfig>], source: &Source, problems: &mut Problems) -> Rules {
    let resolved = list.iter().filter_map(|raw| {
        resolve_one(&raw.value, mark(raw), source).map_err(|found| problems.extend(found)).ok()
    });
    Rules { list: resolved.collect() }
}

fn text(value: Option<&Spanned<String>>, default: &str) -> String {
    value.map_or_else(|| default.to_owned(), |v| v.value.clone())
}

fn resolve_one(raw: &RelabelConfig, at: Mark, source: &Source) -> Result<Rule, Problems> {
    let mut problems = Problems::default();
    let rule = Rule {
        action: action(raw, at, source).map_err(one)?,
        source_labels: raw.source_labels.iter().map(|l| l.value.clone()).collect(),
        separator: text(raw.separator.as_ref(), SEPARATOR_DEFAULT),
        regex: regex(raw, at, source).map_err(one)?,
        modulus: raw.modulus.as_ref().map_or(0, |m| m.value),
        target_label: text(raw.target_label.as_ref(), ""),
        replacement: text(raw.replacement.as_ref(), REPLACEMENT_DEFAULT),
    };
    for label in raw.source_labels.iter().filter(|l| l.value.is_empty()) {
        problems.push(source.problem(mark(label), "\"\" is not a valid label name"));
    }
    if let Some((place, message)) = violation(&rule, raw, at) {
        problems.push(source.problem(place, message));
    }
    if problems.is_empty() { Ok(rule) } else { Err(problems) }
}

fn one(problem: Problem) -> Problems {
    Problems { list: vec![problem] }
}

fn action(raw: &RelabelConfig, at: Mark, source: &Source) -> Result<Action, Problem> {
    let Some(stated) = &raw.action else { return Ok(Action::default()) };
    if stated.value.is_empty() {
        return Err(source.problem(at, "relabel action cannot be empty"));
    }
    let wanted = stated.value.to_lowercase();
    Action::ALL.into_iter().find(|a| a.as_str() == wanted).ok_or_else(|| {
        let mut problem = source.problem(mark(stated), format!("unknown relabel action {:?}", stated.value));
        let near = nearest(&wanted, Action::ALL.map(Action::as_str));
        problem.hint = near.map(|a| format!("did you mean {a}?"));
        problem
    })
}

fn regex(raw: &RelabelConfig, at: Mark, source: &Source) -> Result<GoRegex, Problem> {
    match &raw.regex {
        None => GoRegex::anchored(REGEX_DEFAULT).map_err(|e| source.problem(at, e.to_string())),
        Some(stated) => {
            let compiled = GoRegex::anchored(&stated.value).and_then(|r| r.check_groups().map(|()| r));
            compiled.map_err(|e| source.problem(mark(stated), e.to_string()))
        }
    }
}

/// The first of Prometheus's demands that the rule does not meet, and where. Label names may be any UTF-8, so the
/// only name that is invalid is the empty one.
fn violation(rule: &Rule, raw: &RelabelConfig, at: Mark) -> Option<(Mark, String)> {
    let action = rule.action;
    let name = action.as_str();
    let place = |value: &Option<Spanned<String>>| value.as_ref().map_or(at, mark);
    let stated =
        |value: &Option<Spanned<String>>, default: &str| value.as_ref().is_some_and(|v| v.value != default);
    let other_separator = stated(&raw.separator, SEPARATOR_DEFAULT);
    let other_regex = stated(&raw.regex, REGEX_DEFAULT);
    let other_replacement = stated(&raw.replacement, REPLACEMENT_DEFAULT);
    if action == Action::HashMod && rule.modulus == 0 {
        return Some((
            raw.modulus.as_ref().map_or(at, mark),
            "relabel configuration for hashmod requires non-zero modulus".into(),
        ));
    }
    let needs_target = matches!(
        action,
        Action::Replace
            | Action::KeepEqual
            | Action::DropEqual
            | Action::HashMod
            | Action::Lowercase
            | Action::Uppercase
    );
    if needs_target && rule.target_label.is_empty() {
        return Some((at, format!("relabel configuration for {name} action requires 'target_label' value")));
    }
    let plain =
        matches!(action, Action::Lowercase | Action::Uppercase | Action::KeepEqual | Action::DropEqual);
    if plain && other_replacement {
        return Some((place(&raw.replacement), format!("'replacement' can not be set for {name} action")));
    }
    if action == Action::LabelMap && rule.replacement.is_empty() {
        return Some((
            place(&raw.replacement),
            format!("{:?} is invalid 'replacement' for {name} action", rule.replacement),
        ));
    }
    let alone = matches!(action, Action::KeepEqual | Action::DropEqual);
    if alone && (other_regex || rule.modulus != 0 || other_separator || other_replacement) {
        return Some((
            at,
            format!("{name} action requires only 'source_labels' and `target_label`, and no other fields"),
        ));
    }
    let on_names = matches!(action, Action::LabelDrop | Action::LabelKeep);
    if on_names
        && (!rule.source_labels.is_empty()
            || !rule.target_label.is_empty()
            || rule.modulus != 0
            || other_separator
            || other_replacement)
    {
        return Some((at, format!("{name} action requires only 'regex', and no other fields")));
    }
    None
}

/// A file of rules alone, under the key `rules`.
#[cfg(test)]
#[derive(Debug, Default, Deserialize)]
struct File {
    rules: Vec<Spanned<RelabelConfig>>,
}

#[cfg(test)]
fn load(yaml: &str) -> (Rules, Problems) {
    let source = Source::new("f.yml", yaml);
    let file: File = source.parse().unwrap();
    let mut problems = Problems::default();
    let rules = resolve(&file.rules, &source, &mut problems);
    (rules, problems)
}

/// The rules under the key `rules`, which must be right.
#[cfg(test)]
pub(crate) fn from_yaml(yaml: &str) -> Rules {
    let (rules, problems) = load(yaml);
    assert!(problems.is_empty(), "{problems}");
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Labels, LabelsBuilder};

    /// What `rule` (YAML in one line) makes of `labels`; `None` if it drops them.
    fn check(labels: &[(&str, &str)], rule: &str, expected: Option<&[(&str, &str)]>) {
        let (rules, problems) = load(&format!("rules: [{rule}]"));
        assert!(problems.is_empty(), "{rule}: {problems}");
        let mut b = LabelsBuilder::from(&Labels::from_pairs(labels.iter().copied()));
        let got = rules.apply(&mut b).then(|| b.build());
        assert_eq!(got, expected.map(|e| Labels::from_pairs(e.iter().copied())), "{rule}");
    }

    #[test]
    fn each_action_does_what_prometheus_does() {
        let abc: &[(&str, &str)] = &[("a", "foo"), ("b", "bar"), ("c", "baz")];
        let with = |name: &'static str, value: &'static str| {
            let mut all = abc.to_vec();
            all.push((name, value));
            all
        };
        check(
            abc,
            r#"{source_labels: [a], regex: "f(.*)", target_label: d, replacement: "ch${1}-ch${1}"}"#,
            Some(&with("d", "choo-choo")),
        );
        check(
            abc,
            r#"{source_labels: [a, b], regex: "f(.*);(.*)r", target_label: a, replacement: "b${1}${2}m"}"#,
            Some(&with("a", "boobam")),
        );
        check(abc, r#"{source_labels: [a], regex: "no", target_label: d, replacement: x}"#, Some(abc));
        check(
            abc,
            r#"{source_labels: [a], target_label: b, replacement: ""}"#,
            Some(&[("a", "foo"), ("c", "baz")]),
        );
        check(
            abc,
            r#"{source_labels: [a], regex: "(f).*", target_label: "x_${1}", replacement: y}"#,
            Some(&with("x_f", "y")),
        );
        check(abc, r#"{target_label: d, replacement: static}"#, Some(&with("d", "static")));
        check(abc, r#"{source_labels: [a], regex: "o$", action: drop}"#, Some(abc));
        check(abc, r#"{source_labels: [a], regex: ".*o", action: Drop}"#, None);
        check(abc, r#"{source_labels: [a], regex: f, action: keep}"#, None);
        check(abc, r#"{source_labels: [a], regex: f.*, action: keep}"#, Some(abc));
        check(
            abc,
            r#"{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}"#,
            Some(&with("d", "976")),
        );
        check(
            &[("a", "foo\nbar")],
            r#"{source_labels: [a], target_label: b, action: hashmod, modulus: 1000}"#,
            Some(&[("a", "foo\nbar"), ("b", "734")]),
        );
        check(
            &[("a", "foo"), ("b1", "bar")],
            r#"{regex: "b(.)", replacement: "bar_${1}", action: labelmap}"#,
            Some(&[("a", "foo"), ("b1", "bar"), ("bar_1", "bar")]),
        );
        check(abc, r#"{regex: "(b|c)", action: labeldrop}"#, Some(&[("a", "foo")]));
        check(abc, r#"{regex: "(b|c)", action: labelkeep}"#, Some(&[("b", "bar"), ("c", "baz")]));
        check(
            &[("a", "bAr123Foo")],
            r#"{source_labels: [a], target_label: l, action: lowercase}"#,
            Some(&[("a", "bAr123Foo"), ("l", "bar123foo")]),
        );
        check(
            &[("a", "bAr1ß")],
            r#"{source_labels: [a], target_label: a, action: uppercase}"#,
            Some(&[("a", "BAR1ß")]),
        );
        check(
            &[("a", "x"), ("b", "x")],
            r#"{source_labels: [a], target_label: b, action: keepequal}"#,
            Some(&[("a", "x"), ("b", "x")]),
        );
        check(&[("a", "x"), ("b", "y")], r#"{source_labels: [a], target_label: b, action: keepequal}"#, None);
        check(&[("a", "x"), ("b", "x")], r#"{source_labels: [a], target_label: b, action: dropequal}"#, None);
    }

    #[test]
    fn what_prometheus_refuses_is_refused_where_it_stands() {
        for (rule, expected) in [
            (
                "{source_labels: [a], action: hashmod, target_label: b}",
                "f.yml:1:9: relabel configuration for hashmod requires non-zero modulus",
            ),
            (
                "{source_labels: [a]}",
                "f.yml:1:9: relabel configuration for replace action requires 'target_label' value",
            ),
            (
                "{action: lowercase, source_labels: [a]}",
                "f.yml:1:9: relabel configuration for lowercase action requires 'target_label' value",
            ),
            (
                "{action: lowercase, source_labels: [a], target_label: b, replacement: c}",
                "f.yml:1:79: 'replacement' can not be set for lowercase action",
            ),
            (
                "{action: labelmap, regex: a, replacement: \"\"}",
                "f.yml:1:51: \"\" is invalid 'replacement' for labelmap action",
            ),
            (
                "{action: keepequal, source_labels: [a], target_label: b, regex: c}",
                "f.yml:1:9: keepequal action requires only 'source_labels' and `target_label`, and no other fields",
            ),
            (
                "{action: labeldrop, source_labels: [a], regex: b}",
                "f.yml:1:9: labeldrop action requires only 'regex', and no other fields",
            ),
            (
                "{action: kep, source_labels: [a]}",
                "f.yml:1:18: unknown relabel action \"kep\"\n  hint: did you mean keep?",
            ),
            ("{source_labels: [\"\"], target_label: b}", "f.yml:1:26: \"\" is not a valid label name"),
        ] {
            let (rules, problems) = load(&format!("rules: [{rule}]"));
            assert_eq!(problems.to_string(), expected, "{rule}");
            assert!(rules.is_empty());
        }
        let (_, problems) = load(
            "rules:\n- target_label: a\n  regex: 'a('\n- action: ~\n  target_label: b\n  source_labels: ~\n",
        );
        assert_eq!(problems.list.len(), 1);
        assert_eq!((problems.list[0].line, problems.list[0].column), (3, 10));
        let source = Source::new("f.yml", "rules: [{source_label: [a]}]");
        assert!(source.parse::<File>().is_err());
    }
}
