//! The latency ladder as a picture.

use std::path::Path;

use plotters::prelude::*;

use crate::Result;
use crate::ladder::Ladder;
use crate::latency::Percentiles;
use crate::spread::Spread;

/// A picture: one panel for each percentile, a line for each balancer.
const SIZE: (u32, u32) = (1500, 520);
/// The balancers' colours, ours first; they can be told apart with any eyes (after Okabe and Ito).
pub(crate) const COLORS: [RGBColor; 6] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(80, 80, 80),
];

/// Writes the picture as SVG: medians over the rounds, in µs on a logarithmic scale, by thousands of messages a second.
///
/// # Errors
/// The file can't be written.
pub fn write(ladder: &Ladder, path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    let title = "Latency of 64 B there and back, from the time at which the message was to be sent";
    let draw = || -> Result<()> {
        area.fill(&WHITE)?;
        let panels = area.titled(title, ("sans-serif", 22))?.split_evenly((1, 3));
        draw_panel(&panels[0], ladder, "p50", |of| of.p50)?;
        draw_panel(&panels[1], ladder, "p99", |of| of.p99)?;
        draw_panel(&panels[2], ladder, "p99.9", |of| of.p999)?;
        area.present()?;
        Ok(())
    };
    draw().map_err(|error| format!("{}: {error}", path.display()).into())
}

type Panel<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw_panel(panel: &Panel<'_>, ladder: &Ladder, name: &str, point: fn(&Percentiles) -> f64) -> Result<()> {
    let lines: Vec<Vec<(f64, f64)>> = (0..ladder.names.len()).map(|peer| line(ladder, peer, point)).collect();
    let values = || lines.iter().flatten().map(|(_, latency)| *latency);
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    let fastest = ladder.rungs.iter().map(|rung| rung.rate / 1e3).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(panel)
        .caption(name, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..1.05 * fastest, (decade(least, f64::floor)..decade(most, f64::ceil)).log_scale())?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_desc("thousand messages a second")
        .y_desc("µs")
        .y_label_formatter(&|micros| format!("{micros:.0}"))
        .draw()?;
    for (index, (line, name)) in lines.iter().zip(&ladder.names).enumerate() {
        let color = COLORS[index % COLORS.len()];
        let style = color.stroke_width(if index == 0 { 4 } else { 2 });
        let drawn = chart.draw_series(LineSeries::new(line.iter().copied(), style).point_size(3))?;
        drawn.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

/// The power of ten next to a value.
fn decade(value: f64, round: fn(f64) -> f64) -> f64 {
    10_f64.powf(round(value.log10()))
}

/// Latencies of a balancer in µs, by thousands of messages a second.
fn line(ladder: &Ladder, peer: usize, point: fn(&Percentiles) -> f64) -> Vec<(f64, f64)> {
    let median = |latencies: &[Percentiles]| Spread::of(latencies.iter().map(|of| point(of) * 1e6)).median;
    ladder.rungs.iter().map(|rung| (rung.rate / 1e3, median(&rung.latencies[peer]))).collect()
}
