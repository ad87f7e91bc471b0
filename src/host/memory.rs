//! Memory: /proc/meminfo, /proc/vmstat, and the pressure that stalls cause.

use std::io;

use super::body::Body;
use super::collector::{Roots, malformed};

/// /proc/meminfo; kB become bytes.
pub fn meminfo(roots: &Roots, body: &mut Body) -> io::Result<()> {
    for line in roots.proc("meminfo")?.lines() {
        let (key, rest) = line.split_once(':').ok_or_else(|| malformed("meminfo"))?;
        let mut words = rest.split_ascii_whitespace();
        let value: f64 = words.next().and_then(|v| v.parse().ok()).ok_or_else(|| malformed("meminfo"))?;
        let (suffix, factor) = if words.next() == Some("kB") { ("_bytes", 1024.0) } else { ("", 1.0) };
        // Active(anon) is named Active_anon.
        let key = key.replace('(', "_").replace(')', "");
        let field = format!("{key}{suffix}");
        body.gauge(&format!("node_memory_{field}"), &format!("The field {field} of /proc/meminfo"));
        body.sample(&[], value * factor);
    }
    Ok(())
}

/// Paging and out-of-memory kills from /proc/vmstat.
pub fn vmstat(roots: &Roots, body: &mut Body) -> io::Result<()> {
    for line in roots.proc("vmstat")?.lines() {
        let (key, value) = line.split_once(' ').ok_or_else(|| malformed("vmstat"))?;
        let fault = key.starts_with("pg") && key.contains("fault");
        if !fault && !["oom_kill", "pgpg", "pswp"].iter().any(|p| key.starts_with(p)) {
            continue;
        }
        let value = value.trim().parse().map_err(|_| malformed("vmstat"))?;
        body.untyped(&format!("node_vmstat_{key}"), &format!("The field {key} of /proc/vmstat"))
            .sample(&[], value);
    }
    Ok(())
}

/// Pressure stall information: how long tasks waited, in seconds.
pub fn pressure(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let resources = [
        ("cpu", "CPU time", false),
        ("io", "I/O", true),
        ("memory", "memory", true),
        ("irq", "interrupts", true),
    ];
    let mut found = false;
    for (resource, what, has_full) in resources {
        let Ok(text) = roots.proc(&format!("pressure/{resource}")) else { continue };
        found = true;
        let seconds = |kind: &str| -> Option<f64> {
            let line = text.lines().find(|l| l.starts_with(kind))?;
            let micros: f64 = line.rsplit_once("total=")?.1.parse().ok()?;
            Some(micros / 1e6)
        };
        if let Some(some) = seconds("some") {
            let help = format!("Seconds in which some task waited for {what}");
            body.counter(&format!("node_pressure_{resource}_waiting_seconds_total"), &help).sample(&[], some);
        }
        if let Some(full) = seconds("full").filter(|_| has_full) {
            let help = format!("Seconds in which all tasks waited for {what}");
            body.counter(&format!("node_pressure_{resource}_stalled_seconds_total"), &help).sample(&[], full);
        }
    }
    if found {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, "this kernel keeps no pressure information"))
    }
}
