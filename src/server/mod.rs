//! The server: binds all listeners, starts the broker, serves until it is asked to stop, and shuts down.

mod binding;
mod certificates;
mod changes;
mod listeners;
mod log_lines;
mod reload;
mod status_port;
mod watch;

use crate::base::coalesce;
use crate::broker::{Broker, Clock, Event, EventSender, inbox};
use crate::config::{Address, Config, ConfigError};
use crate::net::bind::close_unnamed;
use crate::net::connection::allocate_readers;
use crate::net::listener_set::ListenerSet;
use crate::net::server_state::{MAX_REJECTING, ServerState};
use crate::net::turns;
use crate::status::{self, DaemonState, Moderation, Routes};
use crate::sys::executor;
use crate::sys::limits::Limits;
use crate::sys::memory::available_memory;
use crate::sys::signals::Request;
use crate::sys::systemd::StateChange;
use crate::sys::systemd_sockets;
pub use binding::{BindError, WhenTaken};
use binding::{MaybeBound, bind_listener, log_retry};
use futures::channel::mpsc;
use futures::{FutureExt, SinkExt, Stream, StreamExt};
use listeners::Listeners;
use log_lines::{log_ready, log_summary};
use reload::Reloader;
use status_port::StatusPort;
use std::sync::Arc;
use std::time::{Duration, Instant};
use watch::Watch;

/// Open files that are not available to connections, beside those of the listeners: some to reject clients above
/// the limit, and as many again for the runtime, the signals and the log. Those of the executor's threads come on top.
const RESERVED_FILES: usize = 2 * MAX_REJECTING;

/// A server whose listeners are bound and not yet served.
pub struct Server {
    config: Config,
    /// The time at which the configuration was read.
    started: Instant,
    bound: Vec<MaybeBound>,
    status: StatusPort,
    open_files: usize,
}

/// Returns the limits under which a server with this configuration serves. `open_files` is the limit of open files of
/// the process.
pub fn limits(config: &Config, open_files: usize) -> Limits {
    let settings = &config.process;
    let addresses = config.listeners.iter().map(|it| &it.settings.address);
    let sockets: usize = addresses.map(Address::max_sockets).sum();
    // Those that are passed, and the copy that a listener has of each.
    let sockets = sockets + 2 * systemd_sockets::passed().len();
    let of_status = |address: &Address| address.max_sockets() + status::MAX_CONNECTIONS;
    let of_status = settings.status.as_ref().map_or(0, of_status);
    let threads = executor::count(settings.threads);
    Limits::new(
        settings.max_connections,
        settings.memory_budget,
        available_memory(threads),
        open_files,
        RESERVED_FILES + threads * executor::FILES_PER_THREAD + sockets + of_status,
    )
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
        for error in config.certificate_errors() {
            log::error!("{error}");
        }
        let bind = |index| match bind_listener(&config, index) {
            Err(error) if error.may_pass() && when_taken == WhenTaken::Retry => {
                log_retry(&error);
                Ok(None)
            }
            result => result.map(Some),
        };
        let bound = (0..config.listeners.len()).map(bind);
        let bound = bound.collect::<Result<_, _>>()?;
        let addresses = config.listeners.iter().map(|it| &it.settings.address);
        close_unnamed(addresses.chain(&config.process.status));
        Ok(Self {
            bound,
            status: StatusPort::bind(config.process.status.clone()),
            config,
            started,
            open_files,
        })
    }

    /// Serves until one of the requests is to stop, then closes all connections. At each request to reload, `load`
    /// returns the configuration that holds from then on.
    ///
    /// # Panics
    /// If the broker panics: without it nothing can be served.
    pub async fn run(
        self,
        requests: impl Stream<Item = Request>,
        load: impl FnMut() -> Result<Config, ConfigError>,
    ) {
        let Self {
            config,
            started,
            bound,
            status,
            open_files,
        } = self;
        let threads = executor::count(config.process.threads);
        coalesce::allocate_buffers(threads);
        allocate_readers(threads);
        let limits = limits(&config, open_files);
        limits.warnings().iter().for_each(|it| log::warn!("{it}"));
        let (mut events, inbox) = inbox();
        let (task_guard, all_tasks_ended) = mpsc::channel(0);
        let clock = Arc::new(Clock::new());
        let state = Arc::new(ServerState::new(Arc::clone(&clock), task_guard));
        state.apply(&config, &limits);
        let broker = Broker::new(Arc::clone(&state.budget), clock);
        let set = Arc::new(ListenerSet::default());
        let routes = Routes {
            daemon: DaemonState::new(broker.pulse(), Arc::clone(&state), Arc::clone(&set)),
            moderation: Moderation::new(events.clone(), Arc::clone(&state)),
        };
        let watch = Watch::start(broker.pulse(), Arc::clone(&state.budget), Arc::clone(&set));
        let broker = executor::spawn(broker.run(inbox));
        executor::spawn_on_each_thread(turns::pace);
        let mut listeners = Listeners::new(Arc::clone(&state), events.clone(), set);
        listeners.start(&config.listeners, bound).await;
        let mut reloader = Reloader {
            config,
            open_files,
            server: state,
            listeners,
            watch: &watch,
            load,
        };
        status.create_token(&routes);
        log_ready(started.elapsed(), &limits);
        watch.notify(StateChange::Ready);

        let mut broker = broker.fuse();
        // Runs on the thread of this future. What it allocates is not in the heaps of the executor's threads, which
        // are those that a storm fills (see `Event::Refresh`).
        let tick = watch.tick(events.clone(), &routes.daemon);
        futures::select! {
            () = reloader.run(requests).fuse() => {}
            never = tick.fuse() => match never {},
            () = status.serve(&routes).fuse() => {}
            // While `events` exists, the broker can only end with a panic, which is propagated here.
            _ = broker => unreachable!("the broker runs as long as its inbox has senders"),
        }
        // It refers to the state of the server, whose last reference is awaited.
        drop(routes);
        stop(reloader, &mut events, all_tasks_ended).await;
        log_summary(events, started).await;
    }
}

