//! A synthetic CT of the abdomen with its truth, to try the whole workflow without any data.
//!
//! Scans are about 96 mm wide, a third of an adult: the voxels have the size of a real CT, and there are few
//! enough of them to train on in minutes. Nobody should draw conclusions about patients from it.

mod anatomy;
mod draws;

use anatomy::{Anatomy, Tissue};
use draws::Draws;
use galen_core::{Error, Geometry, LabelMap, LabelValue, Labels, Result, Volume};
use rayon::prelude::*;
use serde_json::json;
use std::path::Path;

/// Half the field of view that the anatomy is drawn for, in millimetres.
const HALF_FIELD: f64 = 48.0;
/// Standard deviation of the noise, in Hounsfield units.
const NOISE: f64 = 13.0;

/// Names and values of the phantom's labels.
pub fn labels() -> Labels {
    let entries = [
        ("background", anatomy::BACKGROUND),
        ("liver", anatomy::LIVER),
        ("spleen", anatomy::SPLEEN),
        ("kidneys", anatomy::KIDNEYS),
        ("lesion", anatomy::LESION),
    ];
    let entries = entries.map(|(name, value)| (name.to_owned(), LabelValue::One(value.into())));
    Labels { entries: entries.to_vec(), regions_class_order: None }
}

/// Name of a case's files, without ending. Test cases are numbered after the training cases.
pub fn case_name(index: usize) -> String {
    format!("phantom_{index:03}")
}

/// One scan (int16, Hounsfield units) and its truth; the same for the same `seed` and `index`.
pub fn case(seed: u64, index: usize) -> (Volume, LabelMap) {
    let mut draws = Draws::new(seed, index as u64);
    let geometry = draw_grid(&mut draws);
    let anatomy = Anatomy::draw(&mut draws);
    let centre = geometry.size.map(|n| (n as f64 - 1.0) / 2.0);
    let at = |index: [f64; 3]| -> Tissue {
        let point = |axis: usize| (index[axis] - centre[axis]) * geometry.spacing[axis] / HALF_FIELD;
        anatomy.tissue([point(0), point(1), point(2)])
    };
    let [depth, height, width] = geometry.size;
    let mut image = Vec::with_capacity(geometry.voxels());
    let mut truth = Vec::with_capacity(geometry.voxels());
    for z in 0..depth {
        for y in 0..height {
            for x in 0..width {
                let voxel = [z as f64, y as f64, x as f64];
                truth.push(at(voxel).label);
                image.push(partial_volume(&at, voxel));
            }
        }
    }
    // The same blur for anatomy and noise: a reconstruction kernel smooths both.
    add_noise(&mut image, &mut draws);
    blur_in_plane(&mut image, geometry.size);
    let stored = image.iter().map(|&value| value.round().clamp(-1024.0, 3071.0) as i16).collect();
    (Volume::new::<i16>(geometry.clone(), stored), LabelMap::new(geometry, truth))
}

/// Size and spacing vary a little, as scanners and protocols do.
fn draw_grid(draws: &mut Draws) -> Geometry {
    let plane = draws.between(1.4, 1.6);
    let spacing = [draws.between(2.8, 3.2), plane, plane].map(|mm| (mm * 1000.0).round() / 1000.0);
    let size = [(2.0 * HALF_FIELD / spacing[0]) as usize, 64, 64];
    let mut geometry = Geometry::axis_aligned(size, spacing);
    geometry.origin = [-48.0, -48.0, (draws.between(-400.0, 0.0) * 10.0).round() / 10.0];
    geometry
}

/// Mean over 2 × 2 × 2 points of a voxel, so that borders have values in between.
fn partial_volume(at: &impl Fn([f64; 3]) -> Tissue, [z, y, x]: [f64; 3]) -> f64 {
    let mut sum = 0.0;
    for corner in 0..8 {
        let offset = |bit: usize| if corner >> bit & 1 == 1 { 0.25 } else { -0.25 };
        sum += at([z + offset(2), y + offset(1), x + offset(0)]).hounsfield;
    }
    sum / 8.0
}

fn add_noise(image: &mut [f64], draws: &mut Draws) {
    // The blur in two axes leaves the sum of its squared weights.
    let sigma = NOISE / (WEIGHTS[0].powi(2) * 2.0 + WEIGHTS[1].powi(2));
    for value in image.iter_mut() {
        *value += sigma * draws.normal();
    }
}

/// Of the neighbour, and of the voxel itself.
const WEIGHTS: [f64; 2] = [0.15, 0.70];

fn blur_in_plane(image: &mut [f64], [_, height, width]: [usize; 3]) {
    let mix = |before: f64, here: f64, after: f64| WEIGHTS[0] * (before + after) + WEIGHTS[1] * here;
    for plane in image.chunks_exact_mut(height * width) {
        let source = plane.to_vec();
        for (row, from) in plane.chunks_exact_mut(width).zip(source.chunks_exact(width)) {
            for x in 0..width {
                row[x] = mix(from[x.saturating_sub(1)], from[x], from[(x + 1).min(width - 1)]);
            }
        }
        let source = plane.to_vec();
        for y in 0..height {
            let (before, after) = (y.saturating_sub(1) * width, (y + 1).min(height - 1) * width);
            for x in 0..width {
                plane[y * width + x] = mix(source[before + x], source[y * width + x], source[after + x]);
            }
        }
    }
}

