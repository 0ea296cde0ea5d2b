//! Where the goldens lie and how their arrays are read.
use galen_core::{Architecture, NetworkClass};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Folder of a group of goldens, or `None` (with a line) when there are none on this machine.
pub fn folder(group: &str) -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens");
    let root = std::env::var_os("GALEN_GOLDENS").map_or(default, PathBuf::from);
    let folder = root.join(group);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("no goldens at {}: skipped", folder.display());
    None
}

/// Subfolders in order.
pub fn cases(folder: &Path) -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    cases
}

pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// One array of an npz file as `f32`, with its shape.
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// All arrays of an npz file whose element type is a float, an integer of one byte, or a bool.
pub fn npz(path: &Path) -> Vec<(String, Array)> {
    let mut archive = npyz::npz::NpzArchive::open(path).unwrap();
    let names: Vec<String> = archive.array_names().map(str::to_owned).collect();
    let mut arrays = Vec::new();
    for name in names {
        let file = archive.by_name(&name).unwrap().unwrap();
        let shape = file.shape().iter().map(|&length| length as usize).collect();
        let values = match file.dtype().descr().as_str() {
            "'<f4'" => file.into_vec::<f32>().unwrap(),
            "'<f8'" => file.into_vec::<f64>().unwrap().into_iter().map(|x| x as f32).collect(),
            "'|i1'" => file.into_vec::<i8>().unwrap().into_iter().map(f32::from).collect(),
            "'|b1'" => file.into_vec::<bool>().unwrap().into_iter().map(|x| f32::from(u8::from(x))).collect(),
            other => panic!("{name}: element type {other}"),
        };
        arrays.push((name, Array { shape, values }));
    }
    arrays
}

/// An architecture out of the keyword arguments of the reference's classes.
pub fn architecture(class: &str, arguments: &Value) -> Architecture {
    let class = match class.rsplit('.').next().unwrap() {
        "PlainConvUNet" => NetworkClass::PlainConvUNet,
        "ResidualEncoderUNet" => NetworkClass::ResidualEncoderUNet,
        other => panic!("class {other}"),
    };
    let list = |key: &str| -> Vec<usize> { serde_json::from_value(arguments[key].clone()).unwrap() };
    let lists = |key: &str| -> Vec<Vec<usize>> { serde_json::from_value(arguments[key].clone()).unwrap() };
    let depth = if class == NetworkClass::PlainConvUNet { "n_conv_per_stage" } else { "n_blocks_per_stage" };
    Architecture {
        class,
        features: list("features_per_stage"),
        kernels: lists("kernel_sizes"),
        strides: lists("strides"),
        encoder_depth: list(depth),
        decoder_depth: list("n_conv_per_stage_decoder"),
        bias: true,
        norm_eps: 1e-5,
        norm_affine: true,
        leak: 0.01,
    }
}

/// Largest difference of two slices of one length.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).fold(0.0, f64::max)
}
