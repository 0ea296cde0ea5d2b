//! Every algorithm on every instruction set of this machine against the plain twin.

use crate::choice::Algorithm;
use crate::plain::{PlainConv, PlainTransposed};
use crate::winograd::{Axis, Tile};
use crate::{Conv, Cpu, Grid, Pending, Sink, Source, TransposedConv, padded};

/// Largest error allowed, in units of the root mean square of the expected values.
const TOLERANCE: f64 = 3e-5;

/// Reproducible values around zero.
pub(crate) fn noise(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 - 0.5
    };
    (0..len).map(|_| next() + next() + next()).collect()
}

/// `[rows, padded(channels)]` with zeros in the pad lanes.
pub(crate) fn tensor(rows: usize, channels: usize, seed: u32) -> Vec<f32> {
    let mut values = noise(rows * padded(channels), seed);
    for row in values.chunks_mut(padded(channels)) {
        row[channels..].fill(0.0);
    }
    values
}

pub(crate) fn agree(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let square: f64 = expected.iter().map(|&x| f64::from(x).powi(2)).sum();
    let rms = (square / expected.iter().filter(|x| **x != 0.0).count().max(1) as f64).sqrt().max(1e-12);
    for (i, (&f, &e)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(f) - f64::from(e)).abs() / rms;
        assert!(error <= TOLERANCE, "{what}: at {i} found {f}, expected {e}, error {error:.1e} of the RMS");
    }
}

/// Sources with values, the norm of every other one pending.
struct Inputs {
    values: Vec<Vec<f32>>,
    norms: Vec<Option<[Vec<f32>; 2]>>,
    channels: Vec<usize>,
}

impl Inputs {
    fn new(grid: Grid, channels: &[usize], pending: bool) -> Self {
        let values = channels
            .iter()
            .enumerate()
            .map(|(i, &c)| tensor(grid.n * grid.voxels(), c, 7 + i as u32))
            .collect();
        let norm = |(i, &c): (usize, &usize)| {
            (pending && i % 2 == 0).then(|| [tensor(grid.n, c, 50), tensor(grid.n, c, 60)])
        };
        Self { values, norms: channels.iter().enumerate().map(norm).collect(), channels: channels.to_vec() }
    }

    fn sources(&self) -> Vec<Source<'_>> {
        let pending =
            |i: usize| self.norms[i].as_ref().map(|[scale, shift]| Pending { scale, shift, slope: 0.01 });
        (0..self.channels.len()).map(|i| Source::new(&self.values[i], self.channels[i], pending(i))).collect()
    }
}

struct Expected {
    out: Vec<f32>,
    moments: Vec<f64>,
    dx: Vec<Vec<f32>>,
    dw: Vec<f32>,
    db: Vec<f32>,
}

fn expected(
    conv: &Conv,
    grid: Grid,
    inputs: &Inputs,
    weights: &[f32],
    bias: &[f32],
    grad: &[f32],
) -> Expected {
    let plain = PlainConv {
        kernel: conv.kernel,
        stride: conv.stride,
        inputs: conv.inputs.clone(),
        outputs: conv.outputs,
    };
    let output = conv.output(grid);
    let mut out = vec![0.0; output.n * output.voxels() * padded(conv.outputs)];
    let mut moments = vec![0.0; output.n * padded(conv.outputs) * 2];
    plain.forward(
        grid,
        &inputs.sources(),
        &plain.pack(weights, grid),
        Some(bias),
        &mut out,
        Some(&mut moments),
    );
    let mut dx: Vec<_> = inputs.values.iter().map(|v| vec![0.0; v.len()]).collect();
    let mut sinks: Vec<_> = dx
        .iter_mut()
        .zip(&conv.inputs)
        .map(|(values, &channels)| Some(Sink { values, channels, add: false }))
        .collect();
    plain.input_gradient(grid, grad, &plain.pack_gradient(weights, grid), &mut sinks);
    let (mut dw, mut db) = (vec![0.0; weights.len()], vec![0.0; conv.outputs]);
    plain.weight_gradient(grid, &inputs.sources(), grad, &mut dw, Some(&mut db));
    Expected { out, moments, dx, dw, db }
}

