//! The commands, each with the calls that az makes for it.

use super::{
    arguments::Arguments,
    failure::Failure,
    session::{ARM, Account, Session},
};
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use uuid::Uuid;

const GROUPS_VERSION: &str = "2024-11-01";
const AUTHORIZATION_VERSION: &str = "2022-04-01";

/// Nothing where the command prints nothing.
pub(super) async fn run(
    arguments: &Arguments,
    session: &mut Session,
) -> Result<Option<Value>, Failure> {
    match arguments.command.as_str() {
        "login" => login(arguments, session).await.map(Some),
        "logout" => {
            session.account = None;
            session.save().map(|()| None)
        }
        "account set" => choose(arguments, session).map(|()| None),
        "account show" => show(session.account()?, session.account()?.chosen).map(Some),
        "account list" => Ok(Some(list_accounts(session.account()?))),
        "account get-access-token" => token(arguments, session).await.map(Some),
        "group list" => groups(arguments, session).await.map(Some),
        "group show" => {
            let url = group(arguments, session)?;
            session.call(Method::GET, &url, None).await.map(Some)
        }
        "group create" => {
            let url = group(arguments, session)?;
            let body = json!({"location": arguments.required("--location")?});
            session.call(Method::PUT, &url, Some(&body)).await.map(Some)
        }
        "role assignment create" => assign(arguments, session).await.map(Some),
        "role assignment list" => assignments(arguments, session).await.map(Some),
        "acr login" => sign_in_to_registry(arguments, session).await.map(Some),
        "rest" => rest(arguments, session).await.map(Some),
        "version" => Ok(Some(json!({"azure-cli": "2.80.0", "azure-cli-core": "2.80.0"}))),
        other => Err(Failure::misused(format!(
            "'{other}' is misspelled or not recognized by the system."
        ))),
    }
}

async fn login(arguments: &Arguments, session: &mut Session) -> Result<Value, Failure> {
    if !arguments.has("--service-principal") {
        let text = "this sandbox's az signs in with --service-principal and --federated-token only";
        return Err(Failure::misused(text));
    }
    let client_id = arguments.required("--username")?;
    let tenant = arguments.required("--tenant")?;
    let assertion = arguments.required("--federated-token")?;
    session.sign_in(client_id, tenant, assertion).await?;
    let none = session.account()?.subscriptions.is_empty();
    if none && !arguments.has("--allow-no-subscriptions") {
        let text = format!("No subscriptions found for {client_id}.");
        session.account = None;
        return Err(Failure::failed(text));
    }
    session.save()?;
    Ok(list_accounts(session.account()?))
}

fn choose(arguments: &Arguments, session: &mut Session) -> Result<(), Failure> {
    let wanted = arguments.required("--subscription")?;
    let account = session.account.as_mut().ok_or_else(Failure::not_signed_in)?;
    let found = account.subscriptions.iter().position(|subscription| {
        subscription.id.eq_ignore_ascii_case(wanted) || subscription.name == wanted
    });
    account.chosen = found.ok_or_else(|| {
        Failure::failed(format!(
            "The subscription of '{wanted}' doesn't exist in cloud 'AzureCloud'."
        ))
    })?;
    session.save()
}

fn list_accounts(account: &Account) -> Value {
    let count = account.subscriptions.len().max(1);
    (0..count).filter_map(|at| show(account, at).ok()).collect()
}

/// One subscription as `az account show` has it; without any, the tenant stands for it.
fn show(account: &Account, at: usize) -> Result<Value, Failure> {
    let tenant = &account.tenant;
    let (id, name) = match account.subscriptions.get(at) {
        Some(subscription) => (subscription.id.as_str(), subscription.name.as_str()),
        None if account.subscriptions.is_empty() => (tenant.as_str(), "N/A(tenant level account)"),
        None => return Err(Failure::not_signed_in()),
    };
    Ok(json!({
        "environmentName": "AzureCloud", "homeTenantId": tenant, "id": id,
        "isDefault": at == account.chosen, "managedByTenants": [], "name": name,
        "state": "Enabled", "tenantId": tenant,
        "user": {"name": account.client_id, "type": "servicePrincipal"},
    }))
}

