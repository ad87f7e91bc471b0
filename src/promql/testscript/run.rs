//! Going through a script.

use std::io::{self, Write};

use super::compare;
use super::load::Data;
use super::script::{CommandKind, Eval, ScriptError, Text, parse};
use super::variants;
use crate::clock::Clock;
use crate::promql::{
    Annotations, Engine, EngineOptions, Features, QueryLimits, QueryRequest, QueryResult, parse_with,
};

/// How many cases passed and failed; each `eval` is a case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub passed: usize,
    pub failed: usize,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Summary) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs a script and writes a line `NAME:LINE: what differs` for each case that fails. A fault in the script itself
/// ends it: it is written too, and counts as a failed case.
///
/// # Errors
/// When `out` cannot be written to.
pub fn run(name: &str, text: &str, out: &mut dyn Write) -> io::Result<Summary> {
    go_through(name, text, out, false)
}

/// As [`run`], and asks each instant case again: with `@` on its selectors, at several times, and as a step of a range
/// query. A case passes only if none of them changes the answer.
///
/// # Errors
/// When `out` cannot be written to.
pub fn run_thoroughly(name: &str, text: &str, out: &mut dyn Write) -> io::Result<Summary> {
    go_through(name, text, out, true)
}

fn go_through(name: &str, text: &str, out: &mut dyn Write, thorough: bool) -> io::Result<Summary> {
    let engine = Engine::new(options(), Clock::system());
    let (commands, fault) = parse(text);
    let (mut data, mut summary) = (Data::default(), Summary::default());
    for command in &commands {
        match &command.kind {
            CommandKind::Clear => data = Data::default(),
            CommandKind::Load { step_ms, classic_too, series } => data.load(*step_ms, *classic_too, series),
            CommandKind::Eval(eval) => match case(&engine, &mut data, eval, thorough) {
                Ok(()) => summary.passed += 1,
                Err(why) => {
                    summary.failed += 1;
                    writeln!(out, "{name}:{}: {}: {why}", command.line, eval.expr)?;
                }
            },
        }
    }
    if let Some(ScriptError { line, message }) = fault {
        summary.failed += 1;
        writeln!(out, "{name}:{line}: the script ends here: {message}")?;
    }
    Ok(summary)
}

/// The settings that scripts assume.
fn options() -> EngineOptions {
    EngineOptions {
        lookback_ms: 300_000,
        default_subquery_step_ms: 60_000,
        features: Features { type_and_unit_labels: false, ..Features::all() },
        limits: QueryLimits { max_samples: 10_000, ..EngineOptions::default().limits },
    }
}

fn case(engine: &Engine, data: &mut Data, eval: &Eval, thorough: bool) -> Result<(), String> {
    let answer = evaluate(engine, data, eval)?;
    match (answer, &eval.fail) {
        (Err(messages), Some(demand)) => {
            if messages.iter().any(|m| demand.accepts(m)) {
                return Ok(());
            }
            let wanted = match demand {
                Text::Exactly(text) => format!("{text:?}"),
                Text::Matching(regex) => format!("a match of {:?}", regex.pattern()),
                Text::Any => "any".to_owned(),
            };
            Err(format!("expected the error {wanted}, got {:?}", messages[0]))
        }
        (Err(messages), None) => Err(messages[0].clone()),
        (Ok(_), Some(_)) => Err("expected an error, got a result".to_owned()),
        (Ok(result), None) => {
            let Annotations { warnings, infos } = &result.annotations;
            compare::value(eval, &result.value)?;
            compare::annotations("warning", &eval.warn, warnings)?;
            compare::annotations("info", &eval.info, infos)?;
            if !thorough {
                return Ok(());
            }
            let expr = parse_with(&eval.expr, engine.options().features).map_err(|e| e.to_string())?;
            variants::check(engine, &data.storage()?.reader(), eval, &expr)
        }
    }
}

/// What the expression gives, or the error in the forms that a script may state it in.
fn evaluate(
    engine: &Engine,
    data: &mut Data,
    eval: &Eval,
) -> Result<Result<QueryResult, Vec<String>>, String> {
    let storage = data.storage()?;
    let expr = match parse_with(&eval.expr, engine.options().features) {
        Ok(expr) => expr,
        Err(e) => return Ok(Err(vec![e.message.clone(), e.to_string()])),
    };
    let request = match eval.step_ms {
        0 => QueryRequest::instant(eval.start),
        step => QueryRequest::range(eval.start, eval.end, step),
    };
    let result = engine.evaluate(&eval.expr, &expr, &request, &storage.reader());
    // Limits say more than Prometheus does: which limit, and how to raise it.
    Ok(result.map_err(|e| {
        let full = e.to_string();
        let plain = full.split(" (limit ").next().unwrap_or_default().to_owned();
        vec![full, plain]
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, passed: usize, lines: &[&str]) {
        let mut out = Vec::new();
        let summary = run("t", script, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().collect::<Vec<_>>(), lines);
        assert_eq!(summary, Summary { passed, failed: lines.len() });
    }

    #[test]
    fn a_script_passes_or_says_where_it_fails() {
        check(
            "# comment\nload 1m\n  up{a=\"b\"} 0+1x5\n\neval instant at 2m up\n  up{a=\"b\"} 2\n\neval instant at 0 1\n  1\neval range from 0 to 2m step 1m up\n  up{a=\"b\"} 0 1 2\n",
            3,
            &[],
        );
        check(
            "eval instant at 1m 1\n  2\n\neval_fail instant at 0 rte(\n\neval instant at 0 \"a\"\n  expect string \"a\"\n",
            2,
            &["t:1: 1: expected scalar 2, got 1"],
        );
        check(
            "load 1m\n a 1\n\neval instant at 0 a\n  a 1\n  b 1\n\nclear\n\neval instant at 0 a\n\nfoo\n\neval instant at 0 a",
            1,
            &["t:4: a: b is missing, got [a 1]", "t:12: the script ends here: unknown command \"foo\""],
        );
    }
}
