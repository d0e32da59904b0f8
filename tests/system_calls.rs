//! System calls a delivery: a gate against steps back that no clock decides.
//!
//! A tracer (ptrace(2)) counts them in the thread that serves the clients, in the daemon as users have it: so what
//! is called needlessly is counted wherever that is done, and so is what wakes other threads. The clients send the next
//! messages when the last ones are received, so the daemon does the same in each round on a machine of any speed.
//!
//! With the runtime's reactor there are more, as it arms each socket again: it is for other systems, and not counted.

use crate::common::{Daemon, Rounds};
use nix::libc;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

/// System calls that each second may take beside the deliveries, as for the tick: about three are usual.
const CALLS_PER_SECOND: u64 = 10;

/// System calls of a thread since it is traced: how many of each number.
type Counts = Arc<Mutex<BTreeMap<i64, u64>>>;

/// Counts the system calls of a thread, which has this directory in /proc, from now on to its end.
fn trace(thread: &Path) -> Counts {
    let counts = Counts::default();
    let counted = Arc::clone(&counts);
    let thread = thread.to_owned();
    let (attached, is_attached) = channel();
    // The thread that attaches is the one that may trace.
    thread::spawn(move || count_calls(&thread, &counted, &attached));
    is_attached.recv().expect("the daemon can be traced");
    counts
}

fn count_calls(directory: &Path, counts: &Counts, attached: &Sender<()>) {
    let tid = directory.file_name().unwrap().to_str().unwrap();
    let thread = Pid::from_raw(tid.parse().unwrap());
    ptrace::seize(thread, ptrace::Options::PTRACE_O_TRACESYSGOOD)
        .expect("a container in which this runs needs the capability SYS_PTRACE");
    ptrace::interrupt(thread).unwrap();
    while let Ok(status) = waitpid(thread, Some(WaitPidFlag::__WALL)) {
        let signal = match status {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return,
            WaitStatus::Stopped(_, signal) => Some(signal),
            _ => None,
        };
        let is_call = matches!(status, WaitStatus::PtraceSyscall(_));
        if is_call && is_entry(thread) {
            let call = fs::read_to_string(directory.join("syscall")).unwrap_or_default();
            if let Some(number) = call.split(' ').next().and_then(|it| it.parse().ok()) {
                *counts.lock().unwrap().entry(number).or_default() += 1;
            }
        }
        // Fails only if the process is being killed, which the next status says.
        let _ = ptrace::syscall(thread, signal);
        let _ = attached.send(());
    }
}

/// Returns whether a thread that has stopped at a system call begins it.
fn is_entry(thread: Pid) -> bool {
    let info = ptrace::syscall_info(thread);
    info.is_ok_and(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY)
}

/// Starts a daemon with one thread for clients, and traces that thread.
fn start(listener: &Value) -> (Daemon, Counts) {
    let daemon = Daemon::start(json!({"threads": 1, "listeners": [listener]}));
    let threads = format!("/proc/{}/task", daemon.pid().as_raw_nonzero());
    let mut threads = fs::read_dir(threads).unwrap().map(|it| it.unwrap().path());
    let is_executor = |thread: &PathBuf| {
        let name = fs::read_to_string(thread.join("comm")).unwrap();
        name.trim_end() == "executor"
    };
    let executor = threads.find(is_executor).expect("a thread for clients");
    let counts = trace(&executor);
    (daemon, counts)
}

/// Returns whether this is a call in which a thread waits for events. While tasks run it looks for events each 100 us, so the
/// number of these calls depends on the speed of the machine, and is not limited.
fn is_wait(number: i64) -> bool {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_epoll_wait {
        return true;
    }
    [libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2].contains(&number)
}

/// Asserts that a delivery takes at most `max_calls` system calls beside those in which the thread waits.
fn assert_costs(
    listener: &Value,
    connect: impl FnOnce(&Daemon) -> Rounds,
    rounds: usize,
    max_calls: f64,
) {
    let (daemon, counts) = start(listener);
    let mut clients = connect(&daemon);
    // What the first rounds allocate is there then.
    clients.run(20);
    counts.lock().unwrap().clear();
    let start = Instant::now();
    clients.run(rounds);
    let elapsed = start.elapsed().as_secs();
    let counted = std::mem::take(&mut *counts.lock().unwrap());
    let deliveries = (clients.deliveries * rounds) as f64;
    let allowed = max_calls * deliveries + (CALLS_PER_SECOND * (elapsed + 1)) as f64;
    let calls = counted.iter().filter(|(call, _)| !is_wait(**call));
    let calls: u64 = calls.map(|(_, count)| count).sum();
    assert!(
        calls as f64 <= allowed,
        "in {elapsed} s {deliveries} deliveries took these system calls, by number: {counted:?}; at most {max_calls} a \
         delivery are allowed, waits apart"
    );
}

/// A read for each four messages, and a write.
#[test]
#[cfg_attr(feature = "portable-sockets", ignore = "arms sockets again")]
fn four_messages_that_a_peerjs_client_has_in_flight_are_relayed_with_two_system_calls() {
    let connect = |daemon: &Daemon| Rounds::relay(daemon.address(), 4, 1500);
    assert_costs(&Rounds::relay_listener(), connect, 500, 0.51);
}

#[test]
#[cfg_attr(feature = "portable-sockets", ignore = "arms sockets again")]
fn a_message_of_a_peerjs_client_is_relayed_with_two_system_calls() {
    let connect = |daemon: &Daemon| Rounds::relay(daemon.address(), 1, 1500);
    assert_costs(&Rounds::relay_listener(), connect, 500, 2.02);
}

/// A look at its header, up to three reads if the daemon reads while the client still writes, and a write. Through the
/// buffer for small messages there would be eight reads.
#[test]
#[cfg_attr(feature = "portable-sockets", ignore = "arms sockets again")]
fn a_large_message_is_relayed_with_few_system_calls() {
    let connect = |daemon: &Daemon| Rounds::relay(daemon.address(), 1, 60_000);
    assert_costs(&Rounds::relay_listener(), connect, 200, 5.0);
}

/// A write for each member, and a read.
#[test]
#[cfg_attr(feature = "portable-sockets", ignore = "arms sockets again")]
fn messages_to_fifty_workspace_members_that_meet_in_a_batch_leave_in_one_write_each() {
    let connect = |daemon: &Daemon| Rounds::fan_out(daemon.address(), 50, 8);
    assert_costs(&Rounds::fan_out_listener(), connect, 200, 51.0 / 400.0);
}

#[test]
#[cfg_attr(feature = "portable-sockets", ignore = "arms sockets again")]
fn a_message_to_fifty_workspace_members_takes_one_write_each() {
    let connect = |daemon: &Daemon| Rounds::fan_out(daemon.address(), 50, 1);
    assert_costs(&Rounds::fan_out_listener(), connect, 200, 51.0 / 50.0);
}
