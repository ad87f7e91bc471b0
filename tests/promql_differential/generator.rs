//! Random expressions, most of them valid and with a result.

use streamgate::promql::ast::ValueType;
use streamgate::promql::functions::{self, FunctionSpec, table};

use crate::constructs::{MODIFIERS, OPERATORS, is_newer};
use crate::data::{Random, START};

/// What the samples of an expression are, for the most part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Float,
    Histogram,
    Any,
}

/// Functions that take histograms, or both; the others leave them out.
const OF_HISTOGRAMS: &[&str] = &[
    "absent",
    "absent_over_time",
    "avg_over_time",
    "changes",
    "count_over_time",
    "delta",
    "idelta",
    "increase",
    "irate",
    "label_join",
    "label_replace",
    "last_over_time",
    "present_over_time",
    "rate",
    "resets",
    "sort_by_label",
    "sort_by_label_desc",
    "sum_over_time",
    "timestamp",
    "ts_of_last_over_time",
];

pub struct Generator(pub Random);

impl Generator {
    /// An expression with the construct of [`crate::constructs::constructs`] in it.
    pub fn directed(&mut self, construct: &str) -> String {
        let depth = self.0.below(3);
        let (kind, name) = construct.split_once(' ').unwrap_or((construct, ""));
        let whole = match kind {
            "function" => self.call(table::lookup(name).unwrap(), depth),
            "aggregation" => self.aggregation(name, depth),
            "operator" => self.operator(name, depth),
            _ => self.modifier(name, depth),
        };
        if self.0.chance(35) { self.wrapped(&whole) } else { whole }
    }

    /// Any expression.
    pub fn any(&mut self) -> String {
        let depth = 1 + self.0.below(4);
        match self.0.below(40) {
            0 => self.scalar(depth),
            1 => self.0.pick(&["\"a text\"", "'it''s'", "`raw\\d`", "\"\\u00e9\\n\""]).replace("''", "\\'"),
            2 => format!("{}[{}]", self.selector(Kind::Any), self.0.pick(&["1m", "90s", "10m"])),
            _ => self.vector(Kind::Any, depth),
        }
    }

    /// A text that is most probably refused: a piece is missing, doubled or of the wrong type.
    pub fn wrong(&mut self) -> String {
        let whole = self.vector(Kind::Float, 1);
        match self.0.below(9) {
            0 => whole.replacen(')', "", 1) + " +",
            1 => format!("{whole}[5m]"),
            2 => format!("rate({whole})"),
            3 => format!("sum({})", self.number()),
            4 => format!("{whole} and {}", self.number()),
            5 => format!("abs({whole}, 1)"),
            6 => format!("nothing_like_it({whole})"),
            7 => format!("{whole} == bool"),
            _ => {
                let at = self.0.below(whole.len());
                let end = self.0.pick(&["", "(", "]", "by", ",", "offset", "=~", "\""]);
                whole.chars().take(at).collect::<String>() + end
            }
        }
    }

    /// A vector expression with another around it.
    fn wrapped(&mut self, inner: &str) -> String {
        let forms = [
            "sum by (job) ({})",
            "count({})",
            "({}) * 2",
            "abs({})",
            "-({})",
            "max without (instance) ({})",
            "last_over_time(({})[5m:1m])",
            "({}) or vector(0)",
            "label_replace({}, \"x\", \"y\", \"\", \"\")",
            "group by (job, instance) ({})",
        ];
        self.0.pick(&forms).replace("{}", inner)
    }

    pub fn any_selector(&mut self) -> String {
        self.selector(Kind::Any)
    }

    fn selector(&mut self, kind: Kind) -> String {
        let floats = [
            "requests_total",
            "requests_total",
            "requests_total",
            "memory",
            "memory",
            "memory",
            "latency_bucket",
            "sparse",
            "special",
            "lonely",
            "target_info",
            "{\"disk.used\"}",
            "{__name__=~\"memory|sparse\"}",
        ];
        let histograms = ["hist", "hist", "hist_gauge", "hist_custom"];
        let name = match (kind, self.0.below(100)) {
            (_, 0) => "nothing",
            (_, 1) => "hist_bounds",
            (Kind::Float, 2..90) | (Kind::Any, 2..55) => self.0.pick(&floats),
            (Kind::Histogram, 2..85) | (Kind::Any, 55..75) => self.0.pick(&histograms),
            _ => self.0.pick(&["mixed", "mixed_total"]),
        };
        if name.starts_with('{') || name == "lonely" || self.0.chance(60) {
            return name.to_owned();
        }
        let by_job = [
            "{job=\"api\"}",
            "{job!=\"api\"}",
            "{job=~\"a.*|x\"}",
            "{job!~\"x.+\"}",
            "{nothing=\"\"}",
            "{\"job\"=\"db\"}",
        ];
        let by_instance = [
            "{instance=~\"0|1\"}",
            "{instance!~\"2.*\"}",
            "{job=\"api\", instance=\"1\"}",
            "{instance!=\"0\"}",
        ];
        let matcher = if matches!(name, "sparse" | "special") || self.0.chance(50) {
            self.0.pick(&by_job)
        } else {
            self.0.pick(&by_instance)
        };
        format!("{name}{matcher}")
    }

