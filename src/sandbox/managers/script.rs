//! Runs a job's steps for real: `sh`, with exactly the variables of the pod's build container.

use super::{
    Managers,
    job_pod::{build_container, variables_of},
    payload::{Payload, Step},
    place::Place,
    protocol::{Gitlab, Standing},
    trace::Trace,
    workspace::{Workspace, quote},
};
use serde_json::Value;
use std::{collections::BTreeMap, io, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

/// Where programs are found that are not ours.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Between two patches of a log that grows, in real time: the script runs in real time too.
const PATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How the scripts ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ended {
    /// With how long they slept, which the sandbox's clock has yet to pass.
    Exited {
        code: i32,
        slept_seconds: f64,
    },
    Cancelled,
    TimedOut,
    /// This machine could not run them.
    Broken(String),
}

/// Runs all steps; what they print goes to GitLab as it comes.
pub(super) async fn run(
    managers: &Managers,
    gitlab: &Gitlab<'_>,
    payload: &Payload,
    pod: &Value,
    trace: &mut Trace,
) -> Ended {
    let prepared = async {
        let workspace = Workspace::new()?;
        let variables = prepare(managers, &workspace, payload, pod).await?;
        Ok::<_, io::Error>((workspace, variables))
    };
    let (workspace, variables) = match prepared.await {
        Ok(prepared) => prepared,
        Err(error) => return Ended::Broken(error.to_string()),
    };
    let mut code = 0;
    for (number, step) in payload.steps().iter().enumerate() {
        let wanted = match step.when.as_str() {
            "always" => true,
            "on_failure" => code != 0,
            _ => code == 0,
        };
        if !wanted {
            continue;
        }
        let file = workspace.builds().with_file_name(format!("step-{number}"));
        if let Err(error) = workspace.write(&file, &shell_script(step)) {
            return Ended::Broken(error.to_string());
        }
        let stage = if step.name == "script" { "step_script" } else { &step.name };
        trace.line(&format!("Executing \"{stage}\" stage of the job script"));
        let mut command = Command::new("/bin/sh");
        command.arg(&file).current_dir(workspace.builds()).env_clear().envs(&variables);
        match execute(command, gitlab, payload, trace).await {
            Ended::Exited { code: own, .. } if own == 0 || step.allow_failure => {}
            Ended::Exited { code: own, .. } if code == 0 => code = own,
            Ended::Exited { .. } => {}
            ended @ (Ended::Cancelled | Ended::TimedOut | Ended::Broken(_)) => return ended,
        }
    }
    Ended::Exited { code, slept_seconds: workspace.slept() }
}

/// Fills the disk of the container and says what its variables are.
async fn prepare(
    managers: &Managers,
    workspace: &Workspace,
    payload: &Payload,
    pod: &Value,
) -> io::Result<BTreeMap<String, String>> {
    let settings = &managers.0.settings;
    workspace.add_sleep()?;
    if let Some(program) = &settings.az_shim {
        workspace.add_az(program)?;
    }
    let container = build_container(pod);
    let mut variables = variables_of(container);
    for variable in payload.variables() {
        let value = if variable.file {
            let file = workspace.inside(&format!("/builds.tmp/{}", variable.name));
            workspace.write(&file, &variable.value)?;
            file.display().to_string()
        } else {
            variable.value
        };
        if !variable.public || variable.file {
            variables.insert(variable.name, value);
        }
    }
    for directory in project_tokens(managers, workspace, pod, container).await? {
        let below = format!("{directory}/");
        for value in variables.values_mut().filter(|value| value.starts_with(&below)) {
            *value = workspace.inside(value).display().to_string();
        }
    }
    let own = [
        ("HOME", workspace.home().display().to_string()),
        ("PATH", format!("{}:{PATH}", workspace.programs().display())),
        ("CI_PROJECT_DIR", workspace.builds().display().to_string()),
        (
            "FORERUNNER_LOOPBACK",
            format!(
                "management.azure.com={},login.microsoftonline.com={}",
                settings.arm.port(),
                settings.entra.port()
            ),
        ),
    ];
    variables.extend(own.map(|(name, value)| (name.to_owned(), value)));
    Ok(variables)
}

/// Writes the tokens that the container's projected volumes hold; answers the directories they are mounted at.
async fn project_tokens(
    managers: &Managers,
    workspace: &Workspace,
    pod: &Value,
    container: &Value,
) -> io::Result<Vec<String>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let account = text(&pod["spec"]["serviceAccountName"]);
    let mut directories = Vec::new();
    for mount in container["volumeMounts"].as_array().into_iter().flatten() {
        let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let Some(volume) = volumes.into_iter().find(|volume| volume["name"] == mount["name"])
        else {
            continue;
        };
        let directory = text(&mount["mountPath"]);
        for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
            let wanted = &source["serviceAccountToken"];
            let Some(path) = wanted["path"].as_str() else { continue };
            // A pod that this process is not in has its tokens to itself.
            let Place::Cluster { kubernetes, .. } = &managers.0.settings.place else { continue };
            let audience = match wanted["audience"].as_str() {
                Some(audience) => audience.to_owned(),
                None => kubernetes.issuer(),
            };
            let token = kubernetes
                .service_account_token(&namespace, &account, &audience, Some(&name))
                .await;
            let token = token.unwrap_or_default();
            workspace.write(&workspace.inside(&format!("{directory}/{path}")), &token)?;
            if !directories.contains(&directory) {
                directories.push(directory.clone());
            }
        }
    }
    Ok(directories)
}

