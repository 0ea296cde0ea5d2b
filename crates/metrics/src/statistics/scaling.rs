//! Scaling laws: how a loss falls with the size of model, data or compute.

use crate::bootstrap::{Draws, percentile};
use galen_core::{Error, Result};

/// Residuals of the logarithm beyond this count linearly.
const HUBER: f64 = 1e-3;

/// `loss = floor + scale · size^(−exponent)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Law {
    /// What no size gets below.
    pub floor: f64,
    /// Loss above the floor at size 1.
    pub scale: f64,
    /// Power with which it falls.
    pub exponent: f64,
}

impl Law {
    /// Loss at a size.
    pub fn at(&self, size: f64) -> f64 {
        self.floor + self.scale * size.powf(-self.exponent)
    }
}

/// A fitted law with what drawing runs makes of it.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Fit of all runs.
    pub law: Law,
    /// Fits of drawn runs, those that could be fitted.
    pub drawn: Vec<Law>,
}

impl Fit {
    /// 2.5th and 97.5th percentile over the draws of a number of the law.
    pub fn interval(&self, of: impl Fn(&Law) -> f64) -> [f64; 2] {
        let mut values: Vec<f64> = self.drawn.iter().map(of).filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        [0.025, 0.975].map(|p| percentile(&values, p).unwrap_or(f64::NAN))
    }
}

/// Fits a law to runs `(size, loss)`: Huber loss of the logarithms from many starts, and again on `draws` of the runs.
/// Refuses fewer than three sizes or less than a decade: any curve fits those.
pub fn fit(runs: &[(f64, f64)], draws: usize, seed: u64) -> Result<Fit> {
    if let Some(row) =
        runs.iter().position(|(s, l)| !(*s > 0.0 && *l > 0.0 && s.is_finite() && l.is_finite()))
    {
        let what = format!("size {} and loss {}", runs[row].0, runs[row].1);
        return Err(Error::input(format!("run {}", row + 1), what, "give sizes and losses above 0"));
    }
    let mut sizes: Vec<f64> = runs.iter().map(|r| r.0).collect();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    let reach = sizes.last().copied().unwrap_or(1.0) / sizes.first().copied().unwrap_or(1.0);
    if sizes.len() < 3 || reach < 10.0 {
        let what = format!("{} sizes over a factor of {reach:.1}", sizes.len());
        return Err(Error::input(
            "runs",
            what,
            "a law needs three sizes or more, over a factor of ten or more",
        ));
    }
    let law = best(runs, &starts(runs));
    let mut source = Draws::new(runs.len(), seed);
    let mut drawn = Vec::new();
    for _ in 0..draws {
        let some: Vec<(f64, f64)> = source.next().iter().map(|&i| runs[i]).collect();
        let mut own: Vec<f64> = some.iter().map(|r| r.0).collect();
        own.sort_by(f64::total_cmp);
        own.dedup();
        // Three numbers of a law need three sizes.
        if own.len() >= 3 {
            drawn.push(best(&some, &[law].into_iter().chain(starts(&some)).collect::<Vec<_>>()));
        }
    }
    Ok(Fit { law, drawn })
}

/// Laws to begin with: floors and exponents on a grid, the scale that fits them at the smallest size.
fn starts(runs: &[(f64, f64)]) -> Vec<Law> {
    let least = runs.iter().map(|r| r.1).fold(f64::INFINITY, f64::min);
    let (size, loss) = runs.iter().copied().fold((f64::INFINITY, 0.0), |a, r| if r.0 < a.0 { r } else { a });
    let mut all = Vec::new();
    for share in [0.01, 0.5, 0.9] {
        for exponent in [0.05, 0.2, 0.5, 1.0] {
            let floor = share * least;
            all.push(Law { floor, scale: (loss - floor).max(0.05 * loss) * size.powf(exponent), exponent });
        }
    }
    all
}

fn best(runs: &[(f64, f64)], starts: &[Law]) -> Law {
    let ends = starts.iter().map(|start| descend(runs, *start)).map(|law| (cost(runs, &law), law));
    ends.fold((f64::INFINITY, starts[0]), |best, end| if end.0 < best.0 { end } else { best }).1
}

fn cost(runs: &[(f64, f64)], law: &Law) -> f64 {
    let one = |(size, loss): &(f64, f64)| {
        let r = (loss.ln() - law.at(*size).ln()).abs();
        if r <= HUBER { 0.5 * r * r } else { HUBER * (r - 0.5 * HUBER) }
    };
    let sum: f64 = runs.iter().map(one).sum();
    if sum.is_nan() { f64::INFINITY } else { sum }
}

