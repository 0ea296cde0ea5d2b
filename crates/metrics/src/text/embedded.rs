//! Words matched by what an encoder makes of them: the matching of BERTScore, for vectors of any encoder.

use crate::measures::{Definition, Measures, define};
use crate::statistics::mean;
use galen_core::{Error, Result};

/// What the ids of this file mean; measured when every line of the input has `ref_vectors` and `hyp_vectors`.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "bertscore-matching/precision",
        "mean over pairs of the mean over hypothesis words of the largest cosine with a reference word",
        "-1..1",
        "no word on one side: 0",
        "encoder and layer decide it: not comparable with BERTScore of other encoders, no idf, no rescaling",
        "Zhang et al. 2020; bert-score without idf",
    ),
    define(
        "bertscore-matching/recall",
        "the same from the reference words",
        "-1..1",
        "as above",
        "as above",
        "Zhang et al. 2020; bert-score without idf",
    ),
    define(
        "bertscore-matching/f1",
        "mean over pairs of the harmonic mean of both",
        "-1..1",
        "as above",
        "as above",
        "Zhang et al. 2020; bert-score without idf",
    ),
];

/// Vectors of the words of a text.
pub type Vectors = Vec<Vec<f64>>;

/// Scores of `(reference, hypothesis)` words.
pub fn measure(pairs: &[(Vectors, Vectors)], m: &mut Measures) -> Result<()> {
    let width = pairs.iter().flat_map(|(r, h)| r.iter().chain(h)).map(Vec::len).next().unwrap_or(0);
    for (row, (reference, hypothesis)) in pairs.iter().enumerate() {
        let words = || reference.iter().chain(hypothesis);
        if words().any(|word| word.len() != width || word.is_empty() || word.iter().any(|v| !v.is_finite())) {
            let what = "has a vector of another length, or one that is not finite";
            return Err(Error::input(format!("pair {}", row + 1), what, "give the vectors of one encoder"));
        }
    }
    let (precisions, recalls): (Vec<f64>, Vec<f64>) =
        pairs.iter().map(|(r, h)| (best(h, r), best(r, h))).unzip();
    let f1 =
        precisions.iter().zip(&recalls).map(|(p, r)| if p + r == 0.0 { 0.0 } else { 2.0 * p * r / (p + r) });
    m.put("bertscore-matching/precision", mean(&precisions));
    m.put("bertscore-matching/recall", mean(&recalls));
    m.put("bertscore-matching/f1", mean(&f1.collect::<Vec<_>>()));
    Ok(())
}

/// Mean over words of the largest cosine with one of the others.
fn best(words: &Vectors, others: &Vectors) -> f64 {
    if words.is_empty() || others.is_empty() {
        return 0.0;
    }
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let cosine = |a: &[f64], b: &[f64]| {
        let lengths = (dot(a, a) * dot(b, b)).sqrt();
        if lengths == 0.0 { 0.0 } else { dot(a, b) / lengths }
    };
    let of = |word: &Vec<f64>| others.iter().map(|o| cosine(word, o)).fold(f64::NEG_INFINITY, f64::max);
    mean(&words.iter().map(of).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching_by_hand() {
        let mut m = Measures::default();
        let pair = (vec![vec![1.0, 0.0], vec![0.0, 2.0]], vec![vec![3.0, 0.0]]);
        measure(&[pair], &mut m).unwrap();
        assert_eq!(
            (m.number("bertscore-matching/precision"), m.number("bertscore-matching/recall")),
            (1.0, 0.5)
        );
        assert!((m.number("bertscore-matching/f1") - 2.0 / 3.0).abs() < 1e-15);
        let odd = (vec![vec![1.0]], vec![vec![1.0, 2.0]]);
        assert!(measure(&[odd], &mut m).unwrap_err().to_string().contains("pair 1"));
    }
}
