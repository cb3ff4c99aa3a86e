//! CPU time of deciding: from what a round saw to its plan.

#[path = "support/healthy.rs"]
mod healthy;

use criterion::{Criterion, Throughput};
use forerunner::domain::{fleet::WantedState, plan::runner};
use healthy::{CEILINGS, Case, fleet, now};
use std::{hint::black_box, time::Duration};

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    planning(&mut criterion);
    criterion.final_summary();
}

fn planning(criterion: &mut Criterion) {
    let fleet = fleet();
    let settings = fleet.settings();
    let empty = Case::empty(&fleet, 1000);
    let cases: Vec<Case> = (1000..2000).map(|group| Case::healthy(&fleet, group)).collect();
    let plan = |case: &Case| runner::plan(&case.spec, settings, &case.observed, CEILINGS, now());
    assert!(!plan(&empty).steps.is_empty(), "of nothing everything is made");
    let settled = cases.iter().all(|case| plan(case).is_settled());
    assert!(settled, "a healthy runner needs nothing: {:?}", plan(&cases[0]));

    let mut group = criterion.benchmark_group("plan");
    group.bench_function("one runner that is to be made", |bench| {
        bench.iter(|| plan(black_box(&empty)));
    });
    group.bench_function("one healthy runner", |bench| bench.iter(|| plan(black_box(&cases[0]))));
    group.throughput(Throughput::Elements(cases.len() as u64));
    group.bench_function("1,000 healthy runners", |bench| {
        bench.iter(|| cases.iter().filter(|case| plan(black_box(case)).is_settled()).count());
    });
    group.bench_function("what the file wants of 1,000 groups", |bench| {
        bench.iter(|| {
            let wanted =
                cases.iter().flat_map(|case| fleet.wanted_at(black_box(&case.facts), now()));
            wanted.filter(|wanted| matches!(wanted.state, WantedState::Runner(_))).count()
        });
    });
    group.finish();
}
