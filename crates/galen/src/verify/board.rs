//! The numbers of a comparison, whatever made them: one value per dataset, method, metric and case, or one that
//! only all cases together have; and the leaderboard that follows from them.

use galen_metrics::bootstrap::{Draws, percentile};
use galen_metrics::statistics::ranking::{self, Stability};
use rayon::prelude::*;

/// A metric of a board.
#[derive(Debug, Clone)]
pub struct Column {
    /// Key in files.
    pub id: String,
    /// Name in tables.
    pub name: String,
    /// Unit, empty when there is none.
    pub unit: String,
    /// Larger is better.
    pub higher_is_better: bool,
    /// Digits after the point.
    pub decimals: usize,
    /// Convention, formula, empty case, pitfall, source.
    pub definition: String,
}

/// Values of one method in one metric on one dataset.
pub enum Values {
    /// One per case; NaN where there is nothing to measure. The value of cases together is the mean.
    PerCase(Vec<f64>),
    /// Cases together have a value (such as an area under a curve), single ones have none.
    Pooled(Box<dyn Fn(&[usize]) -> f64 + Send + Sync>),
}

impl Values {
    /// Value of some cases together.
    pub fn of(&self, cases: &[usize]) -> f64 {
        match self {
            Self::PerCase(values) => {
                let defined = cases.iter().map(|&case| values[case]).filter(|v| !v.is_nan());
                let (sum, n) = defined.fold((0.0, 0.0), |(sum, n), v| (sum + v, n + 1.0));
                sum / n
            }
            Self::Pooled(statistic) => statistic(cases),
        }
    }

    /// Values of the single cases, where there are any.
    pub fn per_case(&self) -> Option<&[f64]> {
        match self {
            Self::PerCase(values) => Some(values),
            Self::Pooled(_) => None,
        }
    }
}

/// One dataset of a board.
pub struct Field {
    /// Name.
    pub dataset: String,
    /// Cases, named as in the tables.
    pub cases: Vec<String>,
    /// `[method][metric]`.
    pub values: Vec<Vec<Values>>,
    /// Cases per method that failed (no prediction, other geometry): name and reason. They count with the worst value.
    pub failures: Vec<Vec<(String, String)>>,
}

/// All that a comparison measured.
pub struct Board {
    /// Heading.
    pub title: String,
    /// Methods, in the order of the protocol.
    pub methods: Vec<String>,
    /// Metrics; the first one ranks.
    pub columns: Vec<Column>,
    /// Datasets.
    pub fields: Vec<Field>,
    /// Draws for intervals and ranks.
    pub draws: usize,
    /// Their seed.
    pub seed: u64,
    /// What is true of all methods: setup, tolerance, policies.
    pub facts: Vec<(String, String)>,
    /// Sentences to read before the numbers.
    pub notes: Vec<String>,
}

/// A value with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Of all cases; NaN when nothing is defined.
    pub value: f64,
    /// 2.5th percentile over draws.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

/// Standing on one dataset.
pub struct Standing {
    /// Dataset.
    pub dataset: String,
    /// Cases.
    pub cases: usize,
    /// `[method][metric]`.
    pub estimates: Vec<Vec<Estimate>>,
    /// Rank of the mean, per method.
    pub by_mean: Vec<f64>,
    /// Mean rank over cases; `None` for pooled metrics.
    pub by_case: Option<Vec<f64>>,
    /// Rank by significant wins; `None` for pooled metrics.
    pub by_wins: Option<Vec<f64>>,
    /// Adjusted one-sided p that the row is better than the column; `None` for pooled metrics.
    pub better: Option<Vec<Vec<f64>>>,
    /// Ranks when cases are drawn.
    pub stability: Stability,
}

/// Standings per dataset and over all.
pub struct Leaderboard {
    /// Per dataset.
    pub standings: Vec<Standing>,
    /// Mean over datasets of the rank of the mean, per method.
    pub mean_rank: Vec<f64>,
    /// Methods, best first.
    pub order: Vec<usize>,
}

/// Level of the significant wins.
pub const ALPHA: f64 = 0.05;

impl Board {
    /// Who stands where; the first metric ranks.
    pub fn leaderboard(&self) -> Leaderboard {
        let standings: Vec<Standing> = self.fields.iter().map(|field| self.standing(field)).collect();
        let n = standings.len() as f64;
        let mean = |method: usize| standings.iter().map(|s| s.by_mean[method]).sum::<f64>() / n;
        let mean_rank: Vec<f64> = (0..self.methods.len()).map(mean).collect();
        let mut order: Vec<usize> = (0..self.methods.len()).collect();
        order.sort_by(|&a, &b| mean_rank[a].total_cmp(&mean_rank[b]));
        Leaderboard { standings, mean_rank, order }
    }

