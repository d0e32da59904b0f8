//! The files of certificates and keys: what is read from them, and whether they have changed.

use crate::base::log_escape::Quoted;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Greatest size of a file in bytes. A chain of certificates has some 6 KiB.
const LARGEST_FILE: u64 = 256 << 10;

/// What tells whether one of two files has changed: by what the system says of them, through symbolic links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp([Option<FileStamp>; 2]);

/// Device and inode, size, and the times at which the content and the inode have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileStamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Returns the state of two files now.
    pub(super) fn of(certificate: &str, key: &str) -> Self {
        Self([certificate, key].map(|path| {
            let file = fs::metadata(path).ok()?;
            Some(FileStamp {
                inode: (file.dev(), file.ino()),
                size: file.size(),
                modified: (file.mtime(), file.mtime_nsec()),
                changed: (file.ctime(), file.ctime_nsec()),
            })
        }))
    }
}

/// Reads a file.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub(super) fn read(path: &str) -> Result<Vec<u8>, String> {
    let problem = |error: io::Error| match error.kind() {
        ErrorKind::PermissionDenied => denied(Path::new(path)),
        ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    };
    let read = || {
        let file = fs::metadata(path).map_err(problem)?;
        // A daemon that reloads would wait without end for what a pipe has.
        if !file.is_file() {
            let kind = if file.is_dir() {
                "a directory"
            } else {
                "not a regular file"
            };
            return Err(format!("is {kind}; name the PEM file itself"));
        }
        if file.len() > LARGEST_FILE {
            return Err("is too large for a PEM file; name the right one".to_owned());
        }
        fs::read(path).map_err(problem)
    };
    read().map_err(|problem| format!("{}: {problem}", Quoted(path)))
}

/// Returns which right is missing to read a file: in most cases one of a directory above, as in `/etc/letsencrypt/live`.
fn denied(path: &Path) -> String {
    let user = rustix::process::geteuid().as_raw();
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    // Of the first directory that may not be entered, the content cannot be looked at.
    let entered = |directory: &&Path| fs::metadata(directory.join(".")).is_ok();
    if let Some(closed) = above.into_iter().find(|directory| !entered(directory)) {
        return format!(
            "user {user} may not enter the directory {}; copy the file to /etc/switchboard/tls (certbot: with a deploy hook), \
             and there: chgrp switchboard, chmod 640",
            Quoted(&closed.to_string_lossy())
        );
    }
    match fs::metadata(path) {
        Ok(file) => not_readable(&file, user),
        Err(error) => error.to_string(),
    }
}

/// Returns that a file may not be read, and how to change that.
fn not_readable(file: &Metadata, user: u32) -> String {
    format!(
        "user {user} may not read it: it belongs to user {} and group {}, with mode {:04o}; give its group the right (chgrp \
         switchboard, chmod 640)",
        file.uid(),
        file.gid(),
        file.mode() & 0o7777
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env::temp_dir;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_file_that_may_not_be_read_says_whose_it_is_and_how_to_give_the_right() {
        let path = temp_dir().join(format!("switchboard-unreadable-{}", std::process::id()));
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let file = fs::metadata(&path).unwrap();
        let (user, group) = (file.uid(), file.gid());
        let expected = format!(
            "user 4711 may not read it: it belongs to user {user} and group {group}, with mode 0600; give its group the right \
             (chgrp switchboard, chmod 640)"
        );
        assert_eq!(not_readable(&file, 4711), expected);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_regular_file_is_not_read_and_said_to_be_none() {
        for (path, expected) in [
            ("/dev", "\"/dev\": is a directory; name the PEM file itself"),
            (
                "/dev/null",
                "\"/dev/null\": is not a regular file; name the PEM file itself",
            ),
        ] {
            assert_eq!(read(path).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_symbolic_link_that_is_switched_is_a_change() {
        let directory = temp_dir().join(format!("switchboard-links-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
        for name in ["1", "2"] {
            fs::write(path(name), "same").unwrap();
        }
        symlink(path("1"), path("live")).unwrap();
        let stamp = || Stamp::of(&path("live"), &path("2"));
        let before = stamp();
        assert!(before == stamp());
        symlink(path("2"), path("next")).unwrap();
        fs::rename(path("next"), path("live")).unwrap();
        let after = stamp();
        assert!(before != after);
        fs::remove_file(path("live")).unwrap();
        assert!(after != stamp());
        fs::remove_dir_all(directory).unwrap();
    }
}
