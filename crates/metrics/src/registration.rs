//! Registration: how far landmarks are off, and whether the deformation folds.

use crate::measures::{Definition, Measures, define, ratio};
use crate::statistics::median;
use galen_core::{Error, Result};

/// Definitions of the ids of `--kind registration`.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "tre/mean",
        "mean distance of corresponding landmarks after registration",
        "0..inf",
        "no landmark: undefined",
        "landmarks sit where rigid structures are; says nothing between them",
        "Fitzpatrick and West 2001",
    ),
    define(
        "tre/median",
        "median of these distances",
        "0..inf",
        "no landmark: undefined",
        "hides failures",
        "as tre/mean",
    ),
    define(
        "tre/max",
        "largest of these distances",
        "0..inf",
        "no landmark: undefined",
        "one landmark",
        "as tre/mean",
    ),
    define(
        "tre30",
        "mean of the worst 30 % of these distances (at least one)",
        "0..inf",
        "no landmark: undefined",
        "robustness, not accuracy",
        "Hering et al. 2023 (Learn2Reg)",
    ),
    define(
        "folding-ratio",
        "share of inner voxels with a Jacobian determinant of at most 0; central differences",
        "0..1",
        "no field: not measured",
        "the border of one voxel is left out",
        "numpy gradient and det",
    ),
    define(
        "sdlogj",
        "standard deviation of the logarithm of the determinant over inner voxels; at most 0 counts as 1e-9",
        "0..inf",
        "no field: not measured",
        "smooth is not the same as right",
        "Leow et al. 2007; numpy",
    ),
    define(
        "jacobian/min",
        "smallest determinant",
        "-inf..inf",
        "no field: not measured",
        "one voxel",
        "numpy",
    ),
    define(
        "jacobian/max",
        "largest determinant",
        "-inf..inf",
        "no field: not measured",
        "one voxel",
        "numpy",
    ),
];

/// Distances of corresponding points `[z, y, x]` in mm.
pub fn landmarks(fixed: &[[f64; 3]], moved: &[[f64; 3]]) -> Result<Measures> {
    if fixed.is_empty() || fixed.len() != moved.len() {
        let what = format!("{} and {} landmarks", fixed.len(), moved.len());
        return Err(Error::input(
            "landmarks",
            what,
            "give as many moved landmarks as fixed ones, in their order",
        ));
    }
    if let Some(row) = (0..fixed.len()).find(|&i| fixed[i].iter().chain(&moved[i]).any(|v| !v.is_finite())) {
        return Err(Error::input(format!("row {}", row + 1), "holds no place", "give three numbers in mm"));
    }
    let distance =
        |(a, b): (&[f64; 3], &[f64; 3])| a.iter().zip(b).map(|(p, q)| (p - q) * (p - q)).sum::<f64>().sqrt();
    let mut all: Vec<f64> = fixed.iter().zip(moved).map(distance).collect();
    all.sort_by(f64::total_cmp);
    let worst = (all.len() * 3).div_ceil(10).max(1);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let mut m = Measures::default();
    m.put("tre/mean", mean(&all));
    m.put("tre/median", median(&all));
    m.put("tre/max", all[all.len() - 1]);
    m.put("tre30", mean(&all[all.len() - worst..]));
    Ok(m)
}

/// Jacobian determinants of the map x + field(x); the field is `[3, z, y, x]`, its parts along z, y, x in voxels.
pub fn deformation(field: &[f64], size: [usize; 3]) -> Result<Measures> {
    let n: usize = size.iter().product();
    if field.len() != 3 * n || size.iter().any(|side| *side < 3) {
        let what = format!("{} numbers on a grid of {size:?} voxels", field.len());
        let remedy = "give an array [3, z, y, x] with sides of three voxels or more";
        return Err(Error::input("displacement field", what, remedy));
    }
    if field.iter().any(|v| !v.is_finite()) {
        return Err(Error::input(
            "displacement field",
            "holds values that are not finite",
            "mask them with 0",
        ));
    }
    let stride = [size[1] * size[2], size[2], 1];
    let mut determinants = Vec::new();
    for z in 1..size[0] - 1 {
        for y in 1..size[1] - 1 {
            for x in 1..size[2] - 1 {
                let at = z * stride[0] + y * stride[1] + x;
                let slope = |part: usize, axis: usize| {
                    let change = field[part * n + at + stride[axis]] - field[part * n + at - stride[axis]];
                    change / 2.0 + f64::from(u8::from(part == axis))
                };
                let j: [[f64; 3]; 3] = std::array::from_fn(|p| std::array::from_fn(|a| slope(p, a)));
                determinants.push(
                    j[0][0] * (j[1][1] * j[2][2] - j[1][2] * j[2][1])
                        - j[0][1] * (j[1][0] * j[2][2] - j[1][2] * j[2][0])
                        + j[0][2] * (j[1][0] * j[2][1] - j[1][1] * j[2][0]),
                );
            }
        }
    }
    let count = determinants.len() as f64;
    let logs: Vec<f64> = determinants.iter().map(|d| d.max(1e-9).ln()).collect();
    let mean = logs.iter().sum::<f64>() / count;
    let spread = (logs.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count).sqrt();
    let mut m = Measures::default();
    m.put("folding-ratio", ratio(determinants.iter().filter(|d| **d <= 0.0).count() as f64, count));
    m.put("sdlogj", spread);
    m.put("jacobian/min", determinants.iter().copied().fold(f64::INFINITY, f64::min));
    m.put("jacobian/max", determinants.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    Ok(m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaling_has_its_determinant_and_a_mirror_folds() {
        let size = [4, 5, 6];
        let n = 120;
        let place = |i: usize| [i / 30, i / 6 % 5, i % 6];
        let along = |scale: f64| -> Vec<f64> {
            (0..3).flat_map(|part| (0..n).map(move |i| scale * place(i)[part] as f64)).collect()
        };
        let m = deformation(&along(0.1), size).unwrap();
        assert!((m.number("jacobian/min") - 1.331).abs() < 1e-12 && m.number("folding-ratio") == 0.0);
        assert!(m.number("sdlogj") < 1e-12);
        let folded = deformation(&along(-2.0), size).unwrap();
        assert_eq!((folded.number("folding-ratio"), folded.number("jacobian/max")), (1.0, -1.0));
        assert!(deformation(&along(0.1), [2, 10, 6]).is_err());
    }

    #[test]
    fn distances_by_hand() {
        let fixed = [[0.0; 3], [0.0, 0.0, 1.0], [5.0, 0.0, 0.0]];
        let m = landmarks(&fixed, &[[0.0, 3.0, 4.0], [0.0, 0.0, 1.0], [5.0, 0.0, 2.0]]).unwrap();
        assert_eq!((m.number("tre/median"), m.number("tre30"), m.number("tre/max")), (2.0, 5.0, 5.0));
        assert!(landmarks(&fixed, &fixed[..2]).is_err() && landmarks(&[], &[]).is_err());
    }
}
