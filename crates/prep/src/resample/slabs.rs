//! Logits on a new grid, a slab of planes at a time: no volume of all classes exists at full resolution.
//!
//! Every value is that of [`Method::image`] on the whole class, to the bit: a linear interpolation in double
//! precision leaves the range of its inputs by less than storing in single precision rounds away, so the clipping of
//! the whole-volume function needs no counterpart here.

use super::half::round_to_half;
use super::method::{Change, Method};
use super::resize::{Axis, Plane};
use super::torch::Grid;
use galen_core::{Error, Result};
use galen_kernels::contest::Contest;
use serde_json::Value;
use std::ops::Range;

/// Logits of which a plane is made when it is read.
pub trait PlaneSource: Sync {
    /// Fills `out` `[y, x]` with plane `z` of a class.
    fn plane(&self, class: usize, z: usize, out: &mut [f32]);
}

/// Logits of all classes in memory, `[k, z, y, x]`.
pub struct Whole<'a> {
    /// Voxels, `(z, y, x)`.
    pub size: [usize; 3],
    /// Values.
    pub values: &'a [f32],
}

impl PlaneSource for Whole<'_> {
    fn plane(&self, class: usize, z: usize, out: &mut [f32]) {
        let area = self.size[1] * self.size[2];
        let start = (class * self.size[0] + z) * area;
        out.copy_from_slice(&self.values[start..start + area]);
    }
}

/// Evaluates logits on another grid.
pub struct LogitSlabs {
    pub(super) classes: usize,
    pub(super) from: [usize; 3],
    pub(super) to: [usize; 3],
    pub(super) kind: Kind,
    /// Results are rounded to float16, as nnU-Net stores them.
    pub(super) rounds: bool,
    pub(super) contest: Contest,
}

pub(super) enum Kind {
    Copy,
    Double { plane: Plane, z: Axis },
    Single(Grid),
}

fn cubic() -> Error {
    let remedy = "use order 1 in resampling_fn_probabilities_kwargs";
    Error::input("plans.json, resampling_fn_probabilities", "cubic resampling of logits", remedy)
}

impl LogitSlabs {
    /// The method that plans name for logits, when it can be done by slabs.
    pub fn method(name: &str, arguments: &Value) -> Result<Method> {
        match Method::parse(name, arguments)? {
            Method::Spline { order: 3, .. } => Err(cubic()),
            method => Ok(method),
        }
    }

    /// For logits of `classes` channels and a change of grid. `half` rounds results to float16; nnU-Net's torch functions
    /// return single precision, so it changes nothing there.
    pub fn new(classes: usize, method: Method, change: &Change, half: bool) -> Result<Self> {
        let Change { from, current, new, .. } = *change;
        let to = method.size(change);
        let bad = |what: String, remedy: &str| Err(Error::input("logits", what, remedy));
        if classes == 0 || from.contains(&0) || to.contains(&0) {
            let what = format!("{classes} classes of {from:?} voxels, wanted {to:?}");
            return bad(what, "use the plans that the model was trained with");
        }
        let kind = match method {
            _ if from == to => Kind::Copy,
            Method::None => Kind::Copy,
            Method::Torch { thick, .. } => Kind::Single(Grid::new(from, to, thick.axis(current, new))),
            Method::Spline { order: 3, .. } => return Err(cubic()),
            Method::Spline { order, order_z, thick } => {
                let between = thick.axis(current, new);
                if between.is_some() && order_z != 0 {
                    return bad(
                        "order_z is not 0".into(),
                        "use order_z 0 in resampling_fn_probabilities_kwargs",
                    );
                }
                let rule = |axis: usize| {
                    let order = if between == Some(axis) { 0 } else { order };
                    Axis::new(order, from[axis], to[axis])
                };
                Kind::Double {
                    plane: Plane::of([from[1], from[2]], [to[1], to[2]], rule(1), rule(2)),
                    z: rule(0),
                }
            }
        };
        let rounds = half && !matches!(method, Method::Torch { .. });
        let contest = Self::contest(from, to, &kind);
        Ok(Self { classes, from, to, kind, rounds, contest })
    }

