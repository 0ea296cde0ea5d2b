//! What every format of the list must keep: being in the list is joining.

use galen_core::{Geometry, LabelMap, Scalar, Volume, Voxels};
use galen_io::{FORMATS, read, read_header, read_label_map, write, write_label_map};
use std::path::{Path, PathBuf};

/// A grid turned about all axes, left-handed, far from the origin.
fn oblique(size: [usize; 3]) -> Geometry {
    let (c, s) = (0.3f64.cos(), 0.3f64.sin());
    let (p, q) = (1.1f64.cos(), 1.1f64.sin());
    let [x, y, z] = [[c, s, 0.0], [-s * p, c * p, q], [s * q, -c * q, p]];
    let direction = [z.map(|v| -v), y, x];
    Geometry { size, spacing: [2.5, 0.8, 0.75], origin: [-123.25, 45.5, 987.0], direction, flat: false }
}

fn volume<T: Scalar>(geometry: &Geometry, channels: usize, value: impl Fn(usize) -> T) -> Volume {
    let voxels = T::wrap((0..geometry.voxels() * channels).map(value).collect());
    Volume { geometry: geometry.clone(), channels, voxels, slope: 1.0, intercept: 0.0 }
}

/// One image per voxel type, with the extreme values of each.
fn images(geometry: &Geometry, channels: usize) -> Vec<Volume> {
    let low = |i: usize| i.is_multiple_of(3);
    vec![
        volume(geometry, channels, |i| (i * 37) as u8),
        volume(geometry, channels, |i| (i * 37) as i8),
        volume(geometry, channels, |i| (i * 3701) as u16),
        volume(geometry, channels, |i| if low(i) { i16::MIN } else { (i * 3701) as i16 }),
        volume(geometry, channels, |i| if low(i) { u32::MAX } else { i as u32 * 70_001 }),
        volume(geometry, channels, |i| if low(i) { i32::MIN } else { i as i32 }),
        volume(geometry, channels, |i| if low(i) { u64::MAX } else { i as u64 }),
        volume(geometry, channels, |i| if low(i) { i64::MIN } else { -(i as i64) }),
        volume(geometry, channels, |i| if low(i) { f32::MIN_POSITIVE } else { i as f32 * -0.1 }),
        volume(geometry, channels, |i| if low(i) { f64::MAX } else { i as f64 * 0.1 }),
    ]
}

/// Paths in a fresh folder, one per ending that is written.
fn targets(folder: &Path) -> Vec<PathBuf> {
    let endings = FORMATS.iter().filter(|f| f.write.is_some()).flat_map(|f| f.endings);
    endings.map(|ending| folder.join(format!("image{ending}"))).collect()
}

fn has_geometry(path: &Path) -> bool {
    ![".png", ".tif", ".tiff"].iter().any(|ending| path.to_string_lossy().ends_with(ending))
}

#[test]
fn write_then_read_is_equal_for_every_format_and_type() {
    let folder = tempfile::tempdir().unwrap();
    for path in targets(folder.path()) {
        let mut written = 0;
        for (size, channels) in [([3, 4, 5], 1), ([3, 4, 5], 2), ([1, 6, 7], 1), ([1, 6, 7], 3)] {
            let mut geometry = oblique(size);
            if size[0] == 1 && channels == 1 || !has_geometry(&path) {
                geometry = Geometry { flat: size[0] == 1, ..Geometry::axis_aligned(size, [1.0, 0.5, 0.5]) };
            }
            for image in images(&geometry, channels) {
                // A format may refuse a type, but what it takes it must give back.
                let Ok(()) = write(&path, &image) else { continue };
                written += 1;
                let again = read(&path).unwrap();
                assert_eq!((again.channels, &again.voxels), (channels, &image.voxels), "{}", path.display());
                let header = read_header(&path).unwrap();
                assert_eq!((&header.geometry, header.channels), (&again.geometry, channels));
                assert_eq!(header.voxel_type, image.voxels.type_name());
                assert_eq!(again.geometry.flat, geometry.flat);
                if has_geometry(&path) {
                    assert_eq!(again.geometry.differs(&geometry), None, "{}", path.display());
                }
            }
        }
        assert!(
            written >= if path.extension().unwrap() == "png" { 4 } else { 20 },
            "{} {written}",
            path.display()
        );
    }
}

