//! The program `keyway`: reads the command line and serves.

use keyway::cli::{self, Invocation};
use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::read(std::env::args_os().skip(1)) {
        Invocation::Exit(exit) => {
            print!("{}", exit.out);
            eprint!("{}", exit.error);
            ExitCode::from(exit.code)
        }
        Invocation::Replay(options) => match keyway::async_log::replay(&options) {
            Ok(replayed) => {
                print!("{replayed}");
                if replayed.is_complete() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => {
                eprintln!("keyway: {error}");
                ExitCode::FAILURE
            }
        },
        Invocation::Run(options) => {
            env_logger::Builder::new().filter_level(options.log_level).parse_default_env().init();
            match keyway::run::run(&options) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("keyway: {error}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}
