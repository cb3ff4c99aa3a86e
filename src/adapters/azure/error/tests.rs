use super::*;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::json;

const RETRY: Verdict = Verdict::Failed(Class::Retry { after: None });
const CONFLICT: Verdict = Verdict::Failed(Class::Conflict);
const PERMANENT: Verdict = Verdict::Failed(Class::Permanent);

fn response(status: u16, body: &str) -> Response {
    Response {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        retry_after: None,
    }
}

#[track_caller]
fn check(method: Method, status: u16, body: Value, expected: Verdict) {
    let answer = Answer::of(&response(status, &body.to_string()));
    assert_eq!(classify(&method, &answer), expected, "{method} {status} {body}");
}

fn arm(code: &str) -> Value {
    json!({"error": {"code": code, "message": "words"}})
}

fn vault(code: &str, inner: &str) -> Value {
    json!({"error": {"code": code, "message": "words", "innererror": {"code": inner}}})
}

fn entra(codes: &[u64]) -> Value {
    json!({"error": "invalid_client", "error_description": "words", "error_codes": codes})
}

#[test]
fn every_row_of_the_table_is_kept() {
    // Row 1
    check(Method::PUT, 200, json!({}), Verdict::Use);
    check(Method::PUT, 201, json!({}), Verdict::Use);
    check(Method::DELETE, 204, Value::Null, Verdict::Use);
    // Row 2
    for status in [408, 429, 500, 502, 503, 504] {
        check(Method::PUT, status, arm("Whatever"), RETRY);
    }
    check(Method::POST, 503, entra(&[700212]), RETRY);
    // Rows 3 and 4
    for code in [70021, 700211, 700213] {
        check(Method::POST, 401, entra(&[code]), RETRY);
    }
    check(Method::POST, 401, entra(&[700212]), PERMANENT);
    check(Method::POST, 400, entra(&[700222]), PERMANENT);
    // Row 5
    check(Method::GET, 401, arm("ExpiredAuthenticationToken"), RETRY);
    // Rows 6 and 7
    check(Method::DELETE, 404, arm("ResourceGroupNotFound"), Verdict::Absent);
    check(Method::GET, 404, arm("ResourceNotFound"), Verdict::Absent);
    check(Method::HEAD, 404, Value::Null, Verdict::Absent);
    // Row 8
    check(Method::PUT, 404, arm("ParentResourceNotFound"), RETRY);
    let words = json!({"error": {"code": "NotFound",
        "message": "The parent user-assigned identity doesn't exist."}});
    check(Method::PUT, 404, words, RETRY);
    // Row 9
    check(Method::GET, 404, arm("ResourceGroupNotFound"), PERMANENT);
    check(Method::GET, 404, arm("SubscriptionNotFound"), PERMANENT);
    check(Method::PUT, 404, arm("ResourceGroupNotFound"), PERMANENT);
    // Row 10
    let busy = "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity";
    check(Method::PUT, 409, arm(busy), RETRY);
    check(Method::PUT, 409, arm("AnotherOperationInProgress"), RETRY);
    check(Method::PUT, 409, vault("Conflict", "ObjectIsBeingDeleted"), RETRY);
    // Row 11
    check(Method::PUT, 409, arm("RoleAssignmentExists"), CONFLICT);
    check(Method::PUT, 409, arm("Conflict"), CONFLICT);
    check(Method::PUT, 409, vault("Conflict", "ObjectIsDeletedButRecoverable"), CONFLICT);
    // Row 12
    check(Method::PUT, 412, arm("PreconditionFailed"), CONFLICT);
    // Row 13
    check(Method::PUT, 400, arm("PrincipalNotFound"), RETRY);
    // Row 14
    check(Method::PUT, 400, arm("RoleAssignmentUpdateNotPermitted"), CONFLICT);
    let twice = json!({"error": {"code": "BadRequest", "message":
        "Issuer and subject combination already exists for this Managed Identity."}});
    check(Method::PUT, 400, twice, CONFLICT);
    // Row 15
    for code in ["InvalidTemplate", "BadRequest", "RoleAssignmentLimitExceeded"] {
        check(Method::PUT, 400, arm(code), PERMANENT);
    }
    for code in ["AuthorizationFailed", "LinkedAuthorizationFailed", "RequestDisallowedByPolicy"] {
        check(Method::PUT, 403, arm(code), PERMANENT);
    }
    check(Method::GET, 403, vault("Forbidden", "ForbiddenByRbac"), PERMANENT);
    for status in [301, 405, 410, 413] {
        check(Method::PUT, status, Value::Null, PERMANENT);
    }
}

#[test]
fn a_body_that_is_no_json_leaves_the_status_to_decide() {
    for (status, expected) in [(502, RETRY), (403, PERMANENT), (404, Verdict::Absent)] {
        let answer = Answer::of(&response(status, "<html>not what you think</html>"));
        assert_eq!(classify(&Method::GET, &answer), expected, "{status}");
    }
}

#[test]
fn an_envelope_without_the_outer_error_is_read_too() {
    check(Method::PUT, 400, json!({"code": "PrincipalNotFound", "message": "words"}), RETRY);
}

#[test]
fn the_existing_assignment_is_found_in_the_words() {
    let check = |code: &str, message: &str, expected: Option<&str>| {
        let body = json!({"error": {"code": code, "message": message}});
        let answer = Answer::of(&response(409, &body.to_string()));
        let error = Error::refused("a role".to_owned(), "", answer, Class::Conflict);
        let expected = expected.map(|id| id.parse::<Uuid>().unwrap());
        assert_eq!(error.existing_assignment(), expected, "{message}");
    };
    let id = "716c4d15-9bc8-476d-a3c1-6ccb70082517";
    check(
        "RoleAssignmentExists",
        "The role assignment already exists. The ID of the existing role assignment is 716c4d159bc8476da3c16ccb70082517.",
        Some(id),
    );
    check("RoleAssignmentExists", "The role assignment already exists.", None);
    check("Conflict", "716c4d159bc8476da3c16ccb70082517", None);
}
