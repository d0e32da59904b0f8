//! The daemon as a whole: binds every port, starts the broker, waits for the end, drains, stops.

use crate::base::memory_budget::MemoryBudget;
use crate::broker::KeepaliveConfig;
use crate::broker::{Broker, DisconnectCounts, Event, RealmSlot};
use crate::config::{Config, Listener};
use crate::net::accept;
use crate::net::connection_limits::ConnectionLimit;
use crate::net::listener::{ListenerState, MAX_REJECTING, ServerState};
use crate::sys::memory;
use crate::sys::systemd;
use async_std::net::TcpListener;
use async_std::task;
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, SinkExt, StreamExt};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// How many clients may wait to be accepted. The standard library's 128 are soon used up when
/// everybody comes back at once, and each one too many waits a second to try again.
const BACKLOG: i32 = 4096;

/// Open files that are not for connections: those to tell clients that there is no room, and for
/// listeners, the runtime and the log as many again.
const RESERVED_FILES: usize = 2 * MAX_REJECTING;

/// Clients may make the process hold one of so many parts of the memory there is, unless the
/// configuration says how much.
const PARTS_OF_MEMORY: usize = 4;

/// Large requests may take one of so many parts of that besides.
const PARTS_OF_BUDGET: usize = 8;

/// What they may, in bytes, where the system does not tell how much there is: a quarter of a small
/// machine's.
const UNKNOWN_BUDGET: usize = 128 << 20;

/// All ports, bound and not yet served.
pub struct Server {
    config: Config,
    sockets: Vec<std::net::TcpListener>,
    max_connections: usize,
    /// In bytes; 0: no limit.
    memory_budget: usize,
}

/// A port that cannot be listened on.
#[derive(Debug)]
pub struct BindError {
    permit: usize,
    protocol: &'static str,
    address: SocketAddr,
    reason: std::io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            permit,
            protocol,
            address,
            reason,
        } = self;
        write!(
            f,
            "listeners[{permit}] ({protocol}) cannot listen on {address}: {reason}"
        )
    }
}

impl std::error::Error for BindError {}

impl Server {
    /// Binds every listener of a configuration, or none. `open_files` is what the process may
    /// open.
    ///
    /// # Errors
    /// The first listener whose address is not to be had, and the system's reason.
    pub fn bind(config: Config, open_files: usize) -> Result<Self, BindError> {
        let bind = |(permit, listener): (usize, &Listener)| {
            listen(listener.address).map_err(|reason| BindError {
                permit,
                protocol: listener.protocol.name,
                address: listener.address,
                reason,
            })
        };
        let sockets = config
            .listeners
            .iter()
            .enumerate()
            .map(bind)
            .collect::<Result<_, _>>()?;
        let possible = open_files.saturating_sub(RESERVED_FILES).max(1);
        let wanted = config.process.max_connections;
        if wanted > possible {
            log::warn!("max_connections is {wanted}, but the open-files limit allows {possible}");
        }
        let max_connections = if wanted == 0 {
            possible
        } else {
            wanted.min(possible)
        };
        let memory_budget = config.process.memory_budget.unwrap_or_else(|| {
            memory::available_memory().map_or(UNKNOWN_BUDGET, |memory| memory / PARTS_OF_MEMORY)
        });
        Ok(Self {
            config,
            sockets,
            max_connections,
            memory_budget,
        })
    }

    /// Serves until `stop` is done, then says goodbye to everybody.
    ///
    /// # Panics
    /// When the broker panics: without it there is nothing left to serve.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let started = Instant::now();
        // No buffer: each sender has one place of its own, and so one message on its way.
        let (mut inbox, events) = mpsc::channel(0);
        let (stopping, on_stop) = oneshot::channel();
        let (all_gone, mut gone) = mpsc::channel(0);
        let budget = MemoryBudget::new(self.memory_budget);
        let server = Arc::new(ServerState {
            started,
            inbox: inbox.clone(),
            connections: AtomicU64::new(1),
            permits: ConnectionLimit::new(self.max_connections),
            budget: Arc::clone(&budget),
            requests: MemoryBudget::new(self.memory_budget / PARTS_OF_BUDGET),
            rejecting: ConnectionLimit::new(MAX_REJECTING),
            stopping: on_stop.shared(),
            _all_gone: all_gone,
        });
        let slots = self.config.listeners.iter().map(slot).collect();
        let broker = task::spawn(Broker::new(slots, budget, started).run(events));
        task::spawn(tick(inbox.clone()));

        let mut accepting = Vec::new();
        for (at, (listener, socket)) in self
            .config
            .listeners
            .into_iter()
            .zip(self.sockets)
            .enumerate()
        {
            let address = socket.local_addr().unwrap_or(listener.address);
            log::info!(
                "{:<10} listens on ws://{address}{}",
                listener.protocol.name,
                listener.endpoint()
            );
            let port = Arc::new(ListenerState::new(
                Arc::clone(&server),
                at,
                listener,
                address,
            ));
            accepting.push(task::spawn(accept::run(TcpListener::from(socket), port)));
        }
        drop(server);
        log::info!(
            "ready in {:.1} ms, at most {} connections, and {} for what they make it hold",
            started.elapsed().as_secs_f64() * 1e3,
            self.max_connections,
            mebibytes(self.memory_budget)
        );
        systemd::notify(sd_notify::NotifyState::Ready);

