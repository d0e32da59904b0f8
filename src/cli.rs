//! The command line and the text of `--help`.

pub mod operator;
mod status_client;
mod status_text;
mod table;
pub mod token;
mod token_check;
mod token_flags;
mod token_meaning;

use crate::base::ip::Network;
use crate::base::log_escape::Quoted;
use crate::config::{Flags, SettingFlag};
use lexopt::prelude::*;
use std::ffi::OsString;
use std::time::Duration;
use token_flags::TokenFlags;
pub use token_flags::{Moment, TokenCommand, TokenRequest};

/// The text of `--help`.
pub const HELP: &str = "\
switchboard: one small daemon for WebSocket protocols, each on its own port.

Usage:
  switchboard [OPTIONS]         serve until SIGTERM or SIGINT
  switchboard check [OPTIONS]   check a configuration; print its listeners, its
                                settings with their sources, its limits, and ok
  switchboard defaults          print the complete default configuration
  switchboard help [KEY]        explain a setting, or list all
  switchboard token --listener LISTENER --expires TIME [--subject ID] [--name NAME]
                    [--role ROLE]... [--audience TEXT] [--not-before TIME]
                                print an access token for a listener that has \"access\",
                                which is a PROTOCOL, its ADDRESS or PROTOCOL=ADDRESS
  switchboard token --check --listener LISTENER [TOKEN]
                                print what is in a token, and whether signature, audience
                                and times are right for the listener; without TOKEN it is
                                read from standard input

Of a daemon that runs, which is found by its setting status:
  switchboard status [OPTIONS]  print how it is
  switchboard clients           list who is connected, with numbers
  switchboard kick CLIENT...    close connections: by NUMBER, by ADDRESS[/N], or those of a
                                user by NAME (or id) or PROTOCOL/NAME
  switchboard ban ADDRESS[/N] [--for TIME]
                                refuse who connects from there, and close who is; for 1h,
                                30m, 7days, or as long as the daemon runs. A client with
                                IPv6 usually has all addresses of a network: ADDRESS/64
  switchboard unban ADDRESS[/N] end a ban
  switchboard bans              list the bans
All but status need a token, which the daemon's user and root can read: use sudo.

Options:
  -c, --config FILE   a JSON file; without it the file that $SWITCHBOARD_CONFIG names;
                      without either every protocol listens on its own port of localhost
  --listen PROTOCOL=ADDRESS
                      listen there, instead of on the listeners of the file or of the
                      defaults; may be repeated
  --set KEY=VALUE     a setting of the process, such as --set threads=2; may be repeated.
                      It precedes $SWITCHBOARD_KEY (such as $SWITCHBOARD_THREADS), which
                      precedes the file
  -l, --log LEVEL     off, error, warn, info or debug: the same as --set log=LEVEL; where
                      nothing sets a level, that of $RUST_LOG, else info
  -h, --help          print this text
  -V, --version       print the version

To try it, start it without arguments and open a link that it prints, or connect twice:
  wscat -c ws://localhost:9081/ws/chat          (prints a code)
  wscat -c ws://localhost:9081/ws/chat/CODE

To configure it, start from the defaults:
  switchboard defaults > switchboard.json
  switchboard check --config switchboard.json

On a hosting platform, which says the port:
  switchboard --listen \"peerjs=*:$PORT\"

SIGHUP has it read the configuration again. Clients of unchanged listeners notice
nothing, and a faulty configuration changes nothing.

Exit status: 0 success, or stopped by a signal; 1 it failed to start or while running, or
a daemon that runs is not well, cannot be asked, or did not do it; 2 the arguments, the
variables or the configuration are invalid. A second signal ends it at once, with 1.
";

/// The command to execute.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// `switchboard` without a command: bind the listeners and serve until a signal.
    Serve,
    /// `check`: validate the configuration, and print what it comes to.
    Check,
    /// `defaults`: print the built-in configuration.
    Defaults,
    /// `help`: print what a setting is for, or a line about each.
    Explain(Option<String>),
    /// `token`: make an access token, or check one.
    Token(TokenCommand),
    /// What an operator asks of a daemon that runs.
    Operator(Operation),
    /// `--help`; also in addition to a command.
    Help,
    /// `--version`; also in addition to a command.
    Version,
}

