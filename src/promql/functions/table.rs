//! Every function's name, types and one-line doc.
//!
//! Source: the function list of Prometheus 3.14.

use crate::promql::ast::ValueType::{self, Matrix, Scalar, String, Vector};

/// The signature of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionSpec {
    pub name: &'static str,
    pub args: &'static [ValueType],
    /// 0: exactly `args`. n > 0: the last of `args` may be left out, and up to n arguments may stand from there on.
    /// -1: the last of `args` may be left out or repeated without bound.
    pub variadic: i32,
    pub returns: ValueType,
    /// Only with `promql-experimental-functions`.
    pub experimental: bool,
    /// Whether the value depends on the evaluation time or the query's range even if no argument does.
    pub timed: bool,
    /// What the function answers, without a full stop.
    pub doc: &'static str,
}

impl FunctionSpec {
    const fn timed(self) -> Self {
        FunctionSpec { timed: true, ..self }
    }

    /// How many arguments it takes at least.
    #[must_use]
    pub fn min_args(&self) -> usize {
        if self.variadic == 0 { self.args.len() } else { self.args.len().saturating_sub(1) }
    }

    /// How many arguments it takes at most; `None` means any number.
    #[must_use]
    pub fn max_args(&self) -> Option<usize> {
        match usize::try_from(self.variadic) {
            Ok(0) => Some(self.args.len()),
            Ok(n) => Some(self.min_args() + n),
            Err(_) => None,
        }
    }

    /// The type of the argument at `i`; the last one's repeats for the arguments beyond.
    #[must_use]
    pub fn arg_type(&self, i: usize) -> Option<ValueType> {
        self.args.get(i).or_else(|| if self.variadic == 0 { None } else { self.args.last() }).copied()
    }
}

/// The function of this name.
#[must_use]
pub fn lookup(name: &str) -> Option<&'static FunctionSpec> {
    FUNCTIONS.binary_search_by(|f| f.name.cmp(name)).ok().map(|i| &FUNCTIONS[i])
}

/// All functions, ascending by name.
#[must_use]
pub fn all() -> &'static [FunctionSpec] {
    FUNCTIONS
}

const fn f(
    name: &'static str,
    args: &'static [ValueType],
    variadic: i32,
    returns: ValueType,
    experimental: bool,
    doc: &'static str,
) -> FunctionSpec {
    FunctionSpec { name, args, variadic, returns, experimental, timed: false, doc }
}

