//! Names, labels and annotations that every object of ours carries.

use super::Context;
use crate::domain::{
    kubernetes::{Object, ObjectName},
    names,
    spec::{IdentitySpec, RunnerSpec},
};
use k8s_openapi::apimachinery::pkg::{
    api::resource::Quantity,
    apis::meta::v1::{LabelSelector, ObjectMeta},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) type Texts = BTreeMap<String, String>;

/// Labels of what belongs to one runner.
pub(super) fn runner_labels(spec: &RunnerSpec, ctx: &Context<'_>) -> Texts {
    labels(ctx, &spec.key.to_string())
}

/// Labels of what belongs to a trust domain, which several runners may share.
pub(super) fn domain_labels(spec: &RunnerSpec, ctx: &Context<'_>) -> Texts {
    labels(ctx, &names::domain_key(&spec.key, spec.isolation))
}

/// The fleet's own labels first: none of them can take the place of ours.
fn labels(ctx: &Context<'_>, key: &str) -> Texts {
    let mut labels = ctx.fleet.cluster.labels.clone();
    labels.extend(texts([
        (names::LABEL_MANAGED_BY, names::MANAGED_BY),
        (names::LABEL_FLEET, ctx.fleet.name.as_str()),
        (names::LABEL_INSTALLATION, &ctx.installation.0),
        (names::LABEL_KEY, key),
    ]));
    labels
}

pub(super) fn texts<const N: usize>(pairs: [(&str, &str); N]) -> Texts {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(super) fn metadata(name: &ObjectName, labels: Texts) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.name.clone()),
        namespace: name.namespace.clone(),
        labels: some(labels),
        ..ObjectMeta::default()
    }
}

/// Nothing rather than an empty map: server-side apply would own, and clear, an empty one.
pub(super) fn some(map: Texts) -> Option<Texts> {
    (!map.is_empty()).then_some(map)
}

pub(super) fn matching<const N: usize>(pairs: [(&str, &str); N]) -> LabelSelector {
    LabelSelector { match_labels: Some(texts(pairs)), ..LabelSelector::default() }
}

pub(super) fn quantities<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), Quantity(value.to_owned()))).collect()
}

pub(super) fn object(name: ObjectName, typed: &impl Serialize) -> Object {
    Object { name, body: body(typed) }
}

pub(super) fn body(typed: &impl Serialize) -> Value {
    serde_json::to_value(typed).expect("a Kubernetes object is JSON with text keys")
}

/// Adds an annotation that a round decides on, such as which identity an account asks for. Before [`super::stamp`].
pub fn annotate(object: &mut Object, key: &str, value: &str) {
    let metadata = &mut object.body["metadata"];
    if !metadata["annotations"].is_object() {
        metadata["annotations"] = json!({});
    }
    metadata["annotations"][key] = json!(value);
}

pub(super) fn has_identity(spec: &RunnerSpec) -> bool {
    match spec.identity {
        IdentitySpec::None => false,
        IdentitySpec::Managed { .. } | IdentitySpec::Existing { .. } => true,
    }
}
