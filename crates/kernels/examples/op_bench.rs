//! Times of one operation and its gradients, for `bench/torch/ops.py`, which runs PyTorch beside it.
//!
//! `op_bench FOLDER RUNS THREADS` reads `case.json` and the inputs (`x.f32` and others, in PyTorch's layout) from the folder,
//! writes `out.f32` (channels last, without pad lanes), and prints clock and processor times of each run.

use galen_kernels::attention::{Projected, ProjectedGradient, RelativePositions, Tokens, Windows};
use galen_kernels::buffer::Buffer;
use galen_kernels::{
    Attention, DepthwiseConv, Gelu, Grid, GridSample, Interpolation, LayerNorm, MaxPool, Padding, Sink,
    Source, padded,
};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// Seconds that all threads of this process have computed.
fn computed() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let own = |task: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    tasks.filter_map(own).sum::<f64>() * 1e-9
}

/// Clock and processor seconds of every run but the first.
fn times(runs: usize, mut f: impl FnMut()) -> Value {
    let (mut clock, mut processor) = (Vec::new(), Vec::new());
    for run in 0..=runs {
        let (start, before) = (Instant::now(), computed());
        f();
        if run > 0 {
            clock.push(start.elapsed().as_secs_f64());
            processor.push(computed() - before);
        }
    }
    json!({ "seconds": clock, "processor_seconds": processor })
}

struct Job {
    folder: PathBuf,
    case: Value,
    runs: usize,
}

impl Job {
    fn read(&self, name: &str) -> Vec<f32> {
        let bytes = std::fs::read(self.folder.join(name)).expect("an input");
        bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }

    fn triple(&self, name: &str) -> [usize; 3] {
        std::array::from_fn(|a| self.case[name][a].as_u64().expect("three numbers") as usize)
    }

    fn number(&self, name: &str) -> usize {
        self.case[name].as_u64().expect("a number") as usize
    }

    /// `[n, c, voxels]` to channels last.
    fn image(&self, name: &str, n: usize, c: usize) -> Buffer {
        let planes = self.read(name);
        let (voxels, width) = (planes.len() / n / c, padded(c));
        let mut out = Buffer::zeroed(n * voxels * width);
        for (i, &value) in planes.iter().enumerate() {
            out[(i / voxels / c * voxels + i % voxels) * width + i / voxels % c] = value;
        }
        out
    }

    /// `[rows, c]` with pad lanes.
    fn rows(&self, name: &str, c: usize) -> Buffer {
        let values = self.read(name);
        let mut out = Buffer::zeroed(values.len() / c * padded(c));
        for (to, from) in out.chunks_mut(padded(c)).zip(values.chunks(c)) {
            to[..c].copy_from_slice(from);
        }
        out
    }

    fn finish(&self, out: &[f32], channels: usize, forward: Value, backward: Value) {
        let bare = out.chunks(padded(channels)).flat_map(|row| &row[..channels]);
        let bytes: Vec<u8> = bare.flat_map(|x| x.to_le_bytes()).collect();
        std::fs::write(self.folder.join("out.f32"), bytes).expect("the folder can be written");
        println!("{}", json!({ "forward": forward, "backward": backward }));
    }
}

fn depthwise(job: &Job) {
    let (channels, grid) = (job.number("channels"), Grid { n: 1, size: job.triple("size") });
    let conv = DepthwiseConv { kernel: job.triple("kernel"), stride: job.triple("stride"), channels };
    let (x, w) = (job.image("x.f32", 1, channels), job.read("w.f32"));
    let source = Source::new(&x, channels, None);
    let mut out = Buffer::zeroed(conv.output(grid).voxels() * padded(channels));
    let forward = times(job.runs, || conv.forward(grid, &source, &w, None, &mut out, None));
    let (mut dx, mut dw) = (Buffer::zeroed(x.len()), vec![0.0; w.len()]);
    let backward = times(job.runs, || {
        conv.input_gradient(grid, &out, &w, Sink { values: &mut dx, channels, add: false });
        conv.weight_gradient(grid, &source, &out, &mut dw, None);
    });
    job.finish(&out, channels, forward, backward);
}

fn interpolation(job: &Job) {
    let (channels, grid, size) =
        (job.number("channels"), Grid { n: 1, size: job.triple("size") }, job.triple("to"));
    let kind = if job.case["mode"] == "nearest" { Interpolation::Nearest } else { Interpolation::Linear };
    let x = job.image("x.f32", 1, channels);
    let mut out = Buffer::zeroed(size.iter().product::<usize>() * padded(channels));
    let source = Source::new(&x, channels, None);
    let forward = times(job.runs, || kind.forward(grid, &source, size, &mut out));
    let mut dx = Buffer::zeroed(x.len());
    let backward = times(job.runs, || {
        kind.gradient(grid, size, &out, Sink { values: &mut dx, channels, add: false });
    });
    job.finish(&out, channels, forward, backward);
}