#[rustfmt::skip]
static FUNCTIONS: &[FunctionSpec] = &[
    f("abs", &[Vector], 0, Vector, false, "the absolute value of each sample"),
    f("absent", &[Vector], 0, Vector, false, "1 if the vector has no element, else nothing"),
    f("absent_over_time", &[Matrix], 0, Vector, false, "1 if the range has no sample, else nothing"),
    f("acos", &[Vector], 0, Vector, false, "the arccosine of each sample, in radians"),
    f("acosh", &[Vector], 0, Vector, false, "the inverse hyperbolic cosine of each sample"),
    f("asin", &[Vector], 0, Vector, false, "the arcsine of each sample, in radians"),
    f("asinh", &[Vector], 0, Vector, false, "the inverse hyperbolic sine of each sample"),
    f("atan", &[Vector], 0, Vector, false, "the arctangent of each sample, in radians"),
    f("atanh", &[Vector], 0, Vector, false, "the inverse hyperbolic tangent of each sample"),
    f("avg_over_time", &[Matrix], 0, Vector, false, "the mean of the samples in the range"),
    f("ceil", &[Vector], 0, Vector, false, "each sample rounded up to the next integer"),
    f("changes", &[Matrix], 0, Vector, false, "how often the value changed within the range"),
    f("clamp", &[Vector, Scalar, Scalar], 0, Vector, false, "each sample held between a minimum and a maximum"),
    f("clamp_max", &[Vector, Scalar], 0, Vector, false, "each sample held at or below a maximum"),
    f("clamp_min", &[Vector, Scalar], 0, Vector, false, "each sample held at or above a minimum"),
    f("cos", &[Vector], 0, Vector, false, "the cosine of each sample, taken as radians"),
    f("cosh", &[Vector], 0, Vector, false, "the hyperbolic cosine of each sample"),
    f("count_over_time", &[Matrix], 0, Vector, false, "the number of samples in the range"),
    f("day_of_month", &[Vector], 1, Vector, false, "the day of the month (1 to 31) of each sample taken as a Unix time, in UTC").timed(),
    f("day_of_week", &[Vector], 1, Vector, false, "the day of the week (0 is Sunday) of each sample taken as a Unix time, in UTC").timed(),
    f("day_of_year", &[Vector], 1, Vector, false, "the day of the year (1 to 366) of each sample taken as a Unix time, in UTC").timed(),
    f("days_in_month", &[Vector], 1, Vector, false, "the number of days in the month of each sample taken as a Unix time, in UTC").timed(),
    f("deg", &[Vector], 0, Vector, false, "each sample turned from radians into degrees"),
    f("delta", &[Matrix], 0, Vector, false, "the difference between the last and the first sample, extrapolated to the whole range (gauges)"),
    f("deriv", &[Matrix], 0, Vector, false, "the slope per second by least squares (gauges)"),
    f("double_exponential_smoothing", &[Matrix, Scalar, Scalar], 0, Vector, true, "the samples smoothed with a smoothing and a trend factor"),
    f("end", &[], 0, Scalar, true, "the end of the query as a Unix time in seconds").timed(),
    f("exp", &[Vector], 0, Vector, false, "e raised to each sample"),
    f("first_over_time", &[Matrix], 0, Vector, false, "the oldest sample in the range"),
    f("floor", &[Vector], 0, Vector, false, "each sample rounded down to an integer"),
    f("histogram_avg", &[Vector], 0, Vector, false, "the mean of the observations in each native histogram"),
    f("histogram_count", &[Vector], 0, Vector, false, "the number of observations in each native histogram"),
    f("histogram_fraction", &[Scalar, Scalar, Vector], 0, Vector, false, "the estimated fraction of observations between a lower and an upper bound"),
    f("histogram_quantile", &[Scalar, Vector], 0, Vector, false, "the estimated quantile of a classic or native histogram"),
    f("histogram_quantiles", &[Vector, String, Scalar, Scalar], 9, Vector, true, "several estimated quantiles of a histogram, told apart by a label"),
    f("histogram_stddev", &[Vector], 0, Vector, false, "the estimated standard deviation of the observations in each native histogram"),
    f("histogram_stdvar", &[Vector], 0, Vector, false, "the estimated variance of the observations in each native histogram"),
    f("histogram_sum", &[Vector], 0, Vector, false, "the sum of the observations in each native histogram"),
    f("hour", &[Vector], 1, Vector, false, "the hour (0 to 23) of each sample taken as a Unix time, in UTC").timed(),
    f("idelta", &[Matrix], 0, Vector, false, "the difference between the last two samples of the range"),
    f("increase", &[Matrix], 0, Vector, false, "how much a counter grew within the range, resets taken into account"),
    f("info", &[Vector, Vector], 1, Vector, true, "each series with the labels of the info series that belong to it"),
    f("irate", &[Matrix], 0, Vector, false, "the per-second growth of a counter between the last two samples of the range"),
    f("label_join", &[Vector, String, String, String], -1, Vector, false, "each series with the values of source labels joined in a target label"),
    f("label_replace", &[Vector, String, String, String, String], 0, Vector, false, "each series with a target label made from a regex match on a source label"),
    f("last_over_time", &[Matrix], 0, Vector, false, "the newest sample in the range"),
    f("ln", &[Vector], 0, Vector, false, "the natural logarithm of each sample"),
    f("log10", &[Vector], 0, Vector, false, "the decimal logarithm of each sample"),
    f("log2", &[Vector], 0, Vector, false, "the binary logarithm of each sample"),
    f("mad_over_time", &[Matrix], 0, Vector, true, "the median absolute deviation of the samples in the range"),
    f("max_of", &[Scalar, Scalar], 0, Scalar, true, "the greater of two scalars"),
    f("max_over_time", &[Matrix], 0, Vector, false, "the greatest sample in the range"),
    f("min_of", &[Scalar, Scalar], 0, Scalar, true, "the smaller of two scalars"),
    f("min_over_time", &[Matrix], 0, Vector, false, "the smallest sample in the range"),
    f("minute", &[Vector], 1, Vector, false, "the minute (0 to 59) of each sample taken as a Unix time, in UTC").timed(),
    f("month", &[Vector], 1, Vector, false, "the month (1 to 12) of each sample taken as a Unix time, in UTC").timed(),
    f("pi", &[], 0, Scalar, false, "the number pi"),
    f("predict_linear", &[Matrix, Scalar], 0, Vector, false, "the value that a line through the samples reaches so many seconds from now (gauges)").timed(),
    f("present_over_time", &[Matrix], 0, Vector, false, "1 for each series that has a sample in the range"),
    f("quantile_over_time", &[Scalar, Matrix], 0, Vector, false, "the quantile of the samples in the range"),
    f("rad", &[Vector], 0, Vector, false, "each sample turned from degrees into radians"),
    f("range", &[], 0, Scalar, true, "the length of the query in seconds (its end less its start)").timed(),
    f("rate", &[Matrix], 0, Vector, false, "the per-second growth of a counter within the range, resets taken into account"),
    f("resets", &[Matrix], 0, Vector, false, "how often a counter was reset within the range"),
    f("round", &[Vector, Scalar], 1, Vector, false, "each sample rounded to the nearest multiple of a number (1 if it is left out)"),
    f("scalar", &[Vector], 0, Scalar, false, "the sample of a vector with one element, else NaN"),
    f("sgn", &[Vector], 0, Vector, false, "the sign of each sample: 1, 0 or -1"),
    f("sin", &[Vector], 0, Vector, false, "the sine of each sample, taken as radians"),
    f("sinh", &[Vector], 0, Vector, false, "the hyperbolic sine of each sample"),
    f("sort", &[Vector], 0, Vector, false, "the elements in ascending order of value"),
    f("sort_by_label", &[Vector, String], -1, Vector, true, "the elements in ascending order of labels"),
    f("sort_by_label_desc", &[Vector, String], -1, Vector, true, "the elements in descending order of labels"),
    f("sort_desc", &[Vector], 0, Vector, false, "the elements in descending order of value"),
    f("sqrt", &[Vector], 0, Vector, false, "the square root of each sample"),
    f("start", &[], 0, Scalar, true, "the start of the query as a Unix time in seconds").timed(),
    f("start_timestamp", &[Vector], 0, Vector, true, "the start time of each sample as a Unix time in seconds"),
    f("stddev_over_time", &[Matrix], 0, Vector, false, "the population standard deviation of the samples in the range"),
    f("stdvar_over_time", &[Matrix], 0, Vector, false, "the population variance of the samples in the range"),
    f("step", &[], 0, Scalar, true, "the step of the query in seconds, 0 in an instant query").timed(),
    f("sum_over_time", &[Matrix], 0, Vector, false, "the sum of the samples in the range"),
    f("tan", &[Vector], 0, Vector, false, "the tangent of each sample, taken as radians"),
    f("tanh", &[Vector], 0, Vector, false, "the hyperbolic tangent of each sample"),
    f("time", &[], 0, Scalar, false, "the evaluation time as a Unix time in seconds").timed(),
    f("timestamp", &[Vector], 0, Vector, false, "the time of each sample as a Unix time in seconds").timed(),
    f("ts_of_first_over_time", &[Matrix], 0, Vector, true, "the time of the oldest sample in the range"),
    f("ts_of_last_over_time", &[Matrix], 0, Vector, true, "the time of the newest sample in the range"),
    f("ts_of_max_over_time", &[Matrix], 0, Vector, true, "the time of the last greatest sample in the range"),
    f("ts_of_min_over_time", &[Matrix], 0, Vector, true, "the time of the last smallest sample in the range"),
    f("vector", &[Scalar], 0, Vector, false, "a scalar as a vector with one element and no labels"),
    f("year", &[Vector], 1, Vector, false, "the year of each sample taken as a Unix time, in UTC").timed(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_found_by_name() {
        assert!(FUNCTIONS.windows(2).all(|w| w[0].name < w[1].name));
        for f in FUNCTIONS {
            assert_eq!(lookup(f.name), Some(f));
            assert!(!f.doc.is_empty() && !f.doc.ends_with('.'), "{}", f.name);
        }
        assert_eq!(lookup("rte"), None);
    }

    #[test]
    fn variadic_functions_tell_their_bounds() {
        for (name, min, max) in [
            ("rate", 1, Some(1)),
            ("round", 1, Some(2)),
            ("time", 0, Some(0)),
            ("hour", 0, Some(1)),
            ("label_join", 3, None),
            ("histogram_quantiles", 3, Some(12)),
        ] {
            let f = lookup(name).unwrap();
            assert_eq!((f.min_args(), f.max_args()), (min, max), "{name}");
        }
        assert_eq!(lookup("label_join").unwrap().arg_type(9), Some(String));
        assert_eq!(lookup("rate").unwrap().arg_type(1), None);
    }
}
