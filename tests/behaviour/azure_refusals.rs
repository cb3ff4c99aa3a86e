//! What forerunner makes of an Azure that refuses, limits, takes its time, or shows less than there is.

use super::{
    azure_answers::{CLIENT, HOSTS, SUBSCRIPTION, arm, azure, identity, tokens},
    stub::{Reply, Seen, Stub, reply},
};
use forerunner::{
    adapters::service_bus::{Letter, ServiceBus},
    domain::{class::Class, ids::FleetName},
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Mutex};
use uuid::Uuid;

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    reply(status, json!({"error": {"code": code, "message": message}}))
}

fn asked(stub: &Stub) -> usize {
    stub.seen().iter().filter(|call| !call.uri.starts_with("/msi")).count()
}

fn retry(seconds: i64) -> Class {
    Class::Retry { after: Some(SignedDuration::from_secs(seconds)) }
}

fn wait(seconds: i64) -> Class {
    Class::Wait { after: SignedDuration::from_secs(seconds) }
}

#[tokio::test]
async fn a_refusal_that_a_person_must_mend_says_what_to_do() {
    let check = async |status: u16, code: &'static str, message: &'static str, words: &[&str]| {
        let stub = azure(move |_, _| refusal(status, code, message)).await;
        let id = identity("id-a");
        let error = arm(&stub).put_identity(&id, "westeurope", &BTreeMap::new()).await.unwrap_err();
        assert_eq!((error.class(), asked(&stub)), (Class::Permanent, 1), "{code}");
        let text = error.to_string();
        for words in [&["identity `id-a`", code, message], words].concat() {
            assert!(text.contains(words), "`{words}` is missing: {text}");
        }
    };
    check(
        403,
        "RequestDisallowedByPolicy",
        "Resource 'id-a' was disallowed by policy 'require-cost-center'.",
        &["Azure Policy", "az policy exemption create", "`azure.tags`"],
    )
    .await;
    check(409, "ScopeLocked", "The scope is locked.", &["resource lock", "az lock delete"]).await;
    let missing =
        "The subscription is not registered to use namespace 'Microsoft.ManagedIdentity'.";
    check(409, "MissingSubscriptionRegistration", missing, &["az provider register"]).await;
    let disabled = "The subscription is disabled and therefore marked as read only.";
    for code in ["DisabledSubscription", "ReadOnlyDisabledSubscription"] {
        check(409, code, disabled, &["enable it again"]).await;
    }
    check(404, "SubscriptionNotFound", "No such subscription.", &["another tenant"]).await;
    let lacking = "The client does not have authorization to perform action 'x/write'.";
    check(403, "AuthorizationFailed", lacking, &["up to 10 minutes"]).await;
    check(400, "RoleAssignmentLimitExceeded", "No more.", &["remove those"]).await;
}

/// A throttled call says how long, in seconds or as a date, and until then nothing like it is asked.
#[tokio::test]
async fn a_throttled_kind_of_call_is_not_made_again_before_its_time() {
    for after in ["17", "Mon, 23 Nov 2026 10:00:17 GMT"] {
        let stub = azure(move |_, call| match call.method.as_str() {
            "PUT" => {
                refusal(429, "SubscriptionRequestsThrottled", "words").header("retry-after", after)
            }
            _ => refusal(404, "ResourceNotFound", "words"),
        })
        .await;
        let arm = arm(&stub);
        for name in ["id-a", "id-a", "id-b"] {
            let put = arm.put_identity(&identity(name), "westeurope", &BTreeMap::new()).await;
            assert_eq!(put.unwrap_err().class(), retry(17), "{after}");
        }
        assert_eq!(asked(&stub), 1, "asking early makes the wait longer");
        assert_eq!(arm.identity(&identity("id-a")).await.unwrap(), None, "reads go on");
    }
}

#[tokio::test]
async fn a_quota_that_is_used_up_is_not_overdrawn() {
    let header = "x-ms-ratelimit-remaining-subscription-reads";
    let check = async |left: &'static str, calls: usize| {
        let stub =
            azure(move |_, _| refusal(404, "ResourceNotFound", "words").header(header, left)).await;
        let arm = arm(&stub);
        let first = arm.identity(&identity("id-a")).await;
        assert_eq!(first.unwrap(), None);
        let _ = arm.identity(&identity("id-b")).await;
        assert_eq!(asked(&stub), calls, "{left} left");
    };
    check("1", 2).await;
    check("0", 1).await;
}

#[tokio::test]
async fn a_write_that_goes_on_is_left_to_the_next_round() {
    let check = async |status: u16,
                       headers: &'static [(&'static str, &'static str)],
                       class: Option<Class>| {
        let stub = azure(move |_, _| {
            let row = json!({"id": identity("id-a").as_str(), "location": "l", "properties":
                {"clientId": CLIENT, "principalId": CLIENT, "tenantId": CLIENT}});
            headers
                .iter()
                .fold(reply(status, row), |reply, (name, value)| reply.header(name, value))
        })
        .await;
        let put = arm(&stub).put_identity(&identity("id-a"), "l", &BTreeMap::new()).await;
        assert_eq!(put.err().map(|error| error.class()), class, "{status} {headers:?}");
        assert_eq!(asked(&stub), 1, "nobody waits here");
    };
    let status = "https://management.azure.com/subscriptions/1/operations/2";
    check(201, &[], None).await;
    check(201, Box::leak(Box::new([("azure-asyncoperation", status)])), Some(wait(15))).await;
    let later: &[_] = Box::leak(Box::new([("location", status), ("retry-after", "40")]));
    check(202, later, Some(wait(40))).await;
    check(200, Box::leak(Box::new([("location", status)])), None).await;
}

