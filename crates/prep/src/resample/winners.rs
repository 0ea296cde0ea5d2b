//! Which class wins in every voxel of a finer grid, without the classes' values on that grid.
//!
//! Values are compared in single precision. Where that could decide otherwise than the method's own arithmetic (double
//! precision, rounding to float16), the voxel is decided again with that.

use super::half::round_to_half;
use super::resize;
use super::slabs::{Kind, LogitSlabs, PlaneSource};
use super::taps::Linear;
use super::torch::Grid;
use galen_kernels::contest::{Contest, Doubt, Rule, Standing, Tap};
use std::ops::Range;

/// Classes whose planes are held at a time.
const CLASSES: usize = 16;

/// How winners are found.
#[derive(Clone, Copy)]
pub enum Decision {
    /// The class with the largest value; the first one on ties.
    Largest,
    /// The last class whose value lies inside. The function rises with the value, from false to true near zero: below
    /// -0.00001 it is false, above 0.00001 true.
    Inside(fn(f32) -> bool),
}

/// Values nearer to zero are left to the function of [`Decision::Inside`].
const NEAR_ZERO: f32 = 1e-5;

impl LogitSlabs {
    pub(super) fn contest(from: [usize; 3], to: [usize; 3], kind: &Kind) -> Contest {
        let taps = |axis: usize| -> Vec<Tap> {
            let one = |out: usize| match kind {
                Kind::Copy => Tap { at: [out; 2], weights: [1.0, 0.0] },
                Kind::Double { plane, .. } => single(plane.axis(axis).reads(out)),
                Kind::Single(grid) => {
                    let Linear { at, weights } = grid.reads(axis, out);
                    Tap { at, weights }
                }
            };
            (0..to[axis]).map(one).collect()
        };
        Contest::new([from[1], from[2]], taps(1), &taps(2))
    }

    /// Calls `each(z, winners)` for output planes, in order; 0 stands for no winner, k + 1 for class k.
    pub fn winners(
        &self,
        source: &dyn PlaneSource,
        range: Range<usize>,
        decision: Decision,
        mut each: impl FnMut(usize, &[u16]),
    ) {
        let mut held = Held { source, area: self.from[1] * self.from[2], sets: Default::default() };
        let (mut standing, mut winners) = (Standing::default(), vec![0; self.to[1] * self.to[2]]);
        let mut doubtful = Vec::new();
        for z in range {
            let tap = match &self.kind {
                Kind::Copy => Tap { at: [z; 2], weights: [1.0, 0.0] },
                Kind::Double { z: axis, .. } => single(axis.reads(z)),
                Kind::Single(grid) => {
                    let Linear { at, weights } = grid.planes(z);
                    Tap { at, weights }
                }
            };
            self.plane(&mut held, tap, decision, &mut standing, &mut winners, &mut doubtful);
            if !doubtful.is_empty() {
                self.decide_again(&mut held, z, decision, &doubtful, &mut winners);
            }
            each(z, &winners);
        }
    }

    /// Winners of one plane in single precision, and the voxels where that is not certain.
    fn plane(
        &self,
        held: &mut Held,
        tap: Tap,
        decision: Decision,
        standing: &mut Standing,
        winners: &mut [u16],
        doubtful: &mut Vec<usize>,
    ) {
        // Rounded weights, products and sums of three axes: less than 9 units in the last place of the largest value.
        let error = |largest: f32| 1e-6 * largest;
        let rule = |largest: f32| match decision {
            Decision::Largest => Rule::Largest,
            Decision::Inside(_) => Rule::Above(NEAR_ZERO + error(largest)),
        };
        let mut largest = 0f32;
        let two = tap.at[0] != tap.at[1] && tap.weights[1] != 0.0;
        self.contest.begin(rule(0.0), standing);
        for first in (0..self.classes).step_by(CLASSES) {
            let classes = first..(first + CLASSES).min(self.classes);
            let slots = held.need(tap.at, classes);
            let sets = slots.map(|slot| &held.sets[slot]);
            largest = sets.iter().fold(largest, |most, set| most.max(set.largest));
            let planes = sets.map(|set| &set.values[..]);
            let planes = if two { &planes[..] } else { &planes[..1] };
            self.contest.enter(rule(largest), first, planes, tap.weights, standing);
        }
        let exact = matches!(self.kind, Kind::Single(_)) || (matches!(self.kind, Kind::Copy) && !self.rounds);
        let doubt = match decision {
            // Up to one unit in the last place, two values can become one when they are rounded.
            Decision::Largest if exact => Doubt::Never,
            Decision::Largest => Doubt::Lead {
                share: if self.rounds { 1.0 / 1024.0 } else { f32::EPSILON },
                least: 2.0 * error(largest) + f32::EPSILON,
            },
            Decision::Inside(_) => Doubt::NearZero(NEAR_ZERO + error(largest)),
        };
        let doubt = if largest.is_finite() { doubt } else { Doubt::Always };
        standing.finish(self.to[2], doubt, winners, doubtful);
    }

