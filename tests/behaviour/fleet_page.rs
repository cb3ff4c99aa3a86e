//! The `fleet` function as one page for people: whole without assets, safe whatever the names are, and free of ids.

mod browser;
mod markup;

use crate::{
    fakes::{Answered, Ending, NOW, World, app, call, post},
    harness::Sandbox,
};
use axum::{body::Body, http::Request};
use forerunner::domain::{
    fleet_status::{self, FindingKind, FleetStatus},
    ids::Unit,
    ledger::Leave,
    records::ParkedPlan,
    slice::{Slice, SliceKind},
    status::{Condition, ConditionKind, Finding, RoundRecord, Status},
};
use jiff::Timestamp;
use markup::{Element, parse};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};

const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
const GUID: &str = "744a02d4-3f4a-4bc8-a9d1-0123456789ab";
const SCOPE: &str = "/subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/app";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn told(units: Vec<Status>) -> Arc<World> {
    Arc::new(World { told: Mutex::new(units), ..World::default() })
}

async fn get(world: &Arc<World>, accept: &str) -> Answered {
    let request = Request::get("/api/fleet").header("accept", accept).body(Body::empty()).unwrap();
    call(app(world), request).await
}

async fn page(world: &Arc<World>) -> Element {
    let answered = get(world, BROWSER).await;
    assert_eq!(answered.status, 200);
    parse(&answered.text)
}

fn ready(unit: &str) -> Status {
    let status = Status::new(unit.parse().unwrap());
    status.with(&[Finding::holds(ConditionKind::Ready, "Settled", "as fleet.yaml says")], now())
}

fn mixed() -> Vec<Status> {
    let administrator = [
        Finding::fails(ConditionKind::Ready, "Progressing", "on its way"),
        Finding::holds(
            ConditionKind::NeedsAdministrator,
            "RightMissing",
            format!(
                "az role assignment create --assignee-object-id {GUID} --role \"Owner\" --scope \"{SCOPE}\""
            ),
        ),
    ];
    let hour_ago = now() - jiff::SignedDuration::from_hours(1);
    let parked = ready("runner/g44-plan").park(
        &format!("assign Reader on {SCOPE}: Azure refused '{GUID}'"),
        "sha256:1",
        hour_ago,
    );
    vec![
        Status { path: Some("platform/ready".to_owned()), ..ready("runner/g42-apply") },
        Status { path: Some("platform/parked".to_owned()), ..parked },
        Status::new("runner/g43-plan".parse().unwrap()).with(&administrator, hour_ago),
        ready("identity/id-tf.1a2b3c4d"),
        Status::new("runner/g41-apply".parse().unwrap()),
    ]
}

#[tokio::test]
async fn who_asks_for_html_gets_one_page_and_everybody_else_json() {
    let world = told(mixed());
    for accept in ["*/*", "application/json", "text/html;q=0.1, application/json"] {
        let answered = get(&world, accept).await;
        assert_eq!(answered.headers["content-type"], "application/json", "{accept}");
        assert_eq!(answered.json()["units"].as_array().unwrap().len(), 5);
        assert_eq!(answered.headers["vary"], "Accept");
    }
    // Wrapped, the host gets JSON and the caller the page.
    let envelope = json!({ "Data": { "req": { "Method": "GET", "Headers": { "Accept": [BROWSER] }, "Query": {}, "Params": {} } }, "Metadata": {} });
    let wrapped = post(app(&world), "/fleet", envelope.to_string()).await;
    assert!(wrapped.succeeds());
    let res = &wrapped.json()["Outputs"]["res"];
    assert_eq!(res["headers"]["Content-Type"], "text/html; charset=utf-8", "{res}");
    assert!(
        res["headers"]["Content-Security-Policy"]
            .as_str()
            .unwrap()
            .starts_with("default-src 'none'")
    );
    parse(res["body"].as_str().unwrap());
}

