//! The server: binds all listeners, starts the broker, serves until it is asked to stop, and shuts down.

use crate::base::memory_budget::MemoryBudget;
use crate::broker::KeepaliveConfig;
use crate::broker::{Broker, Clock, DisconnectCounts, Event, EventSender, Pulse, RealmSlot, inbox};
use crate::config::{Address, Config, Listener};
use crate::net::accept;
use crate::net::bind::{Bound, bind};
use crate::net::connection_limits::ConnectionLimit;
use crate::net::frame_writer;
use crate::net::listener::{ListenerState, MAX_REJECTING, ServerState};
use crate::net::turns;
use crate::status::{self, Routes};
use crate::sys::limits::Limits;
use crate::sys::log_fields::{self, field, text};
use crate::sys::memory::available_memory;
use crate::sys::systemd::{self, Heartbeat};
use crate::sys::threads;
use async_std::channel;
use async_std::net::TcpListener;
use async_std::task::{self, JoinHandle};
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, SinkExt, StreamExt};
use std::convert::Infallible;
use std::fmt;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

/// Open files that are not available to connections, beside those of the listeners: some to reject clients above
/// the limit, and as many again for the runtime, the signals and the log.
const RESERVED_FILES: usize = 2 * MAX_REJECTING;

/// Interval at which the counts of notices are looked at. Each is logged at most once a minute.
const NOTICE_COUNT_INTERVAL: Duration = Duration::from_secs(10);

/// Time between two tries to bind a listener whose address is taken.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The memory budget divided by this is a further budget, for large requests. A request takes at most 20 KiB,
/// so with the fallback budget 800 of the largest fit.
const REQUEST_BUDGET_DIVISOR: usize = 8;

/// A server whose listeners are bound and not yet served.
pub struct Server {
    config: Config,
    /// The time at which the configuration was read.
    started: Instant,
    /// The sockets of each listener; `None`: its port is taken, and is tried again.
    bound: Vec<Option<Bound>>,
    /// The socket of the status port, if it has one.
    status: Option<Bound>,
    limits: Limits,
}

/// Returns the limits under which a server with this configuration serves. `open_files` is the limit of open files of
/// the process.
pub fn limits(config: &Config, open_files: usize) -> Limits {
    let settings = &config.process;
    let addresses = config.listeners.iter().map(|it| it.settings.address);
    let sockets: usize = addresses.map(|address| address.max_sockets()).sum();
    Limits::new(
        settings.max_connections,
        settings.memory_budget,
        available_memory(threads::count(settings.threads)),
        open_files,
        RESERVED_FILES + sockets,
    )
}

/// The error of a listener that cannot be bound.
#[derive(Debug)]
pub struct BindError {
    /// Where the configuration has the listener.
    place: String,
    protocol: &'static str,
    address: Address,
    error: std::io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            protocol,
            address,
            error,
        } = self;
        write!(
            f,
            "{place} ({protocol}) cannot listen on {address}: {error}{}",
            remedy(error.kind(), address)
        )
    }
}

impl std::error::Error for BindError {}

/// What to do about a listener whose address another program has, or this machine does not have yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenTaken {
    /// It is an error: somebody sees it.
    Fail,
    /// The others are served, and it is tried again: nobody may be there to start the daemon again.
    Retry,
}

/// Returns whether an error of binding may pass by itself.
fn is_taken(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable
    )
}

/// Returns what to do about an error of binding, if that can be said.
fn remedy(error: ErrorKind, address: &Address) -> String {
    let port = address.port();
    match error {
        ErrorKind::AddrInUse => {
            format!(
                "; end the program that listens there (ss -ltnp shows it), or write a port other than {port}"
            )
        }
        ErrorKind::AddrNotAvailable => {
            format!("; write an address that this machine has, or \"*:{port}\" for all of them")
        }
        ErrorKind::PermissionDenied if port < 1024 => {
            "; write a port from 1024 on, and put a proxy in front".to_owned()
        }
        _ => String::new(),
    }
}

