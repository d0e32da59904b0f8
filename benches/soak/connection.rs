//! One WebSocket, and all the ways to end it.

use crate::shared_state::{DEADLINE, GLANCE, Protocol, World};
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

/// Longer than the daemon waits before it asks a silent client, and for the answer.
const SILENCE: Duration = Duration::from_secs(22);

/// What comes next.
pub enum News {
    Text(Utf8Bytes),
    Ended(End),
    /// Nothing until it was time for something else.
    Time,
}

/// How a connection ended that its client did not end.
#[derive(Debug)]
pub enum End {
    Closed(u16, String),
    /// Without a Close frame.
    Lost(String),
}

/// How somebody goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// With a Close frame.
    Close,
    /// With the protocol's own word for it, where there is one.
    Goodbye,
    /// The connection is reset.
    Reset,
    /// Reset in the middle of a frame.
    ResetInFrame,
    /// Ended in the middle of a frame.
    EndInFrame,
    /// Neither reads nor says anything any more.
    Silence,
    /// Comes again elsewhere before it goes.
    Takeover,
}

/// Somebody's connection.
pub struct Link {
    socket: WebSocketStream<TcpStream>,
    world: Rc<World>,
    /// Of which daemon.
    generation: u64,
}

impl Link {
    /// Connects, and is let in.
    pub async fn open(world: &Rc<World>, protocol: Protocol, target: &str) -> Result<Self, String> {
        let generation = world.generation();
        let address = world.address(protocol);
        // To this machine that takes no time.
        let tcp = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5))
            .map_err(|error| error.to_string())?;
        tcp.set_nodelay(true).map_err(|error| error.to_string())?;
        // Whoever goes without a word resets its connection. Whoever says goodbye waits for the
        // other side's, after which there is nothing to reset.
        set_socket_linger(&tcp, Some(Duration::ZERO)).map_err(|error| error.to_string())?;
        let config = WebSocketConfig::default()
            .read_buffer_size(4 << 10)
            .write_buffer_size(4 << 10);
        let url = format!("ws://{address}{target}");
        let handshake = client_async_with_config(url, TcpStream::from(tcp), Some(config));
        match timeout(DEADLINE, handshake).await {
            Ok(Ok((socket, _))) => Ok(Self {
                socket,
                world: Rc::clone(world),
                generation,
            }),
            Ok(Err(Error::Http(answer))) => Err(format!("HTTP {}", answer.status())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer to the handshake".to_owned()),
        }
    }

    /// Whether the daemon has to keep its promises on this connection.
    pub fn counts(&self) -> bool {
        self.world.is_well_since(self.generation)
    }

    /// What comes next, until it is time for something else.
    pub async fn next(&mut self, until: Instant) -> News {
        loop {
            let rest = until.saturating_duration_since(Instant::now());
            match timeout(rest, self.socket.next()).await {
                Err(_) => return News::Time,
                Ok(Some(Ok(Message::Text(text)))) => return News::Text(text),
                Ok(Some(Ok(Message::Close(close)))) => {
                    let (code, reason) = close.map_or((1005, String::new()), |close| {
                        (close.code.into(), close.reason.as_str().to_owned())
                    });
                    self.drain().await;
                    return News::Ended(End::Closed(code, reason));
                }
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
                Ok(Some(Ok(other))) => return News::Ended(End::Lost(format!("got {other:?}"))),
                Ok(Some(Err(error))) => return News::Ended(End::Lost(error.to_string())),
                Ok(None) => return News::Ended(End::Lost("no more".to_owned())),
            }
        }
    }

    /// Says something. What is wrong with the connection is found when it is read from.
    pub async fn say(&mut self, texts: &mut Vec<String>) {
        for text in texts.drain(..) {
            if self.socket.send(Message::text(text)).await.is_err() {
                break;
            }
        }
    }

    /// Reads nothing for a while, and says so little that it counts as alive all the same.
    pub async fn pause(&mut self, time: Duration) {
        let _ = self.socket.send(Message::Ping(Bytes::new())).await;
        let until = Instant::now() + time;
        // Whoever slept through the daemon's end would be thought to be there still.
        while Instant::now() < until && self.counts() {
            task::sleep(GLANCE).await;
        }
    }

    /// Reads to the end, and whatever comes does not matter. Whether there was an end.
    async fn drain(&mut self) -> bool {
        let reading = async { while let Some(Ok(_)) = self.socket.next().await {} };
        timeout(DEADLINE, reading).await.is_ok()
    }

    /// Goes in some way. What the daemon did not do about it as it should.
    pub async fn end(mut self, how: Farewell, words: &mut Vec<String>) -> Result<(), String> {
        match how {
            Farewell::Goodbye if !words.is_empty() => self.say(words).await,
            Farewell::Close | Farewell::Goodbye => {
                let _ = self.socket.send(Message::Close(None)).await;
            }
            Farewell::Reset | Farewell::Takeover => return Ok(()),
            Farewell::ResetInFrame => {
                self.begin_frame().await;
                return Ok(());
            }
            Farewell::EndInFrame => {
                self.begin_frame().await;
                let _ = self.socket.get_ref().shutdown(Shutdown::Write);
            }
            Farewell::Silence => {
                task::sleep(SILENCE).await;
                return self.is_dropped().await;
            }
        }
        if self.drain().await || !self.counts() {
            Ok(())
        } else {
            Err(format!(
                "the daemon does not end a connection after {how:?}"
            ))
        }
    }

    /// Waits for the old connection's end after a takeover.
    pub async fn sees_replacement(mut self) -> Result<(), String> {
        let until = Instant::now() + DEADLINE;
        loop {
            match self.next(until).await {
                News::Text(_) => {}
                News::Ended(End::Closed(4409, _)) => return Ok(()),
                _ if !self.counts() => return Ok(()),
                News::Ended(end) => return Err(format!("the replaced one got {end:?}")),
                News::Time => return Err("the replaced one was not closed".to_owned()),
            }
        }
    }

    /// A text message of 40 octets of which 8 come.
    async fn begin_frame(&mut self) {
        let head = [0x81, 0x80 | 40, 0, 0, 0, 0];
        let _ = self.socket.get_mut().write_all(&head).await;
        let _ = self.socket.get_mut().write_all(b"half a f").await;
    }

    /// Whether the daemon has dropped the connection by itself: nothing is answered here.
    async fn is_dropped(&mut self) -> Result<(), String> {
        let mut bytes = vec![0; 4 << 10];
        let tcp = self.socket.get_mut();
        let reading = async { while matches!(tcp.read(&mut bytes).await, Ok(1..)) {} };
        match timeout(DEADLINE, reading).await {
            Err(_) if self.counts() => Err("a silent client was not dropped".to_owned()),
            _ => Ok(()),
        }
    }
}
