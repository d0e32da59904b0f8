//! A realm of any protocol, as the broker and the connections hold it.

use super::{ConnectRequest, ConnectionId, Context, HttpReply, Realm, Rejection, Request};
use crate::base::close::DisconnectReason;
use std::any::Any;

/// A command whose realm is known only to that realm and its `decode`.
pub(crate) type AnyCommand = Box<dyn Any + Send>;

/// A reader whose realm is known only to its `decode`.
pub(crate) type AnyReader = Box<dyn Any + Send>;

/// A realm of any protocol, as the broker holds it.
pub(crate) trait AnyRealm: Send {
    fn request(&mut self, cx: &mut Context, request: &Request) -> HttpReply;
    fn open(
        &mut self,
        cx: &mut Context,
        conn: ConnectionId,
        hello: ConnectRequest,
    ) -> Result<(), Rejection>;
    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: AnyCommand);
    fn close(&mut self, cx: &mut Context, conn: ConnectionId, how: DisconnectReason);
    fn probe_result(&mut self, cx: &mut Context, conn: ConnectionId, alive: bool);
    fn stored_bytes(&self) -> usize;
    fn stored_bytes_of(&self, conn: ConnectionId) -> usize;
    fn tick(&mut self, cx: &mut Context);
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
        hello: ConnectRequest,
    ) -> Result<(), Rejection> {
        Realm::open(self, cx, conn, hello)
    }

    fn command(&mut self, cx: &mut Context, conn: ConnectionId, command: AnyCommand) {
        let command = command
            .downcast()
            .expect("a connection decodes with the protocol of its own listener");
        Realm::command(self, cx, conn, *command);
    }

    fn close(&mut self, cx: &mut Context, conn: ConnectionId, how: DisconnectReason) {
        Realm::close(self, cx, conn, how);
    }

    fn probe_result(&mut self, cx: &mut Context, conn: ConnectionId, alive: bool) {
        Realm::probe_result(self, cx, conn, alive);
    }

    fn stored_bytes(&self) -> usize {
        Realm::stored_bytes(self)
    }

    fn stored_bytes_of(&self, conn: ConnectionId) -> usize {
        Realm::stored_bytes_of(self, conn)
    }

    fn tick(&mut self, cx: &mut Context) {
        Realm::tick(self, cx);
    }

    fn stop(&mut self, cx: &mut Context) {
        Realm::stop(self, cx);
    }
}