impl Server {
    /// Binds all listeners of a configuration. `open_files` is the limit of open files of the process.
    ///
    /// # Errors
    /// The first listener that cannot be bound, with the system's error; then none is bound. One whose address is
    /// [taken](WhenTaken) may be tried again instead.
    pub fn bind(
        config: Config,
        open_files: usize,
        when_taken: WhenTaken,
    ) -> Result<Self, BindError> {
        let started = Instant::now();
        for warning in config.warnings() {
            log::warn!("{warning}");
        }
        let bind = |(index, listener): (usize, &Listener)| {
            let error = match bind(listener.settings.address) {
                Ok(bound) => return Ok(Some(bound)),
                Err(error) => error,
            };
            let is_taken = is_taken(&error);
            let error = BindError {
                place: config.place_of_listener(index),
                protocol: listener.protocol.name,
                address: listener.settings.address,
                error,
            };
            if is_taken && when_taken == WhenTaken::Retry {
                log::error!("{error}; it is tried again each second");
                Ok(None)
            } else {
                Err(error)
            }
        };
        let bound: Vec<Option<Bound>> = config
            .listeners
            .iter()
            .enumerate()
            .map(bind)
            .collect::<Result<_, _>>()?;
        let limits = limits(&config, open_files);
        for warning in limits.warnings() {
            log::warn!("{warning}");
        }
        Ok(Self {
            status: config.process.status.and_then(bind_status),
            config,
            started,
            bound,
            limits,
        })
    }

    /// Serves until `stop` completes, then closes all connections.
    ///
    /// # Panics
    /// If the broker panics: without it nothing can be served.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let (started, clock) = (self.started, Arc::new(Clock::new()));
        frame_writer::allocate_buffers(threads::count(self.config.process.threads));
        let (lanes, mut inbox, events) = inbox(self.config.listeners.len());
        let (stop_sender, stopping) = channel::bounded(1);
        let (task_guard, all_tasks_ended) = mpsc::channel(0);
        let budget = MemoryBudget::new(self.limits.memory_budget);
        let state = Arc::new(ServerState {
            clock: Arc::clone(&clock),
            lanes,
            next_id: AtomicU64::new(1),
            connection_limit: ConnectionLimit::new(self.limits.capacity.connections),
            budget: Arc::clone(&budget),
            request_budget: MemoryBudget::new(self.limits.memory_budget / REQUEST_BUDGET_DIVISOR),
            rejection_limit: ConnectionLimit::new(MAX_REJECTING),
            log_connections: self.config.process.log_connections,
            log_addresses: self.config.process.log_addresses,
            stopping,
            _task_guard: task_guard,
        });
        let slots = self.config.listeners.iter().map(realm_slot).collect();
        let broker = Broker::new(slots, Arc::clone(&budget), clock);
        let pulse = broker.pulse();
        let routes = Routes {
            pulse: Arc::clone(&pulse),
        };
        let status = status::serve(
            self.status.into_iter().flat_map(|it| it.sockets).collect(),
            &routes,
        );
        let heartbeat = Heartbeat::start().map(|heartbeat| (heartbeat, Arc::clone(&pulse), budget));
        let broker = task::spawn(broker.run(events));
        task::spawn(turns::pace());
        // The channel allocates the list of those who wait at the first `recv`. Allocated during a storm, it would
        // keep the memory below it (see `base/spare.rs`).
        let _ = state.stopping.recv().now_or_never();
        let (listeners, mut tasks) = serve_listeners(&state, self.config.listeners, self.bound);
        tasks.push(task::spawn(log_notice_counts(listeners.clone())));
        let watch = heartbeat.map(|(heartbeat, pulse, budget)| Watch {
            heartbeat,
            pulse,
            budget,
            listeners: listeners.clone(),
            ticks: 0,
        });
        // Runs on the thread of this future. What it allocates is not in the heaps of the executor's threads, which
        // are those that a storm fills (see `Event::Refresh`).
        let tick = tick(inbox.clone(), state.lanes.clone(), pulse, watch);
        // `all_tasks_ended` ends when the last task that serves clients drops its reference.
        drop(state);
        log_ready(started.elapsed(), &self.limits);
        systemd::notify(sd_notify::NotifyState::Ready);

        let mut broker = broker.fuse();
        futures::select! {
            () = stop.fuse() => {}
            never = tick.fuse() => match never {},
            () = status.fuse() => {}
            // While `inbox` exists, the broker can only end with a panic, which is propagated here.
            _ = broker => unreachable!("the broker runs as long as its inbox has senders"),
        }
        log::info!("stopping: closing all connections");
        systemd::notify(sd_notify::NotifyState::Stopping);
        for task in tasks {
            task.cancel().await;
        }
        listeners.iter().for_each(|it| it.log_notice_counts(None));
        drop(listeners);
        drop(stop_sender);
        let _ = inbox.send(Event::Stop).await;
        wait_for_clients(all_tasks_ended, self.config.process.shutdown_timeout).await;
        log_summary(inbox, started).await;
    }
}