    /// Decides voxels with the method's own arithmetic.
    fn decide_again(
        &self,
        held: &mut Held,
        z: usize,
        decision: Decision,
        voxels: &[usize],
        winners: &mut [u16],
    ) {
        let mut best = vec![f32::NEG_INFINITY; voxels.len()];
        voxels.iter().for_each(|&voxel| winners[voxel] = 0);
        let at = self.reads(z);
        for first in (0..self.classes).step_by(CLASSES) {
            let classes = first..(first + CLASSES).min(self.classes);
            let [below, above] = held.need(at, classes.clone());
            for class in classes {
                let cut = (class - first) * held.area..(class - first + 1) * held.area;
                let planes = [below, above].map(|slot| &held.sets[slot].values[cut.clone()]);
                for (&voxel, best) in voxels.iter().zip(&mut best) {
                    let value = self.value(planes, z, voxel / self.to[2], voxel % self.to[2]);
                    let wins = match decision {
                        Decision::Largest => value > *best,
                        Decision::Inside(inside) => inside(value),
                    };
                    if wins {
                        *best = value;
                        winners[voxel] = class as u16 + 1;
                    }
                }
            }
        }
    }

    /// One value, as [`LogitSlabs::planes`] gives it; `planes` are those that [`LogitSlabs::reads`] names.
    fn value(&self, planes: [&[f32]; 2], z: usize, y: usize, x: usize) -> f32 {
        match &self.kind {
            Kind::Copy => {
                let value = planes[0][y * self.from[2] + x];
                if self.rounds { round_to_half(value.into()) } else { value }
            }
            Kind::Double { plane, z: axis } => {
                let low = plane.at(planes[0], y, x);
                let value = match axis {
                    resize::Axis::Linear(taps) => {
                        low * taps[z].weights[0] + plane.at(planes[1], y, x) * taps[z].weights[1]
                    }
                    _ => low,
                };
                if self.rounds { round_to_half(value) } else { value as f32 }
            }
            Kind::Single(grid) => grid.value(planes, z, y, x),
        }
    }
}

fn single(tap: Linear) -> Tap {
    Tap { at: tap.at, weights: tap.weights.map(|weight| weight as f32) }
}

/// Input planes of some classes.
#[derive(Default)]
struct Set {
    /// Plane and first class.
    what: Option<(usize, usize)>,
    values: Vec<f32>,
    /// Largest distance from zero; what is not a number does not count.
    largest: f32,
}

/// The two sets last used.
struct Held<'a> {
    source: &'a dyn PlaneSource,
    area: usize,
    sets: [Set; 2],
}

impl Held<'_> {
    /// Slots of the two planes, read if they are not there.
    fn need(&mut self, planes: [usize; 2], classes: Range<usize>) -> [usize; 2] {
        let wanted = planes.map(|z| Some((z, classes.start)));
        for what in wanted {
            if self.sets.iter().all(|set| set.what != what) {
                // The slot that is not wanted.
                let slot = usize::from(wanted.contains(&self.sets[0].what));
                let set = &mut self.sets[slot];
                set.values.resize(classes.len() * self.area, 0.0);
                set.what = what;
                let z = if what == wanted[0] { planes[0] } else { planes[1] };
                for (class, plane) in classes.clone().zip(set.values.chunks_exact_mut(self.area)) {
                    self.source.plane(class, z, plane);
                }
                set.largest = largest(&set.values);
            }
        }
        wanted.map(|what| usize::from(self.sets[0].what != what))
    }
}

