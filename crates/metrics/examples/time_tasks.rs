//! CPU seconds of single tasks on raw files, for `bench/metrics/tasks.py`.
//!
//! usage: time_tasks TASK SIZE REPETITIONS FILE...
//!
//! Tasks and files: `edt` (uint8 mask), `components` (uint8 mask), `skeleton` (uint8 mask), `ssim` (two float64
//! images), `fid` (two float64 matrices of SIZE x 2048), `auroc` (uint8 labels, float64 scores; 1000 draws), `cindex`
//! (float64 times, uint8 events, float64 risks), `masks` (two uint8 label maps). SIZE is the side of a cube, or the
//! number of rows. Prints JSON: seconds of one call, and numbers that the peer's answer is compared with.

use faer::Mat;
use galen_core::{Geometry, LabelMap, LabelValue, Labels};
use galen_kernels::components::{Connectivity, label};
use galen_kernels::distance::distance;
use galen_metrics::classification::resampled::auroc_interval;
use galen_metrics::image::Images;
use galen_metrics::image::ssim::{Window, similarity};
use galen_metrics::masks::skeleton::skeletonize;
use galen_metrics::survival::concordance::harrell;
use galen_metrics::{features, score_case};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let size: usize = arguments[1].parse().expect("a size");
    let repetitions: u32 = arguments[2].parse().expect("a number");
    let bytes = |i: usize| std::fs::read(&arguments[3 + i]).expect("a file");
    let numbers = |i: usize| -> Vec<f64> {
        let number = |b: &[u8]| f64::from_le_bytes(b.try_into().expect("eight bytes"));
        bytes(i).chunks_exact(8).map(number).collect()
    };
    let cube = [size; 3];
    let (seconds, values) = match arguments[0].as_str() {
        "edt" => {
            let sites: Vec<u8> = bytes(0).iter().map(|v| u8::from(*v == 0)).collect();
            timed(repetitions, || distance(&sites, cube, [1.0; 3]), |d| vec![sum(d), largest(d)])
        }
        "components" => {
            let mask = bytes(0);
            let call = || label(&mask, cube, Connectivity::Corners);
            timed(repetitions, call, |(labels, n)| {
                vec![*n as f64, labels.iter().map(|v| f64::from(*v)).sum()]
            })
        }
        "skeleton" => {
            let mask = bytes(0);
            let call = || skeletonize(&mask, cube);
            timed(repetitions, call, |s| vec![s.iter().map(|v| f64::from(*v)).sum()])
        }
        "ssim" => {
            let images = Images::new(cube, numbers(0), numbers(1), 1.0).expect("two images");
            let (uniform, gaussian) = (Window::uniform(7), Window::gaussian(11, 1.5));
            let of = |window: &Window, sample| similarity(&images, window, sample).expect("large enough").0;
            let (one, value) = timed(repetitions, || of(&uniform, true), |v| vec![*v]);
            let (other, second) = timed(repetitions, || of(&gaussian, false), |v| vec![*v]);
            println!("{}", serde_json::json!({"seconds": [one, other], "values": [value[0], second[0]]}));
            return;
        }
        "fid" => {
            let matrix = |i: usize| {
                let v = numbers(i);
                Mat::from_fn(size, 2048, |r, c| v[r * 2048 + c])
            };
            let (real, generated) = (matrix(0), matrix(1));
            let call = || features::frechet(real.as_ref(), generated.as_ref()).expect("converges");
            timed(repetitions, call, |v| vec![*v])
        }
        "auroc" => {
            let labels: Vec<bool> = bytes(0).iter().map(|v| *v != 0).collect();
            let scores = numbers(1);
            let call = || auroc_interval(&labels, &scores, 1000, 0);
            timed(repetitions, call, |(low, high)| vec![low.unwrap_or(0.0), high.unwrap_or(0.0)])
        }
        "cindex" => {
            let (times, risks) = (numbers(0), numbers(2));
            let events: Vec<bool> = bytes(1).iter().map(|v| *v != 0).collect();
            let call = || harrell(&times, &events, &risks, 0.0).index();
            timed(repetitions, call, |v| vec![*v])
        }
        "masks" => {
            let map = |i: usize| LabelMap::new(Geometry::axis_aligned(cube, [1.0; 3]), bytes(i));
            let name = |v: u16| if v == 0 { "background".to_owned() } else { v.to_string() };
            let labels =
                Labels::new((0..9).map(|v| (name(v), LabelValue::One(v))).collect(), None).expect("labels");
            let (reference, prediction) = (map(0), map(1));
            let call = || score_case(&reference, &prediction, &labels, 2.0).expect("equal grids");
            timed(repetitions, call, |s| s.labels.iter().map(|l| l.scores["dice"].as_f64()).collect())
        }
        other => panic!("{other}: no such task"),
    };
    println!("{}", serde_json::json!({"seconds": seconds, "values": values}));
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v)).sum()
}

fn largest(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v)).fold(0.0, f64::max)
}

/// CPU seconds per call of this process, all threads, and what the result boils down to.
fn timed<T>(repetitions: u32, call: impl Fn() -> T, of: impl Fn(&T) -> Vec<f64>) -> (f64, Vec<f64>) {
    let result = of(&call());
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
