//! The command line.

use crate::workload::Workload;
use lexopt::prelude::*;
use std::path::PathBuf;
use std::time::Duration;

const HELP: &str = "\
Usage: cargo bench --bench load -- [OPTIONS]

  --only NAME,...     these workloads, or all of a kind, such as fan-out; by default all
  --seconds N         how long each run is measured (default 5)
  --runs N            runs of each workload, of which the medians are printed (default 1)
  --against PROGRAM   another build of the daemon, which is measured in turn
  --threads N         the setting `threads` of the daemon (default 1; 0: one per core)
  --pin               the daemon on core 0, the load on core 1
  --quick             small numbers of clients, to see whether it works
  --json FILE         the figures as JSON; without it they are the last line of the output

Workloads, whose numbers may be others:
";

/// What a run is asked for.
pub struct Options {
    pub workloads: Vec<Workload>,
    pub time: Duration,
    pub runs: usize,
    pub against: Option<PathBuf>,
    pub threads: usize,
    pub is_pinned: bool,
    pub is_quick: bool,
    pub json: Option<PathBuf>,
}

/// Reads the command line. Returns none if it asks for the help, which is printed.
pub fn parse() -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        workloads: Vec::new(),
        time: Duration::from_secs(5),
        runs: 1,
        against: None,
        threads: 1,
        is_pinned: false,
        is_quick: false,
        json: None,
    };
    let mut only = None;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("only") => only = Some(parser.value()?.string()?),
            Long("seconds") => options.time = Duration::from_secs(at_least_one(&mut parser)?),
            Long("runs") => options.runs = at_least_one(&mut parser)? as usize,
            Long("against") => {
                let program = PathBuf::from(parser.value()?);
                let found = program.canonicalize();
                options.against = Some(
                    found.map_err(|error| format!("--against {}: {error}", program.display()))?,
                );
            }
            Long("threads") => options.threads = parser.value()?.parse()?,
            Long("pin") => options.is_pinned = true,
            Long("quick") => options.is_quick = true,
            Long("json") => options.json = Some(parser.value()?.into()),
            // cargo passes it.
            Long("bench") => {}
            Long("help") | Short('h') => {
                print!("{HELP}");
                Workload::all(false)
                    .iter()
                    .for_each(|it| println!("  {}", it.name()));
                return Ok(None);
            }
            other => return Err(other.unexpected()),
        }
    }
    options.workloads = match only {
        None => Workload::all(options.is_quick),
        Some(names) => selected(&names, options.is_quick)?,
    };
    Ok(Some(options))
}

/// Reads the number of an option.
fn at_least_one(parser: &mut lexopt::Parser) -> Result<u64, lexopt::Error> {
    parser.value()?.parse_with(|text| match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("must be a whole number of at least 1"),
    })
}

/// Returns the workloads with these names, or of these kinds.
fn selected(names: &str, is_quick: bool) -> Result<Vec<Workload>, String> {
    let mut selected = Vec::new();
    for name in names.split(',') {
        let of_kind = Workload::all(is_quick);
        let of_kind = of_kind.into_iter().filter(|it| it.kind() == name);
        let before = selected.len();
        selected.extend(of_kind);
        if selected.len() == before {
            let named = Workload::parse(name);
            selected
                .push(named.ok_or_else(|| {
                    format!("--only {name}: no such workload; --help lists them")
                })?);
        }
    }
    Ok(selected)
}
