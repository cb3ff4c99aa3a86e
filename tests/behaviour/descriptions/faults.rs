//! The check itself: what it has to find is found, and what is right is left in peace. The description is made up.

use super::{
    Watched,
    check::{Asked, Content},
    description::Description,
    exceptions,
    violation::{Kind, Violation},
};
use serde_json::{Value, json};

fn document() -> Value {
    json!({
        "swagger": "2.0",
        "paths": {
            "/shelves/{shelf}/books/{name}": {
                "put": {
                    "parameters": [
                        { "name": "api-version", "in": "query", "required": true, "type": "string", "x-fixed-value": "2026-01-01" },
                        { "name": "shelf", "in": "path", "required": true, "type": "integer", "format": "int32" },
                        { "name": "name", "in": "path", "required": true, "type": "string", "maxLength": 8, "pattern": "^[a-z]+$" },
                        { "name": "copies", "in": "query", "type": "integer", "minimum": 1, "maximum": 9 },
                        { "name": "tags", "in": "query", "type": "array", "items": { "type": "string", "enum": ["old", "rare"] } },
                        { "name": "book", "in": "body", "required": true, "schema": { "$ref": "#/definitions/Book" } },
                    ],
                    "responses": {
                        "200": { "schema": { "$ref": "#/definitions/Book" } },
                        "204": { "description": "It was there." },
                        "default": { "schema": { "$ref": "#/definitions/Refusal" } },
                    },
                },
            },
            "/{scope}/locks/{lock}": {
                "get": {
                    "parameters": [
                        { "name": "scope", "in": "path", "required": true, "type": "string" },
                        { "name": "lock", "in": "path", "required": true, "type": "string", "format": "uuid" },
                    ],
                    "responses": { "200": { "schema": { "type": "object", "properties": { "id": { "type": "string", "format": "byte" } } } } },
                },
            },
        },
        "definitions": {
            "Thing": { "type": "object", "required": ["id", "kind"], "properties": {
                "id": { "type": "string", "readOnly": true },
                "kind": { "type": "string", "enum": ["book", "map"] },
                "made": { "$ref": "#/definitions/Made" },
            } },
            "Made": { "type": "object", "readOnly": true, "properties": { "at": { "type": "string", "format": "date-time" } } },
            "Book": { "type": "object", "allOf": [{ "$ref": "#/definitions/Thing" }], "properties": {
                "pages": { "type": "integer", "x-nullable": true },
                "labels": { "type": "object", "additionalProperties": { "type": "string" } },
                "chapters": { "type": "array", "maxItems": 2, "items": { "$ref": "#/definitions/Chapter" } },
            } },
            "Chapter": { "type": "object", "properties": { "title": { "type": "string", "minLength": 1 }, "sub": { "$ref": "#/definitions/Chapter" } } },
            "Refusal": { "type": "object", "required": ["code"], "properties": { "code": { "type": "string" } } },
        },
    })
}

fn description(exceptions: &str) -> Description {
    Description::new("made-up", &document(), true, exceptions::parse(exceptions, "made-up"))
}

const NONE: &str = "exception = []";
const PUT: &str = "/shelves/7/books/atlas?api-version=2026-01-01";

fn asked(description: &Description, path: &str, body: &Value) -> Vec<Violation> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let asked = Asked { method: "PUT", path, body: json_body(body.as_bytes()) };
    let (operation, values) = description.find("PUT", asked.bare_path()).unwrap();
    description.check_request(operation, &values, &asked)
}

fn answered(description: &Description, status: u16, body: &Value) -> Vec<Violation> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (operation, _) = description.find("PUT", "/shelves/7/books/atlas").unwrap();
    description.check_answer(operation, status, json_body(body.as_bytes()))
}

fn json_body(bytes: &[u8]) -> Content<'_> {
    Content { kind: "application/json; charset=utf-8", bytes }
}

fn places(found: &[Violation]) -> Vec<(Kind, &str)> {
    found.iter().map(|violation| (violation.kind, violation.at.as_str())).collect()
}

