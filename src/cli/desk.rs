//! What every command at a desk begins with: settings, the fleet, and the services behind them.

use super::{
    answer::Answer,
    load::{self, AtDesk},
};
use crate::{
    config::{EnvFileError, Settings},
    domain::selector::{NotASelector, Selector},
    telemetry,
};
use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Where settings and the fleet are read.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Place {
    /// Settings as KEY=value lines, such as `forerunner sandbox --env-file` writes; else the environment's
    #[arg(long, value_name = "FILE", global = true)]
    pub env_file: Option<PathBuf>,
    /// The policy file; else what FORERUNNER_FLEET says, or fleet.yaml
    #[arg(long, value_name = "FILE", global = true)]
    pub fleet: Option<PathBuf>,
}

/// Why nothing can be looked at.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error(transparent)]
    EnvFile(#[from] EnvFileError),
    #[error(transparent)]
    Setting(#[from] crate::config::Error),
    #[error(transparent)]
    Load(#[from] load::Error),
}

impl Place {
    /// Errors: what to print instead; code 1, or 2 where a named file is not there.
    pub fn open(&self) -> Result<AtDesk, Answer> {
        let missing =
            [&self.env_file, &self.fleet].into_iter().flatten().find(|file| !file.exists());
        if let Some(file) = missing {
            return Err(Answer::failed(2, format!("there is no file {}", file.display())));
        }
        self.load().map_err(|closed| Answer::failed(1, closed))
    }

    /// Errors: what to print instead.
    pub(super) fn settings(&self) -> Result<Settings, Answer> {
        self.read().map_err(|closed| Answer::failed(1, closed))
    }

    /// Tells every write from here in a file, one JSON line each.
    ///
    /// Errors: what to print instead; nothing is written outside that is not told.
    pub(super) fn audited(&self, file: Option<&Path>) -> Result<(), Answer> {
        let settings = self.settings()?;
        let beside = || settings.fleet.with_file_name("forerunner-audit.jsonl");
        let file = file.map_or_else(beside, Path::to_owned);
        telemetry::start_audit(&file, settings.clock()).map_err(|error| Answer::failed(1, error))
    }

    fn load(&self) -> Result<AtDesk, Closed> {
        let settings = self.read()?;
        Ok(load::at_desk(&settings, settings.clock())?)
    }

    fn read(&self) -> Result<Settings, Closed> {
        let mut settings = match &self.env_file {
            Some(file) => Settings::from_env_file(file)?,
            None => Settings::from_env()?,
        };
        if let Some(fleet) = &self.fleet {
            settings.fleet.clone_from(fleet);
        }
        Ok(settings)
    }
}

/// Reads what a person typed.
///
/// Errors: code 2, and what would be understood.
pub(super) fn selectors(texts: &[String]) -> Result<Vec<Selector>, Answer> {
    let read = texts.iter().map(|text| text.parse());
    read.collect::<Result<_, NotASelector>>().map_err(|error| Answer::failed(2, error))
}

/// Runs a subcommand on the real terminal.
pub async fn run(place: &Place, work: impl AsyncFnOnce(&AtDesk) -> Answer) -> ExitCode {
    let answer = match place.open() {
        Ok(desk) => work(&desk).await,
        Err(answer) => answer,
    };
    ExitCode::from(answer.print())
}

/// Tells on a terminal how far something is, in one line that goes away at its end.
pub(super) struct Progress {
    total: usize,
    shown: bool,
}

impl Progress {
    pub(super) fn of(total: usize) -> Self {
        Self { total, shown: total > 1 && std::io::stderr().is_terminal() }
    }

    pub(super) fn say(&self, text: &str) {
        if self.shown {
            // Nobody to tell is no failure.
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
        }
    }

    pub(super) fn tell(&self, done: usize) {
        let text = match done < self.total {
            true => format!("read {done} of {} units", self.total),
            false => String::new(),
        };
        self.say(&text);
    }
}
