//! The series that both sides hold.

use streamgate::model::{CounterResetHint, FloatHistogram, Labels, Span, stale_marker};

/// The first sample's time (ms), on a block boundary.
pub const START: i64 = 1_760_004_000_000 / 7_200_000 * 7_200_000;
pub const END: i64 = START + 2 * 3_600_000;
/// A series that has floats and histograms has at most one sample in such a slice.
pub const SLICE_MS: i64 = 15_000;

/// xorshift64*: small, seeded, the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

pub type Series = (Labels, Vec<(i64, f64)>);

#[derive(Clone, Debug)]
pub enum Sample {
    Float(f64),
    Histogram(FloatHistogram),
}

/// All series with floats, histograms or both, by their labels.
pub fn all() -> Vec<(Labels, Vec<(i64, Sample)>)> {
    let float = |(l, s): Series| (l, s.into_iter().map(|(t, v)| (t, Sample::Float(v))).collect());
    let mut out: Vec<(Labels, Vec<(i64, Sample)>)> = floats().into_iter().map(float).collect();
    let mut random = Random(0x0dd_ba11_5eed);
    for (name, job, instance) in ["hist", "hist_gauge", "hist_custom", "hist_bounds", "mixed", "mixed_total"]
        .iter()
        .flat_map(|n| ["api", "db"].iter().flat_map(move |j| ["0", "1"].iter().map(move |i| (*n, *j, *i))))
    {
        let labels = Labels::from_pairs([("__name__", name), ("job", job), ("instance", instance)]);
        let mut counts = [0.0f64; 4];
        let mut samples = Vec::new();
        for step in 0..(END - START) / 15_000 {
            let ts = START + step * 15_000 + 1_000 + random.below(2_000) as i64;
            counts.iter_mut().for_each(|c| *c += random.below(4) as f64);
            if random.below(170) == 0 {
                counts = [0.0; 4];
            }
            if random.below(40) == 0 {
                continue;
            }
            let is_float = name.starts_with("mixed") && step / 30 % 2 == 0;
            if random.below(120) == 0 && is_float {
                samples.push((ts, Sample::Float(stale_marker())));
            } else if is_float {
                samples.push((ts, Sample::Float(counts[0])));
            } else {
                samples.push((ts, Sample::Histogram(histogram(name, instance, step, counts))));
            }
        }
        out.push((labels, samples));
    }
    out.sort_by(|a, b| a.0.cmp(&b.0));
    out
}

fn histogram(name: &str, instance: &str, step: i64, counts: [f64; 4]) -> FloatHistogram {
    let bounds: &[f64] = match (name, instance) {
        ("hist_custom", _) | ("hist_bounds", "0") => &[0.5, 1.0, 2.5, 10.0],
        ("hist_bounds", _) => &[0.5, 2.5, 10.0, 40.0],
        _ => &[],
    };
    let custom = !bounds.is_empty();
    let total: f64 = counts.iter().sum();
    FloatHistogram {
        counter_reset_hint: if name == "hist_gauge" {
            CounterResetHint::Gauge
        } else {
            CounterResetHint::Unknown
        },
        // The resolution changes once.
        schema: if custom {
            -53
        } else if step < 200 {
            1
        } else {
            0
        },
        zero_threshold: if custom { 0.0 } else { 0.001 },
        zero_count: if custom { 0.0 } else { counts[3] },
        count: if custom { total - counts[3] } else { total },
        sum: counts[0] * 0.5 + counts[1] * 1.75 + counts[2] * 6.0,
        positive_spans: vec![Span { offset: 0, length: 2 }, Span { offset: 1, length: 1 }],
        positive_buckets: counts[..3].to_vec(),
        negative_spans: Vec::new(),
        negative_buckets: Vec::new(),
        custom_values: bounds.to_vec(),
    }
}

/// Counters with resets, gauges, classic histograms, gaps, special values.
pub fn floats() -> Vec<Series> {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut out = Vec::new();
    let mut add =
        |pairs: &[(&str, &str)], step: i64, value: &mut dyn FnMut(usize, &mut Random) -> Option<f64>| {
            let labels = Labels::from_pairs(pairs.iter().copied());
            let mut samples = Vec::new();
            let mut ts = START + random.below(step as usize) as i64;
            let mut i = 0;
            while ts <= END {
                if let Some(v) = value(i, &mut random) {
                    samples.push((ts, v));
                }
                i += 1;
                ts += step;
            }
            out.push((labels, samples));
        };
    for job in ["api", "db"] {
        for instance in ["0", "1", "2"] {
            for code in ["200", "500"] {
                let mut v = 0.0;
                let name = ("__name__", "requests_total");
                add(&[name, ("job", job), ("instance", instance), ("code", code)], 15_000, &mut |_, r| {
                    v = if r.below(150) == 0 { 0.0 } else { v + r.below(10) as f64 };
                    (r.below(30) != 0).then_some(v)
                });
            }
            add(&[("__name__", "memory"), ("job", job), ("instance", instance)], 30_000, &mut |_, r| {
                Some((r.below(20_000) as f64 - 5_000.0) / 16.0)
            });
            add(
                &[("__name__", "target_info"), ("job", job), ("instance", instance), ("version", "v1")],
                30_000,
                &mut |_, _| Some(1.0),
            );
            let mut counts = [0.0; 5];
            let mut columns: Vec<Vec<f64>> = vec![Vec::new(); 5];
            let mut steps = Random(77 + instance.len() as u64 * 13 + job.len() as u64);
            for _ in 0..=480 {
                for c in 0..5 {
                    let grown = steps.below(4) as f64;
                    counts[c..].iter_mut().for_each(|v| *v += grown);
                }
                columns.iter_mut().zip(counts).for_each(|(column, v)| column.push(v));
            }
            for (le, column) in ["0.1", "0.5", "1", "5", "+Inf"].into_iter().zip(&columns) {
                let name = ("__name__", "latency_bucket");
                add(&[name, ("job", job), ("instance", instance), ("le", le)], 15_000, &mut |i, _| {
                    column.get(i).copied()
                });
            }
        }
        add(&[("__name__", "sparse"), ("job", job)], 60_000, &mut |i, r| {
            (i % 25 < 12).then(|| r.below(7) as f64)
        });
        add(&[("__name__", "special"), ("job", job), ("zone", "x-1")], 60_000, &mut |_, r| {
            Some(
                [0.0, -0.0, 1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -3.0, 1e300, 7.25, 2.0]
                    [r.below(10)],
            )
        });
    }
    add(&[("__name__", "disk.used"), ("disk.name", "a b"), ("job", "api")], 60_000, &mut |i, _| {
        Some((i * i % 97) as f64)
    });
    add(&[("__name__", "lonely")], 60_000, &mut |i, _| Some(i as f64 * 0.5 - 20.0));
    out
}
