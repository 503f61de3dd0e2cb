//! What policies made of the scenarios as a picture: the whole distributions of latency.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Outcome, POLICIES, Scenario};
use crate::Result;
use crate::plot::COLORS;

const SIZE: (u32, u32) = (1500, 860);
/// Panels in a row.
const COLUMNS: usize = 3;
/// Milliseconds that are shown.
const SHOWN: std::ops::Range<f64> = 1.0..20_000.0;
/// The rarest requests that are shown: one of so many.
const RAREST: f64 = 10_000.0;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Writes the picture as SVG: a panel for each scenario, a line for each policy.
///
/// # Errors
/// The file can't be written.
pub fn write(results: &[(&Scenario, Vec<Outcome>)], path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    let title = "Latency in simulated scenarios, by policy";
    let draw = || -> Result<()> {
        area.fill(&WHITE)?;
        let (legend, panels) = area.titled(title, ("sans-serif", 22))?.split_vertically(30);
        draw_legend(&legend)?;
        let panels = panels.split_evenly((results.len().div_ceil(COLUMNS), COLUMNS));
        for ((scenario, outcomes), panel) in results.iter().zip(&panels) {
            draw_panel(panel, scenario, outcomes)?;
        }
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| format!("{}: {error}", path.display()).into())
}

fn draw_panel(panel: &Area<'_>, scenario: &Scenario, outcomes: &[Outcome]) -> Result<()> {
    let mut chart = ChartBuilder::on(panel)
        .caption(scenario.name, ("sans-serif", 18))
        .margin(12)
        .margin_right(28)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d((1.0..RAREST).log_scale(), SHOWN.log_scale())?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_desc("part of the requests")
        .x_label_formatter(&|of| percentile(*of))
        .y_desc("ms")
        .y_label_formatter(&|millis| format!("{millis:.0}"))
        .draw()?;
    for (outcome, color) in outcomes.iter().zip(COLORS) {
        chart.draw_series(LineSeries::new(line(outcome), color.stroke_width(2)))?;
    }
    Ok(())
}

fn draw_legend(strip: &Area<'_>) -> Result<()> {
    for (index, (policy, color)) in POLICIES.iter().zip(COLORS).enumerate() {
        let x = 250 + 210 * index as i32;
        strip.draw(&PathElement::new([(x, 16), (x + 30, 16)], color.stroke_width(4)))?;
        strip.draw(&Text::new(policy.to_string(), (x + 38, 7), ("sans-serif", 18)))?;
    }
    Ok(())
}

/// The percentile beyond which is one request of so many.
fn percentile(of: f64) -> String {
    match of.round() as u64 {
        1 => "all".into(),
        10 => "p90".into(),
        100 => "p99".into(),
        1_000 => "p99.9".into(),
        _ => "p99.99".into(),
    }
}

/// Milliseconds by how many requests there are to one that took longer.
fn line(outcome: &Outcome) -> impl Iterator<Item = (f64, f64)> {
    const STEPS: u32 = 80;
    (1..=STEPS).map(move |step| {
        let of = RAREST.powf(f64::from(step) / f64::from(STEPS));
        (of, outcome.latency(1.0 - 1.0 / of))
    })
}
