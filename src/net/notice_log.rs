//! The log lines that clients cause before they are admitted. The first notice of a kind in a minute is logged
//! with its details, of some kinds the first few; those that follow are counted, and the count is logged with the next
//! one or after the minute. So refusals are seen by default, and no client can fill the log with them.

use crate::broker::Refusal;
use crate::net::http::request::WrongProtocol;
use crate::realm::TokenError;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time within which one notice of a kind is logged.
const MINUTE: Duration = Duration::from_secs(60);

/// The period for an untrusted proxy header, which every request may have.
const HOUR: Duration = Duration::from_secs(3600);

/// Lines in a minute about refusals that a program such as fail2ban counts by address, to block those that try again
/// and again: of each status (403, 429), on each listener. The more a client tries, the more of them are its own.
const ABUSE_LINES: u32 = 60;

/// A kind of notice: what happened to a client. The server gives few different statuses, so there are few kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A request got a response with this status, or none for the same reason.
    Refused(u16),
    /// No whole request came within the `handshake_timeout`.
    TimedOut,
    /// The client does not speak HTTP/1.
    WrongProtocol(WrongProtocol),
    /// The client speaks plain HTTP to a listener with TLS.
    #[cfg(feature = "tls")]
    PlainHttp,
    /// The TLS handshake has failed.
    #[cfg(feature = "tls")]
    TlsHandshake,
    /// A trusted proxy that has to send a PROXY header did not send a valid one.
    ProxyHeader,
    /// A peer that is not in `trusted_proxies` names another client address, which is not believed.
    UntrustedForwarding,
    /// A client has sent an access token that is refused for this reason. What becomes of the client is not said by it:
    /// the realm decides that.
    Token(TokenError),
}

impl Notice {
    const fn period(self) -> Duration {
        match self {
            Self::UntrustedForwarding => HOUR,
            _ => MINUTE,
        }
    }

    /// Returns how many lines it has in its period. Those that are counted by address have more (see [`ABUSE_LINES`]).
    const fn lines(self) -> u32 {
        match self {
            Self::Refused(403 | 429) => ABUSE_LINES,
            _ => 1,
        }
    }

    /// Returns the status of the response.
    pub(crate) const fn status(self) -> Option<u16> {
        match self {
            Self::Refused(status) => Some(status),
            #[cfg(feature = "tls")]
            Self::PlainHttp => Some(400),
            _ => None,
        }
    }

    /// Returns as what it is counted, if it refuses a client.
    pub(crate) const fn refusal(self) -> Option<Refusal> {
        let reason = match self {
            Self::Refused(status) => return Some(Refusal::Status(status)),
            Self::UntrustedForwarding | Self::Token(_) => return None,
            Self::TimedOut => "timeout",
            Self::WrongProtocol(WrongProtocol::Tls) => "tls",
            Self::WrongProtocol(WrongProtocol::Http2) => "http2",
            Self::WrongProtocol(WrongProtocol::ProxyHeader) => "unexpected_proxy_header",
            Self::ProxyHeader => "proxy_header",
            #[cfg(feature = "tls")]
            Self::PlainHttp => return Some(Refusal::Status(400)),
            #[cfg(feature = "tls")]
            Self::TlsHandshake => "tls_handshake",
        };
        Some(Refusal::Unanswered(reason))
    }

    /// Returns the level of its log lines: `warn` for what the operator has to mend.
    pub(crate) const fn level(self) -> log::Level {
        match self {
            Self::Refused(_) | Self::TimedOut | Self::Token(_) => log::Level::Info,
            Self::WrongProtocol(_) | Self::ProxyHeader | Self::UntrustedForwarding => {
                log::Level::Warn
            }
            #[cfg(feature = "tls")]
            Self::PlainHttp => log::Level::Warn,
            #[cfg(feature = "tls")]
            Self::TlsHandshake => log::Level::Info,
        }
    }

    /// Returns that it happened to this number of others.
    pub(crate) fn more(self, count: u64) -> String {
        if count == 1 {
            return format!("1 more was {self}");
        }
        let happened = match self {
            Self::TimedOut => "refused for their silence",
            Self::ProxyHeader => "refused for their PROXY headers",
            #[cfg(feature = "tls")]
            Self::TlsHandshake => "refused for their TLS handshakes",
            Self::UntrustedForwarding => "not trusted as proxies",
            _ => return format!("{count} more were {self}"),
        };
        format!("{count} more were {happened}")
    }
}