fn compare(conv: &Conv, grid: Grid, pending: bool, algorithms: &[Algorithm]) {
    let inputs = Inputs::new(grid, &conv.inputs, pending);
    let taps: usize = conv.kernel.iter().product();
    let weights = noise(conv.outputs * conv.inputs.iter().sum::<usize>() * taps, 1);
    let (bias, output) = (noise(conv.outputs, 2), conv.output(grid));
    let grad = tensor(output.n * output.voxels(), conv.outputs, 3);
    let good = expected(conv, grid, &inputs, &weights, &bias, &grad);
    for cpu in Cpu::available() {
        for &algorithm in algorithms {
            let name = format!("{conv:?} {grid:?} {} {algorithm:?}", cpu.name());
            let packed = conv.pack_with(cpu, algorithm, &weights);
            let mut out = vec![f32::NAN; good.out.len()];
            let mut moments = vec![f64::NAN; good.moments.len()];
            conv.forward(grid, &inputs.sources(), &packed, Some(&bias), &mut out, Some(&mut moments));
            agree(&format!("out {name}"), &out, &good.out);
            for (found, expected) in moments.chunks(2).zip(good.moments.chunks(2)) {
                let (voxels, squares) = (output.voxels() as f64, expected[1]);
                let off = [0, 1].map(|i| (found[i] - expected[i]).abs());
                let fine = off[0] <= 1e-5 * (squares * voxels).sqrt() && off[1] <= 1e-5 * squares;
                assert!(fine, "moments {name}: {found:?} {expected:?}");
            }
            input_gradient(
                &name,
                conv,
                grid,
                &grad,
                &conv.pack_gradient_with(cpu, algorithm, &weights),
                &good,
            );
            let mut dw = vec![f32::NAN; weights.len()];
            conv.weight_gradient_with(cpu, algorithm, grid, &inputs.sources(), &grad, &mut dw);
            agree(&format!("dw {name}"), &dw, &good.dw);
        }
    }
    let (mut dw, mut db) = (vec![0.0; weights.len()], vec![0.0; conv.outputs]);
    conv.weight_gradient(grid, &inputs.sources(), &grad, &mut dw, Some(&mut db));
    agree("dw of the chosen algorithm", &dw, &good.dw);
    agree("db", &db, &good.db);
}

/// The first sink overwrites, the second adds to ones; then only the last one is wanted.
fn input_gradient(
    name: &str,
    conv: &Conv,
    grid: Grid,
    grad: &[f32],
    packed: &crate::Packed,
    good: &Expected,
) {
    let mut dx: Vec<_> =
        good.dx.iter().enumerate().map(|(i, v)| vec![if i == 0 { f32::NAN } else { 1.0 }; v.len()]).collect();
    let mut sinks: Vec<_> = dx
        .iter_mut()
        .zip(&conv.inputs)
        .enumerate()
        .map(|(i, (values, &channels))| Some(Sink { values, channels, add: i > 0 }))
        .collect();
    conv.input_gradient(grid, grad, packed, &mut sinks);
    for (i, (found, expected)) in dx.iter().zip(&good.dx).enumerate() {
        let found: Vec<_> = found.iter().map(|x| if i > 0 { x - 1.0 } else { *x }).collect();
        agree(&format!("dx {i} {name}"), &found, expected);
    }
    let last = conv.inputs.len() - 1;
    let mut values = vec![f32::NAN; good.dx[last].len()];
    let mut sinks: Vec<_> = (0..last).map(|_| None).collect();
    sinks.push(Some(Sink { values: &mut values, channels: conv.inputs[last], add: false }));
    conv.input_gradient(grid, grad, packed, &mut sinks);
    agree(&format!("dx of the last source {name}"), &values, &good.dx[last]);
}

fn conv(kernel: [usize; 3], stride: [usize; 3], inputs: &[usize], outputs: usize) -> Conv {
    Conv { kernel, stride, inputs: inputs.to_vec(), outputs }
}

