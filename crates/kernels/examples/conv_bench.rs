//! Times of the convolutions of one Hippocampus training step and of large volumes.
//!
//! `cargo run --release -p galen-kernels --example conv_bench -- [step|large|plane] [batch] [threads] [name]`; `name`
//! keeps the lines that contain it; the variable `GALEN_CPU` chooses the instruction set. GF counts the multiply-adds of the direct algorithm twice.

use galen_kernels::buffer::Buffer;
use galen_kernels::{Conv, Cpu, Grid, Sink, Source, TransposedConv, padded};
use std::time::Instant;

/// Whether the lines of this name are asked for.
fn wanted(name: &str) -> bool {
    std::env::args().nth(4).is_none_or(|part| name.contains(&part))
}

/// Nanoseconds that this thread has computed, where the system tells: other people's load does not count.
fn computed() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Time of a run, milliseconds: with one thread the processor time (mean of many runs), else the best of five.
fn best_ms(mut f: impl FnMut()) -> f64 {
    f();
    if let (1, Some(start)) = (rayon::current_num_threads(), computed()) {
        for run in 1.. {
            f();
            let spent = computed().map_or(0, |now| now - start) as f64 * 1e-6;
            if run >= 3 && spent > 80.0 || run == 200 {
                return spent / f64::from(run);
            }
        }
    }
    let time = |_| {
        let start = Instant::now();
        f();
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..5).map(time).fold(f64::INFINITY, f64::min)
}

fn noise(len: usize) -> Buffer {
    let mut values = Buffer::zeroed(len);
    values.iter_mut().enumerate().for_each(|(i, v)| *v = ((i * 7919 % 1009) as f32 - 504.0) / 1009.0);
    values
}

/// Times of packing, forward, both gradients, and the multiply-adds of one of them.
fn conv(name: &str, conv: &Conv, grid: Grid, total: &mut f64) {
    if !wanted(name) {
        return;
    }
    let output = conv.output(grid);
    let taps: usize = conv.kernel.iter().product();
    let inputs: usize = conv.inputs.iter().sum();
    let x: Vec<_> = conv.inputs.iter().map(|&c| noise(grid.n * grid.voxels() * padded(c))).collect();
    let sources: Vec<_> =
        x.iter().zip(&conv.inputs).map(|(values, &channels)| Source::new(values, channels, None)).collect();
    let weights = noise(conv.outputs * inputs * taps);
    let grad = noise(output.n * output.voxels() * padded(conv.outputs));
    let mut out = Buffer::zeroed(grad.len());
    let mut moments = vec![0.0; grid.n * padded(conv.outputs) * 2];
    let mut dx: Vec<_> = x.iter().map(|x| Buffer::zeroed(x.len())).collect();
    let mut dw = Buffer::zeroed(weights.len());
    let (mut packed, mut turned) = (conv.pack(&weights, grid), conv.pack_gradient(&weights, grid));
    let pack = best_ms(|| packed = conv.pack(&weights, grid));
    let forward = best_ms(|| conv.forward(grid, &sources, &packed, None, &mut out, Some(&mut moments)));
    let turn = best_ms(|| turned = conv.pack_gradient(&weights, grid));
    let back = best_ms(|| {
        let mut sinks: Vec<_> = dx
            .iter_mut()
            .zip(&conv.inputs)
            .map(|(values, &channels)| Some(Sink { values, channels, add: false }))
            .collect();
        conv.input_gradient(grid, &grad, &turned, &mut sinks);
    });
    let weight = best_ms(|| conv.weight_gradient(grid, &sources, &grad, &mut dw, None));
    let giga = 2e-9 * (output.n * output.voxels() * taps * inputs * conv.outputs) as f64;
    line(name, giga, [pack, forward, turn, back, weight], total);
}

fn transposed(name: &str, conv: &TransposedConv, grid: Grid, total: &mut f64) {
    if !wanted(name) {
        return;
    }
    let output = conv.output(grid);
    let x = noise(grid.n * grid.voxels() * padded(conv.inputs));
    let source = Source::new(&x, conv.inputs, None);
    let taps: usize = conv.stride.iter().product();
    let weights = noise(conv.inputs * conv.outputs * taps);
    let grad = noise(output.n * output.voxels() * padded(conv.outputs));
    let (mut out, mut dx, mut dw) =
        (Buffer::zeroed(grad.len()), Buffer::zeroed(x.len()), Buffer::zeroed(weights.len()));
    let (mut packed, mut turned) = (conv.pack(&weights, grid), conv.pack_gradient(&weights, grid));
    let pack = best_ms(|| packed = conv.pack(&weights, grid));
    let forward = best_ms(|| conv.forward(grid, &source, &packed, None, &mut out));
    let turn = best_ms(|| turned = conv.pack_gradient(&weights, grid));
    let back = best_ms(|| {
        conv.input_gradient(grid, &grad, &turned, Sink { values: &mut dx, channels: conv.inputs, add: false })
    });
    let weight = best_ms(|| conv.weight_gradient(grid, &source, &grad, &mut dw, None));
    let giga = 2e-9 * (output.n * output.voxels() * conv.inputs * conv.outputs) as f64;
    line(name, giga, [pack, forward, turn, back, weight], total);
}

