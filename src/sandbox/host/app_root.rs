//! The directory that Azure would mount: `host.json`, the executable and one folder per function.

use super::{
    Error, Function,
    function_json::{self, Trigger},
    host_json::{self, HostJson},
};
use crate::sandbox::service_bus::ServiceBus;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

pub(super) struct AppRoot {
    pub(super) path: PathBuf,
    pub(super) host: HostJson,
    /// By name.
    pub(super) functions: Vec<Function>,
}

/// Writes an app root: `host_json`, each function's name with its function.json, and the executable under its
/// own file name, linked where that is possible and executable for all.
pub fn stage(
    app_root: &Path,
    host_json: &str,
    functions: &[(&str, &str)],
    executable: &Path,
) -> Result<(), Error> {
    let write = |path: PathBuf, text: &str| {
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, text))
            .map_err(|source| Error::Unwritable { path, source })
    };
    write(app_root.join("host.json"), host_json)?;
    for (name, function) in functions {
        write(app_root.join(name).join("function.json"), function)?;
    }
    let name = executable.file_name().unwrap_or_default();
    let path = app_root.join(name);
    place(executable, &path).map_err(|source| Error::Unwritable { path, source })
}

fn place(executable: &Path, path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    // A link shares its mode with the original, which is not ours to change.
    if is_executable(executable)? && fs::hard_link(executable, path).is_ok() {
        return Ok(());
    }
    fs::copy(executable, path)?;
    make_executable(path)
}

#[cfg(unix)]
fn is_executable(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o111 == 0o111)
}

#[cfg(unix)]
fn make_executable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(path)?.permissions().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o755))
}

/// Reads an app root as the host does; nothing outside it counts.
pub(super) fn read(
    path: &Path,
    settings: &BTreeMap<String, String>,
    bus: &ServiceBus,
) -> Result<AppRoot, Error> {
    let file = path.join("host.json");
    let document = serde_json::from_str(&text(&file)?)
        .map_err(|source| Error::NotJson { path: file, source })?;
    let host = host_json::read(document, settings)?;
    let unreadable = |source| Error::Unreadable { path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().join("function.json").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    if names.is_empty() {
        return Err(Error::NoFunctions { path: path.to_owned() });
    }
    let mut functions = Vec::new();
    for name in names {
        let document = text(&path.join(&name).join("function.json"))?;
        functions.extend(function_json::read(&name, &document, settings, bus.namespace())?);
    }
    for function in &functions {
        check(function, &host, bus)
            .map_err(|what| Error::Function { function: function.name.clone(), what })?;
    }
    Ok(AppRoot { path: path.to_owned(), host, functions })
}

/// What the real host finds out when it starts the listener.
fn check(function: &Function, host: &HostJson, bus: &ServiceBus) -> Result<(), String> {
    let listens = matches!(function.trigger, Trigger::ServiceBus { .. });
    if (listens || !function.outputs.is_empty()) && !host.has_extension_bundle {
        return Err("host.json needs an extensionBundle for Service Bus".to_owned());
    }
    let Trigger::ServiceBus { source, sessions, .. } = &function.trigger else { return Ok(()) };
    let settings = bus.settings(source).ok_or_else(|| format!("there is no queue `{source}`"))?;
    let dead = source.to_lowercase().ends_with("/$deadletterqueue");
    if *sessions != (settings.requires_session && !dead) {
        return Err(format!("isSessionsEnabled is {sessions}, and `{source}` is the other way"));
    }
    Ok(())
}

impl AppRoot {
    /// The file to start: of the app root if it is there, else the text as it stands, which the system
    /// then looks for on `PATH`.
    pub(super) fn command(&self) -> Result<PathBuf, Error> {
        let inside = self.path.join(&self.host.executable);
        if inside.is_file() {
            return Ok(inside);
        }
        if self.host.executable.contains('/') {
            return Err(Error::CommandMissing { command: self.host.executable.clone() });
        }
        Ok(PathBuf::from(&self.host.executable))
    }

    pub(super) fn working_directory(&self) -> PathBuf {
        self.host
            .working_directory
            .as_ref()
            .map_or_else(|| self.path.clone(), |to| self.path.join(to))
    }
}

fn text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })
}
