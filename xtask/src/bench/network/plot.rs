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

/// What a plot is about.
pub(super) struct Plot {
    /// Its file, without what it ends in.
    pub(super) name: &'static str,
    /// What it shows, in one line.
    pub(super) title: &'static str,
    /// Whose curves.
    pub(super) group: Group,
    load: Load,
    /// What the axes are.
    axes: (&'static str, &'static str),
}

/// All plots.
pub(super) const PLOTS: [Plot; 4] = [
    Plot {
        name: "rules",
        title: "Packets per second against the number of rules",
        group: Group::Rules,
        load: Load::Packets,
        axes: ("rules", "packets/s"),
    },
    Plot {
        name: "connections",
        title: "Connections per second against the number of rules",
        group: Group::Rules,
        load: Load::Connections,
        axes: ("rules", "connections/s"),
    },
    Plot {
        name: "flows",
        title: "Packets per second against the number of flows",
        group: Group::Flows,
        load: Load::Packets,
        axes: ("flows", "packets/s"),
    },
    Plot {
        name: "flow-connections",
        title: "Connections per second against the number of flows",
        group: Group::Flows,
        load: Load::Connections,
        axes: ("flows", "connections/s"),
    },
];

impl Plot {
    /// Draws it.
    pub(super) fn svg(&self, measured: &Measured) -> Result<String> {
        draw(&self.curves(measured), self.axes)
    }

    fn curves(&self, measured: &Measured) -> Curves {
        let mut curves = Curves::new();
        for peer in measured.of(self.group) {
            let value = peer.results(self.load).and_then(super::Results::value);
            if let (Some((kind, count)), Some(value)) = (&peer.curve, value) {
                curves.entry(kind.clone()).or_default().push((f64::from(*count), value.median));
            }
        }
        for points in curves.values_mut() {
            points.sort_by(|one, other| one.0.total_cmp(&other.0));
        }
        curves
    }
}

/// 100,000 as 100k, a million as 1M.
fn thousands(value: f64) -> String {
    match value {
        ..1e3 => value.to_string(),
        1e3..1e6 => format!("{}k", value / 1e3),
        _ => format!("{}M", value / 1e6),
    }
}

fn draw(curves: &Curves, (x, y): (&str, &str)) -> Result<String> {
    let points = || curves.values().flatten();
    let most = points().map(|point| point.1).fold(1.0, f64::max);
    let least = points().map(|point| point.1).fold(most, f64::min);
    let right = points().map(|point| point.0).fold(10.0, f64::max);
    let left = points().map(|point| point.0).fold(right / 10.0, f64::min);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let failed = |error| anyhow!("draw {y} against {x}: {error}");
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(80)
            .build_cartesian_2d((left..right).log_scale(), (least / 2.0..most * 2.0).log_scale())
            .map_err(failed)?;
        let labels = ("sans-serif", 14);
        let short = |value: &f64| thousands(*value);
        let mut axes = chart.configure_mesh();
        axes.x_desc(x).y_desc(y).label_style(labels).x_label_formatter(&short).y_label_formatter(&short);
        axes.draw().map_err(failed)?;
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
        for word in ["<svg", "vnet", "rules", "packets/s", "10k"] {
            assert!(svg.contains(word), "{word}");
        }
    }
}
