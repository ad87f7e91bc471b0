//! Networking as /proc/net tells it: devices, protocols, sockets, queues.

use std::collections::BTreeMap;
use std::io;

use super::body::Body;
use super::collector::{Roots, malformed};

/// Page size of every machine that has no other; the kernel counts socket memory in pages.
fn page_bytes() -> f64 {
    rustix::param::page_size() as f64
}

/// /proc/net/dev: `  eth0: bytes packets errs drop fifo frame compressed multicast | bytes … `.
pub fn netdev(roots: &Roots, body: &mut Body) -> io::Result<()> {
    const COLUMNS: [(&str, &str); 16] = [
        ("receive_bytes", "Bytes received"),
        ("receive_packets", "Packets received"),
        ("receive_errs", "Packets received with an error"),
        ("receive_drop", "Packets received and dropped"),
        ("receive_fifo", "Packets lost to a full receive queue"),
        ("receive_frame", "Packets received with a framing error"),
        ("receive_compressed", "Compressed packets received"),
        ("receive_multicast", "Multicast packets received"),
        ("transmit_bytes", "Bytes sent"),
        ("transmit_packets", "Packets sent"),
        ("transmit_errs", "Packets not sent because of an error"),
        ("transmit_drop", "Packets dropped before they were sent"),
        ("transmit_fifo", "Packets lost to a full send queue"),
        ("transmit_colls", "Collisions"),
        ("transmit_carrier", "Packets not sent for lack of a carrier"),
        ("transmit_compressed", "Compressed packets sent"),
    ];
    let text = roots.proc("net/dev")?;
    let mut devices: Vec<(&str, Vec<f64>)> = Vec::new();
    for line in text.lines().skip(2) {
        let (device, rest) = line.split_once(':').ok_or_else(|| malformed("net/dev"))?;
        let values: Vec<f64> = rest.split_ascii_whitespace().map_while(|w| w.parse().ok()).collect();
        if values.len() < COLUMNS.len() {
            return Err(malformed("net/dev"));
        }
        devices.push((device.trim(), values));
    }
    for (i, (name, help)) in COLUMNS.iter().enumerate() {
        body.counter(&format!("node_network_{name}_total"), help);
        for (device, values) in &devices {
            body.sample(&[("device", device)], values[i]);
        }
    }
    body.counter("node_network_receive_nohandler_total", "Packets received that no protocol took");
    for (device, _) in &devices {
        if let Ok(value) = roots.sys(&format!("class/net/{device}/statistics/rx_nohandler")) {
            body.sample(&[("device", device)], value.parse().map_err(|_| malformed("rx_nohandler"))?);
        }
    }
    Ok(())
}

/// Protocol counters of /proc/net/snmp, netstat and snmp6, those that node_exporter takes by default.
pub fn netstat(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let mut fields: BTreeMap<String, f64> = BTreeMap::new();
    for file in ["net/netstat", "net/snmp"] {
        let text = roots.proc(file)?;
        let lines: Vec<&str> = text.lines().collect();
        // A line of names, then a line of values, both begun by the protocol.
        for pair in lines.chunks_exact(2) {
            let (protocol, names) = pair[0].split_once(':').ok_or_else(|| malformed(file))?;
            let (_, values) = pair[1].split_once(':').ok_or_else(|| malformed(file))?;
            for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
                fields.insert(format!("{protocol}_{name}"), value.parse().map_err(|_| malformed(file))?);
            }
        }
    }
    // Missing where IPv6 is switched off.
    for line in roots.proc("net/snmp6").unwrap_or_default().lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse))
            && let Some(six) = name.find('6')
        {
            let (protocol, field) = name.split_at(six + 1);
            fields.insert(format!("{protocol}_{field}"), value);
        }
    }
    for (name, value) in fields.iter().filter(|(name, _)| is_wanted(name)) {
        body.untyped(&format!("node_netstat_{name}"), &format!("The protocol counter {name}"))
            .sample(&[], *value);
    }
    Ok(())
}

fn is_wanted(name: &str) -> bool {
    let Some((protocol, field)) = name.split_once('_') else { return false };
    if matches!(field, "InErrors" | "InErrs") {
        return true;
    }
    match protocol {
        "Ip" => field == "Forwarding",
        "Ip6" | "IpExt" => matches!(field, "InOctets" | "OutOctets"),
        "Icmp" | "Icmp6" => matches!(field, "InMsgs" | "OutMsgs"),
        "TcpExt" => {
            field.starts_with("Listen")
                || field.starts_with("Syncookies")
                || matches!(field, "TCPSynRetrans" | "TCPTimeouts" | "TCPOFOQueue" | "TCPRcvQDrop")
        }
        "Tcp" => matches!(
            field,
            "ActiveOpens" | "InSegs" | "OutSegs" | "OutRsts" | "PassiveOpens" | "RetransSegs" | "CurrEstab"
        ),
        "Udp" | "Udp6" => {
            matches!(field, "InDatagrams" | "OutDatagrams" | "NoPorts" | "RcvbufErrors" | "SndbufErrors")
        }
        _ => false,
    }
}

/// Sockets in use by protocol.
pub fn sockstat(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let ipv4 = roots.proc("net/sockstat")?;
    let ipv6 = roots.proc("net/sockstat6").unwrap_or_default();
    for line in ipv4.lines().chain(ipv6.lines()) {
        let (protocol, rest) = line.split_once(':').ok_or_else(|| malformed("net/sockstat"))?;
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        for pair in words.chunks_exact(2) {
            let (state, value) = (pair[0], pair[1].parse::<f64>().map_err(|_| malformed("net/sockstat"))?);
            let name = format!("node_sockstat_{protocol}_{state}");
            body.gauge(&name, &format!("Sockets: {protocol}, {state}")).sample(&[], value);
            if state == "mem" {
                let help = format!("Memory of {protocol} sockets in bytes");
                body.gauge(&format!("{name}_bytes"), &help).sample(&[], value * page_bytes());
            }
        }
    }
    Ok(())
}

