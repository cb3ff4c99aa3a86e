//! Every name that forerunner gives is legal where it is used, and two different things never share one.

use forerunner::domain::{
    azure::ResourceId,
    ids::{FleetName, GroupId, InstallationId, ProfileName, ProjectId, RunnerKey, TargetId, Unit},
    marker::Marker,
    message::{Message, Reason},
    names,
    spec::Isolation,
};
use proptest::prelude::*;
use uuid::Uuid;

fn any_fleet() -> impl Strategy<Value = FleetName> {
    "[a-z]([a-z0-9-]{0,18}[a-z0-9])?".prop_map(|text| FleetName::new(&text).unwrap())
}

fn any_profile() -> impl Strategy<Value = ProfileName> {
    "[a-z]([a-z0-9-]{0,28}[a-z0-9])?".prop_map(|text| ProfileName::new(&text).unwrap())
}

fn any_target() -> impl Strategy<Value = TargetId> {
    let id = prop_oneof![1_u64..100, any::<u64>().prop_map(|id| id.max(1))];
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

    #[test]
    fn two_keys_never_meet(fleet in any_fleet(), one in any_key(), other in any_key()) {
        prop_assume!(one != other);
        let others = names_of(&fleet, &other);
        for name in names_of(&fleet, &one) {
            prop_assert!(!others.contains(&name), "{name:?} of {one} and {other}");
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
    fn shared_domains_never_meet_runners(fleet in any_fleet(), key in any_key(), shared in any_key()) {
        let own = names::namespace_of(&fleet, &key, Isolation::Target, None);
        let common = names::namespace_of(&fleet, &shared, Isolation::Profile, None);
        prop_assert_ne!(own, common);
        let managers = names::managers_namespace(&fleet);
        prop_assert_ne!(names::namespace_of(&fleet, &key, Isolation::Target, None), managers);
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
