//! Reloads: the configuration is read again, and what it has changed holds from then on.

use super::binding::{MaybeBound, bind_listener};
use super::changes::{
    Counterpart, ProcessChanges, changed_settings, counterparts, process_changes,
};
use super::limits;
use super::listeners::Listeners;
use super::watch::Watch;
use crate::config::{Config, ConfigError, Listener};
use crate::net::bind::warn_of_unnamed;
use crate::net::server_state::ServerState;
use crate::sys::signals::Request;
use crate::sys::systemd::StateChange;
use futures::{Stream, StreamExt};
use std::pin::pin;
use std::sync::Arc;

/// A running server, as far as a reload changes it.
pub(super) struct Reloader<'a, L> {
    /// The configuration that holds.
    pub(super) config: Config,
    /// Limit of open files of the process.
    pub(super) open_files: usize,
    pub(super) server: Arc<ServerState>,
    pub(super) listeners: Listeners,
    pub(super) watch: &'a Watch,
    /// Loads the configuration.
    pub(super) load: L,
}

impl<L: FnMut() -> Result<Config, ConfigError>> Reloader<'_, L> {
    /// Reloads at each request to do so, until one is to stop.
    pub(super) async fn run(&mut self, requests: impl Stream<Item = Request>) {
        let mut requests = pin!(requests);
        while let Some(Request::Reload) = requests.next().await {
            self.watch.notify(StateChange::Reloading);
            let result = self.reload().await;
            self.watch.set_reload_refused(result.is_err());
            if let Err(problems) = result {
                problems.iter().for_each(|it| log::error!("{it}"));
                log::error!("the reload is refused, and the configuration is unchanged");
            }
            self.watch.notify(StateChange::Ready);
        }
    }

    /// Reads the configuration and applies it.
    ///
    /// # Errors
    /// Why nothing has changed, a line for each problem.
    async fn reload(&mut self) -> Result<(), Vec<String>> {
        let file = self.config.check_file();
        file.map_err(|problem| vec![problem])?;
        let config = (self.load)();
        let mut config = config.map_err(|error| error.lines().to_vec())?;
        self.listeners.record_renewed();
        let old = self.listeners.configured();
        let counterparts = counterparts(&old, &config.listeners);
        // The last that can fail. What is bound is closed again then.
        let bound = bind_new(&config, &counterparts)?;
        let process = process_changes(&self.config.process, &config.process);
        let mut changes = listener_changes(&self.listeners, &counterparts, &config);
        config.process = process.settings.clone();
        config.warnings().iter().for_each(|it| log::warn!("{it}"));
        let errors = config.certificate_errors();
        errors.iter().for_each(|it| log::error!("{it}"));
        changes.extend(self.apply_process(&config, &process));
        self.listeners.replace(&config, &counterparts, bound).await;
        let addresses = config.listeners.iter().map(|it| &it.settings.address);
        warn_of_unnamed(addresses.chain(&config.process.status));
        self.config = config;
        log_changes(&changes);
        log::set_max_level(self.config.log_level().0);
        Ok(())
    }

    /// Applies the settings of the process, but for a log level that hides what the reload has to say. Returns what has
    /// changed, if something has.
    fn apply_process(&self, config: &Config, process: &ProcessChanges) -> Option<String> {
        log::set_max_level(log::max_level().max(config.log_level().0));
        for unchanged in &process.unchanged {
            log::warn!(
                "{} cannot change while the daemon runs: it stays {} until a restart, and is {} then",
                unchanged.name,
                unchanged.running,
                unchanged.configured
            );
        }
        let limits = limits(config, self.open_files);
        limits.warnings().iter().for_each(|it| log::warn!("{it}"));
        self.server.apply(config, &limits);
        let is_changed = !process.changed.is_empty();
        is_changed.then(|| format!("of the process: {}", process.changed.join(", ")))
    }
}

/// Binds the listeners that are new. One whose address is taken has no sockets yet: it may be an old listener that has
/// it.
///
/// # Errors
/// One cannot be bound, for a reason that does not pass by itself.
fn bind_new(config: &Config, counterparts: &[Counterpart]) -> Result<Vec<MaybeBound>, Vec<String>> {
    let bind = |(index, counterpart): (usize, &Counterpart)| match counterpart {
        Counterpart::Same(_) | Counterpart::OtherProtocol(_) => Ok(None),
        Counterpart::None => match bind_listener(config, index) {
            Ok(bound) => Ok(Some(bound)),
            Err(error) if error.may_pass() => Ok(None),
            Err(error) => Err(vec![error.to_string()]),
        },
    };
    counterparts.iter().enumerate().map(bind).collect()
}

/// Returns what changes about the listeners, a text for each.
fn listener_changes(
    listeners: &Listeners,
    counterparts: &[Counterpart],
    config: &Config,
) -> Vec<String> {
    let old = listeners.configured();
    let change = |(counterpart, new): (&Counterpart, &Listener)| {
        let (protocol, address) = (new.protocol.name, &new.settings.address);
        match *counterpart {
            Counterpart::None => Some(format!("added {protocol} on {address}")),
            Counterpart::OtherProtocol(index) => {
                Some(format!("{protocol} instead of {}", listeners.name(index)))
            }
            Counterpart::Same(index) => {
                let changed = changed_settings(old.get(index)?, new);
                let keys = changed.join(", ");
                (!changed.is_empty()).then(|| format!("{}: {keys}", listeners.name(index)))
            }
        }
    };
    let is_kept = |index: usize| counterparts.iter().any(|it| it.old_index() == Some(index));
    let removed = (0..old.len()).filter(|index| !is_kept(*index));
    let removed = removed.map(|index| format!("removed {}", listeners.name(index)));
    let others = counterparts
        .iter()
        .zip(&config.listeners)
        .filter_map(change);
    removed.chain(others).collect()
}

/// Logs what a reload has changed.
fn log_changes(changes: &[String]) {
    if changes.is_empty() {
        log::info!("reloaded: nothing has changed");
    } else {
        log::info!("reloaded: {}", changes.join("; "));
    }
}