const fn dense(z: usize, y: usize, x: usize) -> Algorithm {
    Algorithm::Winograd(Tile([Axis::Dense(z), Axis::Dense(y), Axis::Dense(x)]))
}

const fn plane(y: Axis, x: Axis) -> Algorithm {
    Algorithm::Winograd(Tile([Axis::Single, y, x]))
}

const F222: Algorithm = dense(2, 2, 2);
const F244: Algorithm = dense(2, 4, 4);
const F424: Algorithm = dense(4, 2, 4);
const F442: Algorithm = dense(4, 4, 2);
const F444: Algorithm = dense(4, 4, 4);
const PLANE: [Algorithm; 3] =
    [Algorithm::Direct, plane(Axis::Dense(2), Axis::Dense(4)), plane(Axis::Dense(4), Axis::Dense(4))];
const D: Algorithm = Algorithm::Direct;

#[test]
fn three_by_three_by_three_agrees_on_odd_sizes() {
    compare(
        &conv([3; 3], [1; 3], &[16], 32),
        Grid { n: 2, size: [5, 7, 9] },
        true,
        &[D, F222, F244, F424, F442, F444],
    );
    compare(&conv([3; 3], [1; 3], &[20, 32], 48), Grid { n: 2, size: [4, 5, 6] }, true, &[D, F222, F444]);
    compare(
        &conv([3; 3], [1; 3], &[14, 4], 20),
        Grid { n: 2, size: [1, 2, 3] },
        true,
        &[D, F222, F244, F444],
    );
    compare(&conv([3; 3], [1; 3], &[64], 96), Grid { n: 1, size: [5, 7, 5] }, false, &[D, F444]);
    compare(&conv([3; 3], [1; 3], &[32], 32), Grid { n: 2, size: [12, 13, 35] }, true, &[D, F444]);
}

#[test]
fn few_channels_agree() {
    for (ci, co) in [(1, 32), (2, 14), (3, 1), (4, 3), (8, 8), (9, 2)] {
        compare(&conv([3; 3], [1; 3], &[ci], co), Grid { n: 2, size: [3, 6, 5] }, true, &[D, F444]);
        compare(&conv([1; 3], [1; 3], &[ci], co), Grid { n: 2, size: [3, 6, 5] }, true, &[D]);
        compare(&conv([3, 3, 3], [2; 3], &[ci], co), Grid { n: 1, size: [3, 6, 5] }, false, &[D]);
    }
}

#[test]
fn planes_agree() {
    compare(&conv([1, 3, 3], [1; 3], &[32], 20), Grid { n: 2, size: [3, 9, 10] }, true, &PLANE);
    compare(&conv([1, 3, 3], [1; 3], &[16, 16], 32), Grid { n: 2, size: [1, 17, 15] }, true, &PLANE);
}

#[test]
fn strides_agree() {
    for stride in [[2, 2, 2], [1, 2, 2], [2, 1, 2], [3, 4, 2]] {
        compare(&conv([3; 3], stride, &[32], 64), Grid { n: 2, size: [5, 8, 9] }, true, &[D]);
        compare(&conv([1, 3, 3], stride, &[20], 14), Grid { n: 1, size: [4, 7, 6] }, true, &[D]);
        compare(&conv([1; 3], stride, &[20, 3], 14), Grid { n: 1, size: [4, 7, 6] }, true, &[D]);
    }
}

