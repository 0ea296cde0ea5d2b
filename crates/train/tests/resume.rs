//! A run that is stopped and resumed, or computed by another number of threads, gives the same bytes.

use galen_core::{Architecture, Kind, LabelValue, Labels, NetworkClass, Result};
use galen_prep::ClassLocations;
use galen_train::{Budget, Cases, EpochReport, Options, Outcome, Precision, Setup, Silent, Watch, train};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const SIZE: [usize; 3] = [20, 18, 22];

/// Bright balls, one class, at places that differ from case to case.
struct Balls {
    locations: Vec<Arc<Vec<ClassLocations>>>,
}

fn inside(case: usize, [z, y, x]: [isize; 3]) -> bool {
    let centre = [8 + case as isize, 9, 12 - case as isize];
    [z, y, x].iter().zip(centre).map(|(p, c)| (p - c) * (p - c)).sum::<isize>() <= 25
}

impl Balls {
    fn new(cases: usize) -> Self {
        let of = |case: usize| {
            let mut voxels = Vec::new();
            for index in 0..SIZE.iter().product() {
                let at = [index / (SIZE[1] * SIZE[2]), index / SIZE[2] % SIZE[1], index % SIZE[2]];
                if inside(case, at.map(|v| v as isize)) {
                    voxels.push(at.map(|v| v as u32));
                }
            }
            Arc::new(vec![ClassLocations { values: vec![1], voxels }])
        };
        Self { locations: (0..cases).map(of).collect() }
    }
}

impl Cases for Balls {
    fn channels(&self) -> usize {
        1
    }
    fn size(&self, _: usize) -> [usize; 3] {
        SIZE
    }
    fn locations(&self, case: usize) -> Result<Arc<Vec<ClassLocations>>> {
        Ok(self.locations[case].clone())
    }
    fn crop(
        &self,
        case: usize,
        lower: [isize; 3],
        size: [usize; 3],
        image: &mut [f32],
        labels: &mut [i16],
    ) -> Result<()> {
        for (index, (value, label)) in image.iter_mut().zip(labels).enumerate() {
            let step = [index / (size[1] * size[2]), index / size[2] % size[1], index % size[2]];
            let at: [isize; 3] = std::array::from_fn(|axis| lower[axis] + step[axis] as isize);
            let there = at.iter().zip(SIZE).all(|(&p, n)| (0..n as isize).contains(&p));
            let ball = there && inside(case, at);
            let texture = ((at[0] * 7 + at[1] * 3 + at[2] * 5).rem_euclid(11)) as f32 / 11.0 - 0.5;
            *value = if there { texture + 2.0 * f32::from(u8::from(ball)) } else { 0.0 };
            *label = if there { i16::from(ball) } else { -1 };
        }
        Ok(())
    }
}

fn labels() -> Labels {
    Labels::new(vec![("background".into(), LabelValue::One(0)), ("ball".into(), LabelValue::One(1))], None)
        .unwrap()
}

fn plans() -> Value {
    let network = json!({"arch_kwargs": {"features_per_stage": [4, 8]}});
    json!({"plans_name": "tiny", "configurations": {"3d_fullres": {"batch_size": 2, "architecture": network}}})
}

fn setup<'a>(cases: &'a Balls, labels: &'a Labels) -> Setup<'a> {
    Setup {
        cases,
        training: vec![0, 1, 2],
        validation: vec![3],
        case_names: [vec!["a".into(), "b".into(), "c".into()], vec!["d".into()]],
        dataset: "Dataset001_Balls".into(),
        channel_names: vec!["image".into()],
        file_ending: ".nii.gz".into(),
        labels,
        plans: plans(),
        configuration: "3d_fullres".into(),
        architecture: Architecture {
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
        },
        patch: vec![12, 12, 12],
        batch_size: 2,
        batch_dice: false,
        use_mask_for_norm: vec![false],
        label_resampling: "largest score".into(),
    }
}

fn options(out: &Path, iterations: usize, resume: bool) -> Options {
    let budget = Budget::Iterations(iterations);
    Options {
        fold: "0".into(),
        budget,
        seed: 7,
        precision: Precision::F32,
        resume,
        out: out.to_owned(),
        command: vec!["test".into()],
        pretrained: None,
    }
}

fn run(out: &Path, iterations: usize, resume: bool, watch: &mut dyn Watch) -> Result<Outcome> {
    run_in(Precision::F32, out, iterations, resume, watch)
}

