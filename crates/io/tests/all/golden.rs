//! Real files against what SimpleITK, nibabel, pynrrd, Pillow and tifffile saw (`expected.json`, made by
//! `goldens/io/make_expected.py`). The files are found by `GALEN_DATA`, default `../shared/data` beside the repository.

use galen_core::{Volume, with_voxels};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

pub fn data() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let folder = PathBuf::from(std::env::var("GALEN_DATA").unwrap_or_else(|_| default.into()));
    if !folder.is_dir() {
        println!("no data at {}: nothing compared", folder.display());
    }
    folder.is_dir().then_some(folder)
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn hash(volume: &Volume) -> String {
    let mut hash = Sha256::new();
    with_voxels!(&volume.voxels, v => {
        let bytes: Vec<u8> = v.iter().flat_map(|x| x.to_le_bytes()).collect();
        hash.update(&bytes);
    });
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn mean(volume: &Volume) -> f64 {
    let sum = |c| volume.channel_f32(c).iter().map(|&v| f64::from(v)).sum::<f64>();
    (0..volume.channels).map(sum).sum::<f64>() / volume.voxels.len() as f64
}

/// What differs from the expectation, in words.
fn differences(volume: &Volume, want: &Value) -> Vec<String> {
    let mut all = Vec::new();
    let mut check = |name: &str, same: bool, found: String| {
        if !same {
            all.push(format!("{name}: found {found}, expected {}", want[name]));
        }
    };
    let g = &volume.geometry;
    let near =
        |a: &[f64], b: &[f64], tolerance: f64| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance);
    let size: Vec<f64> = g.size.iter().map(|&n| n as f64).collect();
    check("size", size == numbers(&want["size"]), format!("{size:?}"));
    check("channels", want["channels"] == volume.channels, volume.channels.to_string());
    check("type", want["type"] == volume.voxels.type_name(), volume.voxels.type_name().into());
    check("flat", want["flat"] == g.flat, g.flat.to_string());
    // A 2D reader knows neither the third coordinate nor the third axis.
    let first = usize::from(g.flat);
    let spacing = &numbers(&want["spacing"])[first..];
    let exact = g.spacing[first..].iter().zip(spacing).all(|(a, b)| (a - b).abs() <= 1e-15 * b.abs() * 4.0);
    check("spacing", exact, format!("{:?}", g.spacing));
    check("origin", near(&g.origin[..3 - first], &numbers(&want["origin"]), 1e-5), format!("{:?}", g.origin));
    let direction = numbers(&want["direction"]);
    let same = (first..3).all(|axis| near(&g.direction[axis][..3 - first], &direction[3 * axis..], 1e-6));
    check("direction", same, format!("{:?}", g.direction));
    let scaling = [want["slope"].as_f64().unwrap_or(1.0), want["intercept"].as_f64().unwrap_or(0.0)];
    check(
        "slope",
        scaling == [volume.slope, volume.intercept],
        format!("{} {}", volume.slope, volume.intercept),
    );
    if let Some(expected) = want["mean"].as_f64() {
        // Decoders of lossy JPEG round and smooth colours in their own ways.
        check("mean", (mean(volume) - expected).abs() < 0.25, mean(volume).to_string());
    } else {
        check("sha256", want["sha256"] == hash(volume), hash(volume));
    }
    all
}

#[test]
fn golden_real_files_are_read_as_others_read_them() {
    let Some(data) = data() else { return };
    let expected: Value = serde_json::from_str(include_str!("../expected.json")).unwrap();
    let mut failures = Vec::new();
    let mut compared = 0;
    for (name, want) in expected["files"].as_object().unwrap() {
        let path = data.join(name);
        if !path.exists() {
            continue;
        }
        compared += 1;
        match (galen_io::read(&path), want["refused"].as_str()) {
            (Ok(volume), None) => {
                failures.extend(differences(&volume, want).iter().map(|what| format!("{name}: {what}")));
                let header = galen_io::read_header(&path).unwrap();
                let same = (header.geometry, header.channels, header.voxel_type)
                    == (volume.geometry.clone(), volume.channels, volume.voxels.type_name());
                if !same {
                    failures.push(format!("{name}: the header says something else than the image"));
                }
            }
            (Err(error), Some(why)) if error.to_string().contains(why) => {}
            (Err(error), None) => failures.push(format!("{error}")),
            (result, Some(why)) => {
                failures.push(format!("{name}: must be refused ({why}): {:?}", result.map(|v| v.geometry)));
            }
        }
    }
    println!("{compared} files compared");
    assert!(compared > 0, "the folder of data holds none of the files");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