/// Prints each command before it runs and ends with the first that fails, as the runner's scripts do.
fn shell_script(step: &Step) -> String {
    let mut script = String::from(
        "exec 2>&1\nif set -o | grep pipefail > /dev/null; then set -o pipefail; fi\nset -e\n",
    );
    for line in &step.lines {
        let mut rows = line.trim_end().lines();
        let first = rows.next().unwrap_or_default();
        let collapsed = if rows.next().is_some() { " # collapsed multi-line command" } else { "" };
        let shown = quote(&format!("$ {first}{collapsed}"));
        script.push_str(&format!("printf '%s\\n' {shown}\n{line}\n"));
    }
    script
}

async fn execute(
    mut command: Command,
    gitlab: &Gitlab<'_>,
    payload: &Payload,
    trace: &mut Trace,
) -> Ended {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ended::Broken(error.to_string()),
    };
    let Some(output) = child.stdout.take() else {
        return Ended::Broken("its output is not ours".to_owned());
    };
    let mut output = BufReader::new(output);
    let mut row = Vec::new();
    let mut patch = tokio::time::interval(PATCH_INTERVAL);
    patch.tick().await;
    let timeout = Duration::from_secs(payload.timeout_seconds().unsigned_abs());
    let deadline = tokio::time::Instant::now() + timeout;
    loop {
        tokio::select! {
            // A row that is cut off by another branch stays in `row` and is read on.
            read = output.read_until(b'\n', &mut row) => {
                match read {
                    Ok(1..) => trace.push(&std::mem::take(&mut row)),
                    Ok(0) | Err(_) => break,
                }
            }
            _ = patch.tick() => match trace.flush(gitlab, payload).await {
                Standing::GoOn | Standing::Unheard => {}
                Standing::Cancelling | Standing::Gone => {
                    let _already_over = child.kill().await;
                    return Ended::Cancelled;
                }
            },
            () = tokio::time::sleep_until(deadline) => {
                let _already_over = child.kill().await;
                return Ended::TimedOut;
            }
        }
    }
    trace.push(&row);
    match child.wait().await {
        Ok(status) => Ended::Exited { code: status.code().unwrap_or(137), slept_seconds: 0.0 },
        Err(error) => Ended::Broken(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_shows_each_command_before_it_runs() {
        let lines = vec!["echo 'a'".to_owned(), "if true\nthen echo b\nfi".to_owned()];
        let step = Step { name: "script".into(), lines, when: String::new(), allow_failure: false };
        let script = shell_script(&step);
        assert!(script.contains("printf '%s\\n' '$ echo '\\''a'\\'''\necho 'a'\n"), "{script}");
        assert!(script.contains("'$ if true # collapsed multi-line command'\nif true\n"));
    }
}
