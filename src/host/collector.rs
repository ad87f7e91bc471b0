//! Runs every collector and reports on each.

use std::io;
use std::path::{Path, PathBuf};

use super::body::Body;
use super::filesystem::Filesystems;
use super::{cpu, disk, memory, network, network_class, system, timex};
use crate::clock::Clock;
use crate::model::Timestamp;

/// A file larger than this is no file of /proc or /sys that we read.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Where the kernel's files are; a test puts a copy elsewhere.
#[derive(Clone, Debug)]
pub struct Roots {
    pub proc: PathBuf,
    pub sys: PathBuf,
    pub etc: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Roots { proc: "/proc".into(), sys: "/sys".into(), etc: "/etc".into() }
    }
}

impl Roots {
    /// A file below /proc.
    pub fn proc(&self, path: &str) -> io::Result<String> {
        read(&self.proc.join(path))
    }

    /// A file below /sys, without the newline at its end.
    pub fn sys(&self, path: &str) -> io::Result<String> {
        read(&self.sys.join(path)).map(|s| s.trim_end().to_owned())
    }
}

/// Reads a text file of bounded size; what is not UTF-8 in it is replaced.
pub fn read(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

type Collect = fn(&Roots, &mut Body) -> io::Result<()>;

/// Name of each collector as node_exporter has it.
const COLLECTORS: [(&str, Collect); 22] = [
    ("arp", network::arp),
    ("clocksource", system::clocksource),
    ("conntrack", network::conntrack),
    ("cpu", cpu::cpu),
    ("diskstats", disk::diskstats),
    ("entropy", system::entropy),
    ("filefd", system::filefd),
    ("kernel_hung", system::kernel_hung),
    ("loadavg", system::loadavg),
    ("meminfo", memory::meminfo),
    ("netclass", network_class::netclass),
    ("netdev", network::netdev),
    ("netstat", network::netstat),
    ("os", system::os),
    ("pressure", memory::pressure),
    ("selinux", system::selinux),
    ("sockstat", network::sockstat),
    ("softnet", network::softnet),
    ("stat", cpu::stat),
    ("udp_queues", network::udp_queues),
    ("uname", system::uname),
    ("vmstat", memory::vmstat),
];

/// Collects this machine's metrics.
#[derive(Debug)]
pub struct HostCollector {
    roots: Roots,
    clock: Clock,
    filesystems: Filesystems,
}

impl HostCollector {
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::with_roots(clock, Roots::default())
    }

    pub(super) fn with_roots(clock: Clock, roots: Roots) -> Self {
        HostCollector { roots, clock, filesystems: Filesystems::default() }
    }

    /// Everything as a body in the text format 0.0.4. Blocks for some milliseconds.
    pub fn collect(&mut self, now: Timestamp) -> String {
        let mut body = Body::default();
        let mut outcomes: Vec<(&str, f64, bool)> = Vec::with_capacity(COLLECTORS.len() + 3);
        for (name, collect) in COLLECTORS {
            let roots = &self.roots;
            outcomes.push(run(&self.clock, name, &mut body, |b| collect(roots, b)));
        }
        let (roots, filesystems) = (&self.roots, &mut self.filesystems);
        outcomes.push(run(&self.clock, "filesystem", &mut body, |b| filesystems.collect(roots, b)));
        outcomes.push(run(&self.clock, "time", &mut body, |b| system::time(now, b)));
        outcomes.push(run(&self.clock, "timex", &mut body, timex::timex));
        body.gauge("node_scrape_collector_duration_seconds", "Time that a collector took");
        for (name, seconds, _) in &outcomes {
            body.sample(&[("collector", name)], *seconds);
        }
        body.gauge("node_scrape_collector_success", "1 if a collector found its files, else 0");
        for (name, _, success) in &outcomes {
            body.sample(&[("collector", name)], f64::from(u8::from(*success)));
        }
        body.into_text()
    }
}

/// Runs one collector; half a collector's families are none.
fn run<'a>(
    clock: &Clock,
    name: &'a str,
    body: &mut Body,
    collect: impl FnOnce(&mut Body) -> io::Result<()>,
) -> (&'a str, f64, bool) {
    let start = clock.monotonic();
    let mark = body.mark();
    let outcome = collect(body);
    if let Err(error) = &outcome {
        body.rewind(mark);
        tracing::debug!(collector = name, %error, "a host collector found nothing");
    }
    (name, (clock.monotonic() - start).as_secs_f64(), outcome.is_ok())
}

/// For a line that does not look as the kernel writes it.
pub fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("unexpected content of {what}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn families(body: &str) -> BTreeSet<&str> {
        body.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect()
    }

    #[test]
    fn nothing_is_no_failure() {
        let nowhere = Roots { proc: "/nowhere".into(), sys: "/nowhere".into(), etc: "/nowhere".into() };
        let body = HostCollector::with_roots(Clock::system(), nowhere).collect(1_500);
        assert!(body.contains("node_time_seconds 1.5\n"), "{body}");
        assert!(body.contains("node_scrape_collector_success{collector=\"cpu\"} 0\n"));
        assert!(!body.contains("node_cpu_seconds_total"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_has_at_least_fifty_families() {
        let clock = Clock::system();
        let now = clock.now_ms();
        let body = HostCollector::new(clock).collect(now);
        let families = families(&body);
        assert!(families.len() >= 50, "{families:?}");
        for name in [
            "node_cpu_seconds_total",
            "node_memory_MemAvailable_bytes",
            "node_load1",
            "node_uname_info",
            "node_boot_time_seconds",
        ] {
            assert!(families.contains(name), "{name}");
        }
    }
}
