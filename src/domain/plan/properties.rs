//! What holds of every plan, whatever the world looks like and wherever a round is cut short.

use super::{
    Node, Plan, Verdict, runner,
    world::{CEILINGS, World},
};
use crate::domain::{
    azure::RoleAssignment,
    gitlab::EntitySettings,
    ids::{GroupId, RunnerId, TargetId},
    kubernetes::{Kind, Object, ObjectName},
    names,
    observed::{IdentityObserved, LeftPlace, Observed, SecretObserved},
    render::{self, Entry},
    spec::{Isolation, RunnerSpec},
    step::Step,
};
use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;

/// How a world is out of order before forerunner looks at it.
#[derive(Clone, Debug)]
struct Mess {
    with_identity: bool,
    entities: usize,
    secret: Option<SecretMess>,
    /// Rounds that ran before and were cut: which of their steps landed.
    earlier: Vec<u64>,
    foreign_assignment: bool,
}

#[derive(Clone, Copy, Debug)]
enum SecretMess {
    /// It holds the token of one of our entities.
    Good,
    /// It holds a token that GitLab no longer knows.
    Dead,
}

fn any_mess() -> impl Strategy<Value = Mess> {
    let secret =
        prop_oneof![Just(None), Just(Some(SecretMess::Good)), Just(Some(SecretMess::Dead))];
    (any::<bool>(), 0_usize..4, secret, prop::collection::vec(any::<u64>(), 0..3), any::<bool>())
        .prop_map(|(with_identity, entities, secret, earlier, foreign_assignment)| Mess {
            with_identity,
            entities,
            secret,
            earlier,
            foreign_assignment,
        })
}

fn world(mess: &Mess) -> World {
    let mut world = World::empty(mess.with_identity);
    let ids: Vec<RunnerId> = (0..mess.entities).map(|_| world.add_entity()).collect();
    world.secret = match (mess.secret, ids.last()) {
        (Some(SecretMess::Good), Some(id)) => Some(vec![(*id, world.tokens[id].clone())]),
        (Some(SecretMess::Dead), last) => {
            Some(vec![(last.copied().unwrap_or(RunnerId(7)), "token-nobody-knows".to_owned())])
        }
        (Some(SecretMess::Good) | None, _) => None,
    };
    if mess.foreign_assignment {
        world.assignments.push(RoleAssignment {
            name: uuid::Uuid::from_u128(77),
            scope: crate::domain::azure::ResourceId::new("/subscriptions/1111").unwrap(),
            role: uuid::Uuid::from_u128(99),
            principal_id: uuid::Uuid::from_u128(98),
            description: Some("a person's".into()),
            condition: None,
        });
    }
    for cut in &mess.earlier {
        let plan = world.plan();
        world.act(&plan, |step| cut >> (step % 64) & 1 == 1);
        world.pass(SignedDuration::from_secs(30));
    }
    world
}

/// Another group's runner with our marker on it, and one made by hand.
fn add_strangers(world: &mut World) -> Vec<RunnerId> {
    let marked = EntitySettings {
        description: "apply [forerunner:nonprod:uid-1:g42-apply:1]".into(),
        tags: vec!["azure-apply".into()],
        run_untagged: true,
        locked: false,
        protected: false,
        maximum_timeout: None,
        maintenance_note: None,
        paused: false,
    };
    let by_hand = EntitySettings { description: "made by hand".into(), ..marked.clone() };
    let other = TargetId::Group(GroupId(666));
    vec![world.create(other, &marked), world.create(TargetId::Group(GroupId(42)), &by_hand)]
}

