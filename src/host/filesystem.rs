//! Sizes of mounted file systems.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::Duration;

use super::body::Body;
use super::collector::{Roots, malformed};

/// Kernel and container file systems that hold no data of their own.
const TYPES_LEFT_OUT: [&str; 25] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "erofs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "procfs",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];
const MOUNTS_LEFT_OUT: [&str; 6] =
    ["/dev", "/proc", "/sys", "/run/credentials", "/var/lib/docker", "/var/lib/containers/storage"];
/// File systems behind a network or a user process may never answer.
const TYPES_THAT_MAY_HANG: [&str; 9] =
    ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "afs", "virtiofs"];
/// How long such a one may take before it counts as failed.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mount {
    device: String,
    mountpoint: String,
    fstype: String,
    major: String,
    minor: String,
    read_only: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    size: f64,
    free: f64,
    available: f64,
    files: f64,
    files_free: f64,
}

/// Name, help and value of one family.
type Column = (&'static str, &'static str, fn(&Sizes) -> f64);

/// Remembers which mounts have not answered yet, so that they are asked once and not each time.
#[derive(Debug, Default)]
pub struct Filesystems {
    waiting: BTreeMap<String, Receiver<Result<Sizes, String>>>,
}

impl Filesystems {
    pub fn collect(&mut self, roots: &Roots, body: &mut Body) -> io::Result<()> {
        // The view of process 1 is the host's; in a container it may not be readable.
        let text = roots.proc("1/mountinfo").or_else(|_| roots.proc("self/mountinfo"))?;
        let mounts = parse(&text)?;
        let measured: Vec<(&Mount, Result<Sizes, String>)> =
            mounts.iter().map(|m| (m, self.sizes(m))).collect();
        let columns: [Column; 5] = [
            ("size_bytes", "Size of the file system", |s| s.size),
            ("free_bytes", "Free space, including what only root may use", |s| s.free),
            ("avail_bytes", "Free space for everyone", |s| s.available),
            ("files", "File nodes", |s| s.files),
            ("files_free", "Free file nodes", |s| s.files_free),
        ];
        for (name, help, value) in columns {
            body.gauge(&format!("node_filesystem_{name}"), help);
            for (mount, sizes) in &measured {
                if let Ok(sizes) = sizes {
                    body.sample(&labels(mount, ""), value(sizes));
                }
            }
        }
        body.gauge("node_filesystem_readonly", "1 if the file system is mounted read-only");
        for (mount, sizes) in &measured {
            let error = sizes.as_ref().err().map_or("", String::as_str);
            body.sample(&labels(mount, error), f64::from(u8::from(mount.read_only)));
        }
        body.gauge("node_filesystem_device_error", "1 if the sizes of the file system cannot be read");
        for (mount, sizes) in &measured {
            let error = sizes.as_ref().err().map_or("", String::as_str);
            body.sample(&labels(mount, error), f64::from(u8::from(sizes.is_err())));
        }
        body.gauge("node_filesystem_mount_info", "What is known of a mount; always 1");
        for (m, _) in &measured {
            body.sample(
                &[
                    ("device", &m.device),
                    ("major", &m.major),
                    ("minor", &m.minor),
                    ("mountpoint", &m.mountpoint),
                ],
                1.0,
            );
        }
        Ok(())
    }

    fn sizes(&mut self, mount: &Mount) -> Result<Sizes, String> {
        let may_hang =
            TYPES_THAT_MAY_HANG.contains(&mount.fstype.as_str()) || mount.fstype.starts_with("fuse");
        if !may_hang {
            return statvfs(&mount.mountpoint);
        }
        if let Some(answer) = self.waiting.get(&mount.mountpoint) {
            match answer.try_recv() {
                Err(TryRecvError::Empty) => return Err("mountpoint timeout".to_owned()),
                Ok(_) | Err(TryRecvError::Disconnected) => self.waiting.remove(&mount.mountpoint),
            };
        }
        let (tell, answer) = channel();
        let mountpoint = mount.mountpoint.clone();
        // The thread ends with the answer, however late; until then the mount is not asked again.
        let started = std::thread::Builder::new().name("statvfs".into()).spawn(move || {
            let _nobody_waits = tell.send(statvfs(&mountpoint));
        });
        started.map_err(|e| e.to_string())?;
        match answer.recv_timeout(ANSWER_WITHIN) {
            Ok(sizes) => sizes,
            Err(RecvTimeoutError::Disconnected) => Err("no answer".to_owned()),
            Err(RecvTimeoutError::Timeout) => {
                self.waiting.insert(mount.mountpoint.clone(), answer);
                Err("mountpoint timeout".to_owned())
            }
        }
    }
}

fn labels<'a>(mount: &'a Mount, error: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("device", &mount.device),
        ("device_error", error),
        ("fstype", &mount.fstype),
        ("mountpoint", &mount.mountpoint),
    ]
}

fn statvfs(mountpoint: &str) -> Result<Sizes, String> {
    let s = rustix::fs::statvfs(mountpoint).map_err(|e| e.to_string())?;
    let block = s.f_frsize as f64;
    Ok(Sizes {
        size: s.f_blocks as f64 * block,
        free: s.f_bfree as f64 * block,
        available: s.f_bavail as f64 * block,
        files: s.f_files as f64,
        files_free: s.f_ffree as f64,
    })
}

/// Lines of mountinfo (proc(5)): `ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [FIELDS…] - TYPE DEVICE SUPER`.
/// A mount point that is mounted over appears once, as what lies on top.
fn parse(text: &str) -> io::Result<Vec<Mount>> {
    let mut seen = BTreeSet::new();
    let mut mounts = Vec::new();
    for line in text.lines().rev() {
        let fields = || malformed("mountinfo");
        let (left, right) = line.split_once(" - ").ok_or_else(fields)?;
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let ([_, _, device_number, _, mountpoint, options, ..], [fstype, device, ..]) =
            (left.as_slice(), right.as_slice())
        else {
            return Err(fields());
        };
        let mountpoint = unescape(mountpoint);
        let left_out = MOUNTS_LEFT_OUT
            .iter()
            .any(|m| mountpoint.strip_prefix(m).is_some_and(|r| r.is_empty() || r.starts_with('/')));
        if left_out || TYPES_LEFT_OUT.contains(fstype) || !seen.insert(mountpoint.clone()) {
            continue;
        }
        let (major, minor) = device_number.split_once(':').ok_or_else(fields)?;
        mounts.push(Mount {
            device: unescape(device),
            mountpoint,
            fstype: (*fstype).to_owned(),
            major: major.to_owned(),
            minor: minor.to_owned(),
            read_only: options.split(',').any(|o| o == "ro"),
        });
    }
    mounts.reverse();
    Ok(mounts)
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |t, (from, to)| t.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_mountinfo() {
        let text = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                    23 22 0:5 / /proc rw - proc proc rw\n\
                    24 22 8:1 / /mnt/my\\040disk ro,nosuid - xfs /dev/sda1 ro\n\
                    25 22 0:9 / /devices rw - ext4 /dev/sdb rw\n";
        let mounts = parse(text).unwrap();
        let got: Vec<(&str, &str, bool)> =
            mounts.iter().map(|m| (m.mountpoint.as_str(), m.device.as_str(), m.read_only)).collect();
        assert_eq!(
            got,
            [("/", "/dev/vda", false), ("/mnt/my disk", "/dev/sda1", true), ("/devices", "/dev/sdb", false)]
        );
        assert!(parse("nonsense").is_err());
    }
}
