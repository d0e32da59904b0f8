//! A client's WebSocket connection, and all the ways in which it can end.

use crate::shared_state::{DEADLINE, POLL_INTERVAL, Protocol, SharedState};
use async_std::future::timeout;
use async_std::net::TcpStream;
use async_std::task;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use async_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};
use async_tungstenite::{WebSocketStream, client_async_with_config};
use futures::StreamExt;
use futures::io::{AsyncReadExt, AsyncWriteExt};
use rustix::net::sockopt::set_socket_linger;
use std::net::Shutdown;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Longer than the daemon's time before it pings a silent client, plus that for the answer.
const SILENCE: Duration = Duration::from_secs(22);

/// What happens next on a connection.
pub enum Event {
    Text(Utf8Bytes),
    Ended(ConnectionEnd),
    /// Nothing until the given time.
    Timeout,
}

/// How a connection ended that the client did not end.
#[derive(Debug)]
pub enum ConnectionEnd {
    /// The code and the reason of a Close frame. 1005: a Close frame without a code.
    Closed(u16, String),
    /// No Close frame.
    Lost(String),
}

/// How a client disconnects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disconnect {
    /// Sends a Close frame.
    CloseFrame,
    /// Sends the protocol's own message for it; a Close frame if there is none.
    LeaveMessage,
    /// Resets the TCP connection.
    Reset,
    /// Resets it in the middle of a frame.
    ResetInFrame,
    /// Shuts down its sending side in the middle of a frame.
    EndInFrame,
    /// Neither reads nor sends any more.
    Silence,
    /// Opens a second connection under the same id, which replaces this one.
    Takeover,
}

impl Disconnect {
    /// Returns the name of this fault in the report.
    pub const fn description(self) -> &'static str {
        match self {
            Self::CloseFrame => "left with a Close frame",
            Self::LeaveMessage => "left with the protocol's own message",
            Self::Reset => "reset the connection",
            Self::ResetInFrame => "reset the connection in the middle of a frame",
            Self::EndInFrame => "ended the connection in the middle of a frame",
            Self::Silence => "fell silent, and was dropped",
            Self::Takeover => "connected again while connected, and took over",
        }
    }
}

/// A client's connection.
pub struct Connection {
    socket: WebSocketStream<TcpStream>,
    shared: Rc<SharedState>,
    /// The daemon process that it is to.
    generation: u64,
}

