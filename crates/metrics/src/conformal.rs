//! Conformal prediction sets: classes whose probability is high enough to promise a coverage.

use crate::classification::Multiclass;
use crate::measures::{Definition, Measures, define, ratio};
use galen_core::{Error, Result};

/// Definitions of the ids of `--kind conformal`; score 1 - probability of the class.
pub static DEFINITIONS: &[Definition] = &[
    define("alpha", "share of misses allowed", "0..1", "-", "a choice, made before looking", "input"),
    define(
        "qhat",
        "quantile ceil((n + 1)(1 - alpha)) / n of the calibration scores, the higher neighbour of numpy: one rank above qhat/exact-rank",
        "0..1",
        "that share is above 1: infinite, all classes in every set",
        "calibration cases must be like those to come",
        "Angelopoulos and Bates 2023; numpy quantile(method='higher')",
    ),
    define(
        "qhat/exact-rank",
        "ceil((n + 1)(1 - alpha))-th smallest score of the calibration cases",
        "0..1",
        "that rank is above n: infinite",
        "the smallest threshold that keeps the promise",
        "Sadinle et al. 2019",
    ),
    define(
        "mean-set-size",
        "mean number of classes with score of at most qhat",
        "0..classes",
        "no test case: undefined",
        "empty sets are allowed and count 0",
        "MAPIE",
    ),
    define(
        "coverage",
        "share of test cases whose class is in its set",
        "0..1",
        "no test case: undefined",
        "marginal: a class or group may be far below",
        "MAPIE classification_coverage_score",
    ),
    define(
        "worst-class-coverage",
        "smallest coverage of a class with test cases",
        "0..1",
        "no test case: undefined",
        "small classes are noisy",
        "own",
    ),
    define(
        "empty-sets",
        "share of sets without a class",
        "0..1",
        "no test case: undefined",
        "read them as: none of these",
        "own",
    ),
];

/// Threshold from `calibration`, sets and coverage on `test`.
pub fn measure(calibration: &Multiclass, test: &Multiclass, alpha: f64) -> Result<Measures> {
    if !(alpha > 0.0 && alpha < 1.0) {
        return Err(Error::input(
            "--alpha",
            format!("{alpha} is no share of misses"),
            "give a number between 0 and 1, for example 0.1",
        ));
    }
    let classes = calibration.probabilities()[0].len();
    if test.probabilities()[0].len() != classes {
        let what = format!("{classes} classes in one table, {} in the other", test.probabilities()[0].len());
        return Err(Error::input("calibration and test", what, "give the same columns in both"));
    }
    let mut scores: Vec<f64> =
        calibration.labels().iter().zip(calibration.probabilities()).map(|(&l, p)| 1.0 - p[l]).collect();
    scores.sort_by(f64::total_cmp);
    // (n + 1)(1 - alpha) is often a whole number that rounding lifts by a hair.
    let rank = ((scores.len() + 1) as f64 * (1.0 - alpha) - 1e-9).ceil() as usize;
    let last = scores.len() - 1;
    let at = |index: usize| if rank > scores.len() { f64::INFINITY } else { scores[index.min(last)] };
    let (qhat, exact) = (at(rank), at(rank.max(1) - 1));
    let (mut size, mut hits, mut empty) = (0.0, vec![0.0; classes], 0.0);
    let mut counts = vec![0.0; classes];
    for (&label, p) in test.labels().iter().zip(test.probabilities()) {
        let set = p.iter().filter(|v| 1.0 - **v <= qhat).count();
        size += set as f64;
        empty += f64::from(u8::from(set == 0));
        counts[label] += 1.0;
        hits[label] += f64::from(u8::from(1.0 - p[label] <= qhat));
    }
    let n = test.labels().len() as f64;
    let per_class = hits.iter().zip(&counts).map(|(h, c)| ratio(*h, *c)).filter(|v| v.is_finite());
    let mut m = Measures::default();
    m.put("alpha", alpha);
    m.put("qhat", qhat);
    m.put("qhat/exact-rank", exact);
    m.put("mean-set-size", size / n);
    m.put("coverage", hits.iter().sum::<f64>() / n);
    m.put("worst-class-coverage", per_class.reduce(f64::min).unwrap_or(f64::NAN));
    m.put("empty-sets", empty / n);
    Ok(m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_cases_at_ten_percent_use_the_largest_score() {
        let table = |p: &[f64]| {
            Multiclass::new(&vec![0.0; p.len()], p.iter().map(|v| vec![*v, 1.0 - v]).collect()).unwrap()
        };
        let nine = table(&[0.9, 0.8, 0.7, 0.6, 0.95, 0.85, 0.75, 0.65, 0.4]);
        let m = measure(&nine, &table(&[0.5, 0.1]), 0.1).unwrap();
        assert!((m.number("qhat") - 0.6).abs() < 1e-12);
        assert_eq!((m.number("mean-set-size"), m.number("coverage")), (1.5, 0.5));
        // Rank 8 of nine scores is 0.4; numpy's higher neighbour is the ninth, 0.6.
        let looser = measure(&nine, &nine, 0.2).unwrap();
        assert!((looser.number("qhat/exact-rank") - 0.4).abs() < 1e-12);
        assert!((looser.number("qhat") - 0.6).abs() < 1e-12);
        assert_eq!(measure(&nine, &nine, 0.05).unwrap().number("qhat"), f64::INFINITY);
    }
}
