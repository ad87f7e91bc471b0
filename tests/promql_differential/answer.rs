//! What a query answered, in a form that can be compared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use streamgate::model::Labels;

/// Which of its bounds a bucket includes, the bounds, its count.
pub type Bucket = (u64, f64, f64, f64);

#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    Float(f64),
    /// Count and sum, then each populated bucket.
    Histogram(f64, f64, Vec<Bucket>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// `errorType`, and the text.
    Error(String, String),
    /// Points by time, with the name and the other labels in front; in the order of the answer.
    Vector(Vec<(String, BTreeMap<i64, Point>)>),
    Matrix(Vec<(String, BTreeMap<i64, Point>)>),
    Scalar(i64, f64),
    Text(i64, String),
}

/// An answer with its warnings and infos, each sorted.
#[derive(Clone, Debug)]
pub struct Full {
    pub answer: Answer,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

impl Full {
    /// Whether it is neither an error nor empty.
    pub fn has_result(&self) -> bool {
        !self.is_error() && !self.is_empty()
    }

    pub fn is_empty(&self) -> bool {
        matches!(&self.answer, Answer::Vector(s) | Answer::Matrix(s) if s.is_empty())
    }

    pub fn is_error(&self) -> bool {
        matches!(self.answer, Answer::Error(..))
    }

    /// The same, each series without its metric name.
    pub fn without_names(&self) -> Full {
        let bare = |all: &[(String, BTreeMap<i64, Point>)]| {
            let bare = |key: &str| key.split_once(" {").map(|(_, rest)| format!(" {{{rest}")).unwrap();
            all.iter().map(|(l, s)| (bare(l), s.clone())).collect()
        };
        let answer = match &self.answer {
            Answer::Vector(all) => Answer::Vector(bare(all)),
            Answer::Matrix(all) => Answer::Matrix(bare(all)),
            other => other.clone(),
        };
        Full { answer, ..self.clone() }
    }

    /// Whether two series have the same labels.
    pub fn has_duplicates(&self) -> bool {
        match &self.answer {
            Answer::Vector(all) | Answer::Matrix(all) => {
                let labels: BTreeSet<&String> = all.iter().map(|(l, _)| l).collect();
                labels.len() < all.len()
            }
            _ => false,
        }
    }

    /// All points of all series, in no order that matters.
    pub fn points(&self) -> BTreeMap<(&str, i64), &Point> {
        match &self.answer {
            Answer::Vector(all) | Answer::Matrix(all) => {
                all.iter().flat_map(|(l, s)| s.iter().map(move |(t, p)| ((l.as_str(), *t), p))).collect()
            }
            _ => BTreeMap::new(),
        }
    }
}

fn number(v: &Value) -> f64 {
    match v.as_str().unwrap() {
        "NaN" => f64::NAN,
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text => text.parse().unwrap(),
    }
}

fn time(v: &Value) -> i64 {
    (v.as_f64().unwrap() * 1000.0).round() as i64
}

fn histogram(v: &Value) -> Point {
    let bucket = |b: &Value| (b[0].as_u64().unwrap(), number(&b[1]), number(&b[2]), number(&b[3]));
    let buckets = v["buckets"].as_array().map_or(Vec::new(), |all| all.iter().map(bucket).collect());
    Point::Histogram(number(&v["count"]), number(&v["sum"]), buckets)
}

/// Reads what `/api/v1/query` or `/api/v1/query_range` answered.
pub fn read(body: &str) -> Full {
    let json: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("no JSON ({e}): {body}"));
    let texts = |key: &str| -> Vec<String> {
        let all = json[key].as_array().into_iter().flatten();
        let mut all: Vec<String> = all.map(|v| v.as_str().unwrap().to_owned()).collect();
        all.sort();
        all
    };
    let answer = if json["status"] == "success" { result(&json["data"]) } else { error(&json) };
    Full { answer, warnings: texts("warnings"), infos: texts("infos") }
}

fn error(json: &Value) -> Answer {
    let text = |key: &str| json[key].as_str().unwrap_or("").to_owned();
    let mut message = text("error");
    // The hint behind the text is ours.
    if let Some(hint) = json["hint"].as_str() {
        message = message.strip_suffix(&format!("; {hint}")).unwrap_or(&message).to_owned();
    }
    Answer::Error(text("errorType"), message)
}

