//! The program: command line, configuration, log, server, exit status.

use std::io::{self, IsTerminal, Write};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;
use switchboard::cli::operator::Outcome;
use switchboard::cli::{self, Command, Operation, TokenCommand, operator, token};
use switchboard::config::{Address, Config, Flags, Listener, help};
use switchboard::server::{Server, WhenTaken, limits};
use switchboard::sys::{
    executor, log_format, log_writer, open_files, signals, stderr, systemd, systemd_sockets,
};

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
        Command::Check | Command::Serve | Command::Operator(_) | Command::Token(_) => {}
    }
    let config = match Config::load(&arguments.flags, std::env::vars_os()) {
        Ok(config) => config,
        Err(error) => {
            stderr::print(error);
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match arguments.command {
        Command::Serve => serve(config, &arguments.flags),
        Command::Operator(operation) => operate(&operation, &config),
        Command::Token(command) => make_or_check_token(&command, &config),
        _ => check(&config),
    }
}

/// Executes a command about a daemon that runs.
fn operate(operation: &Operation, config: &Config) -> ExitCode {
    let outcome = operator::run(operation, config, |name| std::env::var_os(name));
    print_outcome(&outcome)
}

/// Executes `token`.
fn make_or_check_token(command: &TokenCommand, config: &Config) -> ExitCode {
    match token::run(command, config, SystemTime::now(), io::stdin().lock()) {
        Ok(outcome) => print_outcome(&outcome),
        Err(problem) => {
            stderr::print(format_args!("switchboard: {problem}"));
            ExitCode::from(WRONG_USAGE)
        }
    }
}

/// Prints how a command has ended, and returns its status.
fn print_outcome(outcome: &Outcome) -> ExitCode {
    let printed = print(&outcome.output);
    for problem in &outcome.problems {
        stderr::print(format_args!("switchboard: {problem}"));
    }
    if outcome.problems.is_empty() {
        printed
    } else {
        ExitCode::FAILURE
    }
}

/// Prints the listeners, the status port, the settings of the process, the limits that follow from them on this
/// machine, and `ok`. A certificate that has expired is an error that keeps the daemon from nothing, and so is no failure.
fn check(config: &Config) -> ExitCode {
    let limits = limits(config, open_files::raise_limit());
    let (_, level_warning) = config.log_level();
    let warnings = level_warning.into_iter().chain(config.warnings());
    for warning in warnings.chain(limits.warnings()) {
        stderr::print(format_args!("switchboard: warning: {warning}"));
    }
    for error in config.certificate_errors() {
        stderr::print(format_args!("switchboard: error: {error}"));
    }
    let listeners: String = config.listeners.iter().map(listener_line).collect();
    let status = config.process.status.as_ref();
    let status = status.map(status_line).unwrap_or_default();
    let settings = config.effective().into_iter();
    let settings: String = settings.map(|setting| format!("{setting}\n")).collect();
    print(&format!("{listeners}{status}{settings}{limits}ok\n"))
}

fn listener_line(listener: &Listener) -> String {
    let settings = &listener.settings;
    let url = settings
        .address
        .url(settings.scheme(), &listener.endpoint());
    format!("{:<10} {url}\n", listener.protocol.name)
}

fn status_line(address: &Address) -> String {
    format!("{:<10} {}\n", "status", address.url("http", "/"))
}

/// Logs what an operator asks first: which version this is, with which configuration, in which process.
fn log_start(file: Option<&Path>) {
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    let configuration = file.map_or("built-in".to_owned(), |file| file.display().to_string());
    log::info!(
        version, configuration:%, pid;
        "switchboard {version} starts; configuration: {configuration}; pid: {pid}"
    );
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

fn serve(config: Config, flags: &Flags) -> ExitCode {
    // Before any file is opened.
    if let Err(error) = systemd_sockets::take() {
        stderr::print(format_args!(
            "switchboard: cannot take the sockets that systemd passes: {error}; unset LISTEN_PID to start without them"
        ));
        return ExitCode::FAILURE;
    }
    // Before standard output is replaced.
    let format = config.process.log_format.resolve(io::stdout());
    stderr::report_panics(format);
    executor::start(config.process.threads);
    // On each way out of this function its drop writes the last lines.
    let _log_writer = match log_writer::start(format) {
        Ok(log_writer) => log_writer,
        Err(error) => {
            stderr::print(format_args!("switchboard: cannot start the log: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let (level, warning) = config.log_level();
    log_format::start(format, level);
    log_start(config.file());
    if let Some(warning) = warning {
        log::warn!("{warning}");
    }
    let open_files = open_files::raise_limit();
    // A person at a terminal wants to know at once; a manager of services has nobody to start the daemon again.
    let when_taken = if io::stderr().is_terminal() && !systemd::wants_notifications() {
        WhenTaken::Fail
    } else {
        WhenTaken::Retry
    };
    let (requests, server) = match (
        signals::requests(),
        Server::bind(config, open_files, when_taken),
    ) {
        (Ok(requests), Ok(server)) => (requests, server),
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
    let load = || Config::load(flags, std::env::vars_os());
    // Boxed, since `block_on` copies it several times over the stack, which cannot grow where the address space is
    // limited.
    let serve = Box::pin(server.run(requests, load));
    let serve = AssertUnwindSafe(|| async_io::block_on(serve));
    match std::panic::catch_unwind(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_panic) => ExitCode::FAILURE,
    }
}
