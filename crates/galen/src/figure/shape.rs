//! Shapes of distributions: box plots and violins.

/// Lowest value within 1.5 quartile ranges of the box, first quartile, median, third quartile, highest value within
/// (Tukey 1977; quartiles interpolated linearly). Values that are not finite are left out; `None` without any.
pub fn five_numbers(values: &[f64]) -> Option<[f64; 5]> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let at = |p: f64| galen_metrics::bootstrap::percentile(&sorted, p);
    let (first, median, third) = (at(0.25)?, at(0.5)?, at(0.75)?);
    let reach = 1.5 * (third - first);
    // Among a handful, the next value beyond an outlier may lie inside the box, where no whisker belongs.
    let low = sorted.iter().copied().find(|v| *v >= first - reach)?.min(first);
    let high = sorted.iter().rev().copied().find(|v| *v <= third + reach)?.max(third);
    Some([low, first, median, third, high])
}

/// Outline of a violin: `[value, density over the largest density]` at 65 values from the smallest to the largest
/// (gaussian kernel, Silverman's width). Empty below two different values.
pub fn density(values: &[f64]) -> Vec<[f64; 2]> {
    const STEPS: usize = 64;
    let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let n = finite.len() as f64;
    let (low, high) =
        finite.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    let Some([_, first, _, third, _]) = five_numbers(&finite) else { return Vec::new() };
    let mean = finite.iter().sum::<f64>() / n;
    let deviation = (finite.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let spread = if third > first { deviation.min((third - first) / 1.34) } else { deviation };
    let width = 0.9 * spread * n.powf(-0.2);
    // Not a comparison with <=: without a second value the width is no number.
    if !(width > 0.0 && high > low) {
        return Vec::new();
    }
    let sum = |at: f64| finite.iter().map(|v| (-0.5 * ((at - v) / width).powi(2)).exp()).sum::<f64>();
    let outline: Vec<[f64; 2]> = (0..=STEPS)
        .map(|i| low + (high - low) * i as f64 / STEPS as f64)
        .map(|value| [value, sum(value)])
        .collect();
    let most = outline.iter().map(|p| p[1]).fold(0.0, f64::max);
    outline.into_iter().map(|[value, density]| [value, density / most]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_stay_outside_the_whiskers() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 100.0, f64::NAN];
        let [low, first, median, third, high] = five_numbers(&values).unwrap();
        assert_eq!([low, first, median, third, high], [1.0, 2.25, 3.5, 4.75, 5.0]);
        assert_eq!(five_numbers(&[f64::NAN]), None);
        let [low, first, ..] = five_numbers(&[0.0, 0.74, 0.87, 0.95]).unwrap();
        assert!(low == first && first < 0.74, "0.74, the next value, lies inside the box");
    }

    #[test]
    fn violins_need_two_values() {
        assert!(density(&[1.0]).is_empty() && density(&[2.0, 2.0]).is_empty());
        let shape = density(&[0.0, 0.1, 0.2, 0.9, 1.0]);
        assert_eq!((shape.len(), shape[0][0], shape[64][0]), (65, 0.0, 1.0));
        assert!(shape.iter().any(|p| p[1] == 1.0) && shape.iter().all(|p| p[1] > 0.0));
    }
}
