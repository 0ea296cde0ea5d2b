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
    let all: Vec<u32> = values
        .iter()
        .flat_map(|value| labels.iter().enumerate().filter(move |(_, l)| *l == value).map(|(i, _)| i as u32))
        .collect();
    if all.is_empty() {
        return ClassLocations { values, voxels: Vec::new() };
    }
    let least = (all.len() as f64 * LEAST_PART).ceil() as usize;
    let picks = random.choice(all.len(), all.len().min(MOST).max(least));
    let place = |i: usize| [i / (size[1] * size[2]), i / size[2] % size[1], i % size[2]].map(|p| p as u32);
    ClassLocations { values, voxels: picks.into_iter().map(|pick| place(all[pick] as usize)).collect() }
}
