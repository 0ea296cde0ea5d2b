//! Connected components of a mask, voxels touching at a face, an edge or a corner.
//!
//! Source: union-find over runs, as in He et al. 2017 ("The connected-component labeling problem"). Differs: rows are
//! words of 64 bits, runs are joined where bits of two rows meet, and where corners touch, two by two rows are taken
//! as one, for within them a run cannot be of two components (the blocks of Grana et al. 2010, without an end).

mod beams;

use crate::buffer::on_large_pages;
use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use beams::{Beams, Bits};
use rayon::prelude::*;
use std::cell::RefCell;

/// Neighbours that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connectivity {
    /// Faces (6 in space, 4 in the plane).
    Faces,
    /// Faces and edges (18).
    Edges,
    /// Faces, edges and corners (26 in space, 8 in the plane).
    Corners,
}

/// Consecutive voxels of one row inside the mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Flat index of the first voxel.
    pub start: usize,
    /// Number of voxels.
    pub length: usize,
    /// Component, counted from 0 in the order of first voxels.
    pub component: usize,
}

/// Components of a mask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Components {
    /// All runs in array order.
    pub runs: Vec<Run>,
    /// Voxels per component.
    pub sizes: Vec<usize>,
}

/// Component number per voxel, 0 for background, counted from 1 in array order of first voxels; and their count.
/// Voxels of the mask are those that are not 0.
pub fn label(mask: &[u8], size: [usize; 3], connectivity: Connectivity) -> (Vec<u32>, usize) {
    numbered(mask, size, connectivity, |voxel| *voxel != 0)
}

/// As [`label`], of the voxels `[z, y, x]` for which `inside` holds.
pub fn numbered<T: Sync>(
    voxels: &[T],
    size: [usize; 3],
    connectivity: Connectivity,
    inside: impl Fn(&T) -> bool + Sync,
) -> (Vec<u32>, usize) {
    let mut numbers = vec![0u32; voxels.len()];
    let Some(beams) = beams(voxels, size, connectivity, &inside) else { return (numbers, 0) };
    on_large_pages(&mut numbers);
    let nx = size[2];
    let slab = beams.rows_per_slab() * nx;
    let cpu = Cpu::detected();
    numbers.par_chunks_mut(slab).zip(voxels.par_chunks(slab)).enumerate().for_each_init(
        || vec![0u32; nx],
        |line, (slab, (numbers, voxels))| {
            let out = RefCell::new((numbers, &mut line[..]));
            cpu.run(&Writing { beams: &beams, slab, size, voxels, inside: &inside, out });
        },
    );
    (numbers, beams.count())
}

/// Numbers of one slab of beams.
struct Writing<'a, T, F> {
    beams: &'a Beams,
    slab: usize,
    size: [usize; 3],
    voxels: &'a [T],
    inside: &'a F,
    /// Numbers of the slab, and room for those of a beam.
    out: RefCell<(&'a mut [u32], &'a mut [u32])>,
}

impl<T, F: Fn(&T) -> bool> Task for Writing<'_, T, F> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl<T, F: Fn(&T) -> bool> Kernel for Writing<'_, T, F> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let (numbers, line) = &mut *self.out.borrow_mut();
        let [_, ny, nx] = self.size;
        for pair in 0..self.beams.beams_per_slab() {
            if self.beams.line(self.slab, pair, line) {
                for row in self.beams.rows_of(pair, self.voxels.len() / nx, ny) {
                    let (to, from) = (&mut numbers[row * nx..][..nx], &self.voxels[row * nx..][..nx]);
                    for ((to, from), number) in to.iter_mut().zip(from).zip(line.iter()) {
                        *to = if (self.inside)(from) { *number } else { 0 };
                    }
                }
            }
        }
    }
}

/// The mask as bits, joined; `None` without voxels.
fn beams<T: Sync>(
    voxels: &[T],
    size: [usize; 3],
    connectivity: Connectivity,
    inside: &(impl Fn(&T) -> bool + Sync),
) -> Option<Beams> {
    assert_eq!(voxels.len(), size.iter().product::<usize>(), "the mask must fill its grid");
    (!voxels.is_empty()).then(|| Beams::joined(Bits::of(voxels, size, inside), connectivity))
}

impl Components {
    /// Components of the voxels `[z, y, x]` for which `inside` holds, corners included (26 neighbours, 8 in a plane).
    pub fn of<T: Sync>(voxels: &[T], size: [usize; 3], inside: impl Fn(&T) -> bool + Sync) -> Self {
        Self::joined(voxels, size, Connectivity::Corners, inside)
    }

    /// Components of the voxels `[z, y, x]` for which `inside` holds.
    pub fn joined<T: Sync>(
        voxels: &[T],
        size: [usize; 3],
        connectivity: Connectivity,
        inside: impl Fn(&T) -> bool + Sync,
    ) -> Self {
        let Some(beams) = beams(voxels, size, connectivity, &inside) else { return Self::default() };
        let mut found = Self { runs: Vec::new(), sizes: vec![0; beams.count()] };
        beams.each_run(|start, length, component| {
            found.sizes[component] += length;
            found.runs.push(Run { start, length, component });
        });
        found
    }

