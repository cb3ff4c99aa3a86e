//! Which hosts are played on this machine: `gitlab.example.com=8080,*.vault.azure.net=8081`.

use std::fmt;

/// A host's name in lower case; `*.` at its start stands for one or more labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(String);

impl HostPattern {
    pub fn matches(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        match self.0.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => host == self.0,
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn read(list: &str) -> Option<Vec<(HostPattern, u16)>> {
    let entry = |text: &str| {
        let (host, port) = text.trim().split_once('=')?;
        let host = host.to_ascii_lowercase();
        let plain = host.strip_prefix("*.").unwrap_or(&host);
        let port = port.parse().ok().filter(|port| *port != 0)?;
        is_host(plain).then(|| (HostPattern(host.clone()), port))
    };
    list.split(',').filter(|text| !text.trim().is_empty()).map(entry).collect()
}

/// Letters, digits, hyphens and inner dots.
pub(super) fn is_host(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !text.is_empty() && text.chars().all(known) && !text.starts_with('.') && !text.ends_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_pattern_matches_whole_labels_in_any_case() {
        let loopback = read("gitlab.example.com=8080, *.vault.azure.net=8081,").unwrap();
        let port =
            |host: &str| loopback.iter().find(|(p, _)| p.matches(host)).map(|(_, port)| *port);
        assert_eq!(port("GitLab.Example.com"), Some(8080));
        assert_eq!(port("a.gitlab.example.com"), None);
        assert_eq!(port("kv-x.vault.azure.net"), Some(8081));
        assert_eq!(port("vault.azure.net"), None);
        assert_eq!(port("evilvault.azure.net"), None);
    }
}