    fn standing(&self, field: &Field) -> Standing {
        let n = field.cases.len();
        let all: Vec<usize> = (0..n).collect();
        let estimate = |values: &Values| self.estimate(values, &all);
        let estimates: Vec<Vec<Estimate>> =
            field.values.par_iter().map(|row| row.iter().map(estimate).collect()).collect();
        let up = self.columns[0].higher_is_better;
        let means: Vec<f64> = estimates.iter().map(|row| row[0].value).collect();
        let singles: Option<Vec<Vec<f64>>> =
            field.values.iter().map(|row| row[0].per_case().map(<[f64]>::to_vec)).collect();
        let better = singles.as_ref().map(|values| ranking::better_than(values, up));
        let by_wins = better.as_ref().map(|p| ranking::ranks(&ranking::wins(p, ALPHA), true));
        let statistic = |method: usize, cases: &[usize]| field.values[method][0].of(cases);
        Standing {
            dataset: field.dataset.clone(),
            cases: n,
            by_mean: ranking::ranks(&means, up),
            by_case: singles.as_ref().map(|values| ranking::mean_of_case_ranks(values, up)),
            by_wins,
            better,
            stability: ranking::stability(n, self.methods.len(), self.draws, self.seed, up, statistic),
            estimates,
        }
    }

    fn estimate(&self, values: &Values, all: &[usize]) -> Estimate {
        let mut draws = Draws::new(all.len(), self.seed);
        let mut drawn: Vec<f64> =
            (0..self.draws).map(|_| values.of(draws.next())).filter(|v| v.is_finite()).collect();
        drawn.sort_by(f64::total_cmp);
        let at = |p: f64| percentile(&drawn, p).unwrap_or(f64::NAN);
        Estimate { value: values.of(all), low: at(0.025), high: at(0.975) }
    }

    /// Failed cases of all datasets and methods.
    pub fn failures(&self) -> usize {
        self.fields.iter().flat_map(|field| &field.failures).map(Vec::len).sum()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Two methods on one dataset of eight cases; the second is better everywhere but once.
    pub fn board() -> Board {
        let column = |id: &str, up: bool| Column {
            id: id.into(),
            name: id.to_uppercase(),
            unit: if up { String::new() } else { "mm".into() },
            higher_is_better: up,
            decimals: 3,
            definition: format!("{id} is defined"),
        };
        let first: Vec<f64> = (0..8).map(|i| 0.5 + f64::from(i) / 100.0).collect();
        let second: Vec<f64> = first.iter().map(|v| v + 0.2 + v * v / 10.0).collect();
        let far = |v: &[f64]| Values::PerCase(v.iter().map(|v| 5.0 - v).collect());
        let values = vec![
            vec![Values::PerCase(first.clone()), far(&first)],
            vec![Values::PerCase(second.clone()), far(&second)],
        ];
        let field = Field {
            dataset: "A & B".into(),
            cases: (0..8).map(|i| format!("case_{i}")).collect(),
            values,
            failures: vec![vec![("case_0".into(), "there is no prediction".into())], Vec::new()],
        };
        Board {
            title: "Two_methods".into(),
            methods: vec!["one".into(), "two".into()],
            columns: vec![column("dice", true), column("hd95", false)],
            fields: vec![field],
            draws: 200,
            seed: 1,
            facts: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_better_method_leads_by_every_scheme() {
        let leaderboard = board().leaderboard();
        let standing = &leaderboard.standings[0];
        assert_eq!((&leaderboard.order[..], &standing.by_mean[..]), (&[1, 0][..], &[2.0, 1.0][..]));
        assert_eq!(standing.by_case.as_deref(), Some(&[2.0, 1.0][..]));
        assert_eq!(standing.by_wins.as_deref(), Some(&[2.0, 1.0][..]));
        let e = standing.estimates[0][0];
        assert!(e.low < e.value && e.value < e.high && (e.value - 0.535).abs() < 1e-12);
        assert!((standing.stability.share[1][0] - 1.0).abs() < 1e-12);
        assert_eq!(board().failures(), 1);
    }

    #[test]
    fn undefined_cases_do_not_count_and_pooled_values_have_no_cases() {
        let values = Values::PerCase(vec![1.0, f64::NAN, 3.0]);
        assert_eq!(values.of(&[0, 1, 2]), 2.0);
        assert!(values.of(&[1]).is_nan());
        let pooled = Values::Pooled(Box::new(|cases| cases.len() as f64));
        assert!(pooled.of(&[0, 0]) == 2.0 && pooled.per_case().is_none());
    }
}
