//! Properties of network devices from /sys/class/net.

use std::io;

use super::body::Body;
use super::collector::Roots;

struct Property {
    file: &'static str,
    name: &'static str,
    counter: bool,
    /// From the file's unit to the metric's.
    factor: f64,
    help: &'static str,
}

const fn gauge(file: &'static str, name: &'static str, help: &'static str) -> Property {
    Property { file, name, counter: false, factor: 1.0, help }
}

const PROPERTIES: [Property; 18] = [
    gauge("addr_assign_type", "address_assign_type", "How the address was assigned"),
    gauge("carrier", "carrier", "1 if the device has a carrier"),
    Property {
        counter: true,
        ..gauge("carrier_changes", "carrier_changes_total", "Times that the carrier changed")
    },
    Property {
        counter: true,
        ..gauge("carrier_up_count", "carrier_up_changes_total", "Times that the carrier came up")
    },
    Property {
        counter: true,
        ..gauge("carrier_down_count", "carrier_down_changes_total", "Times that the carrier went down")
    },
    gauge("dev_id", "device_id", "Number that tells devices with one address apart"),
    gauge("dormant", "dormant", "1 if the device waits for something outside"),
    gauge("flags", "flags", "The device's flags"),
    gauge("ifindex", "iface_id", "The device's index"),
    gauge("iflink", "iface_link", "Index of the device that this one sits on"),
    gauge("link_mode", "iface_link_mode", "Link mode of the device"),
    gauge("mtu", "mtu_bytes", "Largest packet that the device takes"),
    gauge("name_assign_type", "name_assign_type", "How the name was assigned"),
    gauge("netdev_group", "net_dev_group", "Group of the device"),
    // The kernel counts in megabits per second.
    Property {
        factor: 1_000_000.0 / 8.0,
        ..gauge("speed", "speed_bytes", "Speed of the link in bytes per second")
    },
    gauge("tx_queue_len", "transmit_queue_length", "Length of the send queue"),
    gauge("type", "protocol_type", "Protocol of the device (ARPHRD)"),
    gauge("operstate", "up", "1 if the device is in operation"),
];

pub fn netclass(roots: &Roots, body: &mut Body) -> io::Result<()> {
    let mut devices: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(roots.sys.join("class/net"))? {
        let entry = entry?;
        // bonding_masters is a file, not a device.
        if entry.path().is_dir() {
            devices.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    devices.sort();
    for property in &PROPERTIES {
        // A device may refuse to read a property (the speed of one that is down).
        let values: Vec<(&str, f64)> = devices
            .iter()
            .filter_map(|d| {
                Some((d.as_str(), number(&roots.sys(&format!("class/net/{d}/{}", property.file)).ok()?)?))
            })
            .collect();
        if values.is_empty() {
            continue;
        }
        let name = format!("node_network_{}", property.name);
        if property.counter {
            body.counter(&name, property.help)
        } else {
            body.gauge(&name, property.help)
        };
        for (device, value) in values {
            body.sample(&[("device", device)], value * property.factor);
        }
    }
    body.gauge("node_network_info", "What is known of a network device; always 1");
    for device in &devices {
        let file = |name: &str| roots.sys(&format!("class/net/{device}/{name}")).unwrap_or_default();
        let flags = number(&file("flags")).unwrap_or(0.0) as u64;
        let adminstate = if flags & 1 == 1 { "up" } else { "down" };
        let labels = [
            ("address", &*file("address")),
            ("adminstate", adminstate),
            ("broadcast", &*file("broadcast")),
            ("device", device),
            ("duplex", &*file("duplex")),
            ("ifalias", &*file("ifalias")),
            ("operstate", &*file("operstate")),
        ];
        body.sample(&labels, 1.0);
    }
    Ok(())
}

/// A decimal or hexadecimal number; of the operating states only `up` counts.
fn number(text: &str) -> Option<f64> {
    if let Some(hex) = text.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok().map(|n| n as f64);
    }
    match text.parse::<f64>() {
        Ok(n) => Some(n),
        Err(_) if text == "up" => Some(1.0),
        Err(_) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase()) => Some(0.0),
        Err(_) => None,
    }
}
