//! Which hosts are played by a sandbox on this machine.

use crate::domain::ids::NotValid;
use std::str::FromStr;
use url::Url;

/// A host and the port of 127.0.0.1 that plays it. Written `host=port`; the host may start with `*.`, which stands
/// for one or more labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loopback {
    host: String,
    port: u16,
}

impl Loopback {
    pub fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_ascii_lowercase(), port }
    }

    fn plays(&self, host: &str) -> bool {
        match self.host.strip_prefix('*') {
            Some(ending) => host.len() > ending.len() && host.ends_with(ending),
            None => host == self.host,
        }
    }
}

impl FromStr for Loopback {
    type Err = NotValid;

    fn from_str(text: &str) -> Result<Self, NotValid> {
        let parsed = text.trim().split_once('=').and_then(|(host, port)| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '*' | '_');
            let valid = !host.is_empty() && host.chars().all(known);
            let inner = host.strip_prefix("*.").unwrap_or(host);
            (valid && !inner.is_empty() && !inner.contains('*')).then_some(())?;
            Some(Self::new(host, port.parse().ok().filter(|port| *port != 0)?))
        });
        parsed.ok_or_else(|| NotValid {
            text: text.to_owned(),
            what: "a loopback rule, such as `*.vault.azure.net=9001`",
        })
    }
}

/// Where a request for `url` really goes; `None` means to `url` itself. Only `https` is ever moved.
pub(super) fn route(table: &[Loopback], url: &Url) -> Option<Url> {
    let host = url.host_str().filter(|_| url.scheme() == "https")?;
    let rule = table.iter().find(|rule| rule.plays(host))?;
    let mut moved = url.clone();
    moved.set_scheme("http").ok()?;
    moved.set_host(Some("127.0.0.1")).ok()?;
    moved.set_port(Some(rule.port)).ok()?;
    Some(moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_host_moves_to_loopback_and_no_other() {
        let table = ["gitlab.example.com=9001", "*.vault.azure.net=9002"]
            .map(|rule| rule.parse::<Loopback>().unwrap());
        let check = |url: &str, moved: Option<&str>| {
            let routed = route(&table, &url.parse().unwrap());
            assert_eq!(routed.as_ref().map(Url::as_str), moved, "{url}");
        };
        check("https://gitlab.example.com/a?b=c", Some("http://127.0.0.1:9001/a?b=c"));
        check("https://GitLab.Example.com:8443/", Some("http://127.0.0.1:9001/"));
        check("https://kv-x.vault.azure.net/", Some("http://127.0.0.1:9002/"));
        check("https://a.b.vault.azure.net/", Some("http://127.0.0.1:9002/"));
        check("https://vault.azure.net/", None);
        check("https://evilvault.azure.net/", None);
        check("https://gitlab.example.com.evil.example/", None);
        check("http://gitlab.example.com/", None);
    }

    #[test]
    fn a_rule_without_host_or_port_is_refused() {
        for text in ["", "host", "=1", "host=", "host=0", "host=70000", "*=1", "*.=1", "a*b=1"] {
            assert!(text.parse::<Loopback>().is_err(), "{text}");
        }
    }
}