/// Displays what happened to one client.
impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "refused with {status}"),
            Self::TimedOut => f.write_str("refused for its silence"),
            Self::WrongProtocol(WrongProtocol::Tls) => f.write_str("refused for TLS"),
            Self::WrongProtocol(WrongProtocol::Http2) => f.write_str("refused for HTTP/2"),
            Self::WrongProtocol(WrongProtocol::ProxyHeader) => {
                f.write_str("refused for an unexpected PROXY header")
            }
            Self::ProxyHeader => f.write_str("refused for its PROXY header"),
            #[cfg(feature = "tls")]
            Self::PlainHttp => f.write_str("refused for plain HTTP"),
            #[cfg(feature = "tls")]
            Self::TlsHandshake => f.write_str("refused for its TLS handshake"),
            Self::UntrustedForwarding => f.write_str("not trusted as a proxy"),
            Self::Token(error) => write!(f, "refused for a token that {}", fault(*error)),
        }
    }
}

/// Returns what is wrong with a token. Nothing in it is the client's choice.
const fn fault(token: TokenError) -> &'static str {
    match token {
        TokenError::TooLong => "has more than 8192 bytes",
        TokenError::Malformed => "is no JSON Web Token, or whose claims have wrong types",
        TokenError::Algorithm => "is not signed with HS256, or has \"crit\"",
        TokenError::Signature => "is not signed with this listener's secret",
        TokenError::Audience => "is for another audience",
        TokenError::Expired => "has expired",
        TokenError::NotYetValid => "is not valid yet",
        TokenError::Ambiguous => "disagrees with another one",
        TokenError::Missing => "is missing",
    }
}

/// Capacity for all kinds of notices: the statuses that the server sends, and those about tokens, and eight others.
const MAX_KINDS: usize = 32;

/// The notices of one listener.
pub(crate) struct NoticeLog {
    /// One for each kind that was noticed within its period.
    windows: Mutex<Vec<Window>>,
    /// Time at which a handshake over HTTP/1.0 was last logged. Those are accepted, so they are no [`Notice`].
    old_handshake_logged: Mutex<Option<Instant>>,
}

/// The time since one notice of a kind was logged.
struct Window {
    kind: Notice,
    start: Instant,
    /// Number of lines since then.
    lines: u32,
    /// Number of notices that followed them.
    unlogged: u64,
}

impl Default for NoticeLog {
    fn default() -> Self {
        Self {
            // Allocated for the first notice of a storm, it would keep the memory below it
            // (see [`crate::base::spare`]).
            windows: Mutex::new(Vec::with_capacity(MAX_KINDS)),
            old_handshake_logged: Mutex::new(None),
        }
    }
}

impl NoticeLog {
    /// Records a notice. If it is to be logged, returns the number of those that were not logged before it.
    pub(crate) fn record(&self, notice: Notice, now: Instant) -> Option<u64> {
        let mut windows = self.lock();
        let Some(window) = windows.iter_mut().find(|window| window.kind == notice) else {
            windows.push(Window {
                kind: notice,
                start: now,
                lines: 1,
                unlogged: 0,
            });
            return Some(0);
        };
        if now.duration_since(window.start) < notice.period() {
            if window.lines < notice.lines() {
                window.lines += 1;
                return Some(0);
            }
            window.unlogged += 1;
            return None;
        }
        window.start = now;
        window.lines = 1;
        Some(std::mem::take(&mut window.unlogged))
    }

    /// Returns the counts of notices that were not logged, for the kinds whose time is over at `now`, and
    /// for all kinds if that is `None`.
    pub(crate) fn take_counts(&self, now: Option<Instant>) -> Vec<(Notice, u64)> {
        let mut counts = Vec::new();
        self.lock().retain(|window| {
            let is_over = |now: Instant| now.duration_since(window.start) >= window.kind.period();
            let is_over = now.is_none_or(is_over);
            if is_over && window.unlogged > 0 {
                counts.push((window.kind, window.unlogged));
            }
            !is_over
        });
        counts
    }

