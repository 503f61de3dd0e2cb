//! One balancer measured under one load for a moment.

use std::time::{Duration, Instant};

use crate::latency::Percentiles;
use crate::load::{Kind, Load, run_until};
use crate::net::Servers;
use crate::{Result, cpu, wrk};

/// How long traffic may take to end when asked to.
const END_WITHIN: Duration = Duration::from_secs(10);

/// The length of a measurement.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    /// Not measured, to open connections and fill caches.
    pub warm_up: Duration,
    /// Measured.
    pub measured: Duration,
}

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Units done.
    pub units: u64,
    /// How long it took by the clock.
    pub wall: Duration,
    /// The CPU time of the balancer.
    pub cpu: Duration,
    /// The CPU time of the load, both its ends.
    pub load_cpu: Duration,
    /// How long its messages took; none of streams.
    pub latency: Option<Percentiles>,
}

impl Sample {
    /// CPU seconds of the balancer per unit.
    pub fn cpu_per_unit(&self) -> f64 {
        self.cpu.as_secs_f64() / self.units as f64
    }

    /// Units per second.
    pub fn rate(&self) -> f64 {
        self.units as f64 / self.wall.as_secs_f64()
    }
}

/// Loads what listens on `port`, whose process is `pid` (none: the servers themselves), and checks what came through.
///
/// # Errors
/// A connection broke, or a byte is missing or too much.
pub fn measure(servers: &Servers, kind: Kind, port: u16, pid: Option<u32>, length: Length) -> Result<Sample> {
    if kind.is_by_wrk() {
        return wrk::measure(servers, port, pid, length.measured);
    }
    let mut load = kind.make(servers)?;
    let load = load.as_mut();
    load.start(port)?;
    run_until(load, Instant::now() + length.warm_up, |_| false)?;
    // Handshakes of TLS may take longer. Whoever never gets there is measured as it is.
    run_until(load, Instant::now() + END_WITHIN, |load| load.is_going())?;
    if let Some(latency) = load.latency() {
        latency.clear();
    }
    let before = Reading::take(load, pid)?;
    run_until(load, before.at + length.measured, |_| false)?;
    let after = Reading::take(load, pid)?;
    load.count_unanswered();
    let latency = load.latency().map(|latency| latency.percentiles());
    end(load)?;
    if after.units == before.units {
        return Err("nothing came through".into());
    }
    Ok(Sample {
        units: after.units - before.units,
        wall: after.at - before.at,
        cpu: after.cpu - before.cpu,
        load_cpu: after.load_cpu - before.load_cpu,
        latency,
    })
}

/// Ends a load and checks what came through.
///
/// # Errors
/// It does not end, or a byte is missing or too much.
pub fn end(load: &mut dyn Load) -> Result<()> {
    load.stop()?;
    run_until(load, Instant::now() + END_WITHIN, |load| load.open() == 0)?;
    if load.open() > 0 {
        return Err(format!("{} connections do not end within {END_WITHIN:?}", load.open()).into());
    }
    load.check()
}

/// The counters at one moment.
struct Reading {
    at: Instant,
    units: u64,
    cpu: Duration,
    load_cpu: Duration,
}

impl Reading {
    fn take(load: &dyn Load, pid: Option<u32>) -> Result<Self> {
        let cpu = pid.map(cpu::used_by).transpose()?.unwrap_or_default();
        Ok(Self { at: Instant::now(), units: load.units(), cpu, load_cpu: load.cpu()? })
    }
}