impl Connection {
    /// Connects and completes the handshake. An error says why that failed.
    pub async fn open(
        shared: &Rc<SharedState>,
        protocol: Protocol,
        target: &str,
    ) -> Result<Self, String> {
        let generation = shared.generation();
        let address = shared.address(protocol);
        // Blocks for a moment only: the address is on this machine.
        let tcp = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5))
            .map_err(|error| error.to_string())?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        // A linger time of 0 makes dropping the socket a reset. After a closing handshake both sides
        // have ended the connection, and there is nothing left to reset.
        set_socket_linger(&tcp, Some(Duration::ZERO)).map_err(|error| error.to_string())?;
        let config = WebSocketConfig::default()
            .read_buffer_size(4 << 10)
            .write_buffer_size(4 << 10);
        let url = format!("ws://{address}{target}");
        let handshake = client_async_with_config(url, TcpStream::from(tcp), Some(config));
        match timeout(DEADLINE, handshake).await {
            Ok(Ok((socket, _))) => Ok(Self {
                socket,
                shared: Rc::clone(shared),
                generation,
            }),
            Ok(Err(Error::Http(response))) => Err(format!("HTTP {}", response.status())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer to the handshake".to_owned()),
        }
    }

    /// Returns whether the checks apply to this connection: its daemon runs and was not told to stop.
    pub fn is_checked(&self) -> bool {
        self.shared.is_running_since(self.generation)
    }

    /// Waits for the next event, until the given time.
    pub async fn next(&mut self, until: Instant) -> Event {
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            match timeout(rest, self.socket.next()).await {
                Err(_) => return Event::Timeout,
                Ok(Some(Ok(Message::Text(text)))) => return Event::Text(text),
                Ok(Some(Ok(Message::Close(close)))) => {
                    let (code, reason) = close.map_or((1005, String::new()), |close| {
                        (close.code.into(), close.reason.as_str().to_owned())
                    });
                    self.read_to_end().await;
                    return Event::Ended(ConnectionEnd::Closed(code, reason));
                }
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Ok(Some(Ok(other))) => return lost(format!("got {other:?}")),
                Ok(Some(Err(error))) => return lost(error.to_string()),
                Ok(None) => return lost("the stream ended".to_owned()),
            }
        }
    }

    /// Sends these texts. An error is not reported here: the next read finds it, too.
    pub async fn send_all(&mut self, texts: &mut Vec<String>) {
        for text in texts.drain(..) {
            if self.socket.send(Message::text(text)).await.is_err() {
                break;
            }
        }
    }

    /// Reads nothing for this time. A ping before it shows the daemon that the client is alive.
    pub async fn pause_reading(&mut self, time: Duration) {
        let _ = self.socket.send(Message::Ping(Bytes::new())).await;
        let until = Instant::now() + time;
        // Ends early with the daemon: the client would count as connected otherwise.
        while Instant::now() < until && self.is_checked() {
            task::sleep(POLL_INTERVAL).await;
        }
    }

    /// Reads and drops everything up to the end. Returns whether the end came in time.
    async fn read_to_end(&mut self) -> bool {
        let reading = async { while let Some(Ok(_)) = self.socket.next().await {} };
        timeout(DEADLINE, reading).await.is_ok()
    }

    /// Disconnects. An error says what the daemon did not do about it.
    pub async fn disconnect(
        mut self,
        how: Disconnect,
        outgoing: &mut Vec<String>,
    ) -> Result<(), String> {
        match how {
            Disconnect::LeaveMessage if !outgoing.is_empty() => self.send_all(outgoing).await,
            Disconnect::CloseFrame | Disconnect::LeaveMessage => {
                let _ = self.socket.send(Message::Close(None)).await;
            }
            Disconnect::Reset | Disconnect::Takeover => return Ok(()),
            Disconnect::ResetInFrame => {
                self.send_partial_frame().await;
                return Ok(());
            }
            Disconnect::EndInFrame => {
                self.send_partial_frame().await;
                let _ = self.socket.get_ref().shutdown(Shutdown::Write);
            }
            Disconnect::Silence => {
                task::sleep(SILENCE).await;
                return self.wait_until_dropped().await;
            }
        }
        if self.read_to_end().await || !self.is_checked() {
            Ok(())
        } else {
            Err(format!(
                "the daemon did not end the connection after {how:?}"
            ))
        }
    }

    /// Waits until the daemon closes this connection because another one has replaced it.
    pub async fn wait_for_takeover(mut self) -> Result<(), String> {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.next(until).await {
                Event::Text(_) => {}
                Event::Ended(ConnectionEnd::Closed(4409, _)) => return Ok(()),
                _ if !self.is_checked() => return Ok(()),
                Event::Ended(end) => return Err(format!("the replaced connection got {end:?}")),
                Event::Timeout => return Err("the replaced connection was not closed".to_owned()),
            }
        }
    }

    /// Sends the header of a text frame of 40 bytes and 8 of those.
    async fn send_partial_frame(&mut self) {
        let header = [0x81, 0x80 | 40, 0, 0, 0, 0];
        let _ = self.socket.get_mut().write_all(&header).await;
        let _ = self.socket.get_mut().write_all(b"half a f").await;
    }

    /// Waits until the daemon drops the connection, without answering anything.
    async fn wait_until_dropped(&mut self) -> Result<(), String> {
        let mut bytes = vec![0; 4 << 10];
        let tcp = self.socket.get_mut();
        let reading = async { while matches!(tcp.read(&mut bytes).await, Ok(1..)) {} };
        match timeout(DEADLINE, reading).await {
            Err(_) if self.is_checked() => Err("a silent client was not dropped".to_owned()),
            _ => Ok(()),
        }
    }
}

fn lost(how: String) -> Event {
    Event::Ended(ConnectionEnd::Lost(how))
}
