//! Arguments in, exit code out.

use std::io::{self, Write};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;
use switchboard::cli::{self, Command};
use switchboard::config::{Config, Listener, parse_level};
use switchboard::server::Server;
use switchboard::sys::{malloc, open_files, signals, threads};

/// What is wrong with the arguments or the configuration.
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
    let named = std::env::var_os("SWITCHBOARD_CONFIG").filter(|name| !name.is_empty());
    let file = arguments.config.or_else(|| named.map(PathBuf::from));
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
        _ => print(&config.listeners.iter().map(line).collect::<String>()),
    }
}

fn line(listener: &Listener) -> String {
    format!(
        "{:<10} ws://{}{}\n",
        listener.protocol.name,
        listener.address,
        listener.endpoint()
    )
}

fn print(text: &str) -> ExitCode {
    // A reader that closes the pipe has seen enough.
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("switchboard: standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn serve(config: Config, log: Option<log::LevelFilter>) -> ExitCode {
    let environment = std::env::var("RUST_LOG").ok();
    let asked = environment.as_deref().map(parse_level);
    let level = log
        .or(config.process.log)
        .or(asked.clone().and_then(Result::ok));
    femme::with_level(level.unwrap_or(log::LevelFilter::Info));
    if let (None, Some(Err(problem))) = (log.or(config.process.log), asked) {
        log::warn!("RUST_LOG is ignored: {problem}");
    }
    end_when_nobody_can_read_the_log();
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
    // Without its broker the daemon is nothing, and the panic has been reported.
    let serve = AssertUnwindSafe(|| async_std::task::block_on(server.run(stop)));
    match std::panic::catch_unwind(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_panic) => ExitCode::FAILURE,
    }
}

/// The logger panics when standard output is closed. In a connection's task that would end the
/// connection, and so each of them in turn; a daemon whose log is gone should rather be started
/// anew by whoever looks after it.
fn end_when_nobody_can_read_the_log() {
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
            eprintln!("switchboard: the log cannot be written to standard output; ends");
            // At once: other threads may be about to do the same.
            signal_hook::low_level::exit(1);
        }
        report(panic);
    }));
}
