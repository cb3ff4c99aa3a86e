//! `forerunner sandbox-az`: the Azure CLI as far as jobs of the sandbox need it. It knows the commands below, speaks to
//! the sandbox's Entra and ARM for real, and says and exits as az does: 0 done, 1 failed, 2 misused, 3 not found.
//!
//! Hosts are played on this machine as `FORERUNNER_LOOPBACK` says; state is kept in `$AZURE_CONFIG_DIR`, else below
//! `$HOME/.azure`, as az keeps its own.

mod arguments;
mod commands;
mod failure;
mod session;
mod wire;

use arguments::Arguments;
use failure::Failure;
use serde_json::Value;
use session::Session;
use std::{path::PathBuf, process::ExitCode};
use wire::Wire;

/// Runs one command with az's own arguments.
#[expect(
    clippy::print_stdout,
    reason = "what az prints is what jobs read, and this stands in for it"
)]
pub fn run(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    match answer(arguments.into_iter().collect()) {
        Ok(text) => {
            if !text.is_empty() {
                println!("{text}");
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("ERROR: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn answer(words: Vec<String>) -> Result<String, Failure> {
    let arguments = Arguments::parse(words)?;
    let directory = variable("AZURE_CONFIG_DIR").map(PathBuf::from);
    let directory = directory
        .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".azure")))
        .ok_or_else(|| Failure::failed("there is no place to keep a sign-in: HOME is not set"))?;
    let wire = Wire::new(&variable("FORERUNNER_LOOPBACK").unwrap_or_default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(error.to_string()))?;
    let mut session = Session::load(directory, wire);
    let value = runtime.block_on(commands::run(&arguments, &mut session))?;
    Ok(arguments::print(&arguments, value.unwrap_or(Value::Null)))
}

#[expect(
    clippy::disallowed_methods,
    reason = "az reads its own variables; they are no settings of forerunner"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
