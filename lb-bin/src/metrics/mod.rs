//! Metrics: what a running balancer and its process are told of in, for Prometheus and whoever reads its formats.
//!
//! `text` writes the formats, `site` answers HTTP. Each of `balancer`, `frontends`, `servers`, `shards` and `process` knows the families of
//! its subject, `METRICS.md` lists them all.

mod balancer;
mod frontends;
mod process;
mod reloads;
mod servers;
mod shards;
mod site;
mod text;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::SystemTime;

use lb_core::{Control, Histogram, Metrics, Refused};

use frontends::Frontend;
use process::ProcessFacts;
use reloads::ReloadCounts;
use reloads::Reloads;
pub(crate) use site::site;
pub use text::Format;
use text::{Samples, Text};

/// Tells the metrics of a balancer and of this process. Clones tell the same.
#[derive(Debug, Clone)]
pub(crate) struct Exporter {
    control: Control,
    started: SystemTime,
    reloads: Arc<Reloads>,
    is_stopping: Arc<AtomicBool>,
}

impl Exporter {
    /// Of a balancer that has just started.
    pub(crate) fn new(control: Control) -> Self {
        let (reloads, is_stopping) = (Arc::default(), Arc::default());
        Self { control, started: SystemTime::now(), reloads, is_stopping }
    }

    /// Takes note of a reload that a signal asked for.
    pub(crate) fn count_reload(&self, is_applied: bool) {
        self.reloads.count(is_applied);
    }

    /// Takes note that the balancer stops, which takes as long as connections may go on.
    pub(crate) fn begin_stop(&self) {
        self.is_stopping.store(true, Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Relaxed)
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
