//! Figures of classifiers: ROC, precision and recall, calibration, decisions, coverage, confusion.

use super::{Axis, Figure, Mark};
use galen_metrics::classification::{Binary, Multiclass, calibration, coverage, decision, resampled, roc};
use galen_metrics::fairness::Group;
use galen_metrics::statistics::delong;

/// Draws of the interval of the AUROC.
const DRAWS: usize = 2000;
/// Groups of the calibration plot.
const GROUPS: usize = 10;

fn line(name: &str, points: Vec<[f64; 2]>, colour: usize, dashed: bool) -> Mark {
    Mark::Line { name: name.into(), points, colour, dashed }
}

/// All figures of two classes.
pub fn binary(table: &Binary, seed: u64) -> Vec<Figure> {
    let (labels, scores) = (table.labels(), table.scores());
    vec![
        roc_curve(labels, scores, seed),
        precision_recall(labels, scores),
        reliability(labels, scores),
        decisions(labels, scores),
        {
            let (right, confidence) = table.sureness();
            risk_and_coverage(&right, &confidence)
        },
    ]
}

/// Calibration before and after the fits on a table of their own.
pub fn recalibrated(table: &Binary, calibration: &Binary) -> Figure {
    let (temperature, tempered) = table.tempered(calibration);
    let curves = [
        ("as given", table.scores().to_vec()),
        ("temperature", tempered),
        ("isotonic", table.isotonic(calibration)),
    ];
    let mut marks = vec![line("perfect", vec![[0.0, 0.0], [1.0, 1.0]], 5, true)];
    for (colour, (name, scores)) in curves.into_iter().enumerate() {
        let groups = calibration::reliability(table.labels(), &scores, GROUPS);
        let name = format!("{name} (error {:.3})", calibration::ece(table.labels(), &scores, 15));
        marks.push(line(&name, groups.iter().map(|g| [g.0, g.1]).collect(), colour, false));
    }
    Figure {
        name: "recalibration".into(),
        title: "Calibration after fits".into(),
        caption: format!(
            "Temperature {temperature:.3} and isotonic curve, fitted on other cases; groups of equal size; expected \
             calibration error of 15 equal-width bins."
        ),
        x: Axis::within("mean predicted probability", [0.0, 1.0]),
        y: Axis::within("share of positives", [0.0, 1.0]),
        marks,
    }
}

/// Figures of several classes: each against the rest, confusion, calibration of the answer, coverage.
pub fn multiclass(table: &Multiclass) -> Vec<Figure> {
    let decisions = table.decisions();
    let right: Vec<bool> = table.labels().iter().zip(&decisions).map(|(l, d)| l == d).collect();
    let surest: Vec<f64> = table.probabilities().iter().zip(&decisions).map(|(p, d)| p[*d]).collect();
    let mut answer = reliability(&right, &surest);
    answer.caption = format!(
        "Largest probability against being right, {GROUPS} groups of equal size with Wilson's 95 % intervals; expected \
         calibration error of 15 equal-width bins {:.3}.",
        calibration::ece(&right, &surest, 15)
    );
    answer.x.name = "mean of the largest probability".into();
    answer.y.name = "share of right answers".into();
    vec![confusion(table), one_against_rest(table), answer, risk_and_coverage(&right, &surest)]
}

fn one_against_rest(table: &Multiclass) -> Figure {
    let mut marks = vec![line("chance", vec![[0.0, 0.0], [1.0, 1.0]], 5, true)];
    for class in 0..table.probabilities()[0].len() {
        let labels: Vec<bool> = table.labels().iter().map(|l| *l == class).collect();
        let scores: Vec<f64> = table.probabilities().iter().map(|p| p[class]).collect();
        let points = roc::curve(&labels, &scores);
        let Some(&(_, positives, negatives)) = points.last() else { continue };
        if positives == 0.0 || negatives == 0.0 {
            continue;
        }
        let curve = points.iter().map(|p| [p.2 / negatives, p.1 / positives]);
        let name = format!("class {class} ({:.3})", roc::auroc(&labels, &scores));
        marks.push(line(&name, std::iter::once([0.0, 0.0]).chain(curve).collect(), class, false));
    }
    Figure {
        name: "roc".into(),
        title: "ROC, each class against the rest".into(),
        caption: "With the area under each curve; a class without cases has none.".into(),
        x: Axis::within("1 − specificity", [0.0, 1.0]),
        y: Axis::within("sensitivity", [0.0, 1.0]),
        marks,
    }
}

