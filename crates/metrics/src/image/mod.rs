//! An image against its reference: errors, signal to noise, structural similarity.

mod information;
pub mod ssim;
pub mod tissue;

use crate::measures::{Definition, Measures, define, ratio};
use crate::statistics::correlation::pearson;
use galen_core::{Error, Result};

/// Definitions of the ids of `--kind image`.
pub static DEFINITIONS: &[&[Definition]] =
    &[ERRORS, information::DEFINITIONS, ssim::DEFINITIONS, tissue::DEFINITIONS];

static ERRORS: &[Definition] = &[
    define(
        "mae",
        "mean of |image - reference|",
        "0..inf",
        "-",
        "in the unit of the image: state it",
        "sklearn mean_absolute_error",
    ),
    define(
        "mse",
        "mean of (image - reference)^2",
        "0..inf",
        "-",
        "in squared units; outliers rule it",
        "skimage mean_squared_error",
    ),
    define(
        "nmse",
        "sum of (image - reference)^2 / sum of reference^2",
        "0..inf",
        "reference all zero: undefined",
        "over the volume, not the mean of slices",
        "fastMRI evaluate",
    ),
    define(
        "nrmse/euclidean",
        "square root of nmse",
        "0..inf",
        "reference all zero: undefined",
        "three norms are in use",
        "skimage normalized_root_mse",
    ),
    define(
        "psnr",
        "10 log10(data range^2 / mse)",
        "-inf..inf dB",
        "equal images: infinite",
        "the data range decides it: give that of the unit, not of the pair",
        "skimage peak_signal_noise_ratio",
    ),
    define(
        "ncc",
        "correlation of the voxel values",
        "-1..1",
        "one image constant: undefined",
        "blind to scale and offset",
        "numpy corrcoef",
    ),
];

/// Two images on one grid, `[z, y, x]`, and the range of values that their unit allows.
#[derive(Debug, Clone)]
pub struct Images {
    /// Voxels `(z, y, x)`; z = 1 is a 2D image.
    pub size: [usize; 3],
    /// Reference.
    pub reference: Vec<f64>,
    /// Image under test.
    pub image: Vec<f64>,
    /// Largest minus smallest possible value.
    pub range: f64,
}

impl Images {
    /// Checks sizes, values and range.
    pub fn new(size: [usize; 3], reference: Vec<f64>, image: Vec<f64>, range: f64) -> Result<Self> {
        if reference.len() != image.len()
            || reference.len() != size.iter().product::<usize>()
            || reference.is_empty()
        {
            let what = format!("{} and {} voxels", reference.len(), image.len());
            return Err(Error::input("reference and image", what, "give two images of the same size"));
        }
        if !(range > 0.0 && range.is_finite()) {
            return Err(Error::input(
                "--data-range",
                format!("{range} is no range of values"),
                "give a positive number, e.g. 255 or 1",
            ));
        }
        if reference.iter().chain(&image).any(|v| !v.is_finite()) {
            return Err(Error::input(
                "reference and image",
                "hold values that are not finite",
                "replace or mask them",
            ));
        }
        Ok(Self { size, reference, image, range })
    }

    /// Every number of the family; windows larger than the image are an error.
    pub fn measure(&self) -> Result<Measures> {
        let n = self.reference.len() as f64;
        let pairs = || self.reference.iter().zip(&self.image);
        let squares: f64 = pairs().map(|(r, i)| (r - i) * (r - i)).sum();
        let (mse, energy) = (squares / n, self.reference.iter().map(|r| r * r).sum::<f64>());
        let mut m = Measures::default();
        m.put("mae", pairs().map(|(r, i)| (r - i).abs()).sum::<f64>() / n);
        m.put("mse", mse);
        m.put("nmse", ratio(squares, energy));
        m.put("nrmse/euclidean", ratio(squares, energy).sqrt());
        m.put("psnr", 10.0 * (self.range * self.range / mse).log10());
        m.put("ncc", pearson(&self.reference, &self.image));
        information::measure(self, &mut m);
        ssim::measure(self, &mut m)?;
        Ok(m)
    }
}
