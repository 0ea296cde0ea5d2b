//! Generated images by what encoders and classifiers say of them, beside the distances of [`crate::features`].

use crate::measures::{Definition, Measures, define};
use crate::statistics::mean;
use faer::MatRef;
use galen_core::{Error, Result};

/// Definitions of the ids that class probabilities and stacks of features add to `--kind features`.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "precision/k5 manifold",
        "share of generated rows nearer to some real row than that row's fifth neighbour among the real ones",
        "0..1",
        "five rows or fewer: undefined",
        "one outlier among the real rows covers much",
        "Kynkäänniemi et al. 2019; prdc compute_prdc",
    ),
    define(
        "recall/k5 manifold",
        "the same with real and generated exchanged",
        "0..1",
        "as above",
        "outliers among the generated rows raise it",
        "Kynkäänniemi et al. 2019; prdc compute_prdc",
    ),
    define(
        "density/k5",
        "mean over generated rows of the number of real neighbourhoods (of five) that hold it, over 5",
        "0..inf",
        "as above",
        "may exceed 1",
        "Naeem et al. 2020; prdc compute_prdc",
    ),
    define(
        "coverage/k5",
        "share of real rows with a generated one nearer than their fifth real neighbour",
        "0..1",
        "as above",
        "grows with the number of generated rows",
        "Naeem et al. 2020; prdc compute_prdc",
    ),
    define(
        "is/whole set",
        "exp of the mean over images of KL(p(class | image) || mean of p), all images at once",
        "1..classes",
        "no image: undefined",
        "a classifier of photographs knows no scans; blind to copies of the training set",
        "Salimans et al. 2016; torchmetrics InceptionScore(splits=1)",
    ),
    define(
        "is/10 splits/mean",
        "mean of the same over ten parts in file order, the remainder left out",
        "1..classes",
        "fewer than ten images: undefined",
        "small parts score lower: compare at equal numbers of images; some tools shuffle",
        "Salimans et al. 2016",
    ),
    define(
        "is/10 splits/sd",
        "standard deviation over the ten parts (divisor 10)",
        "0..inf",
        "fewer than ten images: undefined",
        "of the parts, not a standard error of the mean",
        "Salimans et al. 2016",
    ),
    define(
        "lpips/unit weights",
        "mean over images and places of the squared distance of features, each place scaled to length 1 over channels",
        "0..4",
        "both features zero at a place: 0",
        "one layer without the learned weights: not comparable with published LPIPS",
        "Zhang et al. 2018, before its linear layer",
    ),
];

const NEIGHBOURS: usize = 5;

/// Coverage of each set by the other, from squared distances: `within` of rows of one set, `across[(i, j)]` of real
/// row i and generated row j.
pub fn manifolds(real: MatRef<f64>, generated: MatRef<f64>, across: MatRef<f64>, m: &mut Measures) {
    let radii = |within: MatRef<f64>| -> Vec<f64> {
        let one = |i: usize| {
            let mut row: Vec<f64> = (0..within.ncols()).map(|j| within[(j, i)]).collect();
            // The row itself, at distance 0, comes first.
            row.sort_by(f64::total_cmp);
            row.get(NEIGHBOURS).copied().unwrap_or(f64::NAN)
        };
        (0..within.ncols()).map(one).collect()
    };
    let (r, g) = (radii(real), radii(generated));
    let (rows, columns) = (r.len(), g.len());
    let known = |enough: usize, value: f64| if enough > NEIGHBOURS { value } else { f64::NAN };
    let share = |n: usize, of: &dyn Fn(usize) -> bool| (0..n).filter(|&i| of(i)).count() as f64 / n as f64;
    let holds = |i: usize, j: usize| across[(i, j)] < r[i];
    m.put("precision/k5 manifold", known(rows, share(columns, &|j| (0..rows).any(|i| holds(i, j)))));
    let held = |i: usize| (0..columns).any(|j| across[(i, j)] < g[j]);
    m.put("recall/k5 manifold", known(columns, share(rows, &held)));
    let held: usize = (0..columns).map(|j| (0..rows).filter(|&i| holds(i, j)).count()).sum();
    m.put("density/k5", known(rows, held as f64 / (NEIGHBOURS * columns) as f64));
    m.put("coverage/k5", known(rows, share(rows, &|i| (0..columns).any(|j| holds(i, j)))));
}

