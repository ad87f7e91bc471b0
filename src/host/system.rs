//! The machine as a whole: load, identity, clocks, file handles, entropy.

use std::io;

use super::body::Body;
use super::collector::{Roots, malformed, read};
use crate::model::Timestamp;

pub fn loadavg(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let text = roots.proc("loadavg")?;
    let mut words = text.split_ascii_whitespace();
    for (name, minutes) in [("node_load1", 1), ("node_load5", 5), ("node_load15", 15)] {
        let value = words.next().and_then(|w| w.parse().ok()).ok_or_else(|| malformed("loadavg"))?;
        body.gauge(name, &format!("Load average over {minutes} min")).sample(&[], value);
    }
    Ok(())
}

pub fn filefd(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let text = roots.proc("sys/fs/file-nr")?;
    let values: Vec<f64> = text.split_ascii_whitespace().filter_map(|w| w.parse().ok()).collect();
    let [allocated, _, maximum] = values[..] else { return Err(malformed("file-nr")) };
    body.gauge("node_filefd_allocated", "File handles in use").sample(&[], allocated);
    body.gauge("node_filefd_maximum", "File handles that can be in use").sample(&[], maximum);
    Ok(())
}

pub fn entropy(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let number =
        |file: &str| -> io::Result<f64> { roots.proc(file)?.trim().parse().map_err(|_| malformed(file)) };
    let available = number("sys/kernel/random/entropy_avail")?;
    body.gauge("node_entropy_available_bits", "Bits of entropy at hand").sample(&[], available);
    let size = number("sys/kernel/random/poolsize")?;
    body.gauge("node_entropy_pool_size_bits", "Bits of entropy that the pool holds").sample(&[], size);
    Ok(())
}

pub fn kernel_hung(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let text = roots.proc("sys/kernel/hung_task_detect_count")?;
    let count = text.trim().parse().map_err(|_| malformed("hung_task_detect_count"))?;
    body.counter("node_kernel_hung_tasks_total", "Tasks found hanging since the start").sample(&[], count);
    Ok(())
}

pub fn selinux(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let enabled = roots.sys.join("fs/selinux/enforce").exists();
    body.gauge("node_selinux_enabled", "1 if SELinux is on, else 0")
        .sample(&[], f64::from(u8::from(enabled)));
    Ok(())
}

pub fn uname(_roots: &Roots, body: &mut Body) -> io::Result<()> {
    let u = rustix::system::uname();
    let text = |c: &std::ffi::CStr| c.to_string_lossy().into_owned();
    #[cfg(target_os = "linux")]
    let domainname = text(u.domainname());
    #[cfg(not(target_os = "linux"))]
    let domainname = "(none)".to_owned();
    let labels = [
        ("domainname", &*domainname),
        ("machine", &*text(u.machine())),
        ("nodename", &*text(u.nodename())),
        ("release", &*text(u.release())),
        ("sysname", &*text(u.sysname())),
        ("version", &*text(u.version())),
    ];
    body.gauge("node_uname_info", "What the system calls itself; always 1").sample(&labels, 1.0);
    Ok(())
}

/// /etc/os-release (os-release(5)).
pub fn os(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let text = read(&roots.etc.join("os-release"))?;
    let field = |key: &str| -> &str {
        let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('='));
        line.map_or("", |v| v.trim().trim_matches(['"', '\'']))
    };
    const FIELDS: [(&str, &str); 12] = [
        ("build_id", "BUILD_ID"),
        ("id", "ID"),
        ("id_like", "ID_LIKE"),
        ("image_id", "IMAGE_ID"),
        ("image_version", "IMAGE_VERSION"),
        ("name", "NAME"),
        ("pretty_name", "PRETTY_NAME"),
        ("variant", "VARIANT"),
        ("variant_id", "VARIANT_ID"),
        ("version", "VERSION"),
        ("version_codename", "VERSION_CODENAME"),
        ("version_id", "VERSION_ID"),
    ];
    let labels = FIELDS.map(|(label, key)| (label, field(key)));
    body.gauge("node_os_info", "What the distribution calls itself; always 1").sample(&labels, 1.0);
    // 12.5.1 counts as 12.5; a rolling release has none.
    let mut parts = field("VERSION_ID").splitn(3, '.');
    let version = [parts.next().unwrap_or_default(), parts.next().unwrap_or("0")].join(".");
    if let Ok(version) = version.parse() {
        body.gauge("node_os_version", "Major and minor version of the distribution as a number");
        body.sample(&[("id", field("ID")), ("id_like", field("ID_LIKE")), ("name", field("NAME"))], version);
    }
    Ok(())
}

/// The clock that everything else here is stamped with.
pub fn time(now: Timestamp, body: &mut Body) -> io::Result<()> {
    body.gauge("node_time_seconds", "The machine's time in seconds since the epoch")
        .sample(&[], now as f64 / 1000.0);
    let zone = chrono::DateTime::from_timestamp_millis(now).map(|t| t.with_timezone(&chrono::Local));
    if let Some(local) = zone {
        let offset = f64::from(local.offset().local_minus_utc());
        let name = if offset == 0.0 { "UTC".to_owned() } else { local.format("%Z").to_string() };
        body.gauge("node_time_zone_offset_seconds", "Offset of the local time zone")
            .sample(&[("time_zone", &name)], offset);
    }
    Ok(())
}

/// Clock sources that the kernel has, and the one it uses.
pub fn clocksource(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let directory = "devices/system/clocksource/clocksource0";
    let available = roots.sys(&format!("{directory}/available_clocksource"))?;
    let current = roots.sys(&format!("{directory}/current_clocksource"))?;
    body.gauge("node_time_clocksource_available_info", "Clock sources that the kernel has; always 1");
    for source in available.split_ascii_whitespace() {
        body.sample(&[("clocksource", source), ("device", "0")], 1.0);
    }
    body.gauge("node_time_clocksource_current_info", "Clock source that the kernel uses; always 1");
    body.sample(&[("clocksource", current.trim()), ("device", "0")], 1.0);
    Ok(())
}