#[tokio::test]
async fn what_is_found_of_the_fleet_as_a_whole_is_told_without_ids() {
    let finding = fleet_status::Finding::new(
        FindingKind::StrayIdentity,
        format!("identity {SCOPE}/x is <ours>"),
        format!("az identity delete --ids {SCOPE}/x"),
        now(),
    );
    let slice = Slice {
        after: Some("g42-plan".into()),
        began: now(),
        all_since: None,
        looked: 50,
        of: 1200,
    };
    let slices = BTreeMap::from([(SliceKind::FederatedCredentials, slice)]);
    let whole = FleetStatus::of(None, vec!["no list".into()], vec![finding], slices, now());
    let world = Arc::new(World { whole: Some(whole), ..World::default() });
    let text = get(&world, BROWSER).await.text;
    parse(&text);
    for part in
        ["StrayIdentity", "is &lt;ours&gt;", "az identity delete --ids …", "no list", "50 of 1200"]
    {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    assert!(!text.contains("00000000-0000-4000"), "{text}");
    assert!(get(&world, "*/*").await.text.contains(SCOPE), "JSON has them");
    let quiet = FleetStatus::of(None, vec![], vec![], BTreeMap::new(), now());
    let world = Arc::new(World { whole: Some(quiet), ..World::default() });
    assert!(!get(&world, BROWSER).await.text.contains("as a whole"));
}

#[tokio::test]
async fn what_the_brake_holds_stands_before_the_units_and_not_without_end() {
    let unit =
        |number: u64| (format!("runner/g{number}-plan").parse::<Unit>().unwrap(), Leave::Unmatched);
    let wants = (100..400).map(unit).collect();
    let plan = ParkedPlan::new(&wants, 10, now());
    let id = plan.id.clone();
    let world =
        Arc::new(World { removals: Some(plan), told: Mutex::new(mixed()), ..World::default() });
    let text = get(&world, BROWSER).await.text;
    parse(&text);
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("no `{part}` in {text}"));
    assert!(at("300 unit(s) want removal and the brake lets 10 go") < at("id=\"units\""));
    at(&format!("forerunner send confirm --plan {id}"));
    at("runner/g149-plan: no rule gives it any more");
    at("and 250 more");
    assert!(!text.contains("runner/g150-plan: "), "{text}");
    let json = get(&world, "*/*").await.json();
    assert_eq!(json["removals"]["wants"].as_object().map(serde_json::Map::len), Some(300));
}

#[tokio::test]
async fn the_page_stands_alone_under_a_strict_policy() {
    let world = told(mixed());
    let [one, two] = [get(&world, BROWSER).await, get(&world, BROWSER).await];
    let policy = |answered: &Answered| {
        answered.headers["content-security-policy"].to_str().unwrap().to_owned()
    };
    assert_ne!(policy(&one), policy(&two), "a nonce is used once");
    let header = |name: &str| one.headers[name].to_str().unwrap();
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("cache-control"), "no-store");
    let policy = policy(&one);
    let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert!(nonce.len() >= 22, "{nonce}");
    let expected = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    assert_eq!(policy, expected);
    let page = parse(&one.text);
    for element in page.find(&|_| true) {
        for (name, value) in &element.attributes {
            assert!(
                !name.starts_with("on")
                    && !["src", "style", "action", "srcset"].contains(&name.as_str()),
                "{name}={value}"
            );
            assert!(name != "href" || value.starts_with('#'), "nothing from elsewhere: {value}");
        }
        if ["script", "style"].contains(&element.name.as_str()) {
            assert_eq!(element.attribute("nonce"), nonce);
            let outside = ["@import", "url(", "http:", "https:", "eval(", "innerHTML"];
            assert!(outside.iter().all(|word| !element.text.contains(word)), "{}", element.name);
        }
    }
}

#[tokio::test]
async fn what_is_wrong_comes_first_and_each_unit_opens() {
    let page = page(&told(mixed())).await;
    assert_eq!(page.attribute("lang"), "en");
    assert_eq!(page.named("title")[0].text, "Fleet nonprod");
    assert_eq!(page.named("h1").len(), 1);
    assert!(
        page.text.contains("5 units: 1 parked, 1 needs an administrator, 1 not ready, 2 ready.")
    );
    let units = page.find(&|element| element.has_class("unit"));
    let lines: Vec<String> = units
        .iter()
        .map(|unit| {
            let summary = &unit.named("summary")[0];
            let texts: Vec<&str> =
                summary.children.iter().map(|child| child.text.as_str()).collect();
            texts.join("|")
        })
        .collect();
    let expected = [
        "parked|runner/g44-plan|platform/parked|1 h ago",
        "needs an administrator|runner/g43-plan||1 h ago",
        "not ready|runner/g41-apply||",
        "ready|runner/g42-apply|platform/ready|0 s ago",
        "ready|identity/id-tf.1a2b3c4d||0 s ago",
    ];
    assert_eq!(lines, expected);
    assert!(
        units.iter().all(|unit| unit.named("details").len() == 1 && unit.named("table").len() == 1)
    );
    assert!(
        units[0].text.contains("Parked since 1 h ago, tried 0 time(s) again, next 50 min ago.")
    );
    // Every header says what it heads, every control has a label, and one can skip what one does not need.
    assert!(page.named("th").iter().all(|cell| ["col", "row"].contains(&cell.attribute("scope"))));
    let labelled: usize = page.named("label").iter().map(|label| label.named("input").len()).sum();
    assert_eq!(labelled, page.named("input").len());
    let skip = page.named("a")[0].attribute("href").trim_start_matches('#').to_owned();
    assert_eq!(page.find(&|element| element.attribute("id") == skip)[0].name, "main");
}

