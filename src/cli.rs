//! The command line and the text of `--help`.

use crate::base::log_escape::Quoted;
use crate::config::parse_level;
use lexopt::prelude::*;
use log::LevelFilter;
use std::ffi::OsString;
use std::path::PathBuf;

/// The text of `--help`.
pub const HELP: &str = "\
switchboard: one small daemon for WebSocket protocols, each on its own port.

Usage:
  switchboard [--config FILE] [--log LEVEL]   serve until SIGTERM or SIGINT
  switchboard check [--config FILE]           check a configuration, print its listeners
  switchboard defaults                        print the complete default configuration
  switchboard help [KEY]                      explain a setting, or list all

Options:
  -c, --config FILE   a JSON file; without it the file that $SWITCHBOARD_CONFIG names;
                      without either every protocol listens on its own port of localhost
  -l, --log LEVEL     off, error, warn, info or debug; without it the level of
                      the configuration, else that of $RUST_LOG, else info
  -h, --help          print this text
  -V, --version       print the version

To try it, start it without arguments and connect twice:
  wscat -c ws://localhost:9081/ws/chat          (prints a code)
  wscat -c ws://localhost:9081/ws/chat/CODE

To configure it, start from the defaults:
  switchboard defaults > switchboard.json
  switchboard check --config switchboard.json

Exit status: 0 success, or stopped by a signal; 1 it failed to start or while running;
2 the arguments or the configuration are invalid. A second signal ends it at once, with 1.
";

/// The command to execute.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// `switchboard` without a command: bind the listeners and serve until a signal.
    Serve {
        /// The level of `--log`; `None`: that of the configuration or of `RUST_LOG`.
        log: Option<LevelFilter>,
    },
    /// `check`: validate the configuration and print its listeners.
    Check,
    /// `defaults`: print the built-in configuration.
    Defaults,
    /// `help`: print what a setting is for, or a line about each.
    Explain(Option<String>),
    /// `--help`; also in addition to a command.
    Help,
    /// `--version`; also in addition to a command.
    Version,
}

/// The parsed command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The command; [`Command::Serve`] if none is given.
    pub command: Command,
    /// The file of `--config`; `None`: that of `SWITCHBOARD_CONFIG`, or the defaults.
    pub config: Option<PathBuf>,
}

/// Parses a command line, given without the program's name.
///
/// # Errors
/// A text that says what is wrong.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, String> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut command, mut config, mut log) = (None, None, None);
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        match argument {
            Short('h') | Long("help") => {
                return Ok(Arguments {
                    command: Command::Help,
                    config: None,
                });
            }
            Short('V') | Long("version") => {
                return Ok(Arguments {
                    command: Command::Version,
                    config: None,
                });
            }
            Short('c') | Long("config") => {
                config = Some(PathBuf::from(
                    parser.value().map_err(|error| error.to_string())?,
                ));
            }
            Short('l') | Long("log") => {
                let level = parser.value().map_err(|error| error.to_string())?;
                let level = parse_level(&level.to_string_lossy());
                log = Some(level.map_err(|problem| format!("--log: {problem}"))?);
            }
            Value(word) if command.is_none() => {
                command = Some(match word.to_string_lossy().as_ref() {
                    "check" => Command::Check,
                    "defaults" => Command::Defaults,
                    "help" => Command::Explain(None),
                    other => {
                        return Err(format!(
                            "unknown command {}; the commands are check, defaults and help",
                            Quoted(other)
                        ));
                    }
                });
            }
            Value(key) if command == Some(Command::Explain(None)) => {
                command = Some(Command::Explain(Some(key.to_string_lossy().into_owned())));
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    let command = match command {
        None => Command::Serve { log },
        Some(_) if log.is_some() => return Err("--log cannot be used with a command".to_owned()),
        Some(Command::Defaults | Command::Explain(_)) if config.is_some() => {
            return Err(
                "--config cannot be used with defaults or help, which know the built-in configuration alone"
                    .to_owned(),
            );
        }
        Some(command) => command,
    };
    Ok(Arguments { command, config })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn arguments(command: Command, config: Option<&str>) -> Result<Arguments, String> {
        Ok(Arguments {
            command,
            config: config.map(PathBuf::from),
        })
    }

    #[test]
    fn the_usages_in_the_help_are_parsed() {
        assert_eq!(parsed(""), arguments(Command::Serve { log: None }, None));
        assert_eq!(
            parsed("--config a.json --log debug"),
            arguments(
                Command::Serve {
                    log: Some(LevelFilter::Debug)
                },
                Some("a.json")
            )
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
    fn an_error_says_what_is_wrong() {
        for (line, problem) in [
            (
                "serve",
                "unknown command \"serve\"; the commands are check, defaults and help",
            ),
            (
                "--log loud",
                "--log: must be off, error, warn, info or debug, not \"loud\"",
            ),
            ("--port 5", "--port"),
            ("--config", "missing argument"),
            ("check check", "check"),
            ("help log threads", "threads"),
            ("check --log info", "--log cannot be used with a command"),
            (
                "defaults -c a.json",
                "--config cannot be used with defaults",
            ),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(problem), "{line}: {error}");
        }
    }
}
