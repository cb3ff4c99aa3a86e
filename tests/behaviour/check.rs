//! `forerunner check` on the shipped examples and on broken files.

use forerunner::cli::{
    answer::{Answer, Colour},
    check::{Check, answer},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn now() -> Timestamp {
    "2026-11-24T08:00:00Z".parse().expect("a time")
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn check(file: PathBuf, change: fn(&mut Check)) -> Answer {
    let mut arguments = Check { file, json: false, schema: false, rights: false };
    change(&mut arguments);
    answer(&arguments, now(), Colour::default())
}

/// A file that only this test has.
fn file(name: &str, text: &str) -> PathBuf {
    let folder =
        std::env::temp_dir().join(format!("forerunner-check-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder of our own");
    let path = folder.join("fleet.yaml");
    std::fs::write(&path, text).expect("a file of our own");
    path
}

#[test]
fn every_example_is_fine_and_says_what_it_means() {
    for name in ["minimal", "seed", "forty-groups", "largest"] {
        let answer = check(example(&format!("{name}.yaml")), |_| {});
        assert_eq!(answer.code, 0, "{name}: {}", answer.talk);
        insta::assert_snapshot!(
            format!("check_{name}"),
            format!("{}\n---\n{}", answer.out, answer.talk)
        );
    }
}

#[test]
fn the_condition_lets_assign_only_the_roles_of_the_guardrails_and_never_to_oneself() {
    let answer = check(example("seed.yaml"), |arguments| arguments.rights = true);
    assert_eq!(answer.code, 0, "{}", answer.talk);
    insta::assert_snapshot!("rights_seed", answer.out);
}

#[test]
fn rights_in_json_hold_the_same() {
    let answer = check(example("minimal.yaml"), |arguments| {
        arguments.rights = true;
        arguments.json = true;
    });
    let rights: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(rights["condition"], Value::Null, "no role, nothing to delegate");
    assert_eq!(rights["clusterRole"]["metadata"]["name"], "forerunner-manager");
    assert!(rights["clusterRole"]["rules"].as_array().is_some_and(|rules| !rules.is_empty()));
}

#[test]
fn the_schema_is_json_and_closed() {
    let answer = check(PathBuf::from("missing.yaml"), |arguments| arguments.schema = true);
    let schema: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!((answer.code, &schema["additionalProperties"]), (0, &json!(false)));
    assert!(schema["properties"]["profiles"].is_object());
}

#[test]
fn a_file_that_is_not_there_is_misuse() {
    let answer = check(PathBuf::from("missing.yaml"), |_| {});
    assert_eq!((answer.code, answer.out.as_str()), (2, ""));
    assert!(answer.talk.starts_with("error: missing.yaml cannot be read"), "{}", answer.talk);
}

#[test]
fn problems_come_all_at_once_with_their_place_and_what_to_do() {
    let text = std::fs::read_to_string(example("minimal.yaml")).unwrap();
    let broken = text
        .replace("gitlab-token }", "gitlab-token, vault: x }")
        .replace("instance: true", "instance: yes")
        .replace("runUntagged", "runUntaged");
    let path = file("broken", &broken);
    let answer = check(path.clone(), |_| {});
    assert_eq!((answer.code, answer.out.as_str()), (1, ""));
    insta::assert_snapshot!(answer.talk, @r"
    error: fleet.yaml:6:54: gitlab.token.vault: unknown key `vault`
      hint: known here: keyVault, secret
    error: fleet.yaml:9:26: rules[0].match.instance: is text, should be `true` or `false`
    error: fleet.yaml:12:25: profiles.default.runner.runUntaged: unknown key `runUntaged`
      hint: did you mean `runUntagged`?
    ");
    let json = check(path, |arguments| arguments.json = true);
    let problems: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(problems["problems"].as_array().map(Vec::len), Some(3));
}

#[test]
fn guardrails_may_lie_beside_the_file() {
    let text = std::fs::read_to_string(example("seed.yaml")).unwrap();
    let (fleet, guardrails) = text.split_once("guardrails:\n").unwrap();
    let path = file("apart", fleet);
    let beside = path.with_file_name("guardrails.yaml");
    let unindented: String = guardrails.lines().map(|line| format!("{}\n", &line[2..])).collect();
    std::fs::write(&beside, unindented.replace("AcrPush", "AcrPull")).unwrap();
    let answer = check(path, |_| {});
    assert_eq!(answer.code, 1);
    assert!(answer.talk.contains("AcrPush is not among guardrails.roles"), "{}", answer.talk);
    assert!(answer.out.contains("fleet seed"), "the rest still shows: {}", answer.out);
}

#[test]
fn colour_is_for_terminals() {
    let arguments =
        Check { file: example("minimal.yaml"), json: false, schema: false, rights: false };
    let painted = answer(&arguments, now(), Colour { out: true, talk: false });
    assert!(painted.out.contains('\x1b') && !painted.talk.contains('\x1b'));
    assert!(!answer(&arguments, now(), Colour::default()).out.contains('\x1b'));
}
