//! Confines forerunner by admission: what its rights would still let a stolen identity do is refused, each in its own
//! words. Every expression errs on the side of refusing; answers are 422 `Invalid` (runner-on-kubernetes.md §12).
//!
//! Checked once by the API server's own evaluator (k8s.io/apiserver 0.34.4): forty requests, allowed and refused as the
//! messages say, and another user's left alone.

use super::{AdministratorInput, body, own_metadata, own_name};
use crate::domain::names;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, ValidatingAdmissionPolicy,
    ValidatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBindingSpec,
    ValidatingAdmissionPolicySpec, Validation, Variable,
};
use serde_json::Value;

pub(super) fn admission(input: &AdministratorInput<'_>) -> Vec<Value> {
    let policy = ValidatingAdmissionPolicy {
        metadata: own_metadata(input, None),
        spec: Some(ValidatingAdmissionPolicySpec {
            failure_policy: Some("Fail".to_owned()),
            match_constraints: Some(everything()),
            match_conditions: Some(vec![MatchCondition {
                name: "forerunner".to_owned(),
                expression: format!(
                    "request.userInfo.username == {}",
                    quoted(input.forerunner_user)
                ),
            }]),
            variables: Some(variables(input)),
            validations: Some(validations(input)),
            ..ValidatingAdmissionPolicySpec::default()
        }),
        ..ValidatingAdmissionPolicy::default()
    };
    let binding = ValidatingAdmissionPolicyBinding {
        metadata: own_metadata(input, None),
        spec: Some(ValidatingAdmissionPolicyBindingSpec {
            policy_name: Some(own_name(input)),
            validation_actions: Some(vec!["Deny".to_owned()]),
            ..ValidatingAdmissionPolicyBindingSpec::default()
        }),
    };
    vec![body(&policy), body(&binding)]
}

/// `*/*` takes sub-resources in, and must stand alone.
fn everything() -> MatchResources {
    let any = || Some(vec!["*".to_owned()]);
    MatchResources {
        resource_rules: Some(vec![NamedRuleWithOperations {
            api_groups: any(),
            api_versions: any(),
            operations: Some(["CREATE", "UPDATE", "DELETE", "CONNECT"].map(str::to_owned).into()),
            resources: Some(vec!["*/*".to_owned()]),
            ..NamedRuleWithOperations::default()
        }]),
        ..MatchResources::default()
    }
}

/// Evaluated only where a validation asks for them: `after` exists in a creation or change, `before` in a change or
/// deletion.
fn variables(input: &AdministratorInput<'_>) -> Vec<Variable> {
    let label = |object: &str, key: &str| {
        format!(
            "(has({object}.metadata.labels) ? {object}.metadata.labels[?'{key}'].orValue('') : '')"
        )
    };
    let level = label("object", "pod-security.kubernetes.io/enforce");
    let privileged: Vec<_> = input.privileged_namespaces.iter().map(|name| quoted(name)).collect();
    let variable = |name: &str, expression: String| Variable { name: name.to_owned(), expression };
    vec![
        variable("kind", "request.resource.group + '/' + request.resource.resource".to_owned()),
        variable("isNamespace", "variables.kind == '/namespaces'".to_owned()),
        variable("whole", "!has(request.subResource) || request.subResource == ''".to_owned()),
        variable("fleetBefore", label("oldObject", names::LABEL_FLEET)),
        variable("fleetAfter", label("object", names::LABEL_FLEET)),
        // What lies in no namespace has an empty one around it.
        variable(
            "fleetAround",
            format!(
                "(has(namespaceObject.metadata) ? {} : '')",
                label("namespaceObject", names::LABEL_FLEET)
            ),
        ),
        variable(
            "levelIsSafe",
            format!(
                "{level} in ['baseline', 'restricted'] || ({level} == 'privileged' && \
                 object.metadata.name in [{}])",
                privileged.join(", ")
            ),
        ),
    ]
}

fn validations(input: &AdministratorInput<'_>) -> Vec<Validation> {
    let fleet = quoted(input.fleet.as_str());
    let managers = quoted(input.managers_namespace);
    let role = quoted(input.manager_cluster_role);
    let validation = |expression: String, message: &str| Validation {
        expression,
        message: Some(message.to_owned()),
        reason: Some("Invalid".to_owned()),
        ..Validation::default()
    };
    vec![
        validation(
            format!(
                "variables.isNamespace || \
                 variables.kind == 'authorization.k8s.io/selfsubjectaccessreviews' || \
                 variables.fleetAround == {fleet}"
            ),
            "forerunner works only in namespaces that carry its fleet's label",
        ),
        validation(
            format!(
                "!variables.isNamespace || ((request.operation == 'CREATE' || \
                 variables.fleetBefore == {fleet}) && (request.operation == 'DELETE' || \
                 variables.fleetAfter == {fleet}))"
            ),
            "forerunner makes, changes and deletes only namespaces that carry its fleet's label, and never moves it",
        ),
        validation(
            "!variables.isNamespace || request.operation == 'DELETE' || variables.levelIsSafe"
                .to_owned(),
            "a namespace of forerunner's enforces Pod Security baseline or restricted",
        ),
        validation(
            format!("!variables.isNamespace || request.name != {managers}"),
            "the managers' namespace is an administrator's",
        ),
        validation(
            format!(
                "variables.kind != 'rbac.authorization.k8s.io/rolebindings' || \
                 request.operation == 'DELETE' || (object.roleRef.kind == 'ClusterRole' && \
                 object.roleRef.name == {role} && has(object.subjects) && \
                 object.subjects.all(s, s.kind == 'ServiceAccount' && has(s.namespace) && \
                 s.namespace == {managers}))"
            ),
            "forerunner binds only managers, and only to their own role",
        ),
        validation(
            format!(
                "variables.kind != 'rbac.authorization.k8s.io/rolebindings' || \
                 request.namespace != {managers}"
            ),
            "nobody is bound to anything in the managers' namespace",
        ),
        validation(
            format!(
                "!(variables.kind in ['/secrets', '/configmaps', 'apps/deployments']) || \
                 request.namespace == {managers}"
            ),
            "forerunner keeps Secrets, ConfigMaps and Deployments in the managers' namespace alone",
        ),
        validation(
            "variables.kind != '/secrets' || request.operation == 'DELETE' || \
             (has(object.type) && object.type == 'Opaque')"
                .to_owned(),
            "forerunner writes only Opaque Secrets: another type would be filled with a manager's token",
        ),
        validation(
            "variables.kind != '/pods'".to_owned(),
            "forerunner makes, changes and enters no pods",
        ),
        validation(
            "variables.whole".to_owned(),
            "forerunner uses no sub-resource: no service-account token, no exec, no status",
        ),
    ]
}

/// A CEL text. Names of fleets, namespaces, roles and users hold neither quotes nor backslashes; one that did is escaped.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