    /// Size of the result, `(z, y, x)`.
    pub fn size(&self) -> [usize; 3] {
        self.to
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The lowest and the highest input plane that an output plane reads; both grow with it.
    pub fn reads(&self, z: usize) -> [usize; 2] {
        match &self.kind {
            Kind::Copy | Kind::Double { z: Axis::Same, .. } => [z, z],
            Kind::Double { z: Axis::Nearest(picks), .. } => [picks[z]; 2],
            Kind::Double { z: Axis::Linear(taps), .. } => taps[z].at,
            Kind::Double { z: Axis::Cubic(_), .. } => unreachable!("refused when the evaluator was made"),
            Kind::Single(grid) => grid.planes(z).at,
        }
    }

    /// Calls `each(z, values)` for the planes of one class, in order.
    pub fn planes(
        &self,
        source: &dyn PlaneSource,
        class: usize,
        range: Range<usize>,
        mut each: impl FnMut(usize, &[f32]),
    ) {
        let area = self.to[1] * self.to[2];
        let mut read = vec![0.0; self.from[1] * self.from[2]];
        let mut out = vec![0.0; area];
        match &self.kind {
            Kind::Copy => {
                for z in range {
                    source.plane(class, z, &mut out);
                    self.give(z, &mut out, &mut each);
                }
            }
            Kind::Double { plane, z: axis } => {
                let mut kept = Kept::new(vec![0.0f64; area]);
                for z in range {
                    let ([a, b], [w0, w1]) = match axis {
                        Axis::Same => ([z, z], [1.0, 0.0]),
                        Axis::Nearest(picks) => ([picks[z]; 2], [1.0, 0.0]),
                        Axis::Linear(taps) => (taps[z].at, taps[z].weights),
                        Axis::Cubic(_) => unreachable!("refused when the evaluator was made"),
                    };
                    kept.need([a, b], |z, to| {
                        source.plane(class, z, &mut read);
                        plane.apply(&read, to);
                    });
                    let pairs = kept.of(a).iter().zip(kept.of(b));
                    match axis {
                        Axis::Linear(_) => {
                            out.iter_mut()
                                .zip(pairs)
                                .for_each(|(o, (a, b))| *o = self.rounded(a * w0 + b * w1));
                        }
                        _ => out.iter_mut().zip(pairs).for_each(|(o, (a, _))| *o = self.rounded(*a)),
                    }
                    each(z, &out);
                }
            }
            Kind::Single(grid) => {
                let mut kept = Kept::new(vec![0.0f32; area]);
                for z in range {
                    let tap = grid.planes(z);
                    kept.need(tap.at, |z, to| {
                        source.plane(class, z, &mut read);
                        let first = z * read.len();
                        grid.within(&|i| read[i - first], z, to);
                    });
                    let [w0, w1] = tap.weights;
                    let (a, b) = (kept.of(tap.at[0]), kept.of(tap.at[1]));
                    if w1 == 0.0 {
                        out.copy_from_slice(a);
                    } else {
                        out.iter_mut().zip(a.iter().zip(b)).for_each(|(o, (a, b))| *o = a * w0 + b * w1);
                    }
                    each(z, &out);
                }
            }
        }
    }

    fn give(&self, z: usize, out: &mut [f32], each: &mut impl FnMut(usize, &[f32])) {
        if self.rounds {
            out.iter_mut().for_each(|v| *v = round_to_half((*v).into()));
        }
        each(z, out);
    }

    fn rounded(&self, value: f64) -> f32 {
        if self.rounds { round_to_half(value) } else { value as f32 }
    }
}

/// The two input planes last used, on the output's rows and columns.
struct Kept<T> {
    planes: [(Option<usize>, Vec<T>); 2],
}

impl<T: Clone> Kept<T> {
    fn new(empty: Vec<T>) -> Self {
        Self { planes: [(None, empty.clone()), (None, empty)] }
    }

    fn need(&mut self, wanted: [usize; 2], mut make: impl FnMut(usize, &mut [T])) {
        for z in wanted {
            if self.planes.iter().all(|(kept, _)| *kept != Some(z)) {
                // The slot whose plane is not wanted.
                let slot = usize::from(self.planes[0].0.is_some_and(|kept| wanted.contains(&kept)));
                self.planes[slot].0 = Some(z);
                make(z, &mut self.planes[slot].1);
            }
        }
    }

    fn of(&self, z: usize) -> &[T] {
        let slot = usize::from(self.planes[0].0 != Some(z));
        &self.planes[slot].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resample::Thick;

    const AUTO: Thick = Thick { force: None, beyond: 3.0 };

    fn logits(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 % 1009) as f32 / 100.0 - 5.0) * 1.0001).collect()
    }

    #[test]
    fn slabs_are_the_whole_volume_bit_by_bit() {
        let linear = Method::Spline { order: 1, order_z: 0, thick: AUTO };
        let nearest = Method::Spline { order: 0, order_z: 0, thick: AUTO };
        let torch = Method::Torch { thick: AUTO, frugal: false };
        let spacings = [[1.0; 3], [5.0, 1.0, 1.0], [1.0, 5.0, 1.0], [1.0, 1.0, 5.0]];
        for method in [linear, nearest, torch, Method::None] {
            for current in spacings {
                for to in [[9, 4, 11], [3, 8, 5], [5, 6, 7], [5, 6, 9]] {
                    let change = Change { from: [5, 6, 7], to, current, new: [1.0; 3] };
                    let values = logits(2 * 210);
                    let slabs = LogitSlabs::new(2, method, &change, false).unwrap();
                    let source = Whole { size: [5, 6, 7], values: &values };
                    for class in 0..2 {
                        let whole = method.image(&values[class * 210..(class + 1) * 210], &change);
                        let mut found = Vec::new();
                        for z in (0..slabs.size()[0]).step_by(2) {
                            let end = (z + 2).min(slabs.size()[0]);
                            slabs.planes(&source, class, z..end, |_, plane| found.extend_from_slice(plane));
                        }
                        assert_eq!(whole, found, "{method:?} {current:?} {to:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn rounding_makes_equals() {
        let change = Change { from: [1, 1, 1], to: [1, 1, 2], current: [1.0; 3], new: [1.0; 3] };
        let method = Method::Spline { order: 1, order_z: 0, thick: AUTO };
        let planes = |half| {
            let slabs = LogitSlabs::new(2, method, &change, half).unwrap();
            let source = Whole { size: [1, 1, 1], values: &[1000.0, 1000.1] };
            [0, 1].map(|class| {
                let mut first = 0.0;
                slabs.planes(&source, class, 0..1, |_, plane| first = plane[0]);
                first
            })
        };
        assert_eq!((planes(false), planes(true)), ([1000.0, 1000.1], [1000.0; 2]));
    }

    #[test]
    fn cubic_logits_are_refused_before_there_are_any() {
        let cubic = serde_json::json!({ "order": 3, "force_separate_z": null });
        assert!(LogitSlabs::method("resample_data_or_seg_to_shape", &cubic).is_err());
    }
}
