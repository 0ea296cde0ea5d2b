//! Model folders that nnU-Net wrote give nnU-Net's predictions.

use galen_core::{LabelMap, Volume};
use galen_infer::{Options, Prediction, Predictor};
use galen_models::Bundle;
use npyz::npz::NpzArchive;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Model folders of the goldens, when this checkout has them beside it.
fn models() -> Vec<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens");
    let root = std::env::var_os("GALEN_GOLDENS").map_or(beside, PathBuf::from);
    let Ok(entries) = std::fs::read_dir(root.join("nnunet/models")) else {
        println!("no goldens in {}: nothing compared", root.display());
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("expected/info.json").is_file());
    assert!(!folders.is_empty(), "the folder of golden models holds none");
    folders.sort();
    folders
}

/// One model folder with its input and what nnU-Net made of it.
struct Golden {
    folder: PathBuf,
    info: Value,
    image: Volume,
    previous: Option<LabelMap>,
}

impl Golden {
    fn open(folder: PathBuf) -> Self {
        let text = std::fs::read_to_string(folder.join("expected/info.json")).unwrap();
        let entries = std::fs::read_dir(folder.join("input")).unwrap();
        let mut inputs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        inputs.sort();
        let (previous, images): (Vec<_>, Vec<_>) =
            inputs.into_iter().partition(|path| name(path).starts_with("prev_stage"));
        let channels = images.iter().map(|path| galen_io::read(path).unwrap()).collect();
        let previous = previous.first().map(|path| labels(path));
        let image = Volume::stack(channels).unwrap();
        Self { folder, info: serde_json::from_str(&text).unwrap(), image, previous }
    }

    fn predictor(&self, compat_f16: bool) -> Predictor {
        let bundle = Bundle::open(&self.folder).unwrap();
        let folds: Vec<String> = serde_json::from_value(self.info["folds"].clone()).unwrap();
        let mirror = self.info["mirroring"].as_bool().unwrap();
        let step = self.info["tile_step_size"].as_f64().unwrap();
        Predictor::new(&bundle, &folds, Options { mirror, step, compat_f16, ..Options::default() }).unwrap()
    }

    fn predict(&self, predictor: &Predictor, probabilities: bool) -> Prediction {
        predictor.predict_stage(&self.image, self.previous.as_ref(), probabilities, &|_, _| ()).unwrap()
    }

    fn expected(&self, file: &str) -> Option<PathBuf> {
        Some(self.folder.join("expected").join(file)).filter(|path| path.is_file())
    }

    fn segmentation(&self) -> LabelMap {
        let entries = std::fs::read_dir(self.folder.join("expected")).unwrap();
        let mut files = entries.map(|entry| entry.unwrap().path());
        labels(&files.find(|path| name(path).starts_with("segmentation")).unwrap())
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn labels(path: &Path) -> LabelMap {
    galen_io::read_label_map(path).unwrap()
}

/// Shape and values of an array of half or single precision.
fn array(path: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let mut archive = NpzArchive::open(path).unwrap();
    let array = archive.by_name(name).unwrap().unwrap();
    let shape = array.shape().iter().map(|&n| n as usize).collect();
    let values = match array.dtype().descr().as_str() {
        "'<f4'" => array.into_vec().unwrap(),
        _ => array.into_vec::<half::f16>().unwrap().into_iter().map(half::f16::to_f32).collect(),
    };
    (shape, values)
}

/// Differences of many values.
#[derive(Default)]
struct Differences {
    largest: f32,
    /// Beyond what is allowed for nearly all.
    beyond: usize,
    values: usize,
}

impl Differences {
    fn add(&mut self, difference: f32, allowed: f32) {
        self.largest = self.largest.max(difference);
        self.beyond += usize::from(difference > allowed);
        self.values += 1;
    }

    /// At the border of the image only a tile's corner reaches a voxel, with an importance near the smallest
    /// float16: there one rounded addition more or less moves nnU-Net's own sum by 1 %. So one value in
    /// five thousand may lie beyond the bound, and none far beyond.
    fn fine(&self) -> bool {
        self.beyond * 5000 <= self.values && self.largest <= 8e-3
    }
}

impl std::fmt::Display for Differences {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1e} ({} of {} beyond the bound)", self.largest, self.beyond, self.values)
    }
}

