//! The load of requests by wrk, a program that others measure with too: one thread, 64 connections. It answers the question
//! whether the traffic of our own is to be believed, and takes what comes: it knows no cookies and checks no body.

use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::latency::Percentiles;
use crate::net::Servers;
use crate::slice::Sample;
use crate::{Result, cpu};

/// Whether it is installed.
pub fn is_installed() -> bool {
    // It says its version and how it is used, and fails.
    Command::new("wrk").arg("-v").output().is_ok()
}

/// Loads what listens on `port`, whose process is `pid` (none: the servers themselves), for at least as long; it only knows
/// whole seconds. Opening the connections is part of it.
///
/// # Errors
/// wrk does not run, or had an answer that is none.
pub fn measure(servers: &Servers, port: u16, pid: Option<u32>, length: Duration) -> Result<Sample> {
    let origin = servers.origin().ok_or("nginx is not there")?.pid();
    let cpu = || pid.map_or(Ok(Duration::ZERO), cpu::used_by);
    let (before, origin_before, wrk_before) = (cpu()?, cpu::used_by(origin)?, of_children()?);
    let seconds = length.as_secs_f64().ceil().max(1.0);
    let output = Command::new("wrk")
        .args(["-t1", "-c64", "--latency", &format!("-d{seconds}s"), &format!("http://127.0.0.1:{port}/")])
        .output()
        .map_err(|error| format!("wrk: {error}"))?;
    let (after, origin_after, wrk_after) = (cpu()?, cpu::used_by(origin)?, of_children()?);
    let said = String::from_utf8_lossy(&output.stdout);
    let report = Report::read(&said).ok_or_else(|| format!("wrk said: {said}"))?;
    Ok(Sample {
        units: report.requests,
        wall: report.wall,
        cpu: after - before,
        load_cpu: (origin_after - origin_before) + (wrk_after - wrk_before),
        latency: Some(report.latency),
    })
}

/// What wrk reports.
struct Report {
    requests: u64,
    wall: Duration,
    latency: Percentiles,
}

impl Report {
    /// `None`: it reports something else, or that there were failures.
    fn read(text: &str) -> Option<Self> {
        let mut requests = None;
        let [mut p50, mut p99] = [None; 2];
        for line in text.lines() {
            match *line.split_whitespace().collect::<Vec<_>>() {
                [number, "requests", "in", wall, ..] => {
                    requests = Some((number.parse().ok()?, seconds(wall.trim_end_matches(','))?));
                }
                ["50%", latency] => p50 = seconds(latency),
                ["99%", latency] => p99 = seconds(latency),
                ["Socket", "errors:", ..] | ["Non-2xx", ..] => return None,
                _ => {}
            }
        }
        let ((requests, wall), p999) = (requests?, f64::NAN);
        let latency = Percentiles { p50: p50?, p99: p99?, p999 };
        Some(Self { requests, wall: Duration::from_secs_f64(wall), latency })
    }
}

/// A time as wrk writes it.
fn seconds(text: &str) -> Option<f64> {
    let unit = text.find(|character: char| character.is_ascii_alphabetic())?;
    let scale = match &text[unit..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    Some(text[..unit].parse::<f64>().ok()? * scale)
}

/// The CPU time of children that have ended.
fn of_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "Running 1s test @ http://127.0.0.1:18080/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.35ms    0.91ms  13.02ms   92.55%
    Req/Sec    47.36k     2.60k   50.37k    80.00%
  Latency Distribution
     50%    1.20ms
     75%    1.43ms
     90%    1.79ms
     99%  990.00us
  47164 requests in 1.00s, 9.58MB read
Requests/sec:  47129.58
Transfer/sec:      9.57MB
";

    #[test]
    fn what_wrk_reports_is_read() {
        let report = Report::read(REPORT).expect("a report");
        assert_eq!((report.requests, report.wall), (47164, Duration::from_secs(1)));
        assert_eq!((report.latency.p50, report.latency.p99), (1.20e-3, 990.0e-6));
    }

    #[test]
    fn a_report_of_failures_is_none() {
        for failure in ["  Socket errors: connect 0, read 1, write 0, timeout 0\n", "  Non-2xx or 3xx responses: 3\n"] {
            assert!(Report::read(&format!("{REPORT}{failure}")).is_none(), "{failure}");
        }
    }
}