    fn shift(&mut self) -> String {
        match self.0.below(16) {
            0 => " offset 5m".into(),
            1 => " offset -3m".into(),
            2 => format!(" @ {}", (START / 1000) + 1800),
            3 => " @ end()".into(),
            4 => " @ start() offset 1m".into(),
            _ => String::new(),
        }
    }

    fn range(&mut self, kind: Kind, depth: usize) -> String {
        let windows =
            ["5m", "5m", "10m", "25m", "1h", "4m", "2m*2", "(4m+30s)", "1m", "2m", "20s", "1h30m", "300"];
        let window = self.0.pick(&windows);
        let shift = self.shift();
        if depth > 0 && self.0.chance(25) {
            let inner = self.vector(kind, depth - 1);
            let step = self.0.pick(&["", "", "30s", "1m", "77s"]);
            return format!("({inner})[{window}:{step}]{shift}");
        }
        format!("{}[{window}]{shift}", self.selector(kind))
    }

    pub fn number(&mut self) -> String {
        let numbers = [
            "0", "1", "2", "-1", "0.5", "3.7", "100", "1e3", "NaN", "Inf", "-Inf", "0.9", "0x1F", "5m",
            "1_000", "017", ".5", "1m30s",
        ];
        self.0.pick(&numbers).to_owned()
    }

