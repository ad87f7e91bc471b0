//! Runs Prometheus's `.test` scripts: data is loaded in a small notation, expressions are evaluated over it, and what
//! they give is compared.
//!
//! `script` cuts a text into commands, `points` reads the notation of samples, `load` keeps what a script has loaded
//! and puts it into a storage, `compare` says how an answer differs, `variants` asks again in other words, `run` goes through it all.
//!
//! Source: the format of Prometheus's `promql/promqltest`.

mod compare;
mod load;
mod points;
mod run;
mod script;
mod variants;

pub use run::{Summary, run, run_thoroughly};

/// Reads a series and its points, `None` for a gap (`_`), as scripts and rule unit tests write them.
///
/// # Errors
/// What is wrong with either.
pub fn series_points(
    series: &str,
    values: &str,
) -> Result<(crate::model::Labels, Vec<Option<super::PointValue>>), String> {
    let labels = points::series(series)?.labels;
    Ok((labels, sample_values(values)?))
}

/// Reads the notation of samples alone.
///
/// # Errors
/// What is wrong with it.
pub fn sample_values(values: &str) -> Result<Vec<Option<super::PointValue>>, String> {
    let value = |point: points::Point| match point {
        points::Point::None => None,
        points::Point::Float(v) => Some(super::PointValue::Float(v)),
        points::Point::Histogram { value, .. } => Some(super::PointValue::Histogram(value)),
    };
    Ok(points::points(values)?.into_iter().map(value).collect())
}