/// The subscription that is named, else the one in use.
fn subscription(arguments: &Arguments, session: &Session) -> Result<String, Failure> {
    let account = session.account()?;
    if let Some(named) = arguments.option("--subscription") {
        let known = account.subscriptions.iter().find(|each| each.name == named);
        return Ok(known.map_or_else(|| named.to_owned(), |each| each.id.clone()));
    }
    let id = account.subscriptions.get(account.chosen).map(|each| each.id.clone());
    id.ok_or_else(|| {
        Failure::failed(
            "Subscription not found. Run 'az account set' to choose one, or name it with --subscription.",
        )
    })
}

async fn token(arguments: &Arguments, session: &Session) -> Result<Value, Failure> {
    let scope = arguments.option("--scope").and_then(|scope| scope.strip_suffix("/.default"));
    let resource = arguments.option("--resource").or(scope).unwrap_or(ARM);
    let token = session.token_for(resource).await?;
    let mut answer = json!({
        "accessToken": token.expose_secret(), "tenant": session.account()?.tenant,
        "tokenType": "Bearer",
    });
    if let Ok(subscription) = subscription(arguments, session) {
        answer["subscription"] = subscription.into();
    }
    Ok(answer)
}

async fn groups(arguments: &Arguments, session: &mut Session) -> Result<Value, Failure> {
    let subscription = subscription(arguments, session)?;
    let url =
        format!("{ARM}/subscriptions/{subscription}/resourcegroups?api-version={GROUPS_VERSION}");
    pages(session, url).await
}

fn group(arguments: &Arguments, session: &Session) -> Result<String, Failure> {
    let subscription = subscription(arguments, session)?;
    let name = arguments
        .option("--name")
        .or(arguments.option("--resource-group"))
        .map_or_else(|| arguments.required("--name"), Ok)?;
    Ok(format!(
        "{ARM}/subscriptions/{subscription}/resourcegroups/{name}?api-version={GROUPS_VERSION}"
    ))
}

async fn assign(arguments: &Arguments, session: &mut Session) -> Result<Value, Failure> {
    let assignee = match arguments.option("--assignee-object-id") {
        Some(id) => id,
        None => arguments.required("--assignee")?,
    };
    let scope = arguments.required("--scope")?.trim_end_matches('/').to_owned();
    let role = role_id(session, &scope, arguments.required("--role")?).await?;
    let mut properties = json!({"roleDefinitionId": role, "principalId": assignee});
    if let Some(kind) = arguments.option("--assignee-principal-type") {
        properties["principalType"] = kind.into();
    }
    let name = arguments.option("--name").map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
    let url = format!(
        "{ARM}{scope}/providers/Microsoft.Authorization/roleAssignments/{name}?api-version={AUTHORIZATION_VERSION}"
    );
    session.call(Method::PUT, &url, Some(&json!({ "properties": properties }))).await
}

/// A role's id from its name, its GUID or its id.
async fn role_id(session: &mut Session, scope: &str, role: &str) -> Result<String, Failure> {
    let definitions = "providers/Microsoft.Authorization/roleDefinitions";
    if role.starts_with('/') {
        return Ok(role.to_owned());
    }
    if Uuid::parse_str(role).is_ok() {
        return Ok(format!("{scope}/{definitions}/{role}"));
    }
    let filter: String =
        url::form_urlencoded::byte_serialize(format!("roleName eq '{role}'").as_bytes()).collect();
    let url =
        format!("{ARM}{scope}/{definitions}?$filter={filter}&api-version={AUTHORIZATION_VERSION}");
    let found = session.call(Method::GET, &url, None).await?;
    let named = found["value"].as_array().into_iter().flatten().find(|definition| {
        definition["properties"]["roleName"]
            .as_str()
            .is_some_and(|name| name.eq_ignore_ascii_case(role))
    });
    let id = named.and_then(|definition| definition["id"].as_str());
    id.map(str::to_owned).ok_or_else(|| Failure::failed(format!("Role '{role}' doesn't exist.")))
}

