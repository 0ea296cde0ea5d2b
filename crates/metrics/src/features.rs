//! Two clouds of feature vectors: do generated images look like real ones to an encoder?

use crate::generation;
use crate::measures::{Definition, Measures, define};
use faer::{Mat, MatRef, Side};
use galen_core::{Error, Result};

/// Definitions of the ids of `--kind features`.
pub static DEFINITIONS: &[Definition] = &[
    define("n/real", "rows of the first file", "0..inf", "0", "all numbers here depend on it", "count"),
    define("n/generated", "rows of the second file", "0..inf", "0", "all numbers here depend on it", "count"),
    define(
        "fid/cov ddof1",
        "|m1 - m2|^2 + trace(C1 + C2 - 2 (C1 C2)^(1/2)), covariances with n - 1",
        "0..inf",
        "fewer than two rows: refused",
        "biased in n: compare at equal n only; the encoder decides it",
        "Heusel et al. 2017; scipy sqrtm recipe",
    ),
    define(
        "kid/unbiased full set/poly3",
        "unbiased squared MMD with kernel (x.y / d + 1)^3 over all rows",
        "-inf..inf",
        "fewer than two rows: refused",
        "may be negative; others average subsets of 1000",
        "Binkowski et al. 2018",
    ),
    define(
        "cmmd/gauss sigma10 x1000 biased",
        "1000 x squared MMD with a Gaussian kernel of sigma 10, diagonal included",
        "0..inf",
        "fewer than two rows: refused",
        "CMMD means CLIP features: others are not comparable",
        "Jayasumana et al. 2024",
    ),
];

/// Above this many rows and columns the spectrum comes from the Gram matrix: an eigenvalue solver is 2.5 times faster
/// than singular values and differs in the ninth digit.
const EXACT: usize = 512;

/// Every number of two sets of rows.
pub fn measure(real: MatRef<f64>, generated: MatRef<f64>) -> Result<Measures> {
    if real.ncols() != generated.ncols() {
        let what = format!("{} and {} features a row", real.ncols(), generated.ncols());
        return Err(Error::input("features", what, "use the same encoder for both"));
    }
    if real.nrows() < 2 || generated.nrows() < 2 || real.ncols() == 0 {
        let what = format!("{} and {} rows", real.nrows(), generated.nrows());
        return Err(Error::input("features", what, "give two rows or more in both files"));
    }
    let finite = |m: MatRef<f64>| (0..m.ncols()).all(|j| (0..m.nrows()).all(|i| m[(i, j)].is_finite()));
    if !finite(real) || !finite(generated) {
        return Err(Error::input(
            "features",
            "hold values that are not finite",
            "look at the images that gave them",
        ));
    }
    let mut m = Measures::default();
    m.put("n/real", real.nrows() as f64);
    m.put("n/generated", generated.nrows() as f64);
    m.put("fid/cov ddof1", frechet(real, generated)?);
    let d = real.ncols() as f64;
    let (xx, yy, xy) =
        (real * real.transpose(), generated * generated.transpose(), real * generated.transpose());
    let poly = |dot: f64| (dot / d + 1.0).powi(3);
    let (nx, ny) = (xx.nrows() as f64, yy.nrows() as f64);
    let off =
        |k: &Mat<f64>| sum(k, |_, _, dot| poly(dot)) - (0..k.nrows()).map(|i| poly(k[(i, i)])).sum::<f64>();
    let cross = sum(&xy, |_, _, dot| poly(dot));
    m.put(
        "kid/unbiased full set/poly3",
        off(&xx) / (nx * (nx - 1.0)) + off(&yy) / (ny * (ny - 1.0)) - 2.0 * cross / (nx * ny),
    );
    let gauss = |a: f64, b: f64, dot: f64| (-(a + b - 2.0 * dot) / 200.0).exp();
    let within = |k: &Mat<f64>| sum(k, |i, j, dot| gauss(k[(i, i)], k[(j, j)], dot));
    let between = sum(&xy, |i, j, dot| gauss(xx[(i, i)], yy[(j, j)], dot));
    let squared = within(&xx) / (nx * nx) + within(&yy) / (ny * ny) - 2.0 * between / (nx * ny);
    m.put("cmmd/gauss sigma10 x1000 biased", 1000.0 * squared);
    // Rounding may leave the distance of equal rows just below zero.
    let apart = |a: f64, b: f64, dot: f64| (a + b - 2.0 * dot).max(0.0);
    let around =
        |k: &Mat<f64>| {
            Mat::from_fn(k.nrows(), k.ncols(), |i, j| {
                if i == j { 0.0 } else { apart(k[(i, i)], k[(j, j)], k[(i, j)]) }
            })
        };
    let across = Mat::from_fn(xy.nrows(), xy.ncols(), |i, j| apart(xx[(i, i)], yy[(j, j)], xy[(i, j)]));
    generation::manifolds(around(&xx).as_ref(), around(&yy).as_ref(), across.as_ref(), &mut m);
    Ok(m)
}

