//! The life cycle of one client of any protocol: it connects, acts, stops reading, disconnects in one of
//! many ways, and reconnects.

use crate::checks::{ADMITTED, CLOSED_WITH_REASON, Violation};
use crate::clients::{ClientModel, Outgoing};
use crate::connection::{Connection, ConnectionEnd, Disconnect, Event};
use crate::random::Random;
use crate::shared_state::{CountGuard, DEADLINE, POLL_INTERVAL, Phase, SharedState};
use async_std::task;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a slow client does not read. This and the time between two of its messages together must
/// stay below the time after which the daemon drops a silent client.
const READ_PAUSE: Duration = Duration::from_secs(6);

/// One client: its model, and what happens to it.
pub struct ClientTask<M> {
    pub shared: Rc<SharedState>,
    pub model: M,
    /// For the report.
    pub name: String,
    pub random: Random,
}

impl<M: ClientModel> ClientTask<M> {
    /// Runs as long as the program does.
    pub async fn run(mut self) {
        // At first all clients connect within a few seconds.
        task::sleep(self.random.seconds(0, 4)).await;
        loop {
            self.shared.wait_until_active().await;
            let transition = self.shared.begin_transition();
            if let Some(target) = self.model.connect_target() {
                let generation = self.shared.generation();
                match Connection::open(&self.shared, M::PROTOCOL, &target).await {
                    Ok(connection) => self.use_connection(connection, transition).await,
                    Err(problem) => {
                        drop(transition);
                        self.model.on_gone();
                        if self.shared.is_running_since(generation) {
                            self.report_violation((ADMITTED, problem));
                        }
                    }
                }
            } else {
                drop(transition);
                task::sleep(POLL_INTERVAL * 3).await;
                continue;
            }
            let offline = if self.shared.phase() == Phase::Up {
                self.random.seconds(3, 20)
            } else {
                self.random.seconds(1, 6)
            };
            task::sleep(offline).await;
        }
    }

    /// Uses one connection until it ends, and those that take over from it.
    async fn use_connection(&mut self, mut connection: Connection, mut transition: CountGuard) {
        loop {
            let how = match self
                .stay_connected(&mut connection, &mut Some(transition))
                .await
            {
                Ok(how) => how,
                Err(end) => return self.closed_by_server(&connection, &end),
            };
            transition = self.shared.begin_transition();
            let mut outgoing = Outgoing::new();
            self.model.on_disconnecting(how, &mut outgoing);
            self.shared.report.fault(how.description());
            if how != Disconnect::Takeover {
                let ended = connection.disconnect(how, &mut outgoing).await;
                self.model.on_gone();
                return self.check(
                    "the server ends the connection of a client that left",
                    ended,
                );
            }
            let Some(target) = self.model.connect_target() else {
                return self.model.on_gone();
            };
            let old = connection;
            let new = Connection::open(&self.shared, M::PROTOCOL, &target).await;
            let is_checked = old.is_checked();
            match new {
                Ok(new) => {
                    let replaced = old.wait_for_takeover().await;
                    self.check("a reconnecting client replaces its connection", replaced);
                    self.model.on_gone();
                    connection = new;
                }
                Err(problem) => {
                    self.model.on_gone();
                    if is_checked {
                        self.report_violation((ADMITTED, problem));
                    }
                    return;
                }
            }
        }
    }

    /// Acts until the client is to disconnect, and returns how; or until the server ends the connection.
    /// The transition ends when the client is settled.
    async fn stay_connected(
        &mut self,
        connection: &mut Connection,
        transition: &mut Option<CountGuard>,
    ) -> Result<Disconnect, ConnectionEnd> {
        let _connected = self.shared.count_connected();
        let mut outgoing = Outgoing::new();
        self.model.on_connected(&mut outgoing);
        connection.send_all(&mut outgoing).await;
        let connected_at = Instant::now();
        let mut must_pause = false;
        let mut leaves_at = connected_at + self.random.seconds(20, 240);
        loop {
            let is_settled = self.model.is_settled();
            if is_settled && transition.take().is_some() {
                self.shared.report.checked(ADMITTED);
            }
            let until = if is_settled {
                self.model.next_action().min(leaves_at)
            } else {
                connected_at + DEADLINE
            };
            match connection.next(until).await {
                Event::Text(text) => {
                    if let Err(violation) = self.model.on_message(&text, &mut outgoing) {
                        if connection.is_checked() {
                            self.report_violation(violation);
                        }
                    }
                }
                Event::Ended(end) => return Err(end),
                Event::Timeout if !is_settled => {
                    self.report_violation((ADMITTED, "no answer in time".to_owned()));
                    return Ok(Disconnect::Reset);
                }
                Event::Timeout if Instant::now() >= leaves_at => {
                    if self.shared.is_quiet() || self.shared.phase() != Phase::Up {
                        leaves_at = Instant::now() + self.random.seconds(5, 30);
                    } else {
                        return Ok(self.choose_disconnect());
                    }
                }
                Event::Timeout => {
                    self.model.act(&mut outgoing);
                    must_pause = self.random.one_in(200);
                }
            }
            connection.send_all(&mut outgoing).await;
            let must_pause = std::mem::take(&mut must_pause) || self.model.must_stop_reading();
            if must_pause && !self.shared.is_quiet() {
                self.shared.report.fault("read nothing for a while");
                connection.pause_reading(READ_PAUSE).await;
            }
        }
    }

    fn choose_disconnect(&mut self) -> Disconnect {
        match self.random.below(20) {
            0..=5 => Disconnect::CloseFrame,
            6..=8 => Disconnect::LeaveMessage,
            9..=13 => Disconnect::Reset,
            14 | 15 => Disconnect::ResetInFrame,
            16 | 17 => Disconnect::EndInFrame,
            18 if !self.shared.is_smoke_test => Disconnect::Silence,
            _ if self.model.supports_takeover() => Disconnect::Takeover,
            _ => Disconnect::Reset,
        }
    }

    /// Handles that the server has ended the connection: checks that it had a reason, or that a stopping
    /// daemon sent a Close frame.
    fn closed_by_server(&mut self, connection: &Connection, end: &ConnectionEnd) {
        use ConnectionEnd::{Closed, Lost};
        let allowed = self.model.on_closed_by_server(end);
        self.model.on_gone();
        if connection.is_checked() {
            let report = &self.shared.report;
            match (end, allowed) {
                (Closed(1013, reason), _) if reason == "too slow" => {
                    report.fault("closed for being too slow");
                }
                (Closed(1001, _), _) => {
                    self.report_violation((CLOSED_WITH_REASON, format!("{end:?}")));
                }
                (Lost(_) | Closed(4408, _), _) if self.shared.has_stalled() => {
                    report.fault("dropped as silent after this program stalled");
                }
                (_, Ok(())) => {}
                (_, Err(violation)) => self.report_violation(violation),
            }
        } else if self.shared.phase() == Phase::Stopping {
            let told = match end {
                // Either for the shutdown, or for a reason of before it.
                Closed(..) => allowed.map_err(|(_, seen)| seen),
                Lost(how) => Err(how.clone()),
            };
            self.check("a stopping daemon sends its clients a Close frame", told);
        }
    }

    fn check(&self, name: &'static str, result: Result<(), String>) {
        self.shared.report.checked(name);
        if let Err(seen) = result {
            self.report_violation((name, seen));
        }
    }

    fn report_violation(&self, (check, seen): Violation) {
        let at = self.shared.elapsed();
        self.shared.report.violation(at, check, &self.name, &seen);
    }
}
