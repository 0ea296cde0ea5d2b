//! A stored case of PyTorch (`goldens/kernel_ops.py` makes them), and tensors between its layout and the kernels'.

use galen_kernels::{Grid, padded};
use serde_json::Value;

/// One operation with inputs, output and gradients.
pub struct Case(Value);

/// A tensor as PyTorch lays it out.
#[derive(Clone)]
pub struct Stored {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// The cases of an operation; panics when there are none.
pub fn cases(operation: &str) -> Vec<Case> {
    let all: Value = serde_json::from_str(include_str!("torch_ops.json")).expect("stored cases");
    let found = all["cases"][operation].as_array().expect("the operation has cases");
    assert!(!found.is_empty(), "{operation}");
    found.iter().cloned().map(Case).collect()
}

fn stored(value: &Value) -> Stored {
    let shape =
        value["shape"].as_array().expect("shape").iter().map(|n| n.as_u64().expect("length") as usize);
    let values =
        value["values"].as_array().expect("values").iter().map(|n| n.as_f64().expect("number") as f32);
    Stored { shape: shape.collect(), values: values.collect() }
}

impl Case {
    /// An attribute.
    pub fn attribute(&self, name: &str) -> &Value {
        &self.0["attributes"][name]
    }

    /// Three numbers, `(z, y, x)`.
    pub fn triple(&self, name: &str) -> [usize; 3] {
        std::array::from_fn(|a| self.attribute(name)[a].as_u64().expect("three numbers") as usize)
    }

    /// A number.
    pub fn number(&self, name: &str) -> f64 {
        self.attribute(name).as_f64().expect("a number")
    }

    pub fn input(&self, name: &str) -> Stored {
        stored(&self.0["inputs"][name])
    }

    /// The gradient given to the output.
    pub fn grad(&self) -> Stored {
        stored(&self.0["grad"])
    }

    /// Compares an output in PyTorch's layout.
    pub fn check_output(&self, found: &[f32]) {
        compare(&format!("output of {}", self.0["attributes"]), found, &stored(&self.0["output"]).values);
    }

    /// Compares the gradient of an input in PyTorch's layout.
    pub fn check_gradient(&self, name: &str, found: &[f32]) {
        let good = stored(&self.0["gradients"][name]);
        compare(&format!("gradient of {name} of {}", self.0["attributes"]), found, &good.values);
    }
}

fn compare(what: &str, found: &[f32], good: &[f32]) {
    assert_eq!(found.len(), good.len(), "{what}");
    for (i, (found, good)) in found.iter().zip(good).enumerate() {
        assert!(
            (found - good).abs() <= 2e-5 * good.abs().max(1.0),
            "{what} at {i}: found {found}, expected {good}"
        );
    }
}

impl Stored {
    /// Grid of `[n, c, z, y, x]`.
    pub fn grid(&self) -> Grid {
        Grid { n: self.shape[0], size: [self.shape[2], self.shape[3], self.shape[4]] }
    }

    /// Channels of `[n, c, ...]`.
    pub fn channels(&self) -> usize {
        self.shape[1]
    }

    /// `[n, c, voxels]` to `[n, voxels, padded(c)]`.
    pub fn channels_last(&self) -> Vec<f32> {
        let (n, c) = (self.shape[0], self.shape[1]);
        let (voxels, width) = (self.values.len() / n / c, padded(c));
        let mut out = vec![0.0; n * voxels * width];
        for (i, &value) in self.values.iter().enumerate() {
            out[(i / voxels / c * voxels + i % voxels) * width + i / voxels % c] = value;
        }
        out
    }

    /// `[rows, c]`, the last axis being channels, to `[rows, padded(c)]`.
    pub fn rows(&self) -> Vec<f32> {
        let c = *self.shape.last().expect("an axis");
        self.values.chunks(c).flat_map(|row| row.iter().copied().chain((c..padded(c)).map(|_| 0.0))).collect()
    }
}

/// `[n, voxels, padded(c)]` to `[n, c, voxels]`.
pub fn planes(values: &[f32], n: usize, channels: usize) -> Vec<f32> {
    let (width, voxels) = (padded(channels), values.len() / n / padded(channels));
    (0..n * channels * voxels)
        .map(|i| values[(i / voxels / channels * voxels + i % voxels) * width + i / voxels % channels])
        .collect()
}

/// `[rows, padded(c)]` to `[rows, c]`.
pub fn bare(values: &[f32], channels: usize) -> Vec<f32> {
    values.chunks(padded(channels)).flat_map(|row| row[..channels].to_vec()).collect()
}
