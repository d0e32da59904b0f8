//! One WebSocket, from 101 to the last byte: a single task that reads and writes at once.
//!
//! It knows no protocol by name. What the client says is decoded and goes to the broker; what
//! the outbox holds goes to the client, all of it before the task sleeps again.

use crate::base::close::{Close, Ending};
use crate::base::frame::{Frame, close_frame};
use crate::broker::Event;
use crate::broker::outbox::{End, Outgoing, Ping};
use crate::net::frame_tracker::LARGE;
use crate::net::frame_writer::Wire;
use crate::net::socket::Stream;
use crate::protocols::Protocol;
use crate::realm::erased::{AnyCommand, AnyReader};
use crate::realm::{ConnectionId, Message};
use async_tungstenite::WebSocketStream;
use async_tungstenite::tungstenite::error::ProtocolError;
use async_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use async_tungstenite::tungstenite::{Error, Message as Received};
use futures::channel::mpsc;
use futures::future::poll_fn;
use futures::{FutureExt, StreamExt};
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Commands that go to the broker together at the most. What they were made from is bounded, too:
/// by what is read in one turn, or by one message.
const COMMANDS_A_TURN: usize = 16;

/// While this many control frames wait to be written, nothing more is read: a client that sends
/// Pings and does not read the Pongs waits for itself. Enough for one turn's Pings.
const CONTROLS: usize = 16;

/// Read buffers: what every connection has, which is most of what an idle one costs, and what
/// those get that send large messages, for which few system calls matter more.
const SMALL_BUFFER: usize = 2 * 1024;
const LARGE_BUFFER: usize = 64 * 1024;

/// What a connection may have besides the small buffer without its being counted, in bytes: so that
/// small messages, which are done at once, cost no counting.
const UNCOUNTED: usize = 2 * 1024;

/// A payload of this size leaves more memory behind in the read buffer than is worth keeping.
const HUGE: usize = 2 * LARGE_BUFFER;

/// So often others have their turn before anything is read while more is held than may be: enough for
/// those who are closed for it, and no stand-still where nobody can be.
const TURNS_TO_GIVE: u32 = 16;

/// So many frames that are not large in a row, and the large buffer goes: enough that a new one
/// now and then costs nothing against them.
const SMALL_FRAMES: u32 = 256;

/// What a connection is made of, after its handshake.
pub(crate) struct Parts {
    pub(crate) who: ConnectionId,
    pub(crate) stream: Stream,
    /// The answer to the handshake. It leaves together with the first frames.
    pub(crate) switching: Vec<u8>,
    /// What the client sent right behind its handshake.
    pub(crate) already_read: Vec<u8>,
    pub(crate) outgoing: Outgoing,
    pub(crate) inbox: mpsc::Sender<Event>,
    pub(crate) protocol: &'static Protocol,
    pub(crate) max_message_size: usize,
    pub(crate) close_timeout: Duration,
}

/// What went through a connection, and how it ended.
pub(crate) struct Summary {
    pub(crate) ending: Ending,
    /// Messages.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) octets_received: u64,
    pub(crate) octets_sent: u64,
}

/// A client that has been let in.
pub(crate) struct Connection {
    /// In a box, since a task would otherwise carry it twice.
    pump: Box<Pump>,
    max_message_size: usize,
    close_timeout: Duration,
}

impl Connection {
    pub(crate) fn new(parts: Parts) -> Self {
        let mut wire = Wire::new(parts.stream, &parts.already_read);
        wire.control(Frame::encoded(&parts.switching));
        let config = config(SMALL_BUFFER, parts.max_message_size);
        let pump = Pump {
            socket: open(wire, parts.already_read, config),
            outgoing: parts.outgoing,
            inbox: parts.inbox,
            who: parts.who,
            protocol: parts.protocol,
            reader: (parts.protocol.reader)(),
            commands: Vec::new(),
            room: false,
            held: false,
            pinged: None,
            quiet: false,
            probed: false,
            alive: false,
            large_buffer: false,
            end: None,
            stop: None,
            received: 0,
            decoded: 0,
            charged: 0,
            overdrawn: false,
            turns_given: 0,
        };
        Self {
            pump: Box::new(pump),
            max_message_size: parts.max_message_size,
            close_timeout: parts.close_timeout,
        }
    }