fn sum(matrix: &Mat<f64>, of: impl Fn(usize, usize, f64) -> f64) -> f64 {
    (0..matrix.ncols()).map(|j| (0..matrix.nrows()).map(|i| of(i, j, matrix[(i, j)])).sum::<f64>()).sum()
}

/// Fréchet distance of two Gaussians. The trace of (C1 C2)^(1/2) is the sum of singular values of A Bᵀ, with A and B
/// the centred rows over sqrt(n − 1): no covariance and no complex square root is formed.
pub fn frechet(real: MatRef<f64>, generated: MatRef<f64>) -> Result<f64> {
    let (a, mean_a) = centred(real);
    let (b, mean_b) = centred(generated);
    let shift: f64 = mean_a.iter().zip(&mean_b).map(|(x, y)| (x - y) * (x - y)).sum();
    let energy = a.squared_norm_l2() + b.squared_norm_l2();
    let cross = reduced(a) * reduced(b).transpose();
    let bug = |what: &str| Error::bug("features", format!("{what} did not converge"));
    let spectrum: f64 = if cross.nrows().min(cross.ncols()) <= EXACT {
        cross.singular_values().map_err(|_| bug("singular values"))?.iter().sum()
    } else {
        let tall = cross.nrows() >= cross.ncols();
        let gram = if tall { cross.transpose() * &cross } else { &cross * cross.transpose() };
        let values = gram.self_adjoint_eigenvalues(Side::Lower).map_err(|_| bug("eigenvalues"))?;
        values.iter().map(|v| v.max(0.0).sqrt()).sum()
    };
    Ok(shift + energy - 2.0 * spectrum)
}

fn centred(rows: MatRef<f64>) -> (Mat<f64>, Vec<f64>) {
    let n = rows.nrows();
    let means: Vec<f64> =
        (0..rows.ncols()).map(|j| (0..n).map(|i| rows[(i, j)]).sum::<f64>() / n as f64).collect();
    let scale = 1.0 / ((n - 1) as f64).sqrt();
    (Mat::from_fn(n, rows.ncols(), |i, j| (rows[(i, j)] - means[j]) * scale), means)
}

/// A matrix with the same Gram matrix and no more rows than columns.
fn reduced(rows: Mat<f64>) -> Mat<f64> {
    if rows.nrows() > rows.ncols() { rows.qr().R().to_owned() } else { rows }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_feature_by_hand() {
        // Variances 1 and 4, means 1 and 3: (1 - 3)^2 + 1 + 4 - 2 * 2.
        let column = |v: &[f64]| Mat::from_fn(v.len(), 1, |i, _| v[i]);
        let distance = frechet(column(&[0.0, 1.0, 2.0]).as_ref(), column(&[1.0, 3.0, 5.0]).as_ref()).unwrap();
        assert!((distance - 5.0).abs() < 1e-12, "{distance}");
        let same = column(&[0.5, 1.0, 7.0]);
        let m = measure(same.as_ref(), same.as_ref()).unwrap();
        assert!(
            m.number("fid/cov ddof1").abs() < 1e-12
                && m.number("cmmd/gauss sigma10 x1000 biased").abs() < 1e-9
        );
        assert!(measure(same.as_ref(), Mat::zeros(3, 2).as_ref()).is_err());
    }
}