    /// Runs that are in no largest component; with several of the largest size, all of those are kept.
    pub fn beside_the_largest(&self) -> impl Iterator<Item = &Run> {
        let most = self.sizes.iter().copied().max().unwrap_or(0);
        self.runs.iter().filter(move |run| self.sizes[run.component] < most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Flood fill: component of every voxel, numbered in array order.
    fn plain_twin(mask: &[bool], size: [usize; 3], connectivity: Connectivity) -> Vec<Option<usize>> {
        let axes = match connectivity {
            Connectivity::Faces => 1,
            Connectivity::Edges => 2,
            Connectivity::Corners => 3,
        };
        let [nz, ny, nx] = size;
        let mut found = vec![None; mask.len()];
        let mut count = 0;
        for start in 0..mask.len() {
            if !mask[start] || found[start].is_some() {
                continue;
            }
            let mut open = vec![start];
            found[start] = Some(count);
            while let Some(at) = open.pop() {
                let (cz, cy, cx) = (at / (ny * nx), at / nx % ny, at % nx);
                for z in cz.saturating_sub(1)..(cz + 2).min(nz) {
                    for y in cy.saturating_sub(1)..(cy + 2).min(ny) {
                        for x in cx.saturating_sub(1)..(cx + 2).min(nx) {
                            let next = (z * ny + y) * nx + x;
                            let away = z.abs_diff(cz) + y.abs_diff(cy) + x.abs_diff(cx);
                            if away <= axes && mask[next] && found[next].is_none() {
                                found[next] = Some(count);
                                open.push(next);
                            }
                        }
                    }
                }
            }
            count += 1;
        }
        found
    }

    proptest! {
        #[test]
        fn runs_agree_with_flood_filling(
            size in [1usize..5, 1usize..6, 1usize..140],
            density in 0.05f64..0.95,
            connectivity in prop_oneof![
                Just(Connectivity::Faces), Just(Connectivity::Edges), Just(Connectivity::Corners)
            ],
            seeds in proptest::collection::vec(0.0f64..1.0, 2800),
        ) {
            let mask: Vec<bool> = seeds[..size.iter().product()].iter().map(|&v| v < density).collect();
            let expected = plain_twin(&mask, size, connectivity);
            let found = Components::joined(&mask, size, connectivity, |&inside| inside);
            let (numbers, count) = numbered(&mask, size, connectivity, |&inside| inside);
            prop_assert_eq!(count, found.sizes.len());
            let mut starts: Vec<usize> = found.runs.iter().map(|run| run.start).collect();
            prop_assert!(starts.is_sorted());
            starts.dedup();
            prop_assert_eq!(starts.len(), found.runs.len());
            for run in &found.runs {
                let voxels = run.start..run.start + run.length;
                prop_assert!(numbers[voxels].iter().all(|&n| n as usize == run.component + 1));
            }
            let spread: Vec<_> = numbers.iter().map(|&n| n.checked_sub(1).map(|n| n as usize)).collect();
            prop_assert_eq!(&spread, &expected);
            for (component, &voxels) in found.sizes.iter().enumerate() {
                prop_assert_eq!(expected.iter().filter(|&&c| c == Some(component)).count(), voxels);
            }
        }
    }

    #[test]
    fn equal_largest_components_all_stay() {
        let mask = [1, 1, 0, 1, 1, 0, 1u8];
        let found = Components::of(&mask, [1, 1, 7], |&v| v == 1);
        assert_eq!(found.sizes, [2, 2, 1]);
        let removed: Vec<usize> = found.beside_the_largest().map(|run| run.start).collect();
        assert_eq!(removed, [6]);
        assert_eq!(Components::of(&[0u8; 4], [1, 2, 2], |&v| v == 1).beside_the_largest().count(), 0);
    }

    #[test]
    fn corners_edges_and_faces_join_differently() {
        // Voxels at (0,0,0), (0,1,1) and (1,2,2): an edge apart, then a corner apart.
        let mut mask = vec![0u8; 27];
        for at in [0, 4, 9 + 8] {
            mask[at] = 1;
        }
        let count = |connectivity| label(&mask, [3, 3, 3], connectivity).1;
        assert_eq!(count(Connectivity::Faces), 3);
        assert_eq!(count(Connectivity::Edges), 2);
        assert_eq!(count(Connectivity::Corners), 1);
        let u_shape = [1, 0, 1, 1, 1, 1];
        assert_eq!(label(&u_shape, [1, 2, 3], Connectivity::Faces), (vec![1, 0, 1, 1, 1, 1], 1));
        assert_eq!(label(&[0; 6], [1, 2, 3], Connectivity::Corners).1, 0);
    }
}
