//! Parses arguments and hands over.

use clap::{Parser, Subcommand};
use forerunner::{
    cli::{handler, load},
    config::Settings,
    functions::engine::Engine,
};
use std::{io::Write, process::ExitCode, sync::Arc};

/// Keeps GitLab runners on AKS, and the federated Azure identities their jobs sign in with, the way fleet.yaml says.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the Azure Functions host, which starts this itself
    Handler,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    match arguments.command {
        Command::Handler => runtime.block_on(serve()),
    }
}

async fn serve() -> ExitCode {
    let prepared = Settings::from_env().map_err(load::Error::from).and_then(|settings| {
        let clock = settings.clock();
        load::load(&settings, clock.clone()).map(|loaded| (settings, loaded, clock))
    });
    match prepared {
        Ok((settings, loaded, clock)) => {
            for problem in &loaded.fleet_problems {
                let _ = writeln!(std::io::stderr(), "error: {problem}");
            }
            let queue = Arc::new(loaded.service_bus);
            handler::run(settings, Arc::new(Engine::new(loaded.rounds)), queue, clock).await
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error}");
    ExitCode::FAILURE
}