fn largest(values: &[f32]) -> f32 {
    let mut most = [0f32; 16];
    let (groups, rest) = values.as_chunks::<16>();
    for group in groups {
        for (most, value) in most.iter_mut().zip(group) {
            *most = if value.abs() > *most { value.abs() } else { *most };
        }
    }
    rest.iter().chain(&most).fold(0.0, |most, value| if value.abs() > most { value.abs() } else { most })
}

impl Grid {
    /// One value of an output plane, from its two input planes.
    fn value(&self, planes: [&[f32]; 2], z: usize, y: usize, x: usize) -> f32 {
        let [ty, tx, tz] = [self.reads(1, y), self.reads(2, x), self.planes(z)];
        let within = |plane: &[f32]| {
            let row = |y: usize| {
                let row = &plane[y * self.columns()..];
                row[tx.at[0]] * tx.weights[0] + row[tx.at[1]] * tx.weights[1]
            };
            row(ty.at[0]) * ty.weights[0] + row(ty.at[1]) * ty.weights[1]
        };
        let low = within(planes[0]);
        if tz.weights[1] == 0.0 { low } else { low * tz.weights[0] + within(planes[1]) * tz.weights[1] }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Change, Method, Thick, Whole};
    use super::*;

    /// Values with many near ties and, rarely, infinite or undefined ones.
    fn logits(n: usize, wild: bool) -> Vec<f32> {
        let value = |i: usize| match (i * 7919 % 1009, wild) {
            (17, true) => f32::INFINITY,
            (900, true) => f32::NAN,
            (k, _) if k % 3 == 0 => ((k % 7) as f32 - 3.0) * 0.001,
            (k, _) => ((k % 11) as f32 - 5.0) * 1.0001,
        };
        (0..n).map(value).collect()
    }

    #[test]
    fn winners_are_those_of_the_values() {
        let from = [5, 6, 7];
        for classes in [3, 19] {
            for (method, current) in [
                (
                    Method::Spline { order: 1, order_z: 0, thick: Thick { force: None, beyond: 3.0 } },
                    [1.0; 3],
                ),
                (
                    Method::Spline { order: 1, order_z: 0, thick: Thick { force: None, beyond: 3.0 } },
                    [5.0, 1.0, 1.0],
                ),
                (
                    Method::Spline { order: 0, order_z: 0, thick: Thick { force: None, beyond: 3.0 } },
                    [1.0; 3],
                ),
                (Method::Torch { thick: Thick { force: None, beyond: 3.0 }, frugal: false }, [1.0; 3]),
                (Method::Torch { thick: Thick { force: None, beyond: 3.0 }, frugal: false }, [5.0, 1.0, 1.0]),
                (Method::None, [1.0; 3]),
            ] {
                for to in [[9, 4, 11], [3, 8, 40], from, [5, 6, 9]] {
                    for (half, wild) in [(false, false), (true, false), (true, true)] {
                        let change = Change { from, to, current, new: [1.0; 3] };
                        let values = logits(classes * 210, wild);
                        let slabs = LogitSlabs::new(classes, method, &change, half).unwrap();
                        let source = Whole { size: from, values: &values };
                        let [planes, ny, nx] = slabs.size();
                        let mut all = vec![0f32; classes * planes * ny * nx];
                        for (class, part) in all.chunks_exact_mut(planes * ny * nx).enumerate() {
                            slabs.planes(&source, class, 0..planes, |z, plane| {
                                part[z * ny * nx..(z + 1) * ny * nx].copy_from_slice(plane);
                            });
                        }
                        let inside: fn(f32) -> bool = |v| 1.0 / (1.0 + (-v).exp()) > 0.5;
                        for decision in [Decision::Largest, Decision::Inside(inside)] {
                            let mut found = Vec::new();
                            slabs.winners(&source, 0..planes, decision, |_, plane| {
                                found.extend_from_slice(plane);
                            });
                            for (i, winner) in found.iter().enumerate() {
                                let (mut best, mut expected) = (f32::NEG_INFINITY, 0);
                                for class in 0..classes {
                                    let value = all[class * planes * ny * nx + i];
                                    let wins = match decision {
                                        Decision::Largest => value > best,
                                        Decision::Inside(inside) => inside(value),
                                    };
                                    if wins {
                                        (best, expected) = (value, class as u16 + 1);
                                    }
                                }
                                assert_eq!(*winner, expected, "{method:?} {current:?} {to:?} {half} {wild}");
                            }
                        }
                    }
                }
            }
        }
    }
}
