//! The server: binds all listeners, starts the broker, serves until it is asked to stop, and shuts down.

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
use async_std::task::{self, JoinHandle};
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, SinkExt, StreamExt};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// Length of a listener's accept queue. The 128 of the standard library are soon used up when many clients
/// reconnect at once, and each client above the limit waits a second before it tries again.
const BACKLOG: i32 = 4096;

/// Open files that are not available to connections: some to reject clients above the limit, and as many
/// again for listeners, the runtime and the log.
const RESERVED_FILES: usize = 2 * MAX_REJECTING;

/// The available memory divided by this is the default memory budget. The rest is for memory that the budget
/// does not count (tasks, small read buffers, the allocator's overhead, socket buffers) and for other
/// processes.
const MEMORY_BUDGET_DIVISOR: usize = 4;

/// The memory budget divided by this is a further budget, for large requests. A request takes at most 12 KiB,
/// so with the fallback budget more than a thousand of the largest fit.
const REQUEST_BUDGET_DIVISOR: usize = 8;

/// Default memory budget, in bytes, if the system does not report its memory: a
/// quarter of the 512 MiB of a small machine.
const FALLBACK_BUDGET: usize = 128 << 20;

/// A server whose listeners are bound and not yet served.
pub struct Server {
    config: Config,
    sockets: Vec<std::net::TcpListener>,
    max_connections: usize,
    /// Limit of the memory that clients make the process use, in bytes; 0: no limit.
    memory_budget: usize,
}

/// The error of a listener that cannot be bound.
#[derive(Debug)]
pub struct BindError {
    /// Index of the listener in the configuration.
    index: usize,
    protocol: &'static str,
    address: SocketAddr,
    error: std::io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            index,
            protocol,
            address,
            error,
        } = self;
        write!(
            f,
            "listeners[{index}] ({protocol}) cannot listen on {address}: {error}"
        )
    }
}

impl std::error::Error for BindError {}

impl Server {
    /// Binds all listeners of a configuration. `open_files` is the limit of open files of the process.
    ///
    /// # Errors
    /// The first listener that cannot be bound, with the system's error; then none is bound.
    pub fn bind(config: Config, open_files: usize) -> Result<Self, BindError> {
        let bind = |(index, listener): (usize, &Listener)| {
            listen(listener.address).map_err(|error| BindError {
                index,
                protocol: listener.protocol.name,
                address: listener.address,
                error,
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
            memory::available_memory()
                .map_or(FALLBACK_BUDGET, |memory| memory / MEMORY_BUDGET_DIVISOR)
        });
        Ok(Self {
            config,
            sockets,
            max_connections,
            memory_budget,
        })
    }

    /// Serves until `stop` completes, then closes all connections.
    ///
    /// # Panics
    /// If the broker panics: without it nothing can be served.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let started = Instant::now();
        let (mut inbox, events) = inbox();
        let (stop_sender, stopping) = oneshot::channel();
        let (task_guard, all_tasks_ended) = mpsc::channel(0);
        let budget = MemoryBudget::new(self.memory_budget);
        let state = Arc::new(ServerState {
            started,
            inbox: inbox.clone(),
            next_id: AtomicU64::new(1),
            connection_limit: ConnectionLimit::new(self.max_connections),
            budget: Arc::clone(&budget),
            request_budget: MemoryBudget::new(self.memory_budget / REQUEST_BUDGET_DIVISOR),
            rejection_limit: ConnectionLimit::new(MAX_REJECTING),
            stopping: stopping.shared(),
            _task_guard: task_guard,
        });
        let slots = self.config.listeners.iter().map(realm_slot).collect();
        let broker = task::spawn(Broker::new(slots, budget, started).run(events));
        task::spawn(tick(inbox.clone()));
        let accepting = serve_listeners(&state, self.config.listeners, self.sockets);
        // `all_tasks_ended` ends when the last task that serves clients drops its reference.
        drop(state);
        log::info!(
            "ready in {:.1} ms; at most {} connections; memory budget: {}",
            started.elapsed().as_secs_f64() * 1e3,
            self.max_connections,
            budget_text(self.memory_budget)
        );
        systemd::notify(sd_notify::NotifyState::Ready);

        let mut broker = broker.fuse();
        futures::select! {
            () = stop.fuse() => {}
            // While `inbox` exists, the broker can only end with a panic, which is propagated here.
            _ = broker => unreachable!("the broker runs as long as its inbox has senders"),
        }
        log::info!("stopping: closing all connections");
        systemd::notify(sd_notify::NotifyState::Stopping);
        for task in accepting {
            task.cancel().await;
        }
        let _ = stop_sender.send(());
        let _ = inbox.send(Event::Stop).await;
        wait_for_clients(all_tasks_ended, self.config.process.shutdown_timeout).await;
        log_summary(inbox, started).await;
    }
}

