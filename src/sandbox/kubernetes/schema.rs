//! The fields of each kind and how lists and maps merge: what OpenAPI says with `x-kubernetes-list-type`.
//!
//! Written by hand from the API reference (<https://kubernetes.io/docs/reference/kubernetes-api/>) and
//! runner-on-kubernetes.md §9.2, and on purpose without the client's types.

use serde_json::Value;
use std::{collections::BTreeMap, sync::OnceLock};

pub(super) type Type = BTreeMap<&'static str, Form>;

/// How a field is owned and merged.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// A scalar, or anything that is owned as a whole and not looked into.
    Leaf,
    /// An object whose fields are owned one by one.
    Struct(&'static str),
    /// An object that is owned as a whole.
    AtomicStruct(&'static str),
    /// Free keys, owned one by one.
    Map,
    /// A list of objects found by the values of these fields, with their defaults.
    Keyed(Vec<(&'static str, Option<&'static str>)>, &'static str),
    /// A list of distinct scalars, owned one by one.
    Set,
    /// A list that is owned as a whole, of objects of this type or of anything.
    AtomicList(Option<&'static str>),
}

/// `Type field field:FORM …`; a form is `T` (struct), `=T` (atomic struct), `{}` (map), `<>` (set), `[key,key=default]T`
/// (keyed list), `=[]` or `=[T]` (atomic list); nothing means a leaf.
const TYPES: &str = "
ObjectMeta name namespace generateName uid resourceVersion generation creationTimestamp deletionTimestamp deletionGracePeriodSeconds selfLink labels:{} annotations:{} finalizers:<> ownerReferences:[uid]OwnerReference managedFields
OwnerReference apiVersion kind name uid controller blockOwnerDeletion
Object apiVersion kind metadata:ObjectMeta spec status
Namespace apiVersion kind metadata:ObjectMeta spec:NamespaceSpec status
NamespaceSpec finalizers:=[]
ServiceAccount apiVersion kind metadata:ObjectMeta secrets:[name]ObjectReference imagePullSecrets:=[LocalReference] automountServiceAccountToken
ObjectReference apiVersion kind name namespace uid fieldPath resourceVersion
LocalReference name
Secret apiVersion kind metadata:ObjectMeta data:{} stringData:{} type immutable
ConfigMap apiVersion kind metadata:ObjectMeta data:{} binaryData:{} immutable
Event apiVersion kind metadata:ObjectMeta involvedObject:ObjectReference reason message source type count firstTimestamp lastTimestamp eventTime series action related reportingComponent reportingInstance
ResourceQuota apiVersion kind metadata:ObjectMeta spec:ResourceQuotaSpec status
ResourceQuotaSpec hard:{} scopes:=[] scopeSelector
LimitRange apiVersion kind metadata:ObjectMeta spec:LimitRangeSpec
LimitRangeSpec limits:=[LimitRangeItem]
LimitRangeItem type default:{} defaultRequest:{} max:{} min:{} maxLimitRequestRatio:{}
Pod apiVersion kind metadata:ObjectMeta spec:PodSpec status
Deployment apiVersion kind metadata:ObjectMeta spec:DeploymentSpec status
DeploymentSpec replicas selector:=LabelSelector template:PodTemplate strategy:DeploymentStrategy minReadySeconds revisionHistoryLimit paused progressDeadlineSeconds
DeploymentStrategy type rollingUpdate:RollingUpdate
RollingUpdate maxSurge maxUnavailable
ReplicaSet apiVersion kind metadata:ObjectMeta spec:ReplicaSetSpec status
ReplicaSetSpec replicas selector:=LabelSelector template:PodTemplate minReadySeconds
LabelSelector matchLabels:{} matchExpressions:=[LabelRequirement]
LabelRequirement key operator values:=[]
PodTemplate metadata:ObjectMeta spec:PodSpec
PodSpec activeDeadlineSeconds affinity automountServiceAccountToken containers:[name]Container dnsConfig dnsPolicy enableServiceLinks ephemeralContainers:[name]Container hostAliases:[ip]HostAlias hostIPC hostNetwork hostPID hostUsers hostname imagePullSecrets:[name]LocalReference initContainers:[name]Container nodeName nodeSelector:={} os overhead:{} preemptionPolicy priority priorityClassName readinessGates:=[] resourceClaims resources:ResourceRequirements restartPolicy runtimeClassName schedulerName schedulingGates securityContext:PodSecurityContext serviceAccount serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain terminationGracePeriodSeconds tolerations:=[Toleration] topologySpreadConstraints:[topologyKey,whenUnsatisfiable]TopologySpread volumes:[name]Volume
TopologySpread topologyKey whenUnsatisfiable maxSkew minDomains labelSelector:=LabelSelector matchLabelKeys:=[] nodeAffinityPolicy nodeTaintsPolicy
HostAlias ip hostnames:=[]
Toleration key operator value effect tolerationSeconds
PodSecurityContext fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser seLinuxOptions seLinuxChangePolicy seccompProfile:SeccompProfile appArmorProfile supplementalGroups:=[] supplementalGroupsPolicy sysctls:=[Sysctl] windowsOptions
Sysctl name value
SeccompProfile type localhostProfile
Container args:=[] command:=[] env:[name]EnvVar envFrom:=[] image imagePullPolicy lifecycle:Lifecycle livenessProbe:Probe name ports:[containerPort,protocol=TCP]ContainerPort readinessProbe:Probe resizePolicy resources:ResourceRequirements restartPolicy securityContext:SecurityContext startupProbe:Probe stdin stdinOnce terminationMessagePath terminationMessagePolicy tty volumeDevices:[devicePath]VolumeDevice volumeMounts:[mountPath]VolumeMount workingDir
EnvVar name value valueFrom:EnvVarSource
EnvVarSource fieldRef:=FieldReference secretKeyRef:=KeySelector configMapKeyRef:=KeySelector resourceFieldRef
FieldReference apiVersion fieldPath
KeySelector name key optional
Lifecycle postStart:Handler preStop:Handler
Handler exec:ExecAction httpGet:HttpGet sleep:Sleep tcpSocket:TcpSocket
Sleep seconds
ExecAction command:=[]
HttpGet path port host scheme httpHeaders:=[]
TcpSocket port host
Probe exec:ExecAction grpc httpGet:HttpGet tcpSocket:TcpSocket initialDelaySeconds periodSeconds timeoutSeconds successThreshold failureThreshold terminationGracePeriodSeconds
ContainerPort name containerPort protocol hostPort hostIP
ResourceRequirements requests:{} limits:{} claims
SecurityContext allowPrivilegeEscalation appArmorProfile capabilities:Capabilities privileged procMount readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser seLinuxOptions seccompProfile:SeccompProfile windowsOptions
Capabilities add:=[] drop:=[]
VolumeDevice name devicePath
VolumeMount name mountPath readOnly subPath subPathExpr mountPropagation recursiveReadOnly
Volume name secret:SecretVolume emptyDir:EmptyDir configMap:ConfigMapVolume projected:ProjectedVolume hostPath:HostPath persistentVolumeClaim:ClaimVolume downwardAPI csi ephemeral nfs image iscsi
SecretVolume secretName defaultMode optional items:=[KeyToPath]
ConfigMapVolume name defaultMode optional items:=[KeyToPath]
KeyToPath key path mode
EmptyDir medium sizeLimit
ProjectedVolume defaultMode sources:=[]
HostPath path type
ClaimVolume claimName readOnly
NetworkPolicy apiVersion kind metadata:ObjectMeta spec:NetworkPolicySpec
NetworkPolicySpec podSelector:=LabelSelector policyTypes:=[] ingress:=[IngressRule] egress:=[EgressRule]
IngressRule from:=[Peer] ports:=[PolicyPort]
EgressRule to:=[Peer] ports:=[PolicyPort]
Peer namespaceSelector:=LabelSelector podSelector:=LabelSelector ipBlock:=IpBlock
IpBlock cidr except:=[]
PolicyPort protocol port endPort
PodDisruptionBudget apiVersion kind metadata:ObjectMeta spec:DisruptionSpec status
DisruptionSpec minAvailable maxUnavailable selector:=LabelSelector unhealthyPodEvictionPolicy
Role apiVersion kind metadata:ObjectMeta rules:=[Rule]
ClusterRole apiVersion kind metadata:ObjectMeta rules:=[Rule] aggregationRule
Rule apiGroups:=[] resources:=[] verbs:=[] resourceNames:=[] nonResourceURLs:=[]
RoleBinding apiVersion kind metadata:ObjectMeta roleRef:=RoleRef subjects:=[Subject]
ClusterRoleBinding apiVersion kind metadata:ObjectMeta roleRef:=RoleRef subjects:=[Subject]
RoleRef apiGroup kind name
Subject apiGroup kind name namespace
ValidatingAdmissionPolicy apiVersion kind metadata:ObjectMeta spec:PolicySpec status
PolicySpec auditAnnotations failurePolicy matchConditions:[name]MatchCondition matchConstraints paramKind validations:=[Validation] variables:[name]MatchCondition
MatchCondition name expression
Validation expression message messageExpression reason
ValidatingAdmissionPolicyBinding apiVersion kind metadata:ObjectMeta spec:PolicyBindingSpec
PolicyBindingSpec policyName matchResources paramRef validationActions:<>
MutatingWebhookConfiguration apiVersion kind metadata:ObjectMeta webhooks:[name]Webhook
Webhook name admissionReviewVersions:=[] clientConfig failurePolicy matchConditions matchPolicy namespaceSelector:=LabelSelector objectSelector:=LabelSelector reinvocationPolicy rules:=[] sideEffects timeoutSeconds
CiliumNetworkPolicy apiVersion kind metadata:ObjectMeta spec specs status
SelfSubjectAccessReview apiVersion kind metadata:ObjectMeta spec status
";

/// The fields of a type; of an unlisted one those that all objects have.
pub(super) fn of(name: &str) -> &'static Type {
    static PARSED: OnceLock<BTreeMap<&'static str, Type>> = OnceLock::new();
    let types = PARSED.get_or_init(|| TYPES.lines().filter_map(parse_type).collect());
    types.get(name).or_else(|| types.get("Object")).expect("the table above has `Object`")
}

fn parse_type(line: &'static str) -> Option<(&'static str, Type)> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    Some((name, words.map(parse_field).collect()))
}

fn parse_field(word: &'static str) -> (&'static str, Form) {
    let Some((name, form)) = word.split_once(':') else { return (word, Form::Leaf) };
    (name, parse_form(form))
}

fn parse_form(form: &'static str) -> Form {
    if form == "{}" {
        return Form::Map;
    }
    if form == "<>" {
        return Form::Set;
    }
    if form == "={}" {
        return Form::Leaf;
    }
    if let Some(rest) = form.strip_prefix("=[") {
        let item = rest.trim_end_matches(']');
        return Form::AtomicList((!item.is_empty()).then_some(item));
    }
    if let Some(of) = form.strip_prefix('=') {
        return Form::AtomicStruct(of);
    }
    let Some((keys, of)) = form.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return Form::Struct(form);
    };
    let key = |word: &'static str| match word.split_once('=') {
        Some((name, default)) => (name, Some(default)),
        None => (word, None),
    };
    Form::Keyed(keys.split(',').map(key).collect(), of)
}

