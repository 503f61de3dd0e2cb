//! The tables of what came out.

use std::env;
use std::fs;

use crate::contest::Outcome;
use crate::peers::Peer;
use crate::slice::Sample;

/// What was run, on what: the lines above the tables.
pub fn heading(peers: &[Peer]) -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let congestion = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let command: Vec<String> = env::args().skip(1).collect();
    let mut text = format!(
        "command:  compare {}\nkernel:   {}, congestion control {}\nCPU:      {}\n",
        command.join(" "),
        kernel.trim(),
        congestion.trim(),
        model.map_or("unknown", |(_, name)| name),
    );
    for peer in peers {
        text += &format!("{:<9} {}\n", format!("{}:", peer.name), peer.version);
    }
    text
}

/// Ours against each rival.
pub fn ratios(outcomes: &[Outcome], peers: &[Peer]) -> String {
    let mut text =
        format!("{:<10} {:<9} {:>24} {:>24}\n", "load", "rival", "CPU per unit, lb/rival", "throughput, lb/rival");
    for outcome in outcomes {
        for (index, rival) in peers.iter().enumerate().skip(1) {
            let cpu = outcome.ratio(index, Sample::cpu_per_unit);
            let rate = outcome.ratio(index, Sample::rate);
            text += &format!("{:<10} {:<9} {cpu:>24} {rate:>24}\n", outcome.kind.name, rival.name);
        }
    }
    text
}

/// Each peer by itself, and how busy the two cores were.
pub fn absolutes(outcomes: &[Outcome], peers: &[Peer]) -> String {
    let mut text = format!(
        "{:<10} {:<9} {:>28} {:>26} {:>10} {:>10}\n",
        "load", "balancer", "CPU per unit", "units per second", "its core", "load core"
    );
    for outcome in outcomes {
        let scale = Scale::of(outcome.kind.unit);
        for (index, peer) in peers.iter().enumerate() {
            let cpu = outcome.of(index, |sample| sample.cpu_per_unit() * scale.cpu);
            let rate = outcome.of(index, |sample| sample.rate() * scale.rate);
            let busy = outcome.of(index, |sample| share(sample.cpu, sample)).median;
            let load = outcome.of(index, |sample| share(sample.load_cpu, sample)).median;
            text += &format!(
                "{:<10} {:<9} {cpu:>25} {:<2} {rate:>26} {busy:>9.0}% {load:>9.0}%\n",
                outcome.kind.name, peer.name, scale.cpu_unit
            );
        }
        let direct = outcome.direct.rate() * scale.rate;
        text += &format!("{:<10} {:<9} {:>28} {direct:>26.2}\n", outcome.kind.name, "(none)", "");
    }
    text + "rates are in thousands, for streams in GB (10^9 B); CPU per unit in µs, for streams in ms per GB\n"
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
fn share(cpu: std::time::Duration, sample: &Sample) -> f64 {
    100.0 * cpu.as_secs_f64() / sample.wall.as_secs_f64()
}
