//! The program: command line, configuration, log, server, exit status.

use std::io::{self, Write};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use switchboard::cli::{self, Command};
use switchboard::config::{Config, Listener, parse_level};
use switchboard::server::Server;
use switchboard::sys::{malloc, open_files, signals, threads};

/// Exit status for invalid arguments or an invalid configuration.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = match cli::parse(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("switchboard: {problem}; see switchboard --help");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match arguments.command {
        Command::Help => return print(cli::HELP),
        Command::Version => return print(concat!("switchboard ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Defaults => return print(&format!("{}\n", Config::built_in().to_json())),
        Command::Check | Command::Serve { .. } => {}
    }
    let variable = std::env::var_os("SWITCHBOARD_CONFIG").filter(|path| !path.is_empty());
    let file = arguments.config.or_else(|| variable.map(PathBuf::from));
    let config = match file.map_or_else(|| Ok(Config::built_in()), |file| Config::from_file(&file))
    {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match arguments.command {
        Command::Serve { log } => {
            malloc::enable_trim();
            serve(config, log)
        }
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
        listener.address,
        listener.endpoint()
    )
}

fn print(text: &str) -> ExitCode {
    // A closed pipe is not an error: its reader needs no more.
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("switchboard: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn serve(config: Config, log: Option<log::LevelFilter>) -> ExitCode {
    let variable = std::env::var("RUST_LOG").ok();
    let from_environment = variable.as_deref().map(parse_level);
    let level = log
        .or(config.process.log)
        .or(from_environment.clone().and_then(Result::ok));
    femme::with_level(level.unwrap_or(log::LevelFilter::Info));
    if let (None, Some(Err(problem))) = (log.or(config.process.log), from_environment) {
        log::warn!("RUST_LOG is ignored: {problem}");
    }
    exit_when_the_log_cannot_be_written();
    let open_files = open_files::raise_limit();
    threads::start(config.process.threads);
    let (stop, server) = match (signals::stop_requested(), Server::bind(config, open_files)) {
        (Ok(stop), Ok(server)) => (stop, server),
        (Err(error), _) => {
            eprintln!("switchboard: cannot wait for signals: {error}");
            return ExitCode::FAILURE;
        }
        (_, Err(error)) => {
            eprintln!("switchboard: {error}");
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

/// Installs a panic hook that exits with status 1 if the logger panics, which it does when standard output is
/// closed. In a connection's task the panic would end that connection, and so one connection after the other.
/// Exit instead, so that the supervisor restarts the daemon.
fn exit_when_the_log_cannot_be_written() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let in_logger = |file: &str| {
            file.split(['/', '\\'])
                .any(|part| part.starts_with("femme"))
        };
        if panic
            .location()
            .is_some_and(|location| in_logger(location.file()))
        {
            eprintln!("switchboard: cannot write the log to standard output; exiting");
            // Without unwinding or cleanup: other threads may panic in the logger at the same time.
            signal_hook::low_level::exit(1);
        }
        report(panic);
    }));
}
