//! Which Azure: what differs between the public cloud and the sovereign ones (azure.md §2.5).

use std::str::FromStr;
use url::Url;

/// Every endpoint and audience that a cloud has of its own. The Service Bus namespace is named in full elsewhere, and an
/// AKS API server has one audience everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// Where Entra gives tokens, such as `https://login.microsoftonline.com`.
    pub authority: Url,
    /// ARM and Resource Graph; tokens for them are made out for this very address.
    pub resource_manager: Url,
    /// What a vault's name ends in, such as `vault.azure.net`; tokens are made out for `https://` and this.
    pub key_vault_domain: String,
    pub service_bus_audience: String,
    /// What a federated credential's audience has to be, such as `api://AzureADTokenExchange`.
    pub token_exchange_audience: String,
}

/// The clouds that can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudName {
    Public,
    UsGovernment,
    China,
}

impl FromStr for CloudName {
    type Err = ();

    /// The names that `az cloud list` shows, in any case.
    fn from_str(text: &str) -> Result<Self, ()> {
        let names = [
            ("AzureCloud", Self::Public),
            ("AzureUSGovernment", Self::UsGovernment),
            ("AzureChinaCloud", Self::China),
        ];
        let found = names.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
        found.map(|(_, cloud)| cloud).ok_or(())
    }
}

impl Cloud {
    pub fn named(name: CloudName) -> Self {
        let [authority, manager, vault, audience] = match name {
            CloudName::Public => [
                "https://login.microsoftonline.com",
                "https://management.azure.com",
                "vault.azure.net",
                "api://AzureADTokenExchange",
            ],
            CloudName::UsGovernment => [
                "https://login.microsoftonline.us",
                "https://management.usgovcloudapi.net",
                "vault.usgovcloudapi.net",
                "api://AzureADTokenExchangeUSGov",
            ],
            CloudName::China => [
                "https://login.chinacloudapi.cn",
                "https://management.chinacloudapi.cn",
                "vault.azure.cn",
                "api://AzureADTokenExchangeChina",
            ],
        };
        let url = |text: &str| Url::parse(text).expect("our own constants are URLs");
        Self {
            authority: url(authority),
            resource_manager: url(manager),
            key_vault_domain: vault.to_owned(),
            service_bus_audience: "https://servicebus.azure.net".to_owned(),
            token_exchange_audience: audience.to_owned(),
        }
    }

    /// What tokens for ARM and Resource Graph are made out for.
    pub fn resource_manager_audience(&self) -> &str {
        self.resource_manager.as_str().trim_end_matches('/')
    }

    pub fn key_vault_audience(&self) -> String {
        format!("https://{}", self.key_vault_domain)
    }
}

impl Default for Cloud {
    fn default() -> Self {
        Self::named(CloudName::Public)
    }
}