/// Binds the status port. Without it the listeners are served all the same.
fn bind_status(address: Address) -> Option<Bound> {
    match bind(address) {
        Ok(bound) => {
            log::info!("status on http://{}/", bound.address);
            Some(bound)
        }
        Err(error) => {
            log::warn!(
                "status: cannot listen on {address}: {error}{}; there is no status port",
                remedy(error.kind(), &address)
            );
            None
        }
    }
}

/// Logs that the server is ready, and its limits.
fn log_ready(time: Duration, limits: &Limits) {
    let (capacity, milliseconds) = (&limits.capacity, time.as_secs_f64() * 1e3);
    let connections = capacity.connections;
    let fields = [
        field("max_connections", connections),
        field("memory_budget", limits.memory_budget),
    ];
    let budget = match limits.memory_budget {
        0 => "any amount".to_owned(),
        bytes => format!("{} MiB", bytes >> 20),
    };
    log_fields::log(
        log::Level::Info,
        &fields,
        format_args!(
            "ready in {milliseconds:.1} ms after the configuration was read; limits: at most {connections} connections, because of {}; \
             {budget} of memory for what clients send and are sent (memory_budget)",
            capacity.decided_by,
        ),
    );
}

/// Starts an accept loop for each socket of each listener. Returns the state of each listener, and the tasks.
fn serve_listeners(
    state: &Arc<ServerState>,
    listeners: Vec<Listener>,
    bound: Vec<Option<Bound>>,
) -> (Vec<Arc<ListenerState>>, Vec<JoinHandle<()>>) {
    let mut tasks = Vec::new();
    let serve = |(index, (listener, bound)): (usize, (Listener, Option<Bound>))| {
        let address = bound
            .as_ref()
            .map_or(listener.settings.address, |it| it.address);
        let state =
            ListenerState::new(Arc::clone(state), index, listener, address, bound.is_some());
        let state = Arc::new(state);
        match bound {
            Some(bound) => {
                log_listening(&state, &bound);
                for socket in bound.sockets {
                    let accept = accept::run(TcpListener::from(socket), Arc::clone(&state));
                    tasks.push(task::spawn(accept));
                }
            }
            None => tasks.push(task::spawn(serve_when_free(Arc::clone(&state)))),
        }
        state
    };
    let listeners = listeners
        .into_iter()
        .zip(bound)
        .enumerate()
        .map(serve)
        .collect();
    (listeners, tasks)
}

fn log_listening(listener: &ListenerState, bound: &Bound) {
    let (name, address) = (listener.protocol_name(), listener.address);
    log_fields::log(
        log::Level::Info,
        &[field("protocol", name), text("listener", &address)],
        format_args!(
            "{name:<10} listens on ws://{address}{}{}",
            listener.endpoint,
            bound_ips(address, &bound.sockets)
        ),
    );
}

/// Tries to bind a listener whose address was taken until that succeeds, and then serves it.
async fn serve_when_free(listener: Arc<ListenerState>) {
    let bound = loop {
        task::sleep(RETRY_INTERVAL).await;
        match bind(listener.address) {
            Ok(bound) => break bound,
            Err(error) => log::debug!("{} is still not free: {error}", listener.address),
        }
    };
    log_listening(&listener, &bound);
    listener.set_bound();
    let accept = |socket| accept::run(TcpListener::from(socket), Arc::clone(&listener));
    futures::future::join_all(bound.sockets.into_iter().map(accept)).await;
}

/// Logs from time to time how many notices had no line of their own.
async fn log_notice_counts(listeners: Vec<Arc<ListenerState>>) {
    loop {
        task::sleep(NOTICE_COUNT_INTERVAL).await;
        let now = Some(Instant::now());
        listeners.iter().for_each(|it| it.log_notice_counts(now));
    }
}

