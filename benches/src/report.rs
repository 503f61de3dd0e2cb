//! The tables of what came out.

use std::env;
use std::fs;
use std::time::Duration;

use crate::contest::Outcome;
use crate::ladder::Ladder;
use crate::latency::Percentiles;
use crate::peers::Peer;
use crate::slice::Sample;
use crate::spread::Spread;

/// What was run, on what: the lines above the tables.
pub fn heading(peers: &[Peer]) -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let command: Vec<String> = env::args().skip(1).collect();
    let mut text = format!(
        "{:<16}compare {}\n{:<16}{}, congestion control {}\n{:<16}{}\n",
        "command:",
        command.join(" "),
        "kernel:",
        kernel.trim(),
        congestion.trim(),
        "CPU:",
        model.map_or("unknown", |(_, name)| name),
    );
    for peer in peers {
        text += &format!("{:<16}{}\n", format!("{}:", peer.name), peer.version);
    }
    text
}

/// Ours against each rival.
pub fn ratios(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "lb divided by the rival: median (least–greatest)\n{:<15}{:<15}{:>20}{:>20}{:>20}{:>20}\n",
        "load", "rival", "CPU per unit", "throughput", "p50 latency", "p99 latency"
    );
    for outcome in outcomes {
        for (index, rival) in outcome.names.iter().enumerate().skip(1) {
            let cpu = outcome.ratio(index, Sample::cpu_per_unit);
            let rate = outcome.ratio(index, Sample::rate);
            let latency = |point: fn(Percentiles) -> f64| {
                outcome.latency().map(|of| of.ratio(index, point).to_string()).unwrap_or_default()
            };
            let (p50, p99) = (latency(|of| of.p50), latency(|of| of.p99));
            text += &format!("{:<15}{:<15}{cpu:>20}{rate:>20}{p50:>20}{p99:>20}\n", outcome.kind.name, rival);
        }
    }
    text
}

/// Each peer by itself, and how busy the two cores were.
pub fn absolutes(outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "{:<15}{:<15}{:>27}{:>23}{:>20}{:>20}{:>10}{:>11}\n",
        "load", "balancer", "CPU per unit", "units per second", "p50, µs", "p99, µs", "its core", "load core"
    );
    for outcome in outcomes {
        let scale = Scale::of(outcome.kind.unit);
        for (index, peer) in outcome.names.iter().enumerate() {
            let cpu = outcome.of(index, |sample| sample.cpu_per_unit() * scale.cpu);
            let rate = outcome.of(index, |sample| sample.rate() * scale.rate);
            let latency = |point: fn(Percentiles) -> f64| {
                outcome.latency().map(|of| format!("{:.0}", of.of(index, |of| point(of) * 1e6))).unwrap_or_default()
            };
            let (p50, p99) = (latency(|of| of.p50), latency(|of| of.p99));
            let busy = outcome.of(index, |sample| share(sample.cpu, sample)).median;
            let load = outcome.of(index, |sample| share(sample.load_cpu, sample)).median;
            text += &format!(
                "{:<15}{:<15}{cpu:>24} {:<2}{rate:>23}{p50:>20}{p99:>20}{busy:>9.0}%{load:>10.0}%\n",
                outcome.kind.name, peer, scale.cpu_unit
            );
        }
        let direct = outcome.direct.rate() * scale.rate;
        text += &format!("{:<15}{:<15}{:>27}{direct:>23.2}\n", outcome.kind.name, "(none)", "");
    }
    text + "rates are in thousands, for streams in GB (10^9 B); CPU per unit in µs, for streams in ms per GB\n"
}

/// The latencies at each rate: medians over the rounds.
pub fn ladder(ladder: &Ladder) -> String {
    let mut text = format!("{:<8}{:<15}{:>25}{:>25}{:>25}\n", "rate", "balancer", "p50, µs", "p99, µs", "p99.9, µs");
    for rung in &ladder.rungs {
        for (name, latency) in ladder.names.iter().zip(&rung.latencies) {
            let spread = |point: fn(&Percentiles) -> f64| Spread::of(latency.iter().map(|of| point(of) * 1e6));
            let row = [spread(|of| of.p50), spread(|of| of.p99), spread(|of| of.p999)];
            let row: String = row.iter().map(|spread| format!("{spread:>25.0}")).collect();
            text += &format!("{:<8}{name:<15}{row}\n", format!("{:.1} k", rung.rate / 1e3));
        }
    }
    text + "rate: messages a second, sent at fixed times; latency from the time at which a message was to be sent\n"
}

/// How a unit is printed.
struct Scale {
    cpu: f64,
    cpu_unit: &'static str,
    rate: f64,
}

impl Scale {
    fn of(unit: &str) -> Self {
        match unit {
            // Bytes are counted.
            "GB" => Self { cpu: 1e12, cpu_unit: "ms", rate: 1e-9 },
            _ => Self { cpu: 1e6, cpu_unit: "µs", rate: 1e-3 },
        }
    }
}

/// Per cent of the time on a CPU.
fn share(cpu: Duration, sample: &Sample) -> f64 {
    100.0 * cpu.as_secs_f64() / sample.wall.as_secs_f64()
}
