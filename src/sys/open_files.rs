//! How many files, sockets among them, the process may open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the open-files limit as far as the system allows, and says how many files that are.
pub fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        if let Err(error) = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        ) {
            log::warn!("the open-files limit stays at {current:?}: {error}");
        }
    }
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(files).unwrap_or(usize::MAX)
}
