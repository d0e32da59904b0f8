//! The memory available to this process: the machine's, or the limit of its control group (the kernel's cgroup-v2
//! and cgroup-v1 documentation; systemd's `MemoryMax=`) or of its address space (`ulimit -v`) if that is lower.

use super::machine;
use std::fs;
use std::path::{Path, PathBuf};

/// Mount point of the control groups.
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// Address space that glibc's malloc reserves for each thread that allocates, in bytes (`HEAP_MAX_SIZE`).
const ARENA_SIZE: usize = 64 << 20;

/// Threads that allocate, beside the executor's: the runtime's own.
const OTHER_THREADS: usize = 1;

/// Where the address space does not suffice for those reservations, its limit divided by this counts as available:
/// malloc then maps each block alone, in pages.
const ADDRESS_SPACE_DIVISOR: usize = 4;

/// Memory that the process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AvailableMemory {
    pub(crate) bytes: usize,
    /// The limit that it follows from, for the log.
    pub(crate) source: &'static str,
}

/// Returns the memory that the process may use, with this number of executor threads, if the system reports it.
pub(crate) fn available_memory(threads: usize) -> Option<AvailableMemory> {
    let own = machine::own_control_groups();
    let groups = control_group_limits(Path::new(CONTROL_GROUPS), &own);
    let address_space = machine::address_space();
    smallest(
        machine::installed_memory(),
        groups.into_iter().min(),
        address_space.map(|bytes| usable_address_space(bytes, threads)),
    )
}

/// Returns the bytes of an address space of this size that are available to clients.
fn usable_address_space(limit: u64, threads: usize) -> usize {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let reserved = ARENA_SIZE.saturating_mul(threads.saturating_add(OTHER_THREADS));
    limit
        .saturating_sub(reserved)
        .max(limit / ADDRESS_SPACE_DIVISOR)
}

/// Returns the smallest of what these limits, in bytes, make available.
fn smallest(
    installed: Option<usize>,
    control_group: Option<usize>,
    address_space: Option<usize>,
) -> Option<AvailableMemory> {
    let limits = [
        (installed, "the machine"),
        (control_group, "the control group"),
        (address_space, "the address-space limit"),
    ];
    let known = limits.into_iter().filter_map(|(bytes, source)| {
        let bytes = bytes?;
        Some(AvailableMemory { bytes, source })
    });
    known.min_by_key(|memory| memory.bytes)
}

/// Returns the memory limits, in bytes, of a process's control groups and of their ancestors. `own` has a
/// line `ID:CONTROLLERS:PATH` for each hierarchy.
fn control_group_limits(root: &Path, own: &str) -> Vec<usize> {
    let mut limits = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (hierarchy, files): (PathBuf, &[&str]) = if controllers.is_empty() {
            (root.to_owned(), &["memory.max", "memory.high"])
        } else if controllers.split(',').any(|name| name == "memory") {
            (root.join("memory"), &["memory.limit_in_bytes"])
        } else {
            continue;
        };
        let path = path.trim_start_matches('/');
        for group in Path::new(path).ancestors() {
            let directory = hierarchy.join(group);
            let limit = |file: &&str| fs::read_to_string(directory.join(file)).ok();
            // "max", which means no limit, does not parse.
            limits.extend(files.iter().filter_map(limit).filter_map(parse));
        }
    }
    limits
}

fn parse(text: String) -> Option<usize> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A temporary directory of control groups, removed on drop.
    struct Root(PathBuf);

    impl Root {
        fn with(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            for (file, content) in files {
                let file = root.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, content).unwrap();
            }
            Self(root)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_service_has_its_own_limits_and_those_of_its_slice() {
        let files = [
            ("system.slice/memory.max", "536870912\n"),
            ("system.slice/it.service/memory.max", "max\n"),
            ("system.slice/it.service/memory.high", "268435456\n"),
            ("other.slice/memory.max", "1\n"),
        ];
        let root = Root::with("version-2", &files);
        let limits = control_group_limits(&root.0, "0::/system.slice/it.service\n");
        assert_eq!(limits, [268_435_456, 536_870_912]);
    }

    #[test]
    fn cgroup_v1_has_a_hierarchy_for_memory() {
        let files = [
            ("memory/box/memory.limit_in_bytes", "67108864\n"),
            ("cpu/box/memory.limit_in_bytes", "1\n"),
        ];
        let root = Root::with("version-1", &files);
        let own = "5:cpu:/box\n4:hugetlb,memory:/box\n1:name=systemd:/box\n";
        assert_eq!(control_group_limits(&root.0, own), [67_108_864]);
    }

    #[test]
    fn without_limit_files_there_is_no_limit() {
        let root = Root::with("nothing", &[("cgroup.procs", "")]);
        for own in ["", "0::/\n", "0::/gone\n", "nonsense\n"] {
            assert!(control_group_limits(&root.0, own).is_empty());
        }
    }

    #[test]
    fn what_malloc_reserves_of_the_address_space_is_not_available() {
        const MIB: usize = 1 << 20;
        let usable =
            |limit: usize, threads| usable_address_space((limit * MIB) as u64, threads) / MIB;
        assert_eq!(usable(512, 1), 384);
        assert_eq!(usable(512, 4), 192);
        assert_eq!(usable(100, 4), 25);
    }

    #[test]
    fn the_smallest_limit_decides() {
        let smallest = |installed, group, address_space| {
            let memory = smallest(installed, group, address_space)?;
            Some((memory.bytes, memory.source))
        };
        assert_eq!(smallest(None, None, None), None);
        let machine = Some(1000);
        assert_eq!(smallest(machine, None, None), Some((1000, "the machine")));
        assert_eq!(
            smallest(machine, Some(900), Some(900)),
            Some((900, "the control group"))
        );
        assert_eq!(
            smallest(machine, Some(900), Some(895)),
            Some((895, "the address-space limit"))
        );
    }

    #[test]
    fn this_machine_reports_its_memory() {
        assert!(available_memory(1).is_none_or(|memory| memory.bytes > 1 << 20));
    }
}