#[test]
fn stride_two_by_parts_agrees() {
    use Axis::{Dense, Halving};
    let tile = |z, y, x| Algorithm::Winograd(Tile([z, y, x]));
    for size in [[5, 8, 9], [4, 17, 2], [1, 6, 12]] {
        let all = [2, 4].map(|m| tile(Halving(m), Halving(m), Halving(m)));
        compare(&conv([3; 3], [2; 3], &[32], 48), Grid { n: 2, size }, true, &all);
        let mixed = [2, 4].map(|m| tile(Dense(m), Halving(4), Halving(m)));
        compare(&conv([3; 3], [1, 2, 2], &[20, 16], 14), Grid { n: 1, size }, true, &mixed);
        let planes = [plane(Halving(2), Halving(4)), plane(Halving(4), Dense(2))];
        compare(&conv([1, 3, 3], [1, 2, 2], &[32], 32), Grid { n: 2, size }, true, &planes[..1]);
        compare(&conv([1, 3, 3], [1, 2, 1], &[16], 32), Grid { n: 2, size }, true, &planes[1..]);
    }
    compare(
        &conv([3; 3], [2; 3], &[32], 32),
        Grid { n: 1, size: [20, 30, 70] },
        true,
        &[tile(Halving(2), Halving(4), Halving(4))],
    );
}

#[test]
fn large_volumes_cut_into_boxes_agree() {
    compare(&conv([3; 3], [2; 3], &[32], 48), Grid { n: 1, size: [9, 40, 33] }, true, &[D]);
    compare(&conv([3; 3], [1; 3], &[1], 32), Grid { n: 1, size: [9, 70, 64] }, false, &[D]);
    compare(&conv([1; 3], [1; 3], &[48], 4), Grid { n: 2, size: [9, 30, 33] }, true, &[D]);
}

#[test]
fn transposed_convolution_agrees() {
    for (ci, co, stride, size) in
        [(64, 32, [2, 2, 2], [3, 4, 5]), (20, 14, [1, 2, 2], [3, 9, 17]), (3, 40, [2, 1, 4], [2, 3, 5])]
    {
        for n in [1, 2] {
            transposed(TransposedConv { stride, inputs: ci, outputs: co }, Grid { n, size });
        }
    }
}

fn transposed(conv: TransposedConv, grid: Grid) {
    let inputs = Inputs::new(grid, &[conv.inputs], true);
    let (sources, output) = (inputs.sources(), conv.output(grid));
    let taps: usize = conv.stride.iter().product();
    let (weights, bias) = (noise(conv.inputs * conv.outputs * taps, 1), noise(conv.outputs, 2));
    let grad = tensor(output.n * output.voxels(), conv.outputs, 3);
    let plain = PlainTransposed { stride: conv.stride, inputs: conv.inputs, outputs: conv.outputs };
    let mut good = vec![0.0; grad.len()];
    plain.forward(grid, &sources[0], &plain.pack(&weights, grid), Some(&bias), &mut good);
    let mut good_dx = vec![0.0; inputs.values[0].len()];
    plain.input_gradient(
        grid,
        &grad,
        &plain.pack_gradient(&weights, grid),
        Sink { values: &mut good_dx, channels: conv.inputs, add: false },
    );
    let mut good_dw = vec![0.0; weights.len()];
    plain.weight_gradient(grid, &sources[0], &grad, &mut good_dw, None);
    for cpu in Cpu::available() {
        let name = format!("{conv:?} {grid:?} {}", cpu.name());
        let mut out = vec![f32::NAN; grad.len()];
        conv.forward(grid, &sources[0], &conv.pack_with(cpu, &weights), Some(&bias), &mut out);
        agree(&format!("out {name}"), &out, &good);
        let mut dx = vec![1.0; good_dx.len()];
        conv.input_gradient(
            grid,
            &grad,
            &conv.pack_gradient_with(cpu, &weights),
            Sink { values: &mut dx, channels: conv.inputs, add: true },
        );
        dx.iter_mut().for_each(|x| *x -= 1.0);
        agree(&format!("dx {name}"), &dx, &good_dx);
        let mut dw = vec![f32::NAN; weights.len()];
        conv.weight_gradient_with(cpu, grid, &sources[0], &grad, &mut dw);
        agree(&format!("dw {name}"), &dw, &good_dw);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let grid = Grid { n: 2, size: [9, 17, 18] };
    for conv in
        [conv([3; 3], [1; 3], &[32], 32), conv([3; 3], [1; 3], &[64], 64), conv([3; 3], [2; 3], &[32], 32)]
    {
        let inputs = Inputs::new(grid, &conv.inputs, true);
        let weights = noise(conv.outputs * conv.inputs[0] * 27, 1);
        let output = conv.output(grid);
        let grad = tensor(output.n * output.voxels(), conv.outputs, 3);
        let all = || {
            let mut out = vec![0.0; grad.len()];
            let mut moments = vec![0.0; 2 * padded(conv.outputs) * 2];
            conv.forward(
                grid,
                &inputs.sources(),
                &conv.pack(&weights, grid),
                None,
                &mut out,
                Some(&mut moments),
            );
            let mut dx = vec![0.0; inputs.values[0].len()];
            conv.input_gradient(
                grid,
                &grad,
                &conv.pack_gradient(&weights, grid),
                &mut [Some(Sink { values: &mut dx, channels: conv.inputs[0], add: false })],
            );
            let (mut dw, mut db) = (vec![0.0; weights.len()], vec![0.0; conv.outputs]);
            conv.weight_gradient(grid, &inputs.sources(), &grad, &mut dw, Some(&mut db));
            (out, moments, dx, dw, db)
        };
        let run = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(all)
        };
        let one = run(1);
        assert!(one == run(2) && one == run(5), "{conv:?}");
    }
}