    /// Records a handshake over HTTP/1.0, and returns whether it is to be logged: the first one in a minute. The
    /// others are not counted, since each client behind such a proxy has one, and nothing is wrong with them.
    pub(crate) fn record_old_handshake(&self, now: Instant) -> bool {
        let logged = self.old_handshake_logged.lock();
        let mut logged = logged.unwrap_or_else(PoisonError::into_inner);
        let is_due = logged.is_none_or(|logged| now.duration_since(logged) >= MINUTE);
        if is_due {
            *logged = Some(now);
        }
        is_due
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Window>> {
        // No code that holds the lock can panic in the middle of a change.
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_FOUND: Notice = Notice::Refused(404);

    #[test]
    fn the_first_of_a_kind_in_a_minute_is_logged_and_the_next_after_it_with_a_count() {
        let (log, start) = (NoticeLog::default(), Instant::now());
        let seconds = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(log.record(NOT_FOUND, start), Some(0));
        assert_eq!(log.record(NOT_FOUND, start), None);
        assert_eq!(log.record(NOT_FOUND, seconds(59)), None);
        assert_eq!(log.record(NOT_FOUND, seconds(60)), Some(2));
        assert_eq!(log.record(NOT_FOUND, seconds(61)), None);
    }

    #[test]
    fn refusals_that_are_counted_by_address_have_sixty_lines_a_minute() {
        for status in [403, 429] {
            let (log, start) = (NoticeLog::default(), Instant::now());
            let refused = Notice::Refused(status);
            let logged = (0..100).filter(|_| log.record(refused, start) == Some(0));
            assert_eq!(logged.count(), 60);
            assert_eq!(log.record(refused, start + MINUTE), Some(40));
            let logged = (0..100).filter(|_| log.record(refused, start + MINUTE) == Some(0));
            assert_eq!(logged.count(), 59);
        }
    }

    #[test]
    fn a_count_is_told_of_one_client_and_of_several() {
        for (notice, one, several) in [
            (NOT_FOUND, "refused with 404", "refused with 404"),
            (
                Notice::TimedOut,
                "refused for its silence",
                "refused for their silence",
            ),
            (
                Notice::ProxyHeader,
                "refused for its PROXY header",
                "refused for their PROXY headers",
            ),
            #[cfg(feature = "tls")]
            (
                Notice::TlsHandshake,
                "refused for its TLS handshake",
                "refused for their TLS handshakes",
            ),
            (
                Notice::UntrustedForwarding,
                "not trusted as a proxy",
                "not trusted as proxies",
            ),
        ] {
            assert_eq!(notice.more(1), format!("1 more was {one}"));
            assert_eq!(notice.more(2), format!("2 more were {several}"));
        }
    }

    #[test]
    fn each_kind_is_counted_on_its_own() {
        let (log, start) = (NoticeLog::default(), Instant::now());
        let kinds = [
            NOT_FOUND,
            Notice::Refused(426),
            Notice::TimedOut,
            Notice::WrongProtocol(WrongProtocol::Tls),
            Notice::WrongProtocol(WrongProtocol::Http2),
            Notice::WrongProtocol(WrongProtocol::ProxyHeader),
            Notice::ProxyHeader,
            Notice::UntrustedForwarding,
            Notice::Token(TokenError::Signature),
            Notice::Token(TokenError::Expired),
        ];
        for kind in kinds {
            assert_eq!(log.record(kind, start), Some(0), "{kind:?}");
            assert_eq!(log.record(kind, start), None, "{kind:?}");
        }
        assert_eq!(log.take_counts(None).len(), kinds.len());
    }

    #[test]
    fn a_count_is_told_once_its_minute_is_over_and_leaves_nothing_behind() {
        let (log, start) = (NoticeLog::default(), Instant::now());
        for _ in 0..5 {
            let _ = log.record(NOT_FOUND, start);
        }
        assert_eq!(log.record(Notice::Refused(426), start), Some(0));
        assert!(log.take_counts(Some(start + MINUTE / 2)).is_empty());
        assert_eq!(log.take_counts(Some(start + MINUTE)), [(NOT_FOUND, 4)]);
        assert!(log.lock().is_empty());
        assert_eq!(log.record(NOT_FOUND, start + MINUTE), Some(0));
    }

    #[test]
    fn forwarded_addresses_that_are_not_believed_are_logged_once_an_hour() {
        let (log, start) = (NoticeLog::default(), Instant::now());
        let forwarding = Notice::UntrustedForwarding;
        assert_eq!(log.record(forwarding, start), Some(0));
        assert_eq!(log.record(forwarding, start + 59 * MINUTE), None);
        assert_eq!(log.record(forwarding, start + HOUR), Some(1));
    }

    #[test]
    fn handshakes_over_http_1_0_are_logged_once_a_minute_and_not_counted() {
        let (log, start) = (NoticeLog::default(), Instant::now());
        let is_logged = |second: &u64| {
            let now = start + Duration::from_secs(*second);
            log.record_old_handshake(now)
        };
        let logged: Vec<u64> = (0..=121).filter(is_logged).collect();
        assert_eq!(logged, [0, 60, 120]);
        assert!(log.take_counts(None).is_empty());
    }
}
