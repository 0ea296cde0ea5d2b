//! Ranks with ties.

/// Indices that sort `values` ascending; equal values keep their order.
pub fn order(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    order
}

/// Ranks from 1; equal values share the mean of their ranks.
pub fn midranks(values: &[f64]) -> Vec<f64> {
    let order = order(values);
    let mut ranks = vec![0.0; values.len()];
    for run in ties(values, &order) {
        let rank = (run.start + 1 + run.end) as f64 / 2.0;
        order[run].iter().for_each(|&i| ranks[i] = rank);
    }
    ranks
}

/// Ranges of `order` in which the values are equal.
pub(crate) fn ties(values: &[f64], order: &[usize]) -> Vec<std::ops::Range<usize>> {
    let mut runs = Vec::new();
    let mut start = 0;
    for end in 1..=order.len() {
        if end == order.len() || values[order[end]] != values[order[start]] {
            runs.push(start..end);
            start = end;
        }
    }
    runs
}

/// Sum of t³ − t over runs of t equal values.
pub(crate) fn tie_term(values: &[f64]) -> f64 {
    let order = order(values);
    ties(values, &order).into_iter().map(|run| (run.len() as f64).powi(3) - run.len() as f64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_rank() {
        assert_eq!(midranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert_eq!(tie_term(&[3.0, 1.0, 3.0, 2.0]), 6.0);
        assert_eq!(midranks(&[0.0, -0.0]), [1.5, 1.5]);
    }
}
