//! The listeners that are served: they begin, change, and end while the server runs.

use super::binding::{MaybeBound, bind_listener, bind_when_free, log_retry};
use super::changes::{Counterpart, changed_settings};
use super::log_lines::log_listening;
use crate::broker::{
    ConnectionChecks, Event, EventSender, KeepaliveConfig, ListenerChange, NewListener, RealmSlot,
    lane,
};
use crate::config::{Address, Config, Listener, ListenerSettings};
use crate::net::accept;
use crate::net::connection_limits::ConnectionLimit;
use crate::net::listener::{ListenerShared, ListenerState};
use crate::net::listener_set::{ListenerHandle, ListenerSet};
use crate::net::server_state::ServerState;
use crate::sys::executor::{self, Task};
use async_std::channel::{self, Sender};
use async_std::task;
use futures::channel::oneshot;
use futures::{FutureExt, SinkExt};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Interval at which the counts of notices are looked at. Each is logged at most once a minute.
const NOTICE_COUNT_INTERVAL: Duration = Duration::from_secs(10);

/// Time at stop for clients that were just accepted to send a request and to get the answer. A request is on its way
/// when its connection is accepted, and takes a round trip.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Time between two looks at whether they have it.
const ANSWER_INTERVAL: Duration = Duration::from_millis(5);

/// All listeners of the server.
pub(super) struct Listeners {
    server: Arc<ServerState>,
    broker: EventSender,
    /// In the order of the configuration.
    served: Vec<ServedListener>,
    /// The same, for others to look at.
    set: Arc<ListenerSet>,
    /// Logs the counts of notices.
    counting: Task<()>,
}

/// One listener.
struct ServedListener {
    /// The listener as the configuration has it, with the certificate that was in use at the last reload.
    config: Listener,
    handle: Arc<ListenerHandle>,
    /// Its drop ends the handshakes of the listener.
    stop: Sender<Infallible>,
    /// Accepts connections.
    accepting: Task<()>,
}

impl Listeners {
    /// Creates a server's listeners, of which there is none yet.
    pub(super) fn new(
        server: Arc<ServerState>,
        broker: EventSender,
        set: Arc<ListenerSet>,
    ) -> Self {
        Self {
            server,
            broker,
            served: Vec::new(),
            counting: executor::spawn(log_notice_counts(Arc::clone(&set))),
            set,
        }
    }

    /// Serves the listeners of a configuration with their sockets.
    pub(super) async fn start(&mut self, listeners: &[Listener], bound: Vec<MaybeBound>) {
        for (listener, bound) in listeners.iter().zip(bound) {
            let served = self.serve(listener.clone(), bound).await;
            self.served.push(served);
        }
        self.publish();
    }

    /// Returns the listeners as they are configured.
    pub(super) fn configured(&self) -> Vec<&Listener> {
        self.served.iter().map(|it| &it.config).collect()
    }

    /// Records which certificates were renewed since they were configured: those are no change of a reload.
    pub(super) fn record_renewed(&mut self) {
        for served in &mut self.served {
            let in_use = served.handle.current().shared.tls.get();
            served.config.settings.tls = in_use.as_deref().cloned();
        }
    }

    /// Returns the name and the address of a listener.
    pub(super) fn name(&self, index: usize) -> String {
        self.served
            .get(index)
            .map_or_else(String::new, ServedListener::name)
    }