/// What an operator asks of a daemon that runs.
#[derive(Debug, PartialEq, Eq)]
pub enum Operation {
    /// `status`: print how it is.
    Status,
    /// `clients`: list who is connected.
    Clients,
    /// `kick`: close the connections of these clients.
    Kick(Vec<String>),
    /// `ban`: refuse and close a network's clients, for this time.
    Ban(Network, Option<Duration>),
    /// `unban`: end a ban.
    Unban(Network),
    /// `bans`: list the bans.
    Bans,
}

/// The parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The command; [`Command::Serve`] if none is given.
    pub command: Command,
    /// What the other flags say about the configuration. Their values are not checked yet.
    pub flags: Flags,
}

/// Parses a command line, given without the program's name.
///
/// # Errors
/// A text that says what is wrong.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, String> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut words, mut time, mut flags) = (Vec::new(), None, Flags::default());
    let mut token = TokenFlags::default();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Short('h') | Long("help") => return Ok(without_flags(Command::Help)),
            Short('V') | Long("version") => return Ok(without_flags(Command::Version)),
            Short('c') | Long("config") => {
                let path = parser.value().map_err(|error| error.to_string())?;
                if path.is_empty() {
                    return Err("--config: write the path of a file; it is empty".to_owned());
                }
                flags.file = Some(path.into());
            }
            Short('l') | Long("log") => {
                let level = text(&mut parser, "--log")?;
                flags.settings.push(SettingFlag::Named("log", level));
            }
            Long("set") => flags
                .settings
                .push(SettingFlag::Set(text(&mut parser, "--set")?)),
            Long("listen") => flags.listen.push(text(&mut parser, "--listen")?),
            Long("for") => time = Some(ban_time(&text(&mut parser, "--for")?)?),
            Long("check") => token.add("check", String::new())?,
            Long(flag) => match TokenFlags::find(flag) {
                Some(flag) => token.add(flag, text(&mut parser, &format!("--{flag}"))?)?,
                None => return Err(Long(flag).unexpected().to_string()),
            },
            Value(word) => words.push(word.to_string_lossy().into_owned()),
            other => return Err(other.unexpected().to_string()),
        }
    }
    let command = command(words, time, &token)?;
    let is_built_in = matches!(command, Command::Defaults | Command::Explain(_));
    match first_flag(&flags) {
        Some(flag) if is_built_in => Err(format!(
            "{flag} cannot be used with defaults or help, which know the built-in configuration alone"
        )),
        _ => Ok(Arguments { command, flags }),
    }
}

fn without_flags(command: Command) -> Arguments {
    Arguments {
        command,
        flags: Flags::default(),
    }
}

/// Returns the command with its operands. `time` is the value of `--for`, `token` has the flags of `token`.
fn command(
    words: Vec<String>,
    time: Option<Duration>,
    token: &TokenFlags,
) -> Result<Command, String> {
    let mut words = words.into_iter();
    let word = words.next();
    if word.as_deref() != Some("token") {
        token.none()?;
    }
    let Some(word) = word else {
        return without_time(Command::Serve, time);
    };
    let command = match word.as_str() {
        "check" => Command::Check,
        "defaults" => Command::Defaults,
        "help" => Command::Explain(words.next()),
        "token" => Command::Token(token.command(&mut words)?),
        "status" => Command::Operator(Operation::Status),
        "clients" => Command::Operator(Operation::Clients),
        "bans" => Command::Operator(Operation::Bans),
        "kick" => {
            let clients: Vec<String> = words.by_ref().collect();
            if clients.is_empty() {
                return Err(
                    "kick: write whom: a number, an address or a name that switchboard clients lists"
                        .to_owned(),
                );
            }
            Command::Operator(Operation::Kick(clients))
        }
        "ban" => {
            let network = network("ban", words.next())?;
            no_more(words)?;
            return Ok(Command::Operator(Operation::Ban(network, time)));
        }
        "unban" => Command::Operator(Operation::Unban(network("unban", words.next())?)),
        other => {
            return Err(format!(
                "unknown command {}; the commands are check, defaults, help, token, status, clients, kick, ban, unban and \
                 bans",
                Quoted(other)
            ));
        }
    };
    no_more(words)?;
    without_time(command, time)
}

