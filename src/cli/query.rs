//! `streamgate query` and `streamgate promql`: expressions asked, laid out and explained.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use super::asked::{self, Answer, Question, Times};
use super::fault::Fault;
use super::flags::{Asking, ExplainFlags, InstantFlags, RangeFlags};
use super::options::features;
use super::say::say;
use super::{plan, show};
use crate::api::{parse_duration, parse_time};
use crate::clock::Clock;
use crate::promql::{self, Features};

/// Without a start, a range query covers so much, as promtool's.
const RANGE_MS: i64 = 5 * 60_000;
/// Without a step, a range query has about so many, as promtool's.
const STEPS: i64 = 250;

/// Where an answer comes from.
#[derive(Debug)]
enum Place {
    Server(url::Url),
    Directory(std::path::PathBuf),
}

/// A question that the arguments ask, and where to ask it.
#[derive(Debug)]
pub struct Asked {
    question: Question,
    from: Place,
    format: show::Format,
}

/// An instant query.
pub(super) fn instant(flags: InstantFlags) -> Result<Asked, String> {
    let at = moment("time", flags.time.as_deref(), now())?;
    asked(flags.asking, Times::At(at))
}

/// A range query.
pub(super) fn range(flags: RangeFlags) -> Result<Asked, String> {
    let times = span(flags.start.as_deref(), flags.end.as_deref(), flags.step.as_deref())?;
    asked(flags.asking, times)
}

/// What is to be explained: a range query if a start or a step is given.
pub(super) fn explain(flags: ExplainFlags) -> Result<Asked, String> {
    let ExplainFlags { time, start, end, step, asking } = flags;
    if asking.format == super::show::Format::Csv {
        return Err("-o csv: a plan is shown as a table or as json".to_owned());
    }
    let times = match (&start, &step) {
        (None, None) => Times::At(moment("time", time.as_deref().or(end.as_deref()), now())?),
        _ => span(start.as_deref(), end.as_deref(), step.as_deref())?,
    };
    let mut asked = asked(asking, times)?;
    asked.question.explain = true;
    Ok(asked)
}

fn now() -> i64 {
    Clock::system().now_ms()
}

fn moment(name: &str, text: Option<&str>, default: i64) -> Result<i64, String> {
    match text {
        None => Ok(default),
        Some(text) => parse_time(text)
            .ok_or_else(|| format!("--{name} {text:?}: it must be RFC 3339 or seconds since 1970")),
    }
}

fn span(start: Option<&str>, end: Option<&str>, step: Option<&str>) -> Result<Times, String> {
    let end = moment("end", end, now())?;
    let start = moment("start", start, end - RANGE_MS)?;
    if end < start {
        return Err("--end must not be before --start".to_owned());
    }
    let step_ms = match step {
        None => ((end - start) / STEPS).max(1000) / 1000 * 1000,
        Some(text) => match parse_duration(text) {
            Ok(ms) if ms > 0 => ms,
            Ok(_) => return Err(format!("--step {text:?}: it must be above zero")),
            Err(why) => return Err(format!("--step: {why}")),
        },
    };
    Ok(Times::Range { start, end, step_ms })
}

fn asked(asking: Asking, times: Times) -> Result<Asked, String> {
    let duration = |name: &str, text: &Option<String>| match text.as_deref().map(parse_duration) {
        None => Ok(None),
        Some(Ok(ms)) if ms > 0 => Ok(Some(ms)),
        Some(Ok(_)) => Err(format!("--{name} must be above zero")),
        Some(Err(why)) => Err(format!("--{name}: {why}")),
    };
    let timeout = duration("timeout", &asking.timeout)?.map(i64::unsigned_abs);
    let lookback_ms = duration("query.lookback-delta", &asking.lookback_delta)?;
    let mut warnings = Vec::new();
    let features = features(&asking.enable_feature, &mut warnings)?.promql;
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
    let mut words = asking.words.into_iter();
    // As promtool has it, the server may stand before the expression.
    let (server, query) = match (words.next(), words.next()) {
        (Some(server), Some(query)) => (Some(server), query),
        (Some(query), None) => (None, query),
        (None, _) => return Err("an expression is missing".to_owned()),
    };
    if server.is_some() && (asking.data.is_some() || asking.server.is_some()) {
        return Err(
            "two places to ask: give one of --server, --data and the server before the expression".to_owned()
        );
    }
    let from = match asking.data {
        Some(dir) => Place::Directory(dir),
        None => {
            let text = server.or(asking.server).unwrap_or_else(|| "http://127.0.0.1:9090".to_owned());
            let with_scheme = if text.contains("://") { text.clone() } else { format!("http://{text}") };
            match url::Url::parse(&with_scheme) {
                Ok(url) if url.has_host() && matches!(url.scheme(), "http" | "https") => Place::Server(url),
                _ => return Err(format!("{text:?} is no server: it must be an http:// or https:// URL")),
            }
        }
    };
    // A space in front of a sign is there only so that the expression is no flag.
    let query = query.strip_prefix(' ').filter(|q| q.starts_with('-')).map_or(query.clone(), str::to_owned);
    let query = if query == "-" { standard_input().map_err(|e| e.to_string())? } else { query };
    let question =
        Question { query, times, timeout, lookback_ms, limit: asking.limit, features, explain: false };
    Ok(Asked { question, from, format: asking.format })
}

fn standard_input() -> io::Result<String> {
    let mut text = String::new();
    // One byte more than an expression may have: what is longer is refused by its length.
    io::stdin().take(promql::MAX_LENGTH as u64 + 1).read_to_string(&mut text)?;
    Ok(text.trim_end().to_owned())
}

/// Asks and prints the answer; notes and errors go to standard error.
pub(super) fn run(asked: &Asked) -> ExitCode {
    let Asked { question, from, format } = asked;
    let answer = match from {
        Place::Server(url) => asked::server(url, question),
        Place::Directory(dir) => asked::directory(dir, question),
    };
    let printed = answer.and_then(|answer| {
        for note in answer.warnings.iter().chain(&answer.infos) {
            eprintln!("{note}");
        }
        print(question, &answer, *format)
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprint!("{}", fault.shown(&question.query));
            ExitCode::FAILURE
        }
    }
}

fn print(question: &Question, answer: &Answer, format: show::Format) -> Result<(), Fault> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match (question.explain, format) {
        (true, show::Format::Json) => writeln!(out, "{}", answer.data["stats"]),
        (true, _) => {
            if answer.data["stats"]["plan"].is_null() {
                return Err(Fault::new("the server does not explain queries: it is no StreamGate"));
            }
            plan::write(&answer.data, &mut out)
        }
        (false, format) => show::answer(answer, format, &mut out),
    };
    match written.and_then(|()| out.flush()) {
        // Whoever read has gone, as `head` does.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Fault::new(format!("standard output: {e}"))),
        _ => Ok(()),
    }
}

/// Lays an expression out, or says what is wrong with it.
pub(super) fn format(query: &str) -> ExitCode {
    let text = match query {
        "-" => standard_input(),
        text => Ok(text.to_owned()),
    };
    let text = match text {
        Ok(text) => text,
        Err(e) => {
            eprintln!("error: standard input: {e}");
            return ExitCode::FAILURE;
        }
    };
    match promql::parse_with(&text, Features::all()) {
        Ok(expr) => {
            say(format_args!("{}", expr.pretty()));
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprint!("{}", Fault::from(e).shown(&text));
            ExitCode::FAILURE
        }
    }
}