/// Writes `training` + `test` cases as a dataset of the Medical Segmentation Decathlon: `dataset.json`,
/// `imagesTr`, `labelsTr`, `imagesTs`; and `labelsTs`, the truth that challenges keep to themselves.
pub fn write_dataset(folder: &Path, training: usize, test: usize, seed: u64) -> Result<()> {
    for part in ["imagesTr", "labelsTr", "imagesTs", "labelsTs"] {
        let part = folder.join(part);
        std::fs::create_dir_all(&part).map_err(|error| Error::system(part.display(), &error))?;
    }
    (0..training + test).into_par_iter().try_for_each(|index| {
        let (image, truth) = case(seed, index);
        let (images, labels) =
            if index < training { ("imagesTr", "labelsTr") } else { ("imagesTs", "labelsTs") };
        let file = format!("{}.nii.gz", case_name(index));
        galen_io::write(&folder.join(images).join(&file), &image)?;
        galen_io::write_label_map(&folder.join(labels).join(&file), &truth)
    })?;
    // Last, so that a folder with a dataset.json is whole.
    let file = folder.join("dataset.json");
    let text = serde_json::to_string_pretty(&description(training, test, seed));
    let text = text.map_err(|error| Error::bug(file.display(), error))?;
    galen_io::replace_file(&file, text.as_bytes())
}

/// `dataset.json` as the Decathlon writes it.
fn description(training: usize, test: usize, seed: u64) -> serde_json::Value {
    let names: serde_json::Map<String, serde_json::Value> =
        labels().entries.iter().map(|(name, value)| (value.values()[0].to_string(), json!(name))).collect();
    let file = |index: usize| format!("{}.nii.gz", case_name(index));
    let pair = |index| {
        let file = file(index);
        json!({"image": format!("./imagesTr/{file}"), "label": format!("./labelsTr/{file}")})
    };
    json!({
        "name": "Phantom",
        "description": "Synthetic CT of the abdomen: liver, spleen, kidneys and a liver lesion. Not from patients.",
        "reference": format!("galen quickstart, seed {seed}"),
        "licence": "CC0",
        "release": "1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "CT"},
        "labels": names,
        "numTraining": training,
        "numTest": test,
        "training": (0..training).map(pair).collect::<Vec<_>>(),
        "test": (training..training + test).map(|index| format!("./imagesTs/{}", file(index))).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_depends_on_seed_and_index_only() {
        let first = case(7, 3);
        assert_eq!(first, case(7, 3));
        assert_ne!(first.0, case(7, 4).0);
        assert_ne!(first.0, case(8, 3).0);
    }

    #[test]
    fn every_case_shows_every_label_at_a_plausible_size() {
        (0..6).into_par_iter().for_each(|index| {
            let (image, truth) = case(1, index);
            let counts = truth.histogram();
            let values: Vec<u16> = counts.iter().map(|&(value, _)| value).collect();
            assert_eq!(values, [0, 1, 2, 3, 4], "case {index}");
            assert_eq!(image.geometry, truth.geometry);
            let share = |value: usize| counts[value].1 as f64 / truth.geometry.voxels() as f64;
            assert!((0.03..0.12).contains(&share(1)), "case {index}: liver {}", share(1));
            assert!((0.0002..0.02).contains(&share(4)), "case {index}: lesion {}", share(4));
        });
    }

    #[test]
    fn organs_have_the_hounsfield_units_of_portal_venous_ct() {
        let (image, truth) = case(1, 0);
        let (values, labels) = (image.channel_f32(0), truth.values());
        let mean = |label: u16| {
            let inside =
                || values.iter().zip(&labels).filter(move |&(_, &l)| l == label).map(|(&v, _)| f64::from(v));
            inside().sum::<f64>() / inside().count() as f64
        };
        let [liver, spleen, kidneys, lesion] = [1, 2, 3, 4].map(mean);
        assert!(
            lesion + 20.0 < liver && liver < spleen && spleen < kidneys,
            "{lesion} {liver} {spleen} {kidneys}"
        );
        assert_eq!(image.voxels.type_name(), "int16");
    }

    #[test]
    fn the_dataset_is_in_decathlon_layout() {
        let folder = tempfile::tempdir().unwrap();
        write_dataset(folder.path(), 2, 1, 5).unwrap();
        let text = std::fs::read_to_string(folder.path().join("dataset.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["training"][1]["label"], "./labelsTr/phantom_001.nii.gz");
        assert_eq!((&json["numTest"], &json["labels"]["4"]), (&json!(1), &json!("lesion")));
        for file in
            ["imagesTr/phantom_000", "labelsTr/phantom_001", "imagesTs/phantom_002", "labelsTs/phantom_002"]
        {
            assert!(folder.path().join(format!("{file}.nii.gz")).metadata().unwrap().len() > 100, "{file}");
        }
    }
}
