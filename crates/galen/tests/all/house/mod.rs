//! A folder with a tiny model and scans, and the binary to run in it.

use galen_core::{Architecture, Geometry, LabelMap, LabelValue, Labels, NetworkClass, Volume};
use galen_models::{Bundle, BundleContent, Network, Provenance};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A temporary folder.
pub struct House {
    folder: tempfile::TempDir,
}

impl House {
    /// Nothing in it.
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// `model`: an untrained 3D network for one channel and three classes.
    pub fn with_model() -> Self {
        let house = Self::empty();
        let labels = Labels::new(
            vec![
                ("background".into(), LabelValue::One(0)),
                ("a".into(), LabelValue::One(1)),
                ("b".into(), LabelValue::One(2)),
            ],
            None,
        )
        .unwrap();
        let architecture = Architecture {
            class: NetworkClass::PlainConvUNet,
            features: vec![4, 8],
            kernels: vec![vec![3; 3]; 2],
            strides: vec![vec![1; 3], vec![2; 3]],
            encoder_depth: vec![1, 1],
            decoder_depth: vec![1],
            bias: true,
            norm_eps: 1e-5,
            norm_affine: true,
            leak: 0.01,
        };
        let plans = serde_json::from_str(include_str!("tiny_plans.json")).unwrap();
        let content = BundleContent {
            plans_json: &plans,
            configuration: "3d_fullres",
            labels: &labels,
            channel_names: &["CT".to_owned()],
            file_ending: ".nii.gz",
            mirror_axes: &[0, 1, 2],
            provenance: &Provenance::default(),
        };
        let model = house.path().join("model");
        Bundle::write(&model, &content).unwrap();
        let weights = Network::new(&architecture, 1, 3).unwrap().initial_weights(1);
        Bundle::write_fold(&model, "0", &weights, &serde_json::json!({})).unwrap();
        house
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the binary here.
    pub fn galen(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_galen")).args(arguments).current_dir(self.path()).output().unwrap()
    }

    fn place(&self, name: &str) -> PathBuf {
        let file = self.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        file
    }

    /// A small CT-like scan.
    pub fn scan(&self, name: &str) -> PathBuf {
        let file = self.place(name);
        let values = (0..10 * 12 * 14).map(|i| ((i * 37) % 401) as i16 - 200).collect();
        galen_io::write(&file, &Volume::new(grid([10, 12, 14]), values)).unwrap();
        file
    }

    /// A scan with a voxel that is not a number.
    pub fn nan(&self, name: &str) {
        let mut values = vec![1f32; 10 * 12 * 14];
        values[77] = f32::NAN;
        galen_io::write(&self.place(name), &Volume::new(grid([10, 12, 14]), values)).unwrap();
    }

    /// A 2D image.
    pub fn flat(&self, name: &str) {
        let mut geometry = grid([1, 12, 14]);
        geometry.flat = true;
        let labels = LabelMap::new(geometry, vec![7; 12 * 14]);
        galen_io::write_label_map(&self.place(name), &labels).unwrap();
    }

    /// A label map with one block of label 1.
    pub fn labels(&self, name: &str, size: [usize; 3]) {
        let values = (0..size.iter().product()).map(|i| u8::from(i % 5 == 0)).collect();
        galen_io::write_label_map(&self.place(name), &LabelMap::new(grid(size), values)).unwrap();
    }

    /// A label map that repeats some values.
    pub fn label_values(&self, name: &str, size: [usize; 3], values: &[u8]) {
        let voxels = (0..size.iter().product()).map(|i| values[i % values.len()]).collect();
        galen_io::write_label_map(&self.place(name), &LabelMap::new(grid(size), voxels)).unwrap();
    }

    /// A `.npy` array whose value at each place is a function of its number in C order.
    pub fn array(&self, name: &str, shape: &[u64], value: &dyn Fn(usize) -> f64) {
        use npyz::WriterBuilder;
        let mut bytes = Vec::new();
        let options = npyz::WriteOptions::new().default_dtype().shape(shape);
        let mut writer = options.writer(&mut bytes).begin_nd().unwrap();
        writer.extend((0..shape.iter().product::<u64>() as usize).map(value)).unwrap();
        writer.finish().unwrap();
        fs::write(self.place(name), bytes).unwrap();
    }

    /// An nnU-Net results folder whose checkpoint would run a command if its pickle were trusted.
    pub fn hostile_checkpoint(&self, name: &str) {
        let folder = self.path().join(name);
        fs::create_dir_all(folder.join("fold_0")).unwrap();
        fs::write(folder.join("plans.json"), include_str!("tiny_plans.json")).unwrap();
        let dataset = r#"{"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}, "numTraining": 1, "file_ending": ".nii.gz"}"#;
        fs::write(folder.join("dataset.json"), dataset).unwrap();
        let mut zip =
            zip::ZipWriter::new(fs::File::create(folder.join("fold_0/checkpoint_final.pth")).unwrap());
        let stored =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file("archive/data.pkl", stored).unwrap();
        std::io::Write::write_all(&mut zip, b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.").unwrap();
        zip.finish().unwrap();
    }
}

fn grid(size: [usize; 3]) -> Geometry {
    Geometry::axis_aligned(size, [2.0, 1.0, 1.0])
}

/// All files under a folder, sorted, relative.
pub fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        // A run killed early has not made its folder yet.
        let Ok(entries) = fs::read_dir(&next) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

impl House {
    /// A raw dataset of six small scans with a bright block (label 1) and a brighter one in it (label 2).
    pub fn dataset(&self, name: &str) {
        for case in 0..6usize {
            let size = [18 + case % 2, 20, 22];
            let mut image = vec![0i16; size.iter().product()];
            let mut labels = vec![0u8; image.len()];
            for (i, (voxel, label)) in image.iter_mut().zip(&mut labels).enumerate() {
                let at = [i / (size[1] * size[2]), i / size[2] % size[1], i % size[2]];
                let inside = |low: usize, high: usize| {
                    at.iter().all(|&p| (low + case % 3..high + case % 3).contains(&p))
                };
                *label = u8::from(inside(4, 12)) + u8::from(inside(6, 9));
                let noise = (i * 7919 + case * 104_729) % 41;
                *voxel = [0, 100, 200][usize::from(*label)] + noise as i16;
            }
            let image_file = self.place(&format!("{name}/imagesTr/case_{case}_0000.nii.gz"));
            galen_io::write(&image_file, &Volume::new(grid(size), image)).unwrap();
            let label_file = self.place(&format!("{name}/labelsTr/case_{case}.nii.gz"));
            galen_io::write_label_map(&label_file, &LabelMap::new(grid(size), labels)).unwrap();
        }
        let json = r#"{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "block": 1, "core": 2},
            "numTraining": 6, "file_ending": ".nii.gz"}"#;
        fs::write(self.place(&format!("{name}/dataset.json")), json).unwrap();
    }

    /// Starts the binary here and kills it after some milliseconds, as a power cut would; true when it had not ended.
    pub fn kill(&self, arguments: &[&str], milliseconds: u64) -> bool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_galen"));
        command.args(arguments).current_dir(self.path());
        let mut child =
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        let running = child.try_wait().unwrap().is_none();
        child.kill().ok();
        child.wait().unwrap();
        running
    }
}