    /// The number by which the broker knows it.
    pub(crate) fn id(&self) -> ConnectionId {
        self.pump.who
    }

    /// Lives through it. The broker is told of its end before the goodbyes, which may take as
    /// long as `close_timeout`.
    pub(crate) async fn run(mut self, report: impl FnOnce(Summary)) {
        let stop = loop {
            let step = poll_fn(|cx| self.pump.poll(cx));
            match AssertUnwindSafe(step).catch_unwind().await {
                Ok(Step::Stop(stop)) => break stop,
                Ok(Step::NewBuffer { large }) => {
                    self.pump = self.pump.with_new_buffer(large, self.max_message_size);
                }
                // Nobody knows what it was at, so nothing more is read or sent.
                Err(_panic) => break Stop::Fail(Close::InternalError),
            }
        };
        let Self {
            mut pump,
            max_message_size,
            close_timeout,
        } = self;
        let ending = stop.ending();
        if let Stop::Close(Close::ShortOfMemory) = stop {
            // Before the broker looks for the next one: what there is of a message is given up.
            pump = pump.with_new_buffer(false, max_message_size);
            pump.uncharge();
        }
        // Fails only when the broker is gone, and then there is nobody to tell.
        let _ = poll_fn(|cx| pump.inbox.poll_ready(cx)).await;
        let _ = pump.inbox.start_send(Event::Ended(pump.who, ending));
        let wire = pump.socket.get_ref();
        report(Summary {
            ending,
            received: pump.received,
            sent: wire.frames_sent,
            octets_received: wire.stream.received,
            octets_sent: wire.stream.sent,
        });
        // In a box, so that a connection does not carry the memory for its end for life.
        let goodbye = Box::pin(say_goodbye(pump, stop));
        let _ = async_std::future::timeout(close_timeout, goodbye).await;
    }
}

fn open(wire: Wire, already_read: Vec<u8>, config: WebSocketConfig) -> WebSocketStream<Wire> {
    WebSocketStream::from_partially_read(wire, already_read, Role::Server, Some(config))
        .now_or_never()
        .expect("making a socket waits for nothing")
}

fn config(read_buffer: usize, max_message_size: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(read_buffer)
        // Its own frames go to the wire at once; they never wait in tungstenite.
        .write_buffer_size(0)
        .max_write_buffer_size(1024)
        .max_message_size(Some(max_message_size))
        .max_frame_size(Some(max_message_size))
}

/// Why a connection's work is done.
#[derive(Clone, Debug)]
enum Stop {
    /// The server closes it, with a Close frame.
    Close(Close),
    /// The client broke the protocol: a Close frame, but nothing that it sends is read any more.
    Fail(Close),
    /// The client sent a Close frame.
    Left(Option<u16>),
    /// It broke.
    Lost,
    /// The broker gave it up.
    Drop,
}

impl Stop {
    const fn ending(&self) -> Ending {
        match *self {
            Self::Close(close) | Self::Fail(close) => Ending::Closed(close),
            Self::Left(code) => Ending::Left(code),
            Self::Lost => Ending::Lost,
            Self::Drop => Ending::Silent,
        }
    }

    fn from_error(error: &Error) -> Self {
        match error {
            Error::Capacity(_) => Self::Fail(Close::TooBig),
            Error::Utf8(_) => Self::Fail(Close::InvalidUtf8),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Lost,
            Error::Protocol(_) => Self::Fail(Close::ProtocolError),
            _ => Self::Lost,
        }
    }
}

/// What the pump cannot do itself.
enum Step {
    Stop(Stop),
    /// The read buffer is empty and of the wrong size.
    NewBuffer {
        large: bool,
    },
}

