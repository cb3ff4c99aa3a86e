//! Lists: what is in them, how they are cut into pages, and the same by GraphQL.

use super::{World, ids};
use forerunner::sandbox::gitlab::GroupLists;
use jiff::SignedDuration;
use serde_json::{Value, json};

#[tokio::test]
async fn offset_pages_lead_on_by_link_until_the_next_page_is_empty() {
    let world = World::new().await;
    let made: Vec<u64> =
        (0..5).map(|number| world.gitlab.create_group(None, &format!("g{number}"))).collect();
    let answer = world.get("groups?order_by=id&sort=asc&per_page=2&page=2").await;
    assert_eq!(ids(&answer.json()), made[2..4]);
    let expected = [
        ("x-page", "2"),
        ("x-per-page", "2"),
        ("x-next-page", "3"),
        ("x-prev-page", "1"),
        ("x-total", "5"),
        ("x-total-pages", "3"),
    ];
    for (name, value) in expected {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    let link = answer.header("link").unwrap();
    let base = "https://gitlab.example.com/api/v4/groups?order_by=id&sort=asc";
    assert!(link.contains(&format!("<{base}&page=3&per_page=2>; rel=\"next\"")), "{link}");
    assert!(link.contains("rel=\"prev\"") && link.contains("rel=\"last\""), "{link}");
    let last = world.get("groups?order_by=id&sort=asc&per_page=2&page=3").await;
    assert_eq!(last.header("x-next-page"), Some(""));
    assert!(!last.header("link").unwrap().contains("rel=\"next\""));

    let capped = world.get("groups?per_page=1000").await;
    assert_eq!(capped.header("x-per-page"), Some("100"));
    let plain = world.get("groups?pagination=keyset&order_by=id").await;
    assert_eq!(plain.header("x-per-page"), Some("20"), "keyset is not for groups");
    assert_eq!(world.get("groups?page=0").await.status, 400);

    world.gitlab.destroy_group(made[0]);
    let shifted = world.get("groups?order_by=id&sort=asc&per_page=2&page=2").await;
    assert_eq!(ids(&shifted.json()), made[3..5], "a deletion shifts what is on page 2");
}

#[tokio::test]
async fn projects_can_be_read_by_keyset() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    let made: Vec<u64> =
        (0..5).map(|number| world.gitlab.create_project(group, &format!("p{number}"))).collect();
    let mut seen = Vec::new();
    let mut query = "pagination=keyset&order_by=id&sort=asc&per_page=2".to_owned();
    for page in 0.. {
        let answer = world.get(&format!("projects?{query}")).await;
        assert_eq!(answer.header("x-total"), None);
        seen.extend(ids(&answer.json()));
        let Some(link) = answer.header("link") else {
            assert_eq!(page, 2);
            break;
        };
        assert!(link.ends_with("rel=\"next\""), "{link}");
        query = link.split(['?', '>']).nth(1).unwrap().to_owned();
    }
    assert_eq!(seen, made);
    assert_eq!(world.get("projects?pagination=keyset&order_by=name").await.status, 405);
}

#[tokio::test]
async fn the_tree_is_listed_by_level_and_whole() {
    let world = World::new().await;
    let top = world.gitlab.create_group(None, "acme");
    let team = world.gitlab.create_group(Some(top), "team");
    let squad = world.gitlab.create_group(Some(team), "squad");
    let project = world.gitlab.create_project(squad, "app");
    let list = async |path: String| ids(&world.get(&path).await.expect(200));
    assert_eq!(list("groups?top_level_only=true".to_owned()).await, [top]);
    assert_eq!(list(format!("groups/{top}/subgroups")).await, [team]);
    assert_eq!(list(format!("groups/{top}/descendant_groups?order_by=id")).await, [team, squad]);
    assert_eq!(list(format!("groups/{top}/projects")).await, Vec::<u64>::new());
    assert_eq!(list(format!("groups/{top}/projects?include_subgroups=true")).await, [project]);
    world.gitlab.archive_group(team);
    assert_eq!(list("groups?active=true".to_owned()).await, [top]);
    assert_eq!(list("groups?archived=true&order_by=id".to_owned()).await, [team, squad]);
}

