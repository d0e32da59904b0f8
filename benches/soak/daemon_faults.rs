//! What the scenario does to the daemon while the clients act: suspends it, stops, kills and restarts it,
//! and tries to take an id that is in use.

use crate::clients::peerjs::PROTOCOL;
use crate::connection::{Connection, ConnectionEnd, Event};
use crate::expectations::peerjs::connect_target;
use crate::scenario::Scenario;
use crate::shared_state::{DEADLINE, POLL_INTERVAL, Phase};
use async_std::task;
use rustix::process::Signal;
use std::time::Instant;

impl Scenario {
    /// Stops the daemon by SIGTERM or SIGKILL while clients act, and starts it again.
    pub async fn restart_daemon(&mut self, signal: Signal) {
        let is_kill = signal == Signal::KILL;
        self.shared.report.fault(if is_kill {
            "the daemon was killed"
        } else {
            "the daemon was stopped"
        });
        // The quiescent point is over; clients are to be in the middle of something.
        task::sleep(self.random.seconds(3, 8)).await;
        self.stop_daemon(signal).await;
        self.daemon.start_again().await;
        self.resident.clear();
        self.started_at = self.shared.elapsed();
        self.shared.daemon_started(self.daemon.addresses.clone());
    }

    /// Ends the daemon by SIGTERM or SIGKILL. After SIGTERM it must end with status 0.
    pub async fn stop_daemon(&mut self, signal: Signal) {
        let is_kill = signal == Signal::KILL;
        let cpu = self.daemon.cpu();
        self.shared.set_phase(if is_kill {
            Phase::Down
        } else {
            Phase::Stopping
        });
        self.daemon.signal(signal);
        let status = self.daemon.wait_for_exit().await;
        self.cpu_before += cpu;
        if !is_kill {
            let check = "a daemon that is told to stop exits with status 0";
            self.shared.report.checked(check);
            match status {
                Some(status) if status.success() => {}
                Some(status) => self.violation(check, &status.to_string()),
                None => self.violation(check, "it does not exit"),
            }
            // The clients still have to read what it sent last.
            let deadline = Instant::now() + DEADLINE;
            while self.shared.connected_count() > 0 && Instant::now() < deadline {
                task::sleep(POLL_INTERVAL).await;
            }
        }
        self.shared.set_phase(Phase::Down);
    }

    /// Suspends the daemon for one to three seconds.
    pub async fn suspend_daemon(&mut self) {
        self.shared.report.fault("the daemon was suspended");
        self.shared.set_phase(Phase::Suspended);
        self.daemon.signal(Signal::STOP);
        task::sleep(self.random.seconds(1, 3)).await;
        self.daemon.signal(Signal::CONT);
        self.shared.set_phase(Phase::Up);
    }

    /// Connects to PeerJS with the id of a connected client, but with another token.
    pub async fn try_taken_id(&mut self) {
        let online = self.peerjs.borrow().random_client(&mut self.random);
        let Some((owner, admitted_at)) = online else {
            return;
        };
        let check = "an id in use is not given to another client";
        let target = connect_target(owner, "another");
        match self.connect_with_taken_id(&target).await {
            Ok(()) => self.shared.report.checked(check),
            // If the owner left meanwhile, the id was free.
            Err(seen) if self.peerjs.borrow().admitted_at(owner) == admitted_at => {
                self.violation(check, &seen);
            }
            Err(_) => {}
        }
    }

    /// Succeeds if the server answers ID-TAKEN and closes with 4409.
    async fn connect_with_taken_id(&self, target: &str) -> Result<(), String> {
        let mut connection = Connection::open(&self.shared, PROTOCOL, target).await?;
        let deadline = Instant::now() + DEADLINE;
        let first = connection.next(deadline).await;
        let second = connection.next(deadline).await;
        match (first, second) {
            (Event::Text(text), Event::Ended(ConnectionEnd::Closed(4409, _)))
                if text.contains("ID-TAKEN") =>
            {
                Ok(())
            }
            (Event::Text(text), _) => Err(text.as_str().to_owned()),
            (Event::Ended(end), _) => Err(format!("{end:?}")),
            (Event::Timeout, _) => Err("no message".to_owned()),
        }
    }
}
