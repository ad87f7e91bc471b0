//! Compares the host metrics with Debian's node-exporter on this machine: names, types and label names.
//! Skipped, visibly, where no node-exporter is found on PATH, in $STREAMGATE_PEERS or under target/peers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Families of node_exporter that we do not have, and why.
const LEFT_OUT: [(&str, &str); 3] = [
    ("node_exporter_build_info", "tells of node_exporter itself"),
    ("node_textfile_scrape_error", "there is no text file collector"),
    ("node_filesystem_purgeable_bytes", "macOS only; always 0 here"),
];
/// Families that come and go with the hardware; where they are present, we do not have them yet.
const HARDWARE: [&str; 22] = [
    "node_hwmon",
    "node_thermal",
    "node_cooling",
    "node_cpu_scaling",
    "node_cpu_frequency",
    "node_cpu_core_throttles",
    "node_cpu_package_throttles",
    "node_edac",
    "node_md",
    "node_nvme",
    "node_power_supply",
    "node_rapl",
    "node_xfs",
    "node_zfs",
    "node_btrfs",
    "node_infiniband",
    "node_bonding",
    "node_dmi",
    "node_schedstat",
    "node_drm",
    "node_nfs",
    "node_watchdog",
];

type Families = BTreeMap<String, (String, BTreeSet<String>)>;

struct Exporter(Child);

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn exporter() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|p| std::env::split_paths(&p).collect()).unwrap_or_default();
    folders.extend(std::env::var_os("STREAMGATE_PEERS").map(PathBuf::from));
    folders.push(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/peers/root/usr/bin"));
    folders.into_iter().map(|f| f.join("prometheus-node-exporter")).find(|f| f.is_file())
}

/// Starts the exporter on a free port, which it names in its log, and fetches its metrics.
fn fetch(program: &PathBuf) -> String {
    let mut child = Exporter(
        Command::new(program)
            .arg("--web.listen-address=127.0.0.1:0")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut log = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let address = log
        .find_map(|line| {
            Some(line.unwrap().split_once("address=127.0.0.1:")?.1.split(' ').next()?.to_owned())
        })
        .expect("the exporter says where it listens");
    std::thread::spawn(move || log.for_each(drop));
    let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{address}")).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn families(text: &str) -> Families {
    let mut families = Families::new();
    for line in text.lines().filter(|l| l.contains("node_")) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.entry(name.to_owned()).or_default().0 = kind.to_owned();
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let labels = line.split_once('{').map_or("", |(_, l)| l.rsplit_once('}').unwrap().0);
            let names = labels.split("\",").filter_map(|p| p.split_once('=')).map(|(n, _)| n.to_owned());
            families.entry(name.to_owned()).or_default().1.extend(names);
        }
    }
    families
}

#[test]
#[cfg(target_os = "linux")]
fn names_types_and_labels_are_node_exporters() {
    let Some(program) = exporter() else {
        // Printing macros are silent in a test that passes.
        std::io::stderr().write_all(b"\nSKIPPED: prometheus-node-exporter is not installed\n").unwrap();
        return;
    };
    let theirs = families(&fetch(&program));
    let clock = streamgate::clock::Clock::system();
    let now = clock.now_ms();
    let ours = families(&streamgate::host::HostCollector::new(clock).collect(now));
    let mut wrong = Vec::new();
    for (name, (kind, labels)) in &theirs {
        if let Some((_, why)) = LEFT_OUT.iter().find(|(n, _)| n == name) {
            println!("left out: {name}: {why}");
            continue;
        }
        if HARDWARE.iter().any(|h| name.starts_with(h)) {
            println!("left out: {name}: hardware of this machine");
            continue;
        }
        match ours.get(name) {
            None => wrong.push(format!("{name} is missing")),
            Some((k, _)) if k != kind => wrong.push(format!("{name} is a {k}, there a {kind}")),
            // One collector of ours stands for each of theirs that we have.
            Some((_, l)) if l != labels => wrong.push(format!("{name} has labels {l:?}, there {labels:?}")),
            Some(_) => {}
        }
    }
    // The kernel names the fields of meminfo: where node_exporter does not know one yet, we have it all the same.
    let ours_alone =
        ours.keys().filter(|name| !theirs.contains_key(*name) && !name.starts_with("node_memory_"));
    wrong.extend(ours_alone.map(|name| format!("{name} is not node_exporter's")));
    println!("{} families, node_exporter has {}", ours.len(), theirs.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