fn result(data: &Value) -> Answer {
    let result = &data["result"];
    let labels = |s: &Value| {
        let all = s["metric"].as_object().unwrap();
        let name = all.get("__name__").map_or("", |n| n.as_str().unwrap());
        let rest = all.iter().filter(|(n, _)| *n != "__name__");
        let rest = rest.map(|(n, v)| (n.clone(), v.as_str().unwrap().to_owned()));
        format!("{name} {}", Labels::from_pairs(rest))
    };
    let all = |points: &dyn Fn(&Value) -> BTreeMap<i64, Point>| {
        result.as_array().unwrap().iter().map(|s| (labels(s), points(s))).collect()
    };
    match data["resultType"].as_str().unwrap() {
        "scalar" => Answer::Scalar(time(&result[0]), number(&result[1])),
        "string" => Answer::Text(time(&result[0]), result[1].as_str().unwrap().to_owned()),
        "vector" => Answer::Vector(all(&|s| {
            let (v, h) = (&s["value"], &s["histogram"]);
            let point = if h.is_null() {
                (time(&v[0]), Point::Float(number(&v[1])))
            } else {
                (time(&h[0]), histogram(&h[1]))
            };
            BTreeMap::from([point])
        })),
        "matrix" => Answer::Matrix(all(&|s| {
            let points = |key: &str| s[key].as_array().cloned().unwrap_or_default();
            let floats = points("values").into_iter().map(|v| (time(&v[0]), Point::Float(number(&v[1]))));
            let histograms = points("histograms").into_iter().map(|v| (time(&v[0]), histogram(&v[1])));
            floats.chain(histograms).collect()
        })),
        other => panic!("a result of type {other}"),
    }
}

/// How far two numbers may be apart that are the same but for rounding, relative to their size.
pub const ROUNDING: f64 = 1e-9;

fn close(a: f64, b: f64, slack: f64) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= slack * (a.abs() + b.abs()) || (a - b).abs() < 1e-11;
    // An infinity is far from everything else.
    (a.is_nan() && b.is_nan()) || a == b || (a.is_finite() && b.is_finite() && near(a, b))
}

pub fn same_point(a: &Point, b: &Point, slack: f64) -> bool {
    let close = |a: f64, b: f64| close(a, b, slack);
    match (a, b) {
        (Point::Float(a), Point::Float(b)) => close(*a, *b),
        (Point::Histogram(n, s, a), Point::Histogram(m, t, b)) => {
            // What is left of a bucket by rounding is as good as none.
            let filled = |all: &[Bucket]| -> Vec<Bucket> {
                all.iter().copied().filter(|b| b.3.abs() > 1e-11 || b.3.is_nan()).collect()
            };
            let (a, b) = (filled(a), filled(b));
            let same = |(a, b): (&Bucket, &Bucket)| {
                a.0 == b.0 && close(a.1, b.1) && close(a.2, b.2) && close(a.3, b.3)
            };
            close(*n, *m) && close(*s, *t) && a.len() == b.len() && a.iter().zip(&b).all(same)
        }
        _ => false,
    }
}

/// What of the order of a vector's elements the language lays down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    None,
    /// That of the values: which of equal ones comes first is open.
    Values,
    Labels,
}

/// What the language lays down of a result.
#[derive(Clone, Copy, Debug)]
pub struct Laid {
    pub order: Order,
    /// See [`ROUNDING`].
    pub slack: f64,
}

impl Laid {
    pub const ANY_ORDER: Laid = Laid { order: Order::None, slack: ROUNDING };
}

/// Why two answers differ, if they do: first the values, then the annotations.
pub fn difference(theirs: &Full, ours: &Full, laid: Laid) -> Option<String> {
    values(&theirs.answer, &ours.answer, laid).or_else(|| {
        let notes = |kind: &str, theirs: &[String], ours: &[String]| {
            (!same_notes(theirs, ours))
                .then(|| format!("{kind}: theirs {theirs:?}\n             ours   {ours:?}"))
        };
        notes("warnings", &theirs.warnings, &ours.warnings)
            .or_else(|| notes("infos", &theirs.infos, &ours.infos))
    })
}

/// Why the values or the errors differ, if they do.
pub fn values(theirs: &Answer, ours: &Answer, laid: Laid) -> Option<String> {
    match (theirs, ours) {
        (Answer::Error(kind, text), Answer::Error(our_kind, our_text)) => (kind != our_kind
            || !same_error(text, our_text))
        .then(|| format!("errors: theirs {kind}: {text}\n            ours   {our_kind}: {our_text}")),
        (Answer::Scalar(t, a), Answer::Scalar(u, b)) if t == u && close(*a, *b, laid.slack) => None,
        (Answer::Text(..), Answer::Text(..)) if theirs == ours => None,
        (Answer::Vector(a), Answer::Vector(b)) => series(a, b, laid.slack).or_else(|| order_of(a, b, laid)),
        // Over a range the series are ordered by their labels.
        (Answer::Matrix(a), Answer::Matrix(b)) => {
            series(a, b, laid.slack).or_else(|| order_of(a, b, Laid { order: Order::Labels, ..laid }))
        }
        (a, b) => {
            let short = |a: &Answer| format!("{a:?}").chars().take(200).collect::<String>();
            Some(format!("theirs {}, ours {}", short(a), short(b)))
        }
    }
}