/// Starts the accept loop of each listener.
fn serve_listeners(
    state: &Arc<ServerState>,
    listeners: Vec<Listener>,
    sockets: Vec<std::net::TcpListener>,
) -> Vec<JoinHandle<()>> {
    let serve = |(index, (listener, socket)): (usize, (Listener, std::net::TcpListener))| {
        let address = socket.local_addr().unwrap_or(listener.address);
        log::info!(
            "{:<10} listens on ws://{address}{}",
            listener.protocol.name,
            listener.endpoint()
        );
        let state = ListenerState::new(Arc::clone(state), index, listener, address);
        task::spawn(accept::run(TcpListener::from(socket), Arc::new(state)))
    };
    listeners
        .into_iter()
        .zip(sockets)
        .enumerate()
        .map(serve)
        .collect()
}

/// Waits until no task serves a client any more, at most for `timeout`.
async fn wait_for_clients(mut all_tasks_ended: mpsc::Receiver<()>, timeout: Duration) {
    let ended = async_std::future::timeout(timeout, all_tasks_ended.next()).await;
    if ended.is_err() {
        log::warn!(
            "some clients did not close their connections within {} s and are cut off",
            timeout.as_secs_f64()
        );
    }
}

/// Logs how connections ended since the start, by reason.
async fn log_summary(mut inbox: mpsc::Sender<Event>, started: Instant) {
    let (reply, counts) = oneshot::channel();
    let _ = inbox.send(Event::Count(reply)).await;
    if let Ok(counts) = counts.await {
        let seconds = started.elapsed().as_secs_f64();
        log::info!(
            "stopped after {seconds:.0} s; connections: {}",
            counts_text(&counts)
        );
    }
}

fn budget_text(bytes: usize) -> String {
    match bytes {
        0 => "none".to_owned(),
        bytes => format!("{} MiB", bytes >> 20),
    }
}

fn counts_text(counts: &DisconnectCounts) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let parts = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"));
    parts.collect::<Vec<_>>().join(", ")
}

fn realm_slot(listener: &Listener) -> RealmSlot {
    let realm = (listener.protocol.new_realm)(&listener.options);
    RealmSlot {
        realm: realm.unwrap_or_else(|_| unreachable!("the configuration is validated")),
        slow_consumer_policy: listener.protocol.slow_consumer_policy,
        keepalive: KeepaliveConfig {
            ping_after: listener.settings.ping_after,
            pong_timeout: listener.settings.pong_timeout,
            ping_every: listener.settings.ping_every,
        },
        message_timeout: listener.settings.message_timeout,
    }
}

fn listen(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = std::net::TcpListener::bind(address)?;
    // A second listen(2) changes the backlog.
    rustix::net::listen(&socket, BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Creates the broker's inbox. Without a buffer each sender has one slot of its own, and so at most one
/// event in it.
fn inbox() -> (mpsc::Sender<Event>, mpsc::Receiver<Event>) {
    mpsc::channel(0)
}

/// Sends the broker an [`Event::Tick`] each second.
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

    /// A protocol with bugs: it panics where the client's message says, and echoes all other messages.
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
            message_timeout: 30,
        };
        const SLOW_CONSUMER_POLICY: SlowConsumerPolicy = SlowConsumerPolicy::Disconnect;
        type Options = std::collections::BTreeMap<String, String>;
        type Decoder = ();
        type Command = String;

        fn new(_: Self::Options) -> Result<Self, (&'static str, String)> {
            Ok(Self)
        }

        fn matches_path(_: &str) -> bool {
            true
        }

        fn decode((): &mut (), message: Message) -> Option<String> {
            match message {
                Message::Text(text) if text.as_str() == "decode" => panic!("as requested"),
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
            assert_ne!(command, "realm", "as requested");
            cx.send(conn, Frame::text(command));
        }

        fn close(&mut self, _: &mut Context, _: ConnectionId, _: DisconnectReason) {}
    }

    /// Starts a server of that protocol that is never stopped. Returns its thread and its address.
    fn start() -> (thread::JoinHandle<()>, SocketAddr) {
        let mut config = Config::built_in();
        let mut listener = Listener::built_in(&BUGGY);
        // On a loaded machine a client may wait long for the server's tasks to run.
        let long = Duration::from_secs(3600);
        listener.settings.handshake_timeout = long;
        listener.settings.ping_after = Duration::ZERO;
        listener.settings.close_timeout = long;
        config.listeners = vec![listener];
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
    fn a_connection_has_one_slot_in_the_inbox() {
        let (mut one, mut events) = inbox();
        let mut other = one.clone();
        assert!(one.try_send(Event::Tick).is_ok());
        assert!(
            one.try_send(Event::Tick).is_err(),
            "the first was not taken"
        );
        assert!(
            other.try_send(Event::Tick).is_ok(),
            "each sender has a slot"
        );
        assert!(events.try_recv().is_ok());
        assert!(one.try_send(Event::Tick).is_ok());
    }

    #[test]
    fn a_panic_in_a_connection_ends_that_connection_and_no_other() {
        let (_server, address) = start();
        let (mut panicking, mut other) = (connect(address), connect(address));
        panicking.send("decode".into()).unwrap();
        match panicking.read().unwrap() {
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