fn settle(world: &mut World, cuts: &[u64]) {
    for cut in cuts {
        let plan = world.plan();
        world.act(&plan, |step| step == 0 || cut >> (step % 64) & 1 == 1);
        world.pass(SignedDuration::from_secs(60));
    }
    for _ in 0..12 {
        let plan = world.plan();
        if plan.is_settled() {
            return;
        }
        world.act(&plan, |_| true);
        world.pass(SignedDuration::from_secs(60));
    }
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|node| node.step.to_string()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// From any world, with every round cut short anywhere, the runner ends up served and the planner rests.
    #[test]
    fn cut_rounds_still_settle(mess in any_mess(), cuts in prop::collection::vec(any::<u64>(), 0..6)) {
        let mut world = world(&mess);
        settle(&mut world, &cuts);
        prop_assert_eq!(world.serves(), Ok(()));
        let plan = world.plan();
        prop_assert!(plan.is_settled(), "still plans {:?} and {:?}", lines(&plan), plan.verdict);
    }

    #[test]
    fn the_same_world_gives_the_same_plan(mess in any_mess()) {
        let world = world(&mess);
        prop_assert_eq!(format!("{:?}", world.plan()), format!("{:?}", world.plan()));
    }

    /// A marker on another owner's runner, and a runner without one, are never changed.
    #[test]
    fn what_is_not_ours_is_never_touched(mess in any_mess(), cuts in prop::collection::vec(any::<u64>(), 0..4)) {
        let mut world = world(&mess);
        let strangers = add_strangers(&mut world);
        let before: Vec<_> = world.entities.iter().filter(|one| strangers.contains(&one.id)).cloned().collect();
        let tokens: Vec<_> = strangers.iter().map(|id| world.tokens[id].clone()).collect();
        settle(&mut world, &cuts);
        let after: Vec<_> = world.entities.iter().filter(|one| strangers.contains(&one.id)).cloned().collect();
        prop_assert_eq!(before, after);
        prop_assert_eq!(tokens, strangers.iter().map(|id| world.tokens[id].clone()).collect::<Vec<_>>());
        prop_assert_eq!(world.serves(), Ok(()));
    }

    /// The entity stays paused until credential and roles have settled: online means a job can sign in.
    #[test]
    fn nothing_opens_before_the_identity_has_settled(cuts in prop::collection::vec(any::<u64>(), 0..8)) {
        let mut world = World::empty(true);
        for cut in cuts {
            let plan = world.plan();
            let opens = plan.steps.iter().any(|node| {
                matches!(&node.step, Step::UpdateRunner { change, .. } if change.paused == Some(false))
            });
            let complete = world.identity.is_some() && !world.credentials.is_empty() && world.assignments.len() == 2;
            prop_assert!(!opens || complete);
            world.act(&plan, |step| cut >> (step % 64) & 1 == 1);
            world.pass(SignedDuration::from_secs(30));
        }
    }
}

#[test]
fn a_healthy_runner_needs_nothing() {
    let mut world = World::empty(true);
    settle(&mut world, &[]);
    let plan = world.plan();
    assert!(plan.steps.is_empty(), "{:?}", lines(&plan));
    assert_eq!(plan.verdict, Verdict::Settled);
}