#[test]
fn label_maps_keep_values_and_grid() {
    let folder = tempfile::tempdir().unwrap();
    let geometry = oblique([3, 4, 5]);
    for path in targets(folder.path()).iter().filter(|path| !path.ends_with("image.png")) {
        for most in [200u16, 60_000] {
            let values = (0..60).map(|i| i * (most / 60)).collect();
            let labels = LabelMap::from_u16(geometry.clone(), values);
            write_label_map(path, &labels).unwrap();
            let again = read_label_map(path).unwrap();
            assert_eq!(again.voxels, labels.voxels);
            assert!(!has_geometry(path) || again.geometry.differs(&geometry).is_none());
        }
    }
}

#[test]
fn slope_and_intercept_survive_or_become_float() {
    let folder = tempfile::tempdir().unwrap();
    let mut image = volume(&oblique([2, 3, 4]), 1, |i| i as i16 - 5);
    (image.slope, image.intercept) = (0.5, -1024.0);
    for ending in [".nii", ".nii.gz", ".nrrd", ".mha", ".tif"] {
        let path = folder.path().join(format!("scaled{ending}"));
        write(&path, &image).unwrap();
        let again = read(&path).unwrap();
        assert_eq!(again.channel_f32(0), image.channel_f32(0), "{ending}");
        assert_eq!(matches!(again.voxels, Voxels::I16(_)), ending.starts_with(".nii"));
    }
}

#[test]
fn formats_are_known_by_content_and_none_claims_anothers() {
    let folder = tempfile::tempdir().unwrap();
    let image =
        volume(&Geometry { flat: true, ..Geometry::axis_aligned([1, 6, 7], [1.0; 3]) }, 1, |i| i as u8);
    for path in targets(folder.path()) {
        write(&path, &image).unwrap();
        let other = folder.path().join("name_that_says_nothing");
        std::fs::rename(&path, &other).unwrap();
        assert_eq!(read(&other).unwrap().voxels, image.voxels, "{}", path.display());
        if !path.to_string_lossy().ends_with(".gz") {
            let start = std::fs::read(&other).unwrap();
            let start = &start[..start.len().min(1024)];
            assert_eq!(
                FORMATS.iter().filter(|format| (format.sniff)(start)).count(),
                1,
                "{}",
                path.display()
            );
        }
    }
}

#[test]
fn what_cannot_be_written_or_read_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let image = volume(&oblique([2, 3, 4]), 1, |i| i as u8);
    let error = write(&folder.path().join("a.docx"), &image).unwrap_err().to_string();
    assert!(error.contains("names no format") && error.contains(".nii.gz"), "{error}");
    assert!(write(&folder.path().join("a.png"), &image).unwrap_err().to_string().contains("one plane"));
    let colours = folder.path().join("colours.nii.gz");
    write(&colours, &volume(&oblique([2, 3, 4]), 3, |i| i as u8)).unwrap();
    assert!(read_label_map(&colours).unwrap_err().to_string().contains("3 channels"));
    let fractions = folder.path().join("fractions.nii.gz");
    write(&fractions, &volume(&oblique([2, 3, 4]), 1, |i| i as f32 / 2.0)).unwrap();
    assert!(read_label_map(&fractions).unwrap_err().to_string().contains("0.5"));
    let missing = read(&folder.path().join("missing.nii.gz")).unwrap_err().to_string();
    assert!(missing.contains("missing.nii.gz") && missing.contains("check the path"), "{missing}");
    assert!(!std::fs::read_dir(folder.path()).unwrap().any(|f| f.unwrap().file_name() == "a.docx"));
}
