//! What the daemon tells systemd.

use super::DEADLINE;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

/// Binds a socket for the notifications of a service, as systemd does. Returns it and its path.
pub fn notify_socket(name: &str) -> (UnixDatagram, PathBuf) {
    let path = std::env::temp_dir().join(format!("switchboard-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    (socket, path)
}

/// Waits for the next notification. A signal to this process, such as the end of another test's daemon, may interrupt
/// it.
pub fn notification(socket: &UnixDatagram) -> String {
    let mut message = [0; 200];
    loop {
        match socket.recv(&mut message) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            length => return String::from_utf8_lossy(&message[..length.unwrap()]).into_owned(),
        }
    }
}
