//! Times one network on one input, for the comparison in `bench/torch`.
//!
//! `time_network FOLDER infer|train RUNS THREADS [bf16]`: FOLDER holds `case.json`, `weights.safetensors` and
//! `image.f32`, for training `labels.i16` too. Prints one JSON line: seconds per run after a first one that
//! does not count, by the clock and of processor time, peak memory, and writes `logits.f32` or the loss of the first step.

use galen_core::Architecture;
use galen_models::{LossSpec, Network, Sgd, Storage, Targets, Weights, deep_supervision_weights};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

fn floats(path: &Path) -> Vec<f32> {
    let bytes = std::fs::read(path).expect("readable");
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Peak resident memory in bytes, where the system tells.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Processor time of all threads so far, seconds; 0 where the system does not tell.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system time, in hundredths of a second.
    fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, mode, runs, threads, rest @ ..] = arguments.as_slice() else {
        panic!("time_network FOLDER infer|train RUNS THREADS [bf16]");
    };
    let storage = if rest == ["bf16"] { Storage::Bf16 } else { Storage::F32 };
    let (runs, threads): (usize, usize) = (runs.parse().unwrap(), threads.parse().unwrap());
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let folder = Path::new(folder);
    let case: Value = serde_json::from_slice(&std::fs::read(folder.join("case.json")).unwrap()).unwrap();
    let architecture: Architecture = serde_json::from_value(case["architecture"].clone()).unwrap();
    let size: [usize; 3] = serde_json::from_value(case["size"].clone()).unwrap();
    let number = |key: &str| case[key].as_u64().unwrap() as usize;
    let (batch, inputs, outputs) = (number("batch"), number("inputs"), number("outputs"));
    let network = Network::new(&architecture, inputs, outputs).unwrap();
    let weights = Weights::read_safetensors(&folder.join("weights.safetensors")).unwrap();
    let image = floats(&folder.join("image.f32"));
    let (mut seconds, mut processor_seconds) = (Vec::new(), Vec::new());
    let mut timed = |run: usize, work: &mut dyn FnMut()| {
        let (start, spent) = (Instant::now(), processor());
        work();
        if run > 0 {
            seconds.push(start.elapsed().as_secs_f64());
            processor_seconds.push(processor() - spent);
        }
    };
    let (mut loss, mut held) = (None, None);
    if mode == "infer" {
        let mut inference = network.inference(weights).unwrap().stored(storage).fixed(size).unwrap();
        let mut logits = vec![0.0; outputs * size.iter().product::<usize>()];
        for run in 0..=runs {
            timed(run, &mut || inference.forward_into(&image, size, &mut logits).unwrap());
        }
        held = peak();
        let bytes: Vec<u8> = logits.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(folder.join("logits.f32"), bytes).unwrap();
    } else {
        let bytes = std::fs::read(folder.join("labels.i16")).unwrap();
        let labels = bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
        let targets = Targets::pyramid(labels, size, &network.output_sizes(size));
        let scale_weights = deep_supervision_weights(network.scales());
        let spec = LossSpec { batch_dice: false, regions: None, ignore: None, scale_weights };
        let mut training = network.training(weights, spec).unwrap().stored(storage);
        let mut optimiser = Sgd::default();
        for run in 0..=runs {
            timed(run, &mut || {
                let found = training.step(&image, batch, size, &targets).unwrap().loss;
                training.update(&mut optimiser, 1e-3);
                loss.get_or_insert(found);
            });
        }
    }
    println!(
        "{}",
        json!({ "seconds": seconds, "processor_seconds": processor_seconds, "peak_bytes": held.or_else(peak), "loss": loss })
    );
}
