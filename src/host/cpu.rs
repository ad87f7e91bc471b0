//! /proc/stat: CPU times, and what the kernel counts beside them.

use std::io;

use super::body::Body;
use super::collector::{Roots, malformed};

/// /proc counts time in USER_HZ, which is 100 on every architecture that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];

/// Times of each CPU by mode.
pub fn cpu(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let text = roots.proc("stat")?;
    let cpus: Vec<(&str, Vec<f64>)> = text.lines().filter_map(cpu_line).collect();
    body.counter("node_cpu_seconds_total", "Seconds that each CPU spent in each mode");
    for (cpu, seconds) in &cpus {
        for (mode, value) in MODES.iter().zip(seconds) {
            body.sample(&[("cpu", cpu), ("mode", mode)], *value);
        }
    }
    body.counter(
        "node_cpu_guest_seconds_total",
        "Seconds that each CPU spent in guests, by mode; also within user and nice",
    );
    for (cpu, seconds) in &cpus {
        for (mode, value) in ["user", "nice"].iter().zip(seconds.iter().skip(MODES.len())) {
            body.sample(&[("cpu", cpu), ("mode", mode)], *value);
        }
    }
    Ok(())
}

/// `cpu0 1 2 3 …` as its number and seconds; the line `cpu` is their sum and left out.
fn cpu_line(line: &str) -> Option<(&str, Vec<f64>)> {
    let mut words = line.split_ascii_whitespace();
    let cpu = words.next()?.strip_prefix("cpu").filter(|n| !n.is_empty())?;
    Some((cpu, words.map_while(|w| w.parse::<f64>().ok()).map(|ticks| ticks / TICKS_PER_SECOND).collect()))
}

/// Counters of the whole machine.
pub fn stat(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let text = roots.proc("stat")?;
    let value = |key: &str| -> io::Result<f64> {
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
        line.and_then(|l| l.split(' ').next()?.parse().ok()).ok_or_else(|| malformed("stat"))
    };
    body.gauge("node_boot_time_seconds", "When this machine was started, in seconds since the epoch")
        .sample(&[], value("btime")?);
    body.counter("node_context_switches_total", "Context switches").sample(&[], value("ctxt")?);
    body.counter("node_forks_total", "Processes and threads that were started")
        .sample(&[], value("processes")?);
    body.counter("node_intr_total", "Interrupts that were served").sample(&[], value("intr")?);
    body.gauge("node_procs_running", "Processes that can run").sample(&[], value("procs_running")?);
    body.gauge("node_procs_blocked", "Processes that wait for I/O").sample(&[], value("procs_blocked")?);
    Ok(())
}