/// Largest error against 64-bit sums, in units of their root mean square, over some places of the output.
#[test]
fn many_channels_stay_close_to_64_bit_sums() {
    let (conv, grid) = (conv([3; 3], [1; 3], &[256], 32), Grid { n: 1, size: [9, 8, 8] });
    let (x, weights) = (tensor(grid.voxels(), 256, 4), noise(32 * 256 * 27, 5));
    let source = Source::new(&x, 256, None);
    let at = |[z, y, x]: [usize; 3]| (z * grid.size[1] + y) * grid.size[2] + x;
    let exact = |place: [usize; 3], co: usize| {
        let mut sum = 0.0;
        for tap in 0..27 {
            let from = [place[0] + tap / 9, place[1] + tap / 3 % 3, place[2] + tap % 3];
            if (0..3).all(|a| (1..=grid.size[a]).contains(&from[a])) {
                let values = &x[at(from.map(|p| p - 1)) * 256..][..256];
                let weight = |ci: usize| f64::from(weights[(co * 256 + ci) * 27 + tap]);
                sum += values.iter().enumerate().map(|(ci, &v)| f64::from(v) * weight(ci)).sum::<f64>();
            }
        }
        sum
    };
    for algorithm in [D, F222, F244, F444] {
        let packed = conv.pack_with(Cpu::detected(), algorithm, &weights);
        let mut out = vec![0.0; grid.voxels() * 32];
        conv.forward(grid, &[source], &packed, None, &mut out, None);
        let (mut worst, mut square, mut count) = (0.0f64, 0.0, 0.0);
        for i in 0..200 {
            let place = [i * 5 % grid.size[0], i * 3 % grid.size[1], i * 7 % grid.size[2]];
            let good = exact(place, i % 32);
            worst = worst.max((f64::from(out[at(place) * 32 + i % 32]) - good).abs());
            square += good * good;
            count += 1.0;
        }
        let error = worst / f64::sqrt(square / count);
        println!("{algorithm:?}: {error:.1e} of the RMS");
        assert!(error <= TOLERANCE, "{algorithm:?}: {error:.1e}");
    }
}