#[test]
fn every_fault_of_a_request_is_found_and_named() {
    let description = description(NONE);
    let book = json!({ "kind": "book" });
    let check = |path: &str, body: &Value, expected: &[(Kind, &str)]| {
        assert_eq!(places(&asked(&description, path, body)), expected, "{path} {body}");
    };
    let of = |rest: &str| format!("PUT /shelves/{{shelf}}/books/{{name}} {rest}");
    check(PUT, &book, &[]);
    check(
        &PUT.to_ascii_uppercase().replace("API-VERSION", "api-version").replace("ATLAS", "atlas"),
        &book,
        &[],
    );
    check(&format!("{PUT}&copies=9&tags=old,rare"), &book, &[]);
    let paths = [
        ("/shelves/7/books/atlas", Kind::Missing, "query api-version"),
        ("/shelves/7/books/atlas?api-version=2020-01-01", Kind::Enum, "query api-version"),
        ("/shelves/x/books/atlas?api-version=2026-01-01", Kind::Type, "path shelf"),
        ("/shelves/3000000000/books/atlas?api-version=2026-01-01", Kind::Format, "path shelf"),
        ("/shelves/7/books/at%20las?api-version=2026-01-01", Kind::Pattern, "path name"),
        ("/shelves/7/books/atlasatlas?api-version=2026-01-01", Kind::Length, "path name"),
        (&format!("{PUT}&copies=many"), Kind::Type, "query copies"),
        (&format!("{PUT}&copies=10"), Kind::Range, "query copies"),
        (&format!("{PUT}&tags[]=new"), Kind::Enum, "query tags"),
        (&format!("{PUT}&colour=red"), Kind::Unknown, "query colour"),
    ];
    for (path, kind, at) in paths {
        check(path, &book, &[(kind, &of(at))]);
    }
    check(PUT, &Value::Null, &[(Kind::Body, &of("body"))]);
    let bodies = [
        (json!({}), Kind::Missing, "definitions/Book/properties/kind"),
        (
            json!({ "kind": "book", "colour": 1 }),
            Kind::Unknown,
            "definitions/Book/properties/colour",
        ),
        (json!({ "kind": "book", "id": "1" }), Kind::ReadOnly, "definitions/Book/properties/id"),
        (json!({ "kind": "book", "made": {} }), Kind::ReadOnly, "definitions/Book/properties/made"),
        (json!({ "kind": "chair" }), Kind::Enum, "definitions/Book/properties/kind"),
        (json!({ "kind": null }), Kind::Null, "definitions/Book/properties/kind"),
        (
            json!({ "kind": "book", "labels": { "a": 1 } }),
            Kind::Type,
            "definitions/Book/properties/labels/additionalProperties",
        ),
        (
            json!({ "kind": "book", "chapters": [{}, {}, {}] }),
            Kind::Length,
            "definitions/Book/properties/chapters",
        ),
        (
            json!({ "kind": "book", "chapters": [{ "sub": { "title": "" } }] }),
            Kind::Length,
            "definitions/Chapter/properties/title",
        ),
        (
            json!({ "kind": "book", "chapters": [{ "sub": { "name": "" } }] }),
            Kind::Unknown,
            "definitions/Chapter/properties/name",
        ),
    ];
    for (body, kind, at) in bodies {
        check(PUT, &body, &[(kind, at)]);
    }
    check(PUT, &json!({ "kind": "book", "pages": null, "labels": { "a": "b" } }), &[]);
}