/// Closes all connections, and waits until they have ended, at most for `shutdown_timeout`.
async fn stop<L>(
    reloader: Reloader<'_, L>,
    broker: &mut EventSender,
    all_tasks_ended: mpsc::Receiver<()>,
) {
    log::info!("stopping: closing all connections");
    reloader.watch.notify(StateChange::Stopping);
    let timeout = reloader.config.process.shutdown_timeout;
    reloader.listeners.stop(timeout).await;
    // `all_tasks_ended` ends when the last task that serves clients drops its reference to the state.
    drop(reloader.server);
    let _ = broker.send(Event::Stop).await;
    wait_for_clients(all_tasks_ended, timeout).await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::close::{CloseReason, DisconnectReason};
    use crate::base::frame::Frame;
    use crate::config::Listener;
    use crate::realm::{
        Command, ConnectRequest, ConnectionId, Context, Figures, Message, Protocol, Realm,
        Rejection, SettingError, SettingMap,
    };
    use async_tungstenite::tungstenite::{self, Message as Received, Utf8Bytes, WebSocket};
    use futures::stream;
    use std::net::{SocketAddr, TcpStream};
    use std::thread;

    /// A protocol with bugs: it panics where the client's message says, and echoes all other messages.
    struct Buggy;

    static BUGGY: Protocol = Protocol::bare::<Buggy>("buggy", |_| {
        Box::new(|message| match message {
            Message::Text(text) if text.as_str() == "decode" => panic!("as requested"),
            Message::Text(text) => Some(Command::new(text)),
            Message::Binary(_) => None,
        })
    });

    impl Realm for Buggy {
        fn new(_: &SettingMap) -> Result<Self, Vec<SettingError>> {
            Ok(Self)
        }

        fn reconfigure(
            &mut self,
            _: &mut Context,
            _: &SettingMap,
        ) -> Result<(), Vec<SettingError>> {
            Ok(())
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

        fn figures(&self) -> Figures {
            Figures::default()
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
        let bound = server.bound[0].as_ref().unwrap();
        let address = bound.ip_addresses().next().unwrap();
        let run = || async_io::block_on(server.run(stream::pending(), || unreachable!()));
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