/// Checks that no operand is left.
fn no_more(mut words: impl Iterator<Item = String>) -> Result<(), String> {
    match words.next() {
        Some(word) => Err(format!("unexpected argument {}", Quoted(&word))),
        None => Ok(()),
    }
}

/// Checks that a command is not given a time.
fn without_time(command: Command, time: Option<Duration>) -> Result<Command, String> {
    match time {
        Some(_) => Err("--for can be used with ban alone".to_owned()),
        None => Ok(command),
    }
}

/// Reads the network that a command is about.
fn network(command: &str, word: Option<String>) -> Result<Network, String> {
    let word = word.unwrap_or_default();
    word.parse().map_err(|()| {
        let given = Quoted(&word);
        format!(
            "{command}: write an IP address, such as 192.0.2.7, or a network, such as 192.0.2.0/24, instead of {given}"
        )
    })
}

/// Reads the value of `--for`.
fn ban_time(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).ok();
    let time = time.filter(|time| *time >= Duration::from_secs(1));
    time.ok_or_else(|| {
        format!(
            "--for: write a time of a second at least, such as 30m, 1h or 7days, instead of {}",
            Quoted(text)
        )
    })
}

/// Returns the value of a flag that is a text.
fn text(parser: &mut lexopt::Parser, flag: &str) -> Result<String, String> {
    let value = parser.value().map_err(|error| error.to_string())?;
    value.into_string().map_err(|value| {
        let given = value.to_string_lossy();
        format!("{flag}: write UTF-8 instead of {}", Quoted(&given))
    })
}