#[tokio::test]
async fn filters_by_state_and_profile_are_styles_that_need_no_script() {
    let page = page(&told(mixed())).await;
    let style = &page.named("style")[0].text;
    let units = page.find(&|element| element.has_class("unit"));
    let shown_by = |label: &str| -> Vec<String> {
        let label = page.named("label").into_iter().find(|one| one.text.trim() == label);
        let label = label.unwrap_or_else(|| panic!("no filter of that name"));
        let input = label.named("input")[0];
        let (id, class) = (input.attribute("id"), input.attribute("value"));
        let rule =
            format!("form:has(#{id}:checked) ~ main .unit:not(.{class}) {{ display: none; }}");
        assert!(style.contains(&rule), "{rule}");
        let shown = units.iter().filter(|unit| unit.has_class(class));
        shown.map(|unit| unit.named("span")[1].text.clone()).collect()
    };
    assert_eq!(shown_by("parked (1)"), ["runner/g44-plan"]);
    assert_eq!(shown_by("needs an administrator (1)"), ["runner/g43-plan"]);
    assert_eq!(shown_by("ready (2)"), ["runner/g42-apply", "identity/id-tf.1a2b3c4d"]);
    assert_eq!(shown_by("plan"), ["runner/g44-plan", "runner/g43-plan"]);
    assert_eq!(shown_by("apply"), ["runner/g41-apply", "runner/g42-apply"]);
}

#[tokio::test]
async fn no_id_of_an_identity_or_a_scope_is_on_the_page() {
    let mut units = mixed();
    let record = RoundRecord {
        at: now(),
        cause: GUID.to_owned(),
        did: vec![
            format!("assign Reader on {SCOPE}"),
            "answer ServiceAccount x/job: granted".to_owned(),
        ],
        failure: Some(format!("no right at `{SCOPE}` nor for ({GUID})")),
        took: None,
    };
    units.push(ready("runner/g45-plan").with_round(record));
    let answered = get(&told(units), BROWSER).await;
    let page = parse(&answered.text);
    for word in [GUID, SCOPE, "subscriptions", "00000000-0000", "resourceGroups"] {
        assert!(!answered.text.contains(word), "{word}");
    }
    for kept in [
        "Parked: assign Reader on …: Azure refused '…'",
        "RightMissing: az role assignment create --assignee-object-id … --role \"Owner\" --scope \"…\"",
        "no right at `…` nor for (…)",
    ] {
        assert!(page.text.contains(kept), "no `{kept}` in {}", page.text);
    }
}

#[tokio::test]
async fn whatever_a_name_holds_is_text_and_nothing_else() {
    let evil =
        "</script><script>alert(1)</script>\"'&amp;\u{0}\u{1b}[31m<img src=x onerror=alert(1)>";
    let condition = Condition {
        kind: ConditionKind::Ready,
        status: false,
        reason: evil.to_owned(),
        message: evil.to_owned(),
        since: now(),
    };
    let record = RoundRecord {
        at: now(),
        cause: evil.to_owned(),
        did: vec![evil.to_owned()],
        failure: Some(evil.to_owned()),
        took: None,
    };
    let status = Status {
        path: Some(evil.to_owned()),
        conditions: vec![condition],
        ..Status::new("runner/g42-plan".parse().unwrap())
    };
    let page = page(&told(vec![status.with_round(record)])).await;
    assert_eq!((page.named("script").len(), page.named("img").len()), (1, 0));
    let unit = page.find(&|element| element.has_class("unit"))[0];
    assert!(unit.text.matches("alert(1)").count() >= 10, "all of it is shown: {}", unit.text);
    assert!(unit.text.contains("\"'&amp;\u{fffd}\u{fffd}"), "{}", unit.text);
}

