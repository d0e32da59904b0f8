//! The clients of all listeners, as the broker knows them: slice by slice, so that it does other work in between.

use crate::base::close::CloseReason;
use crate::broker::{Client, Event, EventSender, MAX_SLICE, OperatorRequest};
use crate::realm::ConnectionId;
use async_std::future::timeout;
use futures::SinkExt;
use futures::channel::oneshot;
use futures::lock::Mutex;
use std::time::Duration;

/// Time for the broker to answer one request.
const PATIENCE: Duration = Duration::from_secs(5);

/// The error that the broker has not answered in time.
#[derive(Debug)]
pub(super) struct NoAnswer;

/// The way to the broker for questions about clients.
pub(super) struct Directory {
    /// The only sender of all requests, and so one of them at most is in the lane: those that nobody waits for any more
    /// must not pile up while the broker hangs.
    inbox: Mutex<EventSender>,
}

impl Directory {
    /// Creates a directory. `inbox` sends to the lane of the server.
    pub(super) fn new(inbox: EventSender) -> Self {
        Self {
            inbox: Mutex::new(inbox),
        }
    }

    /// Returns the ids of the connections, in their order.
    pub(super) async fn ids(&self) -> Result<Vec<ConnectionId>, NoAnswer> {
        let mut ids = self.ask(OperatorRequest::List).await?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// Returns those of the clients with these connections that are wanted. Clients that have gone are none.
    pub(super) async fn find(
        &self,
        ids: &[ConnectionId],
        is_wanted: impl Fn(&Client) -> bool,
    ) -> Result<Vec<Client>, NoAnswer> {
        let mut found = Vec::new();
        for slice in ids.chunks(MAX_SLICE) {
            let describe = |reply_to| OperatorRequest::Describe(slice.to_vec(), reply_to);
            let clients = self.ask(describe).await?;
            found.extend(clients.into_iter().filter(&is_wanted));
        }
        Ok(found)
    }

    /// Closes these clients, and returns how many of them were still there.
    pub(super) async fn remove(&self, clients: &[Client]) -> Result<usize, NoAnswer> {
        let mut removed = 0;
        for slice in clients.chunks(MAX_SLICE) {
            let conns = slice.iter().map(|client| client.conn).collect();
            let close = |reply_to| OperatorRequest::Close(conns, CloseReason::REMOVED, reply_to);
            removed += self.ask(close).await?;
        }
        Ok(removed)
    }

    /// Sends a request to the broker, and waits for its reply.
    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> OperatorRequest,
    ) -> Result<T, NoAnswer> {
        let (reply_to, reply) = oneshot::channel();
        let event = Event::Operator(Box::new(request(reply_to)));
        let ask = async {
            let sent = self.inbox.lock().await.send(event).await;
            sent.map_err(|_| NoAnswer)?;
            reply.await.map_err(|_| NoAnswer)
        };
        timeout(PATIENCE, ask).await.unwrap_or(Err(NoAnswer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::lane;
    use futures::FutureExt;

    #[test]
    fn requests_that_were_given_up_do_not_pile_up_in_the_lane() {
        let (inbox, mut lane) = lane();
        let directory = Directory::new(inbox);
        for _ in 0..100 {
            assert!(directory.ids().now_or_never().is_none());
        }
        let waiting = std::iter::from_fn(|| lane.try_recv().ok());
        assert_eq!(waiting.count(), 1);
    }
}
