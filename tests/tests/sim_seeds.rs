//! A thousand stories of a mesh in trouble; a hundred thousand in `make soak`. `WEFT_SIM_SEED=n` replays one with its
//! trace, `WEFT_SIM_SEEDS=n` runs so many, `WEFT_SIM_FIRST=n` starts elsewhere.

use std::sync::atomic::{AtomicU64, Ordering};

use weft_tests::sim;

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn sim_thousand_seeds() {
    if let Some(seed) = number("WEFT_SIM_SEED") {
        match sim::run(seed, true) {
            Ok(summary) => println!("seed {seed}: {summary:?}"),
            Err(violation) => panic!("seed {seed}:\n{violation}"),
        }
        return;
    }
    run_all(
        sim::run,
        "WEFT_SIM_SEED",
        number("WEFT_SIM_FIRST").unwrap_or(0),
        number("WEFT_SIM_SEEDS").unwrap_or(1000),
    );
}

/// The same stories in sealed networks. A seed of these is replayed by `WEFT_SIM_SEALED_SEED=n`.
#[test]
fn sim_thousand_sealed_seeds() {
    if let Some(seed) = number("WEFT_SIM_SEALED_SEED") {
        match sim::run_sealed(seed, true) {
            Ok(summary) => println!("seed {seed}: {summary:?}"),
            Err(violation) => panic!("seed {seed}:\n{violation}"),
        }
        return;
    }
    run_all(
        sim::run_sealed,
        "WEFT_SIM_SEALED_SEED",
        number("WEFT_SIM_FIRST").unwrap_or(0),
        number("WEFT_SIM_SEEDS").unwrap_or(1000),
    );
}

/// Hours on two cores.
#[test]
#[ignore = "soak: a hundred thousand seeds"]
fn sim_hundred_thousand_sealed_seeds() {
    run_all(
        sim::run_sealed,
        "WEFT_SIM_SEALED_SEED",
        number("WEFT_SIM_FIRST").unwrap_or(1000),
        number("WEFT_SIM_SEEDS").unwrap_or(100_000),
    );
}

/// More than an hour on two cores.
#[test]
#[ignore = "soak: a hundred thousand seeds"]
fn sim_hundred_thousand_seeds() {
    run_all(
        sim::run,
        "WEFT_SIM_SEED",
        number("WEFT_SIM_FIRST").unwrap_or(1000),
        number("WEFT_SIM_SEEDS").unwrap_or(100_000),
    );
}

type Story = fn(u64, bool) -> Result<sim::Summary, sim::Violation>;

fn run_all(story: Story, variable: &str, first: u64, count: u64) {
    let next = AtomicU64::new(first);
    let (actions, datagrams, lost, delivered) = (
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
    );
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let failures = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    match story(seed, false) {
                        Ok(summary) => {
                            actions.fetch_add(summary.actions, Ordering::Relaxed);
                            datagrams.fetch_add(summary.datagrams, Ordering::Relaxed);
                            lost.fetch_add(summary.lost, Ordering::Relaxed);
                            delivered.fetch_add(summary.delivered, Ordering::Relaxed);
                        }
                        Err(violation) => {
                            let mut failures = failures.lock().expect("no holder panics");
                            failures.push(format!("seed {seed}: {violation}\n  replay: {variable}={seed} cargo test -p weft-tests --test sim_seeds"));
                            if failures.len() >= 10 {
                                return;
                            }
                        }
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no holder panics");
    assert!(
        failures.is_empty(),
        "{} seeds failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
    println!(
        "{count} seeds from {first}: {} actions, {} datagrams, {} of them lost, {} data packets delivered at the end",
        actions.into_inner(),
        datagrams.into_inner(),
        lost.into_inner(),
        delivered.into_inner(),
    );
}
