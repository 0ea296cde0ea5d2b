//! Small vector charts. They take their colours from the style sheet, so they follow light and dark mode,
//! which is why they are written here rather than by a plotting library.

use maud::{Markup, html};

/// A line chart.
pub struct Chart {
    /// Title.
    pub title: String,
    /// What x counts, e.g. `epoch`.
    pub x_name: String,
    /// Fixed range of y; from the data when `None`.
    pub y_range: Option<[f64; 2]>,
    /// Lines, at most four are told apart by colour and dashes.
    pub series: Vec<Series>,
}

/// One line of a chart.
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// `(x, y)` in drawing order; the line breaks at values that are not finite.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 260.0;
/// Left, right, top, bottom.
const MARGIN: [f64; 4] = [46.0, 12.0, 10.0, 40.0];

/// A straight scale from data to picture.
struct Scale {
    from: [f64; 2],
    to: [f64; 2],
}

impl Scale {
    fn at(&self, value: f64) -> f64 {
        let share = (value - self.from[0]) / (self.from[1] - self.from[0]);
        let place = self.to[0] + share * (self.to[1] - self.to[0]);
        (place * 10.0).round() / 10.0
    }
}

impl Chart {
    /// The chart as a figure.
    pub fn figure(&self) -> Markup {
        let points = || {
            self.series.iter().flat_map(|line| &line.points).filter(|p| p.0.is_finite() && p.1.is_finite())
        };
        let x_range = spread(points().map(|p| p.0));
        let y_range = self.y_range.unwrap_or_else(|| spread(points().map(|p| p.1)));
        let [left, right, top, bottom] = MARGIN;
        let (x_ticks, y_ticks) = (ticks(x_range, 6), ticks(y_range, 5));
        let x = Scale { from: x_range, to: [left, WIDTH - right] };
        let y = Scale { from: y_range, to: [HEIGHT - bottom, top] };
        html! {
            figure.chart {
                figcaption { (self.title) }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(self.title) {
                    @for tick in &y_ticks {
                        line.grid x1=(left) x2=(WIDTH - right) y1=(y.at(*tick)) y2=(y.at(*tick)) {}
                        text x=(left - 8.0) y=(y.at(*tick) + 4.0) text-anchor="end" { (label(*tick, &y_ticks)) }
                    }
                    @for tick in &x_ticks {
                        text.middle x=(x.at(*tick)) y=(HEIGHT - bottom + 18.0) { (label(*tick, &x_ticks)) }
                    }
                    text.middle x=((left + WIDTH - right) / 2.0) y=(HEIGHT - 5.0) { (self.x_name) }
                    @for (index, line) in self.series.iter().enumerate() {
                        path class=(format!("line s{}", index % 4)) d=(line.path(&x, &y)) { title { (line.name) } }
                    }
                }
                div.legend {
                    @for (index, line) in self.series.iter().enumerate() {
                        span {
                            svg.key viewBox="0 0 28 8" aria-hidden="true" {
                                path class=(format!("line s{}", index % 4)) d="M1 4H27" {}
                            }
                            (line.name)
                            @if let Some(last) = line.last() { span.quiet { "last " (format!("{last:.3}").replace('-', "−")) } }
                        }
                    }
                }
            }
        }
    }
}

impl Series {
    fn path(&self, x: &Scale, y: &Scale) -> String {
        let mut data = String::new();
        let mut pen_down = false;
        for &(px, py) in &self.points {
            let finite = px.is_finite() && py.is_finite();
            if finite {
                let command = if pen_down { 'L' } else { 'M' };
                // Beyond a fixed range a line runs along the border instead of out of the picture.
                let height = y.at(py).clamp(MARGIN[2] - 3.0, HEIGHT - MARGIN[3] + 3.0);
                data.push_str(&format!("{command}{} {height}", x.at(px)));
            }
            pen_down = finite;
        }
        data
    }

    fn last(&self) -> Option<f64> {
        self.points.iter().map(|point| point.1).rfind(|y| y.is_finite())
    }
}

/// Dots of all cases on the range of a metric, with mean and interval: one row of a table, one glance.
pub fn strip(values: &[f64], range: [f64; 2], interval: [Option<f64>; 3]) -> Markup {
    let x = Scale { from: range, to: [6.0, 154.0] };
    let clamp = |value: f64| x.at(value.clamp(range[0], range[1]));
    let finite = values.iter().filter(|value| value.is_finite());
    let [mean, low, high] = interval.map(|value| value.filter(|v| v.is_finite()).map(clamp));
    html! {
        svg.strip viewBox="0 0 160 24" role="img" aria-label="Scores of the single cases" {
            line.grid x1="6" x2="154" y1="12" y2="12" {}
            @for place in [6.0, 80.0, 154.0] { line.grid x1=(place) x2=(place) y1="8" y2="16" {} }
            @if let (Some(low), Some(high)) = (low, high) {
                rect.interval x=(low) y="7" width=((high - low).max(1.0)) height="10" rx="2" {}
            }
            @for value in finite { circle.dot cx=(clamp(*value)) cy="12" r="2.6" {} }
            @if let Some(mean) = mean { line.mean x1=(mean) x2=(mean) y1="3" y2="21" {} }
        }
    }
}

/// Range of values with a little air; `[0, 1]` when there are none.
fn spread(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let [low, high] = values.fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], v| [a.min(v), b.max(v)]);
    if low > high {
        [0.0, 1.0]
    } else if high - low <= 1e-9 * high.abs().max(1.0) {
        [low - 0.5, high + 0.5]
    } else {
        [low, high]
    }
}

/// Round numbers inside a range, about `wanted` of them.
fn ticks([low, high]: [f64; 2], wanted: usize) -> Vec<f64> {
    let rough = (high - low) / wanted as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&step| step >= rough).unwrap_or(rough);
    let first = (low / step - 1e-9).ceil();
    let count = ((high / step + 1e-9).floor() - first).clamp(0.0, 50.0) as usize;
    (0..=count).map(|index| (first + index as f64) * step).collect()
}

/// A tick with as many digits as the step needs.
fn label(tick: f64, all: &[f64]) -> String {
    let step = all.windows(2).next().map_or(1.0, |pair| pair[1] - pair[0]);
    let decimals = (-step.log10()).ceil().clamp(0.0, 6.0) as usize;
    // Adding zero turns -0 into 0.
    format!("{:.decimals$}", tick + 0.0).replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks([0.0, 1.0], 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        let all = ticks([-0.83, 1.31], 5);
        let labels: Vec<_> = all.iter().map(|&tick| label(tick, &all)).collect();
        assert_eq!(labels, ["−0.5", "0.0", "0.5", "1.0"]);
    }

    #[test]
    fn lines_break_at_missing_values() {
        let unit = || Scale { from: [0.0, 1.0], to: [0.0, 100.0] };
        let points = vec![(0.0, 0.5), (0.1, f64::NAN), (0.2, 0.5), (0.3, 0.6)];
        let line = Series { name: "loss".into(), points };
        assert_eq!(line.path(&unit(), &unit()), "M0 50M20 50L30 60");
        assert_eq!(line.last(), Some(0.6));
    }

    #[test]
    fn constant_and_empty_data_have_a_range() {
        assert_eq!(spread([2.0, 2.0].into_iter()), [1.5, 2.5]);
        assert_eq!(spread([].into_iter()), [0.0, 1.0]);
    }
}
