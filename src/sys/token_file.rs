//! The token of the status port: a file that only its owner can read says who may list, close and ban clients.
//!
//! It is made anew at each start, in place of an older one: what a program may have learnt that had the port before is
//! worth nothing, and an old file needs no check of its owner, its mode or what it links to.

use super::private_files::{self, NAME_MARKS, USER_DIRECTORY};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// Runtime directory of the systemd unit, where an operator's command finds the token without its environment.
const UNIT_DIRECTORY: &str = "/run/switchboard";

/// A secret, which is never shown or logged.
pub(crate) struct Token(String);

impl Token {
    /// Creates a token from the operating system's random source: 244 bits, in 64 hexadecimal digits.
    fn random() -> Self {
        let half = || Uuid::new_v4().simple().to_string();
        Self(half() + &half())
    }

    /// Reads the token in a file.
    ///
    /// # Errors
    /// Those of the file system.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        Ok(Self(text.trim().to_owned()))
    }

    /// Returns whether a request has the same token, in a time that does not depend on where they differ.
    pub(crate) fn matches(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }

    /// Returns the token for a request.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }
}

/// The reason why there is no token.
#[derive(Debug)]
pub(crate) enum NoToken {
    /// There is no directory for it.
    NoDirectory,
    /// The file cannot be written.
    Unwritable(PathBuf, io::Error),
}

impl fmt::Display for NoToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDirectory => write!(
                f,
                "neither $RUNTIME_DIRECTORY (systemd: RuntimeDirectory=switchboard) nor ${USER_DIRECTORY} names a \
                 directory for its token"
            ),
            Self::Unwritable(path, error) => {
                write!(f, "its token {} cannot be written: {error}", path.display())
            }
        }
    }
}

/// Makes the token of the daemon whose status port has this address, and writes it to its file, which only the owner
/// can read from the first moment.
///
/// # Errors
/// There is no directory for the file, or it cannot be written.
pub(crate) fn create(
    address: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<(Token, PathBuf), NoToken> {
    let Some(path) = places(address, variable).into_iter().next() else {
        return Err(NoToken::NoDirectory);
    };
    let token = Token::random();
    match write(&path, &token) {
        Ok(()) => Ok((token, path)),
        Err(error) => Err(NoToken::Unwritable(path, error)),
    }
}

/// Writes the file beside its place and then puts it there, so that it is never there in part.
fn write(path: &Path, token: &Token) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        // Fails if it is there, and otherwise, writing the file does.
        let _ = private_files::create_directory(directory);
    }
    let new = path.with_extension(format!("{}.new", std::process::id()));
    // What an earlier process with this id has left.
    let _ = fs::remove_file(&new);
    let mut file = private_files::create(&new)?;
    let written = writeln!(file, "{}", token.0).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Returns where an operator's command finds the token of a daemon whose status port has this address. The one where a
/// daemon with the same environment has written it is the first.
pub(crate) fn candidates(
    address: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Vec<PathBuf> {
    let mut places = places(address, variable);
    let of_unit = Path::new(UNIT_DIRECTORY).join("token");
    if !places.contains(&of_unit) {
        places.push(of_unit);
    }
    places
}

/// Returns the places for the token of a daemon whose status port has this address, by the variables that name them.
///
/// The directory of a user is for all daemons that the user runs, so the name has the address there.
fn places(address: &str, variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let directory = |path: PathBuf| path.is_absolute().then_some(path);
    let of_service = variable("RUNTIME_DIRECTORY").and_then(|paths| {
        // systemd separates several by colons.
        let first = std::env::split_paths(&paths).next();
        first.and_then(directory)
    });
    let of_user = variable(USER_DIRECTORY).map(PathBuf::from);
    let of_user = of_user.and_then(directory);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || NAME_MARKS.contains(c);
    let name: String = address
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    let of_service = of_service.map(|path| path.join("token"));
    let of_user = of_user.map(|path| path.join("switchboard").join(format!("token-{name}")));
    of_service.into_iter().chain(of_user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    /// A directory that is removed with all that is in it.
    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("switchboard-{}", Uuid::new_v4()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        /// The environment of a service, or of a user, with this runtime directory.
        fn variable(&self, name: &'static str) -> impl Fn(&str) -> Option<OsString> {
            let path = self.0.clone();
            move |asked| (asked == name).then(|| path.clone().into())
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn the_token_is_in_a_file_that_only_its_owner_can_read() {
        let directory = Directory::new();
        let (token, path) =
            create("localhost:7171", directory.variable("RUNTIME_DIRECTORY")).unwrap();
        assert_eq!(path, directory.0.join("token"));
        assert_eq!(mode(&path), 0o600);
        assert_eq!(token.secret().len(), 64);
        assert!(token.matches(Token::read(&path).unwrap().secret()));
        let entries = fs::read_dir(&directory.0).unwrap().count();
        assert_eq!(entries, 1, "nothing else is left");
    }

    #[test]
    fn daemons_of_one_user_have_files_of_their_own_in_a_directory_of_the_user() {
        let directory = Directory::new();
        let variable = || directory.variable("XDG_RUNTIME_DIR");
        let (_, one) = create("localhost:7171", variable()).unwrap();
        let (_, other) = create("*:7172", variable()).unwrap();
        assert_eq!(one, directory.0.join("switchboard/token-localhost:7171"));
        assert_eq!(other, directory.0.join("switchboard/token-_:7172"));
        assert_eq!(mode(one.parent().unwrap()), 0o700);
    }

    #[test]
    fn each_start_makes_a_new_token_in_place_of_whatever_was_there() {
        let directory = Directory::new();
        let variable = || directory.variable("RUNTIME_DIRECTORY");
        let (target, path) = (directory.0.join("target"), directory.0.join("token"));
        fs::write(&target, "of somebody else").unwrap();
        symlink(&target, &path).unwrap();
        let (first, _) = create("localhost:7171", variable()).unwrap();
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        assert_eq!(fs::read_to_string(&target).unwrap(), "of somebody else");
        let (second, _) = create("localhost:7171", variable()).unwrap();
        assert!(!second.matches(first.secret()));
        assert!(second.matches(Token::read(&path).unwrap().secret()));
    }

    #[test]
    fn there_is_no_token_without_a_directory_for_it() {
        let none = create("localhost:7171", |_| None);
        assert!(matches!(none, Err(NoToken::NoDirectory)));
        let relative = create("localhost:7171", |_| Some("here".into()));
        assert!(matches!(relative, Err(NoToken::NoDirectory)));
        let missing = create("localhost:7171", |_| Some("/nonexistent/there".into()));
        assert!(matches!(missing, Err(NoToken::Unwritable(..))));
    }

    #[test]
    fn a_command_looks_where_the_service_the_user_and_the_unit_have_it() {
        let variable = |name: &str| match name {
            "RUNTIME_DIRECTORY" => Some("/run/one:/run/two".into()),
            _ => Some("/run/user/7".into()),
        };
        assert_eq!(
            candidates("[::1]:7171", variable),
            [
                "/run/one/token",
                "/run/user/7/switchboard/token-[::1]:7171",
                "/run/switchboard/token"
            ]
            .map(PathBuf::from)
        );
        assert_eq!(
            candidates("localhost:7171", |_| None),
            [PathBuf::from("/run/switchboard/token")]
        );
    }
}