        let mut broker = broker.fuse();
        futures::select! {
            () = stop.fuse() => {}
            // It ends only by a panic while anybody could still speak to it.
            _ = broker => unreachable!("the broker outlives its clients"),
        }
        log::info!("stops; says goodbye to everybody");
        systemd::notify(sd_notify::NotifyState::Stopping);
        for port in accepting {
            port.cancel().await;
        }
        let _ = stopping.send(());
        let _ = inbox.send(Event::Stop).await;
        let keepalive = self.config.process.shutdown_timeout;
        if async_std::future::timeout(keepalive, gone.next())
            .await
            .is_err()
        {
            log::warn!(
                "some clients did not say goodbye within {} s",
                keepalive.as_secs_f64()
            );
        }
        let (answer, endings) = oneshot::channel();
        let _ = inbox.send(Event::Count(answer)).await;
        if let Ok(endings) = endings.await {
            let seconds = started.elapsed().as_secs_f64();
            log::info!(
                "stopped after {seconds:.0} s; connections: {}",
                summary(&endings)
            );
        }
    }
}

fn mebibytes(bytes: usize) -> String {
    match bytes {
        0 => "any memory".to_owned(),
        bytes => format!("{} MiB", bytes >> 20),
    }
}

fn summary(endings: &DisconnectCounts) -> String {
    if endings.is_empty() {
        return "none".to_owned();
    }
    let lines = endings.iter().map(|(how, count)| format!("{count} {how}"));
    lines.collect::<Vec<_>>().join(", ")
}

fn slot(listener: &Listener) -> RealmSlot {
    let realm = (listener.protocol.realm)(&listener.options);
    RealmSlot {
        realm: realm.unwrap_or_else(|_| unreachable!("the configuration was checked")),
        slow_consumer_policy: listener.protocol.slow_consumer_policy,
        keepalive: KeepaliveConfig {
            ping_after: listener.settings.ping_after,
            pong_timeout: listener.settings.pong_timeout,
            ping_every: listener.settings.ping_every,
        },
    }
}

fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = std::net::TcpListener::bind(address)?;
    // Again, for the sake of the backlog.
    rustix::net::listen(&socket, BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

async fn tick(mut inbox: mpsc::Sender<Event>) {
    loop {
        task::sleep(Duration::from_secs(1)).await;
        if inbox.send(Event::Tick).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::close::{CloseReason, DisconnectReason};
    use crate::base::frame::Frame;
    use crate::protocols::Protocol;
    use crate::realm::{
        ConnectRequest, ConnectionId, Context, Defaults, Message, Realm, Rejection,
        SlowConsumerPolicy,
    };
    use async_tungstenite::tungstenite::{self, Message as Received, WebSocket};
    use std::net::TcpStream;
    use std::thread;

    /// A protocol with bugs: it panics where the client tells it to, and echoes otherwise.
    struct Buggy;

    static BUGGY: Protocol = Protocol::of::<Buggy>();

    impl Realm for Buggy {
        const NAME: &'static str = "buggy";
        const ENDPOINT: &'static str = "/";
        const DEFAULTS: Defaults = Defaults {
            port: 0,
            origins: &["*"],
            handshake_timeout: 10,
            max_message_size: 1000,
            ping_every: 0,
        };
        const SLOW_CONSUMER_POLICY: SlowConsumerPolicy = SlowConsumerPolicy::Disconnect;
        type Options = std::collections::BTreeMap<String, String>;
        type Reader = ();
        type Command = String;

        fn new(_: Self::Options) -> Result<Self, (&'static str, String)> {
            Ok(Self)
        }

        fn matches_path(_: &str) -> bool {
            true
        }

        fn decode((): &mut (), message: Message) -> Option<String> {
            match message {
                Message::Text(text) if text.as_str() == "decode" => panic!("as told"),
                Message::Text(text) => Some(text.as_str().to_owned()),
                Message::Binary(_) => None,
            }
        }

        fn open(
            &mut self,
            _: &mut Context,
            _: ConnectionId,
            _: ConnectRequest,
        ) -> Result<(), Rejection> {
            Ok(())
        }

        fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: String) {
            assert_ne!(command, "realm", "as told");
            cx.send(conn, Frame::text(command));
        }

        fn close(&mut self, _: &mut Context, _: ConnectionId, _: DisconnectReason) {}
    }

    /// A server of that protocol, and where it listens. It is never told to stop.
    fn start() -> (thread::JoinHandle<()>, SocketAddr) {
        let mut config = Config::built_in();
        config.listeners = vec![Listener::built_in(&BUGGY)];
        let server = Server::bind(config, 1000).unwrap();
        let address = server.sockets[0].local_addr().unwrap();
        let run = || task::block_on(server.run(futures::future::pending()));
        (thread::spawn(run), address)
    }

    fn connect(address: SocketAddr) -> WebSocket<TcpStream> {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        tungstenite::client(format!("ws://{address}/"), stream)
            .unwrap()
            .0
    }

    #[test]
    fn a_panic_in_a_connection_ends_that_connection_and_no_other() {
        let (_server, address) = start();
        let (mut unlucky, mut other) = (connect(address), connect(address));
        unlucky.send("decode".into()).unwrap();
        match unlucky.read().unwrap() {
            Received::Close(Some(close)) => {
                assert_eq!(u16::from(close.code), CloseReason::InternalError.code());
            }
            message => panic!("not a Close frame: {message:?}"),
        }
        other.send("well?".into()).unwrap();
        assert_eq!(other.read().unwrap(), Received::from("well?"));
    }

    #[test]
    fn a_panic_in_the_broker_ends_the_server_with_it() {
        let (server, address) = start();
        connect(address).send("realm".into()).unwrap();
        assert!(server.join().is_err());
    }
}
