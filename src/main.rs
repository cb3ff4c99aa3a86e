//! Parses arguments and hands over.

use clap::{Parser, Subcommand};
#[cfg(feature = "sandbox")]
use forerunner::cli::{az, manager, sandbox};
use forerunner::{
    cli::{
        admin_steps, adopt, answer::Colour, apply, check, desk, explain, handler, load, parked,
        plan, remove, report, send, status,
    },
    clock::Clock,
    config::Settings,
    functions::engine::Engine,
};
use std::{io::Write, process::ExitCode, sync::Arc};
use tokio::runtime::Builder;

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
    Check(check::Check),
    Plan(plan::Plan),
    Apply(apply::Apply),
    Remove(remove::Remove),
    Adopt(adopt::Adopt),
    Status(status::StatusOf),
    Explain(explain::Explain),
    Parked(parked::ParkedArguments),
    Send(send::Send),
    AdminSteps(admin_steps::AdminSteps),
    Report(report::Report),
    #[cfg(feature = "sandbox")]
    Sandbox(sandbox::Sandbox),
    /// What plays `az` in the sandbox's jobs
    #[cfg(feature = "sandbox")]
    #[command(hide = true, disable_help_flag = true)]
    SandboxAz {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    #[cfg(feature = "sandbox")]
    #[command(hide = true)]
    SandboxManager(manager::Manager),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return not_run(&error),
    };
    match arguments.command {
        // One thread: what the handler does is wait for other machines, and a second one only adds wake-ups.
        Command::Handler => block_on(Builder::new_current_thread(), serve()),
        Command::Check(arguments) => ExitCode::from(check::run(&arguments, Clock::system().now())),
        Command::Plan(arguments) => at_desk(plan::run(&arguments)),
        Command::Apply(arguments) => at_desk(apply::run(&arguments)),
        Command::Remove(arguments) => at_desk(remove::run(&arguments)),
        Command::Adopt(arguments) => at_desk(adopt::run(&arguments)),
        Command::Status(arguments) => at_desk(desk::run(&arguments.place, async |desk| {
            status::answer(&arguments, desk, Colour::here()).await
        })),
        Command::Explain(arguments) => at_desk(desk::run(&arguments.place, async |desk| {
            explain::answer(&arguments, desk, Colour::here()).await
        })),
        Command::Parked(arguments) => at_desk(parked::run(&arguments)),
        Command::Send(arguments) => {
            at_desk(desk::run(&arguments.place, async |desk| send::answer(&arguments, desk).await))
        }
        Command::AdminSteps(arguments) => at_desk(desk::run(&arguments.place, async |desk| {
            admin_steps::answer(&arguments, desk, Colour::here()).await
        })),
        Command::Report(report::Report { about: report::About::Access(arguments) }) => {
            at_desk(desk::run(&arguments.place, async |desk| {
                report::answer(&arguments, desk, Colour::here()).await
            }))
        }
        #[cfg(feature = "sandbox")]
        Command::Sandbox(arguments) => {
            block_on(Builder::new_multi_thread(), sandbox::run(arguments))
        }
        #[cfg(feature = "sandbox")]
        Command::SandboxAz { arguments } => az::run(arguments),
        #[cfg(feature = "sandbox")]
        Command::SandboxManager(arguments) => {
            block_on(Builder::new_current_thread(), manager::run(arguments))
        }
    }
}

/// Prints help, the version, or what is wrong with the words.
///
/// Misuse ends with 2, but where 2 would be read as *something to change* ([`plan::Plan::detailed_exitcode`]): there it is
/// a failure like any other, also with one dash as Terraform writes the flag, which is none of ours.
fn not_run(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell where the terminal itself is gone.
    let _ = error.print();
    let detailed = std::env::args_os().any(|argument| {
        argument.to_string_lossy().trim_start_matches('-').starts_with("detailed-exitcode")
    });
    match (error.use_stderr(), detailed) {
        (false, _) => ExitCode::SUCCESS,
        (true, true) => ExitCode::FAILURE,
        (true, false) => ExitCode::from(2),
    }
}

/// Everything waits for other machines here too.
fn at_desk(work: impl Future<Output = ExitCode>) -> ExitCode {
    block_on(Builder::new_current_thread(), work)
}

fn block_on(mut runtime: Builder, work: impl Future<Output = ExitCode>) -> ExitCode {
    match runtime.enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => fail(&error),
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