/// /proc/net/softnet_stat: one line of hexadecimal columns per CPU.
pub fn softnet(roots: &Roots, body: &mut Body) -> io::Result<()> {
    const COLUMNS: [(usize, &str, bool, &str); 7] = [
        (0, "processed_total", true, "Packets that were processed"),
        (1, "dropped_total", true, "Packets that were dropped because the queue was full"),
        (2, "times_squeezed_total", true, "Times that processing stopped because its quota was used up"),
        (8, "cpu_collision_total", true, "Collisions over a device lock while sending"),
        (9, "received_rps_total", true, "Times that the CPU was woken to process packets of another"),
        (10, "flow_limit_count_total", true, "Times that the flow limit was reached"),
        (11, "backlog_len", false, "Packets that wait to be processed"),
    ];
    let text = roots.proc("net/softnet_stat")?;
    let mut rows: Vec<(String, Vec<u32>)> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let values: Option<Vec<u32>> =
            line.split_ascii_whitespace().map(|w| u32::from_str_radix(w, 16).ok()).collect();
        let values = values.ok_or_else(|| malformed("net/softnet_stat"))?;
        // Newer kernels name the CPU; before, the line's number is all there is.
        let cpu = values.get(12).map_or_else(|| i.to_string(), u32::to_string);
        rows.push((cpu, values));
    }
    for (at, name, counter, help) in COLUMNS {
        if !rows.iter().any(|(_, values)| values.len() > at) {
            continue;
        }
        let name = format!("node_softnet_{name}");
        if counter {
            body.counter(&name, help)
        } else {
            body.gauge(&name, help)
        };
        for (cpu, values) in rows.iter().filter(|(_, values)| values.len() > at) {
            body.sample(&[("cpu", cpu)], f64::from(values[at]));
        }
    }
    Ok(())
}

/// Entries of the ARP table by device.
pub fn arp(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let text = roots.proc("net/arp")?;
    let mut entries: BTreeMap<&str, u32> = BTreeMap::new();
    for line in text.lines().skip(1) {
        let device = line.split_ascii_whitespace().nth(5).ok_or_else(|| malformed("net/arp"))?;
        *entries.entry(device).or_default() += 1;
    }
    body.gauge("node_arp_entries", "Entries of the ARP table by device");
    for (device, n) in entries {
        body.sample(&[("device", device)], f64::from(n));
    }
    Ok(())
}

/// Bytes that wait in UDP sockets, from /proc/net/udp and udp6.
pub fn udp_queues(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let mut rows = Vec::new();
    for (file, ip) in [("net/udp", "v4"), ("net/udp6", "v6")] {
        let Ok(text) = roots.proc(file) else { continue };
        let (mut tx, mut rx) = (0.0, 0.0);
        for line in text.lines().skip(1) {
            let queues = line.split_ascii_whitespace().nth(4).and_then(|w| w.split_once(':'));
            let (t, r) = queues.ok_or_else(|| malformed(file))?;
            let hex = |s: &str| u64::from_str_radix(s, 16).map_err(|_| malformed(file));
            tx += hex(t)? as f64;
            rx += hex(r)? as f64;
        }
        rows.push((ip, tx, rx));
    }
    if rows.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is no UDP"));
    }
    body.gauge("node_udp_queues", "Bytes that wait in UDP sockets");
    for (ip, tx, rx) in rows {
        body.sample(&[("ip", ip), ("queue", "tx")], tx).sample(&[("ip", ip), ("queue", "rx")], rx);
    }
    Ok(())
}

/// Connection tracking: its table, and what happened in it, summed over the CPUs.
pub fn conntrack(roots: &Roots, body: &mut Body) -> io::Result<()> {
    const STATS: [(&str, &str); 8] = [
        ("found", "Look-ups that found an entry"),
        ("invalid", "Packets that cannot be tracked"),
        ("ignore", "Packets that were tracked already"),
        ("insert", "Entries that were added"),
        ("insert_failed", "Entries that could not be added"),
        ("drop", "Packets dropped because tracking failed"),
        ("early_drop", "Entries dropped to make room for new ones"),
        ("search_restart", "Look-ups that had to start again"),
    ];
    let number =
        |file: &str| -> io::Result<f64> { roots.proc(file)?.trim().parse().map_err(|_| malformed(file)) };
    let (entries, limit) =
        (number("sys/net/netfilter/nf_conntrack_count")?, number("sys/net/netfilter/nf_conntrack_max")?);
    body.gauge("node_nf_conntrack_entries", "Connections that are tracked").sample(&[], entries);
    body.gauge("node_nf_conntrack_entries_limit", "Connections that can be tracked").sample(&[], limit);
    let Ok(text) = roots.proc("net/stat/nf_conntrack") else { return Ok(()) };
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or_default().split_ascii_whitespace().collect();
    let mut sums = vec![0u64; names.len()];
    for line in lines {
        for (sum, word) in sums.iter_mut().zip(line.split_ascii_whitespace()) {
            *sum += u64::from_str_radix(word, 16).map_err(|_| malformed("net/stat/nf_conntrack"))?;
        }
    }
    for (name, help) in STATS {
        if let Some(at) = names.iter().position(|n| *n == name) {
            body.gauge(&format!("node_nf_conntrack_stat_{name}"), help).sample(&[], sums[at] as f64);
        }
    }
    Ok(())
}
