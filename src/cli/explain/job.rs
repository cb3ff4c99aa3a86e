//! A job as it is explained.

use crate::{
    cli::colour::Paint,
    reconcile::{Candidate, Had, JobExplained},
};
use serde_json::{Value, json};

pub(super) fn text(explained: &JobExplained, paint: Paint) -> String {
    let JobExplained { job, path, candidates, unread, had } = explained;
    let tags = if job.tags.is_empty() {
        "no tags".to_owned()
    } else {
        format!("tags {}", job.tags.join(", "))
    };
    let protected = match job.protected {
        Some(true) => "protected",
        Some(false) => "not protected",
        None => "whether it is protected could not be read",
    };
    let title = format!("job {} `{}` of {path}: {}", job.id, job.name, job.status);
    let mut text = format!("{}\n", paint.bold(&title));
    text.push_str(&format!("  {tags}; ref `{}` ({protected})\n", job.reference));
    if let Some(failure) = &job.failure {
        text.push_str(&format!("  failed: {failure}\n"));
    }
    if let Some(had) = had {
        text.push_str(&had_text(had, paint));
    }
    let able = candidates.iter().filter(|candidate| candidate.refusals.is_empty()).count();
    text.push_str(&format!("  {able} of {} runner(s) may take it\n", candidates.len()));
    for candidate in candidates {
        let sign =
            if candidate.refusals.is_empty() { paint.green("yes") } else { paint.dim("no ") };
        text.push_str(&format!("    {sign} {}\n", candidate_name(candidate)));
        candidate.refusals.iter().for_each(|reason| text.push_str(&format!("        {reason}\n")));
    }
    unread.iter().for_each(|unread| text.push_str(&format!("  not looked at: {unread}\n")));
    text
}

fn candidate_name(candidate: &Candidate) -> String {
    match &candidate.key {
        Some(key) => format!("runner/{key} (GitLab's runner {})", candidate.entity.id),
        None => format!(
            "GitLab's runner {}, not ours: {}",
            candidate.entity.id, candidate.entity.description
        ),
    }
}

fn had_text(had: &Had, paint: Paint) -> String {
    let runner = had.runner;
    let key = match (&had.key, &had.hidden) {
        (Some(key), _) => key,
        (None, Some(reason)) => {
            return format!(
                "  it ran on GitLab's runner {runner}; whose that is could not be read: {reason}\n"
            );
        }
        (None, None) => {
            return format!("  it ran on GitLab's runner {runner}, which is none of ours\n");
        }
    };
    let mut text = format!("  it ran on runner/{key} (GitLab's runner {runner})\n");
    match (&had.system_id, had.our_manager) {
        (Some(_), true) => text.push_str("    taken by our manager\n"),
        (Some(id), false) => {
            let words = paint.red("taken by a process that is not our manager:");
            text.push_str(&format!(
                "    {words} system id {id}; its token may be in foreign hands\n"
            ));
        }
        (None, _) => text.push_str("    by which process, GitLab does not say\n"),
    }
    let (Some(namespace), Some(account)) = (&had.namespace, &had.account) else {
        text.push_str("    where it ran and as whom is not known any more: nothing of it is left in the cluster\n");
        return text;
    };
    text.push_str(&format!("    namespace {namespace}, service account {account}\n"));
    let identity = had.identity.as_deref().unwrap_or("none");
    let client = had.client_id.as_ref().map_or(String::new(), |id| format!(" (client id {id})"));
    text.push_str(&format!("    identity {identity}{client}\n"));
    text
}

pub(super) fn json(explained: &JobExplained) -> Value {
    let JobExplained { job, path, candidates, unread, had } = explained;
    let candidates: Vec<Value> = candidates
        .iter()
        .map(|candidate| {
            json!({
                "runner": candidate.entity.id,
                "unit": candidate.key.as_ref().map(|key| format!("runner/{key}")),
                "mayTake": candidate.refusals.is_empty(),
                "reasons": candidate.refusals,
            })
        })
        .collect();
    let had = had.as_ref().map(|had| {
        json!({
            "runner": had.runner,
            "unit": had.key.as_ref().map(|key| format!("runner/{key}")),
            "hidden": had.hidden,
            "ourManager": had.our_manager,
            "systemId": had.system_id,
            "namespace": had.namespace,
            "account": had.account,
            "identity": had.identity,
            "clientId": had.client_id,
        })
    });
    json!({
        "job": job.id,
        "name": job.name,
        "project": path,
        "status": job.status,
        "tags": job.tags,
        "ref": job.reference,
        "protected": job.protected,
        "runners": candidates,
        "had": had,
        "unread": unread,
    })
}
