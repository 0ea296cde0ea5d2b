//! Resampling as nnunetv2 2.8.1, scikit-image 0.26 and torch do it: images, logits, label maps.
//! Every file found under `GALEN_GOLDENS` is run; without the folder the tests say so and pass.

use crate::goldens::{files, goldens, npz, npz_keys, npz_shape};
use galen_prep::resample::{Change, LogitSlabs, Method, TieRule, Whole, image_f64, thick_axis};
use serde_json::json;
use std::io::Read;
use std::path::Path;

#[test]
fn golden_resampling_agrees() {
    let Some(root) = goldens("nnunet/resampling") else { return };
    let compared: usize = files(&root, "npz").iter().map(|file| Case::open(file).compare()).sum();
    println!("{compared} arrays agree");
    assert!(compared > 0);
}

/// One in/out file.
struct Case<'a> {
    file: &'a Path,
    change: Change,
    thick: Option<usize>,
    input: Vec<f64>,
    seg: Vec<i16>,
}

impl<'a> Case<'a> {
    fn open(file: &'a Path) -> Self {
        let three = |v: Vec<f64>| [v[0], v[1], v[2]];
        let shape = npz_shape(file, "input_f64");
        let to: Vec<i64> = npz(file, "new_shape");
        let change = Change {
            from: [shape[1], shape[2], shape[3]],
            to: [0, 1, 2].map(|axis| to[axis] as usize),
            current: three(npz(file, "current_spacing")),
            new: three(npz(file, "new_spacing")),
        };
        let axis: Vec<i64> = npz(file, "axis");
        let seg: Vec<i8> = npz(file, "seg");
        let seg = seg.into_iter().map(i16::from).collect();
        Self { file, change, thick: usize::try_from(axis[0]).ok(), input: npz(file, "input_f64"), seg }
    }

    fn voxels(&self) -> usize {
        self.change.from.iter().product()
    }

    fn range(&self) -> f64 {
        let [low, high] = self.input.iter().fold([f64::MAX, f64::MIN], |[l, h], &v| [l.min(v), h.max(v)]);
        high - low
    }

    fn near(&self, key: &str, ours: impl IntoIterator<Item = f64>, theirs: Vec<f64>, tolerance: f64) {
        let ours: Vec<f64> = ours.into_iter().collect();
        assert_eq!(ours.len(), theirs.len(), "{}, {key}", self.file.display());
        let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let range = self.range().max(1e-3);
        assert!(worst <= tolerance * range, "{}, {key}: off by {worst} of {range}", self.file.display());
    }

    fn same(&self, key: &str, ours: &[i16]) {
        let theirs: Vec<i8> = npz(self.file, key);
        assert_eq!(ours.len(), theirs.len(), "{}, {key}", self.file.display());
        let different = ours.iter().zip(&theirs).filter(|(a, b)| **a != i16::from(**b)).count();
        assert_eq!(different, 0, "{}, {key}: of {} labels", self.file.display(), ours.len());
    }

    fn compare(&self) -> usize {
        let c = &self.change;
        assert_eq!(thick_axis(None, c.current, c.new), self.thick, "{}", self.file.display());
        let keys = npz_keys(self.file);
        keys.iter().filter(|key| self.compare_array(key)).count()
    }

    fn compare_array(&self, key: &str) -> bool {
        let spline = |order: u8, order_z: u8| {
            let arguments = json!({ "order": order, "order_z": order_z, "force_separate_z": null });
            Method::parse("resample_data_or_seg_to_shape", &arguments).unwrap()
        };
        let torch = |separate: bool| {
            let arguments = json!({ "force_separate_z": if separate { json!(null) } else { json!(false) } });
            Method::parse("resample_torch_fornnunet", &arguments).unwrap()
        };
        match key {
            "default_data_order3_f64" => self.double(key, 3, self.thick),
            "default_probs_order1_f64" => self.double(key, 1, self.thick),
            "skimage_resize_order0_ch0_f64" => self.first_channel(key, 0),
            "skimage_resize_order1_ch0_f64" => self.first_channel(key, 1),
            "skimage_resize_order3_ch0_f64" => self.first_channel(key, 3),
            "default_data_order3_f32" => self.single(key, spline(3, 0)),
            "torch_data_f32" => self.single(key, torch(false)),
            "torch_data_sepz_f32" => self.single(key, torch(true)),
            "default_probs_order1_f16" => self.half(key, spline(1, 0)),
            "default_seg_order1_f32" => self.labels(key, spline(1, 0)),
            "seg_order1_orderz1" => self.labels(key, spline(1, 1)),
            "torch_seg" => self.labels(key, torch(false)),
            "torch_seg_sepz" => self.labels(key, torch(true)),
            _ => return false,
        }
        true
    }

