//! `weft`: one binary for every role of the node. Each verb is a function elsewhere; this is the list.

use std::{io, process::ExitCode};

use clap::Parser;
use edge_node::{
    cli::{self, Cli, Command},
    client, decode, demo, schema, up,
};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Up(arguments) => up::run(&arguments),
        Command::MapServer(arguments) => up::run_map_server(&arguments),
        Command::Dataplane(arguments) => up::run_dataplane(&arguments),
        Command::Plan(arguments) => client::plan(&arguments),
        Command::Apply(arguments) => client::apply(&arguments),
        Command::Get(arguments) => client::get(&arguments),
        Command::Describe(arguments) => client::describe(&arguments),
        Command::Delete(arguments) => client::delete(&arguments),
        Command::Status(arguments) => client::status(&arguments),
        Command::Ping(arguments) => client::ping(&arguments),
        Command::Lig(arguments) => client::lig(&arguments),
        Command::Trace(arguments) => client::trace(&arguments),
        Command::WhoCan(arguments) => client::who_can(&arguments),
        Command::Key(arguments) => client::key(&arguments),
        Command::Capture(arguments) => client::capture(&arguments),
        Command::Decode(arguments) => decode::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Completion(arguments) => done(cli::completion(arguments.shell, &mut io::stdout())),
        Command::Man(arguments) => done(cli::man(&arguments.out)),
    }
}

/// A closed pipe (`weft completion bash | head`) is no failure.
fn done(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weft: {error}");
            ExitCode::FAILURE
        }
    }
}
