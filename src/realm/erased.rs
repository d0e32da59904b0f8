//! A realm of any protocol, as the broker and the connections hold it.

use super::{ConnectionId, Context, Hello, Realm, Refusal, Reply, Request};
use crate::base::close::Ending;
use std::any::Any;

/// A command whose realm is known only to that realm and its `decode`.
pub(crate) type AnyCommand = Box<dyn Any + Send>;

/// A reader whose realm is known only to its `decode`.
pub(crate) type AnyReader = Box<dyn Any + Send>;

/// A realm of any protocol, as the broker holds it.
pub(crate) trait AnyRealm: Send {
    fn request(&mut self, cx: &mut Context, request: &Request) -> Reply;
    fn open(&mut self, cx: &mut Context, who: ConnectionId, hello: Hello) -> Result<(), Refusal>;
    fn command(&mut self, cx: &mut Context, who: ConnectionId, command: AnyCommand);
    fn close(&mut self, cx: &mut Context, who: ConnectionId, how: Ending);
    fn probed(&mut self, cx: &mut Context, who: ConnectionId, alive: bool);
    fn kept(&self) -> usize;
    fn kept_of(&self, who: ConnectionId) -> usize;
    fn tick(&mut self, cx: &mut Context);
    fn stop(&mut self, cx: &mut Context);
}

impl<R: Realm> AnyRealm for R {
    fn request(&mut self, cx: &mut Context, request: &Request) -> Reply {
        Realm::request(self, cx, request)
    }

    fn open(&mut self, cx: &mut Context, who: ConnectionId, hello: Hello) -> Result<(), Refusal> {
        Realm::open(self, cx, who, hello)
    }

    fn command(&mut self, cx: &mut Context, who: ConnectionId, command: AnyCommand) {
        let command = command
            .downcast()
            .expect("a connection decodes with the protocol of its own listener");
        Realm::command(self, cx, who, *command);
    }

    fn close(&mut self, cx: &mut Context, who: ConnectionId, how: Ending) {
        Realm::close(self, cx, who, how);
    }

    fn probed(&mut self, cx: &mut Context, who: ConnectionId, alive: bool) {
        Realm::probed(self, cx, who, alive);
    }

    fn kept(&self) -> usize {
        Realm::kept(self)
    }

    fn kept_of(&self, who: ConnectionId) -> usize {
        Realm::kept_of(self, who)
    }

    fn tick(&mut self, cx: &mut Context) {
        Realm::tick(self, cx);
    }

    fn stop(&mut self, cx: &mut Context) {
        Realm::stop(self, cx);
    }
}
