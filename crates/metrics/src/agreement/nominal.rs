//! Raters who name categories (whole numbers): kappas and opinion scores.

use crate::classification::confusion::weighted_kappa;
use crate::measures::{Definition, Measures, define, ratio};

/// What the ids of this file mean; measured when every rating is a whole number.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "cohen-kappa(r0,r1)",
        "agreement of the first two raters beyond chance",
        "-1..1",
        "both constant and equal: undefined",
        "depends on how common the categories are",
        "Cohen 1960; sklearn cohen_kappa_score",
    ),
    define(
        "cohen-kappa/quadratic(r0,r1)",
        "the same with squared steps between the ordered categories that occur",
        "-1..1",
        "as above",
        "for ordered categories only",
        "sklearn cohen_kappa_score(weights='quadratic')",
    ),
    define(
        "fleiss-kappa",
        "agreement of all raters beyond chance",
        "-1..1",
        "one category only: undefined",
        "raters are exchangeable in it",
        "Fleiss 1971; statsmodels fleiss_kappa",
    ),
    define(
        "gwet-ac1",
        "agreement beyond a chance of sum q (1 - q) / (categories - 1)",
        "-1..1",
        "one category only: undefined",
        "another idea of chance than kappa",
        "Gwet 2008",
    ),
    define(
        "mos",
        "mean opinion score: mean of all ratings",
        "as rated",
        "undefined without ratings",
        "opinions are ordered, not measured: show their distribution",
        "ITU-T P.800",
    ),
];

pub(super) fn measure(rows: &[Vec<f64>], m: &mut Measures) {
    let mut categories: Vec<i64> = rows.iter().flatten().map(|v| *v as i64).collect();
    categories.sort_unstable();
    categories.dedup();
    let slot = |value: f64| categories.binary_search(&(value as i64)).expect("every category was collected");
    // Categories that only other raters use do not change kappa, but they would change ordered steps.
    let mut own: Vec<i64> = rows.iter().flat_map(|row| [row[0] as i64, row[1] as i64]).collect();
    own.sort_unstable();
    own.dedup();
    let own_slot = |value: f64| own.binary_search(&(value as i64)).expect("every category was collected");
    let mut matrix = vec![vec![0.0; own.len()]; own.len()];
    rows.iter().for_each(|row| matrix[own_slot(row[0])][own_slot(row[1])] += 1.0);
    m.put("cohen-kappa(r0,r1)", weighted_kappa(&matrix, |i, j| f64::from(u8::from(i != j))));
    m.put("cohen-kappa/quadratic(r0,r1)", weighted_kappa(&matrix, |i, j| (i.abs_diff(j) as f64).powi(2)));
    let (n, k) = (rows.len() as f64, rows[0].len() as f64);
    let mut shares = vec![0.0; categories.len()];
    let mut agreement = 0.0;
    for row in rows {
        let mut votes = vec![0.0; categories.len()];
        row.iter().for_each(|v| votes[slot(*v)] += 1.0);
        agreement += votes.iter().map(|v| v * (v - 1.0)).sum::<f64>() / (k * (k - 1.0)) / n;
        shares.iter_mut().zip(&votes).for_each(|(s, v)| *s += v / (n * k));
    }
    let fleiss: f64 = shares.iter().map(|s| s * s).sum();
    let gwet = ratio(shares.iter().map(|s| s * (1.0 - s)).sum(), categories.len() as f64 - 1.0);
    let several = if categories.len() > 1 { 1.0 } else { f64::NAN };
    m.put("fleiss-kappa", several * ratio(agreement - fleiss, 1.0 - fleiss));
    m.put("gwet-ac1", several * ratio(agreement - gwet, 1.0 - gwet));
    m.put("mos", rows.iter().flatten().sum::<f64>() / (n * k));
}
