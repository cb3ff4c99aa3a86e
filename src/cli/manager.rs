//! `forerunner sandbox-manager`: what plays `gitlab-runner` in a pod of a real node.

use crate::sandbox::managers::here::{self, Told};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

/// What plays gitlab-runner in a pod: its own arguments come last
#[derive(Clone, Debug, clap::Args)]
pub struct Manager {
    /// The host in `url` that leads to the sandbox's GitLab, and where that is
    #[arg(long, value_name = "HOST=ADDRESS:PORT", value_parser = host_and_address)]
    gitlab: (String, SocketAddr),
    /// Version of gitlab-runner
    #[arg(long)]
    runner: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Ask for jobs and run them
    Run {
        #[arg(long)]
        config: PathBuf,
        /// Taken, as gitlab-runner takes it
        #[arg(long)]
        working_directory: Option<PathBuf>,
    },
}

/// 0: told to stop, and done. 1: it failed, or a signal ended it.
#[expect(clippy::print_stdout, reason = "a pod's log is what its process prints")]
pub async fn run(arguments: Manager) -> ExitCode {
    let Command::Run { config, working_directory: _ } = arguments.command;
    let (gitlab_host, gitlab) = arguments.gitlab;
    let [host, port] = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"].map(variable);
    let api_server = format!("https://{host}:{port}");
    let told = Told { config, version: arguments.runner, gitlab_host, gitlab, api_server };
    match here::run(told, |line| println!("{line}")).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("FATAL: {error}");
            ExitCode::FAILURE
        }
    }
}

fn host_and_address(text: &str) -> Result<(String, SocketAddr), String> {
    let (host, address) = text.split_once('=').ok_or("it has no `=`")?;
    let address = address.parse().map_err(|_| format!("{address} is no address and port"))?;
    Ok((host.to_owned(), address))
}

#[expect(
    clippy::disallowed_methods,
    reason = "every pod has these from its cluster; they are no settings of forerunner"
)]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}
