//! A run's plots, one SVG: distributions of time, outcomes over time, the queue's depth.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use super::ledger::Mark;
use super::report::{Latency, Report};

const SIZE: (u32, u32) = (900, 1_050);
/// Tell each other apart also for those who see colours differently.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(70, 70, 70),
];

type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A name and its points.
type Line = (String, Vec<(f64, f64)>);

/// Draws all three.
pub fn draw(report: &Report, path: &Path) -> Result<()> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(failed)?;
    let panels = area.split_evenly((3, 1));
    let [times, outcomes, queue] = panels.as_slice() else { return Err(anyhow!("a plot has three panels")) };
    draw_times(report, times)?;
    draw_lines(outcomes, "Handoffs so far, by second", &outcomes_so_far(report))?;
    draw_lines(queue, "Waiting, by second", &waiting(report))?;
    area.present().map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a plot cannot be drawn: {error}")
}

/// Milliseconds over 1 / (1 - quantile). A curve ends where there is less than one measurement.
#[expect(clippy::cast_precision_loss, reason = "a plot")]
fn times_by_quantile(report: &Report) -> Vec<Line> {
    let line = |(name, latency): (&String, &Latency)| {
        let seen = latency.curve.iter().filter(|(quantile, _)| (1.0 - quantile) * latency.count as f64 >= 1.0);
        let points = seen.map(|(quantile, micros)| (1.0 / (1.0 - quantile), *micros as f64 / 1_000.0));
        (name.clone(), points.collect())
    };
    report.latencies.iter().map(line).collect()
}

/// Latency by quantile, both logarithmic: the tail is what matters.
fn draw_times(report: &Report, panel: &Panel<'_>) -> Result<()> {
    let lines = times_by_quantile(report);
    let most = lines.iter().flat_map(|(_, points)| points).map(|(_, y)| *y).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(panel)
        .caption("Milliseconds from the moment when it was due, by quantile", ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d((1.0..10_000.0).log_scale(), (0.1..most * 2.0).log_scale())
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_label_formatter(&|x| format!("{:.4}", 1.0 - 1.0 / x).trim_end_matches('0').trim_end_matches('.').to_owned())
        .y_label_formatter(&|y| format!("{y} ms"))
        .light_line_style(WHITE)
        .draw()
        .map_err(failed)?;
    for (place, (name, points)) in lines.into_iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))
            .map_err(failed)?
            .label(name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(failed)
}

fn draw_lines(panel: &Panel<'_>, caption: &str, lines: &[Line]) -> Result<()> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let longest = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let most = points().map(|(_, y)| *y).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(panel)
        .caption(caption, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..longest, 0.0..most * 1.1)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_label_formatter(&|x| format!("{x} s"))
        .y_label_formatter(&|y| y.to_string())
        .light_line_style(WHITE)
        .draw()
        .map_err(failed)?;
    for (place, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))
            .map_err(failed)?
            .label(name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(failed)
}

/// Sums of some marks from the first second on.
#[expect(clippy::cast_precision_loss, reason = "a plot")]
fn so_far(report: &Report, marks: &[Mark]) -> Vec<(f64, f64)> {
    let mut sum = 0;
    let by_second = report.timeline.iter().enumerate().map(|(second, counts)| {
        sum += marks.iter().filter_map(|mark| counts.get(mark)).sum::<u64>();
        (second as f64 + 1.0, sum as f64)
    });
    by_second.collect()
}

fn outcomes_so_far(report: &Report) -> Vec<Line> {
    let lines = [
        ("approved", Mark::Approved),
        ("rejected", Mark::Rejected),
        ("timed out", Mark::TimedOut),
        ("cancelled", Mark::Cancelled),
        ("finished", Mark::Finished),
        ("calls lost", Mark::Lost),
    ];
    lines.map(|(name, mark)| (name.to_owned(), so_far(report, &[mark]))).into()
}

/// For a person, by the agents' records and by the queue itself; and for an agent.
#[expect(clippy::cast_precision_loss, reason = "a plot")]
fn waiting(report: &Report) -> Vec<Line> {
    let decided = so_far(report, &[Mark::Approved, Mark::Rejected, Mark::TimedOut, Mark::Cancelled]);
    let less = |more: Vec<(f64, f64)>, less: &[(f64, f64)]| {
        more.into_iter().zip(less).map(|((second, more), (_, less))| (second, (more - less).max(0.0))).collect()
    };
    let queue = report.queue.iter().map(|(second, depth)| (*second as f64, *depth as f64)).collect();
    vec![
        ("the queue says: pending".to_owned(), queue),
        ("accepted and not decided".to_owned(), less(so_far(report, &[Mark::Asked]), &decided)),
        ("decided and not acknowledged".to_owned(), less(decided.clone(), &so_far(report, &[Mark::Finished]))),
    ]
}
