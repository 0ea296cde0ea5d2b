//! What the raters said, and whether they agree.

use super::answers::Answers;
use super::study::{Kind, Study};
use galen_metrics::agreement::Ratings;
use galen_metrics::bootstrap_mean;
use galen_metrics::statistics::mcnemar;
use serde::Serialize;

/// Result of a study.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Raters.
    pub raters: usize,
    /// Answers.
    pub answers: usize,
    /// Per method, best first.
    pub methods: Vec<MethodSummary>,
    /// Agreement statistics by id; empty below two raters with two items in common.
    pub agreement: Vec<(String, f64)>,
}

/// What was said about a method.
#[derive(Debug, Serialize)]
pub struct MethodSummary {
    /// Name.
    pub method: String,
    /// Mean opinion, or share of comparisons won (equal counts half).
    pub mean: f64,
    /// Its 95 % interval over cases.
    pub interval: [Option<f64>; 2],
    /// Comparisons won and lost, or marks.
    pub n: usize,
    /// Exact two-sided p of the wins against the losses (sign test); `None` for opinions.
    pub p: Option<f64>,
}

/// Counts, means and agreement.
pub fn summary(study: &Study, answers: &Answers, seed: u64) -> Summary {
    let mut methods: Vec<MethodSummary> =
        (0..study.methods.len()).map(|method| of_method(study, answers, method, seed)).collect();
    methods.sort_by(|a, b| b.mean.total_cmp(&a.mean));
    Summary {
        raters: answers.raters().len(),
        answers: answers.all().count(),
        methods,
        agreement: agreement(study, answers),
    }
}

fn of_method(study: &Study, answers: &Answers, method: usize, seed: u64) -> MethodSummary {
    let (mut wins, mut losses, mut n) = (0u64, 0u64, 0usize);
    // Mean over raters per case, since the answers of one case hang together.
    let mut by_case = vec![(0.0, 0.0); study.cases.len()];
    for ((_, case, methods), answer) in answers.all() {
        let Some(place) = methods.iter().position(|m| *m == method) else { continue };
        let value = match (study.kind, answer) {
            (Kind::Opinion, mark) => f64::from(mark),
            (Kind::Pairs, 0) => 0.5,
            (Kind::Pairs, side) => {
                let won = usize::from(side) == place + 1;
                wins += u64::from(won);
                losses += u64::from(!won);
                f64::from(u8::from(won))
            }
        };
        n += 1;
        by_case[*case].0 += value;
        by_case[*case].1 += 1.0;
    }
    let means: Vec<f64> = by_case.iter().filter(|c| c.1 > 0.0).map(|c| c.0 / c.1).collect();
    let interval = bootstrap_mean(&means, seed);
    MethodSummary {
        method: study.methods[method].clone(),
        mean: interval.mean.unwrap_or(f64::NAN),
        interval: [interval.low, interval.high],
        n,
        // The sign test is McNemar's exact one on wins and losses.
        p: (study.kind == Kind::Pairs).then(|| mcnemar::exact_p(wins, losses)),
    }
}

fn agreement(study: &Study, answers: &Answers) -> Vec<(String, f64)> {
    let raters = answers.raters();
    let mut items: Vec<(usize, Vec<usize>)> =
        answers.all().map(|((_, case, methods), _)| (*case, methods.clone())).collect();
    items.sort();
    items.dedup();
    let mut rows = vec![vec![f64::NAN; raters.len()]; items.len()];
    for ((rater, case, methods), answer) in answers.all() {
        let row = items.binary_search(&(*case, methods.clone())).unwrap_or(0);
        let column = raters.binary_search(rater).unwrap_or(0);
        rows[row][column] = f64::from(answer);
    }
    let Ok(ratings) = Ratings::new(rows) else { return Vec::new() };
    let wanted: &[&str] = match study.kind {
        Kind::Pairs => &["fleiss-kappa", "krippendorff/nominal", "gwet-ac1", "cohen-kappa(r0,r1)"],
        Kind::Opinion => {
            &["icc/ICC(A,1)", "icc/ICC(A,k)", "krippendorff/interval", "cohen-kappa/quadratic(r0,r1)"]
        }
    };
    let measures = ratings.measure();
    let number = |id: &&str| measures.get(id).map(|_| ((*id).to_owned(), measures.number(id)));
    wanted.iter().filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::super::study::tests::study;
    use super::*;

    #[test]
    fn wins_and_agreement_are_counted() {
        let (folder, study) = study("pairs", 6);
        let mut answers = Answers::open(&folder.path().join("a.csv"), &study).unwrap();
        for rater in ["Ann", "Bob"] {
            for item in study.items(rater) {
                // Both prefer B, except that Bob finds case 0 equal.
                let equal = rater == "Bob" && item.case == 0;
                let side = if item.methods[0] == 1 { 1 } else { 2 };
                answers.put(&study, rater, &item, if equal { 0 } else { side }).unwrap();
            }
        }
        let found = summary(&study, &answers, 0);
        assert_eq!((found.raters, found.answers, found.methods[0].method.as_str()), (2, 12, "B"));
        assert!((found.methods[0].mean - 11.5 / 12.0).abs() < 1e-12);
        assert!(found.methods[0].p.unwrap() < 0.001 && found.methods[1].mean < 0.1);
        let alpha = found.agreement.iter().find(|(id, _)| id == "krippendorff/nominal").unwrap().1;
        assert!(
            alpha < 0.1,
            "one disagreement where nearly all answers are equal leaves little above chance"
        );
    }

    #[test]
    fn opinions_have_means_and_an_icc() {
        let (folder, study) = study("opinion", 4);
        let mut answers = Answers::open(&folder.path().join("a.csv"), &study).unwrap();
        for (rater, shift) in [("Ann", 0), ("Bob", 1)] {
            for item in study.items(rater) {
                let mark = 1 + item.case as u8 % 3 + item.methods[0] as u8 + shift;
                answers.put(&study, rater, &item, mark).unwrap();
            }
        }
        let found = summary(&study, &answers, 0);
        assert!((found.methods[0].mean - found.methods[1].mean - 1.0).abs() < 1e-12);
        let icc = found.agreement.iter().find(|(id, _)| id == "icc/ICC(A,1)").unwrap().1;
        assert!((0.4..0.9).contains(&icc), "{icc}");
    }
}
