//! All descriptions, and what this process has checked against them.

use super::{
    DESCRIBED,
    check::{Asked, Content},
    description::{Description, Operation},
    exceptions, is_actors,
    tally::{self, Tally},
    violation::{Kind, Violation},
};
use forerunner::sandbox::wire::{Exchange, Service};
use serde_json::Value;
use std::{
    collections::HashSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

/// Which file describes what.
const FILES: [(&str, Service); 6] = [
    ("gitlab.yaml", Service::Gitlab),
    ("azure-msi.json", Service::Arm),
    ("azure-authorization-roleassignments.json", Service::Arm),
    ("azure-aks-subset.json", Service::Arm),
    ("azure-resourcegraph-subset.json", Service::Arm),
    ("azure-keyvault-secrets-subset.json", Service::KeyVault),
];

pub(super) struct Suite {
    descriptions: Vec<(Description, Service)>,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    tally: Tally,
    /// Exchanges that were checked and found right: the same ones come by the thousand.
    right: HashSet<u64>,
}

/// One exchange's place in the descriptions.
enum Place<'suite> {
    At(&'suite Description, &'suite Operation, Vec<(String, String)>),
    Nowhere(&'suite Description),
}

impl Suite {
    /// The descriptions of the folder that the environment names; none if there is no such folder.
    pub(super) fn get() -> Option<&'static Self> {
        static SUITE: OnceLock<Option<Suite>> = OnceLock::new();
        SUITE.get_or_init(|| folder().map(|folder| Self::load(Path::new(&folder)))).as_ref()
    }

    fn load(folder: &Path) -> Self {
        let descriptions = FILES.map(|(name, service)| {
            let text = fs::read_to_string(folder.join(name))
                .unwrap_or_else(|error| panic!("{}: {error}", folder.join(name).display()));
            // Every JSON is YAML.
            let document: Value = serde_saphyr::from_str(&text).unwrap();
            let any_case = service == Service::Arm;
            let description = Description::new(name, &document, any_case, exceptions::from(name));
            (description, service)
        });
        let mut done = Done::default();
        done.tally.whole = std::env::args().skip(1).all(|argument| is_harmless(&argument));
        for (name, _) in FILES {
            done.tally.files.insert(name.to_owned(), tally::Checked::default());
        }
        Self { descriptions: descriptions.into(), done: Mutex::new(done) }
    }

    /// Checks the request if it is not a test's own, and the answer in any case.
    pub(super) fn check(&self, exchange: &Exchange) -> Vec<String> {
        let Exchange { method, path, request, status, answer, .. } = exchange;
        let body = Content { kind: &exchange.request_type, bytes: request };
        let answer = Content { kind: &exchange.answer_type, bytes: answer };
        let asked = Asked { method, path, body };
        self.check_both(exchange.service, is_actors(&exchange.caller), &asked, *status, answer)
    }

    /// The same from its parts; `counts` is whether the request is to be judged.
    pub(super) fn check_both(
        &self,
        service: Service,
        counts: bool,
        asked: &Asked<'_>,
        status: u16,
        answer: Content<'_>,
    ) -> Vec<String> {
        assert!(DESCRIBED.contains(&service));
        let mut hasher = DefaultHasher::new();
        (service, asked.method, asked.path, counts, asked.body, status, answer).hash(&mut hasher);
        let place = self.place(service, asked);
        let Place::At(description, operation, values) = &place else {
            let Place::Nowhere(description) = place else { return vec![] };
            return if counts { self.nowhere(description, asked) } else { vec![] };
        };
        self.count(&description.name, operation, counts, true);
        let key = hasher.finish();
        if self.done().right.contains(&key) {
            return vec![];
        }
        let mut found = description.check_answer(operation, status, answer);
        if counts {
            found.extend(description.check_request(operation, values, asked));
        }
        if found.is_empty() {
            self.done().right.insert(key);
        }
        self.tell(description, asked, found)
    }

    /// Checks a request alone.
    pub(super) fn check_request(&self, service: Service, asked: &Asked<'_>) -> Vec<String> {
        match self.place(service, asked) {
            Place::At(description, operation, values) => {
                self.count(&description.name, operation, true, false);
                let found = description.check_request(operation, &values, asked);
                self.tell(description, asked, found)
            }
            Place::Nowhere(description) => self.nowhere(description, asked),
        }
    }

    fn place(&self, service: Service, asked: &Asked<'_>) -> Place<'_> {
        let path = asked.bare_path();
        let of = self.descriptions.iter().filter(|(_, of)| *of == service);
        let mut of = of.map(|(description, _)| description);
        let found = of.clone().find_map(|description| {
            let (operation, values) = description.find(asked.method, path)?;
            Some(Place::At(description, operation, values))
        });
        found.unwrap_or_else(|| {
            Place::Nowhere(of.next().expect("every described service has a file"))
        })
    }

    /// What no file describes counts against a service's first.
    fn nowhere(&self, description: &Description, asked: &Asked<'_>) -> Vec<String> {
        let part = format!("{} {}", asked.method, asked.bare_path());
        let found = description.plain(Kind::Undescribed, &part, "nothing like it is described");
        self.tell(description, asked, found)
    }

    fn tell(
        &self,
        description: &Description,
        asked: &Asked<'_>,
        found: Vec<Violation>,
    ) -> Vec<String> {
        let tell = |violation: Violation| {
            format!("{}: {violation}, in {} {}", description.name, asked.method, asked.path)
        };
        let told: Vec<String> = found.into_iter().map(tell).collect();
        let mut done = self.done();
        for violation in &told {
            if done.tally.violations.len() < 1000 {
                done.tally.violations.push(violation.clone());
            }
        }
        told
    }

    fn count(&self, name: &str, operation: &Operation, request: bool, answer: bool) {
        if let Some(checked) = self.done().tally.files.get_mut(name) {
            checked.requests += u64::from(request);
            checked.answers += u64::from(answer);
            checked.operations.insert(operation.name());
        }
    }

    /// Writes the tally as it is now.
    pub(super) fn record(&self) {
        let mut done = self.done();
        for (description, _) in &self.descriptions {
            for exception in &description.exceptions {
                let name = format!("{}: {}", description.name, exception.name());
                done.tally.exceptions.insert(name, exception.needed());
            }
        }
        let path = tally::path();
        let beside = path.with_extension("new");
        let text = serde_json::to_vec_pretty(&done.tally).unwrap();
        fs::write(&beside, text).and_then(|()| fs::rename(&beside, &path)).unwrap();
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "a suite's own switch, no setting of forerunner")]
fn folder() -> Option<String> {
    std::env::var("FORERUNNER_DESCRIPTIONS").ok().filter(|folder| Path::new(folder).is_dir())
}

/// Whether an argument of the test program leaves out no test.
fn is_harmless(argument: &str) -> bool {
    ["--nocapture", "--quiet", "-q", "--test-threads", "--show-output"]
        .iter()
        .any(|harmless| argument.starts_with(harmless))
        || argument.parse::<u32>().is_ok()
}
