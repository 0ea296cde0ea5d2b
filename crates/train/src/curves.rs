//! `progress.svg`: losses, pseudo Dice and learning rate over the epochs.

use crate::watch::Epoch;
use plotters::coord::Shift;
use plotters::prelude::*;

const SIZE: (u32, u32) = (900, 960);
const FONT: &str = "sans-serif";
const TRAIN: RGBColor = RGBColor(0x1f, 0x77, 0xb4);
const VALIDATION: RGBColor = RGBColor(0xd6, 0x27, 0x28);
const AVERAGE: RGBColor = RGBColor(0x2c, 0xa0, 0x2c);

struct Curve {
    name: &'static str,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// The drawing as SVG text, or why it could not be made.
pub fn draw(history: &[Epoch]) -> Result<String, String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(|e| e.to_string())?;
        let panels = root.split_evenly((3, 1));
        let curve = |name, colour, value: fn(&Epoch) -> f64| Curve {
            name,
            colour,
            points: history.iter().map(|e| (e.epoch as f64, value(e))).filter(|p| p.1.is_finite()).collect(),
        };
        let losses =
            [curve("training", TRAIN, |e| e.train_loss), curve("validation", VALIDATION, |e| e.val_loss)];
        let dice = [
            curve("of the epoch", VALIDATION, |e| e.mean_pseudo_dice),
            curve("moving average", AVERAGE, |e| e.ema_pseudo_dice),
        ];
        let rate = [curve("learning rate", TRAIN, |e| e.learning_rate)];
        let last = history.last().map_or(1.0, |e| e.epoch as f64).max(2.0);
        panel(&panels[0], "Loss (lower is better)", last, range(&losses), &losses)?;
        panel(&panels[1], "Pseudo Dice on validation patches (higher is better)", last, (0.0, 1.0), &dice)?;
        panel(&panels[2], "Learning rate", last, (0.0, range(&rate).1), &rate)?;
        root.present().map_err(|e| e.to_string())?;
    }
    Ok(svg)
}

/// Smallest and largest value with some air; never empty.
fn range(curves: &[Curve]) -> (f64, f64) {
    let values = || curves.iter().flat_map(|c| c.points.iter().map(|p| p.1));
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    if low > high {
        return (0.0, 1.0);
    }
    let air = ((high - low) * 0.05).max(high.abs() * 0.02).max(1e-6);
    (low - air, high + air)
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    last: f64,
    (low, high): (f64, f64),
    curves: &[Curve],
) -> Result<(), String> {
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 20))
        .margin(12)
        .x_label_area_size(38)
        .y_label_area_size(64)
        .build_cartesian_2d(1.0..last, low..high)
        .map_err(|e| e.to_string())?;
    chart
        .configure_mesh()
        .x_desc("epoch")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .label_style((FONT, 14))
        .light_line_style(WHITE)
        .draw()
        .map_err(|e| e.to_string())?;
    for curve in curves {
        let (colour, line) = (curve.colour, ShapeStyle::from(curve.colour).stroke_width(2));
        let drawn = chart.draw_series(LineSeries::new(curve.points.iter().copied(), line));
        let series = drawn.map_err(|e| e.to_string())?;
        if curves.len() > 1 {
            series.label(curve.name).legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 20, y)], ShapeStyle::from(colour).stroke_width(2))
            });
        }
        if curve.points.len() == 1 {
            let dots = curve.points.iter().map(|&p| Circle::new(p, 3, colour.filled()));
            chart.draw_series(dots).map_err(|e| e.to_string())?;
        }
    }
    if curves.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, 14))
            .draw()
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_drawn_for_any_history() {
        let epoch = |n: usize, loss: f64| Epoch {
            epoch: n,
            iteration: n * 10,
            learning_rate: 0.01,
            train_loss: loss,
            val_loss: loss + 0.1,
            pseudo_dice: vec![Some(0.5), None],
            mean_pseudo_dice: 0.5,
            ema_pseudo_dice: 0.4,
            is_best: true,
        };
        for history in [vec![], vec![epoch(1, 0.3)], vec![epoch(1, 0.3), epoch(2, f64::NAN), epoch(3, -0.4)]]
        {
            let svg = draw(&history).unwrap();
            assert!(svg.contains("Pseudo Dice") && svg.trim_end().ends_with("</svg>"));
        }
    }
}