/// Inception score of class probabilities `[image][class]`.
pub fn inception(probabilities: &[Vec<f64>]) -> Result<Measures> {
    const PARTS: usize = 10;
    let classes = probabilities.first().map_or(0, Vec::len);
    if classes < 2 {
        let what = format!("{} images with {classes} classes", probabilities.len());
        return Err(Error::input("class probabilities", what, "give a matrix: images x classes"));
    }
    for (row, p) in probabilities.iter().enumerate() {
        let place = || format!("class probabilities, row {}", row + 1);
        if let Some(value) = p.iter().find(|v| !(0.0..=1.0).contains(*v)) {
            let what = format!("{value} is outside [0, 1]");
            return Err(Error::input(place(), what, "put logits through a softmax first"));
        }
        let sum: f64 = p.iter().sum();
        if (sum - 1.0).abs() > 1e-3 {
            let what = format!("the probabilities add up to {sum:.4}, not 1");
            return Err(Error::input(place(), what, "put logits through a softmax first"));
        }
    }
    let score = |part: &[Vec<f64>]| {
        let n = part.len() as f64;
        let marginal: Vec<f64> = (0..classes).map(|c| part.iter().map(|p| p[c]).sum::<f64>() / n).collect();
        let term = |(p, q): (&f64, &f64)| if *p > 0.0 { p * (p / q).ln() } else { 0.0 };
        let divergence = part.iter().map(|p| p.iter().zip(&marginal).map(term).sum::<f64>()).sum::<f64>();
        (divergence / n).exp()
    };
    let mut m = Measures::default();
    m.put("is/whole set", score(probabilities));
    let size = probabilities.len() / PARTS;
    let parts: Vec<f64> = if size == 0 {
        vec![f64::NAN]
    } else {
        probabilities.chunks_exact(size).take(PARTS).map(score).collect()
    };
    let centre = mean(&parts);
    m.put("is/10 splits/mean", centre);
    m.put("is/10 splits/sd", mean(&parts.iter().map(|p| (p - centre).powi(2)).collect::<Vec<_>>()).sqrt());
    Ok(m)
}

/// Distance of two stacks of features of the same images, `[image, channel, place]`, by places.
pub fn perceptual(reference: &[f64], image: &[f64], shape: [usize; 3]) -> Result<Measures> {
    let [images, channels, places] = shape;
    if reference.len() != image.len()
        || reference.len() != shape.iter().product::<usize>()
        || reference.is_empty()
    {
        let what = format!("{} and {} values for {shape:?}", reference.len(), image.len());
        return Err(Error::input(
            "stacks of features",
            what,
            "give two stacks of the same images and encoder",
        ));
    }
    if reference.iter().chain(image).any(|v| !v.is_finite()) {
        return Err(Error::input(
            "stacks of features",
            "hold values that are not finite",
            "look at the images that gave them",
        ));
    }
    let mut sum = 0.0;
    for n in 0..images {
        for place in 0..places {
            let at = |stack: &[f64], c: usize| stack[(n * channels + c) * places + place];
            let length =
                |stack: &[f64]| (0..channels).map(|c| at(stack, c).powi(2)).sum::<f64>().sqrt() + 1e-10;
            let (r, i) = (length(reference), length(image));
            sum += (0..channels).map(|c| (at(reference, c) / r - at(image, c) / i).powi(2)).sum::<f64>();
        }
    }
    let mut m = Measures::default();
    m.put("lpips/unit weights", sum / (images * places) as f64);
    Ok(m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sure_and_varied_is_best() {
        let one_hot = |class: usize| (0..4).map(|c| f64::from(u8::from(c == class))).collect::<Vec<_>>();
        let varied: Vec<Vec<f64>> = (0..20).map(|i| one_hot(i % 4)).collect();
        assert!((inception(&varied).unwrap().number("is/whole set") - 4.0).abs() < 1e-12);
        let same: Vec<Vec<f64>> = (0..20).map(|_| one_hot(1)).collect();
        let m = inception(&same).unwrap();
        assert_eq!((m.number("is/10 splits/mean"), m.number("is/10 splits/sd")), (1.0, 0.0));
        assert!(inception(&varied[..9]).unwrap().number("is/10 splits/mean").is_nan());
        assert!(inception(&[vec![0.5, 0.6]]).unwrap_err().to_string().contains("add up to 1.1"));
        assert!(inception(&[]).is_err() && inception(&[vec![f64::NAN, 1.0]]).is_err());
    }

    #[test]
    fn length_of_features_does_not_matter() {
        let a = [3.0, 0.0, 4.0, 1.0];
        let double = a.map(|v| v * 2.0);
        assert!(perceptual(&a, &double, [1, 2, 2]).unwrap().number("lpips/unit weights") < 1e-15);
        // Orthogonal at both places.
        let across = perceptual(&[1.0, 1.0, 0.0, 0.0], &[0.0, 0.0, 1.0, 1.0], [1, 2, 2]).unwrap();
        assert!((across.number("lpips/unit weights") - 2.0).abs() < 1e-9);
        assert!(perceptual(&a, &a[..2], [1, 2, 2]).is_err());
    }
}
