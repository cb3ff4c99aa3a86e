//! What a build container has on its disk: a directory of this machine that ends with the job.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// Only its owner may look into it, as it holds tokens. It is removed when this is dropped.
pub(super) struct Workspace(PathBuf);

impl Drop for Workspace {
    fn drop(&mut self) {
        let _already_gone = fs::remove_dir_all(&self.0);
    }
}

impl Workspace {
    pub(super) fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("forerunner-job-{}", Uuid::new_v4().simple()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        let workspace = Self(path);
        for directory in [workspace.programs(), workspace.home(), workspace.builds()] {
            fs::create_dir(directory)?;
        }
        Ok(workspace)
    }

    /// Comes first in `PATH`.
    pub(super) fn programs(&self) -> PathBuf {
        self.0.join("bin")
    }

    pub(super) fn home(&self) -> PathBuf {
        self.0.join("home")
    }

    pub(super) fn builds(&self) -> PathBuf {
        self.0.join("builds")
    }

    /// Where a path of the container lies on this machine.
    pub(super) fn inside(&self, path: &str) -> PathBuf {
        self.0.join("root").join(path.trim_start_matches('/'))
    }

    pub(super) fn write(&self, path: &Path, content: &str) -> io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        fs::write(path, content)
    }

    /// Lets the job find `az`: this program, which plays it.
    pub(super) fn add_az(&self, program: &Path) -> io::Result<()> {
        let program = quote(&program.display().to_string());
        self.add_program("az", &format!("exec {program} sandbox-az \"$@\"\n"))
    }

    /// Lets `sleep` take no time: what it was asked for is written down, and taken from the sandbox's clock
    /// when the script has ended.
    pub(super) fn add_sleep(&self) -> io::Result<()> {
        let slept = quote(&self.0.join("slept").display().to_string());
        self.add_program("sleep", &format!("printf '%s\\n' \"$@\" >> {slept}\n"))
    }

    /// All that `sleep` was asked for so far, in seconds.
    pub(super) fn slept(&self) -> f64 {
        let text = fs::read_to_string(self.0.join("slept")).unwrap_or_default();
        text.lines().filter_map(seconds).sum()
    }

    fn add_program(&self, name: &str, script: &str) -> io::Result<()> {
        let mut file = fs::OpenOptions::new();
        let mut file = file
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o700)
            .open(self.programs().join(name))?;
        io::Write::write_all(&mut file, format!("#!/bin/sh\n{script}").as_bytes())
    }
}

/// As `sleep` reads it: `2`, `1.5`, `3m`.
fn seconds(text: &str) -> Option<f64> {
    let (number, factor) = match text.char_indices().next_back()? {
        (at, 's') => (&text[..at], 1.0),
        (at, 'm') => (&text[..at], 60.0),
        (at, 'h') => (&text[..at], 3600.0),
        (at, 'd') => (&text[..at], 86400.0),
        _ => (text, 1.0),
    };
    let number: f64 = number.parse().ok()?;
    (number.is_finite() && number > 0.0).then_some(number * factor)
}

/// One word of a shell.
pub(super) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_read_as_sleep_reads_it() {
        let check =
            |text: &str, expected: Option<f64>| assert_eq!(seconds(text), expected, "{text}");
        check("2", Some(2.0));
        check("1.5", Some(1.5));
        check("3m", Some(180.0));
        check("later", None);
        check("", None);
    }

    #[test]
    fn a_workspace_ends_with_its_owner() {
        let workspace = Workspace::new().unwrap();
        let path = workspace.0.clone();
        assert!(path.is_dir());
        drop(workspace);
        assert!(!path.exists());
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