type Series = (String, BTreeMap<i64, Point>);

fn series(theirs: &[Series], ours: &[Series], slack: f64) -> Option<String> {
    let sorted = |all: &[Series]| {
        let mut all: Vec<Series> = all.to_vec();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    let (theirs, ours) = (sorted(theirs), sorted(ours));
    if theirs.iter().map(|s| &s.0).ne(ours.iter().map(|s| &s.0)) {
        let only = |a: &[Series], b: &[Series]| {
            let missing = a.iter().map(|s| &s.0).filter(|l| !b.iter().any(|s| s.0 == **l));
            missing.take(3).cloned().collect::<Vec<_>>()
        };
        return Some(format!(
            "{} series, ours {}; only theirs {:?}, only ours {:?}",
            theirs.len(),
            ours.len(),
            only(&theirs, &ours),
            only(&ours, &theirs)
        ));
    }
    theirs.iter().zip(&ours).find_map(|((labels, a), (_, b))| {
        let only = |a: &BTreeMap<i64, Point>, b: &BTreeMap<i64, Point>| {
            a.keys().find(|t| !b.contains_key(t)).copied()
        };
        if a.keys().ne(b.keys()) {
            let (theirs, ours) = (only(a, b), only(b, a));
            return Some(format!(
                "{labels}: {} points, ours {}; first only theirs {theirs:?}, first only ours {ours:?}",
                a.len(),
                b.len()
            ));
        }
        let pair = a.iter().zip(b.values()).find(|((_, a), b)| !same_point(a, b, slack));
        pair.map(|((ts, a), b)| format!("{labels} at {ts}: theirs {a:?}, ours {b:?}"))
    })
}

fn order_of(theirs: &[Series], ours: &[Series], laid: Laid) -> Option<String> {
    let differ = |(a, b): (&Series, &Series)| match laid.order {
        Order::None => false,
        Order::Values => a.1.values().zip(b.1.values()).any(|(a, b)| !same_point(a, b, laid.slack)),
        Order::Labels => a.0 != b.0,
    };
    let at = theirs.iter().zip(ours).position(differ)?;
    Some(format!("order: element {at} is {:?}, ours {:?}", theirs[at], ours[at]))
}

/// The API shows ten of each kind and how many more there are; which ten is open.
fn same_notes(theirs: &[String], ours: &[String]) -> bool {
    let omitted = |all: &[String]| all.iter().find(|n| n.ends_with("annotations omitted")).cloned();
    match (omitted(theirs), omitted(ours)) {
        (Some(a), Some(b)) => a == b && theirs.len() == ours.len(),
        _ => theirs == ours,
    }
}

/// Which of several series a text names first is open, so only what stands before them counts.
fn same_error(a: &str, b: &str) -> bool {
    let stable = |s: &str| -> String {
        let cut = s.find('{').filter(|_| !s.contains("parse error")).unwrap_or(s.len());
        s[..cut].to_owned()
    };
    stable(a) == stable(b)
}

#[test]
fn only_rounding_is_overlooked() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for (a, b, same) in [
        (1.0, 1.0 + 1e-10, true),
        (1.0, 1.0 + 1e-8, false),
        (nan, nan, true),
        (nan, 0.0, false),
        (inf, inf, true),
        (inf, -inf, false),
        (inf, 1e300, false),
        (0.0, 1e-12, true),
    ] {
        assert_eq!(same_point(&Point::Float(a), &Point::Float(b), ROUNDING), same, "{a} {b}");
    }
    let vector = |labels: &[&str]| {
        Answer::Vector(
            labels.iter().map(|l| ((*l).to_owned(), BTreeMap::from([(1, Point::Float(2.0))]))).collect(),
        )
    };
    let by_labels = Laid { order: Order::Labels, ..Laid::ANY_ORDER };
    assert!(values(&vector(&["a", "b"]), &vector(&["b", "a"]), Laid::ANY_ORDER).is_none());
    assert!(values(&vector(&["a", "b"]), &vector(&["b", "a"]), by_labels).is_some());
    assert!(values(&vector(&["a", "a"]), &vector(&["a"]), Laid::ANY_ORDER).is_some());
}
