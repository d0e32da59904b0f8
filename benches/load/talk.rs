//! Clients that send messages to each other, so many at a time, while each message is checked where it arrives.

use crate::client::Received;
use crate::clients::Clients;
use crate::common::DEADLINE;
use crate::common::daemon::cpu;
use crate::latency::{Clock, Histogram};
use crate::message::{Head, Reader, Template};
use crate::report::Figures;
use crate::server::Server;
use rustix::process::getpid;
use std::time::{Duration, Instant};

/// How long the load looks at the clock at the latest.
const TURN: Duration = Duration::from_millis(10);

/// How long the load runs before it is measured, as a part of the time measured.
const WARM_UP: u32 = 5;

/// A client that sends.
pub struct Sender {
    pub client: usize,
    pub template: Template,
    /// The client whose receipt makes a message done, so that the next one is sent.
    pub done_at: usize,
}

/// Who sends what, and how it is recognized.
pub struct Talk {
    pub senders: Vec<Sender>,
    pub reader: Reader,
    /// Whether every client receives each message, and not only the one where it is done.
    pub is_broadcast: bool,
    /// Messages of each sender that are under way at once.
    pub in_flight: usize,
}

/// What has been sent and received.
struct Ledger {
    talk: Talk,
    clock: Clock,
    /// Number of the next message of each sender.
    next: Vec<u32>,
    /// Number of the next message that is due at each client from each sender.
    due: Vec<u32>,
    /// Senders, once for each message that they may send.
    ready: Vec<usize>,
    deliveries: u64,
    /// Times from sending to receiving.
    latency: Histogram,
}

impl Talk {
    /// Lets the clients talk, and returns what was measured. Fails if a message is lost, broken, out of order or at the
    /// wrong client.
    pub fn run(
        self,
        clients: &mut Clients,
        server: &Server,
        time: Duration,
    ) -> Result<Figures, String> {
        let senders = self.senders.len();
        let mut ledger = Ledger {
            next: vec![0; senders],
            due: vec![0; senders * clients.len()],
            ready: (0..senders)
                .cycle()
                .take(senders * self.in_flight)
                .collect(),
            deliveries: 0,
            latency: Histogram::new(),
            clock: Clock::start(),
            talk: self,
        };
        ledger.load(clients, time / WARM_UP)?;
        ledger.latency = Histogram::new();
        let (start, before) = (Instant::now(), ledger.deliveries);
        let (server_cpu, own_cpu) = (server.cpu()?, own_cpu());
        ledger.load(clients, time)?;
        let elapsed = start.elapsed().as_secs_f64();
        let server_cpu = (server.cpu()? - server_cpu).as_secs_f64();
        let own_cpu = (self::own_cpu() - own_cpu).as_secs_f64();
        let deliveries = (ledger.deliveries - before) as f64;
        let latency = std::mem::replace(&mut ledger.latency, Histogram::new());
        ledger.drain(clients)?;
        if deliveries == 0.0 {
            return Err("no message arrived in the time measured".to_owned());
        }
        Ok(vec![
            ("CPU us/delivery", server_cpu * 1e6 / deliveries),
            ("deliveries/s", deliveries / elapsed),
            ("p50 ms", latency.percentile(0.5)),
            ("p99 ms", latency.percentile(0.99)),
            ("server cores", server_cpu / elapsed),
            ("load cores", own_cpu / elapsed),
        ])
    }
}

fn own_cpu() -> Duration {
    cpu(getpid()).unwrap_or_default()
}

impl Ledger {
    /// Sends and receives for this time.
    fn load(&mut self, clients: &mut Clients, time: Duration) -> Result<(), String> {
        let start = Instant::now();
        let mut heard_at = start;
        while start.elapsed() < time {
            self.send(clients)?;
            if self.receive(clients, TURN)? {
                heard_at = Instant::now();
            } else if heard_at.elapsed() > DEADLINE {
                return Err("nothing arrives any more".to_owned());
            }
        }
        Ok(())
    }

    /// Sends the messages that may be sent.
    fn send(&mut self, clients: &mut Clients) -> Result<(), String> {
        for &number in &self.ready {
            let sender = &mut self.talk.senders[number];
            let frame = sender.template.stamped(self.next[number], self.clock.now());
            clients.send(sender.client, frame)?;
            self.next[number] += 1;
        }
        for number in self.ready.drain(..) {
            clients.flush(self.talk.senders[number].client)?;
        }
        Ok(())
    }

    /// Receives what has arrived. Returns whether there was anything.
    fn receive(&mut self, clients: &mut Clients, timeout: Duration) -> Result<bool, String> {
        let mut read_at = (usize::MAX, 0);
        clients.turn(timeout, |client, received| {
            if let Received::Text(text) = received {
                if let Some(head) = self.talk.reader.read(text)? {
                    // What one client reads at once has one time.
                    if read_at.0 != client {
                        read_at = (client, self.clock.now());
                    }
                    self.deliver(client, &head, read_at.1)?;
                }
            }
            Ok(())
        })
    }

    /// Checks a message that has arrived.
    fn deliver(&mut self, client: usize, head: &Head, now: u64) -> Result<(), String> {
        let senders = self.talk.senders.len();
        let sender = self.talk.senders.get(head.sender);
        let sender = sender.ok_or_else(|| format!("there is no sender {}", head.sender))?;
        let is_done = sender.done_at == client;
        if !is_done && !self.talk.is_broadcast {
            return Err(format!(
                "a message for client {} from {}",
                sender.done_at, head.sender
            ));
        }
        let due = &mut self.due[client * senders + head.sender];
        if head.number != *due {
            return Err(format!(
                "message {} of sender {} where {due} was due",
                head.number, head.sender
            ));
        }
        *due += 1;
        self.deliveries += 1;
        if is_done {
            self.ready.push(head.sender);
        }
        self.latency.record(now.saturating_sub(head.sent_at));
        Ok(())
    }

    /// Receives what is under way, and fails if that is not all.
    fn drain(&mut self, clients: &mut Clients) -> Result<(), String> {
        let recipients = if self.talk.is_broadcast {
            clients.len()
        } else {
            1
        };
        let sent: u64 = self.next.iter().map(|&next| u64::from(next)).sum();
        let expected = sent * recipients as u64;
        while self.deliveries < expected {
            if !self.receive(clients, DEADLINE)? {
                return Err(format!("{} messages are lost", expected - self.deliveries));
            }
        }
        Ok(())
    }
}
