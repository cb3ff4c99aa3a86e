//! HTTP to hosts that are played on this machine.

use super::failure::Failure;
use reqwest::{Client, Method};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use url::Url;

pub(super) struct Wire {
    client: Client,
    /// Host → where it is played.
    hosts: Vec<(String, SocketAddr)>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Wire {
    /// `loopback` is `host=port,host=port`; in a pod, where the sandbox is elsewhere, `host=address:port`.
    pub(super) fn new(loopback: &str) -> Result<Self, Failure> {
        let _installed_already = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().tls_certs_only([]).build();
        let client = client.map_err(|error| Failure::failed(error.to_string()))?;
        let entries = loopback.split(',').filter_map(|entry| entry.split_once('='));
        let hosts = entries.filter_map(|(host, port)| {
            let port = port.trim();
            let here = || Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?)));
            let played = port.parse().ok().or_else(here)?;
            Some((host.trim().to_ascii_lowercase(), played))
        });
        Ok(Self { client, hosts: hosts.collect() })
    }

    pub(super) async fn send(
        &self,
        method: Method,
        url: &str,
        token: Option<&str>,
        body: Option<(&str, String)>,
    ) -> Result<Answer, Failure> {
        let parsed =
            Url::parse(url).map_err(|_| Failure::misused(format!("'{url}' is not a valid URL")))?;
        let host = parsed.host_str().unwrap_or_default();
        let unreachable = || {
            Failure::failed(format!(
                "HTTPSConnectionPool(host='{host}', port=443): Max retries exceeded with url: {}",
                parsed.path()
            ))
        };
        let played = self.hosts.iter().find(|(pattern, _)| match pattern.strip_prefix('*') {
            Some(suffix) => host.ends_with(suffix),
            None => host == pattern,
        });
        let (_, played) = played.ok_or_else(unreachable)?;
        let query = parsed.query().map(|query| format!("?{query}")).unwrap_or_default();
        let target = format!("http://{played}{}{query}", parsed.path());
        let mut request = self
            .client
            .request(method, target)
            .header("Host", host)
            .header("User-Agent", "AZURECLI/2.80.0 (sandbox)");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some((media_type, body)) = body {
            request = request.header("Content-Type", media_type).body(body);
        }
        let response = request.send().await.map_err(|_| unreachable())?;
        let status = response.status().as_u16();
        let text = response.text().await.map_err(|_| unreachable())?;
        Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or_default() })
    }
}
