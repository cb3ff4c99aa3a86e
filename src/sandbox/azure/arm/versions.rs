//! Which `api-version`s each resource type takes (azure.md §0, §12.2).

use crate::sandbox::azure::{answer::Answer, call::Call, scope};

const MANAGED_IDENTITY: &[&str] = &[
    "2023-01-31",
    "2024-11-30",
    "2025-01-31-preview",
    "2025-05-31-preview",
    "2026-04-30",
    "2026-05-31",
];
const AUTHORIZATION: &[&str] = &["2015-07-01", "2020-04-01-preview", "2022-04-01", "2026-08-01"];
const CONTAINER_SERVICE: &[&str] = &["2025-10-01", "2026-04-01", "2026-08-01"];
const RESOURCE_GRAPH: &[&str] = &["2021-03-01", "2022-10-01", "2024-04-01"];

/// 400 where the version is missing or not one of the type's. Types that nobody wrote down take any date.
pub(super) fn check(call: &Call) -> Result<(), Answer> {
    let Some(version) = call.query("api-version") else {
        let message =
            "The api-version query parameter (?api-version=) is required for all requests.";
        return Err(Answer::refusal(400, "MissingApiVersionParameter", message));
    };
    let namespace = scope::split_last_provider(&call.path)
        .map(|(_, tail)| tail.split('/').next().unwrap_or_default().to_ascii_lowercase());
    let known = match namespace.as_deref() {
        Some("microsoft.managedidentity") => Some(MANAGED_IDENTITY),
        Some("microsoft.authorization") => Some(AUTHORIZATION),
        Some("microsoft.containerservice") => Some(CONTAINER_SERVICE),
        Some("microsoft.resourcegraph") => Some(RESOURCE_GRAPH),
        Some(_) | None => None,
    };
    let taken = known.map_or_else(|| is_date(version), |known| known.contains(&version));
    if taken {
        return Ok(());
    }
    let supported = known.map(|known| known.join(",")).unwrap_or_default();
    let message = format!(
        "The api-version '{version}' is invalid. The supported versions are '{supported}'."
    );
    Err(Answer::refusal(400, "InvalidApiVersionParameter", message))
}

fn is_date(version: &str) -> bool {
    let date = version.strip_suffix("-preview").unwrap_or(version);
    date.parse::<jiff::civil::Date>().is_ok()
}
