//! Galen's side of `bench/nnunet/run.py`: one piece of work around the network, timed in a process of its own.
//!
//! usage: outside_network TASK WORK THREADS. Prints one JSON line: seconds of wall and processor time, resident bytes
//! before the work and at its highest point, and the file of the result that the script compares.

use galen_core::{Geometry, LabelValue, Labels, Result};
use galen_infer::band::{Band, Bands, Extent, Place};
use galen_infer::export::Export;
use galen_infer::sliding::{Input, Precision, Window};
use galen_kernels::components::{Components, Connectivity, numbered};
use galen_kernels::holes::fill_holes;
use galen_prep::augment::{Draw, Recipe, Sample, affine_3d, region, stream, transform};
use galen_prep::resample::{Change, LogitSlabs, Method, PlaneSource, Thick, TieRule};
use galen_prep::{Plans, Undo, prepare};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, task, work, threads] = arguments.as_slice() else { panic!("usage: TASK WORK THREADS") };
    let threads = threads.parse().expect("a number of threads");
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().expect("a pool");
    run(task, Path::new(work));
}

/// Measures `work` and prints the line; `repeats` divides the times.
fn measure<T>(repeats: usize, work: impl FnOnce() -> T) -> T {
    std::fs::write("/proc/self/clear_refs", "5").ok();
    let (base, processor, start) = (status("VmRSS"), processor_seconds(), Instant::now());
    let result = work();
    let (wall, processor) = (start.elapsed().as_secs_f64(), processor_seconds() - processor);
    let peak = status("VmHWM");
    let n = repeats as f64;
    println!("{}", serde_json::json!({ "wall": wall / n, "cpu": processor / n, "base": base, "peak": peak }));
    result
}

/// Bytes of a line of `/proc/self/status`.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// User and system time of all threads; ticks are hundredths of a second.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].iter().filter_map(|&i| fields.get(i)?.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Shape and bytes of a little-endian, C-ordered .npy file.
fn npy(file: &Path) -> (Vec<usize>, Vec<u8>) {
    let array = npyz::NpyFile::new(std::fs::File::open(file).expect("an input")).expect("an array");
    let shape = array.shape().iter().map(|&n| n as usize).collect();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut array.into_inner(), &mut bytes).expect("a whole array");
    (shape, bytes)
}

fn three(shape: &[usize]) -> [usize; 3] {
    shape[shape.len() - 3..].try_into().expect("three axes")
}

fn write(work: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(work.join(format!("galen_{name}.raw")), bytes).expect("a result");
}

/// Logits as the sliding window keeps them.
struct Halves {
    size: [usize; 3],
    values: Vec<f16>,
}

impl Halves {
    fn read(file: &Path) -> (usize, Self) {
        let (shape, bytes) = npy(file);
        let values = bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
        (shape[0], Self { size: three(&shape), values })
    }
}

impl PlaneSource for Halves {
    fn plane(&self, class: usize, z: usize, out: &mut [f32]) {
        let start = (class * self.size[0] + z) * out.len();
        self.values[start..start + out.len()].convert_to_f32_slice(out);
    }
}

fn labels(classes: usize, regions: bool) -> Labels {
    let mut entries = vec![("background".to_owned(), LabelValue::One(0))];
    for value in 1..classes as u16 + u16::from(regions) {
        let all: Vec<u16> = (value..=classes as u16).collect();
        let entry = if regions { LabelValue::Region(all) } else { LabelValue::One(value) };
        entries.push((format!("label {value}"), entry));
    }
    Labels::new(entries, regions.then(|| (1..=classes as u16).collect())).expect("labels")
}

fn spline(order: u8) -> Method {
    Method::Spline { order, order_z: 0, thick: Thick { force: None, beyond: 3.0 } }
}

