//! Overlaps on the real tree: two runners that serve the same projects, would take the same job, and let it sign in as
//! somebody else.

use super::{Contested, Offer, TargetFacts};
use crate::domain::{
    ids::{RunnerKey, TargetId},
    spec::{IdentitySpec, Isolation, RunnerSpec},
};
use std::{collections::BTreeMap, fmt};

/// A runner where it really is.
#[derive(Clone, Debug)]
pub struct Served<'a> {
    pub facts: &'a TargetFacts,
    pub spec: &'a RunnerSpec,
}

/// Two runners that a job cannot tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// The one whose target lies at or below the other's comes first: its projects are what both serve.
    pub runners: (RunnerKey, RunnerKey),
    /// Where they are; empty for the instance.
    pub paths: (String, String),
    pub contested: Contested,
    /// Either has an identity, and not both the same one: an error rather than a warning.
    pub identity: bool,
}

/// Every pair of the given runners that clashes, in the order of their keys.
pub fn clashes(served: &[Served<'_>]) -> Vec<Clash> {
    let mut at: BTreeMap<TargetId, Vec<&Served<'_>>> = BTreeMap::new();
    for one in served {
        at.entry(one.facts.id).or_default().push(one);
    }
    let mut found: Vec<Clash> = at.values().flatten().flat_map(|one| above(one, &at)).collect();
    found.sort_by(|left, right| left.runners.cmp(&right.runners));
    found
}

/// Those of the same target count once, by the order of their keys.
fn above<'a>(
    low: &'a Served<'a>,
    at: &'a BTreeMap<TargetId, Vec<&'a Served<'a>>>,
) -> impl Iterator<Item = Clash> + 'a {
    let ancestors = low.facts.ancestors.iter().map(|(id, _)| TargetId::Group(*id));
    let instance = (low.facts.id != TargetId::Instance).then_some(TargetId::Instance);
    let places = ancestors.chain(instance).chain([low.facts.id]);
    let others = places.flat_map(|place| at.get(&place).into_iter().flatten());
    others
        .filter(|high| high.facts.id != low.facts.id || low.spec.key < high.spec.key)
        .filter_map(|high| clash(low, high))
}

fn clash(low: &Served<'_>, high: &Served<'_>) -> Option<Clash> {
    let (one, other) = (low.spec, high.spec);
    let shared = one.key.profile == other.key.profile
        && one.isolation == Isolation::Profile
        && other.isolation == Isolation::Profile;
    if shared {
        return None;
    }
    let contested = offer(one).contests(&offer(other))?;
    let has = |spec: &RunnerSpec| spec.identity != IdentitySpec::None;
    Some(Clash {
        runners: (one.key.clone(), other.key.clone()),
        paths: (low.facts.path.clone(), high.facts.path.clone()),
        contested,
        identity: (has(one) || has(other)) && !is_one_identity(&one.identity, &other.identity),
    })
}

fn offer(spec: &RunnerSpec) -> Offer {
    Offer::new(&spec.runner.tags, spec.runner.run_untagged, spec.runner.protected)
}

