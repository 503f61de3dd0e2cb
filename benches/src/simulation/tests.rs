use lb_core::config::PolicyKind;

use super::*;

const SEEDS: std::ops::Range<u64> = 1..6;
const REQUESTS: u64 = 40_000;

fn outcome(scenario: &str, policy: PolicyKind, seed: u64) -> Outcome {
    let scenario = SCENARIOS.iter().find(|known| known.name == scenario).expect("a known scenario");
    run(scenario, &policy, seed, REQUESTS).expect("there is memory")
}

/// Holds a promise against what two policies make of a scenario, with several seeds.
fn compare(scenario: &str, policies: [PolicyKind; 2], promise: impl Fn(&Outcome, &Outcome) -> bool) {
    for seed in SEEDS {
        let [one, other] = policies.clone().map(|policy| outcome(scenario, policy, seed));
        assert!(promise(&one, &other), "seed {seed}: {} and {}", describe(&one), describe(&other));
    }
}

fn describe(outcome: &Outcome) -> String {
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| outcome.latency(part));
    let (failed, troubled) = (outcome.failed_share(), outcome.troubled_share());
    format!("{p50:.1}, {p99:.1}, {p999:.1} ms, {failed:.2} % failed, {troubled:.2} % to the troubled")
}

#[test]
fn the_same_seed_gives_the_same_table_and_picture_and_another_seed_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let show = |seed| {
        let scenario = &SCENARIOS[2];
        let run = |policy| run(scenario, policy, seed, 2_000).expect("there is memory");
        let outcomes: Vec<_> = POLICIES.iter().map(run).collect();
        let (table, path) = (table(scenario, &outcomes), folder.path().join("picture.svg"));
        write_picture(&[(scenario, outcomes)], &path).expect("a picture");
        (table, std::fs::read(path).expect("the picture"))
    };
    assert_eq!(show(1), show(1));
    assert_ne!(show(1), show(2));
}

/// One server with c workers is the queue M/M/c, of which the distribution of latency is known: the time in the queue is 0 or,
/// with Erlang's probability C, exponential with the rate c/s − λ, where s is the mean time of service and λ the rate of requests.
#[test]
fn a_lone_server_takes_as_long_as_queueing_theory_says() {
    let about = "one server, 80 % busy";
    let alone = Scenario { name: "alone", about, slowness: &[1.0], load: 0.8, trouble: Trouble::None, troubled: 0 };
    let (workers, load) = (scenario::WORKERS as i32, alone.load);
    let offered = load * f64::from(workers);
    let term = |count: i32| (1..=count).fold(1.0, |term, k| term * offered / f64::from(k));
    let all_busy = term(workers) / (1.0 - load);
    let erlang = all_busy / ((0..workers).map(term).sum::<f64>() + all_busy);
    // In units of the mean time of service.
    let rate = f64::from(workers) * (1.0 - load);
    let takes_longer = |t: f64| (-t).exp() + erlang / (1.0 - rate) * ((-rate * t).exp() - (-t).exp());
    let way = 2.0 * scenario::ROUND_TRIP as f64 / scenario::SERVICE;
    let outcomes = SEEDS.map(|seed| run(&alone, &PolicyKind::RoundRobin, seed, 200_000).expect("there is memory"));
    let outcomes: Vec<_> = outcomes.collect();
    for part in [0.5, 0.9, 0.99] {
        let longer =
            |outcome: &Outcome| takes_longer(outcome.latency(part) * 1e3 / scenario::SERVICE - way) / (1.0 - part);
        let ratio = outcomes.iter().map(longer).sum::<f64>() / outcomes.len() as f64;
        assert!(
            (ratio - 1.0).abs() < 0.06,
            "{part} of the requests: those that take longer are {ratio} of what is due"
        );
    }
}

#[test]
fn least_latency_costs_next_to_nothing_where_nothing_is_wrong() {
    compare("equal", [PolicyKind::LeastLatency, PolicyKind::LeastConnections], |quick, least| {
        quick.latency(0.99) < 1.1 * least.latency(0.99) && (11.0..14.0).contains(&quick.troubled_share())
    });
}

#[test]
fn least_connections_beats_round_robin_where_servers_are_unequal() {
    compare("unequal", [PolicyKind::LeastConnections, PolicyKind::RoundRobin], |least, robin| {
        1.5 * least.latency(0.99) < robin.latency(0.99)
    });
}

#[test]
fn least_latency_gives_slow_servers_less_than_least_connections_does() {
    compare("unequal", [PolicyKind::LeastLatency, PolicyKind::LeastConnections], |quick, least| {
        quick.latency(0.99) < least.latency(0.99) && 1.2 * quick.troubled_share() < least.troubled_share()
    });
}

#[test]
fn least_latency_beats_round_robin_twentyfold_where_a_server_slows_down() {
    compare("slow", [PolicyKind::LeastLatency, PolicyKind::RoundRobin], |quick, robin| {
        20.0 * quick.latency(0.99) < robin.latency(0.99) && quick.failed_share() == 0.0 && robin.failed_share() > 1.0
    });
}

#[test]
fn least_latency_avoids_a_server_that_slows_down_more_than_least_connections_does() {
    compare("slow", [PolicyKind::LeastLatency, PolicyKind::LeastConnections], |quick, least| {
        1.5 * quick.latency(0.999) < least.latency(0.999) && 2.0 * quick.troubled_share() < least.troubled_share()
    });
}

#[test]
fn least_connections_runs_to_a_server_that_resets_and_least_latency_does_not() {
    compare("resets", [PolicyKind::LeastLatency, PolicyKind::LeastConnections], |quick, least| {
        quick.failed_share() < 0.1 && least.failed_share() > 15.0
    });
}

#[test]
fn least_latency_hardly_asks_a_server_that_refuses() {
    compare("refuses", [PolicyKind::LeastLatency, PolicyKind::RoundRobin], |quick, robin| {
        quick.troubled_share() < 0.5 && robin.troubled_share() > 10.0 && quick.failed_share() == 0.0
    });
}

#[test]
fn quick_errors_deceive_least_latency_but_no_more_than_two_draws_of_eight_servers_allow() {
    compare("errors", [PolicyKind::LeastLatency, PolicyKind::LeastConnections], |quick, least| {
        (12.5..26.0).contains(&quick.troubled_share()) && least.troubled_share() > 40.0
    });
}

#[test]
fn a_server_that_refuses_does_not_take_its_neighbour_along() {
    // To least connections it is always the emptiest, so nearly half of all connections are given to the next one.
    compare("refuses", [PolicyKind::LeastConnections, PolicyKind::RoundRobin], |least, robin| {
        least.troubled_share() > 30.0 && least.failed_share() == 0.0 && least.latency(0.99) < 1.3 * robin.latency(0.99)
    });
}
