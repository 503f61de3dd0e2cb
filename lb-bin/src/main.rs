//! The `lb` program: arguments in, exit code out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use lb_bin::cli::{Cli, Command};
use lb_bin::{client, config, demo, doctor, manual, run, top};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let admin = cli.admin.as_deref();
    match cli.command {
        Command::Run(args) => done(run::run(&args, admin)),
        Command::Demo(args) => done(demo::demo(&args, admin)),
        Command::Check(args) => match config::check(&args.config) {
            Ok(summary) => {
                println!("{summary}");
                ExitCode::SUCCESS
            }
            Err(reason) => {
                eprintln!("{reason}");
                ExitCode::FAILURE
            }
        },
        Command::Completion { shell } => done(manual::completion(shell)),
        Command::Manual { folder } => done(manual::manual(folder.as_deref())),
        Command::Doctor(args) => doctor::doctor(&args, admin),
        Command::Top => top::top(admin),
        Command::Client(command) => client::call(&command, admin),
    }
}

fn done(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("lb: {reason}");
            ExitCode::FAILURE
        }
    }
}