/// Returns the name of a flag about the configuration that is given.
fn first_flag(flags: &Flags) -> Option<String> {
    let settings = flags.settings.iter().map(|flag| match flag {
        SettingFlag::Set(_) => "--set".to_owned(),
        SettingFlag::Named(name, _) => format!("--{name}"),
    });
    let file = flags.file.iter().map(|_| "--config".to_owned());
    let listen = flags.listen.iter().map(|_| "--listen".to_owned());
    file.chain(settings).chain(listen).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn arguments(command: Command, file: Option<&str>) -> Result<Arguments, String> {
        let mut arguments = without_flags(command);
        arguments.flags.file = file.map(Into::into);
        Ok(arguments)
    }

    #[test]
    fn the_usages_in_the_help_are_parsed() {
        assert_eq!(parsed(""), arguments(Command::Serve, None));
        assert_eq!(
            parsed("--config a.json"),
            arguments(Command::Serve, Some("a.json"))
        );
        assert_eq!(parsed("-c a.json"), parsed("--config=a.json"));
        assert_eq!(
            parsed("check -c a.json"),
            arguments(Command::Check, Some("a.json"))
        );
        assert_eq!(parsed("defaults"), arguments(Command::Defaults, None));
        assert_eq!(parsed("help"), arguments(Command::Explain(None), None));
        assert_eq!(
            parsed("help log"),
            arguments(Command::Explain(Some("log".to_owned())), None)
        );
        assert_eq!(parsed("-h"), arguments(Command::Help, None));
        assert_eq!(parsed("check --version"), arguments(Command::Version, None));
    }

    #[test]
    fn the_usages_of_operators_commands_in_the_help_are_parsed() {
        for (line, operation) in [
            ("status", Operation::Status),
            ("clients", Operation::Clients),
            (
                "kick 17 peerjs/a",
                Operation::Kick(vec!["17".to_owned(), "peerjs/a".to_owned()]),
            ),
            (
                "ban 192.0.2.7 --for 1h",
                Operation::Ban(
                    Network::of([192, 0, 2, 7].into(), 32),
                    Some(Duration::from_secs(3600)),
                ),
            ),
            (
                "ban 192.0.2.0/24",
                Operation::Ban(Network::of([192, 0, 2, 0].into(), 24), None),
            ),
            (
                "unban 192.0.2.7",
                Operation::Unban(Network::of([192, 0, 2, 7].into(), 32)),
            ),
            ("bans", Operation::Bans),
        ] {
            assert_eq!(
                parsed(&format!("{line} -c a.json")),
                arguments(Command::Operator(operation), Some("a.json"))
            );
        }
    }

    #[test]
    fn the_usages_of_token_in_the_help_are_parsed() {
        let made = TokenCommand::Make {
            listener: "peerjs".to_owned(),
            request: TokenRequest {
                subject: Some("ann".to_owned()),
                roles: vec!["host".to_owned(), "join".to_owned()],
                expires: Some(Moment::After(Duration::from_secs(86_400))),
                ..TokenRequest::default()
            },
        };
        assert_eq!(
            parsed("token --listener peerjs --subject ann --role host --role join --expires 1d"),
            arguments(Command::Token(made), None)
        );
        for (line, token) in [("", None), (" a.b.c", Some("a.b.c".to_owned()))] {
            let checked = TokenCommand::Check {
                listener: "peerjs".to_owned(),
                token,
            };
            assert_eq!(
                parsed(&format!("token --check --listener peerjs{line}")),
                arguments(Command::Token(checked), None)
            );
        }
    }

    #[test]
    fn flags_about_the_configuration_are_kept_in_their_order_for_serve_and_check() {
        let flags = "--set a=1 --log debug --listen b=:1 --set=c --listen d=:2";
        for (command, line) in [(Command::Serve, ""), (Command::Check, "check ")] {
            let arguments = parsed(&format!("{line}{flags}")).unwrap();
            assert_eq!(arguments.command, command);
            assert_eq!(
                arguments.flags.settings,
                [
                    SettingFlag::Set("a=1".to_owned()),
                    SettingFlag::Named("log", "debug".to_owned()),
                    SettingFlag::Set("c".to_owned()),
                ]
            );
            assert_eq!(arguments.flags.listen, ["b=:1", "d=:2"]);
        }
    }

    #[test]
    fn a_flag_with_the_name_of_a_setting_sets_it() {
        let flags = parsed("--log warn").unwrap().flags;
        let config = crate::config::Config::load(&flags, []).unwrap();
        let from_flags = config.effective().into_iter();
        let mut from_flags = from_flags.filter(|it| it.source == crate::config::Source::Flag);
        assert_eq!(
            from_flags.next().unwrap().to_string(),
            "log = \"warn\" (flag)"
        );
        assert_eq!(from_flags.next(), None);
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        for (line, problem) in [
            (
                "serve",
                "unknown command \"serve\"; the commands are check, defaults, help, token, status, clients, kick, ban, \
                 unban and bans",
            ),
            ("--port 5", "--port"),
            ("--config", "missing argument"),
            ("--config=", "--config: write the path of a file"),
            ("--set", "missing argument"),
            ("--listen", "missing argument"),
            ("check check", "unexpected argument \"check\""),
            ("clients 17", "unexpected argument \"17\""),
            ("kick", "kick: write whom"),
            ("ban", "ban: write an IP address, such as 192.0.2.7, or"),
            ("ban 192.0.2.0/33", "instead of \"192.0.2.0/33\""),
            (
                "ban 192.0.2.7 192.0.2.8",
                "unexpected argument \"192.0.2.8\"",
            ),
            ("unban chat.example", "unban: write an IP address"),
            ("ban ::1 --for", "missing argument"),
            (
                "ban ::1 --for ever",
                "--for: write a time of a second at least",
            ),
            ("ban ::1 --for 0s", "instead of \"0s\""),
            ("kick 17 --for 1h", "--for can be used with ban alone"),
            ("--for 1h", "--for can be used with ban alone"),
            ("check --check", "--check can be used with token alone"),
            ("help log threads", "threads"),
            (
                "defaults -c a.json",
                "--config cannot be used with defaults",
            ),
            ("help --log info", "--log cannot be used with defaults"),
            ("help log --set a=1", "--set cannot be used with defaults"),
            (
                "--listen a=:1 defaults",
                "--listen cannot be used with defaults",
            ),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(problem), "{line}: {error}");
        }
    }
}
