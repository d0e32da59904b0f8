//! Type erasure, so that the broker and the connections work with the realms of all protocols alike.

use super::{
    ConnectRequest, ConnectionId, Context, HttpReply, Realm, Rejection, Request, Retention,
};
use crate::base::close::{CloseReason, DisconnectReason};
use std::any::Any;

/// A [`Realm::Command`] of any protocol; only the realm and its `decode` depend on the type.
pub(crate) type AnyCommand = Box<dyn Any + Send>;

/// A [`Realm::Decoder`] of any protocol; only its `decode` depends on the type.
pub(crate) type AnyDecoder = Box<dyn Any + Send>;

/// A [`Realm`] of any protocol, object-safe; the methods are those of [`Realm`].
pub(crate) trait AnyRealm: Send {
    fn request(&mut self, cx: &mut Context, request: &Request) -> HttpReply;
    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        request: ConnectRequest,
    ) -> Result<(), Rejection>;
    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: AnyCommand);
    fn close(&mut self, cx: &mut Context, conn: ConnectionId, reason: DisconnectReason);
    fn probe_result(&mut self, cx: &mut Context, conn: ConnectionId, alive: bool);
    fn close_reasons(&self) -> &'static [CloseReason];
    fn stored_bytes(&self) -> usize;
    fn stored_bytes_of(&self, conn: ConnectionId) -> usize;
    fn shed(&mut self, cx: &mut Context, retention: Retention, bytes: usize) -> usize;
    fn tick(&mut self, cx: &mut Context);
    fn free_spare(&mut self);
    fn stop(&mut self, cx: &mut Context);
}

impl<R: Realm> AnyRealm for R {
    fn request(&mut self, cx: &mut Context, request: &Request) -> HttpReply {
        Realm::request(self, cx, request)
    }

    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        request: ConnectRequest,
    ) -> Result<(), Rejection> {
        Realm::open(self, cx, conn, request)
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: AnyCommand) {
        let command = command
            .downcast()
            .expect("a connection decodes with the protocol of its listener");
        Realm::command(self, cx, conn, *command);
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, reason: DisconnectReason) {
        Realm::close(self, cx, conn, reason);
    }

    fn probe_result(&mut self, cx: &mut Context, conn: ConnectionId, alive: bool) {
        Realm::probe_result(self, cx, conn, alive);
    }

    fn close_reasons(&self) -> &'static [CloseReason] {
        R::CLOSE_REASONS
    }

    fn stored_bytes(&self) -> usize {
        Realm::stored_bytes(self)
    }

    fn stored_bytes_of(&self, conn: ConnectionId) -> usize {
        Realm::stored_bytes_of(self, conn)
    }

    fn shed(&mut self, cx: &mut Context, retention: Retention, bytes: usize) -> usize {
        Realm::shed(self, cx, retention, bytes)
    }

    fn tick(&mut self, cx: &mut Context) {
        Realm::tick(self, cx);
    }

    fn free_spare(&mut self) {
        Realm::free_spare(self);
    }

    fn stop(&mut self, cx: &mut Context) {
        Realm::stop(self, cx);
    }
}
