//! Krippendorff's alpha: any number of raters, empty cells allowed.

use crate::measures::{Definition, define, ratio};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "krippendorff/interval",
        "1 - observed / expected squared difference of ratings of the same subject",
        "-inf..1",
        "all ratings equal: undefined",
        "subjects with one rating are left out",
        "Krippendorff 2011; krippendorff.alpha(level='interval')",
    ),
    define(
        "krippendorff/nominal",
        "the same with difference 0 for equal and 1 for unequal",
        "-inf..1",
        "all ratings equal: undefined",
        "treats 1 against 5 as 1 against 2",
        "Krippendorff 2011; krippendorff.alpha(level='nominal')",
    ),
];

/// Alpha of `[subject][rater]` with NaN for an empty cell and a squared difference of two ratings.
pub fn alpha(rows: &[Vec<f64>], difference: impl Fn(f64, f64) -> f64) -> f64 {
    let units: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| row.iter().copied().filter(|v| !v.is_nan()).collect::<Vec<f64>>())
        .filter(|unit| unit.len() > 1)
        .collect();
    let all: Vec<f64> = units.iter().flatten().copied().collect();
    let pairs = |values: &[f64]| -> f64 {
        values
            .iter()
            .enumerate()
            .map(|(i, a)| values[..i].iter().map(|b| difference(*a, *b)).sum::<f64>())
            .sum()
    };
    let observed: f64 = units.iter().map(|unit| pairs(unit) / (unit.len() - 1) as f64).sum();
    let expected = pairs(&all) / (all.len() as f64 - 1.0);
    1.0 - ratio(observed, expected)
}
