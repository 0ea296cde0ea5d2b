//! Each transform with explicit parameters against the reference implementation.

use super::*;
use npyz::npz::NpzArchive;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

/// A golden file, or `None` (with a line) where there is none.
fn golden(name: &str) -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/goldens");
    let root = std::env::var_os("GALEN_GOLDENS").map_or_else(|| PathBuf::from(default), PathBuf::from);
    let file = root.join("nnunet").join(name);
    let found = file.is_file();
    if !found {
        println!("no {}: skipped", file.display());
    }
    found.then_some(file)
}

struct Archive(NpzArchive<BufReader<File>>);

struct Array<T> {
    shape: Vec<usize>,
    values: Vec<T>,
}

impl Archive {
    fn get<T: npyz::Deserialize>(&mut self, name: &str) -> Option<Array<T>> {
        let file = self.0.by_name(name).expect("readable archive")?;
        let shape = file.shape().iter().map(|&n| n as usize).collect();
        Some(Array { shape, values: file.into_vec().unwrap_or_else(|e| panic!("{name}: {e}")) })
    }

    fn need<T: npyz::Deserialize>(&mut self, name: &str) -> Array<T> {
        self.get(name).unwrap_or_else(|| panic!("{name} is missing"))
    }
}

fn three(shape: &[usize]) -> [usize; 3] {
    match *shape {
        [y, x] => [1, y, x],
        [z, y, x] => [z, y, x],
        _ => panic!("{shape:?}"),
    }
}

fn near(name: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{name}");
    let (low, high) = statistics::range(want);
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("{name}: largest difference {:.1e} of the range", worst / (high - low));
    assert!(worst <= 1e-5 * (high - low), "{name}: {worst}");
}

fn same_labels(name: &str, got: &[i16], want: &[i8]) {
    assert_eq!(got.len(), want.len(), "{name}");
    let differ = got.iter().zip(want).filter(|(a, b)| **a != i16::from(**b)).count();
    assert_eq!(differ, 0, "{name}: {differ} of {} labels differ", want.len());
}

fn affine_of(values: &[f64]) -> Affine {
    match *values {
        [a, b, c, d] => [[1.0, 0.0, 0.0], [0.0, a, b], [0.0, c, d]],
        _ => std::array::from_fn(|i| std::array::from_fn(|j| values[3 * i + j])),
    }
}

struct Case {
    archive: Archive,
    name: &'static str,
    image: Vec<f32>,
    labels: Vec<i16>,
    size: [usize; 3],
    channels: usize,
}

impl Case {
    fn open(name: &'static str) -> Option<Self> {
        let path = golden("augmentation/transforms.npz")?;
        let mut archive = Archive(NpzArchive::open(path).expect("an archive"));
        let image = archive.need::<f32>(&format!("{name}_image"));
        let labels = archive.need::<i8>(&format!("{name}_seg"));
        let labels = labels.values.iter().map(|&v| v.into()).collect();
        Some(Self {
            archive,
            name,
            size: three(&image.shape[1..]),
            channels: image.shape[0],
            image: image.values,
            labels,
        })
    }

    /// Runs `change` on the first channel for each `kind0`, `kind1`, ... with its parameters.
    fn each(&mut self, kind: &str, parameter: &str, change: impl Fn(&mut [f32], [usize; 3], &[f64])) {
        let voxels: usize = self.size.iter().product();
        for i in 0.. {
            let key = format!("{}_{kind}{i}", self.name);
            let Some(values) = self.archive.get::<f64>(&format!("{key}_{parameter}")) else {
                assert!(i > 0, "{key} is missing");
                break;
            };
            let mut channel = self.image[..voxels].to_vec();
            change(&mut channel, self.size, &values.values);
            near(&key, &channel, &self.archive.need::<f32>(&key).values);
        }
    }

    fn spatial(&mut self) {
        let patch: Vec<usize> = self
            .archive
            .need::<i64>(&format!("{}_patch", self.name))
            .values
            .iter()
            .map(|&n| n as usize)
            .collect();
        let patch = three(&patch);
        for i in 0.. {
            let key = format!("{}_spatial{i}", self.name);
            let Some(matrix) = self.archive.get::<f64>(&format!("{key}_affine")) else {
                assert!(i > 0, "{key} is missing");
                break;
            };
            let plain = self.archive.need::<bool>(&format!("{key}_is_crop_only")).values[0];
            let affine = (!plain).then(|| affine_of(&matrix.values));
            let out = self.transform(patch, affine.as_ref());
            near(&key, &out.image, &self.archive.need::<f32>(&format!("{key}_image")).values);
            same_labels(&key, &out.labels, &self.archive.need::<i8>(&format!("{key}_seg")).values);
        }
    }

