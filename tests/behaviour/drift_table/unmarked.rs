//! Our mark taken off what is ours: from then on nothing tells it from a stranger's, so it stops the unit until the mark is back.

use super::{MANAGERS, Settled};
use serde_json::{Value, json};

const LABEL: &str = "forerunner.dev/fleet";

/// Parked with these words, and nothing of the object touched; whole again once the mark is back.
async fn waits_for_its_mark(
    settled: &Settled,
    words: &[String],
    shown: impl Fn() -> Value,
    unmark: impl FnOnce(),
    mark: impl FnOnce(),
) {
    let (sandbox, before) = (&settled.sandbox, settled.whole());
    unmark();
    let unmarked = shown();
    sandbox.sweep().await;
    let (reason, message) = sandbox.ready(&settled.unit);
    assert_eq!(reason, "Parked", "{words:?}: {}", sandbox.status(&settled.unit));
    for part in words {
        assert!(message.contains(part), "no `{part}` in {message}");
    }
    sandbox.pass_minutes(25).await;
    assert_eq!(shown(), unmarked, "{words:?}");
    mark();
    sandbox.pass_minutes(60).await;
    sandbox.assert_ready(&settled.unit);
    assert_eq!(settled.whole(), before, "{words:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_whose_label_was_taken_off_parks_its_unit_until_a_person_gives_it_back() {
    for kind in [
        "namespaces",
        "deployments",
        "secrets",
        "rolebindings",
        "serviceaccounts",
        "networkpolicies",
    ] {
        let settled = Settled::new().await;
        let (manager, jobs) = (settled.manager(), settled.jobs());
        let (namespace, name) = match kind {
            "namespaces" => ("", jobs),
            "secrets" => (MANAGERS, format!("{manager}-config")),
            "rolebindings" => (jobs.as_str(), manager),
            _ => (MANAGERS, manager),
        };
        let label = |value: Value| {
            settled.edit(kind, namespace, &name, |object| {
                let labels = object["metadata"]["labels"].as_object_mut().unwrap();
                labels.insert(LABEL.into(), value);
                labels.retain(|_, value| !value.is_null());
            });
        };
        let shown = || {
            let mut object = settled.sandbox.world.kubernetes.get(kind, namespace, &name).unwrap();
            object.as_object_mut().unwrap().remove("status");
            object
        };
        let mut words = vec![format!("{LABEL}=nonprod"), "kubectl label".to_owned(), name.clone()];
        if kind == "secrets" {
            words.push("the only copy of the runner's token".to_owned());
        }
        waits_for_its_mark(
            &settled,
            &words,
            shown,
            || label(Value::Null),
            || label("nonprod".into()),
        )
        .await;
    }
}

/// Even what only we write there: it stands on somebody else's object now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_note_of_ours_is_taken_off_an_object_whose_label_was_taken_off() {
    for kind in ["deployments", "rolebindings"] {
        let settled = Settled::new().await;
        let (sandbox, manager, jobs) = (&settled.sandbox, settled.manager(), settled.jobs());
        let namespace = if kind == "deployments" { MANAGERS } else { &jobs };
        settled.edit(kind, namespace, &manager, |object| {
            object["metadata"]["labels"].as_object_mut().unwrap().remove(LABEL);
            object["metadata"]["annotations"]["forerunner.dev/leaving-since"] =
                "2026-11-24T07:00:00Z".into();
        });
        let shown = || {
            let object = sandbox.world.kubernetes.get(kind, namespace, &manager).unwrap();
            object["metadata"].clone()
        };
        let unmarked = shown();
        sandbox.sweep().await;
        assert_eq!(sandbox.ready(&settled.unit).0, "Parked", "{}", sandbox.status(&settled.unit));
        assert_eq!(shown(), unmarked, "{kind}: {}", sandbox.story());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_whose_marker_tag_was_taken_off_parks_its_unit_until_a_person_gives_it_back() {
    for tag in ["forerunner-fleet", "forerunner-installation", "forerunner-key"] {
        let settled = Settled::new().await;
        let azure = &settled.sandbox.world.azure;
        let before = azure.identities().remove(0);
        let mut tags = before.tags.clone();
        let mark = format!("{tag}={}", tags.remove(tag).unwrap());
        let shown = || {
            let identity = azure.identities().remove(0);
            let held = azure.credentials(&identity.id);
            json!([identity.tags, held.len(), azure.assignments().len()])
        };
        waits_for_its_mark(
            &settled,
            &["az tag update".to_owned(), mark],
            shown,
            || azure.edit_identity_tags(&before.id, tags),
            || azure.edit_identity_tags(&before.id, before.tags.clone()),
        )
        .await;
    }
}