/// Where an administrator has to mend the new place, the manager still runs jobs in the old one, and keeps its right there.
#[test]
fn a_runner_whose_new_place_waits_for_a_person_leaves_nothing_of_the_old_one() {
    let mut world = World::empty(true);
    settle(&mut world, &[]);
    let mut observed = world.observe();
    let before = RunnerSpec { isolation: Isolation::Profile, ..world.spec.clone() };
    let SecretObserved::Present { object, entries } = &mut observed.secret else {
        panic!("a settled runner has its Secret")
    };
    let entry = Entry { runner: entries[0].runner, token: &entries[0].token };
    object.body["data"] =
        render::config_secret(&before, &world.context(), &[entry]).body["data"].clone();
    let place = names::job_namespace(&world.fleet.name, &before);
    let name = ObjectName::new(Kind::RoleBinding, &place, &names::manager(&before.key));
    let binding = Some(Object { name, body: json!({}) });
    observed.left_places = vec![LeftPlace { namespace: None, binding, job_pods: 0 }];
    let plan = |observed: &Observed| {
        runner::plan(&world.spec, &world.fleet, observed, CEILINGS, world.now)
    };
    // It can run there and sign in: it is told so before anything else of the move.
    let moves = plan(&observed);
    assert!(
        matches!(moves.steps[..], [Node { step: Step::RewriteSecret { .. }, .. }]),
        "{:?}",
        lines(&moves)
    );
    let IdentityObserved::Managed { assignments, .. } = &mut observed.domain.identity else {
        panic!("it has an identity")
    };
    // A person's assignment of the same role stands in the way of ours.
    assignments[0].name = uuid::Uuid::from_u128(7);
    assignments[0].condition = Some("a person's".into());
    let lags = plan(&observed);
    assert!(lags.steps.is_empty(), "{:?}", lines(&lags));
    assert!(matches!(lags.verdict, Verdict::FollowUp { patient: true, .. }), "{:?}", lags.verdict);
    // No process begins that would read the old file once and for all.
    let deployment = observed.deployment.as_mut().expect("it has a manager");
    let template = &mut deployment.body["spec"]["template"]["metadata"]["annotations"];
    template[names::ANNOTATION_RESTART] = "another".into();
    let lags = plan(&observed);
    assert!(lags.steps.is_empty(), "{:?}", lines(&lags));
    // Who gets no job is told at once, so that none begins in the old place when it opens.
    observed.entities[0].paused = true;
    observed.entities[0].maintenance_note = Some(runner::NOTE_NOT_OPEN.into());
    let told = plan(&observed);
    let is_rewrite = |node: &Node| matches!(node.step, Step::RewriteSecret { .. });
    assert!(told.steps.iter().any(is_rewrite), "{:?}", lines(&told));
}

/// Its manager could start none of the jobs that it took.
#[test]
fn a_runner_opens_only_where_its_manager_is_bound() {
    let mut world = World::empty(true);
    settle(&mut world, &[]);
    let opens = |plan: &Plan| lines(plan).iter().any(|line| line.starts_with("open runner"));
    world.entities[0].paused = true;
    world.entities[0].maintenance_note = Some(runner::NOTE_NOT_OPEN.into());
    assert!(opens(&world.plan()));
    world.objects.retain(|name, _| name.kind != Kind::RoleBinding);
    let plan = world.plan();
    assert!(!opens(&plan), "{:?}", lines(&plan));
    world.act(&plan, |_| true);
    assert!(opens(&world.plan()));
}

#[test]
fn a_lost_token_that_somebody_polls_with_is_left_alone() {
    let mut world = World::empty(false);
    settle(&mut world, &[]);
    world.secret = None;
    let plan = world.plan();
    let resets = plan
        .steps
        .iter()
        .any(|node| matches!(node.step, Step::ReplaceToken { .. } | Step::CreateRunner { .. }));
    assert!(!resets, "{:?}", lines(&plan));
    assert!(matches!(plan.verdict, Verdict::Park { .. }), "{:?}", plan.verdict);
}

#[test]
fn a_runner_of_another_installation_stops_all_writes_in_gitlab() {
    let mut world = World::empty(false);
    world.add_entity();
    world.installation = crate::domain::ids::InstallationId("uid-2".into());
    let plan = world.plan();
    let in_gitlab = plan
        .steps
        .iter()
        .filter(|node| node.step.service() == crate::domain::step::Service::Gitlab);
    assert_eq!(in_gitlab.count(), 0);
    assert!(matches!(&plan.verdict, Verdict::Park { reason } if reason.contains("adopt --fleet")));
}

#[test]
fn a_pause_by_a_person_is_kept_and_shown() {
    let mut world = World::empty(false);
    settle(&mut world, &[]);
    world.entities[0].paused = true;
    let plan = world.plan();
    assert!(plan.steps.is_empty(), "{:?}", lines(&plan));
    assert!(plan.findings.iter().any(|finding| finding.reason == "PausedByPerson"));
}