async fn assignments(arguments: &Arguments, session: &mut Session) -> Result<Value, Failure> {
    let scope = match arguments.option("--scope") {
        Some(scope) => scope.trim_end_matches('/').to_owned(),
        None => format!("/subscriptions/{}", subscription(arguments, session)?),
    };
    let url = format!(
        "{ARM}{scope}/providers/Microsoft.Authorization/roleAssignments?api-version={AUTHORIZATION_VERSION}"
    );
    let all = pages(session, url).await?;
    let assignee = arguments.option("--assignee");
    let all = all.as_array().cloned().unwrap_or_default();
    Ok(all
        .into_iter()
        .filter(|each| {
            assignee.is_none_or(|assignee| each["properties"]["principalId"] == assignee)
        })
        .collect())
}

/// The registry exchanges an Azure token for its own; what it may push is the registry's to say.
async fn sign_in_to_registry(arguments: &Arguments, session: &Session) -> Result<Value, Failure> {
    let name = arguments.required("--name")?;
    let name = name.strip_suffix(".azurecr.io").unwrap_or(name);
    let server = format!("{name}.azurecr.io");
    let token = session.token_for(ARM).await?;
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "access_token")
        .append_pair("service", &server)
        .append_pair("tenant", &session.account()?.tenant)
        .append_pair("access_token", token.expose_secret())
        .finish();
    let url = format!("https://{server}/oauth2/exchange");
    let body = ("application/x-www-form-urlencoded", form);
    let unreachable =
        || Failure::failed(format!("Could not connect to the registry login server '{server}'."));
    let sent = session.wire.send(Method::POST, &url, None, Some(body)).await;
    let answer = sent.map_err(|_| unreachable())?;
    match answer.body["refresh_token"].as_str() {
        Some(token) if answer.status == 200 && arguments.has("--expose-token") => {
            Ok(json!({"accessToken": token, "loginServer": server, "username": Uuid::nil()}))
        }
        Some(_) if answer.status == 200 => Ok(json!("Login Succeeded")),
        _ => Err(Failure::failed(format!(
            "Could not connect to the registry login server '{server}': status {}",
            answer.status
        ))),
    }
}

async fn rest(arguments: &Arguments, session: &mut Session) -> Result<Value, Failure> {
    let method = arguments.option("--method").unwrap_or("get").to_ascii_uppercase();
    let method: Method = method.parse().map_err(|_| {
        Failure::misused(format!("argument --method/-m: '{method}' is not a valid value"))
    })?;
    let url = arguments.required("--url")?;
    let url = match session.account()?.subscriptions.get(session.account()?.chosen) {
        Some(chosen) => url.replace("{subscriptionId}", &chosen.id),
        None => url.to_owned(),
    };
    let url = if url.starts_with('/') { format!("{ARM}{url}") } else { url };
    let body = arguments.option("--body").map(serde_json::from_str::<Value>).transpose();
    let body = body.map_err(|_| Failure::misused("argument --body/-b: it is no JSON"))?;
    let answer = session.ask(method, &url, body.as_ref()).await?;
    if (200..300).contains(&answer.status) {
        return Ok(answer.body);
    }
    let reason = reqwest::StatusCode::from_u16(answer.status).ok();
    let reason = reason.and_then(|status| status.canonical_reason()).unwrap_or("Error");
    Err(Failure::failed(format!("{reason}({})", answer.body)))
}

/// All pages of a list.
async fn pages(session: &mut Session, first: String) -> Result<Value, Failure> {
    let mut items = Vec::new();
    let mut next = Some(first);
    while let Some(url) = next {
        let page = session.call(Method::GET, &url, None).await?;
        items.extend(page["value"].as_array().into_iter().flatten().cloned());
        next = page["nextLink"].as_str().map(str::to_owned);
    }
    Ok(items.into())
}