/// An empty page says that the list is there; what then is missing is a page, and not the list.
#[tokio::test]
async fn a_list_is_absent_only_if_its_first_page_is() {
    let check = async |first: u16, absent: bool| {
        let stub = azure(move |_, call| {
            if first == 404 || call.uri.contains("skiptoken=2") {
                return refusal(404, "ResourceNotFound", "words");
            }
            let next = format!("https://management.azure.com{}&$skiptoken=2", call.uri);
            reply(200, json!({"value": [], "nextLink": next}))
        })
        .await;
        match arm(&stub).credentials(&identity("id-a")).await {
            Ok(found) => assert!(absent && found.is_none(), "{first}: {found:?}"),
            Err(error) => {
                assert!(!absent, "{first}: {error}");
                assert_eq!(error.class(), Class::Retry { after: None }, "{error}");
            }
        }
    };
    check(404, true).await;
    check(200, false).await;
}

#[tokio::test]
async fn every_page_of_resource_graph_is_read_and_a_missing_one_fails_the_whole() {
    let row = |number: u32| {
        json!({"id": identity(&format!("id-{number}")).as_str(), "location": "l", "tags": {},
            "properties": {"clientId": CLIENT, "principalId": CLIENT, "tenantId": CLIENT}})
    };
    let check = async |third: u16, expected: Option<usize>| {
        let stub = azure(move |_, call| {
            let token = call.json()["options"]["$skipToken"].as_str().map(str::to_owned);
            let page = |number: u32, next: Value| {
                json!({"data": [row(number)], "resultTruncated": "true", "$skipToken": next})
            };
            match token.as_deref() {
                None => reply(200, page(1, json!("two"))),
                Some("two") => reply(200, page(2, json!("three"))),
                Some(_) => reply(third, json!({"data": [row(3)], "resultTruncated": "false"})),
            }
        })
        .await;
        let fleet = FleetName::new("nonprod").unwrap();
        let subscription: Uuid = SUBSCRIPTION.parse().unwrap();
        let found = arm(&stub).graph_identities(&[subscription], &fleet).await;
        assert_eq!(found.ok().map(|rows| rows.len()), expected, "{third}");
        let first = &stub.seen().into_iter().find(|call| call.method == "POST").unwrap().json();
        assert_eq!(first["options"]["$top"], 1000);
    };
    check(200, Some(3)).await;
    check(403, None).await;
    check(500, None).await;
}

fn letters(count: usize) -> Vec<Letter> {
    let letter = |number: usize| Letter {
        body: "{}".to_owned(),
        message_id: format!("m{number}"),
        session_id: None,
        scheduled_for: None,
    };
    (0..count).map(letter).collect()
}

fn ids(call: &Seen) -> Vec<String> {
    let body = call.json();
    let rows = body.as_array().unwrap().iter();
    rows.map(|row| row["BrokerProperties"]["MessageId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_letter_that_is_too_large_holds_no_other_back() {
    let taken = std::sync::Arc::new(Mutex::new(Vec::new()));
    let kept = taken.clone();
    let stub = azure(move |_, call| {
        let ids = ids(call);
        if ids.iter().any(|id| id == "m3") {
            return reply(403, "The message exceeds the limit (262144 bytes) currently allowed.");
        }
        kept.lock().unwrap().extend(ids);
        reply(201, "")
    })
    .await;
    let bus = ServiceBus::new(stub.http(HOSTS), tokens(&stub), "sb-x.servicebus.windows.net");
    let error = bus.send("rounds", &letters(7)).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    assert!(error.to_string().contains("too large for queue `rounds`"), "{error}");
    assert_eq!(*taken.lock().unwrap(), ["m0", "m1", "m2", "m4", "m5", "m6"], "in their order");
}

#[tokio::test]
async fn what_a_queue_refuses_for_now_is_not_lost() {
    let check = async |status: u16, body: &'static str, class: Class| {
        let stub = azure(move |_, _| reply(status, body)).await;
        let bus = ServiceBus::new(stub.http(HOSTS), tokens(&stub), "sb-x.servicebus.windows.net");
        let error = bus.send("rounds", &letters(1)).await.unwrap_err();
        assert_eq!(error.class(), class, "{status} {body}");
        assert!(error.to_string().contains("`rounds`"), "{error}");
    };
    check(403, "QuotaExceeded: the size quota of the queue is reached", retry(60)).await;
    check(503, "The entity is being throttled. Error code: 50009.", retry(2)).await;
    check(503, "busy", Class::Retry { after: None }).await;
    check(403, "", Class::Permanent).await;
    check(404, "", Class::Permanent).await;
    check(410, "", Class::Permanent).await;
}