/// Moves messages in both directions.
struct Pump {
    socket: WebSocketStream<Wire>,
    outgoing: Outgoing,
    inbox: mpsc::Sender<Event>,
    who: ConnectionId,
    protocol: &'static Protocol,
    reader: AnyReader,
    /// Decoded, and not yet with the broker.
    commands: Vec<AnyCommand>,
    /// The broker waits to hear that the outbox has room, or has been written as far as it goes.
    room: bool,
    /// The broker wants nothing to be read.
    held: bool,
    /// The last Ping if it has not come back: its payload, which nobody can guess, and when it was
    /// sent.
    pinged: Option<(Uuid, Instant)>,
    /// The client has been sent a Ping because nothing was heard of it.
    quiet: bool,
    /// The broker waits to hear that the client is alive.
    probed: bool,
    /// It is.
    alive: bool,
    large_buffer: bool,
    /// How the broker wants it to end, once what waits is sent.
    end: Option<Close>,
    /// How it ends, once the broker has what was decoded before.
    stop: Option<Stop>,
    received: u64,
    /// Octets of the messages that became those commands.
    decoded: usize,
    /// Octets that are charged and have not been handed to the broker.
    charged: usize,
    /// More is held than may be, and the broker has not been told.
    overdrawn: bool,
    /// How often others have had their turn because of that.
    turns_given: u32,
}