/// Levenberg-Marquardt on ln floor, ln scale and exponent, each run weighted as the Huber loss asks.
fn descend(runs: &[(f64, f64)], start: Law) -> Law {
    let law = |p: [f64; 3]| Law { floor: p[0].exp(), scale: p[1].exp(), exponent: p[2] };
    let mut p = [start.floor.ln(), start.scale.ln(), start.exponent];
    let (mut damping, mut now) = (1e-3, cost(runs, &law(p)));
    for _ in 0..200 {
        let (mut g, mut h) = ([0.0; 3], [[0.0; 3]; 3]);
        let here = law(p);
        for (size, loss) in runs {
            let power = here.scale * size.powf(-here.exponent);
            let value = here.floor + power;
            let r = loss.ln() - value.ln();
            let weight = if r.abs() <= HUBER { 1.0 } else { HUBER / r.abs() };
            let slope = [here.floor / value, power / value, -power * size.ln() / value];
            for i in 0..3 {
                g[i] += weight * slope[i] * r;
                for j in 0..3 {
                    h[i][j] += weight * slope[i] * slope[j];
                }
            }
        }
        for (i, row) in h.iter_mut().enumerate() {
            row[i] += damping * row[i].max(1e-12);
        }
        let Some(step) = solve(h, g) else { break };
        let next = [0, 1, 2].map(|i| p[i] + step[i].clamp(-2.0, 2.0));
        let then = cost(runs, &law(next));
        if then < now {
            let done = now - then < 1e-15 * now;
            (p, now, damping) = (next, then, (damping / 3.0).max(1e-12));
            if done {
                break;
            }
        } else {
            damping *= 4.0;
            if damping > 1e12 {
                break;
            }
        }
    }
    law(p)
}

/// Solution of three equations by Cramer's rule; `None` when there is no single one.
fn solve(h: [[f64; 3]; 3], g: [f64; 3]) -> Option<[f64; 3]> {
    let determinant = |m: [[f64; 3]; 3]| {
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
            + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    };
    let whole = determinant(h);
    let column = |i: usize| {
        let mut m = h;
        (0..3).for_each(|row| m[row][i] = g[row]);
        determinant(m) / whole
    };
    let found = [column(0), column(1), column(2)];
    found.iter().all(|v| v.is_finite()).then_some(found)
}

/// Size of least loss among runs `(size, loss)` of one compute: the vertex of a parabola in ln size (IsoFLOP). `None`
/// below three sizes, or when the parabola does not open upwards within the sizes.
pub fn isoflop_minimum(runs: &[(f64, f64)]) -> Option<(f64, f64)> {
    let points: Vec<(f64, f64)> = runs.iter().map(|(size, loss)| (size.ln(), *loss)).collect();
    let centre = points.iter().map(|p| p.0).sum::<f64>() / points.len() as f64;
    let (mut h, mut g) = ([[0.0; 3]; 3], [0.0; 3]);
    for (x, y) in &points {
        let powers = [1.0, x - centre, (x - centre).powi(2)];
        for i in 0..3 {
            g[i] += powers[i] * y;
            (0..3).for_each(|j| h[i][j] += powers[i] * powers[j]);
        }
    }
    let [c, b, a] = solve(h, g)?;
    let at = -b / (2.0 * a);
    let [low, high] =
        points.iter().fold([f64::INFINITY, f64::NEG_INFINITY], |[l, h], p| [l.min(p.0), h.max(p.0)]);
    let inside = (low..=high).contains(&(at + centre));
    (a > 0.0 && inside).then(|| ((at + centre).exp(), c - b * b / (4.0 * a)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_law_is_found_again() {
        let truth = Law { floor: 0.08, scale: 3.0, exponent: 0.35 };
        let runs: Vec<(f64, f64)> =
            (0..12).map(|i| 10f64.powf(3.0 + f64::from(i) / 4.0)).map(|s| (s, truth.at(s))).collect();
        let found = fit(&runs, 20, 1).unwrap();
        assert!((found.law.exponent - 0.35).abs() < 1e-4, "{:?}", found.law);
        assert!((found.law.floor - 0.08).abs() < 1e-4 && (found.law.scale / 3.0 - 1.0).abs() < 1e-2);
        // An outlier does not pull the law away.
        let mut odd = runs.clone();
        odd[5].1 *= 1.5;
        assert!((fit(&odd, 0, 1).unwrap().law.exponent - 0.35).abs() < 0.02);
        let noisy: Vec<(f64, f64)> = runs
            .iter()
            .enumerate()
            .map(|(i, (s, l))| (*s, l * (1.0 + 0.02 * ((i * 7 % 5) as f64 - 2.0))))
            .collect();
        let found = fit(&noisy, 100, 1).unwrap();
        let [low, high] = found.interval(|law| law.at(1e7));
        assert!(low < truth.at(1e7) && truth.at(1e7) < high, "{low} {high}");
    }

    #[test]
    fn too_little_is_refused() {
        let says = |runs: &[(f64, f64)]| fit(runs, 0, 0).unwrap_err().to_string();
        assert!(says(&[(1.0, 1.0), (100.0, 0.5)]).contains("2 sizes over a factor of 100.0"));
        assert!(says(&[(1.0, 1.0), (2.0, 0.5), (3.0, 0.4)]).contains("over a factor of 3.0"));
        assert!(says(&[(1.0, 1.0), (2.0, f64::NAN)]).contains("run 2"));
    }

    #[test]
    fn the_valley_of_equal_compute_is_found() {
        let loss = |size: f64| 0.3 + 0.02 * (size.ln() - 5e4f64.ln()).powi(2);
        let runs: Vec<(f64, f64)> = [1e4, 3e4, 1e5, 3e5].map(|s| (s, loss(s))).into();
        let (size, least) = isoflop_minimum(&runs).unwrap();
        assert!((size / 5e4 - 1.0).abs() < 1e-9 && (least - 0.3).abs() < 1e-12);
        assert_eq!(isoflop_minimum(&runs[2..]), None);
        let rising: Vec<(f64, f64)> = [1.0, 2.0, 3.0].map(|s| (s, s)).into();
        assert_eq!(isoflop_minimum(&rising), None);
    }
}
