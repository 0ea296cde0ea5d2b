//! Small datasets made for tests, and where real ones and goldens lie.

use galen_core::{Geometry, LabelMap, Scalar, Volume};
use std::fs;
use std::path::{Path, PathBuf};

/// Folder of goldens, when there is one.
pub fn goldens() -> Option<PathBuf> {
    found("GALEN_GOLDENS", "goldens")
}

/// Folder of real data, when there is one.
pub fn real_data() -> Option<PathBuf> {
    found("GALEN_DATA", "data")
}

fn found(variable: &str, name: &str) -> Option<PathBuf> {
    let near = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(name);
    let folder = std::env::var_os(variable).map_or(near, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("{} is not there: nothing to compare with", folder.display());
    None
}

/// An axis-aligned grid of 1 mm.
pub fn grid(size: [usize; 3]) -> Geometry {
    Geometry::axis_aligned(size, [1.0; 3])
}

/// Values that depend on the position and on `seed`, never constant.
pub fn values(size: [usize; 3], seed: usize) -> Vec<i16> {
    (0..size.iter().product()).map(|i| ((i * 31 + seed * 17 + i * i % 7) % 500) as i16 + 1).collect()
}

/// A box of label 1 and one voxel of label 2.
pub fn mask(size: [usize; 3]) -> Vec<u8> {
    let mut mask = vec![0; size.iter().product()];
    let at = |z: usize, y: usize, x: usize| (z * size[1] + y) * size[2] + x;
    for z in size[0] / 4..size[0] / 2 + 1 {
        for y in size[1] / 4..size[1] / 2 + 1 {
            mask[at(z, y, size[2] / 2)] = 1;
        }
    }
    mask[at(size[0] / 2, size[1] / 2, size[2] / 3)] = 2;
    mask
}

/// Writes an image.
pub fn image<T: Scalar>(file: PathBuf, geometry: &Geometry, voxels: Vec<T>) {
    galen_io::write(&file, &Volume::new(geometry.clone(), voxels)).unwrap();
}

/// Writes a complete case with one channel.
pub fn case(root: &Path, id: &str, size: [usize; 3], seed: usize) {
    image(root.join(format!("imagesTr/{id}_0000.nii.gz")), &grid(size), values(size, seed));
    let map = LabelMap::new(grid(size), mask(size));
    galen_io::write_label_map(&root.join(format!("labelsTr/{id}.nii.gz")), &map).unwrap();
}

/// `dataset.json` of nnU-Net with one channel and two labels.
pub fn description(root: &Path, cases: usize) {
    let text = format!(
        "{{\"channel_names\": {{\"0\": \"MRI\"}}, \"labels\": {{\"background\": 0, \"a\": 1, \"b\": 2}}, \
         \"numTraining\": {cases}, \"file_ending\": \".nii.gz\"}}"
    );
    fs::create_dir_all(root).unwrap();
    fs::write(root.join("dataset.json"), text).unwrap();
}

/// A dataset of `sizes.len()` complete cases named `case_0`, `case_1`, ...
pub fn dataset(root: &Path, sizes: &[[usize; 3]]) {
    description(root, sizes.len());
    for (index, &size) in sizes.iter().enumerate() {
        case(root, &format!("case_{index}"), size, index);
    }
}
