//! Every name that forerunner gives is legal where it is used, and two different things never share one.

use super::rendered::{example, objects};
use forerunner::domain::{
    azure::ResourceId,
    fleet::{Fleet, TargetFacts, WantedState},
    ids::{FleetName, GroupId, InstallationId, ProfileName, ProjectId, RunnerKey, TargetId, Unit},
    marker::Marker,
    message::{Message, Reason},
    names,
    spec::Isolation,
};
use proptest::prelude::*;
use serde_json::Value;
use uuid::Uuid;

fn any_fleet() -> impl Strategy<Value = FleetName> {
    let long = "[a-z](-?[a-z0-9]){0,19}".prop_filter("too long", |text| text.len() <= 20);
    prop_oneof![long, confusing()].prop_map(|text| FleetName::new(&text).unwrap())
}

fn any_profile() -> impl Strategy<Value = ProfileName> {
    let long = "[a-z](-?[a-z0-9]){0,29}".prop_filter("too long", |text| text.len() <= 30);
    prop_oneof![long, confusing()].prop_map(|text| ProfileName::new(&text).unwrap())
}

/// Names that look like parts of others: `a-g1` is a fleet's as well as the beginning of a runner of the fleet `a`.
fn confusing() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("a"),
        Just("b"),
        Just("g1"),
        Just("p2"),
        Just("i"),
        Just("domain"),
        Just("config"),
        Just("runner"),
    ];
    let words = prop::collection::vec(word, 1..4).prop_map(|words| words.join("-"));
    words.prop_filter("too long", |text| text.len() <= 20)
}

/// Paths as GitLab has them and worse: 1 to 20 levels of anything, up to 255 characters each.
fn any_path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        "[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,30}",
        "[0-9][0-9.]{0,9}",
        "[^/\\x00]{1,255}",
        "[\\u{1F300}-\\u{1F6FF}]{1,8}",
        "[\\u{0600}-\\u{06FF}\\u{0300}-\\u{036F}]{1,40}",
        Just("..".to_owned()),
        Just("-".to_owned()),
        Just("*".to_owned()),
        Just("{subscription}".to_owned()),
    ];
    prop::collection::vec(segment, 1..=19)
        .prop_map(|segments| format!("top/{}", segments.join("/")))
}

fn any_target() -> impl Strategy<Value = TargetId> {
    let id = prop_oneof![1_u64..4, 1_u64..100, any::<u64>().prop_map(|id| id.max(1))];
    prop_oneof![
        Just(TargetId::Instance),
        id.clone().prop_map(|id| TargetId::Group(GroupId(id))),
        id.prop_map(|id| TargetId::Project(ProjectId(id))),
    ]
}

fn any_key() -> impl Strategy<Value = RunnerKey> {
    (any_target(), any_profile()).prop_map(|(target, profile)| RunnerKey { target, profile })
}

/// Resource names as Azure takes them for user-assigned identities, in any subscription and group.
fn any_identity() -> impl Strategy<Value = ResourceId> {
    ("[a-zA-Z0-9][a-zA-Z0-9_-]{2,127}", "[a-zA-Z0-9_()-]{1,90}", any::<u128>()).prop_map(
        |(name, group, subscription)| {
            let subscription = Uuid::from_u128(subscription);
            let id = format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}");
            ResourceId::new(&id).unwrap()
        },
    )
}