    fn double(&self, key: &str, order: u8, thick: Option<usize>) {
        let Change { from, to, .. } = self.change;
        let channels = self.input.chunks(self.voxels());
        let ours: Vec<f64> = channels.flat_map(|c| image_f64(c, from, to, order, thick)).collect();
        self.near(key, ours, npz(self.file, key), 1e-10);
    }

    fn first_channel(&self, key: &str, order: u8) {
        let Change { from, to, .. } = self.change;
        self.near(
            key,
            image_f64(&self.input[..self.voxels()], from, to, order, None),
            npz(self.file, key),
            1e-10,
        );
    }

    fn single(&self, key: &str, method: Method) {
        let input: Vec<f32> = self.input.iter().map(|&v| v as f32).collect();
        let ours = input.chunks(self.voxels()).flat_map(|c| method.image(c, &self.change)).map(f64::from);
        let theirs: Vec<f32> = npz(self.file, key);
        self.near(key, ours, theirs.into_iter().map(f64::from).collect(), 1e-5);
    }

    /// Float16 logits in, float16 out: all but a hundredth of the values to the bit, the rest a unit apart.
    fn half(&self, key: &str, method: Method) {
        let input = self.input.iter().map(|&v| half(v)).collect::<Vec<f32>>();
        let classes = input.len() / self.voxels();
        let slabs = LogitSlabs::new(classes, method, &self.change, true).unwrap();
        let source = Whole { size: self.change.from, values: &input };
        let mut ours = Vec::new();
        for class in 0..classes {
            slabs.planes(&source, class, 0..slabs.size()[0], |_, plane| ours.extend_from_slice(plane));
        }
        let theirs = npz_half(self.file, key);
        let equal = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
        assert!(
            equal * 100 >= theirs.len() * 99,
            "{}, {key}: {equal} of {}",
            self.file.display(),
            theirs.len()
        );
        self.near(key, ours.into_iter().map(f64::from), theirs.into_iter().map(f64::from).collect(), 2e-3);
    }

    fn labels(&self, key: &str, method: Method) {
        let channels = self.seg.chunks(self.voxels());
        let ours: Vec<i16> =
            channels.flat_map(|c| method.labels(c, &self.change, TieRule::Largest)).collect();
        self.same(key, &ours);
    }
}

/// A double stored as float16 and read back (normal numbers only, as in the goldens).
fn half(value: f64) -> f32 {
    let exponent = value.abs().log2().floor().max(-14.0);
    let quantum = (exponent - 10.0).exp2();
    ((value / quantum).round_ties_even() * quantum) as f32
}

fn npz_half(file: &Path, key: &str) -> Vec<f32> {
    let mut archive = npyz::npz::NpzArchive::open(file).unwrap();
    let mut entry = archive.zip_archive().by_name(&format!("{key}.npy")).unwrap();
    npyz::NpyHeader::from_reader(&mut entry).unwrap();
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).unwrap();
    let value = |bits: u16| {
        let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
        let lead = if exponent == 0 { 0.0 } else { 1024.0 };
        (sign * (lead + fraction) * f64::from(exponent.max(1) - 25).exp2()) as f32
    };
    bytes.chunks_exact(2).map(|b| value(u16::from_le_bytes([b[0], b[1]]))).collect()
}