/// Differences on every second voxel per axis, beyond `ulps` units in the last place of float16: sums over
/// tiles are rounded after each tile.
fn differences(
    values: &[f32],
    size: [usize; 3],
    expected: &(Vec<usize>, Vec<f32>),
    ulps: f32,
    allowed: f32,
) -> Differences {
    let [nz, ny, nx] = size;
    let channels = values.len() / (nz * ny * nx);
    let half = size.map(|n| n.div_ceil(2));
    assert_eq!(expected.0, [&[channels], &half[..]].concat());
    let mut found = Differences::default();
    for (i, b) in expected.1.iter().enumerate() {
        let (c, z, y, x) = (
            i / (half[0] * half[1] * half[2]),
            i / (half[1] * half[2]) % half[0],
            i / half[2] % half[1],
            i % half[2],
        );
        let a = values[((c * nz + 2 * z) * ny + 2 * y) * nx + 2 * x];
        found.add(((a - b).abs() - ulps * b.abs() * f32::powi(2.0, -10)).max(0.0), allowed);
    }
    found
}

#[test]
fn golden_models_predict_as_nnunet_does() {
    for folder in models() {
        let golden = Golden::open(folder);
        let name = name(&golden.folder);
        let predictor = golden.predictor(true);
        let (prepared, undo) = predictor.prepare(&golden.image, golden.previous.as_ref()).unwrap();
        let logits = predictor.logits(&prepared, &|_, _| ()).unwrap();
        let (mut input, mut network) = (Differences::default(), Differences::default());
        if let Some(file) = golden.expected("network_space.npz") {
            let stored = array(&file, "preprocessed_f32_stride2");
            input = differences(&prepared.image, prepared.size, &stored, 0.0, 1e-4);
            let stored = array(&file, "logits_f16_stride2");
            network = differences(&logits.values, logits.size, &stored, 2.0, 1e-3);
        }
        let prediction = predictor.export(&logits, &undo, true).unwrap();
        let probabilities = prediction.probabilities.unwrap();
        let mut probability = Differences::default();
        if let Some(file) = golden.expected("probabilities_f16.npz") {
            let (shape, expected) = array(&file, "probabilities");
            assert_eq!(shape, [&[probabilities.classes], &probabilities.size[..]].concat(), "{name}");
            let pairs = probabilities.values.iter().zip(&expected);
            pairs.for_each(|(a, b)| probability.add((a - b).abs(), 2e-3));
        }
        let expected = golden.segmentation();
        assert_eq!(expected.geometry.differs(&prediction.labels.geometry), None, "{name}");
        let (found, wanted) = (prediction.labels.values(), expected.values());
        let differing = found.iter().zip(&wanted).filter(|(a, b)| a != b).count();
        println!(
            "{name}: input within {input}, logits within {network}, probabilities within {probability}, \
             {differing} of {} labels differ",
            wanted.len()
        );
        assert!(input.largest <= 1e-4 && network.fine() && probability.fine(), "{name}");
        assert!(differing * 10_000 <= wanted.len(), "{name}: {differing} labels differ");
        // Plane by plane while the window moves on: the same bytes as from all logits at once.
        let direct = golden.predict(&predictor, false).labels.values();
        let at_once = predictor.export(&logits, &undo, false).unwrap().labels.values();
        let differing = direct.iter().zip(&at_once).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "{name}: plane by plane and at once");
        let differing = direct.iter().zip(&wanted).filter(|(a, b)| a != b).count();
        assert!(
            differing * 10_000 <= wanted.len(),
            "{name}: {differing} labels differ without probabilities"
        );
    }
}

#[test]
fn golden_models_in_single_precision_give_nearly_the_same_labels() {
    for folder in models() {
        let golden = Golden::open(folder);
        let found = golden.predict(&golden.predictor(false), false).labels.values();
        let wanted = golden.segmentation().values();
        let differing = found.iter().zip(&wanted).filter(|(a, b)| a != b).count();
        println!("{}: {differing} of {} labels differ", name(&golden.folder), wanted.len());
        // Near ties only, of which networks with random weights have many: nnU-Net's float16 sums lose digits where
        // the importance is small.
        assert!(differing * 200 <= wanted.len(), "{}: {differing} labels differ", golden.folder.display());
    }
}