fn grid_sample(job: &Job) {
    let (channels, grid) = (job.number("channels"), Grid { n: 1, size: job.triple("size") });
    let how = GridSample { nearest: false, padding: Padding::Border, align_corners: false };
    let (x, positions) = (job.image("x.f32", 1, channels), job.read("positions.f32"));
    let source = Source::new(&x, channels, None);
    let mut out = Buffer::zeroed(x.len());
    let forward = times(job.runs, || how.forward(grid, &source, grid, &positions, &mut out));
    let (mut dx, mut moved) = (Buffer::zeroed(x.len()), vec![0.0; positions.len()]);
    let backward = times(job.runs, || {
        how.input_gradient(grid, grid, &positions, &out, Sink { values: &mut dx, channels, add: false });
        how.position_gradient(grid, &source, grid, &positions, &out, &mut moved);
    });
    job.finish(&out, channels, forward, backward);
}

fn max_pool(job: &Job) {
    let (channels, grid) = (job.number("channels"), Grid { n: 1, size: job.triple("size") });
    let pool = MaxPool { window: [2; 3], stride: [2; 3], padding: [0; 3] };
    let x = job.image("x.f32", 1, channels);
    let source = Source::new(&x, channels, None);
    let mut out = Buffer::zeroed(pool.output(grid).voxels() * padded(channels));
    let mut taps = vec![0; out.len()];
    let forward = times(job.runs, || pool.forward(grid, &source, &mut out, &mut taps));
    let mut dx = Buffer::zeroed(x.len());
    let backward = times(job.runs, || {
        pool.gradient(grid, &out, &taps, Sink { values: &mut dx, channels, add: false });
    });
    job.finish(&out, channels, forward, backward);
}

fn layer_norm(job: &Job) {
    let channels = job.number("channels");
    let (x, gamma, beta) = (job.rows("x.f32", channels), job.read("w.f32"), job.read("b.f32"));
    let norm = LayerNorm { channels, eps: 1e-5 };
    let mut out = Buffer::zeroed(x.len());
    let forward = times(job.runs, || norm.forward(&x, &gamma, &beta, &mut out));
    let mut grad = Buffer::zeroed(x.len());
    grad.copy_from_slice(&out);
    let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
    let backward = times(job.runs, || norm.gradient(&x, &gamma, &mut grad, &mut dgamma, &mut dbeta));
    job.finish(&out, channels, forward, backward);
}

fn gelu(job: &Job) {
    let channels = job.number("channels");
    let x = job.rows("x.f32", channels);
    let mut out = Buffer::zeroed(x.len());
    let forward = times(job.runs, || Gelu::Exact.forward(&x, &mut out));
    let mut grad = Buffer::zeroed(x.len());
    grad.copy_from_slice(&out);
    let backward = times(job.runs, || Gelu::Exact.gradient(&x, &mut grad));
    job.finish(&out, channels, forward, backward);
}

fn attention(job: &Job) {
    let (heads, head_channels) = (job.number("heads"), job.number("head_channels"));
    let of = Attention { heads, head_channels, scale: (head_channels as f32).powf(-0.5) };
    let qkv = job.rows("x.f32", 3 * of.channels());
    let rows = qkv.len() / padded(3 * of.channels());
    let shifted = job.case.get("window").map(|_| {
        let (window, grid) = (job.triple("window"), Grid { n: 1, size: job.triple("size") });
        let positions = RelativePositions { window, heads };
        (Windows::new(grid, window, job.triple("shift")), positions, positions.bias(&job.read("table.f32")))
    });
    let tokens = match &shifted {
        Some((windows, _, bias)) => Tokens::Windows(windows, Some(bias)),
        None => Tokens::All { n: 1, queries: rows, keys: rows },
    };
    let (mut out, mut sums) = (Buffer::zeroed(rows * padded(of.channels())), vec![0.0; of.sums_len(&tokens)]);
    let forward = times(job.runs, || of.forward(tokens, Projected::Together(&qkv), &mut out, &mut sums));
    let mut dx = Buffer::zeroed(qkv.len());
    let mut of_bias = shifted.as_ref().map(|(_, _, bias)| vec![0.0; bias.len()]);
    let mut of_table = shifted.as_ref().map(|(_, positions, _)| vec![0.0; positions.table_len()]);
    let backward = times(job.runs, || {
        let (projected, to) = (Projected::Together(&qkv), ProjectedGradient::Together(&mut dx));
        of.gradient(tokens, projected, &out, &sums, &out, to, of_bias.as_deref_mut());
        if let (Some((_, positions, _)), Some(of_bias), Some(of_table)) = (&shifted, &of_bias, &mut of_table)
        {
            positions.gradient(of_bias, of_table);
        }
    });
    job.finish(&out, of.channels(), forward, backward);
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, runs, threads] = &arguments[..] else {
        eprintln!("usage: op_bench FOLDER RUNS THREADS");
        std::process::exit(2);
    };
    let folder = PathBuf::from(folder);
    let text = std::fs::read_to_string(folder.join("case.json")).expect("case.json");
    let case: Value = serde_json::from_str(&text).expect("case.json is JSON");
    let job = Job { folder, case, runs: runs.parse().expect("a number of runs") };
    let threads = threads.parse().expect("a number of threads");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
    pool.install(|| match job.case["op"].as_str() {
        Some("depthwise") => depthwise(&job),
        Some("interpolation") => interpolation(&job),
        Some("grid_sample") => grid_sample(&job),
        Some("max_pool") => max_pool(&job),
        Some("layer_norm") => layer_norm(&job),
        Some("gelu") => gelu(&job),
        Some("attention") => attention(&job),
        other => panic!("no operation {other:?}"),
    });
}