/// Logits on the network's grid to a label map on the scan's.
fn export(work: &Path, name: &str, torch: bool) {
    let (classes, logits) = Halves::read(&work.join(format!("{}.npy", name.trim_end_matches("_saved"))));
    let to = [logits.size[0], 512, 512];
    let spacing = [1.0, 0.8, 0.8];
    let undo = Undo {
        geometry: Geometry::axis_aligned(to, spacing),
        transpose: [0, 1, 2],
        size_before_crop: to,
        bbox: to.map(|n| [0, n]),
        size_after_crop: to,
        spacing,
    };
    let labels = labels(classes, name.starts_with("regions"));
    let thick = Thick { force: Some(false), beyond: 3.0 };
    let method = if torch { Method::Torch { thick, frugal: false } } else { spline(1) };
    let change = Change { from: logits.size, to, current: [1.0, 1.5, 1.5], new: spacing };
    let saved = name.ends_with("_saved");
    let map = measure(1, || -> Result<_> {
        let slabs = LogitSlabs::new(classes, method, &change, true)?;
        let export = Export { labels: &labels, undo: &undo, logits: &slabs };
        match saved {
            true => export.with_probabilities(&logits).map(|(map, _)| map),
            false => export.label_map(&logits),
        }
    })
    .expect("a label map");
    let bytes: Vec<u8> = map.values().iter().map(|&v| v as u8).collect();
    write(work, &format!("{name}{}", if torch { "_torch" } else { "" }), &bytes);
}

