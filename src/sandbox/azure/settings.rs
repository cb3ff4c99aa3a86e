//! What a sandbox's Azure can be told: seed, lags, limits and the answers that the specification leaves open.

use std::time::Duration;

/// How this Azure behaves. The default is immediate and unthrottled, for tests.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Every GUID, key and lag is drawn from it.
    pub seed: u64,
    /// The one tenant; `None` draws one.
    pub tenant: Option<uuid::Uuid>,
    /// Where new identities' clusters and vaults stand.
    pub location: String,
    pub lags: Lags,
    /// How long a write of a federated credential holds its identity, in real time as the network's latency is.
    pub credential_write: Duration,
    /// Items in one page of an ARM list; Key Vault has 25 at most.
    pub page_size: usize,
    /// Role assignments in one subscription (azure.md §5.5).
    pub assignments_max: usize,
    /// The status of a repeated, identical role assignment: 201 or 200 (azure.md §12.6).
    pub repeated_assignment_status: u16,
    /// The status of a second credential with the same issuer and subject: 400 or 409 (azure.md §4.3).
    pub duplicate_pair_status: u16,
    /// Whether the buckets of azure.md §3.2 and §10.1 refuse anything; they count in any case.
    pub throttling: bool,
    /// Whether `Retry-After` is an HTTP date and not seconds.
    pub retry_after_as_date: bool,
    /// How long a deleted secret is neither there nor recoverable.
    pub secret_deletion: Duration,
}

/// How long after a write its effect is seen elsewhere (azure.md §12.4, §12.10).
#[derive(Clone, Copy, Debug, Default)]
pub struct Lags {
    /// A new identity answers GET, on and off, with 404.
    pub identity_read: Lag,
    /// The directory does not know a new principal.
    pub principal: Lag,
    /// A credential cannot be used.
    pub credential: Lag,
    /// Resource Graph shows the state before.
    pub graph: Lag,
}

/// A duration drawn between two bounds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lag {
    pub least: Duration,
    pub most: Duration,
}

impl Lag {
    pub fn exactly(duration: Duration) -> Self {
        Self { least: duration, most: duration }
    }

    fn seconds(least: u64, most: u64) -> Self {
        Self { least: Duration::from_secs(least), most: Duration::from_secs(most) }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            tenant: None,
            location: "westeurope".to_owned(),
            lags: Lags::default(),
            credential_write: Duration::ZERO,
            page_size: 100,
            assignments_max: 4000,
            repeated_assignment_status: 201,
            duplicate_pair_status: 400,
            throttling: false,
            retry_after_as_date: false,
            secret_deletion: Duration::ZERO,
        }
    }
}

impl Settings {
    /// The lags, limits and throttles of azure.md §12.
    pub fn realistic() -> Self {
        Self {
            lags: Lags {
                identity_read: Lag::seconds(0, 10),
                principal: Lag::seconds(0, 60),
                credential: Lag::seconds(5, 120),
                graph: Lag::exactly(Duration::from_secs(30)),
            },
            credential_write: Duration::from_millis(800),
            throttling: true,
            secret_deletion: Duration::from_secs(20),
            ..Self::default()
        }
    }
}
