//! Where a host is, for rules that know addresses only.

use super::{Http, loopback};
use std::{io, net::IpAddr};
use url::Url;

impl Http {
    /// The addresses that the URL's host resolves to now; none for a host that a sandbox on this machine plays.
    pub async fn addresses(&self, url: &Url) -> io::Result<Vec<IpAddr>> {
        if loopback::route(&self.inner.settings.loopback, url).is_some() {
            return Ok(vec![]);
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let port = url.port_or_known_default().unwrap_or(443);
        let found = tokio::net::lookup_host((host, port)).await?;
        // A cluster on this very machine has no address that a pod could misuse.
        Ok(found.map(|address| address.ip()).filter(|ip| !ip.is_loopback()).collect())
    }
}