impl Pump {
    /// The same with a read buffer that has nothing in it.
    fn with_new_buffer(self: Box<Self>, large: bool, max_message_size: usize) -> Box<Self> {
        let pump = *self;
        let size = if large { LARGE_BUFFER } else { SMALL_BUFFER };
        let mut wire = pump.socket.into_inner();
        wire.boundary.grown = 0;
        Box::new(Self {
            socket: open(wire, Vec::new(), config(size, max_message_size)),
            large_buffer: large,
            ..pump
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        loop {
            let orders = self.outgoing.take(cx, &mut self.socket.get_mut().queue);
            self.held = orders.hold;
            if let Some(why) = orders.ping {
                self.ping(why);
            }
            match orders.end {
                Some(End::Drop) => return Poll::Ready(Step::Stop(Stop::Drop)),
                Some(End::Close(close)) if close.discards_outbox() => {
                    return Poll::Ready(Step::Stop(Stop::Close(close)));
                }
                Some(End::Close(close)) => {
                    self.end = Some(close);
                    // Whoever takes nothing of the rest must not live on by what it sends. It is
                    // read all the same: it may read nothing itself before all is sent.
                    self.socket.get_mut().stream.is_deaf = true;
                }
                None => {}
            }

            let stopped_by_controls = self.receive(cx);

            self.room |= self.socket.get_mut().send(cx, &self.outgoing) | orders.report;
            let all_told = self.tell_broker(cx);

            if let Some(stop) = self.stop.take_if(|_| all_told) {
                return Poll::Ready(Step::Stop(stop));
            }
            if let Some(close) = self.end.take_if(|_| self.socket.get_ref().is_empty()) {
                return Poll::Ready(Step::Stop(Stop::Close(close)));
            }
            if let Some(large) = self.buffer_to_change() {
                return Poll::Ready(Step::NewBuffer { large });
            }
            if !(stopped_by_controls && self.socket.get_ref().waiting_controls() == 0) {
                return Poll::Pending;
            }
        }
    }

    /// Reads one turn's worth, as far as it may, and hands it over. Says whether it was Pongs
    /// waiting to be written that stopped it.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        if self.stop.is_some() || self.held || !self.tell_broker(cx) || !self.may_read(cx) {
            return false;
        }
        let mut stopped_by_controls = false;
        while self.stop.is_none() && self.buffer_to_change().is_none() {
            let wire = self.socket.get_ref();
            if self.commands.len() >= COMMANDS_A_TURN {
                // There may be more, but it is the others' turn now.
                cx.waker().wake_by_ref();
                break;
            }
            if wire.waiting_controls() >= CONTROLS {
                stopped_by_controls = true;
                break;
            }
            if !wire.stream.may_be_readable() {
                break;
            }
            match self.socket.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(message))) => self.received(message),
                Poll::Ready(Some(Err(error))) => self.stop = Some(Stop::from_error(&error)),
                Poll::Ready(None) => self.stop = Some(Stop::Lost),
                Poll::Pending => break,
            }
        }
        self.charge();
        self.tell_broker(cx);
        stopped_by_controls
    }

    /// Counts what was received and not handed over against the budget, beyond what any connection
    /// may have. Where that is too much, nothing more is read before the broker knows.
    fn charge(&mut self) {
        let wire = self.socket.get_ref();
        let buffer = if self.large_buffer {
            LARGE_BUFFER
        } else {
            SMALL_BUFFER
        };
        let here = wire.boundary.kept(buffer) - SMALL_BUFFER + self.decoded;
        let charged = if here > UNCOUNTED { here } else { 0 };
        let incoming = &wire.stream.pulse().incoming;
        incoming.grow(charged.saturating_sub(self.charged));
        incoming.shrink(self.charged.saturating_sub(charged));
        self.overdrawn = charged > self.charged && incoming.budget().is_overdrawn();
        self.charged = charged;
    }

    /// Whether the budget has room for what may be read now. Where it has none, the broker has its
    /// turn first, and those whom it closes have theirs: else all connections would read before
    /// anything is given back.
    fn may_read(&mut self, cx: &mut Context<'_>) -> bool {
        let pulse = self.socket.get_ref().stream.pulse();
        if !pulse.incoming.budget().is_overdrawn() {
            self.turns_given = 0;
            return true;
        }
        if self.turns_given == 0 {
            self.overdrawn = true;
        }
        // The place for the next event is free once the last one has been taken.
        if !self.tell_broker(cx) || self.inbox.poll_ready(cx).is_pending() {
            return false;
        }
        if self.turns_given < TURNS_TO_GIVE {
            self.turns_given += 1;
            cx.waker().wake_by_ref();
            return false;
        }
        self.turns_given = 0;
        true
    }

    fn uncharge(&mut self) {
        let charged = std::mem::take(&mut self.charged);
        self.socket
            .get_ref()
            .stream
            .pulse()
            .incoming
            .shrink(charged);
    }

    /// Writes all that waits, unless the broker gives the connection up.
    async fn flush(&mut self) {
        let Self {
            socket, outgoing, ..
        } = self;
        poll_fn(|cx| {
            let wire = socket.get_mut();
            wire.send(cx, outgoing);
            if wire.is_empty() || outgoing.is_given_up(cx) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Reads until the client has sent its Close frame, or what comes instead, or came before, is more
    /// than fits the buffer that everybody has.
    async fn hear_close(&mut self) {
        poll_fn(|cx| {
            loop {
                match self.socket.poll_next_unpin(cx) {
                    Poll::Ready(Some(Ok(message))) if !message.is_close() => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            self.charge();
            if self.charged > 0 || self.outgoing.is_given_up(cx) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// The socket alone: what was received and not done is given up, and what was not sent.
    fn into_stream(mut self: Box<Self>) -> Stream {
        self.uncharge();
        self.socket.into_inner().stream
    }

    fn ping(&mut self, why: Ping) {
        let payload = Uuid::new_v4();
        self.pinged = Some((payload, Instant::now()));
        let frame = Frame::ping(payload.as_bytes());
        self.socket.get_mut().control(frame);
        self.quiet |= why == Ping::Silence;
        self.probed |= why == Ping::Probe;
    }

    fn received(&mut self, message: Received) {
        if let Received::Close(close) = message {
            self.stop = Some(Stop::Left(close.map(|close| close.code.into())));
            return;
        }
        self.quiet = false;
        self.alive |= std::mem::take(&mut self.probed);
        let message = match message {
            Received::Text(text) => Message::Text(text),
            Received::Binary(octets) => Message::Binary(octets),
            Received::Pong(payload) => {
                // Only the last Ping need be answered (RFC 6455 section 5.5.3).
                let is_last = |(sent, _): &mut (Uuid, Instant)| payload[..] == sent.as_bytes()[..];
                if let Some((_, since)) = self.pinged.take_if(is_last) {
                    let stream = &self.socket.get_ref().stream;
                    stream.came_back_after(since.elapsed());
                }
                return;
            }
            Received::Ping(_) | Received::Close(_) | Received::Frame(_) => return,
        };
        self.received += 1;
        if self.end.is_some() {
            return;
        }
        let octets = message.len();
        match (self.protocol.decode)(&mut self.reader, message) {
            Some(command) => {
                self.commands.push(command);
                self.decoded += octets;
            }
            None => log::debug!("{} #{}: ignored a message", self.protocol.name, self.who.0),
        }
    }

    /// Hands over what the broker should know. Says whether that was possible; if it was not,
    /// `cx` is woken when it is.
    fn tell_broker(&mut self, cx: &mut Context<'_>) -> bool {
        while self.room || self.alive || self.overdrawn || !self.commands.is_empty() {
            match self.inbox.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.stop = Some(Stop::Drop);
                    return true;
                }
                Poll::Pending => return false,
            }
            let event = if std::mem::take(&mut self.room) {
                Event::Room(self.who)
            } else if !self.commands.is_empty() {
                // Before the sign of life: it may be that the client leaves.
                let charged = std::mem::take(&mut self.decoded).min(self.charged);
                self.charged -= charged;
                Event::Commands {
                    who: self.who,
                    commands: std::mem::take(&mut self.commands),
                    charged,
                }
            } else if std::mem::take(&mut self.alive) {
                Event::Alive(self.who)
            } else {
                self.overdrawn = false;
                Event::Overdrawn
            };
            // It has just been asked, and nobody else sends here.
            let _ = self.inbox.start_send(event);
        }
        true
    }

    /// Whether the read buffer should be another now, and may be: only between two messages, and
    /// when tungstenite has given out all that it read, is nothing in it.
    fn buffer_to_change(&self) -> Option<bool> {
        let wire = self.socket.get_ref();
        let boundary = &wire.boundary;
        let (size, most) = if self.large_buffer {
            (LARGE_BUFFER, HUGE)
        } else {
            (SMALL_BUFFER, LARGE as usize)
        };
        let outgrown = boundary.grown > most;
        let idle = self.quiet || boundary.small_in_a_row > SMALL_FRAMES;
        let too_large = idle && size.max(boundary.grown) > SMALL_BUFFER;
        if !outgrown && !too_large || !boundary.between_messages() {
            return None;
        }
        // tungstenite reads on only when it has no whole frame left; so the end of a large frame,
        // beyond which it was not let, or a read that brought nothing, is the end of its buffer.
        let is_empty = boundary.ended_large || !wire.stream.may_be_readable();
        is_empty.then_some(!too_large)
    }
}

/// Ends a connection as its `stop` asks: the Close frame, the client's answer to it, and then
/// nothing until the client is gone, too. The caller sets a limit.
async fn say_goodbye(mut pump: Box<Pump>, stop: Stop) {
    let wire = pump.socket.get_mut();
    match stop {
        Stop::Drop | Stop::Lost => return,
        // The rest of that frame would have to come before the Close frame.
        Stop::Close(Close::ShortOfMemory) if wire.is_within_a_frame() => return,
        Stop::Left(_) | Stop::Fail(_) => wire.discard(&pump.outgoing),
        Stop::Close(close) if close.discards_outbox() => wire.discard(&pump.outgoing),
        Stop::Close(_) => {}
    }
    match stop {
        // Nothing that it sends is of interest any more.
        Stop::Fail(close) | Stop::Close(close @ Close::ShortOfMemory) => {
            wire.control(Frame::close(close));
            pump.flush().await;
        }
        Stop::Close(close) => {
            let _ = pump.socket.close(Some(close_frame(close))).await;
            pump.flush().await;
            pump.hear_close().await;
        }
        _ => {
            // The answer to the client's own Close frame is still with tungstenite.
            let _ = poll_fn(|cx| Poll::Ready(pump.socket.poll_next_unpin(cx).is_ready())).await;
            pump.flush().await;
        }
    }
    pump.into_stream().linger().await;
}
