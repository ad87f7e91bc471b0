//! What a query cost, as a tree.

use std::io::{self, Write};

use serde_json::Value;

/// A node's line: the tree and the operator, then what it cost.
struct Line {
    tree: String,
    cost: String,
}

/// Writes the tree of `stats.plan`, then the sums.
///
/// # Errors
/// When `out` cannot be written to.
pub(super) fn write(data: &Value, out: &mut dyn Write) -> io::Result<()> {
    let stats = &data["stats"];
    let nodes = stats["plan"].as_array().map_or(&[][..], Vec::as_slice);
    let depth = |i: usize| nodes.get(i).map_or(0, |n: &Value| n["depth"].as_u64().unwrap_or(0));
    let lines: Vec<Line> = (0..nodes.len())
        .map(|i| Line {
            tree: branch(&depth, i, nodes.len()) + nodes[i]["operator"].as_str().unwrap_or(""),
            cost: cost(&nodes[i]),
        })
        .collect();
    let width = lines.iter().map(|l| l.tree.chars().count()).max().unwrap_or(0).min(80);
    for Line { tree, cost } in &lines {
        writeln!(out, "{}", format!("{tree:<width$}  {cost}").trim_end())?;
    }
    let count = |path: [&str; 2]| stats[path[0]][path[1]].as_u64().unwrap_or(0);
    writeln!(
        out,
        "\n{} in all: {} series selected, {} samples evaluated, at most {} samples and {} in memory",
        seconds(&stats["timings"]["execTotalTime"]),
        count(["series", "selected"]),
        count(["samples", "totalQueryableSamples"]),
        count(["samples", "peakSamples"]),
        bytes(count(["memory", "peakBytes"])),
    )
}

/// The lines that lead to a node: `│  ├─ `.
fn branch(depth: &dyn Fn(usize) -> u64, i: usize, len: usize) -> String {
    let own = depth(i);
    // Whether a later node stands at this depth, below the same parent.
    let goes_on = |at: u64| (i + 1..len).map(depth).take_while(|d| *d >= at).any(|d| d == at);
    let mut out = String::new();
    for at in 1..=own {
        out.push_str(match (at == own, goes_on(at)) {
            (true, true) => "├─ ",
            (true, false) => "└─ ",
            (false, true) => "│  ",
            (false, false) => "   ",
        });
    }
    out
}

fn cost(node: &Value) -> String {
    let get = |name: &str| node[name].as_u64().unwrap_or(0);
    if let (Some(series), Some(samples)) = (node["selectedSeries"].as_u64(), node["readSamples"].as_u64()) {
        if node["totalSeconds"].as_f64() == Some(0.0) {
            return format!("{series} series selected, {samples} samples read");
        }
        let (total, own) = (seconds(&node["totalSeconds"]), seconds(&node["ownSeconds"]));
        return format!("{series} series selected, {samples} samples read, {total} ({own} of its own)");
    }
    if get("evaluations") == 0 {
        return String::new();
    }
    let (total, own) = (seconds(&node["totalSeconds"]), seconds(&node["ownSeconds"]));
    let gives = match (get("series"), get("samples")) {
        (0, _) => String::new(),
        (series, samples) => format!("{series} series, {samples} samples, "),
    };
    format!("{gives}{total} ({own} of its own)")
}

fn seconds(value: &Value) -> String {
    let s = value.as_f64().unwrap_or(0.0);
    match s {
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.1} µs", s * 1e6),
    }
}

fn bytes(n: u64) -> String {
    match n {
        n if n >= 1 << 20 => format!("{:.1} MiB", n as f64 / f64::from(1 << 20)),
        n if n >= 1 << 10 => format!("{:.1} KiB", n as f64 / 1024.0),
        n => format!("{n} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_is_a_tree() {
        let node = |depth: u64, operator: &str, series: u64| {
            json!({"depth": depth, "operator": operator, "evaluations": 1, "series": series, "samples": series * 2,
                "totalSeconds": 0.002, "ownSeconds": 0.000_5})
        };
        let mut selector = node(3, "x[1m]", 0);
        selector["selectedSeries"] = json!(50);
        selector["readSamples"] = json!(70);
        selector["totalSeconds"] = json!(0.0);
        let mut literal = node(1, "2", 0);
        literal["evaluations"] = json!(0);
        let plan = json!([node(0, "/", 7), node(1, "sum", 1), node(2, "rate", 50), selector, literal]);
        let data = json!({"stats": {"plan": plan, "timings": {"execTotalTime": 1.5}, "series": {"selected": 50},
            "samples": {"totalQueryableSamples": 9, "peakSamples": 8}, "memory": {"peakBytes": 2048}}});
        let mut out = Vec::new();
        write(&data, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "/               7 series, 14 samples, 2.00 ms (500.0 µs of its own)\n\
             ├─ sum          1 series, 2 samples, 2.00 ms (500.0 µs of its own)\n\
             │  └─ rate      50 series, 100 samples, 2.00 ms (500.0 µs of its own)\n\
             │     └─ x[1m]  50 series selected, 70 samples read\n\
             └─ 2\n\
             \n1.50 s in all: 50 series selected, 9 samples evaluated, at most 8 samples and 2.0 KiB in memory\n"
        );
    }
}
