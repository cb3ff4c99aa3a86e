//! Who is signed in, kept between commands in a file that only its owner reads.

use super::{
    failure::Failure,
    wire::{Answer, Wire},
};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf};

pub(super) const ARM: &str = "https://management.azure.com";
const SUBSCRIPTIONS_VERSION: &str = "2022-12-01";

pub(super) struct Session {
    directory: PathBuf,
    pub(super) wire: Wire,
    pub(super) account: Option<Account>,
}

/// A sign-in. The assertion is kept as az keeps it: it is asked for tokens with it again and again.
#[derive(Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) client_id: String,
    pub(super) tenant: String,
    assertion: String,
    /// For ARM.
    access_token: String,
    pub(super) subscriptions: Vec<Subscription>,
    /// Index of the one in use.
    pub(super) chosen: usize,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Subscription {
    pub(super) id: String,
    pub(super) name: String,
}

impl Session {
    pub(super) fn load(directory: PathBuf, wire: Wire) -> Self {
        let text = fs::read_to_string(directory.join("sandbox.json")).unwrap_or_default();
        Self { directory, wire, account: serde_json::from_str(&text).ok() }
    }

    pub(super) fn save(&self) -> Result<(), Failure> {
        let text = json!(self.account).to_string();
        let write = || {
            fs::create_dir_all(&self.directory)?;
            let mut options = fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            options.open(self.directory.join("sandbox.json"))?.write_all(text.as_bytes())
        };
        write().map_err(|error| Failure::failed(error.to_string()))
    }

    pub(super) fn account(&self) -> Result<&Account, Failure> {
        self.account.as_ref().ok_or_else(Failure::not_signed_in)
    }

    /// Exchanges the assertion, and looks which subscriptions there are.
    pub(super) async fn sign_in(
        &mut self,
        client_id: &str,
        tenant: &str,
        assertion: &str,
    ) -> Result<(), Failure> {
        let token = exchange(&self.wire, client_id, tenant, assertion, ARM).await?;
        self.account = Some(Account {
            client_id: client_id.to_owned(),
            tenant: tenant.to_owned(),
            assertion: assertion.to_owned(),
            access_token: token.expose_secret().to_owned(),
            subscriptions: Vec::new(),
            chosen: 0,
        });
        let url = format!("{ARM}/subscriptions?api-version={SUBSCRIPTIONS_VERSION}");
        let listed = self.call(Method::GET, &url, None).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let listed = listed["value"].as_array().into_iter().flatten();
        let subscriptions = listed.map(|each| Subscription {
            id: text(&each["subscriptionId"]),
            name: text(&each["displayName"]),
        });
        let subscriptions = subscriptions.collect();
        if let Some(account) = &mut self.account {
            account.subscriptions = subscriptions;
        }
        Ok(())
    }

    /// A token for another resource than ARM, or for ARM.
    pub(super) async fn token_for(&self, resource: &str) -> Result<SecretString, Failure> {
        let Account { client_id, tenant, assertion, .. } = self.account()?;
        exchange(&self.wire, client_id, tenant, assertion, resource).await
    }

    /// Calls ARM; whatever is not a success is a failure in az's words.
    pub(super) async fn call(
        &mut self,
        method: Method,
        url: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let answer = self.ask(method, url, body).await?;
        if (200..300).contains(&answer.status) {
            Ok(answer.body)
        } else {
            Err(Failure::refused(answer.status, &answer.body))
        }
    }

    /// The same with the answer as it is. A token that has expired is exchanged anew, once.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        url: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let payload = body.map(|body| ("application/json", body.to_string()));
        let token = &self.account()?.access_token;
        let answer = self.wire.send(method.clone(), url, Some(token), payload.clone()).await?;
        if answer.status != 401 || answer.body["error"]["code"] != "ExpiredAuthenticationToken" {
            return Ok(answer);
        }
        let token = self.token_for(ARM).await?;
        if let Some(account) = &mut self.account {
            account.access_token = token.expose_secret().to_owned();
        }
        self.save()?;
        self.wire.send(method, url, Some(token.expose_secret()), payload).await
    }
}

/// The exchange of azure.md §4.4.
async fn exchange(
    wire: &Wire,
    client_id: &str,
    tenant: &str,
    assertion: &str,
    resource: &str,
) -> Result<SecretString, Failure> {
    let url = format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token");
    let scope = format!("{}/.default", resource.trim_end_matches('/'));
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", client_id)
        .append_pair("scope", &scope)
        .append_pair(
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        )
        .append_pair("client_assertion", assertion)
        .finish();
    let body = ("application/x-www-form-urlencoded", form);
    let answer = wire.send(Method::POST, &url, None, Some(body)).await?;
    match answer.body["access_token"].as_str() {
        Some(token) if answer.status == 200 => Ok(token.to_owned().into()),
        _ => {
            let why = answer.body["error_description"].as_str();
            Err(Failure::failed(why.unwrap_or("the sign-in was refused")))
        }
    }
}
