//! Serves the status port.

use super::routes::Routes;
use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
use crate::net::http::request::{RequestError, RequestHead, read_body, read_head};
use crate::net::http::response::Response;
use crate::net::listen_socket::ListenSocket;
use crate::net::stream::RuntimeStream;
use async_std::future::timeout;
use async_std::task;
use futures::channel::oneshot;
use futures::future::{Either, select};
use futures::stream::{FuturesUnordered, select_all, unfold};
use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{pending, ready};
use std::io;
use std::net::Shutdown;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::{Duration, Instant};

/// Connections that are served at the same time; others wait in the accept queue.
pub(crate) const MAX_CONNECTIONS: usize = 64;

/// Time for a client to send its request, and again to read the response.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The same for both while as many connections are served as can be: silent ones must not keep others from asking whether
/// the daemon works. Clients of this machine need far less.
const TIME_WHEN_FULL: Duration = Duration::from_millis(100);

/// Time to wait before accepting again after a failure, usually too few file descriptors.
const BACKOFF: Duration = Duration::from_millis(100);

/// A client that is waited for. Its drop ends the wait.
struct Place {
    since: Instant,
    wait: oneshot::Sender<Infallible>,
}

/// Answers the requests on these sockets, one for each connection, until the future is dropped.
pub(crate) async fn serve(sockets: Vec<ListenSocket>, routes: &Routes) {
    serve_with(sockets, async |head, body| routes.answer(head, body).await).await;
}

/// The same, with a function that answers requests.
async fn serve_with(
    sockets: Vec<ListenSocket>,
    answer: impl AsyncFn(&RequestHead, Vec<u8>) -> Response,
) {
    let clients = |socket| unfold(socket, |it| async { Some((accept(&it).await, it)) });
    let accepted = select_all(sockets.into_iter().map(|socket| Box::pin(clients(socket))));
    let mut accepted = accepted.filter_map(ready).fuse();
    let mut served = FuturesUnordered::new();
    // Oldest first.
    let mut places: VecDeque<Place> = VecDeque::new();
    loop {
        if served.len() == MAX_CONNECTIONS {
            let oldest = places.front().map(|oldest| oldest.since.elapsed());
            let time_left = oldest.map_or(TIMEOUT, |age| TIME_WHEN_FULL.saturating_sub(age));
            if timeout(time_left, served.next()).await.is_err() {
                places.pop_front();
            }
        } else {
            futures::select! {
                client = accepted.select_next_some() => {
                    let (wait, ended) = oneshot::channel();
                    let since = Instant::now();
                    places.push_back(Place { since, wait });
                    let serve = AssertUnwindSafe(serve_client(client, ended, &answer));
                    // Its panic, which the hook has reported, ends this connection and no other, nor the daemon.
                    served.push(serve.catch_unwind().map(drop));
                }
                () = served.select_next_some() => {}
                // Only without a socket.
                complete => break,
            }
        }
        places.retain(|place| !place.wait.is_canceled());
        // However many ask, the thread has more to do: the broker's seconds, and the signals.
        task::yield_now().await;
    }
    pending::<()>().await;
}

async fn accept(socket: &ListenSocket) -> Option<RuntimeStream> {
    match socket.accept().await {
        Ok((client, _)) => RuntimeStream::new(client).ok(),
        Err(_) => {
            task::sleep(BACKOFF).await;
            None
        }
    }
}

/// Answers one request and closes the connection. `ended` ends the wait for the client, and not the work for it.
async fn serve_client(
    mut client: RuntimeStream,
    mut ended: oneshot::Receiver<Infallible>,
    answer: impl AsyncFn(&RequestHead, Vec<u8>) -> Response,
) {
    // Each request is bounded, and so is their number, so nothing has to be reserved.
    let mut memory = MemoryReservation::new(&MemoryBudget::new(0), 0);
    let read = in_time(read_request(&mut client, &mut memory), &mut ended);
    let (method, response) = match read.await {
        Some(Ok((head, body))) => {
            let response = answer(&head, body).await;
            (head.method, response)
        }
        Some(Err(RequestError::Rejected(response))) => (String::new(), response),
        Some(Err(RequestError::NoResponse | RequestError::WrongProtocol(_))) | None => return,
    };
    // A browser must not take it for something else, and nobody may keep it: the next one differs.
    let response = response
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Cache-Control", "no-store");
    // A client that does not read its response has had its time.
    let _ = in_time(respond(client, &response, &method), &mut ended).await;
}

