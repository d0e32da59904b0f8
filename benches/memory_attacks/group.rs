//! The control group in which a daemon runs.

use super::LIMIT;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// A control group for one daemon, removed on drop.
pub struct Group {
    directory: PathBuf,
    is_v1: bool,
}

impl Group {
    /// Creates a group with [`LIMIT`]; `None` where that is not possible.
    pub fn create(name: &str) -> Option<Self> {
        let name = format!("switchboard-{name}-{}", std::process::id());
        let v1 = Path::new("/sys/fs/cgroup/memory");
        let is_v1 = v1.is_dir();
        let root = if is_v1 {
            v1
        } else {
            Path::new("/sys/fs/cgroup")
        };
        let directory = root.join(name);
        fs::create_dir(&directory).ok()?;
        let group = Self { directory, is_v1 };
        let file = if is_v1 {
            "memory.limit_in_bytes"
        } else {
            "memory.max"
        };
        fs::write(group.directory.join(file), LIMIT.to_string()).ok()?;
        if is_v1 {
            // Has the kernel count the memory of sockets.
            let _ = fs::write(
                group.directory.join("memory.kmem.tcp.limit_in_bytes"),
                "1099511627776",
            );
        }
        Some(group)
    }

    /// Returns a program that moves itself into the group and then becomes the one it is given.
    pub fn launcher(&self) -> String {
        format!("echo $$ > {}/cgroup.procs; ", self.directory.display())
    }

    fn read(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.directory.join(file))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Returns the memory that is charged to the group, the kernel's for its processes included.
    pub fn usage(&self) -> u64 {
        let v1 = self.read("memory.usage_in_bytes");
        v1.or_else(|| self.read("memory.current")).unwrap_or(0)
    }

    /// Returns the memory of its sockets.
    pub fn sockets(&self) -> u64 {
        if self.is_v1 {
            return self.read("memory.kmem.tcp.usage_in_bytes").unwrap_or(0);
        }
        let stat = fs::read_to_string(self.directory.join("memory.stat")).unwrap_or_default();
        let sock = stat.lines().find_map(|line| line.strip_prefix("sock "));
        sock.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Fails while the process is being removed.
        for _ in 0..50 {
            if fs::remove_dir(&self.directory).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}