    fn transform(&self, patch: [usize; 3], affine: Option<&Affine>) -> Sample {
        let region = region(self.size, patch, affine);
        let cut = |c: usize| cut(&self.image, self.size, c, region);
        let part = Sample {
            channels: self.channels,
            size: region.size,
            image: (0..self.channels).flat_map(cut).collect(),
            labels: super::golden::cut(&self.labels, self.size, 0, region),
            previous: None,
        };
        transform(&part, region, self.size, patch, affine, self.name == "2d")
    }

    fn deep_supervision(&mut self) {
        let scales = self.archive.need::<f64>(&format!("{}_ds_scales", self.name));
        let axes = scales.shape[1];
        for (i, scale) in scales.values.chunks_exact(axes).enumerate() {
            let scale = if axes == 2 { [1.0, scale[0], scale[1]] } else { [scale[0], scale[1], scale[2]] };
            let key = format!("{}_ds{i}", self.name);
            let want = self.archive.need::<i8>(&key);
            let (got, size) = downsample(&self.labels, self.size, scale);
            assert_eq!(size, three(&want.shape[1..]), "{key}");
            same_labels(&key, &got, &want.values);
        }
    }
}

fn cut<T: Copy>(values: &[T], size: [usize; 3], channel: usize, region: Region) -> Vec<T> {
    let mut out = Vec::new();
    for z in 0..region.size[0] {
        for y in 0..region.size[1] {
            let row = (channel * size[0] + z + region.lower[0]) * size[1] + y + region.lower[1];
            let start = row * size[2] + region.lower[2];
            out.extend_from_slice(&values[start..start + region.size[2]]);
        }
    }
    out
}

#[test]
fn golden_transforms_agree() {
    for name in ["3d", "2d"] {
        let Some(mut case) = Case::open(name) else { return };
        let first = usize::from(name == "2d");
        case.spatial();
        case.deep_supervision();
        case.each("contrast", "factor", |channel, _, p| contrast(channel, p[0] as f32));
        case.each("lowres", "scale", move |channel, size, p| {
            low_resolution(channel, size, [if first == 1 { 1.0 } else { p[0] }, p[0], p[0]]);
        });
        case.each("gamma", "gamma_invert", |channel, _, p| gamma(channel, p[0] as f32, p[1] > 0.5));
        let sigmas = case.archive.need::<f64>(&format!("{name}_blur_sigmas")).values;
        let mut sigma = [1.0; 3];
        sigma[first..].copy_from_slice(&sigmas);
        let voxels: usize = case.size.iter().product();
        let mut channel = case.image[..voxels].to_vec();
        gaussian_blur(&mut channel, case.size, sigma, first);
        near(&format!("{name}_blur"), &channel, &case.archive.need::<f32>(&format!("{name}_blur")).values);
    }
}

#[test]
fn golden_binary_operators_agree() {
    let Some(mut case) = Case::open("3d") else { return };
    let mask = case.archive.need::<bool>("binop_in");
    let names: Vec<String> = case.archive.0.array_names().map(str::to_owned).collect();
    let mut seen = 0;
    for key in names.iter().filter(|n| n.starts_with("binop_") && *n != "binop_in") {
        let (kind, radius) = key["binop_".len()..].rsplit_once('_').expect("binop_KIND_RADIUS");
        let operator = match kind {
            "dilation" => Operator::Dilation,
            "erosion" => Operator::Erosion,
            "closing" => Operator::Closing,
            _ => Operator::Opening,
        };
        let got = binary_operator(
            operator,
            &mask.values,
            three(&mask.shape),
            radius.parse().expect("a radius"),
            false,
        );
        let want = case.archive.need::<bool>(key).values;
        assert_eq!(got.iter().zip(&want).filter(|(a, b)| a != b).count(), 0, "{key}");
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn golden_initial_patch_sizes_agree() {
    let Some(file) = golden("tables/initial_patch_size.json") else { return };
    let text = std::fs::read_to_string(file).expect("the table");
    let table: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
    for row in table {
        let list = |key: &str| -> Vec<usize> { serde_json::from_value(row[key].clone()).expect("a list") };
        let dummy = row["dummy_2d"].as_bool().expect("a flag");
        let patch = list("patch");
        let angle = row["rotation_deg"].as_f64().expect("an angle").to_radians();
        assert_eq!(initial_patch(&patch, angle, dummy), list("initial_patch"), "{patch:?}");
        let recipe = Recipe::for_plan(&patch, &[], &[]);
        assert_eq!(recipe.dummy_2d, dummy, "{patch:?}");
        // The table also asks for small angles that no plan of that shape would get.
        if (recipe.rotation - angle).abs() < 1e-9 {
            assert_eq!(recipe.initial, three(&list("initial_patch")), "{patch:?}");
        }
    }
}