    /// Serves the listeners of another configuration, whose [counterparts](Counterpart) are known. New ones have these
    /// sockets; where their address is taken, it is tried again when the old listeners have given up theirs.
    pub(super) async fn replace(
        &mut self,
        config: &Config,
        counterparts: &[Counterpart],
        mut bound: Vec<MaybeBound>,
    ) {
        let mut old: Vec<Option<ServedListener>> = self.served.drain(..).map(Some).collect();
        let mut take = |index: usize| old.get_mut(index).and_then(Option::take);
        let kept: Vec<Option<ServedListener>> = counterparts
            .iter()
            .map(|counterpart| counterpart.old_index().and_then(&mut take))
            .collect();
        for removed in old.into_iter().flatten() {
            self.remove(removed).await;
        }
        let new = counterparts.iter().zip(kept).zip(&config.listeners);
        for (index, ((counterpart, kept), listener)) in new.enumerate() {
            let served = match (counterpart, kept) {
                (Counterpart::Same(_), Some(kept)) => self.change(kept, listener).await,
                (Counterpart::OtherProtocol(_), Some(kept)) => self.hand_over(kept, listener).await,
                _ => {
                    let bound = bound.get_mut(index).and_then(Option::take);
                    let bound = bound.or_else(|| bind_or_log(config, index));
                    self.serve(listener.clone(), bound).await
                }
            };
            self.served.push(served);
        }
        self.publish();
    }

    /// Ends all, as far as the broker does not: closes the sockets, and ends the handshakes.
    /// The clients that were just accepted are answered before, at most for this time.
    pub(super) async fn stop(self, timeout: Duration) {
        self.counting.cancel().await;
        self.set.set(Vec::new());
        let mut stops = Vec::new();
        for served in self.served {
            served.accepting.cancel().await;
            stops.push((served.handle, served.stop));
        }
        answer_accepted(&self.server.unanswered, timeout).await;
        for (handle, _stop) in stops {
            handle.current().log_notice_counts(None);
        }
    }

    /// Lets others see the listeners.
    fn publish(&self) {
        let handles = self.served.iter().map(|it| Arc::clone(&it.handle));
        self.set.set(handles.collect());
    }

    /// Serves a new listener.
    async fn serve(&mut self, config: Listener, bound: MaybeBound) -> ServedListener {
        let address = bound
            .as_ref()
            .map_or(&config.settings.address, |it| &it.address)
            .clone();
        let (shared, stop) = self.register(&config, &address).await;
        let server = Arc::clone(&self.server);
        let state = ListenerState::new(server, shared, config.clone(), Arc::new(address));
        if let Some(bound) = &bound {
            log_listening(&state, bound);
        }
        let handle = ListenerHandle::new(state, bound.is_some());
        ServedListener {
            config,
            accepting: executor::spawn(accept_all(Arc::clone(&handle), bound)),
            handle,
            stop,
        }
    }

    /// Changes the settings of a listener, if they are others.
    async fn change(&mut self, mut served: ServedListener, new: &Listener) -> ServedListener {
        let changed = changed_settings(&served.config, new);
        if changed.is_empty() {
            return served;
        }
        let current = served.handle.current();
        let shared = Arc::clone(&current.shared);
        shared.apply(&new.settings);
        let change = ListenerChange {
            listener_index: current.index(),
            checks: checks(&new.settings),
            options: (served.config.options != new.options).then(|| new.options.clone()),
        };
        self.send(Event::ChangeListener(Box::new(change))).await;
        let server = Arc::clone(&self.server);
        let state = ListenerState::new(server, shared, new.clone(), Arc::clone(&current.address));
        served.handle.replace(state);
        served.config = new.clone();
        served
    }

    /// Serves another protocol with the sockets of a listener, whose connections are closed. No client is refused.
    async fn hand_over(&mut self, mut served: ServedListener, new: &Listener) -> ServedListener {
        let old = served.handle.current();
        let (shared, stop) = self.register(new, &old.address).await;
        let server = Arc::clone(&self.server);
        let state = ListenerState::new(server, shared, new.clone(), Arc::clone(&old.address));
        served.handle.replace(state);
        served.stop = stop;
        served.config = new.clone();
        self.drain(&old).await;
        served
    }

    /// Closes the sockets of a listener, and then its connections.
    async fn remove(&mut self, served: ServedListener) {
        served.accepting.cancel().await;
        drop(served.stop);
        self.drain(&served.handle.current()).await;
    }

