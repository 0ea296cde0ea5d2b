//! Positions of each class, from which training draws its foreground patches.
//!
//! Source: nnunetv2 2.8.1 `_sample_foreground_locations`.

use crate::numpy::RandomState;
use galen_core::Labels;
use serde::{Deserialize, Serialize};

const SEED: u32 = 1234;
const MOST: usize = 10_000;
const LEAST_PART: f64 = 0.01;

/// Drawn positions of one label, region, or of all annotated voxels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassLocations {
    /// The label, the labels of the region, or -1 and all labels for "annotated".
    pub values: Vec<i16>,
    /// `(z, y, x)`.
    pub voxels: Vec<[u32; 3]>,
}

/// Draws positions from a prepared label map `[z, y, x]`.
pub fn foreground_locations(labels: &[i16], size: [usize; 3], meaning: &Labels) -> Vec<ClassLocations> {
    let narrow = |values: &[u16]| values.iter().map(|&v| v as i16).collect::<Vec<i16>>();
    let mut classes: Vec<Vec<i16>> = meaning.scored().iter().map(|value| narrow(value.values())).collect();
    if meaning.ignore().is_some() {
        let mut annotated = vec![-1];
        annotated.extend(narrow(&meaning.all()));
        classes.push(annotated);
    }
    let mut random = RandomState::new(SEED);
    classes.into_iter().map(|values| draw(labels, size, values, &mut random)).collect()
}

fn draw(labels: &[i16], size: [usize; 3], values: Vec<i16>, random: &mut RandomState) -> ClassLocations {
    // Blocks of one label after the other, each in array order.
    let mut all: Vec<u32> = Vec::new();
    for value in &values {
        all.extend(labels.iter().enumerate().filter(|(_, label)| *label == value).map(|(i, _)| i as u32));
    }
    if all.is_empty() {
        return ClassLocations { values, voxels: Vec::new() };
    }
    let least = (all.len() as f64 * LEAST_PART).ceil() as usize;
    let count = all.len().min(MOST).max(least);
    // numpy draws a permutation of indices; shuffling the voxels themselves is the same and needs no second list.
    random.shuffle(&mut all);
    let place = |i: usize| [i / (size[1] * size[2]), i / size[2] % size[1], i % size[2]].map(|p| p as u32);
    ClassLocations { values, voxels: all[..count].iter().map(|&i| place(i as usize)).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    #[test]
    fn golden_annotated_voxels_are_drawn_after_the_classes() {
        let root = std::env::var_os("GALEN_GOLDENS").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens"),
            PathBuf::from,
        );
        let file = root.join("nnunet/tables/foreground_locations.npz");
        if !file.exists() {
            println!("no {}: nothing to compare with", file.display());
            return;
        }
        let mut npz = npyz::npz::NpzArchive::open(&file).unwrap();
        let seg: Vec<i8> = npz.by_name("seg").unwrap().unwrap().into_vec().unwrap();
        let seg: Vec<i16> = seg.into_iter().map(i16::from).collect();
        let theirs = npz.by_name("with_annotated|(-1, 0, 1, 2, 3)").unwrap().expect("the annotated voxels");
        let theirs: Vec<i32> = theirs.into_vec().unwrap();
        let mut random = RandomState::new(SEED);
        let classes = [vec![1], vec![2], vec![-1, 0, 1, 2, 3]];
        let [.., annotated] = classes.map(|values| draw(&seg, [20, 22, 18], values, &mut random));
        // The golden lists the first of them.
        assert!(!theirs.is_empty() && annotated.voxels.len() >= theirs.len() / 4);
        for (ours, theirs) in annotated.voxels.iter().zip(theirs.chunks(4)) {
            assert_eq!(ours.map(|v| v as i32), theirs[1..]);
        }
    }

    #[test]
    fn an_absent_class_has_no_positions() {
        let one = |name: &str, value| (name.to_owned(), galen_core::LabelValue::One(value));
        let meaning = Labels::new(vec![one("background", 0), one("a", 1), one("b", 2)], None).unwrap();
        let drawn = foreground_locations(&[0, 0, 2, -1], [1, 2, 2], &meaning);
        assert!(drawn[0].voxels.is_empty());
        assert_eq!(drawn[1], ClassLocations { values: vec![2], voxels: vec![[0, 1, 0]] });
    }
}