#[test]
fn every_fault_of_an_answer_is_found_and_named() {
    let description = description(NONE);
    let check = |status: u16, body: Value, expected: &[(Kind, &str)]| {
        assert_eq!(places(&answered(&description, status, &body)), expected, "{status} {body}");
    };
    let of = |rest: &str| format!("PUT /shelves/{{shelf}}/books/{{name}} answer {rest}");
    check(200, json!({ "kind": "map", "id": "1", "made": { "at": "2026-01-01T00:00:00Z" } }), &[]);
    check(204, Value::Null, &[]);
    check(409, json!({ "code": "Taken" }), &[]);
    check(200, json!({ "kind": "map" }), &[(Kind::Missing, "definitions/Book/properties/id")]);
    check(
        200,
        json!({ "kind": "map", "id": "1", "made": { "at": "noon" } }),
        &[(Kind::Format, "definitions/Made/properties/at")],
    );
    check(200, Value::Null, &[(Kind::Body, &of("200"))]);
    check(201, json!({}), &[(Kind::Status, &of("201"))]);
    check(204, json!({}), &[(Kind::Body, &of("204"))]);
    check(409, json!({}), &[(Kind::Missing, "definitions/Refusal/properties/code")]);
    check(409, json!([]), &[(Kind::Type, "definitions/Refusal")]);
    let (lock, _) = description.find("GET", "/locks/x/locks/y").unwrap();
    let found = description.check_answer(lock, 200, json_body(br#"{"id":"not base64!"}"#));
    assert_eq!(places(&found), [(Kind::Format, "GET /{scope}/locks/{lock} answer 200")]);
    for (kind, bytes) in [("text/html", "{}"), ("", "{}"), ("application/json", "{")] {
        let body = Content { kind, bytes: bytes.as_bytes() };
        let found = description.check_answer(lock, 200, body);
        assert_eq!(places(&found), [(Kind::Body, "GET /{scope}/locks/{lock} answer 200")]);
    }
}

#[test]
fn a_scope_takes_what_lies_before_the_last_word() {
    let description = description(NONE);
    let lock = "3f2a8c1e-0000-4000-8000-000000000001";
    for scope in ["a", "a/b/c", "a/locks/b", "shelves/7/books/atlas"] {
        let path = format!("/{scope}/locks/{lock}");
        let (operation, values) = description.find("GET", &path).unwrap();
        assert_eq!(values[0], ("scope".to_owned(), scope.to_owned()));
        let asked = Asked { method: "GET", path: &path, body: json_body(b"") };
        assert_eq!(description.check_request(operation, &values, &asked), []);
    }
    assert!(description.find("PUT", &format!("/a/locks/{lock}")).is_none());
    assert!(description.find("GET", "/locks/x").is_none());
}

#[test]
fn an_exception_holds_for_its_place_alone_and_is_counted() {
    let description = description(
        r##"
        [[exception]]
        file = "made-up"
        is = "type"
        at = ["definitions/Book/properties/pages", "definitions/Chapter/*"]
        instead = { type = "array", items = { "$ref" = "#/definitions/Chapter" } }
        why = "because"
        source = "a test"
        [[exception]]
        file = "made-up"
        is = "status"
        at = ["* answer 201"]
        why = "because"
        source = "a test"
        [[exception]]
        file = "another"
        is = "unknown"
        at = ["*"]
        why = "because"
        source = "a test"
        "##,
    );
    let book = |pages: Value| json!({ "kind": "book", "id": "1", "pages": pages });
    assert_eq!(answered(&description, 200, &book(json!([{ "title": "one" }]))), []);
    let needed = || description.exceptions.iter().map(|each| each.needed()).collect::<Vec<_>>();
    assert_eq!(needed(), [1, 0, 0]);
    let found = answered(&description, 200, &book(json!("many")));
    assert_eq!(found.iter().map(|each| each.kind).collect::<Vec<_>>(), [Kind::Type]);
    let found = answered(&description, 200, &book(json!([{ "colour": 1 }])));
    assert_eq!(places(&found), [(Kind::Unknown, "definitions/Chapter/properties/colour")]);
    assert_eq!(answered(&description, 201, &json!(null)), []);
    assert_eq!(needed(), [3, 0, 1]);
}

#[test]
#[should_panic(expected = "not as the vendors describe it:\n  this\n  that")]
fn a_test_fails_for_what_its_servers_found() {
    let watched = Watched::default();
    watched.findings().add(vec!["this".to_owned(), "that".to_owned()]);
    watched.findings().add(vec!["this".to_owned()]);
}
