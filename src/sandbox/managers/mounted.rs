//! The files that a manager's process sees in its pod.

use super::{Managers, here::Here, place::Place};
use crate::sandbox::kubernetes::{ManagerPod, MountedSecret};
use serde_json::Value;

/// Where a process that is not told otherwise, and is not root, looks for its file.
const DEFAULT_PATH: &str = "/home/gitlab-runner/.gitlab-runner/config.toml";

/// The directory of `config.toml`, if a Secret is mounted there, and the file's name in it.
pub(super) struct Mounted {
    pub(super) secret: MountedSecret,
    file: String,
    /// Key in the Secret → name of the file, where the volume says so.
    items: Vec<(String, String)>,
}

impl Mounted {
    pub(super) fn of(managers: &Managers, pod: &ManagerPod) -> Option<Self> {
        let kubernetes = match &managers.0.settings.place {
            Place::Cluster { kubernetes, .. } => kubernetes,
            Place::Here(here) => return Self::here(here),
        };
        let spec = kubernetes.get("pods", &pod.namespace, &pod.name)?["spec"].clone();
        let path = config_path(&spec["containers"][0]);
        let (directory, file) = path.rsplit_once('/')?;
        let mount = spec["containers"][0]["volumeMounts"].as_array()?.iter().find(|mount| {
            mount["mountPath"].as_str().map(|at| at.trim_end_matches('/')) == Some(directory)
        })?;
        let volume = find(&spec["volumes"], &mount["name"])?;
        let name = volume["secret"]["secretName"].as_str()?;
        let secret = kubernetes.mounted_secret(&pod.namespace, name)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let items = volume["secret"]["items"].as_array().into_iter().flatten();
        let items = items.map(|item| (text(&item["key"]), text(&item["path"]))).collect();
        Some(Self { secret, file: file.to_owned(), items })
    }

    /// What is on this pod's disk. A change of the file is a change of its time, as the program looks at it.
    fn here(here: &Here) -> Option<Self> {
        let secret = here.secret()?;
        Some(Self { secret, file: here.file_name(), items: Vec::new() })
    }

    pub(super) fn config(&self) -> Option<&[u8]> {
        self.read(&self.file)
    }

    /// The state file beside it.
    pub(super) fn system_id(&self) -> Option<&[u8]> {
        self.read(".runner_system_id")
    }

    fn read(&self, file: &str) -> Option<&[u8]> {
        let key = if self.items.is_empty() {
            file
        } else {
            &self.items.iter().find(|(_, path)| path == file)?.0
        };
        self.secret.data.get(key).map(Vec::as_slice)
    }
}

fn find<'a>(list: &'a Value, name: &Value) -> Option<&'a Value> {
    list.as_array()?.iter().find(|item| item["name"] == *name)
}

/// `--config`, else `CONFIG_FILE`, else the default.
fn config_path(container: &Value) -> String {
    let words = ["command", "args"].iter().flat_map(|list| container[*list].as_array());
    let words: Vec<&str> = words.flatten().filter_map(Value::as_str).collect();
    let given = words.iter().enumerate().find_map(|(at, word)| match *word {
        "--config" | "-c" => words.get(at + 1).copied(),
        word => word.strip_prefix("--config="),
    });
    let variable = || find(&container["env"], &"CONFIG_FILE".into())?["value"].as_str();
    given.or_else(variable).unwrap_or(DEFAULT_PATH).to_owned()
}