/// AUROC of each group with its interval.
pub fn groups(attribute: &str, groups: &[Group]) -> Figure {
    let number = |group: &Group, id: &str| group.values.number(id);
    let known = || groups.iter().enumerate().filter(|(_, g)| number(g, "auroc").is_finite());
    let whiskers = known().map(|(at, g)| [at as f64, number(g, "auroc-low"), number(g, "auroc-high")]);
    let dots = known().map(|(at, g)| [at as f64, number(g, "auroc")]);
    let names = groups.iter().map(|g| format!("{} ({:.0})", g.name, number(g, "n")));
    Figure {
        name: format!("groups-{}", crate::verify::folder_name(attribute)),
        title: format!("AUROC by {attribute}"),
        caption: "With 95 % intervals after DeLong and the number of cases; groups of one class have none."
            .into(),
        x: Axis::named(attribute, names.collect()),
        y: Axis::of("AUROC"),
        marks: vec![
            Mark::Whiskers { points: whiskers.collect(), colour: 0 },
            Mark::Dots { name: String::new(), points: dots.collect(), colour: 0, radius: 4.0 },
        ],
    }
}

fn roc_curve(labels: &[bool], scores: &[f64], seed: u64) -> Figure {
    let points = roc::curve(labels, scores);
    let (positives, negatives) = points.last().map_or((1.0, 1.0), |p| (p.1, p.2));
    let curve = std::iter::once([0.0, 0.0]).chain(points.iter().map(|p| [p.2 / negatives, p.1 / positives]));
    let (low, high) = resampled::auroc_interval(labels, scores, DRAWS, seed);
    let (delong_low, delong_high) = delong::components(labels, scores).interval();
    let interval = match (low, high) {
        (Some(low), Some(high)) => format!("{low:.3} to {high:.3} over {DRAWS} draws of cases, seed {seed}"),
        _ => "no interval".into(),
    };
    Figure {
        name: "roc".into(),
        title: "ROC".into(),
        caption: format!(
            "AUROC {:.3} ({interval}; {delong_low:.3} to {delong_high:.3} after DeLong).",
            roc::auroc(labels, scores)
        ),
        x: Axis::within("1 − specificity", [0.0, 1.0]),
        y: Axis::within("sensitivity", [0.0, 1.0]),
        marks: vec![
            line("chance", vec![[0.0, 0.0], [1.0, 1.0]], 5, true),
            line("model", curve.collect(), 0, false),
        ],
    }
}

fn precision_recall(labels: &[bool], scores: &[f64]) -> Figure {
    let points = roc::curve(labels, scores);
    let (positives, negatives) = points.last().map_or((1.0, 1.0), |p| (p.1, p.2));
    let prevalence = positives / (positives + negatives);
    // Steps, since straight lines between points promise too much.
    let (mut curve, mut before) = (Vec::new(), 0.0);
    for (_, tp, fp) in points {
        let (recall, precision) = (tp / positives, tp / (tp + fp));
        curve.push([before, precision]);
        curve.push([recall, precision]);
        before = recall;
    }
    Figure {
        name: "precision-recall".into(),
        title: "Precision and recall".into(),
        caption: format!(
            "Average precision {:.3}, at a prevalence of {prevalence:.3}.",
            roc::average_precision(labels, scores)
        ),
        x: Axis::within("recall", [0.0, 1.0]),
        y: Axis::within("precision", [0.0, 1.0]),
        marks: vec![
            line("chance", vec![[0.0, prevalence], [1.0, prevalence]], 5, true),
            line("model", curve, 0, false),
        ],
    }
}

