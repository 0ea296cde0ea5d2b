//! Every DICOM file of the test data against what pydicom and SimpleITK saw (`goldens/dicom.py`, `dicom_series.py`).

use super::golden::data;
use galen_core::{Scalar, Volume, with_voxels};
use galen_io::dicom::{Study, read_pixels};
use galen_io::read;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::Path;

fn short_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// What is wrong with Galen's pixels of a file, given its line.
fn wrong(folder: &Path, fields: &[&str]) -> Option<String> {
    let &[name, reference, shape, kind, hash, allowed, samples] = fields else {
        return Some("not seven fields".into());
    };
    let found = match (read_pixels(&folder.join(name)), reference) {
        (Ok(None), "") => return None,
        (Err(error), "") => {
            let line = error.to_string();
            return (line.contains('\n') || !line.contains(". Try: ")).then_some(line);
        }
        (Ok(Some(_)), "") => return Some("is decoded, though the reference refuses it".into()),
        (Ok(Some(found)), _) => found,
        (Ok(None), _) => return Some("has no pixels".into()),
        (Err(error), _) => return Some(error.to_string()),
    };
    if found.shape.map(|n| n.to_string()).join(" ") != shape {
        return Some(format!("shape {:?} is not {shape}", found.shape));
    }
    if samples.is_empty() {
        let bytes: Vec<u8> =
            with_voxels!(&found.values, v => v.iter().flat_map(|x| x.to_le_bytes()).collect());
        let same = found.values.type_name() == kind && short_hash(&bytes) == hash;
        return (!same)
            .then(|| format!("{} {} is not {kind} {hash}", found.values.type_name(), short_hash(&bytes)));
    }
    let values: Vec<f64> =
        with_voxels!(&found.values, v => v.iter().map(|&x| f64::from(x.as_f64() as f32)).collect());
    let expected: Vec<f64> = samples.split(' ').map(|value| value.parse().unwrap()).collect();
    let step = (values.len() / 200).max(1);
    let gap = values.iter().step_by(step).zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let allowed: f64 = allowed.parse().unwrap();
    (gap > allowed || allowed > 3.0).then(|| format!("differs by {gap}, allowed {allowed}"))
}

#[test]
fn golden_dicom_pixels_are_those_of_pydicom() {
    let Some(data) = data() else { return };
    let lines = include_str!("../dicom_expected.tsv").lines().filter(|line| !line.starts_with('#'));
    let (mut seen, mut failures) = (0, Vec::new());
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        seen += 1;
        if let Some(what) = wrong(&data.join("dicom"), &fields) {
            failures.push(format!("{}: {what}", fields[0]));
        }
    }
    println!("{seen} files compared");
    assert!(failures.is_empty(), "{} of {seen}:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn golden_dicom_series_are_those_of_simpleitk() {
    let Some(data) = data() else { return };
    let expected: Value = serde_json::from_str(include_str!("../dicom_series.json")).unwrap();
    let numbers =
        |value: &Value| value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
    for (name, want) in expected["series"].as_object().unwrap() {
        let volume = read(&data.join("dicom").join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let g = &volume.geometry;
        let near = |a: &[f64], b: Vec<f64>| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert_eq!(g.size.map(|n| n as f64).to_vec(), numbers(&want["size"]), "{name}");
        assert!(near(&g.spacing, numbers(&want["spacing"])), "{name}: {:?} {}", g.spacing, want["spacing"]);
        assert!(near(&g.origin, numbers(&want["origin"])), "{name}: {:?} {}", g.origin, want["origin"]);
        for axis in 0..3 {
            assert!(near(&g.direction[axis], numbers(&want["direction"][axis])), "{name}: {:?}", g.direction);
        }
        let bytes: Vec<u8> = volume.channel_f32(0).iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(want["sha256"], short_hash(&bytes), "{name}");
    }
}

/// Value of a volume at a world position, when a voxel's centre is there.
fn at(volume: &Volume, values: &[f32], world: [f64; 3]) -> Option<f32> {
    let g = &volume.geometry;
    let mut index = [0; 3];
    for axis in 0..3 {
        let along: f64 = (0..3).map(|i| g.direction[axis][i] * (world[i] - g.origin[i])).sum();
        let place = along / g.spacing[axis];
        if (place - place.round()).abs() > 0.02
            || place.round() < 0.0
            || place.round() as usize >= g.size[axis]
        {
            return None;
        }
        index[axis] = place.round() as usize;
    }
    Some(values[(index[0] * g.size[1] + index[1]) * g.size[2] + index[2]])
}

#[test]
fn golden_series_with_time_become_the_volumes_that_dicom2nifti_made() {
    let Some(data) = data() else { return };
    let folder = data.join("dicom/dicom2nifti");
    for (name, channels) in
        [("ge/fmri/001", 2), ("ge/dti/002", 4), ("philips/fmri/001", 4), ("hitachi/anatomical/001", 1)]
    {
        let ours = read(&folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let theirs = read(&folder.join(format!("{name}_ground_truth.nii.gz"))).unwrap();
        assert_eq!((ours.channels, theirs.channels), (channels, channels), "{name}");
        assert_eq!(ours.geometry.voxels(), theirs.geometry.voxels(), "{name}");
        for channel in 0..channels {
            let (a, b) = (ours.channel_f32(channel), theirs.channel_f32(channel));
            let [planes, rows, columns] = ours.geometry.size;
            for k in 0..planes * rows * columns {
                let index = [k / (rows * columns), k / columns % rows, k % columns].map(|n| n as f64);
                assert_eq!(
                    at(&theirs, &b, ours.geometry.world(index)),
                    Some(a[k]),
                    "{name}, channel {channel}, voxel {index:?}"
                );
            }
        }
    }
}

#[test]
fn golden_series_that_are_no_volume_say_why() {
    let Some(data) = data() else { return };
    let folder = data.join("dicom");
    let failing = [
        ("dicom2nifti/failing/gantrytilting", "tilted"),
        ("dicom2nifti/failing/sliceorientation", "different pixel spacings"),
        ("rt_utils/mock_data/rt.dcm", "contours"),
        ("dcmqi/sr-example/sr.dcm", "structured report"),
    ];
    for (name, word) in failing {
        let error = read(&folder.join(name)).unwrap_err().to_string();
        assert!(error.contains(word), "{name}: {error}");
    }
    let study = Study::open(&folder.join("pydicom/dicomdirtests/DICOMDIR"), &|_, _| {}).unwrap();
    assert!(study.series.len() > 5 && study.others == 0, "{}", study.series.len());
    // The whole collection: nothing panics, every series has a verdict.
    let all = Study::open(&folder, &|_, _| {}).unwrap();
    assert!(all.volumes().count() > 20 && all.series.len() > 100);
}
