//! The command line and the text of `--help`.

use crate::base::log_escape::Quoted;
use crate::config::{Flags, SettingFlag};
use lexopt::prelude::*;
use std::ffi::OsString;

/// The text of `--help`.
pub const HELP: &str = "\
switchboard: one small daemon for WebSocket protocols, each on its own port.

Usage:
  switchboard [OPTIONS]         serve until SIGTERM or SIGINT
  switchboard check [OPTIONS]   check a configuration; print its listeners, its
                                settings with their sources, its limits, and ok
  switchboard defaults          print the complete default configuration
  switchboard help [KEY]        explain a setting, or list all

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

To try it, start it without arguments and connect twice:
  wscat -c ws://localhost:9081/ws/chat          (prints a code)
  wscat -c ws://localhost:9081/ws/chat/CODE

To configure it, start from the defaults:
  switchboard defaults > switchboard.json
  switchboard check --config switchboard.json

On a hosting platform, which says the port:
  switchboard --listen \"peerjs=*:$PORT\"

SIGHUP has it read the configuration again. Clients of unchanged listeners notice
nothing, and a faulty configuration changes nothing.

Exit status: 0 success, or stopped by a signal; 1 it failed to start or while running;
2 the arguments, the variables or the configuration are invalid. A second signal ends it
at once, with 1.
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
    /// What the other flags say about the configuration. Their values are not checked yet.
    pub flags: Flags,
}

/// Parses a command line, given without the program's name.
///
/// # Errors
/// A text that says what is wrong.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, String> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let (mut command, mut flags) = (None, Flags::default());
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
            Value(word) if command.is_none() => {
                command = Some(command_named(&word.to_string_lossy())?);
            }
            Value(key) if command == Some(Command::Explain(None)) => {
                command = Some(Command::Explain(Some(key.to_string_lossy().into_owned())));
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    let command = command.unwrap_or(Command::Serve);
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

fn command_named(word: &str) -> Result<Command, String> {
    match word {
        "check" => Ok(Command::Check),
        "defaults" => Ok(Command::Defaults),
        "help" => Ok(Command::Explain(None)),
        other => Err(format!(
            "unknown command {}; the commands are check, defaults and help",
            Quoted(other)
        )),
    }
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
                "unknown command \"serve\"; the commands are check, defaults and help",
            ),
            ("--port 5", "--port"),
            ("--config", "missing argument"),
            ("--config=", "--config: write the path of a file"),
            ("--set", "missing argument"),
            ("--listen", "missing argument"),
            ("check check", "check"),
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