    /// Closes the connections of a listener.
    async fn drain(&mut self, listener: &ListenerState) {
        listener.log_notice_counts(None);
        self.send(Event::RemoveListener(listener.index())).await;
    }

    /// Has the broker serve a listener. Returns what the states of the listener share, and the sender whose drop ends
    /// its handshakes.
    async fn register(
        &mut self,
        listener: &Listener,
        address: &Address,
    ) -> (Arc<ListenerShared>, Sender<Infallible>) {
        let (lane, events) = lane();
        let (reply_to, key) = oneshot::channel();
        let new = NewListener {
            slot: realm_slot(listener, address),
            events,
            reply_to,
        };
        self.send(Event::AddListener(Box::new(new))).await;
        let key = key.await.expect("the broker has not panicked");
        let (stop, stopping) = channel::bounded(1);
        // The channel allocates the list of those who wait at the first `recv`. Allocated during a storm, it would
        // keep the memory below it (see `base/spare.rs`).
        let _ = stopping.recv().now_or_never();
        (
            ListenerShared::new(key, lane, stopping, &listener.settings),
            stop,
        )
    }

    async fn send(&mut self, event: Event) {
        // Fails if the broker has panicked, which ends the caller.
        let _ = self.broker.send(event).await;
    }
}

impl ServedListener {
    fn name(&self) -> String {
        let listener = self.handle.current();
        format!("{} on {}", listener.protocol_name(), listener.address)
    }
}

/// Binds a listener, or logs that it is tried again.
fn bind_or_log(config: &Config, index: usize) -> MaybeBound {
    let bound = bind_listener(config, index);
    bound.map_err(|error| log_retry(&error)).ok()
}

/// Accepts connections on all sockets of a listener. Without sockets it tries to bind them until that succeeds.
async fn accept_all(handle: Arc<ListenerHandle>, bound: MaybeBound) {
    let bound = match bound {
        Some(bound) => bound,
        None => {
            // All states of a listener have the same address. None of them is kept while it is taken.
            let address = handle.current().address.clone();
            let bound = bind_when_free(&address).await;
            log_listening(&handle.current(), &bound);
            handle.set_bound();
            bound
        }
    };
    let accept = |socket| accept::run(socket, Arc::clone(&handle));
    futures::future::join_all(bound.sockets.into_iter().map(accept)).await;
}

/// Waits until each client that was accepted has an answer to its first request, at most for [`ANSWER_TIMEOUT`] and for
/// `timeout`. Nobody else may answer it, while clients that are not accepted yet can wait for the next process in a
/// socket that systemd holds.
async fn answer_accepted(unanswered: &ConnectionLimit, timeout: Duration) {
    let all_answered = async {
        while unanswered.in_use() > 0 {
            task::sleep(ANSWER_INTERVAL).await;
        }
    };
    let _ = async_std::future::timeout(timeout.min(ANSWER_TIMEOUT), all_answered).await;
}

/// Logs from time to time how many notices had no line of their own.
async fn log_notice_counts(listeners: Arc<ListenerSet>) {
    loop {
        task::sleep(NOTICE_COUNT_INTERVAL).await;
        let now = Some(Instant::now());
        let listeners = listeners.current();
        listeners.iter().for_each(|it| it.log_notice_counts(now));
    }
}

fn realm_slot(listener: &Listener, address: &Address) -> RealmSlot {
    let realm = (listener.protocol.new_realm)(&listener.options);
    RealmSlot {
        realm: realm.unwrap_or_else(|_| unreachable!("the configuration is validated")),
        address: address.clone(),
        checks: checks(&listener.settings),
    }
}

const fn checks(settings: &ListenerSettings) -> ConnectionChecks {
    ConnectionChecks {
        keepalive: KeepaliveConfig {
            ping_after: settings.ping_after,
            pong_timeout: settings.pong_timeout,
            ping_every: settings.ping_every,
        },
        message_timeout: settings.message_timeout,
    }
}
