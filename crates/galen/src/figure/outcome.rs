//! Figures of survival, agreement, detection and label maps.

use super::{Axis, Figure, Mark, density, five_numbers};
use galen_metrics::Evaluation;
use galen_metrics::agreement::Ratings;
use galen_metrics::detection::froc::Candidates;
use galen_metrics::survival::{Survival, kaplan_meier};

/// Survival per group with its 95 % band; `names` are those of the groups.
pub fn survival(table: &Survival, names: &[String]) -> Figure {
    let mut marks = Vec::new();
    for (number, (group, times, events)) in table.by_group().into_iter().enumerate() {
        let curve = kaplan_meier::survival(&times, &events);
        let band = kaplan_meier::log_log_band(&times, &events);
        let (mut steps, mut shade, mut before) = (vec![[0.0, 1.0]], Vec::new(), ([1.0, 1.0], 1.0));
        for ((time, value), limits) in curve.times.iter().zip(&curve.values).zip(&band) {
            steps.extend([[*time, before.1], [*time, *value]]);
            shade.extend([[*time, before.0[0], before.0[1]], [*time, limits[0], limits[1]]]);
            before = (*limits, *value);
        }
        let name = group.map_or_else(
            || "all cases".to_owned(),
            |g| names.get(g).cloned().unwrap_or_else(|| format!("group {g}")),
        );
        marks.push(Mark::Band { points: shade, colour: number });
        let name = format!("{name} (n = {}, events {})", times.len(), events.iter().filter(|e| **e).count());
        marks.push(Mark::Line { name, points: steps, colour: number, dashed: false });
    }
    Figure {
        name: "kaplan-meier".into(),
        title: "Kaplan-Meier".into(),
        caption: "Survival with log-log 95 % band (Greenwood); where it is wide, few are left at risk."
            .into(),
        x: Axis::of("time"),
        y: Axis::within("survival", [0.0, 1.0]),
        marks,
    }
}

/// Differences of the first two raters against their means.
pub fn bland_altman(ratings: &Ratings) -> Figure {
    let pairs = ratings.first_two();
    let m = ratings.measure();
    let points: Vec<[f64; 2]> = pairs.iter().map(|[a, b]| [(a + b) / 2.0, a - b]).collect();
    let [left, right] =
        points.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[a, b], p| [a.min(p[0]), b.max(p[0])]);
    let level = |name: &str, id: &str, colour: usize| {
        let y = m.number(id);
        let points = vec![[left, y], [right, y]];
        Mark::Line { name: format!("{name} {y:.3}"), points, colour, dashed: true }
    };
    let marks = vec![
        level("bias", "bland-altman/bias(r0-r1)", 0),
        level("lower limit", "bland-altman/loa-low", 1),
        level("upper limit", "bland-altman/loa-high", 1),
        Mark::Dots { name: String::new(), points, colour: 0, radius: 3.5 },
    ];
    Figure {
        name: "bland-altman".into(),
        title: "Bland-Altman, first two raters".into(),
        caption: "Limits of agreement: bias ± 1.96 standard deviations of the differences.".into(),
        x: Axis::of("mean of both"),
        y: Axis::of("first − second"),
        marks,
    }
}

/// Sensitivity against false positives per image.
pub fn froc(candidates: &Candidates) -> Figure {
    const LEAST: f64 = 0.0625;
    let (mut steps, mut before) = (Vec::new(), 0.0);
    for (rate, sensitivity) in candidates.points() {
        let x = rate.max(LEAST).log10();
        steps.extend([[x, before], [x, sensitivity]]);
        before = sensitivity;
    }
    let end = steps.last().map_or(0.0, |p: &[f64; 2]| p[0]).max(8f64.log10());
    steps.push([end, before]);
    let m = candidates.measure();
    Figure {
        name: "froc".into(),
        title: "FROC".into(),
        caption: format!(
            "Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4, 8 false positives an image: {:.3} (LUNA16, last step). Rates \
             below 1/16 are drawn at 1/16.",
            m.number("froc/luna16 points/last step")
        ),
        x: Axis { log: true, ..Axis::within("false positives per image", [LEAST.log10(), end]) },
        y: Axis::within("sensitivity", [0.0, 1.0]),
        marks: vec![Mark::Line { name: String::new(), points: steps, colour: 0, dashed: false }],
    }
}

/// One metric of all cases per label, as violins with boxes.
pub fn per_label(evaluation: &Evaluation, id: &str) -> Option<Figure> {
    let entry = galen_metrics::entry(id)?;
    let names: Vec<String> = evaluation.labels.iter().map(|label| label.name.clone()).collect();
    let mut marks = Vec::new();
    for label in 0..names.len() {
        let score = |case: &galen_metrics::Case| case.scores.labels.get(label)?.scores.get(id)?.value();
        let values: Vec<f64> = evaluation.cases.iter().filter_map(score).collect();
        let at = label as f64;
        marks.push(Mark::Violin { at, shape: density(&values), colour: label });
        marks.extend(five_numbers(&values).map(|five| Mark::Box { at, five, colour: label }));
    }
    let unit = if entry.unit.is_empty() { String::new() } else { format!(", {}", entry.unit) };
    Some(Figure {
        name: format!("labels-{id}"),
        title: format!("{} per label", entry.name),
        caption: format!(
            "{} cases; undefined and infinite values are left out (see the table).",
            evaluation.cases.len()
        ),
        x: Axis::named("", names),
        y: Axis::of(&format!("{}{unit}", entry.name)),
        marks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_hold_their_numbers() {
        let times = vec![1.0, 2.0, 2.0, 3.0, 4.0, 5.0, 5.0, 6.0];
        let events = [1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0];
        let groups = Some(vec![0, 1, 0, 1, 0, 1, 0, 1]);
        let table = Survival::new(times, &events, vec![0.0; 8], groups).unwrap();
        let svg = survival(&table, &["old".into(), "new".into()]).svg();
        assert!(svg.contains("old (n = 4, events 2)") && svg.contains("new (n = 4, events 3)"), "{svg}");
        let ratings = Ratings::new(vec![vec![1.0, 2.0], vec![3.0, 3.5], vec![4.0, 3.0]]).unwrap();
        assert!(
            bland_altman(&ratings).svg().contains("bias −0.167")
                || bland_altman(&ratings).svg().contains("bias -0.167")
        );
        let hit = |name: &str| Some(name.to_owned());
        let rows = [(0.9, hit("a")), (0.8, None), (0.7, hit("b"))];
        let figure = froc(&Candidates::new(&rows, 2, 4).unwrap());
        assert!(figure.caption.contains("0.929") && !figure.svg().contains("NaN"), "{}", figure.caption);
    }
}