fn is_dns_label(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_label_value(value: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= 63
        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && ends(value.chars().next())
        && ends(value.chars().last())
}

/// Letters, digits, `-` and `_`, first a letter or digit, 3 to `most`.
fn is_azure_name(name: &str, most: usize) -> bool {
    (3..=most).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

fn any_unit() -> impl Strategy<Value = Unit> {
    prop_oneof![
        any_target().prop_map(Unit::Target),
        any_key().prop_map(Unit::Runner),
        any_profile().prop_map(Unit::Domain),
        any_identity().prop_map(|id| Unit::Identity(names::identity_unit(&id))),
    ]
}

/// One profile with an identity of its own, for every group below `top`.
fn file(fleet: &FleetName, profile: &ProfileName) -> String {
    format!(
        r#"
version: 1
fleet: "{fleet}"
gitlab: {{ url: "https://gitlab.example.com", token: {{ keyVault: kv-fleet, secret: gitlab-token }} }}
azure: {{ subscription: 00000000-0000-4000-8000-000000000001, resourceGroup: rg-ids, location: westeurope }}
cluster: {{ kubeconfig: kubeconfig.yaml, managerClusterRole: managers-of-gitlab }}
anchors: {{ top: 42 }}
rules: [{{ match: {{ groups: "top/**" }}, profiles: ["{profile}"] }}]
profiles:
  "{profile}":
    runner: {{ tags: [some], protected: false }}
    identity: {{ managed: {{ roles: [{{ role: Reader, scope: /subscriptions/1111-net/resourceGroups/app }}] }} }}
guardrails: {{ roles: [Reader], scopes: [/subscriptions/1111-net/resourceGroups/app] }}
"#
    )
}

/// Labels of the object and of its pods, and the keys of annotations, as Kubernetes takes them.
fn check_metadata(body: &Value) -> Result<(), String> {
    for metadata in [&body["metadata"], &body["spec"]["template"]["metadata"]] {
        for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
            let value = value.as_str().unwrap_or("no text: \u{0}");
            if !is_qualified(key) || !is_label_value(value) {
                return Err(format!("label `{key}: {value}`"));
            }
        }
        let annotations = metadata["annotations"].as_object().into_iter().flatten();
        if let Some((key, _)) = annotations.into_iter().find(|(key, _)| !is_qualified(key)) {
            return Err(format!("annotation `{key}`"));
        }
    }
    Ok(())
}

/// The key of a label or annotation: a DNS subdomain and a slash if any, and a name.
fn is_qualified(key: &str) -> bool {
    let (prefix, name) =
        key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(|prefix| prefix.len() <= 253 && prefix.split('.').all(is_dns_label))
        && !name.is_empty()
        && is_label_value(name)
}

/// What one runner's names are, each with where it lives: two runners may share none.
fn names_of(fleet: &FleetName, key: &RunnerKey) -> Vec<(&'static str, String)> {
    let domain = names::domain_key(key, Isolation::Target);
    let namespace = names::namespace_of(fleet, key, Isolation::Target, None);
    let subject = names::subject(&namespace, names::JOB_ACCOUNT);
    let installation = InstallationId("uid".into());
    vec![
        ("namespaces", namespace),
        ("objects of the managers' namespace", names::manager(key)),
        ("secrets", names::config_secret(key)),
        ("config maps", names::status_map(&Unit::Runner(key.clone()))),
        ("identities", names::identity(fleet, &domain)),
        ("credentials", names::credential(fleet, &domain, "https://issuer.example.com/", &subject)),
        ("system ids", names::system_id(&installation, key)),
        ("system ids", names::verifier_system_id(&installation, key)),
        ("assignments", names::assignment_description(fleet, &installation, &domain)),
        ("units", Unit::Runner(key.clone()).to_string()),
    ]
}

/// Two runners share no name, where their fleets share what it names. Each fleet has its own namespace of managers and its
/// own queue.
fn keep_apart(
    one: (&FleetName, &RunnerKey),
    other: (&FleetName, &RunnerKey),
) -> Result<(), TestCaseError> {
    let others = names_of(other.0, other.1);
    for name in names_of(one.0, one.1) {
        let own =
            ["objects of the managers' namespace", "secrets", "config maps", "system ids", "units"];
        let shared = one.0 == other.0 || !own.contains(&name.0);
        prop_assert!(!shared || !others.contains(&name), "{name:?} of {one:?} and {other:?}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_name_is_legal_where_it_is_used(
        fleet in any_fleet(), key in any_key(), generation in 1_u32..,
        principal in any::<u128>(), role in any::<u128>(), id in any_identity(),
    ) {
        let installation = InstallationId("3f2a8c1e-0000-4000-8000-000000000001".into());
        for isolation in [Isolation::Target, Isolation::Profile] {
            let domain = names::domain_key(&key, isolation);
            let namespace = names::namespace_of(&fleet, &key, isolation, None);
            prop_assert!(is_dns_label(&namespace), "{namespace}");
            prop_assert!(is_label_value(&domain), "{domain}");
            let identity = names::identity(&fleet, &domain);
            prop_assert!(is_azure_name(&identity, 128), "{identity}");
            let subject = names::subject(&namespace, names::JOB_ACCOUNT);
            let credential = names::credential(&fleet, &domain, "https://issuer.example.com/", &subject);
            prop_assert!(is_azure_name(&credential, 120), "{credential}");
            prop_assert!(credential.starts_with(&names::credential_prefix(&fleet)));
            let description = names::assignment_description(&fleet, &installation, &domain);
            prop_assert!(description.len() <= 1024 && description.is_ascii());
        }
        for name in [names::manager(&key), names::config_secret(&key), names::managers_namespace(&fleet)] {
            prop_assert!(is_dns_label(&name), "{name}");
        }
        let units = [
            Unit::Target(key.target),
            Unit::Runner(key.clone()),
            Unit::Domain(key.profile.clone()),
            Unit::Identity(names::identity_unit(&id)),
        ];
        for unit in units {
            let name = names::status_map(&unit);
            prop_assert!(is_dns_label(&name), "{name}");
            let text = unit.to_string();
            prop_assert!(text.len() <= 128 && text.parse() == Ok(unit.clone()), "{text}");
            let message = Message::wake(unit, Reason::Hook, "delivery".into());
            let sent = message.send("2026-11-24T08:00:00Z".parse().unwrap());
            prop_assert!((1..=128).contains(&sent.message_id.len()) && sent.message_id.is_ascii());
            prop_assert!(sent.session_id.len() <= 128);
            prop_assert_eq!(Message::decode(&sent.message.encode()), Ok(sent.message));
        }
        let system = names::system_id(&installation, &key);
        prop_assert!(system.starts_with("s_") && system.len() == 14 && system != names::verifier_system_id(&installation, &key));
        let marker = Marker { fleet: fleet.clone(), installation, key: key.clone(), generation };
        let description = marker.description();
        prop_assert!(description.chars().count() <= 1024);
        prop_assert_eq!(Marker::find(&description), Some(marker));
        let [principal, role] = [principal, role].map(Uuid::from_u128);
        let assignment = names::role_assignment(&id, principal, role);
        prop_assert_eq!(assignment.get_version_num(), 5);
        prop_assert_eq!(assignment, names::role_assignment(&id, principal, role));
    }

    /// Neither two runners of one fleet, nor any two of two fleets: they may share a cluster, a resource group, an identity.
    #[test]
    fn two_keys_never_meet(fleets in (any_fleet(), any_fleet()), keys in (any_key(), any_key()), same in any::<bool>()) {
        let other = (if same { &fleets.0 } else { &fleets.1 }, &keys.1);
        let one = (&fleets.0, &keys.0);
        prop_assume!(one != other);
        keep_apart(one, other)?;
    }

    /// `platform` with the runner `g1-p2-x`, and `platform-g1` with `p2-x`: the same words in the same order.
    #[test]
    fn a_fleet_named_like_anothers_runner_never_meets_it(
        fleet in "[a-z](-?[a-z0-9]){0,4}", targets in ("i|[gp][1-9]{1,3}", "i|[gp][1-9]{1,3}"), rest in "[a-z](-?[a-z]){0,9}",
    ) {
        let (first, second) = targets;
        let name = |text: &str| FleetName::new(text).unwrap();
        let key = |text: &str| text.parse::<RunnerKey>().unwrap();
        let one = (name(&fleet), key(&format!("{first}-{second}-{rest}")));
        let other = (name(&format!("{fleet}-{first}")), key(&format!("{second}-{rest}")));
        keep_apart((&one.0, &one.1), (&other.0, &other.1))?;
        let shared = |fleet: &(FleetName, RunnerKey)| names::namespace_of(&fleet.0, &fleet.1, Isolation::Profile, None);
        prop_assert_ne!(shared(&one), shared(&other));
    }

    /// On an identity that several fleets share, a prefix tells whose a credential is.
    #[test]
    fn a_credential_belongs_to_one_fleet(fleets in (any_fleet(), any_fleet()), key in any_key()) {
        prop_assume!(fleets.0 != fleets.1);
        let name = names::credential(&fleets.0, &key.to_string(), "https://issuer.example.com/", "subject");
        prop_assert!(name.starts_with(&names::credential_prefix(&fleets.0)));
        prop_assert!(!name.starts_with(&names::credential_prefix(&fleets.1)), "{name} and {}", fleets.1);
        let namespace = names::namespace_of(&fleets.0, &key, Isolation::Target, None);
        prop_assert!(namespace.starts_with(&names::job_namespace_prefix(&fleets.0)));
        prop_assert!(!namespace.starts_with(&names::job_namespace_prefix(&fleets.1)), "{namespace}");
    }

    #[test]
    fn two_units_never_share_a_status(one in any_unit(), other in any_unit()) {
        prop_assume!(one != other);
        prop_assert_ne!(names::status_map(&one), names::status_map(&other));
    }

    /// A path is what members of a group may choose. Nothing that we name is made of it.
    #[test]
    fn no_path_shows_in_a_name(path in any_path(), id in 43_u64..1000, profile in any_profile(), fleet in any_fleet()) {
        let text = file(&fleet, &profile);
        let (parsed, _) = Fleet::parse(&text, None, "2026-11-24T08:00:00Z".parse().unwrap())
            .map_err(|problems| TestCaseError::reject(format!("{problems:?}")))?;
        let of = |path: &str| {
            let ancestors = vec![(GroupId(42), "top".to_owned())];
            let target = TargetFacts { id: TargetId::Group(GroupId(id)), path: path.to_owned(), ancestors, personal: false };
            parsed.wanted(&target)
        };
        let (found, plain) = (of(&path), of("top/plain"));
        prop_assert_eq!(found.len(), 1);
        let [WantedState::Runner(found), WantedState::Runner(plain)] = [&found[0].state, &plain[0].state] else {
            return Err(TestCaseError::fail(format!("{found:?}")));
        };
        prop_assert_eq!(found, plain);
        prop_assert_eq!(&found.key, &RunnerKey { target: TargetId::Group(GroupId(id)), profile });
    }

    /// Whole objects: names, labels, annotations and references, for any fleet, key and isolation.
    #[test]
    fn every_object_has_legal_names_and_labels(fleet in any_fleet(), key in any_key(), shared in any::<bool>()) {
        for (mut world, mut spec) in [
            (example::company(), example::hardened()),
            (example::company(), example::image_build()),
            (example::plain(), example::default_profile()),
        ] {
            world.fleet.cluster.managers_namespace = names::managers_namespace(&fleet);
            world.fleet.name = fleet.clone();
            spec.key = key.clone();
            spec.isolation = if shared { Isolation::Profile } else { Isolation::Target };
            let objects = objects(&spec, &world.context());
            let mut known = std::collections::BTreeSet::new();
            for object in &objects {
                prop_assert!(is_dns_label(&object.name.name), "{}", object.name.name);
                prop_assert!(object.name.namespace.as_deref().is_none_or(is_dns_label), "{:?}", object.name);
                prop_assert!(known.insert(&object.name), "{:?} twice", object.name);
                check_metadata(&object.body).map_err(TestCaseError::fail)?;
            }
        }
    }

    /// Long profile names of one beginning are cut at the same place: the hash tells them apart.
    #[test]
    fn long_neighbours_never_meet(id in (u64::MAX - 9)..=u64::MAX, ends in ("[a-z]", "[a-z]")) {
        prop_assume!(ends.0 != ends.1);
        let fleet = FleetName::new("a-fleet-of-20-letter").unwrap();
        let key = |end: &str| RunnerKey {
            target: TargetId::Group(GroupId(id)),
            profile: ProfileName::new(&format!("a-profile-of-thirty-letters-x{end}")).unwrap(),
        };
        let others = names_of(&fleet, &key(&ends.1));
        for name in names_of(&fleet, &key(&ends.0)) {
            prop_assert!(!others.contains(&name), "{name:?}");
        }
    }

    /// A runner's own domain and the one that its profile shares have different names, whatever the profile is called.
    #[test]
    fn shared_domains_never_meet_runners(fleets in (any_fleet(), any_fleet()), key in any_key(), shared in any_key()) {
        let domains = (names::domain_key(&key, Isolation::Target), names::domain_key(&shared, Isolation::Profile));
        for (one, other) in [(&fleets.0, &fleets.0), (&fleets.0, &fleets.1), (&fleets.1, &fleets.0)] {
            let own = names::namespace_of(one, &key, Isolation::Target, None);
            prop_assert_ne!(&own, &names::namespace_of(other, &shared, Isolation::Profile, None));
            prop_assert_ne!(&own, &names::managers_namespace(other));
            prop_assert_ne!(names::identity(one, &domains.0), names::identity(other, &domains.1));
        }
    }

    #[test]
    fn two_fleets_have_two_namespaces_of_managers_and_two_sets_of_rights(one in any_fleet(), other in any_fleet()) {
        prop_assume!(one != other);
        prop_assert_ne!(names::managers_namespace(&one), names::managers_namespace(&other));
        prop_assert_ne!(names::own_rights(&one), names::own_rights(&other));
    }

    /// Who the principal is decides the id: an identity made anew needs new assignments.
    #[test]
    fn assignments_differ_by_scope_principal_and_role(
        ids in (any_identity(), any_identity()), principals in any::<(u128, u128)>(), roles in any::<(u128, u128)>(),
    ) {
        prop_assume!(ids.0 != ids.1 && principals.0 != principals.1 && roles.0 != roles.1);
        let name = |id: &ResourceId, principal, role| names::role_assignment(id, Uuid::from_u128(principal), Uuid::from_u128(role));
        let base = name(&ids.0, principals.0, roles.0);
        prop_assert_ne!(base, name(&ids.1, principals.0, roles.0));
        prop_assert_ne!(base, name(&ids.0, principals.1, roles.0));
        prop_assert_ne!(base, name(&ids.0, principals.0, roles.1));
    }

    #[test]
    fn two_identities_never_share_a_unit(one in any_identity(), other in any_identity()) {
        prop_assume!(one != other);
        prop_assert_ne!(names::identity_unit(&one), names::identity_unit(&other));
    }
}
