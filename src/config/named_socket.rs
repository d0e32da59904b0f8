//! Addresses that are names: the path of a Unix socket, and the name of sockets that systemd passes.

use crate::base::log_escape::Quoted;

/// What is before the path of a Unix socket.
pub(super) const UNIX: &str = "unix:";

/// What is before the name of sockets that systemd passes.
pub(super) const SYSTEMD: &str = "systemd:";

/// A Unix socket, as an example in errors.
pub(super) const EXAMPLE: &str = "unix:/run/switchboard/chat.sock";

/// Length of the longest path of a Unix socket, in bytes: `sun_path` has one more, for its end (unix(7)).
const MAX_PATH: usize = 107;

/// Length of the longest name of a socket, in bytes (systemd.socket(5), `FileDescriptorName`).
const MAX_NAME: usize = 255;

/// Which of these sockets a system has.
pub(super) struct Available {
    unix: bool,
    systemd: bool,
}

/// Which of them this system has.
pub(super) const HERE: Available = Available {
    unix: cfg!(unix),
    systemd: cfg!(target_os = "linux"),
};

impl Available {
    /// Returns what an address is of that the system does not have, for people.
    pub(super) fn lacks(&self, address: &str) -> Option<&'static str> {
        if address.starts_with(UNIX) && !self.unix {
            Some("Unix sockets")
        } else if address.starts_with(SYSTEMD) && !self.systemd {
            Some("sockets of systemd")
        } else {
            None
        }
    }
}

/// Checks the path of a Unix socket.
///
/// # Errors
/// What to write instead of the whole address, which stands in the first quotes.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let given = format!("{UNIX}{path}");
    let given = Quoted(&given);
    if path.starts_with('@') {
        return Err(format!(
            "write \"{EXAMPLE}\", with a path, instead of {given}: an abstract socket has neither owner nor mode, so \
             that every program of the machine could connect"
        ));
    }
    if !is_path(path) {
        let absolute = format!("/{path}");
        let right = if is_path(&absolute) && !path.starts_with('/') {
            format!("{UNIX}{absolute}")
        } else {
            EXAMPLE.to_owned()
        };
        return Err(format!(
            "write \"{right}\" instead of {given}: it must be an absolute path of at most {MAX_PATH} bytes, without \
             control characters"
        ));
    }
    Ok(())
}

/// Returns whether a Unix socket can be at this path, wherever the daemon was started.
pub(super) fn is_path(path: &str) -> bool {
    let is_absolute = path.starts_with('/') && !path.ends_with('/');
    is_absolute && path.len() <= MAX_PATH && !path.contains(char::is_control)
}

/// Checks the name of sockets that systemd passes.
///
/// # Errors
/// What to write instead of the whole address, which stands in the first quotes.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let is_name_char = |c: char| c.is_ascii() && !c.is_ascii_control() && c != ':';
    if !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(is_name_char) {
        return Ok(());
    }
    let given = format!("{SYSTEMD}{name}");
    Err(format!(
        "write \"{SYSTEMD}chat\", with the FileDescriptorName= of the socket unit, instead of {}: it has 1 to {MAX_NAME} \
         ASCII characters without a colon",
        Quoted(&given)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_absolute_and_fits_the_kernel_s_structure() {
        let longest = format!("/{}", "x".repeat(106));
        for path in ["/run/a.sock", "/a b", "/\u{e4}", &longest] {
            assert_eq!(check_path(path), Ok(()), "{path}");
        }
        for (path, right) in [
            (
                "run/a.sock",
                "\"unix:/run/a.sock\" instead of \"unix:run/a.sock\": it must be an absolute",
            ),
            (
                "",
                "\"unix:/run/switchboard/chat.sock\" instead of \"unix:\"",
            ),
            (
                "/run/",
                "\"unix:/run/switchboard/chat.sock\" instead of \"unix:/run/\"",
            ),
            ("/a\0b", "\"unix:/run/switchboard/chat.sock\" instead of"),
            (
                &format!("{longest}x"),
                "\"unix:/run/switchboard/chat.sock\" instead of",
            ),
            (
                "@a",
                "\"unix:/run/switchboard/chat.sock\", with a path, instead of \"unix:@a\": an abstract socket",
            ),
        ] {
            let problem = check_path(path).unwrap_err();
            assert!(problem.starts_with(&format!("write {right}")), "{problem}");
        }
    }

    #[test]
    fn a_system_without_such_sockets_takes_neither_a_path_nor_a_name() {
        let (windows, macos) = (
            Available {
                unix: false,
                systemd: false,
            },
            Available {
                unix: true,
                systemd: false,
            },
        );
        for (address, on_windows, on_macos) in [
            ("unix:/a", Some("Unix sockets"), None),
            (
                "systemd:a",
                Some("sockets of systemd"),
                Some("sockets of systemd"),
            ),
            ("localhost:1", None, None),
        ] {
            assert_eq!(windows.lacks(address), on_windows);
            assert_eq!(macos.lacks(address), on_macos);
        }
    }

    #[test]
    fn a_name_is_what_systemd_takes_for_one() {
        for name in [
            "peerjs",
            "9000",
            "switchboard.socket",
            "a b/@",
            &"x".repeat(255),
        ] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["", "a:b", "a\n", "\u{e4}", &"x".repeat(256)] {
            let problem = check_name(name).unwrap_err();
            assert!(problem.starts_with("write \"systemd:chat\""), "{problem}");
        }
    }
}
