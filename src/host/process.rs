//! This process, under the names that every Prometheus client library uses.

use super::body::Body;
use super::collector::Roots;

/// /proc counts time in USER_HZ.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU, memory, files and threads of this process as a body in the text format 0.0.4; empty where /proc is missing.
#[must_use]
pub fn process_metrics() -> String {
    let mut body = Body::default();
    let mark = body.mark();
    if write(&Roots::default(), &mut body).is_none() {
        body.rewind(mark);
    }
    body.into_text()
}

fn write(roots: &Roots, body: &mut Body) -> Option<()> {
    let stat = roots.proc("self/stat").ok()?;
    // The program's name may contain anything; the fields begin after its closing bracket (proc_pid_stat(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| -> Option<f64> { fields.get(number - 3)?.parse().ok() };
    let boot: f64 = roots.proc("stat").ok()?.lines().find_map(|l| l.strip_prefix("btime "))?.parse().ok()?;
    let cpu = (field(14)? + field(15)?) / TICKS_PER_SECOND;
    body.counter("process_cpu_seconds_total", "CPU time that this process used").sample(&[], cpu);
    body.gauge("process_start_time_seconds", "When this process was started, in seconds since the epoch");
    body.sample(&[], boot + field(22)? / TICKS_PER_SECOND);
    body.gauge("process_virtual_memory_bytes", "Address space of this process").sample(&[], field(23)?);
    body.gauge("process_resident_memory_bytes", "Memory of this process");
    body.sample(&[], field(24)? * rustix::param::page_size() as f64);
    body.gauge("process_threads", "Threads of this process").sample(&[], field(20)?);
    if let Ok(files) = std::fs::read_dir(roots.proc.join("self/fd")) {
        body.gauge("process_open_fds", "Files that this process has open").sample(&[], files.count() as f64);
    }
    let limits = roots.proc("self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"));
    if let Some(max) = line.and_then(|l| l.split_ascii_whitespace().next()?.parse().ok()) {
        body.gauge("process_max_fds", "Files that this process may have open").sample(&[], max);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(target_os = "linux")]
    fn tells_of_this_process() {
        let text = super::process_metrics();
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_max_fds",
        ] {
            assert!(text.lines().any(|l| l.starts_with(name)), "{name} in {text}");
        }
    }
}
