//! The modes of Unix say who can read a file.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The variable that names the directory for what runs of a user, which only the user can read.
pub(in crate::sys) const USER_DIRECTORY: &str = "XDG_RUNTIME_DIR";

/// What of an address can stand in the name of a file, beside letters and digits.
pub(in crate::sys) const NAME_MARKS: &str = ".:-[]";

/// Makes a directory that only its owner can read.
pub(in crate::sys) fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes a new file that only its owner can read, from the first moment.
pub(in crate::sys) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

/// Returns whether each user of the machine may read a file.
pub(crate) fn is_public(file: &Metadata) -> bool {
    const READ_BY_OTHERS: u32 = 0o004;
    file.is_file() && file.mode() & READ_BY_OTHERS != 0
}