fn run_in(
    precision: Precision,
    out: &Path,
    iterations: usize,
    resume: bool,
    watch: &mut dyn Watch,
) -> Result<Outcome> {
    let (cases, labels) = (Balls::new(4), labels());
    let options = Options { precision, ..options(out, iterations, resume) };
    train(&setup(&cases, &labels), &options, watch)
}

/// Stops when asked for the n-th time, which is before the n-th batch.
struct StopAt {
    asked: usize,
    at: usize,
}

impl Watch for StopAt {
    fn should_stop(&mut self) -> bool {
        self.asked += 1;
        self.asked > self.at
    }
}

/// Every file that must not depend on how the run went, by relative path.
fn bytes(fold: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![fold.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(fold).unwrap().display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if !["run.json", "metrics.jsonl"].contains(&name.as_str()) {
                files.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    files
}

fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (bytes(&a.join("fold_0")), bytes(&b.join("fold_0")));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, content) in &a {
        assert!(*content == b[name], "{name} differs");
    }
    assert!(a.contains_key("weights.safetensors") && a.contains_key("weights_best.safetensors"));
}

#[test]
fn a_resumed_run_gives_the_bytes_of_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let (straight, stopped) = (folder.path().join("straight"), folder.path().join("stopped"));
    let outcome = run(&straight, 12, false, &mut Silent).unwrap();
    assert_eq!((outcome.iterations, outcome.first_iteration), (12, 0));
    // Two epochs of six training batches and one of validation: stopped after 3 iterations, then 3 later
    // and before validation, then right after the epoch.
    for (at, resume) in [(3, false), (0, true), (3, true), (1, true)] {
        let error = run(&stopped, 12, resume, &mut StopAt { asked: 0, at }).unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted, "{error}");
    }
    let outcome = run(&stopped, 999, true, &mut Silent).unwrap();
    assert_eq!((outcome.iterations, outcome.first_iteration), (12, 6));
    assert_same(&straight, &stopped);
    let lines = |out: &Path| std::fs::read_to_string(out.join("fold_0/metrics.jsonl")).unwrap();
    let numbers = |out: &Path| -> Vec<galen_train::Epoch> {
        lines(out).lines().map(|line| serde_json::from_str::<EpochReport>(line).unwrap().epoch).collect()
    };
    assert_eq!(numbers(&straight), numbers(&stopped));
    assert_eq!(numbers(&straight).len(), 2);
}

/// A call that resumes may ask for another precision: the run keeps the one that it began with.
#[test]
fn a_resumed_run_keeps_its_precision() {
    let folder = tempfile::tempdir().unwrap();
    let [straight, stopped, wide] = ["straight", "stopped", "wide"].map(|name| folder.path().join(name));
    run_in(Precision::Bf16, &straight, 6, false, &mut Silent).unwrap();
    run_in(Precision::Bf16, &stopped, 6, false, &mut StopAt { asked: 0, at: 3 }).unwrap_err();
    run(&stopped, 6, true, &mut Silent).unwrap();
    assert_same(&straight, &stopped);
    run(&wide, 6, false, &mut Silent).unwrap();
    let weights = |out: &Path| std::fs::read(out.join("fold_0/weights.safetensors")).unwrap();
    assert_ne!(weights(&straight), weights(&wide));
}

#[test]
fn the_number_of_threads_changes_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let outs: Vec<_> = [1, 2].map(|threads| (threads, folder.path().join(threads.to_string()))).into();
    for (threads, out) in &outs {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(*threads).build().unwrap();
        pool.install(|| run(out, 3, false, &mut Silent)).unwrap();
    }
    assert_same(&outs[0].1, &outs[1].1);
}

#[test]
fn a_folder_that_holds_a_training_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), 1, false, &mut Silent).unwrap();
    let error = run(folder.path(), 1, false, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("--resume"), "{error}");
    let (cases, labels) = (Balls::new(4), labels());
    let mut other = setup(&cases, &labels);
    other.training = vec![0, 1];
    other.case_names[0].pop();
    let error = train(&other, &options(folder.path(), 1, true), &mut Silent).unwrap_err().to_string();
    assert!(error.contains("another dataset"), "{error}");
}

#[test]
fn balls_are_learned() {
    struct Last(f64);
    impl Watch for Last {
        fn on_epoch(&mut self, report: &EpochReport) {
            self.0 = report.epoch.mean_pseudo_dice;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut last = Last(0.0);
    run(folder.path(), 120, false, &mut last).unwrap();
    assert!(last.0 > 0.8, "pseudo Dice {}", last.0);
}