#[tokio::test]
async fn a_groups_list_has_its_ancestors_runners_and_not_its_descendants() {
    let world = World::new().await;
    let top = world.gitlab.create_group(None, "acme");
    let team = world.gitlab.create_group(Some(top), "team");
    let squad = world.gitlab.create_group(Some(team), "squad");
    let project = world.gitlab.create_project(team, "app");
    let mut made = Vec::new();
    for group in [top, team, squad] {
        made.push(world.create_group_runner(group).await.0);
    }
    let body = json!({ "runner_type": "instance_type" });
    let shared = world.send("POST", "user/runners", body).await.expect(201)["id"].as_u64();
    let shared = shared.unwrap();
    let body = json!({ "runner_type": "project_type", "project_id": project, "tag_list": "a,b" });
    let own = world.send("POST", "user/runners", body).await.expect(201)["id"].as_u64().unwrap();

    let list = async |path: String| ids(&world.get(&path).await.expect(200));
    let expected = vec![made[0], made[1], shared];
    assert_eq!(list(format!("groups/{team}/runners")).await, expected);
    let typed = list(format!("groups/{team}/runners?type=group_type")).await;
    assert_eq!(typed, made[..2]);
    let whole = list("runners/all".to_owned()).await;
    assert_eq!(whole, [made[0], made[1], made[2], shared, own]);
    let reach = list(format!("projects/{project}/runners")).await;
    assert_eq!(reach, [made[0], made[1], shared, own]);
    world.gitlab.set_project_runners(project, false, false);
    assert_eq!(list(format!("projects/{project}/runners")).await, [own]);

    assert_eq!(list("runners/all?tag_list=a,b".to_owned()).await, [own]);
    assert_eq!(list("runners/all?tag_list=a,c".to_owned()).await, Vec::<u64>::new());
    let wrong = world.get("runners/all?status=sleepy").await;
    wrong.refuses(400, json!({ "error": "status does not have a valid value" }));
    let element = &world.get("runners/all").await.expect(200)[0];
    let absent = ["tag_list", "groups", "contacted_at", "token", "token_expires_at"];
    for name in absent {
        assert_eq!(element.get(name), None, "{name}");
    }
    assert_eq!(element["status"], "never_contacted");
    assert_eq!(element["online"], Value::Null);
    assert_eq!(element["created_by"]["username"], "svc-forerunner");
}

const BULK: &str = "query($after: String, $q: String) {
  runners(type: GROUP_TYPE, search: $q, first: 100, after: $after) {
    pageInfo { hasNextPage endCursor }
    nodes { id description status paused contactedAt createdAt tokenExpiresAt tagList runUntagged locked
            accessLevel maximumTimeout maintenanceNote jobExecutionStatus groups { nodes { id fullPath } } } } }";

async fn query(world: &World, token: &str, text: &str, variables: Value) -> Value {
    let body = json!({ "query": text, "variables": variables });
    world.call(token, "POST", "graphql", Some(body)).await.expect(200)
}

