//! /proc/diskstats: reads, writes, discards and flushes of block devices.

use std::io;

use super::body::Body;
use super::collector::{Roots, malformed};

/// The kernel counts in sectors of 512 bytes, whatever the device's own.
const SECTOR_BYTES: f64 = 512.0;
const MS: f64 = 0.001;

struct Column {
    name: &'static str,
    counter: bool,
    factor: f64,
    help: &'static str,
}

const fn column(name: &'static str, counter: bool, factor: f64, help: &'static str) -> Column {
    Column { name, counter, factor, help }
}

/// The fields after the device's name, in the kernel's order (Documentation/admin-guide/iostats.rst).
const COLUMNS: [Column; 17] = [
    column("reads_completed_total", true, 1.0, "Reads that completed"),
    column("reads_merged_total", true, 1.0, "Reads that were merged into others"),
    column("read_bytes_total", true, SECTOR_BYTES, "Bytes that were read"),
    column("read_time_seconds_total", true, MS, "Seconds that all reads took"),
    column("writes_completed_total", true, 1.0, "Writes that completed"),
    column("writes_merged_total", true, 1.0, "Writes that were merged into others"),
    column("written_bytes_total", true, SECTOR_BYTES, "Bytes that were written"),
    column("write_time_seconds_total", true, MS, "Seconds that all writes took"),
    column("io_now", false, 1.0, "I/Os in progress"),
    column("io_time_seconds_total", true, MS, "Seconds in which the device was busy"),
    column(
        "io_time_weighted_seconds_total",
        true,
        MS,
        "Seconds in which the device was busy, times the I/Os in progress",
    ),
    column("discards_completed_total", true, 1.0, "Discards that completed"),
    column("discards_merged_total", true, 1.0, "Discards that were merged into others"),
    column("discarded_sectors_total", true, 1.0, "Sectors that were discarded"),
    column("discard_time_seconds_total", true, MS, "Seconds that all discards took"),
    column("flush_requests_total", true, 1.0, "Flushes that completed"),
    column("flush_requests_time_seconds_total", true, MS, "Seconds that all flushes took"),
];

struct Device<'a> {
    name: &'a str,
    major: &'a str,
    minor: &'a str,
    fields: Vec<f64>,
}

pub fn diskstats(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let text = roots.proc("diskstats")?;
    let mut devices = Vec::new();
    for line in text.lines() {
        let device = parse(line).ok_or_else(|| malformed("diskstats"))?;
        if !is_partition_or_virtual(device.name) {
            devices.push(device);
        }
    }
    for (i, column) in COLUMNS.iter().enumerate() {
        // Older kernels have fewer fields.
        if !devices.iter().any(|d| d.fields.len() > i) {
            continue;
        }
        let name = format!("node_disk_{}", column.name);
        if column.counter {
            body.counter(&name, column.help)
        } else {
            body.gauge(&name, column.help)
        };
        for d in devices.iter().filter(|d| d.fields.len() > i) {
            body.sample(&[("device", d.name)], d.fields[i] * column.factor);
        }
    }
    body.gauge("node_disk_info", "What is known of a block device; always 1");
    for d in &devices {
        let file = |path: &str| roots.sys(&format!("block/{}/{path}", d.name)).unwrap_or_default();
        let (model, serial, rotational) = (file("device/model"), file("serial"), file("queue/rotational"));
        let (revision, wwn) = (file("device/rev"), file("wwid"));
        let labels = [
            ("device", d.name),
            ("major", d.major),
            ("minor", d.minor),
            ("model", model.trim()),
            ("path", ""),
            ("revision", revision.trim()),
            ("rotational", rotational.trim()),
            ("serial", serial.trim()),
            ("wwn", wwn.trim()),
        ];
        body.sample(&labels, 1.0);
    }
    Ok(())
}

fn parse(line: &str) -> Option<Device<'_>> {
    let mut words = line.split_ascii_whitespace();
    let (major, minor, name) = (words.next()?, words.next()?, words.next()?);
    Some(Device { name, major, minor, fields: words.map_while(|w| w.parse().ok()).collect() })
}

/// What node_exporter leaves out: RAM disks, loops, floppies, and partitions (their disk is counted).
fn is_partition_or_virtual(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == name.len() {
        return false;
    }
    if matches!(stem, "zram" | "ram" | "loop" | "fd") {
        return true;
    }
    let disk_with_letter = ["xvd", "hd", "sd", "vd"].iter().any(|p| {
        stem.strip_prefix(p)
            .is_some_and(|letter| letter.len() == 1 && letter.bytes().all(|b| b.is_ascii_lowercase()))
    });
    let nvme_partition = stem.starts_with("nvme") && stem.ends_with('p');
    disk_with_letter || nvme_partition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_stay_and_partitions_go() {
        for (name, left_out) in [
            ("sda", false),
            ("sda1", true),
            ("nvme0n1", false),
            ("nvme0n1p2", true),
            ("loop3", true),
            ("dm-0", false),
            ("md127", false),
            ("vdb12", true),
        ] {
            assert_eq!(is_partition_or_virtual(name), left_out, "{name}");
        }
    }
}