#[test]
fn weight_gradients_over_many_voxels_stay_close_to_64_bit_sums() {
    let (conv, grid) = (conv([3; 3], [1; 3], &[16], 16), Grid { n: 2, size: [24, 40, 40] });
    let (x, grad) = (tensor(2 * grid.voxels(), 16, 4), tensor(2 * grid.voxels(), 16, 5));
    let source = Source::new(&x, 16, None);
    let at = |[z, y, x]: [usize; 3]| (z * grid.size[1] + y) * grid.size[2] + x;
    let exact = |co: usize, ci: usize, tap: [usize; 3]| {
        let mut sum = 0.0;
        for v in 0..2 * grid.voxels() {
            let (n, v) = (v / grid.voxels(), v % grid.voxels());
            let place =
                [v / (grid.size[1] * grid.size[2]), v / grid.size[2] % grid.size[1], v % grid.size[2]];
            let from = [0, 1, 2].map(|a| place[a] + tap[a]);
            if (0..3).all(|a| (1..=grid.size[a]).contains(&from[a])) {
                let value = x[(n * grid.voxels() + at(from.map(|p| p - 1))) * 16 + ci];
                sum += f64::from(value) * f64::from(grad[(n * grid.voxels() + v) * 16 + co]);
            }
        }
        sum
    };
    for algorithm in [D, F222, F444] {
        let mut dw = vec![0.0; 16 * 16 * 27];
        conv.weight_gradient_with(Cpu::detected(), algorithm, grid, &[source], &grad, &mut dw);
        let rms = (dw.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / dw.len() as f64).sqrt();
        let error = |i: usize| {
            let (co, ci, tap) = (i % 16, i * 5 % 16, i * 7 % 27);
            let found = f64::from(dw[(co * 16 + ci) * 27 + tap]);
            (found - exact(co, ci, [tap / 9, tap / 3 % 3, tap % 3])).abs() / rms
        };
        let worst = (0..20).map(error).fold(0.0, f64::max);
        println!("{algorithm:?}: {worst:.1e} of the RMS");
        assert!(worst <= TOLERANCE, "{algorithm:?}: {worst:.1e}");
    }
}

#[test]
fn a_sample_gives_the_same_bytes_alone_and_in_a_batch() {
    let (both, one) = (Grid { n: 2, size: [6, 9, 10] }, Grid { n: 1, size: [6, 9, 10] });
    let shapes = [
        ([3; 3], [1; 3], 32, 32),
        ([3; 3], [1; 3], 1, 20),
        ([3; 3], [2; 3], 32, 64),
        ([1; 3], [1; 3], 32, 3),
    ];
    for (kernel, stride, inputs, outputs) in shapes {
        let conv = conv(kernel, stride, &[inputs], outputs);
        let weights = noise(outputs * inputs * kernel.iter().product::<usize>(), 1);
        let x = tensor(2 * both.voxels(), inputs, 7);
        let run = |grid: Grid, values: &[f32]| {
            let mut out = vec![0.0; grid.n * conv.output(grid).voxels() * padded(outputs)];
            let mut moments = vec![0.0; grid.n * padded(outputs) * 2];
            let source = Source::new(values, inputs, None);
            conv.forward(grid, &[source], &conv.pack(&weights, grid), None, &mut out, Some(&mut moments));
            (out, moments)
        };
        let (out, moments) = run(both, &x);
        let (second_out, second_moments) = run(one, &x[x.len() / 2..]);
        assert!(
            out[out.len() / 2..] == second_out[..] && moments[moments.len() / 2..] == second_moments[..],
            "{conv:?}"
        );
    }
}

/// `<conv(x), g> = <x, dx(g)> = <w, dw(x, g)>`, in the plain twin itself.
#[test]
fn the_plain_twin_is_adjoint() {
    let (conv, grid) = (conv([3, 3, 1], [2, 1, 1], &[3, 2], 4), Grid { n: 2, size: [5, 4, 3] });
    let inputs = Inputs::new(grid, &conv.inputs, false);
    let weights = noise(4 * 5 * 9, 1);
    let output = conv.output(grid);
    let grad = tensor(output.n * output.voxels(), 4, 3);
    let good = expected(&conv, grid, &inputs, &weights, &[0.0; 4], &grad);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    let by_output = dot(&good.out, &grad);
    let by_input: f64 = inputs.values.iter().zip(&good.dx).map(|(x, dx)| dot(x, dx)).sum();
    assert!((by_output - by_input).abs() < 1e-4 * by_output.abs().max(1.0), "{by_output} {by_input}");
    assert!((by_output - dot(&weights, &good.dw)).abs() < 1e-4 * by_output.abs().max(1.0));
}
