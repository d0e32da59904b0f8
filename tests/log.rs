//! Outputs of the log that are not read, or cannot be written: they stop nothing, except for a pipe whose reader
//! is gone.

use crate::common::{Client, Daemon, program, run, temporary_file, wait_until};
use rustix::io::ioctl_fionbio;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

/// Bytes that the smallest pipe holds.
const PIPE_SIZE: usize = 4096;

/// A daemon with a Workspace listener, whose log the test does not read.
struct Unread {
    child: Child,
    address: SocketAddr,
    config: PathBuf,
}

impl Unread {
    /// Starts a daemon whose standard output and standard error are those of the command.
    fn start(mut command: Command) -> Self {
        let listener = json!({
            "protocol": "workspace", "address": "127.0.0.1:0", "handshake_timeout": 3600,
            "ping_after": 0, "idle_timeout": 0, "close_timeout": 3600,
        });
        // The listener is the only socket of the process that listens.
        let config = json!({
            "log": "debug", "status": null, "shutdown_timeout": 3600, "listeners": [listener],
        });
        let config = temporary_file(&config.to_string());
        let child = command.arg("--config").arg(&config).spawn().unwrap();
        let mut address = None;
        wait_until("the daemon listens", || {
            address = listening_address(Pid::from_child(&child));
            address.is_some()
        });
        let address = address.unwrap();
        Self {
            child,
            address,
            config,
        }
    }

    /// Opens and closes connections one after another, each of which logs several lines.
    fn serve_connections(&self, number: usize) {
        for _ in 0..number {
            self.assert_serves();
        }
    }

    fn assert_serves(&self) {
        let mut client = Client::connect(self.address, "/ws");
        assert_eq!(client.receive_json()["type"], "connected");
        client.close_normally();
    }

    /// Stops the daemon with SIGTERM, and asserts that it closes its connections and exits with 0.
    fn assert_stops(mut self) {
        let mut client = Client::connect(self.address, "/ws");
        client.receive_text();
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert_eq!(client.expect_close().0, 1001);
        drop(client);
        wait_until("the daemon exits", || {
            self.child.try_wait().unwrap().is_some()
        });
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.config);
    }
}

/// Returns the address on which a process listens on 127.0.0.1, from what the kernel says.
fn listening_address(pid: Pid) -> Option<SocketAddr> {
    const LISTENING: &str = "0A";
    let files = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).ok()?;
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let sockets: Vec<String> = targets
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let inode = format!("socket:[{}]", fields.get(9)?);
        let (_, port) = fields.get(1)?.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (fields[3] == LISTENING && sockets.contains(&inode))
            .then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    })
}

/// Returns the ends of a pipe for reading and for writing.
fn pipe() -> (File, File) {
    // Daemons of other tests do not inherit them.
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (reader.into(), writer.into())
}

/// Returns a pipe that holds [`PIPE_SIZE`] bytes.
fn small_pipe() -> (File, File) {
    let (reader, writer) = pipe();
    fcntl_setpipe_size(&writer, PIPE_SIZE).unwrap();
    (reader, writer)
}

fn with_stdout(stdout: impl Into<Stdio>) -> Command {
    let mut command = program();
    command.stdout(stdout);
    command
}

