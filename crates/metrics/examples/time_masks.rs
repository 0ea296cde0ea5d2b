//! CPU seconds of Dice, HD95, ASSD and NSD of every label of two raw uint8 label maps, for `bench/metrics/run.py`.
//!
//! usage: time_masks REFERENCE PREDICTION Z Y X SZ SY SX REPETITIONS
//!
//! Prints JSON: seconds of one evaluation with surface elements and with border voxels, and their values.

use galen_core::{Geometry, LabelMap, LabelValue, Labels};
use galen_metrics::masks::{Pair, border};
use galen_metrics::score_case;

const TOLERANCE: f64 = 2.0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize| arguments[i].parse::<f64>().expect("a number");
    let size = [2, 3, 4].map(|i| number(i) as usize);
    let spacing = [5, 6, 7].map(number);
    let repetitions = number(8) as u32;
    let read = |i: usize| std::fs::read(&arguments[i]).expect("a file");
    let (reference, prediction) = (read(0), read(1));
    let count = reference.iter().copied().max().unwrap_or(0);
    let map = |voxels: &[u8]| LabelMap::new(Geometry::axis_aligned(size, spacing), voxels.to_vec());
    let name = |value: u8| if value == 0 { "background".to_owned() } else { format!("label {value}") };
    let one = |value: u8| (name(value), LabelValue::One(u16::from(value)));
    let labels = Labels::new((0..=count).map(one).collect(), None).expect("labels");
    let (r, p) = (map(&reference), map(&prediction));
    let surfel = || {
        let scores = score_case(&r, &p, &labels, TOLERANCE).expect("equal grids");
        let of = |label: &galen_metrics::LabelScores| {
            ["dice", "hd95", "assd", "nsd"].map(|id| label.scores[id].as_f64()).to_vec()
        };
        scores.labels.iter().map(of).collect::<Vec<_>>()
    };
    let voxel = || {
        (1..=count)
            .map(|value| {
                let mask = |voxels: &[u8]| voxels.iter().map(|v| u8::from(*v == value)).collect();
                let pair = Pair::new(size, spacing, false, mask(&reference), mask(&prediction))
                    .expect("equal grids");
                scores_of_borders(&pair)
            })
            .collect::<Vec<_>>()
    };
    let (surfel_seconds, surfel_values) = timed(repetitions, surfel);
    let (voxel_seconds, voxel_values) = timed(repetitions, voxel);
    let document = serde_json::json!({
        "surfel": {"seconds": surfel_seconds, "values": surfel_values},
        "voxel": {"seconds": voxel_seconds, "values": voxel_values},
    });
    println!("{document}");
}

fn scores_of_borders(pair: &Pair) -> Vec<f64> {
    let Some(cropped) = pair.cropped() else { return Vec::new() };
    let sum = |mask: &[u8]| mask.iter().map(|v| f64::from(*v)).sum::<f64>();
    let both: f64 = cropped.reference.iter().zip(&cropped.prediction).map(|(a, b)| f64::from(a & b)).sum();
    let dice = 2.0 * both / (sum(&cropped.reference) + sum(&cropped.prediction));
    let mut d = border::distances(&cropped);
    let n = (d.from_prediction.len() + d.from_reference.len()) as f64;
    let all = || d.from_prediction.iter().chain(&d.from_reference);
    let (assd, near) =
        (all().sum::<f64>() / n, all().filter(|d| **d <= TOLERANCE * (1.0 + 1e-6)).count() as f64);
    let there = border::percentile(&mut d.from_prediction, 0.95);
    let hd95 = there.max(border::percentile(&mut d.from_reference, 0.95));
    vec![dice, hd95, assd, near / n]
}

/// CPU seconds per call of this process, all threads, and the result.
fn timed<T>(repetitions: u32, call: impl Fn() -> T) -> (f64, T) {
    let result = call();
    let before = cpu_ticks();
    for _ in 0..repetitions {
        std::hint::black_box(call());
    }
    // Linux counts in hundredths of a second: enough calls make that fine.
    ((cpu_ticks() - before) as f64 / 100.0 / f64::from(repetitions), result)
}

fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    [11, 12].iter().map(|&i| fields[i].parse::<u64>().expect("ticks")).sum()
}
