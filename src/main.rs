//! The program: command line, configuration, log, server, exit status.

use std::io::{self, IsTerminal, Write};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use switchboard::cli::{self, Command};
use switchboard::config::{Config, Listener, help, parse_level};
use switchboard::server::{Server, WhenTaken};
use switchboard::sys::{log_writer, open_files, signals, stderr, systemd, threads};

/// Exit status for invalid arguments or an invalid configuration.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match cli::parse(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            stderr::print(format_args!(
                "switchboard: {problem}; see switchboard --help"
            ));
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match arguments.command {
        Command::Help => return print(cli::HELP),
        Command::Version => return print(concat!("switchboard ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Defaults => return print(&format!("{}\n", Config::built_in().to_json())),
        Command::Explain(None) => return print(&help::overview()),
        Command::Explain(Some(key)) => {
            return match help::describe(&key) {
                Ok(description) => print(&description),
                Err(problem) => {
                    stderr::print(format_args!("switchboard: {problem}"));
                    ExitCode::from(WRONG_USAGE)
                }
            };
        }
        Command::Check | Command::Serve { .. } => {}
    }
    let variable = std::env::var_os("SWITCHBOARD_CONFIG").filter(|path| !path.is_empty());
    let file = arguments.config.or_else(|| variable.map(PathBuf::from));
    let config = match file.map_or_else(|| Ok(Config::built_in()), |file| Config::from_file(&file))
    {
        Ok(config) => config,
        Err(error) => {
            stderr::print(error);
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match arguments.command {
        Command::Serve { log } => serve(config, log),
        _ => {
            for warning in config.warnings() {
                eprintln!("switchboard: warning: {warning}");
            }
            print(
                &config
                    .listeners
                    .iter()
                    .map(listener_line)
                    .collect::<String>(),
            )
        }
    }
}

fn listener_line(listener: &Listener) -> String {
    format!(
        "{:<10} ws://{}{}\n",
        listener.protocol.name,
        listener.settings.address,
        listener.endpoint()
    )
}

fn print(text: &str) -> ExitCode {
    // A closed pipe is not an error: its reader needs no more.
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            stderr::print(format_args!(
                "switchboard: cannot write to standard output: {error}"
            ));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn serve(config: Config, log: Option<log::LevelFilter>) -> ExitCode {
    stderr::report_panics();
    threads::start(config.process.threads);
    // On each way out of this function its drop writes the last lines.
    let _log_writer = match log_writer::start() {
        Ok(log_writer) => log_writer,
        Err(error) => {
            stderr::print(format_args!("switchboard: cannot start the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let variable = std::env::var("RUST_LOG").ok();
    let from_environment = variable.as_deref().map(parse_level);
    let level = log
        .or(config.process.log)
        .or(from_environment.clone().and_then(Result::ok));
    femme::with_level(level.unwrap_or(log::LevelFilter::Info));
    if let (None, Some(Err(problem))) = (log.or(config.process.log), from_environment) {
        log::warn!("RUST_LOG is ignored: {problem}");
    }
    let open_files = open_files::raise_limit();
    // A person at a terminal wants to know at once; a manager of services has nobody to start the daemon again.
    let when_taken = if io::stderr().is_terminal() && !systemd::wants_notifications() {
        WhenTaken::Fail
    } else {
        WhenTaken::Retry
    };
    let (stop, server) = match (
        signals::stop_requested(),
        Server::bind(config, open_files, when_taken),
    ) {
        (Ok(stop), Ok(server)) => (stop, server),
        (Err(error), _) => {
            stderr::print(format_args!(
                "switchboard: cannot wait for signals: {error}"
            ));
            return ExitCode::FAILURE;
        }
        (_, Err(error)) => {
            stderr::print(format_args!("switchboard: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // A panic of the broker ends the process; the panic hook has already reported it.
    let serve = AssertUnwindSafe(|| async_std::task::block_on(server.run(stop)));
    match std::panic::catch_unwind(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_panic) => ExitCode::FAILURE,
    }
}
