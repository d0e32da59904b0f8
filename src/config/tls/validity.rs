//! How long a certificate is valid yet.

use crate::base::log_escape::Quoted;
use humantime::format_rfc3339_seconds;
use std::time::{Duration, SystemTime};

/// Time before the end of a certificate from which it is warned of. Certbot renews thirty days before.
const WARNED_BEFORE: Duration = Duration::from_secs(14 * DAY);

/// A day in seconds.
const DAY: u64 = 24 * 60 * 60;

/// Whether a certificate is valid, and what there is to say if it is not for long. An invalid one does not keep the daemon
/// from serving: a machine that restarts must not stay silent for it, and clients say what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    /// It is, for long.
    Valid,
    /// It ends soon.
    EndsSoon(String),
    /// It is not valid now.
    Invalid(String),
}

impl Validity {
    /// Returns the validity at `now` of the certificate in a file, which is valid between two times.
    pub(super) fn new(file: &str, valid: (SystemTime, SystemTime), now: SystemTime) -> Self {
        let (from, until) = valid;
        let file = Quoted(file);
        let Ok(left) = until.duration_since(now) else {
            return Self::Invalid(format!(
                "tls.certificate: that in {file} has expired at {}, and clients refuse it; renew it (certbot renew), and the \
                 daemon takes the new one by itself",
                format_rfc3339_seconds(until)
            ));
        };
        if from > now {
            return Self::Invalid(format!(
                "tls.certificate: that in {file} is not valid before {}, and clients refuse it; check the clock of this \
                 machine, or whether it is the right file",
                format_rfc3339_seconds(from)
            ));
        }
        if left > WARNED_BEFORE {
            return Self::Valid;
        }
        Self::EndsSoon(format!(
            "tls.certificate: that in {file} expires in {} days, at {}; renew it (certbot renew), and the daemon takes the new \
             one by itself",
            left.as_secs() / DAY,
            format_rfc3339_seconds(until)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(days: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(days * DAY)
    }

    #[test]
    fn a_certificate_is_warned_of_from_14_days_before_its_end() {
        let validity = |now| Validity::new("/a.pem", (days(100), days(190)), now);
        assert_eq!(validity(days(100)), Validity::Valid);
        let second = Duration::from_secs(1);
        assert_eq!(validity(days(176) - second), Validity::Valid);
        match validity(days(188)) {
            Validity::EndsSoon(text) => assert_eq!(
                text,
                "tls.certificate: that in \"/a.pem\" expires in 2 days, at 1970-07-10T00:00:00Z; renew it (certbot renew), and the \
                 daemon takes the new one by itself"
            ),
            other => panic!("{other:?}"),
        }
        assert!(matches!(validity(days(176)), Validity::EndsSoon(_)));
        assert!(matches!(validity(days(190)), Validity::EndsSoon(_)));
        for now in [days(190) + second, days(99)] {
            assert!(matches!(validity(now), Validity::Invalid(_)));
        }
    }
}
