//! Clients that ask for an id that another client has, and wait until that client has been probed.
//!
//! With the right token an id is taken over at once, except in a contest: two tabs with one token that
//! reconnect whenever they are disconnected would push each other out for ever. After an OPEN the npm client
//! takes ID-TAKEN for a disconnection, too, so only a delay calms them.

use crate::base::ip::SubnetKey;
use crate::base::spare::FreeSpare;
use crate::realm::ConnectionId;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;

/// Number of takeovers of an id within [`TAKEOVER_SPAN`] above which its holder is probed (rulings, "PeerJS").
const MAX_TAKEOVERS: usize = 3;
const TAKEOVER_SPAN: Duration = Duration::from_secs(10);

/// Delay of the first ID-TAKEN in a contest. It doubles with each further one, up to [`MAX_DELAY`].
const FIRST_DELAY: Duration = Duration::from_secs(2);
const MAX_DELAY: Duration = Duration::from_secs(30);

/// Time after the last refusal at which a contest is over. It is longer than [`MAX_DELAY`], after which a
/// refused client may come back.
const CONTEST_SPAN: Duration = Duration::from_secs(60);

/// The token of a client: its hash, so that a token of any length takes 32 bytes.
#[derive(Clone, Copy)]
pub(super) struct Token([u8; 32]);

impl Token {
    pub(super) fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }
}

impl PartialEq for Token {
    /// Compares in constant time: the time must not tell how much of a guess is right.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// What a client has shown for its id.
#[derive(Clone, Copy)]
pub(super) enum Credential {
    /// The document's token, and no access token.
    Token(Token),
    /// An access token that names no id, and the document's token if there was one beside it. Many clients may have the
    /// same access token, so it does not show which of them this is.
    Access(Option<Token>),
    /// An access token whose subject is the id.
    Subject,
}

impl Credential {
    /// Returns how much it shows. A client takes an id at once from one that has shown less, and never gets it from one
    /// that has shown more.
    pub(super) const fn rank(self) -> u8 {
        match self {
            Self::Token(_) => 0,
            Self::Access(_) => 1,
            Self::Subject => 2,
        }
    }

    /// Returns whether both, for one id, are the same client's. A renewed access token has the subject of the old one.
    pub(super) fn is_same_client(self, other: Self) -> bool {
        match (self, other) {
            (Self::Token(one), Self::Token(other))
            | (Self::Access(Some(one)), Self::Access(Some(other))) => one == other,
            (Self::Subject, Self::Subject) => true,
            _ => false,
        }
    }
}

/// The takeovers of one id, by the same client.
#[derive(Debug, Default)]
pub(super) struct Contest {
    /// Times of the last [`MAX_TAKEOVERS`], oldest first.
    takeovers: Vec<Duration>,
    /// Number of clients that were refused, without a pause of [`CONTEST_SPAN`].
    refusals: u32,
    last_refusal: Option<Duration>,
}

impl Contest {
    /// Returns whether another takeover needs a probe: there were too many a moment ago, or clients were
    /// refused because there were.
    pub(super) fn is_on(&self, now: Duration) -> bool {
        let is_too_often = self.takeovers.len() >= MAX_TAKEOVERS
            && (self.takeovers.first()).is_some_and(|&oldest| now < oldest + TAKEOVER_SPAN);
        is_too_often || self.was_refused(now)
    }

    /// Records a takeover.
    pub(super) fn record_takeover(&mut self, now: Duration) {
        if self.takeovers.len() >= MAX_TAKEOVERS {
            self.takeovers.remove(0);
        }
        self.takeovers.push(now);
    }

    /// Records that a client is refused, and returns for how long its ID-TAKEN is delayed.
    pub(super) fn refuse(&mut self, now: Duration) -> Duration {
        if !self.was_refused(now) {
            self.refusals = 0;
        }
        let factor = 2u32.saturating_pow(self.refusals);
        self.refusals = self.refusals.saturating_add(1);
        self.last_refusal = Some(now);
        FIRST_DELAY.saturating_mul(factor).min(MAX_DELAY)
    }

