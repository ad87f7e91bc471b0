//! How much memory there is for us.

use std::path::Path;

/// Taken for the machine's memory where it cannot be asked.
#[cfg(not(target_os = "linux"))]
const MEMORY_UNKNOWN: u64 = 8 << 30;

/// Bytes of memory that this process may use: the machine's, or less if a control group has a bound.
#[must_use]
pub fn available() -> u64 {
    let machine = machine();
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    bound_of(&groups, Path::new("/sys/fs/cgroup")).map_or(machine, |bound| bound.min(machine))
}

#[cfg(not(target_os = "linux"))]
fn machine() -> u64 {
    MEMORY_UNKNOWN
}

#[cfg(target_os = "linux")]
fn machine() -> u64 {
    let info = rustix::system::sysinfo();
    // The types differ between platforms.
    #[allow(
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "32-bit platforms have smaller types"
    )]
    (info.totalram as u64).saturating_mul(u64::from(info.mem_unit))
}

/// The least bound of the control groups that `groups` (as `/proc/self/cgroup` has it) names, and of those above them.
/// Version 2 has one line, `0::PATH`; version 1 one for each controller. In a container the path may be that of the
/// host, while its own group is mounted at the root: that is looked at in any case.
fn bound_of(groups: &str, root: &Path) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            names if names.split(',').any(|n| n == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = root.join(path.trim_start_matches('/'));
        for dir in group.ancestors().take_while(|d| d.starts_with(&root)) {
            // "max", and what version 1 has for it, a number near 2^63, are no bound.
            let bound =
                std::fs::read_to_string(dir.join(file)).ok().and_then(|t| t.trim().parse::<u64>().ok());
            least = [least, bound].into_iter().flatten().min();
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_bound_holds() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("a/memory.max", "1000000\n");
        write("a/b/memory.max", "max\n");
        assert_eq!(bound_of("0::/a/b\n", root.path()), Some(1_000_000));
        write("a/b/memory.max", "5000\n");
        assert_eq!(bound_of("0::/a/b\n", root.path()), Some(5000));
        assert_eq!(bound_of("0::/\n", root.path()), None);
        assert_eq!(bound_of("", root.path()), None);
        write("memory/docker/x/memory.limit_in_bytes", "9223372036854771712\n");
        write("memory/memory.limit_in_bytes", "70000\n");
        let version_1 = "4:cpu,cpuacct:/docker/x\n3:memory:/docker/x\n";
        assert_eq!(bound_of(version_1, root.path()), Some(70_000));
    }
}