/// Returns what is bound, in brackets, where that depends on the system.
fn bound_ips(address: Address, sockets: &[std::net::TcpListener]) -> String {
    let ips = sockets.iter().filter_map(|socket| socket.local_addr().ok());
    let ips: Vec<IpAddr> = ips.map(|address| address.ip()).collect();
    match address {
        Address::Ip(_) => String::new(),
        Address::Any(_) if ips.iter().any(IpAddr::is_ipv6) => " (IPv4 and IPv6)".to_owned(),
        Address::Any(_) => " (IPv4; this system has no IPv6)".to_owned(),
        Address::Localhost(_) => {
            let ips: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
            format!(" ({})", ips.join(", "))
        }
    }
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
async fn log_summary(mut inbox: EventSender, started: Instant) {
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

/// What systemd is told of the daemon.
struct Watch {
    heartbeat: Heartbeat,
    pulse: Arc<Pulse>,
    budget: Arc<MemoryBudget>,
    listeners: Vec<Arc<ListenerState>>,
    /// Number of the broker's last second that systemd was told of.
    ticks: u64,
}

impl Watch {
    /// Tells systemd that the daemon is well, if the broker has handled another second.
    fn tell_systemd(&mut self) {
        let before = std::mem::replace(&mut self.ticks, self.pulse.ticks());
        if self.ticks > before {
            self.heartbeat.beat(self.status());
        }
    }

    /// Returns a line for `systemctl status`.
    fn status(&self) -> String {
        let (connections, held) = (self.pulse.connections(), self.budget.reserved() >> 20);
        let limit = match self.budget.limit() {
            0 => String::new(),
            limit => format!(" of {} MiB", limit >> 20),
        };
        let waiting = self
            .listeners
            .iter()
            .filter(|listener| !listener.is_bound());
        let waiting =
            waiting.map(|it| format!("; {} waits for {}", it.protocol_name(), it.address));
        let waiting: String = waiting.collect();
        format!("{connections} connections, {held} MiB{limit}{waiting}")
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
        keepalive: KeepaliveConfig {
            ping_after: listener.settings.ping_after,
            pong_timeout: listener.settings.pong_timeout,
            ping_every: listener.settings.ping_every,
        },
        message_timeout: listener.settings.message_timeout,
    }
}

/// Sends the broker an [`Event::Tick`] each second, and an [`Event::Refresh`] over the lane of each listener. Tells
/// systemd that the daemon is well if the broker has handled the last one.
async fn tick(
    mut inbox: EventSender,
    mut lanes: Vec<EventSender>,
    pulse: Arc<Pulse>,
    mut watch: Option<Watch>,
) -> Infallible {
    loop {
        task::sleep(Duration::from_secs(1)).await;
        if let Some(watch) = &mut watch {
            watch.tell_systemd();
        }
        for lane in &mut lanes {
            // Fails if the previous one is still in the lane.
            let _ = lane.try_send(Event::Refresh);
        }
        pulse.record_sent();
        // Fails if the broker has panicked, which ends the caller.
        let _ = inbox.send(Event::Tick).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::close::{CloseReason, DisconnectReason};
    use crate::base::frame::Frame;
    use crate::realm::protocol::new_realm;
    use crate::realm::{
        Command, ConnectRequest, ConnectionId, Context, Message, Protocol, Realm, Rejection,
        SettingError, SettingMap, SlowConsumerPolicy,
    };
    use async_tungstenite::tungstenite::{self, Message as Received, Utf8Bytes, WebSocket};
    use serde_json::json;
    use std::net::{SocketAddr, TcpStream};
    use std::thread;

    /// A protocol with bugs: it panics where the client's message says, and echoes all other messages.
    struct Buggy;

    static BUGGY: Protocol = Protocol {
        name: "buggy",
        endpoint: |_| "/".to_owned(),
        listener_defaults: || json!({"max_message_size": 1000}),
        options: Vec::new,
        close_reasons: &[],
        slow_consumer_policy: SlowConsumerPolicy::Disconnect,
        min_outbox_messages: 0,
        methods: &[],
        full_message: None,
        matches_path: |_| true,
        client_id: |_| None,
        new_decoder: || {
            Box::new(|message| match message {
                Message::Text(text) if text.as_str() == "decode" => panic!("as requested"),
                Message::Text(text) => Some(Command::new(text)),
                Message::Binary(_) => None,
            })
        },
        new_realm: new_realm::<Buggy>,
    };

    impl Realm for Buggy {
        fn new(_: &SettingMap) -> Result<Self, Vec<SettingError>> {
            Ok(Self)
        }

        fn protocol(&self) -> &'static Protocol {
            &BUGGY
        }

        fn open(
            &mut self,
            _: &mut Context,
            _: ConnectionId,
            _: ConnectRequest,
        ) -> Result<(), Rejection> {
            Ok(())
        }

        fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: Command) {
            let text: Utf8Bytes = command.into();
            assert_ne!(text.as_str(), "realm", "as requested");
            cx.send(conn, Frame::text(text));
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
        let server = Server::bind(config, 1000, WhenTaken::Fail).unwrap();
        let address = server.bound[0].as_ref().unwrap().sockets[0]
            .local_addr()
            .unwrap();
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
        let (mut panicking, mut other) = (connect(address), connect(address));
        panicking.send("decode".into()).unwrap();
        match panicking.read().unwrap() {
            Received::Close(Some(close)) => {
                assert_eq!(u16::from(close.code), CloseReason::INTERNAL_ERROR.code());
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