    fn was_refused(&self, now: Duration) -> bool {
        self.last_refusal
            .is_some_and(|last| now < last + CONTEST_SPAN)
    }
}

/// What a client asks for.
pub(super) struct Claim {
    pub(super) id: Arc<str>,
    pub(super) credential: Credential,
    pub(super) address: SubnetKey,
}

/// The clients that wait for an id that another client has.
#[derive(Default)]
pub(super) struct IdClaims {
    /// The claims, and when each gets its ID-TAKEN if that is decided.
    claims: BTreeMap<ConnectionId, (Claim, Option<Duration>)>,
    by_id: BTreeMap<Arc<str>, BTreeSet<ConnectionId>>,
    /// Times at which clients get their ID-TAKEN.
    refusals: BTreeSet<(Duration, ConnectionId)>,
}

impl IdClaims {
    /// Inserts a client whose claim is undecided.
    pub(super) fn insert(&mut self, conn: ConnectionId, claim: Claim) {
        let waiting = self.by_id.entry(claim.id.clone()).or_default();
        waiting.insert(conn);
        self.claims.insert(conn, (claim, None));
    }

    /// Removes a client that is admitted, rejected or gone.
    pub(super) fn remove(&mut self, conn: ConnectionId) -> Option<Claim> {
        let (claim, refused_at) = self.claims.remove(&conn)?;
        if let Some(at) = refused_at {
            self.refusals.remove(&(at, conn));
        }
        if let Some(waiting) = self.by_id.get_mut(&claim.id) {
            waiting.remove(&conn);
            if waiting.is_empty() {
                self.by_id.remove(&claim.id);
            }
        }
        Some(claim)
    }

    /// Returns the claim of a client.
    pub(super) fn get(&self, conn: ConnectionId) -> Option<&Claim> {
        self.claims.get(&conn).map(|(claim, _)| claim)
    }

    /// Returns the clients that wait for an id, in the order in which they connected.
    pub(super) fn of(&self, id: &str) -> Vec<ConnectionId> {
        let waiting = self.by_id.get(id);
        waiting.into_iter().flatten().copied().collect()
    }

    /// Returns those of them whose claim is undecided.
    pub(super) fn undecided(&self, id: &str) -> Vec<ConnectionId> {
        let is_undecided = |conn: &ConnectionId| matches!(self.claims.get(conn), Some((_, None)));
        let mut waiting = self.of(id);
        waiting.retain(is_undecided);
        waiting
    }

    /// Decides that a client gets its ID-TAKEN at a time.
    pub(super) fn refuse_at(&mut self, conn: ConnectionId, at: Duration) {
        if let Some((_, refused_at)) = self.claims.get_mut(&conn) {
            if let Some(before) = refused_at.replace(at) {
                self.refusals.remove(&(before, conn));
            }
            self.refusals.insert((at, conn));
        }
    }

    /// Removes and returns the clients that get their ID-TAKEN now.
    pub(super) fn pop_due(&mut self, now: Duration) -> Vec<ConnectionId> {
        let due = self.refusals.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<ConnectionId> = due.map(|&(_, conn)| conn).collect();
        for &conn in &due {
            self.remove(conn);
        }
        due
    }

    /// Returns the number of clients that wait.
    pub(super) fn len(&self) -> usize {
        self.claims.len()
    }

    /// Returns whether no client waits.
    #[cfg(any(test, fuzzing))]
    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.by_id.is_empty() && self.refusals.is_empty()
    }
}

impl FreeSpare for IdClaims {
    fn free_spare(&mut self) {
        let Self {
            claims,
            by_id,
            refusals,
        } = self;
        claims.free_spare();
        by_id.free_spare();
        refusals.free_spare();
    }
}