fn reliability(labels: &[bool], scores: &[f64]) -> Figure {
    let groups = calibration::reliability(labels, scores, GROUPS);
    // Wilson's interval of each share.
    let wilson = |share: f64, n: usize| {
        let (n, z) = (n as f64, 1.959_964);
        let centre = (share + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt() / (1.0 + z * z / n);
        [centre - half, centre + half]
    };
    let whiskers = groups.iter().map(|&(score, share, n)| {
        let [low, high] = wilson(share, n);
        [score, low, high]
    });
    Figure {
        name: "calibration".into(),
        title: "Calibration".into(),
        caption: format!(
            "{} groups of equal size with Wilson's 95 % intervals; slope {:.2}, observed / expected {:.2}.",
            groups.len(),
            calibration::calibration_slope(labels, scores),
            calibration::observed_over_expected(labels, scores)
        ),
        x: Axis::within("mean predicted probability", [0.0, 1.0]),
        y: Axis::within("share of positives", [0.0, 1.0]),
        marks: vec![
            line("perfect", vec![[0.0, 0.0], [1.0, 1.0]], 5, true),
            Mark::Whiskers { points: whiskers.collect(), colour: 0 },
            line("model", groups.iter().map(|g| [g.0, g.1]).collect(), 0, false),
            Mark::Dots {
                name: String::new(),
                points: groups.iter().map(|g| [g.0, g.1]).collect(),
                colour: 0,
                radius: 3.5,
            },
        ],
    }
}

fn decisions(labels: &[bool], scores: &[f64]) -> Figure {
    let curve = decision::curve(labels, scores);
    let prevalence = labels.iter().filter(|l| **l).count() as f64 / labels.len() as f64;
    Figure {
        name: "decision-curve".into(),
        title: "Decision curve".into(),
        caption: "Net benefit = TP/N − FP/N · p/(1−p) where p is the threshold probability. Choose p before looking."
            .into(),
        x: Axis::within("threshold probability", [0.0, 1.0]),
        y: Axis::within("net benefit", [-0.25 * prevalence, 1.05 * prevalence]),
        marks: vec![
            line("treat none", vec![[0.0, 0.0], [1.0, 0.0]], 5, true),
            line("treat all", curve.iter().map(|p| [p.0, p.2]).filter(|p| p[1] >= -0.25 * prevalence).collect(), 1, true),
            line("model", curve.iter().map(|p| [p.0, p.1]).collect(), 0, false),
        ],
    }
}

/// Error rate among the surest cases, given which answers are right and how sure they are.
fn risk_and_coverage(right: &[bool], confidence: &[f64]) -> Figure {
    let risks = coverage::risks(right, confidence);
    let n = risks.len() as f64;
    let points = risks.iter().enumerate().map(|(i, risk)| [(i + 1) as f64 / n, *risk]);
    Figure {
        name: "risk-coverage".into(),
        title: "Risk and coverage".into(),
        caption: format!(
            "Error rate among the surest cases, as ever more are answered; area {:.3}.",
            risks.iter().sum::<f64>() / n
        ),
        x: Axis::within("share of cases answered", [0.0, 1.0]),
        y: Axis::of("error rate"),
        marks: vec![line("model", points.collect(), 0, false)],
    }
}

/// Counts of truth against decision, shaded by the share of the truth.
fn confusion(table: &Multiclass) -> Figure {
    let classes = table.probabilities()[0].len();
    let mut counts = vec![vec![0usize; classes]; classes];
    table.labels().iter().zip(table.decisions()).for_each(|(&truth, found)| counts[truth][found] += 1);
    let names: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
    let mut marks = Vec::new();
    for (truth, row) in counts.iter().enumerate() {
        let all = row.iter().sum::<usize>().max(1) as f64;
        for (found, &count) in row.iter().enumerate() {
            let at = [found as f64, (classes - 1 - truth) as f64];
            marks.push(Mark::Tile { at, shade: count as f64 / all, text: count.to_string() });
        }
    }
    Figure {
        name: "confusion".into(),
        title: "Confusion matrix".into(),
        caption: "Cases by class (rows) and decision (columns); shaded by the share of the row.".into(),
        x: Axis::named("decision", names.clone()),
        y: Axis::named("class", names.into_iter().rev().collect()),
        marks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_is_drawn_and_says_its_area() {
        let labels = [0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0];
        let scores = [0.1, 0.4, 0.35, 0.8, 0.4, 0.4, 0.2, 0.9];
        let figures = binary(&Binary::new(&labels, &scores).unwrap(), 0);
        assert_eq!(figures.len(), 5);
        assert!(figures[0].caption.starts_with("AUROC 0.812 ("), "{}", figures[0].caption);
        for figure in figures {
            let svg = figure.svg();
            assert!(svg.contains("<path") && !svg.contains("NaN"), "{}: {svg}", figure.name);
        }
        let p = vec![vec![0.9, 0.1], vec![0.2, 0.8], vec![0.6, 0.4]];
        let table = Multiclass::new(&[0.0, 1.0, 1.0], p).unwrap();
        let svg = confusion(&table).svg();
        assert_eq!(svg.matches("text-anchor=\"middle\">1<").count(), 4, "{svg}");
        assert!(multiclass(&table).iter().all(|f| !f.svg().contains("NaN") && !f.caption.contains("NaN")));
        let table = Binary::new(&labels, &scores).unwrap();
        let figure = recalibrated(&table, &table);
        assert!(figure.svg().contains("isotonic (error 0.000)"), "{}", figure.svg());
    }
}
