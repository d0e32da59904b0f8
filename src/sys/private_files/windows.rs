//! On Windows a file has the access-control list of its directory, which the standard library cannot read.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::Path;

/// The variable that names the directory for the data of a user, which only the user and administrators can read.
pub(in crate::sys) const USER_DIRECTORY: &str = "LOCALAPPDATA";

/// What of an address can stand in the name of a file, of which a colon is none, beside letters and digits.
pub(in crate::sys) const NAME_MARKS: &str = ".-[]";

/// Makes a directory that those can read who can read the one that it is in.
pub(in crate::sys) fn create_directory(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

/// Makes a new file that those can read who can read the directory that it is in.
pub(in crate::sys) fn create(path: &Path) -> io::Result<File> {
    File::create_new(path)
}

/// Returns false: it cannot be known.
pub(crate) fn is_public(_file: &Metadata) -> bool {
    false
}
