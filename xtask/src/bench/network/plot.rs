//! Curves as SVG, both axes logarithmic, or one.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    coord::combinators::IntoLogRange as _,
    element::PathElement,
    prelude::{Circle, IntoDrawingArea as _, SVGBackend},
    series::LineSeries,
    style::{Color as _, Palette as _, Palette99, WHITE},
};

use super::{Group, Load, Measured};

/// Pixels.
const SIZE: (u32, u32) = (900, 520);

/// Points of each curve: how many rules or flows, and the median.
type Curves = BTreeMap<String, Vec<(f64, f64)>>;

/// Packets per second against rules.
pub(super) fn rules(measured: &Measured) -> Result<String> {
    draw(&by_rules(measured, Load::Packets), ("rules", "packets/s"))
}

/// New connections per second against rules.
pub(super) fn connections(measured: &Measured) -> Result<String> {
    draw(&by_rules(measured, Load::Connections), ("rules", "connections/s"))
}

/// Packets per second against flows.
pub(super) fn flows(measured: &Measured) -> Result<String> {
    let mut curves = Curves::new();
    for peer in &measured.peers {
        for results in &peer.results {
            if let (Load::Flows(flows), Some(value)) = (results.load, results.value()) {
                curves.entry(peer.name.clone()).or_default().push((f64::from(flows), value.median));
            }
        }
    }
    draw(&curves, ("flows", "packets/s"))
}

fn by_rules(measured: &Measured, load: Load) -> Curves {
    let mut curves = Curves::new();
    for peer in measured.of(Group::Rules) {
        let value = peer.results(load).and_then(super::Results::value);
        if let (Some((kind, count)), Some(value)) = (&peer.rules, value) {
            curves.entry(kind.clone()).or_default().push((f64::from(*count), value.median));
        }
    }
    for points in curves.values_mut() {
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    curves
}

fn draw(curves: &Curves, (x, y): (&str, &str)) -> Result<String> {
    let points = || curves.values().flatten();
    let most = points().map(|point| point.1).fold(1.0, f64::max);
    let least = points().map(|point| point.1).fold(most, f64::min);
    let right = points().map(|point| point.0).fold(10.0, f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let failed = |error| anyhow!("draw {y} against {x}: {error}");
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(80)
            .build_cartesian_2d((1.0..right).log_scale(), (least / 2.0..most * 2.0).log_scale())
            .map_err(failed)?;
        let axes = chart.configure_mesh().x_desc(x).y_desc(y).label_style(("sans-serif", 14)).draw();
        axes.map_err(failed)?;
        for (number, (name, points)) in curves.iter().enumerate() {
            let colour = Palette99::pick(number).stroke_width(2);
            let line = chart.draw_series(LineSeries::new(points.iter().copied(), colour)).map_err(failed)?;
            line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
            let marks = points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
            chart.draw_series(marks).map_err(failed)?;
        }
        let legend = chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerLeft)
            .border_style(WHITE)
            .label_font(("sans-serif", 14))
            .draw();
        legend.map_err(failed)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_names_its_curves_and_axes() {
        let curves = Curves::from([("vnet".to_owned(), vec![(1.0, 9e5), (1e5, 8e5)])]);
        let svg = draw(&curves, ("rules", "packets/s")).expect("a plot");
        for word in ["<svg", "vnet", "rules", "packets/s"] {
            assert!(svg.contains(word), "{word}");
        }
    }
}
