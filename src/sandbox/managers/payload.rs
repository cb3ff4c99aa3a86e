//! A job as GitLab hands it over (runner-observed.md §8).

use serde_json::Value;

#[derive(Clone, Debug)]
pub(super) struct Payload {
    pub(super) id: u64,
    pub(super) token: String,
    body: Value,
}

pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) public: bool,
    pub(super) masked: bool,
    /// Whether the job finds the value in a file.
    pub(super) file: bool,
}

/// One script of the job.
pub(super) struct Step {
    pub(super) name: String,
    pub(super) lines: Vec<String>,
    /// `on_success`, `on_failure` or `always`.
    pub(super) when: String,
    pub(super) allow_failure: bool,
}

impl Payload {
    /// Nothing where id or token are missing.
    pub(super) fn new(body: Value) -> Option<Self> {
        let id = body["id"].as_u64()?;
        let token = body["token"].as_str()?.to_owned();
        Some(Self { id, token, body })
    }

    pub(super) fn name(&self) -> &str {
        self.body["job_info"]["name"].as_str().unwrap_or_default()
    }

    pub(super) fn project_id(&self) -> u64 {
        self.body["job_info"]["project_id"].as_u64().unwrap_or(0)
    }

    pub(super) fn root_namespace_id(&self) -> u64 {
        self.body["job_info"]["root_namespace_id"].as_u64().unwrap_or(0)
    }

    /// Namespace and name.
    pub(super) fn project_path(&self) -> (String, String) {
        let path = self.variable("CI_PROJECT_PATH");
        let (namespace, name) = path.rsplit_once('/').unwrap_or(("", &path));
        (namespace.to_owned(), name.to_owned())
    }

    pub(super) fn git(&self, member: &str) -> &str {
        self.body["git_info"][member].as_str().unwrap_or_default()
    }

    pub(super) fn image(&self) -> Option<String> {
        let name = self.body["image"]["name"].as_str()?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    pub(super) fn timeout_seconds(&self) -> i64 {
        self.body["runner_info"]["timeout"].as_i64().unwrap_or(3600)
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = Variable> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.body["variables"].as_array().into_iter().flatten().map(move |each| Variable {
            name: text(&each["key"]),
            value: text(&each["value"]),
            public: each["public"] == true,
            masked: each["masked"] == true,
            file: each["file"] == true,
        })
    }

    /// Its value; empty where there is none.
    pub(super) fn variable(&self, name: &str) -> String {
        self.variables().find(|each| each.name == name).map(|each| each.value).unwrap_or_default()
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let steps = self.body["steps"].as_array().into_iter().flatten();
        steps
            .map(|step| Step {
                name: text(&step["name"]),
                lines: step["script"].as_array().into_iter().flatten().map(text).collect(),
                when: text(&step["when"]),
                allow_failure: step["allow_failure"] == true,
            })
            .collect()
    }
}