#[tokio::test]
async fn the_bulk_query_has_everything_of_a_hundred_runners_a_page() {
    let world = World::new().await;
    let token = world.gitlab.create_access_token(world.gitlab.admin_user(), &["read_api"]);
    let group = world.gitlab.create_group(None, "acme");
    for number in 0..103 {
        let body = json!({
            "runner_type": "group_type",
            "group_id": group,
            "description": format!("Fleet {number}"),
            "tag_list": ["terraform"],
            "access_level": "ref_protected",
        });
        world.send("POST", "user/runners", body).await.expect(201);
    }
    let first = query(&world, &token, BULK, json!({ "q": "fleet" })).await;
    let page = &first["data"]["runners"];
    assert_eq!(page["nodes"].as_array().unwrap().len(), 100);
    assert_eq!(page["pageInfo"]["hasNextPage"], true);
    let node = &page["nodes"][0];
    assert_eq!(node["id"], "gid://gitlab/Ci::Runner/103");
    assert_eq!(node["description"], "Fleet 102");
    assert_eq!(node["status"], "NEVER_CONTACTED");
    assert_eq!(node["accessLevel"], "REF_PROTECTED");
    assert_eq!(node["jobExecutionStatus"], "IDLE");
    assert_eq!(node["tagList"], json!(["terraform"]));
    let owner = json!({ "id": format!("gid://gitlab/Group/{group}"), "fullPath": "acme" });
    assert_eq!(node["groups"]["nodes"], json!([owner]));

    let after = page["pageInfo"]["endCursor"].clone();
    let rest = query(&world, &token, BULK, json!({ "q": "fleet", "after": after })).await;
    let rest = &rest["data"]["runners"];
    assert_eq!(rest["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(rest["pageInfo"]["hasNextPage"], false);
    let none = query(&world, &token, BULK, json!({ "q": "stranger" })).await;
    assert_eq!(none["data"]["runners"]["nodes"], json!([]));
}

#[tokio::test]
async fn graphql_refuses_what_it_does_not_know_and_who_may_not() {
    let world = World::new().await;
    let admin = world.gitlab.admin_token();
    for text in [
        "{ runners { nodes { nonsense } } }",
        "{ runners { nodes } }",
        "{ runners { count { id } } }",
        "{ runners(first: 1) { nodes { groups { nodes { token } } } } }",
        "{ runners(limit: 3) { count } }",
        "{ projects { count } }",
        "{ runners(type: ANY) { count } }",
        "mutation { runnerDelete { errors } }",
    ] {
        let answer = query(&world, &admin, text, json!({})).await;
        assert!(answer["errors"][0]["message"].is_string(), "{text}: {answer}");
    }
    let group = world.gitlab.create_group(None, "acme");
    let below = world.gitlab.create_group(Some(group), "team");
    world.create_group_runner(below).await;
    let user = world.gitlab.add_user("jo", false);
    let token = world.gitlab.create_access_token(user, &["read_api"]);
    let root = query(&world, &token, BULK, json!({})).await;
    assert_eq!(root["data"]["runners"], Value::Null);
    assert!(root["errors"].is_array());

    let text = "query($p: ID!) { group(fullPath: $p) { fullPath runners(first: 1) { count nodes { id } } } }";
    let hidden = query(&world, &token, text, json!({ "p": "acme" })).await;
    assert_eq!(hidden, json!({ "data": { "group": null } }));
    world.gitlab.add_group_member(group, user, 50);
    let shown = query(&world, &token, text, json!({ "p": "acme" })).await;
    assert_eq!(shown["data"]["group"]["runners"]["count"], 1, "of what lies below, too");
}

#[tokio::test]
async fn a_groups_owner_reads_the_runners_of_its_tree_and_of_what_serves_it() {
    let world = World::new().await;
    let company = world.gitlab.create_group(None, "acme");
    let team = world.gitlab.create_group(Some(company), "team");
    let squad = world.gitlab.create_group(Some(team), "squad");
    let (above, _) = world.create_group_runner(company).await;
    let (own, _) = world.create_group_runner(team).await;
    let (below, _) = world.create_group_runner(squad).await;
    let body = json!({ "runner_type": "instance_type" });
    let shared = world.send("POST", "user/runners", body).await.expect(201)["id"].as_u64();
    let user = world.gitlab.add_user("jo", false);
    world.gitlab.add_group_member(team, user, 40);
    let token = world.gitlab.create_access_token(user, &["read_api"]);
    let list = async |membership: &str| {
        let text = format!(
            "{{ group(fullPath: \"acme/team\") {{ id runners(membership: {membership}, sort: CREATED_ASC) {{ nodes {{ id groups {{ nodes {{ fullPath }} }} }} }} }} }}"
        );
        query(&world, &token, &text, json!({})).await
    };
    let ids = |answer: &Value| -> Option<Vec<u64>> {
        let nodes = answer["data"]["group"]["runners"]["nodes"].as_array()?;
        let ids = nodes.iter().map(|node| node["id"].as_str().unwrap().rsplit('/').next());
        Some(ids.map(|id| id.unwrap().parse().unwrap()).collect())
    };
    let memberships = ["DIRECT", "DESCENDANTS", "ALL_AVAILABLE"];
    for membership in memberships {
        let refused = list(membership).await;
        assert_eq!(ids(&refused), None, "a maintainer is no owner");
        assert_eq!(refused["errors"][0]["path"], json!(["group", "runners"]), "{refused}");
        assert!(refused["data"]["group"]["id"].is_string(), "the rest is answered: {refused}");
    }
    world.gitlab.add_group_member(team, user, 50);
    let all = vec![own, below, shared.unwrap()];
    for (membership, expected) in memberships.iter().zip([&all[..1], &all[..2], &all]) {
        assert_eq!(ids(&list(membership).await).unwrap(), expected, "{membership}");
    }
    // What lies above shows to whoever maintains a project that it serves.
    let project = world.gitlab.create_project(squad, "app");
    let shown = list("ALL_AVAILABLE").await;
    assert_eq!(ids(&shown).unwrap(), [&[above][..], &all].concat());
    let owners = &shown["data"]["group"]["runners"]["nodes"][0]["groups"]["nodes"];
    assert_eq!(*owners, json!([{ "fullPath": "acme" }]));
    world.gitlab.set_project_runners(project, true, false);
    assert_eq!(ids(&list("ALL_AVAILABLE").await).unwrap(), all);

    for (lists, expected) in [
        (GroupLists::OwnTreeOnly, [Some(1), Some(2), None]),
        (GroupLists::Empty, [Some(0); 3]),
        (GroupLists::Refused, [None; 3]),
    ] {
        world.gitlab.set_group_lists(lists);
        for (membership, expected) in memberships.iter().zip(expected) {
            let shown = ids(&list(membership).await).map(|ids| ids.len());
            assert_eq!(shown, expected, "{lists:?} {membership}");
        }
    }
}

#[tokio::test]
async fn filters_read_a_contact_that_is_up_to_an_hour_old() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    let (runner, token) = world.create_group_runner(group).await;
    world.poll(&token, "r_1").await;
    world.turn(SignedDuration::from_mins(39));
    world.poll(&token, "r_1").await;
    world.turn(SignedDuration::from_mins(82));
    let shown = world.get(&format!("runners/{runner}")).await.expect(200);
    assert_eq!(shown["status"], "online", "a single read knows better");
    let online = world.get("runners/all?status=online").await.expect(200);
    assert_eq!(ids(&online), Vec::<u64>::new());
    let offline = world.get("runners/all?status=offline").await.expect(200);
    assert_eq!(ids(&offline), [runner]);
}

#[tokio::test]
async fn graphql_narrows_runners_by_owner_token_status_and_membership() {
    let world = World::new().await;
    let admin = world.gitlab.admin_token();
    let top = world.gitlab.create_group(None, "acme");
    let team = world.gitlab.create_group(Some(top), "team");
    let project = world.gitlab.create_project(team, "app");
    let (above, _) = world.create_group_runner(top).await;
    let (own, token) = world.create_group_runner(team).await;
    let body = json!({ "runner_type": "project_type", "project_id": project, "paused": true });
    let below = world.send("POST", "user/runners", body).await.expect(201)["id"].as_u64().unwrap();
    world.poll(&token, "r_1").await;
    let check = async |arguments: &str, expected: &[u64]| {
        let text = format!("{{ runners(sort: CREATED_ASC, {arguments}) {{ nodes {{ id }} }} }}");
        let answer = query(&world, &admin, &text, json!({})).await;
        let nodes = answer["data"]["runners"]["nodes"].as_array().unwrap().clone();
        let expected: Vec<Value> = expected
            .iter()
            .map(|id| json!({ "id": format!("gid://gitlab/Ci::Runner/{id}") }))
            .collect();
        assert_eq!(nodes, expected, "{arguments}");
    };
    check("ownerFullPath: \"acme\"", &[above]).await;
    check("ownerFullPath: \"acme/team/app\"", &[below]).await;
    check("ownerFullPath: \"nowhere\"", &[]).await;
    check(&format!("search: \"{token}\""), &[own]).await;
    check("status: ONLINE", &[own]).await;
    check("paused: true", &[below]).await;
    check("type: GROUP_TYPE", &[above, own]).await;
    check("creatorId: \"gid://gitlab/User/2\"", &[above, own, below]).await;

    let of_group = async |membership: &str| {
        let text = format!(
            "{{ group(fullPath: \"acme/team\") {{ runners(membership: {membership}) {{ count }} }} }}"
        );
        query(&world, &admin, &text, json!({})).await["data"]["group"]["runners"]["count"].clone()
    };
    assert_eq!(of_group("DIRECT").await, 1);
    assert_eq!(of_group("DESCENDANTS").await, 2);
    assert_eq!(of_group("ALL_AVAILABLE").await, 3);
}
