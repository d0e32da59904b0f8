//! The life that all clients lead: they come, talk and idle, pause, vanish in one way or another,
//! and come back. What they say, and what they may be told, is their protocol's.

use crate::connection::{End, Farewell, Link, News};
use crate::shared_state::{Chance, Counted, DEADLINE, GLANCE, Phase, Protocol, World};
use async_std::task;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What somebody says next.
pub type Say = Vec<String>;

/// A promise that was broken: which, and what was seen.
pub type Broken = (&'static str, String);

/// A client's model: what it does and what it may see. It does no input or output by itself.
pub trait Person {
    const PROTOCOL: Protocol;

    /// Where to connect now; none if that is not possible now.
    fn target(&mut self) -> Option<String>;

    /// The connection is open.
    fn arrives(&mut self, say: &mut Say);

    /// The server has let it in.
    fn is_settled(&self) -> bool;

    /// The server says something.
    fn hears(&mut self, text: &str, say: &mut Say) -> Result<(), Broken>;

    /// When it does something next.
    fn due(&self) -> Instant;

    /// It does something; if it is quiet, only what keeps it alive.
    fn acts(&mut self, say: &mut Say);

    /// It is about to go, and nothing is due to it any more. Its last words, for a goodbye.
    fn goes(&mut self, how: Farewell, say: &mut Say);

    /// The server ended the connection, which is well otherwise. Nothing is due to it any more.
    fn is_ended(&mut self, end: &End) -> Result<(), Broken>;

    /// The connection is at an end, whoever ended it.
    fn is_gone(&mut self);

    /// How it may go other than all do.
    fn may_take_over(&self) -> bool {
        false
    }

    /// Whether it reads nothing for a while now, besides when chance has it so.
    fn pauses(&mut self) -> bool {
        false
    }
}

/// How long a slow reader does not read. Together with the time between two signs of life it must
/// stay below what the daemon allows.
const PAUSE: Duration = Duration::from_secs(6);

/// Somebody's life.
pub struct Life<P> {
    pub world: Rc<World>,
    pub person: P,
    pub name: String,
    pub chance: Chance,
}

impl<P: Person> Life<P> {
    /// Leads it, as long as the program runs.
    pub async fn lead(mut self) {
        // At first all come, within a few seconds.
        task::sleep(self.chance.seconds(0, 4)).await;
        loop {
            self.world.stirs().await;
            let busy = self.world.busy();
            if let Some(target) = self.person.target() {
                let generation = self.world.generation();
                match Link::open(&self.world, P::PROTOCOL, &target).await {
                    Ok(link) => self.visit(link, busy).await,
                    Err(problem) => {
                        drop(busy);
                        self.person.is_gone();
                        if self.world.is_well_since(generation) {
                            self.broken(("everybody gets in", problem));
                        }
                    }
                }
            } else {
                drop(busy);
                task::sleep(GLANCE * 3).await;
                continue;
            }
            let away = if self.world.phase() == Phase::Up {
                self.chance.seconds(3, 20)
            } else {
                self.chance.seconds(1, 6)
            };
            task::sleep(away).await;
        }
    }

    /// One connection from its beginning to its end, and those that take over from it.
    async fn visit(&mut self, mut link: Link, mut busy: Counted) {
        loop {
            let how = match self.stay(&mut link, &mut Some(busy)).await {
                Ok(how) => how,
                Err(end) => return self.ended(&link, &end),
            };
            busy = self.world.busy();
            let mut words = Say::new();
            self.person.goes(how, &mut words);
            self.world.report.fault(match how {
                Farewell::Close => "left with a Close frame",
                Farewell::Goodbye => "left with the protocol's goodbye",
                Farewell::Reset => "cut by a reset",
                Farewell::ResetInFrame => "reset in the middle of a frame",
                Farewell::EndInFrame => "ended in the middle of a frame",
                Farewell::Silence => "fell silent, and was dropped",
                Farewell::Takeover => "came again while connected, and took over",
            });
            if how != Farewell::Takeover {
                let ended = link.end(how, &mut words).await;
                self.person.is_gone();
                return self.check("whoever goes is let go", ended);
            }
            let Some(target) = self.person.target() else {
                return self.person.is_gone();
            };
            let old = link;
            let new = Link::open(&self.world, P::PROTOCOL, &target).await;
            let counts = old.counts();
            match new {
                Ok(new) => {
                    let replaced = old.sees_replacement().await;
                    self.check("who comes again takes over", replaced);
                    self.person.is_gone();
                    link = new;
                }
                Err(problem) => {
                    self.person.is_gone();
                    if counts {
                        self.broken(("everybody gets in", problem));
                    }
                    return;
                }
            }
        }
    }

    /// Lives until it is time to go, and says how; or until the other side ends it.
    async fn stay(&mut self, link: &mut Link, busy: &mut Option<Counted>) -> Result<Farewell, End> {
        let _connected = self.world.connected();
        let mut say = Say::new();
        self.person.arrives(&mut say);
        link.say(&mut say).await;
        let arrived = Instant::now();
        let mut slow = false;
        let mut goes = arrived + self.chance.seconds(20, 240);
        loop {
            let is_settled = self.person.is_settled();
            if is_settled && busy.take().is_some() {
                self.world.report.checked("everybody gets in");
            }
            let until = if is_settled {
                self.person.due().min(goes)
            } else {
                arrived + DEADLINE
            };
            match link.next(until).await {
                News::Text(text) => {
                    if let Err(broken) = self.person.hears(&text, &mut say) {
                        if link.counts() {
                            self.broken(broken);
                        }
                    }
                }
                News::Ended(end) => return Err(end),
                News::Time if !is_settled => {
                    self.broken(("everybody gets in", "no word in time".to_owned()));
                    return Ok(Farewell::Reset);
                }
                News::Time if Instant::now() >= goes => {
                    if self.world.is_quiet() || self.world.phase() != Phase::Up {
                        goes = Instant::now() + self.chance.seconds(5, 30);
                    } else {
                        return Ok(self.farewell());
                    }
                }
                News::Time => {
                    self.person.acts(&mut say);
                    slow = self.chance.once_in(200);
                }
            }
            link.say(&mut say).await;
            if (std::mem::take(&mut slow) || self.person.pauses()) && !self.world.is_quiet() {
                self.world.report.fault("read nothing for a while");
                link.pause(PAUSE).await;
            }
        }
    }

    fn farewell(&mut self) -> Farewell {
        match self.chance.below(20) {
            0..=5 => Farewell::Close,
            6..=8 => Farewell::Goodbye,
            9..=13 => Farewell::Reset,
            14 | 15 => Farewell::ResetInFrame,
            16 | 17 => Farewell::EndInFrame,
            18 if !self.world.brief => Farewell::Silence,
            _ if self.person.may_take_over() => Farewell::Takeover,
            _ => Farewell::Reset,
        }
    }

    /// The other side has ended the connection.
    fn ended(&mut self, link: &Link, end: &End) {
        let allowed = self.person.is_ended(end);
        self.person.is_gone();
        if link.counts() {
            match (end, allowed) {
                (End::Closed(1013, reason), _) if reason == "too slow" => {
                    self.world.report.fault("closed for being too slow");
                }
                (End::Closed(1001, _), _) => {
                    self.broken(("nobody is sent away without a reason", format!("{end:?}")));
                }
                (End::Lost(_) | End::Closed(4408, _), _) if self.world.has_stalled() => {
                    self.world
                        .report
                        .fault("taken for dead while this program stood still");
                }
                (_, Ok(())) => {}
                (_, Err(broken)) => self.broken(broken),
            }
        } else if self.world.phase() == Phase::Stopping {
            let told = match end {
                // It was on its way to another end already, or it was this one.
                End::Closed(..) => allowed.map_err(|(_, seen)| seen),
                End::Lost(how) => Err(how.clone()),
            };
            self.check("who is connected is told when the daemon stops", told);
        }
    }

    fn check(&self, promise: &'static str, kept: Result<(), String>) {
        self.world.report.checked(promise);
        if let Err(seen) = kept {
            self.broken((promise, seen));
        }
    }

    fn broken(&self, (promise, seen): Broken) {
        let at = self.world.elapsed();
        self.world.report.broken(at, promise, &self.name, &seen);
    }
}