fn run(task: &str, work: &Path) {
    let file = |name: &str| -> PathBuf { work.join(name) };
    match task {
        "export8" | "export104" | "regions3" | "export8_saved" => export(work, task, false),
        "export8_torch" | "export104_torch" => export(work, task.trim_end_matches("_torch"), true),
        "preprocess" => {
            let plans = std::fs::read_to_string(file("plans.json")).expect("plans");
            let plans = Plans::from_json(&serde_json::from_str(&plans).expect("JSON")).expect("plans");
            let configuration = plans.configuration("3d_fullres").expect("a configuration");
            let made = measure(1, || {
                let image = galen_io::read_channels(&[file("ct_0000.nii.gz")])?;
                prepare(&image, None, &plans, &configuration)
            });
            let values = made.expect("a prepared scan").0.image;
            write(work, task, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        }
        "cubic" => {
            let (shape, bytes) = npy(&file("image.npy"));
            let values: Vec<f32> =
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            drop(bytes);
            let made = measure(1, || spline(3).image(&values, &to_network(three(&shape))));
            write(work, task, &made.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>());
        }
        "labels" => {
            let (shape, bytes) = npy(&file("labels.npy"));
            let values: Vec<i16> = bytes.iter().map(|&b| i16::from(b)).collect();
            drop(bytes);
            let change = to_network(three(&shape));
            let made = measure(1, || spline(1).labels(&values, &change, TieRule::Largest));
            write(work, task, &made.iter().map(|&v| v as u8).collect::<Vec<u8>>());
        }
        "augment" | "spatial" => augment(work, task),
        "sliding" => sliding(work),
        "holes" | "largest" | "components" => {
            let (shape, mut bytes) = npy(&file("mask.npy"));
            let size = three(&shape);
            let mut mask: Vec<bool> = bytes.iter().map(|&b| b > 0).collect();
            match task {
                "holes" => measure(1, || fill_holes(&mut mask, size)),
                "largest" => measure(1, || {
                    let components = Components::of(&mask, size, |&inside| inside);
                    for run in components.beside_the_largest() {
                        mask[run.start..run.start + run.length].fill(false);
                    }
                }),
                _ => {
                    let numbers =
                        measure(1, || numbered(&mask, size, Connectivity::Corners, |&inside| inside).0);
                    return write(
                        work,
                        task,
                        &numbers.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>(),
                    );
                }
            }
            bytes.iter_mut().zip(&mask).for_each(|(byte, &inside)| *byte = u8::from(inside));
            write(work, task, &bytes);
        }
        other => panic!("no task {other}"),
    }
}

/// From 1.25 x 0.78 x 0.78 mm to 1.5 x 1 x 1 mm.
fn to_network(from: [usize; 3]) -> Change {
    let (current, new) = ([1.25, 0.78, 0.78], [1.5, 1.0, 1.0]);
    let to = [0, 1, 2].map(|axis| (current[axis] / new[axis] * from[axis] as f64).round_ties_even() as usize);
    Change { from, to, current, new }
}

fn augment(work: &Path, task: &str) {
    let recipe = Recipe::for_plan(&[128; 3], &[false], &[]);
    let (shape, bytes) = npy(&work.join("patch.npy"));
    let size = three(&shape);
    assert_eq!(size, recipe.initial, "the initial patch of the recipe");
    let image: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let labels: Vec<i16> = npy(&work.join("patch_labels.npy")).1.iter().map(|&b| i16::from(b)).collect();
    // What a store reads: the part of the initial patch that the draw needs.
    let part = |lower: [usize; 3], part: [usize; 3]| {
        let voxels = part.iter().product();
        let (image_part, labels_part) = (Vec::with_capacity(voxels), Vec::with_capacity(voxels));
        let mut sample =
            Sample { channels: 1, size: part, image: image_part, labels: labels_part, previous: None };
        for z in lower[0]..lower[0] + part[0] {
            for y in lower[1]..lower[1] + part[1] {
                let start = (z * size[1] + y) * size[2] + lower[2];
                sample.image.extend_from_slice(&image[start..start + part[2]]);
                sample.labels.extend_from_slice(&labels[start..start + part[2]]);
            }
        }
        sample
    };
    if task == "augment" {
        const SAMPLES: usize = 60;
        measure(SAMPLES, || {
            for number in 0..SAMPLES {
                let draw = Draw::new(&recipe, 1, &mut stream(1, 0, number as u64));
                let region = recipe.region(&draw);
                std::hint::black_box(recipe.apply(&part(region.lower, region.size), &draw));
            }
        });
        return;
    }
    const SAMPLES: usize = 10;
    measure(SAMPLES, || {
        for number in 0..SAMPLES {
            let angle = (number as f64 - 4.5) / 10.0;
            let matrix = affine_3d([angle, -angle / 2.0, angle / 3.0], [0.75 + 0.06 * number as f64; 3]);
            let region = region(recipe.initial, recipe.patch, Some(&matrix));
            let part = part(region.lower, region.size);
            std::hint::black_box(transform(
                &part,
                region,
                recipe.initial,
                recipe.patch,
                Some(&matrix),
                false,
            ));
        }
    });
}

/// Tiles of 128³ into the sums of 8 classes; the network gives the same logits every time.
fn sliding(work: &Path) {
    let size = [200, 273, 273];
    let logits: Vec<f32> = npy(&work.join("tile.npy"))
        .1
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    let image = vec![0f32; size.iter().product()];
    let window = Window::new([128; 3], 0.5, &[]);
    let area = size[1] * size[2];
    measure(1, || -> Result<()> {
        let extent = Extent { classes: 8, size, height: 130 };
        let mut bands = Bands(vec![Band::new(extent, Precision::Half, Place::Memory)?]);
        // A network writes its logits where they are read; they stay there from the first tile on.
        let mut written = false;
        let mut forward = |_: &[f32], _: [usize; 3], to: &mut [f32]| {
            if !std::mem::replace(&mut written, true) {
                to.copy_from_slice(&logits);
            }
            Ok(())
        };
        let input = Input { channels: 1, size, values: &image };
        let rows = window.rows(size);
        let mut plane = vec![0f32; area];
        for (number, row) in rows.iter().enumerate() {
            let [first, end] = window.planes(row[0], size);
            bands.0[0].release(first);
            bands.0[0].enter(end)?;
            window.accumulate(input, row, &mut bands.0[0], &mut forward, &mut || Ok(()))?;
            let ready = rows.get(number + 1).map_or(size[0], |next| window.planes(next[0], size)[0]);
            for z in first..ready {
                (0..8).for_each(|class| bands.plane(class, z, &mut plane));
            }
            bands.check()?;
        }
        Ok(())
    })
    .expect("sums");
}
