//! What goes from one person to another, as it was sent and as it came: FastChat and PeerJS.
//!
//! A life is the time from being let in to the end of a connection. A letter is due if the life of
//! its receiver lasts from before it was sent until the moment of quiet in which that is asked. On
//! PeerJS it is also due to somebody who was gone then and came, unless it expired meanwhile.

use crate::client_task::Broken;
use crate::shared_state::{DEADLINE, Ticket, text};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long the server may take to know what it has said itself.
const A_WHILE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Sent,
    /// The server says that it is delivered.
    Delivered,
    /// The server says that it is not.
    Refused,
    /// The server says that something is not, and this may be it.
    Doubtful,
}

#[derive(Debug)]
struct Letter {
    /// None: only the server knows.
    to: Option<usize>,
    from_life: Ticket,
    since: Instant,
    /// 0 if nobody was there.
    to_life: Ticket,
    /// How often the receiver had come and gone.
    changes: u64,
    /// The server knew for sure that the receiver was gone.
    was_gone: bool,
    letters: usize,
    fate: Fate,
    received: bool,
}

/// All that is on its way, and who is there.
pub struct Post {
    lives: Vec<Ticket>,
    /// How often each has come and gone.
    changes: Vec<u64>,
    /// Since when the server knows for sure that somebody is gone.
    gone: Vec<Option<Instant>>,
    letters: HashMap<(usize, u64), Letter>,
    /// The number of the last letter, by receiver and sender.
    last: HashMap<(usize, usize), u64>,
    /// Whether each letter is answered by the server.
    answers: bool,
}

impl Post {
    pub fn new(size: usize, answers: bool) -> Self {
        Self {
            lives: vec![0; size],
            changes: vec![0; size],
            gone: vec![Some(Instant::now()); size],
            letters: HashMap::new(),
            last: HashMap::new(),
            answers,
        }
    }

    /// The life that somebody has now; 0 if none.
    pub fn life(&self, who: usize) -> Ticket {
        self.lives[who]
    }

    pub fn set_life(&mut self, who: usize, life: Ticket) {
        self.lives[who] = life;
        self.changes[who] += 1;
        self.gone[who] = None;
    }

    /// Somebody is gone, and the server knows it: it has closed the connection.
    pub fn is_gone(&mut self, who: usize) {
        self.set_life(who, 0);
        self.gone[who] = Some(Instant::now());
    }

    /// How often somebody has come and gone: four times for each life, when it sets out and is let
    /// in, when it is about to go and when it is gone.
    pub fn changes(&self, who: usize) -> u64 {
        self.changes[who]
    }

    /// Who is there.
    pub fn present(&self) -> impl Iterator<Item = usize> {
        let all = self.lives.iter().enumerate();
        all.filter(|(_, life)| **life != 0).map(|(who, _)| who)
    }

    /// A letter sets out. Its text.
    pub fn send(&mut self, from: usize, number: u64, to: Option<usize>, letters: usize) -> String {
        let letter = Letter {
            to,
            from_life: self.life(from),
            since: Instant::now(),
            to_life: to.map_or(0, |to| self.life(to)),
            changes: to.map_or(0, |to| self.changes(to)),
            was_gone: to.is_some_and(|to| self.gone[to].is_some_and(|at| at.elapsed() > A_WHILE)),
            letters,
            fate: Fate::Sent,
            received: false,
        };
        self.letters.insert((from, number), letter);
        text(from, number, letters)
    }

    /// A letter has come.
    pub fn receive(
        &mut self,
        from: usize,
        number: u64,
        by: usize,
        seen: &str,
    ) -> Result<(), Broken> {
        let what = || format!("{from}.{number} came to {by}");
        let last = self.last.entry((by, from)).or_default();
        if *last >= number {
            let promise = "messages come once, in the order in which they were sent";
            return Err((promise, format!("{} after {from}.{last}", what())));
        }
        *last = number;
        let Some(letter) = self.letters.get_mut(&(from, number)) else {
            return Err(("nothing comes that nobody sent", what()));
        };
        if letter.to.is_some_and(|to| to != by) {
            return Err(("nothing comes to others", format!("{}: {letter:?}", what())));
        }
        if std::mem::replace(&mut letter.received, true) {
            return Err((
                "messages come once, in the order in which they were sent",
                what(),
            ));
        }
        if letter.fate == Fate::Refused {
            return Err(("what is refused is not delivered", what()));
        }
        if seen != text(from, number, letter.letters) {
            let seen = format!("{}: {seen:?}", what());
            return Err(("messages come as they were sent", seen));
        }
        Ok(())
    }

    /// The server says what has become of a letter.
    pub fn answered(&mut self, from: usize, number: u64, delivered: bool) -> Result<(), Broken> {
        let what = format!("{from}.{number}, delivered: {delivered}");
        let promise = "each message is answered once";
        let Some(letter) = self.letters.get_mut(&(from, number)) else {
            return Err((promise, format!("{what}; it was not sent, or long ago")));
        };
        if letter.fate != Fate::Sent {
            return Err((promise, format!("{what}; before that {:?}", letter.fate)));
        }
        letter.fate = if delivered {
            Fate::Delivered
        } else {
            Fate::Refused
        };
        if letter.received && !delivered {
            return Err(("what is refused is not delivered", what));
        }
        Ok(())
    }

    /// The server says that something does not get to somebody, but not what.
    pub fn is_doubtful(&mut self, from: usize, to: usize) {
        let letters = self.letters.iter_mut();
        for (_, letter) in letters.filter(|((author, _), it)| *author == from && it.to == Some(to))
        {
            letter.fate = Fate::Doubtful;
        }
    }

    /// To whom a letter goes, if that one is there since before it was sent.
    pub fn due_to(&self, from: usize, number: u64) -> Option<usize> {
        let letter = self.letters.get(&(from, number))?;
        letter.to.filter(|_| self.reader_stayed(letter))
    }

    fn reader_stayed(&self, letter: &Letter) -> bool {
        letter.to_life != 0 && letter.to.is_some_and(|to| self.life(to) == letter.to_life)
    }

    /// Whether a letter waited for somebody who was gone, and now is there.
    fn reader_came(&self, letter: &Letter) -> bool {
        let came = |to: usize| self.life(to) != 0 && self.changes(to) == letter.changes + 2;
        letter.was_gone && letter.to.is_some_and(came)
    }

    /// What is due and has not come.
    pub fn missing(&self) -> Vec<Broken> {
        let mut missing = Vec::new();
        for ((from, number), letter) in &self.letters {
            let sender_stayed = self.life(*from) == letter.from_life;
            let what = || format!("{from}.{number}: {letter:?}");
            if self.answers && sender_stayed && letter.fate == Fate::Sent {
                missing.push(("each message is answered once", what()));
            }
            let was_taken = match letter.fate {
                Fate::Delivered => true,
                Fate::Sent => !self.answers && sender_stayed,
                Fate::Refused | Fate::Doubtful => false,
            };
            let is_kept = !self.answers && self.reader_came(letter);
            if was_taken && !letter.received && (self.reader_stayed(letter) || is_kept) {
                missing.push(("messages reach those to whom they are due", what()));
            }
        }
        missing
    }

    /// Everything is where it belongs, or waits for somebody who may come still. How much that is.
    pub fn forget(&mut self) -> usize {
        let count = self.letters.len();
        self.letters.retain(|_, letter| {
            !letter.received && letter.fate == Fate::Sent && letter.since.elapsed() < DEADLINE
        });
        count
    }
}
