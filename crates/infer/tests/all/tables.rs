//! Tile positions and importance maps are those of nnU-Net's own functions.

use galen_infer::{gaussian, tiles};
use npyz::npz::NpzArchive;
use std::path::{Path, PathBuf};

/// Folder of the goldens, when this checkout has them beside it.
fn tables() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens");
    let root = std::env::var_os("GALEN_GOLDENS").map_or(beside, PathBuf::from);
    let folder = root.join("nnunet/tables");
    if !folder.is_dir() {
        println!("no goldens at {}: nothing compared", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn golden_importance_maps() {
    let Some(file) = tables().map(|f| f.join("gaussian_importance_f16.npz")).filter(|f| f.is_file()) else {
        return;
    };
    let mut archive = NpzArchive::open(file).unwrap();
    let names: Vec<String> = archive.array_names().map(str::to_string).collect();
    for name in names {
        let array = archive.by_name(&name).unwrap().unwrap();
        let shape: Vec<usize> = array.shape().iter().map(|&n| n as usize).collect();
        let expected: Vec<half::f16> = array.into_vec().unwrap();
        let patch = match *shape {
            [y, x] => [1, y, x],
            [z, y, x] => [z, y, x],
            _ => panic!("{name}: {shape:?}"),
        };
        let map = gaussian::importance(patch);
        assert_eq!(map.len(), expected.len());
        for (i, (a, b)) in map.iter().zip(&expected).enumerate() {
            assert_eq!(*a, b.to_f32(), "{name}, voxel {i}");
        }
    }
}

#[test]
fn golden_tile_positions() {
    let Some(file) = tables().map(|f| f.join("sliding_window_steps.json")).filter(|f| f.is_file()) else {
        return;
    };
    let text = std::fs::read_to_string(file).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let numbers = |key: &str| -> Vec<usize> { serde_json::from_value(case[key].clone()).unwrap() };
        let expected: Vec<Vec<usize>> = serde_json::from_value(case["steps"].clone()).unwrap();
        let (image, tile, step) = (numbers("image"), numbers("tile"), case["step"].as_f64().unwrap());
        let three = |n: &[usize]| if n.len() == 3 { [n[0], n[1], n[2]] } else { [1, n[0], n[1]] };
        let found = tiles::steps(three(&image), three(&tile), step);
        assert_eq!(found[3 - image.len()..], expected, "{case}");
    }
}