#[test]
fn a_log_that_nothing_reads_does_not_stop_the_daemon_and_sigterm_does() {
    let (reader, writer) = small_pipe();
    let daemon = Unread::start(with_stdout(writer));
    let mut client = Client::connect(daemon.address, "/ws");
    client.receive_text();
    daemon.serve_connections(1000);
    client.send(r#"{"type":"message:send","text":"still there?"}"#);
    client.receive_until(|text| text.contains("still there?").then_some(()));
    client.close_normally();
    daemon.assert_stops();
    drop(reader);
}

#[test]
fn what_does_not_fit_is_dropped_and_a_line_says_how_many_lines_that_were() {
    let (reader, writer) = small_pipe();
    let daemon = Unread::start(with_stdout(writer));
    // Some 200 bytes of log each, which together exceed the pipes and the queue.
    daemon.serve_connections(2000);
    let lines = BufReader::new(reader).lines().map(Result::unwrap);
    let mut rest = lines
        .skip_while(|line| !line.contains("lines of the log were dropped, as standard output"));
    assert!(rest.next().is_some());
    thread::spawn(move || rest.for_each(drop));
    daemon.assert_stops();
}

#[test]
fn a_full_pipe_that_does_not_block_loses_nothing_that_fits_the_queue() {
    let (reader, mut writer) = small_pipe();
    ioctl_fionbio(&writer, true).unwrap();
    let full = loop {
        if let Err(error) = writer.write(&[b'x'; PIPE_SIZE]) {
            break error.kind();
        }
    };
    assert_eq!(full, ErrorKind::WouldBlock);
    let daemon = Unread::start(with_stdout(writer));
    daemon.serve_connections(3);
    let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
    for part in ["listens on", "ready in", "#1: opened", "#3: opened"] {
        assert!(lines.any(|line| line.contains(part)), "{part}");
    }
    // The rest is read, too.
    thread::spawn(move || lines.for_each(drop));
    daemon.assert_stops();
}

#[test]
fn a_full_disk_does_not_stop_the_daemon() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let mut command = with_stdout(full());
    command.stderr(full());
    let daemon = Unread::start(command);
    daemon.serve_connections(10);
    daemon.assert_stops();
}

#[test]
fn closed_output_streams_do_not_stop_the_daemon() {
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"exec "$0" "$@" >&- 2>&-"#]);
    shell.arg(program().get_program());
    let daemon = Unread::start(shell);
    daemon.serve_connections(10);
    daemon.assert_stops();
}

#[test]
fn a_journal_that_went_away_does_not_stop_the_daemon() {
    let (journal, output) = UnixStream::pair().unwrap();
    let daemon = Unread::start(with_stdout(OwnedFd::from(output)));
    drop(journal);
    daemon.serve_connections(10);
    daemon.assert_stops();
}

#[test]
fn a_pipe_whose_reader_is_gone_ends_the_daemon_with_status_1() {
    let (reader, writer) = pipe();
    let mut command = with_stdout(writer.try_clone().unwrap());
    // As in `switchboard 2>&1 | head -1`.
    command.stderr(writer);
    let mut daemon = Unread::start(command);
    let line = BufReader::new(reader).lines().next();
    assert!(line.unwrap().unwrap().contains("starts"));
    wait_until("the daemon exits", || {
        // Each logs a line.
        if let Ok(mut stream) = TcpStream::connect(daemon.address) {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        daemon.child.try_wait().unwrap().is_some()
    });
    assert_eq!(daemon.child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_line_on_standard_error_says_why_it_ended_without_a_reader() {
    let (reader, writer) = pipe();
    let mut command = with_stdout(writer);
    command.stderr(Stdio::piped());
    let mut daemon = Unread::start(command);
    drop(reader);
    wait_until("the daemon exits", || {
        if let Ok(mut stream) = TcpStream::connect(daemon.address) {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        daemon.child.try_wait().unwrap().is_some()
    });
    let stderr = daemon.child.stderr.take().unwrap();
    let lines: Vec<String> = BufReader::new(stderr).lines().map(Result::unwrap).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("has no reader"), "{lines:?}");
}

#[test]
fn the_last_lines_are_written_before_the_daemon_exits() {
    for _ in 0..10 {
        let daemon = Daemon::start(json!({"listeners": [{"protocol": "workspace"}]}));
        daemon.signal(Signal::TERM);
        daemon.wait_for_log("stopped after");
    }
}

#[test]
fn an_error_that_cannot_be_printed_changes_no_exit_status() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let config = temporary_file("{");
    let config = config.to_str().unwrap();
    for arguments in [&["--nonsense"][..], &["check", "--config", config]] {
        let status = program().args(arguments).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(2), "{arguments:?}");
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_supervisor_that_takes_no_notifications_does_not_stop_the_daemon() {
    let path = std::env::temp_dir().join(format!("switchboard-full-{}", std::process::id()));
    let _ = fs::remove_file(&path);
    let supervisor = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"X=1", &path).is_ok() {}
    let mut command = with_stdout(Stdio::null());
    command.env("NOTIFY_SOCKET", &path);
    let daemon = Unread::start(command);
    daemon.serve_connections(1);
    daemon.assert_stops();
    drop(supervisor);
    let _ = fs::remove_file(&path);
}
