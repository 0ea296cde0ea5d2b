//! What the comparisons of one number found: how many cases, how hard, how far off.

use crate::goldens::{matrix, numbers};
use serde_json::Value as Json;

/// What the comparisons of one id found.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Largest relative difference.
    pub worst: f64,
    /// Cases.
    pub cases: usize,
    /// Of these: a mask or class is empty.
    pub empty: usize,
    /// A mask of one voxel.
    pub one: usize,
    /// A grid whose voxels are no cubes.
    pub anisotropic: usize,
    /// Equal scores, times or values.
    pub tied: usize,
    /// The expected value is undefined or infinite.
    pub undefined: usize,
}

impl Tally {
    /// Counts a comparison.
    pub fn add(&mut self, input: &Json, expected: &Json, difference: f64) {
        let masks = || ["reference", "prediction"].map(|name| &input[name]);
        // Runs alternate, background first.
        let inside = |runs: &Json| numbers(runs).iter().skip(1).step_by(2).sum::<f64>();
        let spacing = if input["spacing"].is_array() { numbers(&input["spacing"]) } else { Vec::new() };
        let labels = input["label"].as_array().map(|_| numbers(&input["label"]));
        let of_one_class =
            labels.is_some_and(|labels| labels.iter().filter(|l| **l == labels[0]).count() == labels.len());
        let in_space = !spacing.is_empty();
        let counts = if in_space { masks().map(inside) } else { [f64::NAN; 2] };
        let tied = ["score", "risk", "a", "hits", "p"].iter().any(|name| has_ties(&input[*name]));
        self.worst = self.worst.max(difference);
        self.cases += 1;
        self.empty += usize::from(counts.contains(&0.0) || of_one_class);
        self.one += usize::from(counts.contains(&1.0));
        self.anisotropic += usize::from(spacing.windows(2).any(|pair| pair[0] != pair[1]));
        self.tied += usize::from(tied);
        self.undefined += usize::from(expected.is_string());
    }
}

/// Is a number there twice (in a list, or in a column of a list of rows)?
fn has_ties(values: &Json) -> bool {
    let Some(list) = values.as_array() else { return false };
    if list.first().is_some_and(Json::is_array) {
        let rows: Vec<Vec<f64>> = matrix(values);
        return (0..rows[0].len())
            .any(|c| twice(rows.iter().filter_map(|row| row.get(c).copied()).collect()));
    }
    twice(numbers(values))
}

fn twice(mut values: Vec<f64>) -> bool {
    values.sort_by(f64::total_cmp);
    values.windows(2).any(|pair| pair[0] == pair[1])
}
