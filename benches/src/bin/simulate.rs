//! How well each policy balances, in a simulation with virtual time: latency, failures, and what goes to servers in trouble.
//!
//! `cargo run --release -p benches --bin simulate`; the same arguments give the same output. README.md says what is modelled.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use benches::Result;
use benches::simulation::{self, Outcome, POLICIES, SCENARIOS, Scenario};
use clap::Parser;

/// Simulates each policy in each scenario.
#[derive(Debug, Parser)]
struct Args {
    /// Another seed gives other clients and requests of the same kind.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests of each run.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    requests: u64,
    /// The scenarios, comma-separated [default: all].
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Where the picture goes.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/simulation.svg"))]
    svg: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    println!("seed {}, {} requests\n", args.seed, args.requests);
    let mut results = Vec::new();
    for scenario in scenarios(&args.scenarios)? {
        let run = |policy| simulation::run(scenario, policy, args.seed, args.requests);
        let outcomes: Vec<Outcome> = POLICIES.iter().map(run).collect::<Result<_>>()?;
        println!("{}", simulation::table(scenario, &outcomes));
        results.push((scenario, outcomes));
    }
    simulation::write_picture(&results, &args.svg)?;
    eprintln!("picture: {}", args.svg.display());
    Ok(())
}

fn scenarios(names: &[String]) -> Result<Vec<&'static Scenario>> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    let by_name = |name: &String| {
        let known = SCENARIOS.map(|scenario| scenario.name).join(", ");
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| format!("no scenario is called {name:?}; there are {known}").into())
    };
    names.iter().map(by_name).collect()
}