fn line(name: &str, giga: f64, [pack, forward, turn, back, weight]: [f64; 5], total: &mut f64) {
    let rate = |ms: f64| giga / ms * 1e3;
    println!(
        "{name:28} {giga:7.2} | pack {pack:6.2} {turn:6.2} | forward {forward:7.2} ms {:5.0} GF | dx {back:7.2} ms {:5.0} GF | dw {weight:7.2} ms {:5.0} GF",
        rate(forward),
        rate(back),
        rate(weight)
    );
    *total += pack + turn + forward + back + weight;
}

fn step(n: usize) {
    let mut total = 0.0;
    let (cube, grids) =
        ([3; 3], [[40, 56, 40], [20, 28, 20], [10, 14, 10], [5, 7, 5]].map(|size| Grid { n, size }));
    let mut one = |name: &str, kernel, stride: usize, inputs: &[usize], outputs, level: usize| {
        conv(
            name,
            &Conv { kernel, stride: [stride; 3], inputs: inputs.to_vec(), outputs },
            grids[level],
            &mut total,
        );
    };
    one("stem 1-32", cube, 1, &[1], 32, 0);
    one("32-32 @40x56x40", cube, 1, &[32], 32, 0);
    one("32+32-32 @40x56x40", cube, 1, &[32, 32], 32, 0);
    one("32-32 @40x56x40", cube, 1, &[32], 32, 0);
    one("head 32-3", [1; 3], 1, &[32], 3, 0);
    one("stride 2 32-64", cube, 2, &[32], 64, 0);
    one("64-64 @20x28x20", cube, 1, &[64], 64, 1);
    one("64+64-64 @20x28x20", cube, 1, &[64, 64], 64, 1);
    one("64-64 @20x28x20", cube, 1, &[64], 64, 1);
    one("head 64-3", [1; 3], 1, &[64], 3, 1);
    one("stride 2 64-128", cube, 2, &[64], 128, 1);
    one("128-128 @10x14x10", cube, 1, &[128], 128, 2);
    one("128+128-128 @10x14x10", cube, 1, &[128, 128], 128, 2);
    one("128-128 @10x14x10", cube, 1, &[128], 128, 2);
    one("head 128-3", [1; 3], 1, &[128], 3, 2);
    one("stride 2 128-256", cube, 2, &[128], 256, 2);
    one("256-256 @5x7x5", cube, 1, &[256], 256, 3);
    for (level, channels) in [(3, 256), (2, 128), (1, 64)] {
        let up = TransposedConv { stride: [2; 3], inputs: channels, outputs: channels / 2 };
        transposed(&format!("up {channels}-{}", channels / 2), &up, grids[level], &mut total);
    }
    println!("sum of a training step, batch {n}: {total:.0} ms");
}

fn large(n: usize) {
    let mut total = 0.0;
    let mut one = |name: &str, kernel, stride: usize, inputs: usize, outputs, size: usize| {
        let grid = Grid { n, size: [size; 3] };
        conv(name, &Conv { kernel, stride: [stride; 3], inputs: vec![inputs], outputs }, grid, &mut total);
    };
    one("32-32 @128", [3; 3], 1, 32, 32, 128);
    one("1x3x3 32-32 @128", [1, 3, 3], 1, 32, 32, 128);
    one("1-32 @128", [3; 3], 1, 1, 32, 128);
    one("stride 2 32-64 @128", [3; 3], 2, 32, 64, 128);
    one("64-64 @64", [3; 3], 1, 64, 64, 64);
    one("128-128 @32", [3; 3], 1, 128, 128, 32);
    one("256-256 @16", [3; 3], 1, 256, 256, 16);
    one("320-320 @8", [3; 3], 1, 320, 320, 8);
    one("320-320 @4", [3; 3], 1, 320, 320, 4);
    transposed(
        "up 64-32 @64",
        &TransposedConv { stride: [2; 3], inputs: 64, outputs: 32 },
        Grid { n, size: [64; 3] },
        &mut total,
    );
}

fn plane(n: usize) {
    let mut total = 0.0;
    let mut one = |name: &str, stride: usize, inputs: usize, outputs, size: usize| {
        let grid = Grid { n, size: [1, size, size] };
        conv(
            name,
            &Conv { kernel: [1, 3, 3], stride: [1, stride, stride], inputs: vec![inputs], outputs },
            grid,
            &mut total,
        );
    };
    one("1-32 @256", 1, 1, 32, 256);
    one("32-32 @256", 1, 32, 32, 256);
    one("stride 2 32-64 @256", 2, 32, 64, 256);
    one("64-64 @128", 1, 64, 64, 128);
    one("128-128 @64", 1, 128, 128, 64);
    one("256-256 @32", 1, 256, 256, 32);
    one("512-512 @16", 1, 512, 512, 16);
    one("512-512 @8", 1, 512, 512, 8);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |i: usize, otherwise: usize| arguments.get(i).and_then(|a| a.parse().ok()).unwrap_or(otherwise);
    let (batch, threads) = (number(1, 2), number(2, 0));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
    println!("{}, {} threads", Cpu::detected().name(), pool.current_num_threads());
    pool.install(|| match arguments.first().map(String::as_str) {
        Some("large") => large(batch),
        Some("plane") => plane(batch),
        _ => step(batch),
    });
}