/// Paths of fields that the type does not have, or not as an object or list, such as `.spec.colour`.
pub(super) fn unknown_fields(value: &Value, fields: &Type, path: &str, found: &mut Vec<String>) {
    let Some(object) = value.as_object() else { return };
    for (name, value) in object {
        let path = format!("{path}.{name}");
        let Some(form) = fields.get(name.as_str()) else {
            found.push(path);
            continue;
        };
        match form {
            Form::Struct(_) | Form::AtomicStruct(_) | Form::Map
                if !value.is_object() && !value.is_null() =>
            {
                found.push(path);
            }
            Form::Keyed(..) | Form::AtomicList(_) | Form::Set
                if !value.is_array() && !value.is_null() =>
            {
                found.push(path);
            }
            Form::Struct(name) | Form::AtomicStruct(name) => {
                unknown_fields(value, of(name), &path, found);
            }
            Form::Keyed(_, name) | Form::AtomicList(Some(name)) => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    unknown_fields(item, of(name), &format!("{path}[{index}]"), found);
                }
            }
            Form::Leaf | Form::Map | Form::Set | Form::AtomicList(None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_is_named_is_defined() {
        for line in TYPES.lines().filter(|line| !line.is_empty()) {
            for (field, form) in line.split_whitespace().skip(1).map(parse_field) {
                let name = match form {
                    Form::Struct(name) | Form::AtomicStruct(name) | Form::Keyed(_, name) => name,
                    Form::AtomicList(Some(name)) => name,
                    Form::Leaf | Form::Map | Form::Set | Form::AtomicList(None) => continue,
                };
                let defined = TYPES.lines().any(|line| line.split(' ').next() == Some(name));
                assert!(defined, "{field} names {name}");
            }
        }
    }
}
