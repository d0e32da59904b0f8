//! A load on the daemon, whose figures say how fast it is and what it costs: `cargo bench --bench load -- --help`.
//!
//! Each run starts a daemon of its own, lets one thread be all of its clients, and checks each message where it arrives:
//! that it is whole, from its sender, in order, and that none is lost. Otherwise the exit status is 1.
//! `benches/README.md` says what the figures mean.
//!
//! - [`workload`] has the list of loads; [`conversations`], [`flood`], [`memory`] and [`connections`] run them.
//! - [`server`] is the daemon, [`clients`] and [`client`] are its clients, and [`admission`] is how they connect.
//! - [`talk`] has them talk, in the messages of [`message`]; [`latency`] is how long these take.
//! - [`options`] and [`report`] are what a user writes and reads.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark may fail by a panic"
)]

mod admission;
mod client;
mod clients;
#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "other benchmarks need more of it")]
mod common;
mod connections;
mod conversations;
mod flood;
mod latency;
mod memory;
mod message;
mod options;
mod report;
mod server;
mod talk;
mod workload;

use options::Options;
use report::{Row, medians};
use std::path::Path;
use std::process::ExitCode;
use workload::Workload;

fn main() -> ExitCode {
    let result = match options::parse() {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some(options)) => run_all(&options),
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all workloads, and prints each when its runs are over.
fn run_all(options: &Options) -> Result<(), String> {
    common::raise_open_files();
    let mut rows: Vec<Row> = Vec::new();
    for &workload in &options.workloads {
        let row =
            measure(workload, options).map_err(|error| format!("{}: {error}", workload.name()))?;
        row.print(rows.last());
        rows.push(row);
    }
    let json = report::json(&rows, options).to_string();
    match &options.json {
        Some(file) => {
            std::fs::write(file, json).map_err(|error| format!("{}: {error}", file.display()))?;
        }
        None => println!("\n{json}"),
    }
    Ok(())
}

/// Runs a workload, in turn with both builds if there are two, as what else the machine does changes with time.
fn measure(workload: Workload, options: &Options) -> Result<Row, String> {
    let program = Path::new(env!("CARGO_BIN_EXE_switchboard"));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..options.runs {
        ours.push(workload.run(program, options)?);
        if let Some(against) = &options.against {
            theirs.push(workload.run(against, options)?);
        }
    }
    Ok(Row {
        workload: workload.name(),
        ours: medians(&ours),
        against: options.against.is_some().then(|| medians(&theirs)),
    })
}