/// Waits for a client for [`TIMEOUT`], or until the wait is ended. What it has sent by then, and what its socket takes at
/// once, is in time.
async fn in_time<T>(
    exchange: impl Future<Output = T>,
    ended: &mut oneshot::Receiver<Infallible>,
) -> Option<T> {
    match select(pin!(timeout(TIMEOUT, exchange)), ended).await {
        Either::Left((result, _)) => result.ok(),
        Either::Right(_) => None,
    }
}

async fn read_request(
    client: &mut RuntimeStream,
    memory: &mut MemoryReservation,
) -> Result<(RequestHead, Vec<u8>), RequestError> {
    let (head, mut rest) = read_head(client, Vec::new(), memory).await?;
    let length = head.body_length().map_err(RequestError::Rejected)?;
    let body = read_body(client, &mut rest, length, memory).await?;
    Ok((head, body))
}

/// Sends a response, and waits until the client has closed the connection: closing it first could lose the end of the
/// response (RFC 9112 section 9.6).
async fn respond(mut client: RuntimeStream, response: &Response, method: &str) -> io::Result<()> {
    let (head, body) = response.encode(method);
    client.write_all(head.as_bytes()).await?;
    for piece in body {
        client.write_all(piece.as_bytes()).await?;
    }
    client.shutdown(Shutdown::Write)?;
    let mut discarded = [0; 512];
    while client.read(&mut discarded).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{Broker, Clock, lane};
    use crate::config::Address;
    use crate::net::bind::bind;
    use crate::net::listener_set::ListenerSet;
    use crate::net::server_state::ServerState;
    use crate::status::{DaemonState, Moderation};
    use futures::channel::mpsc;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpStream};
    use std::sync::Arc;

    fn routes() -> Routes {
        let clock = Arc::new(Clock::new());
        let server = Arc::new(ServerState::new(Arc::clone(&clock), mpsc::channel(0).0));
        let broker = Broker::new(Arc::clone(&server.budget), clock);
        let set = Arc::new(ListenerSet::default());
        Routes {
            daemon: DaemonState::new(broker.pulse(), Arc::clone(&server), set),
            moderation: Moderation::new(lane().0, server),
        }
    }

    #[test]
    fn a_panic_in_an_answer_ends_that_connection_and_no_other() {
        let bound = bind(&Address::Ip((Ipv4Addr::LOCALHOST, 0).into())).unwrap();
        let address = bound.ip_addresses().next().unwrap();
        let answer = async |head: &RequestHead, _| {
            assert_ne!(head.path, "/panic", "as requested");
            Response::new(200, "ok")
        };
        let asks = std::thread::spawn(move || {
            ["/panic", "/"].map(|path| {
                let mut client = TcpStream::connect(address).unwrap();
                let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
                client.write_all(request.as_bytes()).unwrap();
                let mut response = String::new();
                client.read_to_string(&mut response).unwrap();
                response
            })
        });
        let serve = pin!(serve_with(bound.sockets, answer));
        let asked = pin!(task::spawn_blocking(|| asks.join().unwrap()));
        let Either::Right(([panicked, other], _)) = task::block_on(select(serve, asked)) else {
            panic!("it serves for ever");
        };
        assert_eq!(panicked, "");
        assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
    }

    #[test]
    fn those_who_ask_do_not_keep_the_thread_from_its_other_work() {
        let bound = bind(&Address::Ip((Ipv4Addr::LOCALHOST, 0).into())).unwrap();
        let address = bound.ip_addresses().next().unwrap();
        let ask = |_| {
            let mut client = TcpStream::connect(address).unwrap();
            client
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            client
        };
        let clients: Vec<TcpStream> = (0..10).map(ask).collect();
        let routes = routes();
        // One poll, after which other futures of the thread have theirs.
        assert!(serve(bound.sockets, &routes).now_or_never().is_none());
        let is_answered =
            |mut client: &TcpStream| client.read(&mut [0]).is_ok_and(|bytes| bytes > 0);
        let answered = clients.iter().filter(|client| is_answered(client)).count();
        assert!(answered <= 1, "{answered}");
    }
}
