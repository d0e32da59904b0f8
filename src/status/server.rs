//! Serves the status port.

use super::routes::Routes;
use crate::base::memory_budget::{MemoryBudget, MemoryReservation};
use crate::net::client_stream::ClientStream;
use crate::net::http::request::{RequestError, RequestHead, read_body, read_head};
use crate::net::http::response::Response;
use crate::net::listen_socket::ListenSocket;
use async_std::future::timeout;
use async_std::task;
use futures::stream::{select_all, unfold};
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use std::future::{pending, ready};
use std::io;
use std::net::Shutdown;
use std::time::Duration;

/// Connections that are served at the same time; others wait in the accept queue.
pub(crate) const MAX_CONNECTIONS: usize = 64;

/// Time for a client to send its request, and again to read the response.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Time to wait before accepting again after a failure, usually too few file descriptors.
const BACKOFF: Duration = Duration::from_millis(100);

/// Answers the requests on these sockets, one for each connection, until the future is dropped.
pub(crate) async fn serve(sockets: Vec<ListenSocket>, routes: &Routes) {
    let clients = |socket| unfold(socket, |it| async { Some((accept(&it).await, it)) });
    select_all(sockets.into_iter().map(|socket| Box::pin(clients(socket))))
        .filter_map(ready)
        .map(|client| serve_client(client, routes))
        .buffer_unordered(MAX_CONNECTIONS)
        .for_each(ready)
        .await;
    // Only without a socket.
    pending::<()>().await;
}

async fn accept(socket: &ListenSocket) -> Option<ClientStream> {
    match socket.accept().await {
        Ok((client, _)) => Some(client),
        Err(_) => {
            task::sleep(BACKOFF).await;
            None
        }
    }
}

/// Answers one request and closes the connection.
async fn serve_client(mut client: ClientStream, routes: &Routes) {
    // Each request is bounded, and so is their number, so nothing has to be reserved.
    let mut memory = MemoryReservation::new(&MemoryBudget::new(0), 0);
    let read = timeout(TIMEOUT, read_request(&mut client, &mut memory));
    let (method, response) = match read.await {
        Ok(Ok((head, body))) => {
            let response = routes.answer(&head, body).await;
            (head.method, response)
        }
        Ok(Err(RequestError::Rejected(response))) => (String::new(), response),
        Ok(Err(RequestError::NoResponse | RequestError::WrongProtocol(_))) | Err(_) => return,
    };
    // A browser must not take it for something else, and nobody may keep it: the next one differs.
    let response = response
        .with_header("X-Content-Type-Options", "nosniff")
        .with_header("Cache-Control", "no-store");
    // A client that does not read its response has had its time.
    let _ = timeout(TIMEOUT, respond(client, &response, &method)).await;
}

async fn read_request(
    client: &mut ClientStream,
    memory: &mut MemoryReservation,
) -> Result<(RequestHead, Vec<u8>), RequestError> {
    let (head, mut rest) = read_head(client, Vec::new(), memory).await?;
    let length = head.body_length().map_err(RequestError::Rejected)?;
    let body = read_body(client, &mut rest, length, memory).await?;
    Ok((head, body))
}

/// Sends a response, and waits until the client has closed the connection: closing it first could lose the end of the
/// response (RFC 9112 section 9.6).
async fn respond(mut client: ClientStream, response: &Response, method: &str) -> io::Result<()> {
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
