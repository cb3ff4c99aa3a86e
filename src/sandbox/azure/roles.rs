//! Role definitions: what each role lets its holder do. Facts: azure.md §5.7 and the built-in roles' published pages.

use uuid::Uuid;

/// A role with its patterns; `*` stands for any text, case is ignored.
#[derive(Clone, Debug)]
pub(super) struct Role {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) custom: bool,
    pub(super) actions: Vec<String>,
    pub(super) not_actions: Vec<String>,
    pub(super) data_actions: Vec<String>,
}

impl Role {
    pub(super) fn allows(&self, action: &str) -> bool {
        let among = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, action));
        among(&self.actions) && !among(&self.not_actions)
    }

    pub(super) fn allows_data(&self, action: &str) -> bool {
        self.data_actions.iter().any(|pattern| matches(pattern, action))
    }
}

/// The built-in roles that a fleet and its tests meet.
pub(super) fn built_in() -> Vec<Role> {
    let identity = "Microsoft.ManagedIdentity/userAssignedIdentities";
    let reads =
        ["Microsoft.Authorization/*/read", "Microsoft.Resources/subscriptions/resourceGroups/read"];
    let and_reads = |own: &[&str]| -> Vec<String> {
        own.iter().chain(&reads).map(|action| (*action).to_owned()).collect()
    };
    let texts =
        |own: &[&str]| -> Vec<String> { own.iter().map(|text| (*text).to_owned()).collect() };
    let role = |id: &str, name: &str, actions: Vec<String>| Role {
        id: Uuid::parse_str(id).expect("the ids below are GUIDs"),
        name: name.to_owned(),
        custom: false,
        actions,
        not_actions: Vec::new(),
        data_actions: Vec::new(),
    };
    let data = |mut role: Role, data_actions: &[&str]| {
        role.data_actions = texts(data_actions);
        role
    };
    let mut contributor =
        role("b24988ac-6180-42a0-ab88-20f7382dd24c", "Contributor", texts(&["*"]));
    contributor.not_actions = texts(&[
        "Microsoft.Authorization/*/Delete",
        "Microsoft.Authorization/*/Write",
        "Microsoft.Authorization/elevateAccess/Action",
    ]);
    vec![
        role("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Owner", texts(&["*"])),
        contributor,
        role("acdd72a7-3385-48ef-bd42-f606fba81ae7", "Reader", texts(&["*/read"])),
        role(
            "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
            "User Access Administrator",
            texts(&["*/read", "Microsoft.Authorization/*"]),
        ),
        role(
            "f58310d9-a9f6-439a-9e8d-f62e7b41a168",
            "Role Based Access Control Administrator",
            texts(&[
                "Microsoft.Authorization/roleAssignments/write",
                "Microsoft.Authorization/roleAssignments/delete",
                "*/read",
            ]),
        ),
        role(
            "7f951dda-4ed3-4680-a7ca-43fe172d538d",
            "AcrPull",
            texts(&["Microsoft.ContainerRegistry/registries/pull/read"]),
        ),
        role(
            "8311e382-0749-4cb8-b61a-304f252e45ec",
            "AcrPush",
            texts(&[
                "Microsoft.ContainerRegistry/registries/pull/read",
                "Microsoft.ContainerRegistry/registries/push/write",
            ]),
        ),
        data(
            role("4633458b-17de-408a-b874-0445c86b69e6", "Key Vault Secrets User", Vec::new()),
            &[
                "Microsoft.KeyVault/vaults/secrets/getSecret/action",
                "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
            ],
        ),
        data(
            role(
                "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
                "Key Vault Secrets Officer",
                and_reads(&["Microsoft.KeyVault/vaults/*/read"]),
            ),
            &["Microsoft.KeyVault/vaults/secrets/*"],
        ),
        role(
            "e40ec5ca-96e0-45a2-b4ff-59039f2c2b59",
            "Managed Identity Contributor",
            and_reads(&[
                &format!("{identity}/read"),
                &format!("{identity}/write"),
                &format!("{identity}/delete"),
                &format!("{identity}/revokeTokens/action"),
                &format!("{identity}/federatedIdentityCredentials/*"),
            ]),
        ),
        role(
            "f1a07417-d97a-45cb-824c-7a7467783830",
            "Managed Identity Operator",
            and_reads(&[&format!("{identity}/*/read"), &format!("{identity}/*/assign/action")]),
        ),
        role(
            "4abbcc35-e782-43d8-92c5-2d3f1bd2253f",
            "Azure Kubernetes Service Cluster User Role",
            texts(&[
                "Microsoft.ContainerService/managedClusters/listClusterUserCredential/action",
                "Microsoft.ContainerService/managedClusters/read",
            ]),
        ),
        data(
            role(
                "b1ff04bb-8a4e-4dc4-8eb5-8693973ce19b",
                "Azure Kubernetes Service RBAC Cluster Admin",
                and_reads(&[]),
            ),
            &["Microsoft.ContainerService/managedClusters/*"],
        ),
        data(
            role(
                "a7ffa36f-339b-4b5c-8bdf-e2c188b2c0eb",
                "Azure Kubernetes Service RBAC Writer",
                and_reads(&[]),
            ),
            &[
                "Microsoft.ContainerService/managedClusters/*/read",
                "Microsoft.ContainerService/managedClusters/*/write",
                "Microsoft.ContainerService/managedClusters/*/delete",
            ],
        ),
        data(
            role(
                "7f6c6a51-bcf8-42ba-9220-52d62157d7db",
                "Azure Kubernetes Service RBAC Reader",
                and_reads(&[]),
            ),
            &["Microsoft.ContainerService/managedClusters/*/read"],
        ),
        data(
            role(
                "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
                "Storage Blob Data Owner",
                texts(&["Microsoft.Storage/storageAccounts/blobServices/containers/*"]),
            ),
            &["Microsoft.Storage/storageAccounts/blobServices/containers/blobs/*"],
        ),
        data(
            role(
                "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
                "Storage Blob Data Contributor",
                texts(&[
                    "Microsoft.Storage/storageAccounts/blobServices/containers/delete",
                    "Microsoft.Storage/storageAccounts/blobServices/containers/read",
                    "Microsoft.Storage/storageAccounts/blobServices/containers/write",
                ]),
            ),
            &["Microsoft.Storage/storageAccounts/blobServices/containers/blobs/*"],
        ),
        data(
            role(
                "090c5cfd-751d-490a-894a-3ce6f1109419",
                "Azure Service Bus Data Owner",
                texts(&["Microsoft.ServiceBus/*"]),
            ),
            &["Microsoft.ServiceBus/*"],
        ),
        data(
            role(
                "69a216fc-b8fb-44d8-bc22-1f3c2cd27a39",
                "Azure Service Bus Data Sender",
                Vec::new(),
            ),
            &["Microsoft.ServiceBus/*/send/action"],
        ),
        data(
            role(
                "4f6d3b9b-027b-4f4c-9142-0e5a2a2247e0",
                "Azure Service Bus Data Receiver",
                Vec::new(),
            ),
            &["Microsoft.ServiceBus/*/receive/action"],
        ),
        data(
            role(
                "3913510d-42f4-4e42-8a64-420c390055eb",
                "Monitoring Metrics Publisher",
                Vec::new(),
            ),
            &["Microsoft.Insights/Metrics/Write"],
        ),
    ]
}

/// Whether `text` is what `pattern` describes; `*` takes any run of characters.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_takes_any_run_of_characters() {
        let cases = [
            ("*", "Microsoft.A/b/read", true),
            ("*/read", "Microsoft.A/b/read", true),
            ("*/read", "Microsoft.A/b/write", false),
            (
                "Microsoft.Authorization/*/Write",
                "microsoft.authorization/roleAssignments/write",
                true,
            ),
            ("Microsoft.A/b/read", "Microsoft.A/b/read", true),
            ("Microsoft.A/b/read", "Microsoft.A/b/reader", false),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn a_contributor_writes_everything_but_authorization() {
        let roles = built_in();
        let contributor = roles.iter().find(|role| role.name == "Contributor").unwrap();
        assert!(contributor.allows("Microsoft.Storage/storageAccounts/write"));
        assert!(contributor.allows("Microsoft.Authorization/roleAssignments/read"));
        assert!(!contributor.allows("Microsoft.Authorization/roleAssignments/write"));
    }
}
