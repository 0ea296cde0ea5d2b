//! Scores of the single cases in one row of a table.

use crate::figure::Scale;
use maud::{Markup, html};

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
