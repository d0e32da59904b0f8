//! The table of protocols. A new protocol is one folder here and one line in [`PROTOCOLS`].

pub mod fastchat;
pub mod loudsync;
pub mod peerdrop;
pub mod peerjs;
pub mod workspace;

use crate::base::close::CloseReason;
use crate::realm::erased::{AnyCommand, AnyDecoder, AnyRealm};
use crate::realm::options::{OptionError, deserialize_object};
use crate::realm::{Defaults, Message, Method, Realm, SlowConsumerPolicy};
use serde_json::{Map, Value};

/// All protocols that the configuration can name.
pub static PROTOCOLS: &[Protocol] = &[
    Protocol::of::<peerdrop::PeerDrop>(),
    Protocol::of::<fastchat::FastChat>(),
    Protocol::of::<workspace::Workspace>(),
    Protocol::of::<loudsync::Loudsync>(),
    Protocol::of::<peerjs::PeerJs>(),
];

/// A protocol as the rest of the daemon sees it: constants and functions, without its types.
#[derive(Debug)]
pub struct Protocol {
    /// Name in the configuration and the log.
    pub name: &'static str,
    /// Path that a client connects to with the default options.
    pub endpoint: &'static str,
    /// Path that a client connects to with these options.
    pub(crate) endpoint_with: fn(&Map<String, Value>) -> String,
    /// Defaults of a listener's configuration.
    pub defaults: Defaults,
    /// The protocol's own close reasons, beside [`CloseReason::COMMON`].
    pub close_reasons: &'static [CloseReason],
    pub(crate) slow_consumer_policy: SlowConsumerPolicy,
    /// Number of messages of `max_message_size` that an outbox holds at least.
    pub(crate) min_outbox_messages: usize,
    /// HTTP methods of the requests that the realm answers itself.
    pub(crate) methods: &'static [Method],
    /// Message to a client that is rejected because there are too many connections.
    pub(crate) full_message: Option<&'static str>,
    pub(crate) matches_path: fn(&str) -> bool,
    pub(crate) new_decoder: fn() -> AnyDecoder,
    pub(crate) decode: fn(&mut AnyDecoder, Message) -> Option<AnyCommand>,
    /// Default options, as in the configuration.
    pub(crate) default_options: fn() -> Map<String, Value>,
    /// Creates an empty realm from complete options.
    pub(crate) new_realm: MakeRealm,
}

type MakeRealm = fn(&Map<String, Value>) -> Result<Box<dyn AnyRealm>, OptionError>;

impl Protocol {
    /// Describes the protocol of a realm. A protocol that is not in [`PROTOCOLS`] cannot be named in a
    /// configuration file, but [`Listener::built_in`](crate::config::Listener::built_in) can serve it.
    pub const fn of<R: Realm>() -> Self {
        Self {
            name: R::NAME,
            endpoint: R::ENDPOINT,
            endpoint_with: |options| {
                let options = deserialize_object(Value::Object(options.clone()));
                options.map_or_else(|_| R::ENDPOINT.to_owned(), |options| R::endpoint(&options))
            },
            defaults: R::DEFAULTS,
            close_reasons: R::CLOSE_REASONS,
            slow_consumer_policy: R::SLOW_CONSUMER_POLICY,
            min_outbox_messages: R::MIN_OUTBOX_MESSAGES,
            methods: R::METHODS,
            full_message: R::FULL_MESSAGE,
            matches_path: R::matches_path,
            new_decoder: || Box::new(R::Decoder::default()),
            decode: |decoder, message| {
                let decoder = decoder.downcast_mut();
                let decoder = decoder.expect("a connection has the decoder of its own protocol");
                R::decode(decoder, message).map(|command| Box::new(command) as AnyCommand)
            },
            default_options: || match serde_json::to_value(R::Options::default()) {
                Ok(Value::Object(options)) => options,
                other => unreachable!("options serialize to an object: {other:?}"),
            },
            new_realm: |options| {
                let options = deserialize_object(Value::Object(options.clone()))
                    .map_err(|(key, problem)| OptionError { key, problem })?;
                let realm = R::new(options).map_err(|(key, problem)| OptionError {
                    key: key.to_owned(),
                    problem,
                })?;
                Ok(Box::new(realm))
            },
        }
    }

    /// Returns whether the protocol has an HTTP API.
    pub(crate) const fn has_http_api(&self) -> bool {
        !self.methods.is_empty()
    }

    /// Returns the protocol of this name, whatever its case.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        PROTOCOLS
            .iter()
            .find(|protocol| protocol.name.eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The close reasons that a client of each protocol can be given.
    fn reasons() -> impl Iterator<Item = Vec<CloseReason>> {
        let of = |protocol: &Protocol| [protocol.close_reasons, &CloseReason::COMMON].concat();
        PROTOCOLS.iter().map(of)
    }

    #[test]
    fn codes_are_sorted_and_in_the_ranges_of_the_rfc() {
        let lists = PROTOCOLS.iter().map(|protocol| protocol.close_reasons);
        for list in lists.chain([&CloseReason::COMMON[..]]) {
            let codes: Vec<u16> = list.iter().map(|reason| reason.code()).collect();
            assert!(codes.is_sorted(), "{codes:?}");
            let is_valid = |code| matches!(code, 1000..=1014 | 4000..=4999);
            assert!(codes.into_iter().all(is_valid));
        }
    }

    #[test]
    fn reasons_fit_a_close_frame_and_are_distinct() {
        for reasons in reasons() {
            for (index, reason) in reasons.iter().enumerate() {
                let text = reason.reason();
                assert!(text.len() <= 123);
                let mut others = reasons[index + 1..].iter();
                assert!(others.all(|other| other.reason() != text), "{text}");
            }
        }
    }
}
