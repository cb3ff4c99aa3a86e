//! ARM ids as text: compared without regard to case, cut into segments.

use uuid::Uuid;

/// Whether `scope` is `other` or lies above it, segment by segment. `/` is above all.
pub(super) fn contains(scope: &str, other: &str) -> bool {
    let (scope, other) = (scope.trim_end_matches('/').to_ascii_lowercase(), lower(other));
    other.strip_prefix(&scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(super) fn lower(id: &str) -> String {
    id.trim_end_matches('/').to_ascii_lowercase()
}

/// The segment after `key`, such as the name after `resourceGroups`.
pub(super) fn segment<'id>(id: &'id str, key: &str) -> Option<&'id str> {
    let mut segments = id.split('/');
    segments.find(|segment| segment.eq_ignore_ascii_case(key))?;
    segments.next()
}

pub(super) fn name(id: &str) -> &str {
    id.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// `Microsoft.X/types/sub` of a resource id that ends in a name.
pub(super) fn resource_type(id: &str) -> Option<String> {
    let (_, tail) = split_last_provider(id)?;
    let mut segments = tail.split('/');
    let namespace = segments.next()?;
    let types: Vec<&str> = segments.step_by(2).collect();
    (!types.is_empty()).then(|| format!("{namespace}/{}", types.join("/")))
}

/// What stands before and after the last `/providers/`.
pub(super) fn split_last_provider(id: &str) -> Option<(&str, &str)> {
    let at = id.to_ascii_lowercase().rfind("/providers/")?;
    Some((&id[..at], &id[at + "/providers/".len()..]))
}

/// The GUID at the end of a role definition's or assignment's id (azure.md §0).
pub(super) fn last_guid(id: &str) -> Option<Uuid> {
    Uuid::parse_str(name(id)).ok()
}

/// An id with its name replaced by lower-case `resourcegroups`, as identities are shown.
pub(super) fn with_lower_resource_groups(id: &str) -> String {
    let segments: Vec<&str> = id.split('/').collect();
    let lowered = segments.iter().map(|segment| {
        if segment.eq_ignore_ascii_case("resourcegroups") { "resourcegroups" } else { segment }
    });
    lowered.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_contains_what_lies_below_it_and_not_its_namesakes() {
        let cases = [
            ("/", "/subscriptions/a", true),
            ("/subscriptions/A", "/subscriptions/a/resourceGroups/rg", true),
            ("/subscriptions/a/resourceGroups/rg", "/subscriptions/a/resourcegroups/RG", true),
            ("/subscriptions/a/resourceGroups/rg", "/subscriptions/a/resourceGroups/rg2", false),
            ("/subscriptions/a/resourceGroups/rg", "/subscriptions/a", false),
        ];
        for (scope, other, expected) in cases {
            assert_eq!(contains(scope, other), expected, "{scope} and {other}");
        }
    }

    #[test]
    fn the_type_of_a_resource_is_read_off_its_id() {
        let id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.A/bs/b/cs/c";
        assert_eq!(resource_type(id).as_deref(), Some("Microsoft.A/bs/cs"));
        assert_eq!(resource_type("/subscriptions/s"), None);
    }
}