/// Both sign in as the one existing identity: whichever takes the job, it is the same in Azure.
fn is_one_identity(left: &IdentitySpec, right: &IdentitySpec) -> bool {
    let only = |identity: &IdentitySpec| match identity {
        IdentitySpec::Existing { candidates, .. } if candidates.len() == 1 => {
            candidates.first().cloned()
        }
        IdentitySpec::None | IdentitySpec::Managed { .. } | IdentitySpec::Existing { .. } => None,
    };
    only(left).is_some_and(|left| only(right) == Some(left))
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let job = match &self.contested {
            Contested::Tag(tag) => format!("a job with the tag `{tag}`"),
            Contested::Untagged => "a job without tags".to_owned(),
        };
        let place = |path: &str| match path {
            "" => "the instance".to_owned(),
            path => format!("`{path}`"),
        };
        let ((low, high), (here, there)) = (&self.runners, &self.paths);
        write!(
            f,
            "{job} below {} can go to runner/{low} or to runner/{high} of {}",
            place(here),
            place(there)
        )?;
        if self.identity {
            f.write_str(", which sign in as different identities")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fleet::Fleet;

    const FILE: &str = "
version: 1
fleet: nonprod
gitlab: { url: https://gitlab.example.com, token: { keyVault: kv-fleet, secret: token } }
azure: { subscription: 00000000-0000-4000-8000-000000000001, resourceGroup: rg, location: westeurope }
cluster: { resourceId: /subscriptions/1/resourceGroups/rg/providers/Microsoft.ContainerService/managedClusters/aks }
anchors: { a: 1 }
rules: [{ match: { instance: true }, profiles: [any] }, { match: { groups: a/**, projects: a/** }, profiles: [own, shared, plain] }]
profiles:
  any: { runner: { tags: [], runUntagged: true }, identity: none }
  own: { runner: { tags: [x, y] }, identity: { managed: { roles: [{ role: Reader, scope: /subscriptions/2 }] } } }
  shared: { runner: { tags: [s] }, isolation: profile, identity: { managed: { roles: [{ role: Reader, scope: /subscriptions/2 }] } } }
  plain: { runner: { tags: [z, Y] }, identity: none }
guardrails: { roles: [Reader], scopes: [/subscriptions/2] }
";

    fn facts(id: &str, path: &str, above: &[(u64, &str)]) -> TargetFacts {
        let ancestors =
            above.iter().map(|(id, path)| (crate::domain::ids::GroupId(*id), (*path).to_owned()));
        TargetFacts {
            id: id.parse().unwrap(),
            path: path.to_owned(),
            ancestors: ancestors.collect(),
            personal: false,
        }
    }

    fn specs(fleet: &Fleet, facts: &TargetFacts) -> Vec<RunnerSpec> {
        let wanted = fleet.wanted(facts).into_iter();
        let runners = wanted.filter_map(|wanted| match wanted.state {
            super::super::WantedState::Runner(spec) => Some(*spec),
            super::super::WantedState::NeedsValue { .. }
            | super::super::WantedState::Withdrawn { .. }
            | super::super::WantedState::OutsideGuardrails { .. }
            | super::super::WantedState::ExceptionEnded { .. }
            | super::super::WantedState::AnchorMoved { .. } => None,
        });
        runners.collect()
    }

    #[test]
    fn only_runners_of_one_line_of_groups_meet_and_a_shared_domain_is_one() {
        let now = "2026-11-24T08:00:00Z".parse().unwrap();
        let (fleet, _) = Fleet::parse(FILE, None, now).unwrap();
        let places = [
            facts("i", "", &[]),
            facts("g2", "a/b", &[(1, "a")]),
            facts("g3", "a/c", &[(1, "a")]),
            facts("p9", "a/b/p", &[(1, "a"), (2, "a/b")]),
        ];
        let specs: Vec<Vec<RunnerSpec>> = places.iter().map(|facts| specs(&fleet, facts)).collect();
        let all = places
            .iter()
            .zip(&specs)
            .flat_map(|(facts, specs)| specs.iter().map(move |spec| Served { facts, spec }));
        let all: Vec<Served<'_>> = all.collect();
        let pairs: Vec<String> = clashes(&all)
            .iter()
            .map(|clash| format!("{} {} {}", clash.runners.0, clash.runners.1, clash.identity))
            .collect();
        let expected = [
            "g2-own g2-plain true",
            "g3-own g3-plain true",
            "p9-own g2-own true",
            "p9-own g2-plain true",
            "p9-own p9-plain true",
            "p9-plain g2-own true",
            "p9-plain g2-plain false",
        ];
        assert_eq!(pairs, expected);
        assert!(clashes(&all)[0].to_string().contains("`y`"), "case does not matter");
    }
}
