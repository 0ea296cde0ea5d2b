//! Contrast between tissues: does an image tell two tissues apart, beside its noise?

use crate::measures::{Definition, Measures, define, ratio};
use crate::statistics::{mean, variance};
use galen_core::{Error, Result};

/// What the ids of this file mean; measured when a label map of tissues is given.
pub static DEFINITIONS: &[Definition] = &[
    define(
        "tct/image",
        "|mean of tissue A - mean of tissue B| / sqrt((variance of A + variance of B) / 2), divisors n - 1",
        "0..inf",
        "a tissue of fewer than two voxels: refused; both without spread: infinite",
        "spread inside a tissue is anatomy and noise; the label map decides it",
        "own; tissue contrast as in Duffy et al. 2018",
    ),
    define("tct/reference", "the same in the reference", "0..inf", "as above", "as above", "own"),
    define(
        "cnr/image",
        "|mean of A - mean of B| / standard deviation of the background (value 0 of the label map)",
        "0..inf",
        "no background: undefined",
        "background set to zero by a scanner or mask makes it endless",
        "own",
    ),
    define("cnr/reference", "the same in the reference", "0..inf", "as above", "as above", "own"),
    define(
        "snr/image",
        "mean of A / standard deviation of the background",
        "-inf..inf",
        "no background: undefined",
        "without the factor 0.655 for the Rayleigh noise of air",
        "own",
    ),
    define("snr/reference", "the same in the reference", "-inf..inf", "as above", "as above", "own"),
];

/// Contrast of tissues `[A, B]` of a label map in both images.
pub fn measure(reference: &[f64], image: &[f64], map: &[u16], tissues: [u16; 2]) -> Result<Measures> {
    if map.len() != image.len() {
        let what = format!("{} voxels, the images have {}", map.len(), image.len());
        return Err(Error::input("the label map of tissues", what, "give a map on the grid of the images"));
    }
    let [a, b] = tissues;
    if a == b || a == 0 || b == 0 {
        let what = format!("{a} and {b} are no two tissues");
        return Err(Error::input("tissues", what, "give two values of the label map, neither of them 0"));
    }
    for tissue in tissues {
        let n = map.iter().filter(|v| **v == tissue).count();
        if n < 2 {
            let what = format!("tissue {tissue} has {n} voxels");
            return Err(Error::input("the label map of tissues", what, "choose tissues that are there"));
        }
    }
    let mut m = Measures::default();
    for (name, values) in [("image", image), ("reference", reference)] {
        let of = |tissue: u16| -> Vec<f64> {
            values.iter().zip(map).filter(|(_, t)| **t == tissue).map(|(v, _)| *v).collect()
        };
        let (first, second, air) = (of(a), of(b), of(0));
        let difference = (mean(&first) - mean(&second)).abs();
        let noise = variance(&air).sqrt();
        m.put(format!("tct/{name}"), difference / ((variance(&first) + variance(&second)) / 2.0).sqrt());
        let over = |part: f64| if air.len() < 2 { f64::NAN } else { ratio(part, noise) };
        m.put(format!("cnr/{name}"), over(difference));
        m.put(format!("snr/{name}"), over(mean(&first)));
    }
    Ok(m)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tissues_by_hand() {
        let map = [1, 1, 2, 2, 0, 0];
        let image = [1.0, 3.0, 7.0, 9.0, 0.0, 2.0];
        let m = measure(&image, &image, &map, [1, 2]).unwrap();
        // Means 2 and 8, variances 2 and 2, background variance 2.
        assert!((m.number("tct/image") - 6.0 / 2f64.sqrt()).abs() < 1e-15);
        assert!((m.number("cnr/reference") - 6.0 / 2f64.sqrt()).abs() < 1e-15);
        assert!((m.number("snr/image") - 2.0 / 2f64.sqrt()).abs() < 1e-15);
        let says = |tissues| measure(&image, &image, &map, tissues).unwrap_err().to_string();
        assert!(says([1, 3]).contains("tissue 3 has 0 voxels") && says([1, 1]).contains("no two tissues"));
        assert!(measure(&image, &image, &map[..4], [1, 2]).is_err());
    }
}
