//! All clients of a run, which one thread serves with one epoll.

use crate::client::{Client, Received};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{Nsecs, Secs, Timespec};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Size of the buffer into which all clients read: it fits the processor's cache.
const BUFFER: usize = 256 << 10;

/// Clients that one turn serves at most.
const EVENTS: usize = 1024;

/// The clients, which have numbers.
pub struct Clients {
    epoll: OwnedFd,
    all: Vec<Client>,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
}

impl Clients {
    pub fn new() -> Self {
        Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).unwrap(),
            all: Vec::new(),
            events: Vec::with_capacity(EVENTS),
            buffer: vec![0; BUFFER],
        }
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Connects one more client.
    pub fn connect(&mut self, address: SocketAddr, path: &str) -> Result<(), String> {
        let client = self.watched(self.all.len(), address, path)?;
        self.all.push(client);
        Ok(())
    }

    /// Resets the connection of a client, and connects another one in its place.
    pub fn replace(
        &mut self,
        number: usize,
        address: SocketAddr,
        path: &str,
    ) -> Result<(), String> {
        self.all[number] = self.watched(number, address, path)?;
        Ok(())
    }

    /// Resets all connections.
    pub fn reset_all(&mut self) {
        self.all.clear();
    }

    fn watched(&self, number: usize, address: SocketAddr, path: &str) -> Result<Client, String> {
        let client = Client::connect(address, path)?;
        // Edge-triggered: no system call is needed for a client that begins or ends to wait for its socket.
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let data = EventData::new_u64(number as u64);
        epoll::add(&self.epoll, client.stream(), data, flags)
            .map_err(|error| format!("epoll: {error}"))?;
        Ok(client)
    }

    /// Takes a frame for a client, which [`flush`](Self::flush) sends.
    pub fn send(&mut self, number: usize, frame: &[u8]) -> Result<(), String> {
        self.all[number].send(frame)
    }

    /// Sends what waits for a client.
    pub fn flush(&mut self, number: usize) -> Result<(), String> {
        self.all[number].flush()
    }

    /// Waits until something has arrived, but no longer than this, and passes it on. Returns whether there was anything.
    pub fn turn(
        &mut self,
        timeout: Duration,
        mut handler: impl FnMut(usize, Received) -> Result<(), String>,
    ) -> Result<bool, String> {
        check_interrupted()?;
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as Secs,
            tv_nsec: timeout.subsec_nanos() as Nsecs,
        };
        self.events.clear();
        loop {
            let events = spare_capacity(&mut self.events);
            match epoll::wait(&self.epoll, events, Some(&timeout)) {
                Ok(_) => break,
                Err(Errno::INTR) => check_interrupted()?,
                Err(error) => return Err(format!("epoll: {error}")),
            }
        }
        for event in &self.events {
            let (flags, number) = (event.flags, event.data.u64() as usize);
            // An event of a client that has been replaced is one for the client in its place, which reads in vain.
            let client = &mut self.all[number];
            let ready = client.flush().and_then(|()| {
                let has_ended = flags.intersects(EventFlags::RDHUP | EventFlags::HUP);
                if has_ended || flags.contains(EventFlags::IN) {
                    let mut pass_on = |received: Received<'_>| handler(number, received);
                    client.read(&mut self.buffer, has_ended, &mut pass_on)?;
                    client.flush()?;
                }
                Ok(())
            });
            ready.map_err(|error| format!("client {number}: {error}"))?;
        }
        Ok(!self.events.is_empty())
    }

    /// Reads and discards until nothing has arrived for this time.
    pub fn settle(&mut self, quiet: Duration) -> Result<(), String> {
        while self.turn(quiet, |_, _| Ok(()))? {}
        Ok(())
    }
}

/// Fails once SIGINT or SIGTERM has arrived: the daemon is ended on the way out, which the signal alone would not do.
pub fn check_interrupted() -> Result<(), String> {
    static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let interrupted = INTERRUPTED.get_or_init(|| {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).unwrap();
        }
        flag
    });
    if interrupted.load(Ordering::Relaxed) {
        return Err("interrupted".to_owned());
    }
    Ok(())
}