    fn scalar(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.number();
        }
        match self.0.below(8) {
            0 => "time()".into(),
            1 => "pi()".into(),
            2 | 3 => self.one_element(),
            4 => {
                let ops = ["+", "-", "*", "/", "atan2", "== bool", "> bool", "<= bool"];
                let op = self.0.pick(&ops);
                format!("({} {op} {})", self.scalar(depth - 1), self.scalar(depth - 1))
            }
            _ => self.number(),
        }
    }

    /// `scalar()` of what is one element, most often.
    fn one_element(&mut self) -> String {
        let inner = self.0.pick(&[
            "lonely",
            "sum(memory)",
            "max(sparse)",
            "memory",
            "hist{job=\"api\", instance=\"0\"}",
            "count(rate(requests_total[5m]))",
            "mixed{job=\"api\", instance=\"0\"}",
        ]);
        format!("scalar({inner})")
    }

    /// A parameter, such as a quantile.
    fn param(&mut self) -> String {
        match self.0.below(12) {
            0 => "time()".into(),
            1 => self.one_element(),
            2 => format!("({})", self.number()),
            3 => self.number(),
            _ => self.0.pick(&["0", "0.1", "0.5", "0.9", "0.99", "1"]).to_owned(),
        }
    }

    fn grouping(&mut self) -> String {
        let groupings = [
            "",
            " by (job)",
            " by (instance)",
            " by (job, code)",
            " without (instance)",
            " without (job, code, le)",
            " by ()",
            " without ()",
            " by (le)",
            " by (__name__)",
            " by (\"disk.name\")",
        ];
        self.0.pick(&groupings).to_owned()
    }

    fn vector(&mut self, kind: Kind, depth: usize) -> String {
        if depth == 0 {
            let selector = self.selector(kind);
            let shift = self.shift();
            return selector + &shift;
        }
        let d = depth - 1;
        if kind == Kind::Histogram {
            return self.histograms(d);
        }
        match self.0.below(20) {
            0..=9 => {
                let all: Vec<&FunctionSpec> =
                    functions::all().iter().filter(|f| !is_newer(f.name) && !f.args.is_empty()).collect();
                let spec = all[self.0.below(all.len())];
                self.call(spec, d)
            }
            10..=13 => {
                let all = functions::aggregations();
                let op = all[self.0.below(all.len())].op.as_str();
                self.aggregation(op, d)
            }
            14..=16 => {
                let op = self.0.pick(OPERATORS);
                self.operator(op, d)
            }
            17 => {
                let name = self.0.pick(MODIFIERS);
                self.modifier(name, d)
            }
            18 => self.histograms(d),
            _ => self.vector(kind, d),
        }
    }

    /// A vector of native histograms.
    fn histograms(&mut self, depth: usize) -> String {
        let name = self.0.pick(&["hist", "hist", "hist_gauge", "hist_custom", "mixed", "mixed_total"]);
        let window = self.0.pick(&["2m", "5m", "20m"]);
        match self.0.below(12) {
            0 => format!("rate(hist[{window}])"),
            1 => format!("increase(hist_custom[{window}])"),
            2 => format!("sum by (job) ({name})"),
            3 => format!("avg(rate(hist[{window}]))"),
            4 => format!("delta(hist_gauge[{window}])"),
            5 => format!("({name} * {})", self.number()),
            6 => format!("(hist {} hist offset 5m)", self.0.pick(&["+", "-"])),
            7 => format!(
                "{}({name}[{window}])",
                self.0.pick(&["sum_over_time", "avg_over_time", "last_over_time"])
            ),
            8 if depth > 0 => format!("-{}", self.histograms(depth - 1)),
            9 => format!("{name} / 3"),
            _ => self.selector(Kind::Histogram),
        }
    }

    /// A call of the function, with what its signature asks for.
    fn call(&mut self, spec: &FunctionSpec, depth: usize) -> String {
        let name = spec.name;
        if let Some(text) = self.special(name, depth) {
            return text;
        }
        let kind = if OF_HISTOGRAMS.contains(&name) || self.0.chance(8) { Kind::Any } else { Kind::Float };
        let optional = spec.min_args() < spec.args.len() && self.0.chance(50);
        let count = if optional { spec.min_args() } else { spec.args.len() };
        let args: Vec<String> = spec.args[..count]
            .iter()
            .map(|t| match t {
                ValueType::Vector => self.vector(kind, depth),
                ValueType::Matrix => self.range(kind, depth),
                ValueType::Scalar => self.param(),
                ValueType::String => "\"job\"".to_owned(),
            })
            .collect();
        let call = format!("{name}({})", args.join(", "));
        if spec.returns == ValueType::Scalar {
            format!("({} + {call})", self.selector(Kind::Float))
        } else {
            call
        }
    }

    /// Calls of a form of their own, so that they have a result.
    fn special(&mut self, name: &str, depth: usize) -> Option<String> {
        Some(match name {
            "absent" if self.0.chance(70) => {
                let inner = [
                    "nothing",
                    "nothing{job=\"a\", x=~\"b\"}",
                    "sum(nothing)",
                    "nothing{job=\"a\", job=\"b\"}",
                ];
                format!("{name}({})", self.0.pick(&inner))
            }
            "absent_over_time" if self.0.chance(70) => {
                let inner = [
                    "nothing[5m]",
                    "nothing{job=\"a\", x!=\"b\"}[1h]",
                    "(nothing)[10m:1m]",
                    "sparse{job=\"x\"}[2m]",
                ];
                format!("{name}({})", self.0.pick(&inner))
            }
            // Of large numbers, the last digit decides.
            "sin" | "cos" | "tan" => format!("{name}(clamp({}, -50, 50))", self.selector(Kind::Float)),
            "asin" | "acos" | "atanh" if self.0.chance(70) => {
                format!("{name}({} / 2000)", self.selector(Kind::Float))
            }
            "timestamp" if self.0.chance(60) => format!("{name}({})", self.vector(Kind::Any, 0)),
            "scalar" => format!("({} + {})", self.selector(Kind::Float), self.one_element()),
            "vector" => format!("{name}({})", self.scalar(depth + 1)),
            "clamp_min" | "clamp_max" => {
                format!("{name}({}, {})", self.vector(Kind::Float, depth), self.scalar(depth.min(1)))
            }
            "double_exponential_smoothing" => {
                let factors =
                    self.0.pick(&["0.3, 0.6", "0.5, 0.1", "0.9, 0.9", "0.01, 0.5", "0.3, 0.6", "0.3, 2"]);
                format!("{name}({}, {factors})", self.range(Kind::Float, depth))
            }
            "predict_linear" => format!("{name}({}, {})", self.range(Kind::Float, depth), self.scalar(1)),
            "label_replace" => {
                let rest = self.0.pick(&[
                    "\"dst\", \"$1-x\", \"job\", \"(.).*\"",
                    "\"job\", \"\", \"code\", \"[01]\"",
                    "\"dst\", \"${a}\", \"instance\", \"(?P<a>.)\"",
                    "\"__name__\", \"named_$1\", \"job\", \"(.*)\"",
                    "\"dst.x\", \"v\", \"\", \"\"",
                ]);
                format!("{name}({}, {rest})", self.vector(Kind::Any, depth))
            }
            "label_join" => {
                let rest = self.0.pick(&[
                    "\"dst\", \"/\", \"job\", \"instance\"",
                    "\"dst\", \"\", \"job\"",
                    "\"job\", \"-\", \"job\", \"instance\", \"code\"",
                ]);
                format!("{name}({}, {rest})", self.vector(Kind::Any, depth))
            }
            "sort_by_label" | "sort_by_label_desc" => {
                let labels = self.0.pick(&["\"instance\"", "\"job\", \"instance\"", "\"nothing\""]);
                format!("{name}({}, {labels})", self.vector(Kind::Any, depth))
            }
            "histogram_quantile" | "histogram_fraction" => {
                let param = if name == "histogram_quantile" {
                    self.param()
                } else {
                    let lower = self.0.pick(&["0.1", "0.3", "2", "-Inf", "0", "-1"]);
                    format!("{lower}, {}", self.0.pick(&["0.7", "3", "Inf", "NaN", "0"]))
                };
                let classic = self.classic();
                let inner = if self.0.chance(55) { self.histograms(depth) } else { classic };
                format!("{name}({param}, {inner})")
            }
            _ if name.starts_with("histogram_") => format!("{name}({})", self.histograms(depth)),
            "info" => {
                let inner = ["memory", "requests_total", "rate(requests_total[5m])", "hist", "memory > 0"];
                let more = ["", ", {version=~\".+\"}", ", {version=\"v1\"}", ", {nothing=\"\"}"];
                format!("{name}({}{})", self.0.pick(&inner), self.0.pick(&more))
            }
            _ => return None,
        })
    }

    /// A vector with the label `le`.
    fn classic(&mut self) -> String {
        let by = self.0.pick(&["le", "le, job", "le, job, instance"]);
        let window = self.0.pick(&["5m", "2m"]);
        match self.0.below(8) {
            0 => "latency_bucket".to_owned(),
            1 => "-latency_bucket".to_owned(),
            2 => format!("rate(latency_bucket[{window}])"),
            _ => format!("sum by ({by}) (rate(latency_bucket[{window}]))"),
        }
    }

    fn aggregation(&mut self, op: &str, depth: usize) -> String {
        let grouping = self.grouping();
        let param = match op {
            "quantile" => self.param() + ", ",
            "limitk" => self.0.pick(&["1, ", "2, ", "5, ", "100, ", "0, "]).to_owned(),
            "limit_ratio" => self.0.pick(&["0.5, ", "-0.3, ", "1, ", "-1, ", "2, "]).to_owned(),
            "topk" | "bottomk" => self.0.pick(&["1, ", "2, ", "5, ", "1.9, ", "0, "]).to_owned(),
            "count_values" => self.0.pick(&["\"value\", ", "\"value\", ", "\"job\", "]).to_owned(),
            _ => String::new(),
        };
        let inner = match op {
            // Which of equal values is taken is up to the storage: here they are seldom equal.
            "topk" | "bottomk" => {
                let inner = [
                    "lonely",
                    "deriv(memory[10m])",
                    "avg_over_time(memory[20m])",
                    "stddev_over_time(memory[10m] offset 5m)",
                    "(deriv(memory[10m]) or on () hist)",
                    "(hist or on (instance) deriv(memory[10m]))",
                ];
                self.0.pick(&inner).to_owned()
            }
            // Values that rounding does not touch: they become labels.
            "count_values" => {
                let inner = ["requests_total", "sparse", "special", "lonely > 0", "ceil(memory)", "hist"];
                self.0.pick(&inner).to_owned()
            }
            // The order of nested expressions is random in Prometheus.
            "limitk" => self.selector(Kind::Any),
            "sum" | "avg" | "count" | "group" | "limit_ratio" => self.vector(Kind::Any, depth),
            _ => self.vector(Kind::Float, depth),
        };
        if param.is_empty() && self.0.chance(30) {
            return format!("{op}({inner}){grouping}");
        }
        format!("{op}{grouping} ({param}{inner})")
    }

    /// A vector whose elements differ in their job, if in anything.
    fn by_job(&mut self, depth: usize) -> String {
        let op = self.0.pick(&["sum", "max", "avg", "count", "min"]);
        format!("{op} by (job) ({})", self.vector(Kind::Float, depth))
    }

    fn operator(&mut self, op: &str, depth: usize) -> String {
        match op {
            "and" | "or" | "unless" => {
                let matching =
                    self.0.pick(&["on (job)", "ignoring (instance, code)", "on (job, instance)", ""]);
                match self.0.below(4) {
                    0 => format!("({} {op} {})", self.by_job(depth), self.by_job(depth)),
                    1 => format!("(requests_total {op} {matching} memory{{job=\"api\"}})"),
                    2 => format!("({} {op} on (job) {})", self.vector(Kind::Any, depth), self.by_job(depth)),
                    _ => {
                        let (l, r) = (self.vector(Kind::Any, depth), self.vector(Kind::Any, depth));
                        format!("({l} {op} {matching} {r})")
                    }
                }
            }
            // Two values are seldom equal.
            "==" => {
                let forms = [
                    "(target_info == 1)",
                    "(memory == memory)",
                    "(hist == hist)",
                    "(mixed == mixed)",
                    "(1 == target_info)",
                    "(requests_total == on (job, instance) group_left () max by (job, instance) (requests_total))",
                    "(sum(memory) == scalar(sum(memory)))",
                    "(sparse == 3)",
                ];
                self.0.pick(&forms).to_owned()
            }
            ">" | ">=" | "!=" => match self.0.below(4) {
                0 => format!("(1e9 {op} {})", self.vector(Kind::Float, depth)),
                1 => self.matched(op, depth),
                _ => {
                    let bound = self.0.pick(&["0", "-1", "-Inf", "0.5", "scalar(min(memory))"]);
                    format!("({} {op} {bound})", self.vector(Kind::Float, depth))
                }
            },
            "<" | "<=" => match self.0.below(4) {
                0 => format!("(-1e9 {op} {})", self.vector(Kind::Float, depth)),
                1 => self.matched(op, depth),
                _ => {
                    let bound = self.0.pick(&["1e3", "1e6", "Inf", "time()"]);
                    format!("({} {op} {bound})", self.vector(Kind::Float, depth))
                }
            },
            // Of a large number, a remainder or a power is rounding and nothing else.
            "%" if self.0.chance(50) => {
                let forms = [
                    "(memory % 7)",
                    "(memory % -3.7)",
                    "(requests_total % 0x1F)",
                    "(special % 3.7)",
                    "(special % 0)",
                    "(special % NaN)",
                    "(100 % memory)",
                    "(lonely % 1m)",
                    "(mixed % 5)",
                    "(hist % 2)",
                ];
                self.0.pick(&forms).to_owned()
            }
            "%" => {
                let pair = self.pair();
                pair.replace("{}", op)
            }
            "^" => {
                let forms = [
                    "(memory ^ 2)",
                    "(requests_total ^ 0.5)",
                    "(special ^ NaN)",
                    "(special ^ 0)",
                    "(special ^ -1)",
                    "(2 ^ (memory / 100))",
                    "(-Inf ^ special)",
                    "(mixed ^ 3)",
                    "(hist ^ 2)",
                    "((memory / 100) ^ on (job, instance) target_info)",
                    "((requests_total / 100) ^ on (job, instance) group_left () (memory / 400))",
                    "(hist ^ on (job, instance) hist_gauge)",
                    "2 ^ memory ^ 0",
                ];
                self.0.pick(&forms).to_owned()
            }
            _ => match self.0.below(8) {
                0 => format!("({} {op} {})", self.scalar(1), self.vector(Kind::Float, depth)),
                1 => format!("({} {op} {})", self.vector(Kind::Float, depth), self.scalar(1)),
                2 => format!("({} {op} {})", self.vector(Kind::Any, depth), self.number()),
                3 => format!("({} {op} {})", self.by_job(depth), self.by_job(depth)),
                4 => format!("vector({} {op} {})", self.scalar(1), self.scalar(1)),
                _ => self.matched(op, depth),
            },
        }
    }

    /// Two vectors that fit each other, around `{}`.
    fn pair(&mut self) -> String {
        let pair = self.0.pick(&[
            "memory {} on (job, instance) target_info",
            "requests_total {} on (job, instance) group_left () memory",
            "memory {} on (job, instance) group_right () requests_total",
            "requests_total {} ignoring (code, version) group_left (version) target_info",
            "requests_total{code=\"200\"} {} ignoring (code) requests_total{code=\"500\"}",
            "sum by (job) (memory) {} on (job) sparse",
            "hist {} on (job, instance) hist_gauge",
            "hist {} on (job, instance) group_left () count by (job, instance) (requests_total)",
            "mixed {} on (job, instance) mixed_total",
            "hist_custom {} hist_custom offset 5m",
            "memory {} memory offset 3m",
        ]);
        format!("({pair})")
    }

    fn matched(&mut self, op: &str, depth: usize) -> String {
        // Pairs that fit each other, more often than any pair.
        if self.0.chance(85) {
            return self.pair().replace("{}", op);
        }
        let matching = self.0.pick(&[
            "",
            "on (job, instance)",
            "on (job) group_left ()",
            "on (job, instance) group_right ()",
            "ignoring (code, le)",
            "ignoring (code) group_left ()",
            "on (job, instance) group_left (version)",
            "on ()",
        ]);
        format!("({} {op} {matching} {})", self.vector(Kind::Any, depth), self.vector(Kind::Any, depth))
    }

    fn modifier(&mut self, name: &str, depth: usize) -> String {
        let f = self.0.pick(&["rate", "avg_over_time", "count_over_time", "sum_over_time", "last_over_time"]);
        let op = self.0.pick(&["+", "*", ">", "/", "-", "!="]);
        match name {
            "offset" => format!("{f}({}[5m] offset 7m)", self.selector(Kind::Any)),
            "negative offset" => format!("{} offset -2m", self.selector(Kind::Any)),
            "@" => format!("{f}({}[5m] @ {})", self.selector(Kind::Any), START / 1000 + 2000),
            "@ start()" => format!("{f}({}[5m] @ start())", self.selector(Kind::Any)),
            "@ end()" => format!("{} @ end()", self.selector(Kind::Any)),
            "subquery" => {
                format!(
                    "{f}(({})[10m:{}])",
                    self.vector(Kind::Any, depth),
                    self.0.pick(&["30s", "1m", "45s"])
                )
            }
            "subquery with the default step" => format!("{f}(({})[10m:])", self.vector(Kind::Any, depth)),
            "offset of a subquery" => format!("{f}({}[10m:1m] offset 3m)", self.selector(Kind::Any)),
            "@ of a subquery" => format!("{f}({}[10m:1m] @ end())", self.selector(Kind::Any)),
            "by" => format!("sum by (job) ({})", self.vector(Kind::Any, depth)),
            "without" => format!("max without (instance, code) ({})", self.vector(Kind::Float, depth)),
            "on" => format!("(memory {op} on (job, instance) target_info)"),
            "ignoring" => {
                format!(
                    "(requests_total{{code=\"200\"}} {op} ignoring (code) requests_total{{code=\"500\"}})"
                )
            }
            "group_left" => format!("(requests_total {op} on (job, instance) group_left () memory)"),
            "group_right" => format!("(memory {op} on (job, instance) group_right () requests_total)"),
            "group_left with labels" => {
                format!("(requests_total {op} on (job, instance) group_left (version) target_info)")
            }
            "group_right with labels" => {
                format!("(target_info {op} on (job, instance) group_right (version) requests_total)")
            }
            "unary minus" => format!("-({})", self.vector(Kind::Any, depth)),
            "unary plus" => format!("+({})", self.vector(Kind::Any, depth)),
            "duration as a number" => format!("({} * 1m30s)", self.selector(Kind::Any)),
            "matcher =" => format!("{f}(requests_total{{code=\"200\"}}[5m])"),
            "matcher !=" => format!("{f}(requests_total{{code!=\"200\"}}[5m])"),
            "matcher =~" => format!("{f}(requests_total{{code=~\"2.*|3..\"}}[5m])"),
            "matcher !~" => format!("{f}(requests_total{{code!~\"2.*|3..\"}}[5m])"),
            "quoted name" => format!("{f}({{\"disk.used\", \"disk.name\"=\"a b\"}}[5m])"),
            "string" => format!("label_join({}, \"to\", '+', `job`)", self.selector(Kind::Any)),
            "duration expression" => {
                let range = self.0.pick(&["2m * 2", "5m + 30s", "1h / 6", "2 ^ 9", "-(-5m)", "1h % 25m"]);
                let offset = self.0.pick(&["", " offset (1m * 2)", " offset -(1m + 3s)"]);
                format!("{f}({}[{range}]{offset})", self.selector(Kind::Any))
            }
            other => panic!("no expression for {other}"),
        }
    }
}
