//! Information that two images share, by their joint histogram.

use super::Images;
use crate::measures::{Definition, Measures, define};

/// What the ids of this file mean.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "mutual-information/32 bins",
        "sum of p(a,b) ln(p(a,b) / (p(a) p(b))) over 32 x 32 bins of equal width between each image's own extremes, nats",
        "0..ln 32",
        "one image constant: 0",
        "the number of bins decides it; overlap must stay the same between candidates",
        "Viola and Wells 1997; sklearn mutual_info_score of numpy histogram2d",
    ),
    define(
        "nmi/32 bins",
        "(entropy of a + entropy of b) / joint entropy",
        "1..2",
        "both constant: undefined",
        "the number of bins decides it",
        "Studholme et al. 1999",
    ),
];

const BINS: usize = 32;

pub(super) fn measure(images: &Images, m: &mut Measures) {
    let (a, b) = (bins(&images.reference), bins(&images.image));
    let mut joint = vec![0.0f64; BINS * BINS];
    a.iter().zip(&b).for_each(|(x, y)| joint[x * BINS + y] += 1.0);
    let n = a.len() as f64;
    let entropy = |counts: &[f64]| -> f64 {
        counts.iter().filter(|count| **count > 0.0).map(|count| -(count / n) * (count / n).ln()).sum()
    };
    let rows: Vec<f64> = joint.chunks(BINS).map(|row| row.iter().sum()).collect();
    let columns: Vec<f64> = (0..BINS).map(|y| (0..BINS).map(|x| joint[x * BINS + y]).sum()).collect();
    let (of_a, of_b, of_both) = (entropy(&rows), entropy(&columns), entropy(&joint));
    // Rounding must not make shared information negative.
    m.put("mutual-information/32 bins", (of_a + of_b - of_both).max(0.0));
    m.put("nmi/32 bins", if of_both == 0.0 { f64::NAN } else { (of_a + of_b) / of_both });
}

/// Bin of every value; bins are closed on the left, the last one on both sides.
fn bins(values: &[f64]) -> Vec<usize> {
    let (low, high) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    let step = (high - low) / BINS as f64;
    let edges: Vec<f64> = (0..BINS).map(|i| low + i as f64 * step).collect();
    values.iter().map(|v| edges.partition_point(|edge| edge <= v).clamp(1, BINS) - 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_tells_all_of_itself_and_nothing_of_a_constant() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i * 7 % 31)).collect();
        let of = |other: Vec<f64>| {
            let mut m = Measures::default();
            measure(&Images::new([1, 20, 20], values.clone(), other, 31.0).unwrap(), &mut m);
            (m.number("mutual-information/32 bins"), m.number("nmi/32 bins"))
        };
        let (shared, normalised) = of(values.clone());
        assert!((normalised - 2.0).abs() < 1e-12 && shared > 3.0 && shared < 32f64.ln());
        assert_eq!(of(vec![5.0; 400]), (0.0, 1.0));
    }
}
