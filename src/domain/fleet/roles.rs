//! Azure's built-in roles: GUID, and what a role can do. GUIDs are the same in every tenant (azure.md §5.7).

use uuid::{Uuid, uuid};

/// What holding a role allows at worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Power {
    /// Reads only.
    Reads,
    /// Changes or deletes something, or is not known to us.
    Writes,
    /// Can give rights on: writes role assignments, or credentials on identities. Never assigned by forerunner.
    Authorizes,
}

/// A built-in role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    pub name: &'static str,
    pub id: Uuid,
    pub power: Power,
}

const fn role(name: &'static str, id: Uuid, power: Power) -> Role {
    Role { name, id, power }
}

/// The roles that a file may name; every other role is written as its GUID.
pub static BUILT_IN: &[Role] = &[
    role("Owner", uuid!("8e3af657-a8ff-443c-a75c-2fe8c4bcb635"), Power::Authorizes),
    role(
        "User Access Administrator",
        uuid!("18d7d88d-d35e-4fb5-a5c3-7773c20a72d9"),
        Power::Authorizes,
    ),
    role(
        "Role Based Access Control Administrator",
        uuid!("f58310d9-a9f6-439a-9e8d-f62e7b41a168"),
        Power::Authorizes,
    ),
    role(
        "Managed Identity Contributor",
        uuid!("e40ec5ca-96e0-45a2-b4ff-59039f2c2b59"),
        Power::Authorizes,
    ),
    role("Contributor", uuid!("b24988ac-6180-42a0-ab88-20f7382dd24c"), Power::Writes),
    role("Reader", uuid!("acdd72a7-3385-48ef-bd42-f606fba81ae7"), Power::Reads),
    role("AcrPull", uuid!("7f951dda-4ed3-4680-a7ca-43fe172d538d"), Power::Reads),
    role("AcrPush", uuid!("8311e382-0749-4cb8-b61a-304f252e45ec"), Power::Writes),
    role("Key Vault Reader", uuid!("21090545-7ca7-4776-b22c-e363652d74d2"), Power::Reads),
    role("Key Vault Secrets User", uuid!("4633458b-17de-408a-b874-0445c86b69e6"), Power::Reads),
    role("Key Vault Secrets Officer", uuid!("b86a8fe4-44ce-4948-aee5-eccb2c155cd7"), Power::Writes),
    role("Managed Identity Operator", uuid!("f1a07417-d97a-45cb-824c-7a7467783830"), Power::Writes),
    role(
        "Azure Kubernetes Service RBAC Cluster Admin",
        uuid!("b1ff04bb-8a4e-4dc4-8eb5-8693973ce19b"),
        Power::Writes,
    ),
    role(
        "Azure Kubernetes Service RBAC Admin",
        uuid!("3498e952-d568-435e-9b2c-8d77e338d7f7"),
        Power::Writes,
    ),
    role(
        "Azure Kubernetes Service RBAC Writer",
        uuid!("a7ffa36f-339b-4b5c-8bdf-e2c188b2c0eb"),
        Power::Writes,
    ),
    role(
        "Azure Kubernetes Service RBAC Reader",
        uuid!("7f6c6a51-bcf8-42ba-9220-52d62157d7db"),
        Power::Reads,
    ),
    role(
        "Azure Kubernetes Service Cluster User Role",
        uuid!("4abbcc35-e782-43d8-92c5-2d3f1bd2253f"),
        Power::Reads,
    ),
    role(
        "Azure Service Bus Data Owner",
        uuid!("090c5cfd-751d-490a-894a-3ce6f1109419"),
        Power::Writes,
    ),
    role(
        "Azure Service Bus Data Sender",
        uuid!("69a216fc-b8fb-44d8-bc22-1f3c2cd27a39"),
        Power::Writes,
    ),
    role(
        "Azure Service Bus Data Receiver",
        uuid!("4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0"),
        Power::Writes,
    ),
    role(
        "Monitoring Metrics Publisher",
        uuid!("3913510d-42f4-4e42-8a64-420c390055eb"),
        Power::Writes,
    ),
    role("Storage Blob Data Owner", uuid!("b7e6dc6d-f1e8-4753-8033-0f276bb0955b"), Power::Writes),
    role(
        "Storage Blob Data Contributor",
        uuid!("ba92f5b4-2d11-453d-a403-e96b0029c9fe"),
        Power::Writes,
    ),
    role("Storage Blob Data Reader", uuid!("2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"), Power::Reads),
    role("Monitoring Reader", uuid!("43d0d8ad-25c7-4714-9337-8ba259a9fe05"), Power::Reads),
    role("Network Contributor", uuid!("4d97b98b-1d4f-4787-a291-c67834d212e7"), Power::Writes),
];

/// Finds a role by its name (case ignored) or GUID.
pub fn find(text: &str) -> Option<(Uuid, String)> {
    if let Ok(id) = Uuid::parse_str(text) {
        let name = by_id(id).map_or_else(|| id.to_string(), |known| known.name.to_owned());
        return Some((id, name));
    }
    let known = BUILT_IN.iter().find(|role| role.name.eq_ignore_ascii_case(text))?;
    Some((known.id, known.name.to_owned()))
}

/// A built-in role by its GUID.
pub fn by_id(id: Uuid) -> Option<&'static Role> {
    BUILT_IN.iter().find(|role| role.id == id)
}

/// What a role can do at worst. One that we do not know counts as writing.
pub fn power(id: Uuid) -> Power {
    by_id(id).map_or(Power::Writes, |role| role.power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_stand_once() {
        for (index, role) in BUILT_IN.iter().enumerate() {
            for other in &BUILT_IN[index + 1..] {
                assert!(role.name != other.name && role.id != other.id, "{}", role.name);
            }
        }
    }

    #[test]
    fn a_role_that_nobody_knows_counts_as_writing() {
        assert_eq!(power(Uuid::from_u128(7)), Power::Writes);
        assert_eq!(find("reader").map(|(id, _)| power(id)), Some(Power::Reads));
        assert_eq!(find("No Such Role"), None);
    }
}