#[tokio::test]
async fn what_cannot_be_read_is_said_on_a_page_too() {
    let world = Arc::new(World { ending: Ending::Failed, ..World::default() });
    let answered = get(&world, BROWSER).await;
    assert_eq!(answered.status, 503);
    let page = parse(&answered.text);
    assert!(
        page.text.contains("The fleet cannot be shown\nno right at … for <nobody>"),
        "{}",
        page.text
    );
    assert_eq!(
        get(&world, "*/*").await.json()["error"],
        "no right at /subscriptions/2222 for <nobody>"
    );
}

/// As a large fleet is: one unit in fifty is on its way.
fn five_thousand() -> Vec<Status> {
    let kinds = [
        ConditionKind::Ready,
        ConditionKind::Registered,
        ConditionKind::IdentityReady,
        ConditionKind::Deployed,
        ConditionKind::Online,
    ];
    let unit = |number: usize| {
        let unit: Unit = format!("runner/g{number}-plan").parse().unwrap();
        let holds = !number.is_multiple_of(50);
        let findings = kinds.map(|kind| match holds {
            true => Finding::holds(
                kind,
                "Settled",
                "as fleet.yaml says, and as such a message usually is",
            ),
            false => Finding::fails(
                kind,
                "Progressing",
                "on its way; the other conditions say what is left",
            ),
        });
        let record = RoundRecord {
            at: now(),
            cause: "a-delivery".to_owned(),
            did: vec!["apply NetworkPolicy ci-nonprod--g42-plan/jobs-g42-plan".to_owned(); 20],
            failure: None,
            took: Some(jiff::SignedDuration::from_millis(1240)),
        };
        let status = Status { path: Some(format!("platform/team-{number}")), ..Status::new(unit) };
        (0..5).fold(status.with(&findings, now()), |status, _| status.with_round(record.clone()))
    };
    (1..=5000).map(unit).collect()
}

#[tokio::test]
async fn an_empty_fleet_and_five_thousand_units_are_one_page_each() {
    let empty = page(&told(vec![])).await;
    assert!(empty.text.contains("0 units: 0 parked,"), "{}", empty.text);
    let world = told(five_thousand());
    let began = Instant::now();
    let answered = get(&world, BROWSER).await;
    let took = began.elapsed();
    let size = answered.text.len();
    let units = parse(&answered.text).find(&|element| element.has_class("unit")).len();
    assert_eq!(units, 5000);
    // Both leave room for a slow machine and a build without optimisation; docs/commands.md has what was measured.
    assert!(size < 10 << 20, "{size} bytes");
    assert!(took.as_secs() < 20, "{took:?}");
    assert!(
        answered.text.contains("and 8 more") && answered.text.contains("and 17 more"),
        "what is left out is counted"
    );
    #[expect(clippy::print_stderr, reason = "measured for the docs")]
    {
        eprintln!("5,000 units: {size} bytes in {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_handler_shows_a_real_unit() {
    let sandbox = Sandbox::new(&crate::deeds::plan_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let url = format!("http://{}/api/fleet", sandbox.world.address("host").unwrap());
    let request = || {
        let request = crate::deeds::client().get(&url).header("accept", BROWSER);
        request.header("x-functions-key", crate::harness::FUNCTION_KEY)
    };
    let response = request().send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
    let text = response.text().await.unwrap();
    let page = parse(&text);
    assert!(page.text.contains(&format!("runner/g{group}-plan")), "{text}");
    assert!(page.text.contains(", caused by a delivery"), "{text}");
    let steps = page.named("li").iter().filter(|item| !item.has_class("unit")).count();
    assert!((1..=4).contains(&steps), "the last round is shown: {text}");
    for identity in sandbox.world.azure.identities() {
        for id in [identity.principal_id.to_string(), identity.client_id.to_string(), identity.id] {
            assert!(!text.contains(&id), "{id}");
        }
    }
    let json: Value = sandbox.fetch("/api/fleet").await;
    assert_eq!(json["units"].as_array().unwrap().len(), 1);
    sandbox.deploy("version: 1\nflet: nonprod\n").await;
    let response = request().send().await.unwrap();
    let page = parse(&response.text().await.unwrap());
    assert!(page.text.contains("The fleet's file is not valid"), "{}", page.text);
}
