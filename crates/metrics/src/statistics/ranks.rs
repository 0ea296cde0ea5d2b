//! Ranks with ties.

/// Indices that sort `values` ascending; equal values keep their order.
pub fn order(values: &[f64]) -> Vec<usize> {
    // Numbers whose order as integers is that of `f64::total_cmp`, with the index behind: no look-up per comparison.
    let key = |value: f64| {
        let bits = value.to_bits() as i64;
        bits ^ ((bits >> 63) as u64 >> 1) as i64
    };
    let mut keys: Vec<(i64, usize)> = values.iter().enumerate().map(|(i, &value)| (key(value), i)).collect();
    keys.sort_unstable();
    keys.into_iter().map(|(_, i)| i).collect()
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
    fn the_order_is_that_of_total_cmp_and_keeps_equals() {
        let values = [1.5, -0.0, f64::NAN, 0.0, -3.0, 1.5, f64::NEG_INFINITY, f64::INFINITY, -f64::NAN, 0.0];
        let mut expected: Vec<usize> = (0..values.len()).collect();
        expected.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        assert_eq!(order(&values), expected);
    }

    #[test]
    fn equal_values_share_a_rank() {
        assert_eq!(midranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        assert_eq!(tie_term(&[3.0, 1.0, 3.0, 2.0]), 6.0);
        assert_eq!(midranks(&[0.0, -0.0]), [1.5, 1.5]);
    }
}
