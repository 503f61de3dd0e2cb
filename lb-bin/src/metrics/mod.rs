//! Metrics: what a running balancer and its process are told of in, for Prometheus and whoever reads its formats.
//!
//! `text` writes the formats. Each of `balancer`, `frontends`, `servers`, `shards` and `process` knows the families of
//! its subject, `METRICS.md` lists them all.

mod balancer;
mod frontends;
mod process;
mod reloads;
mod servers;
mod shards;
mod text;

use std::sync::Arc;
use std::time::SystemTime;

use lb_core::{Control, Histogram, Metrics, Refused};

use frontends::Frontend;
use process::ProcessFacts;
use reloads::ReloadCounts;
pub(crate) use reloads::Reloads;
pub use text::Format;
use text::{Samples, Text};

/// Tells the metrics of a balancer and of this process.
#[derive(Debug, Clone)]
pub(crate) struct Exporter {
    control: Control,
    reloads: Arc<Reloads>,
    started: SystemTime,
}

impl Exporter {
    /// Of a balancer that has just started.
    pub(crate) fn new(control: Control, reloads: Arc<Reloads>) -> Self {
        Self { control, reloads, started: SystemTime::now() }
    }

    /// All metrics, as a text in `format`.
    ///
    /// # Errors
    /// The balancer has stopped.
    pub(crate) async fn text(&self, format: Format) -> Result<String, Refused> {
        let metrics = self.control.metrics().await?;
        Ok(render(&metrics, &ProcessFacts::read(self.started), self.reloads.counts(), format))
    }
}

fn render(metrics: &Metrics, process: &ProcessFacts, reloads: ReloadCounts, format: Format) -> String {
    let mut text = Text::new(format);
    let status = &metrics.status;
    let frontends = status.frontends.iter().zip(&metrics.timings);
    let frontends: Vec<_> = frontends.map(|(status, timings)| Frontend { status, timings }).collect();
    balancer::write(&mut text, status, reloads);
    frontends::write(&mut text, &frontends);
    servers::write(&mut text, &frontends);
    shards::write(&mut text, &status.shards);
    process::write(&mut text, process);
    text.finish()
}

fn timing(samples: &mut Samples<'_>, histogram: &Histogram) {
    samples.histogram(histogram.count(), histogram.sum_seconds(), histogram.cumulative());
}

#[cfg(test)]
mod tests;
