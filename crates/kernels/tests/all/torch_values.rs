//! Operations and their gradients against numbers that PyTorch computed in 64 bits.

use crate::torch_case::{Case, Stored, bare, cases, planes};
use galen_kernels::attention::{Projected, ProjectedGradient, RelativePositions, Tokens, Windows};
use galen_kernels::selective_scan::{ScanGradient, ScanInput};
use galen_kernels::shared_norm::{Running, Shared, SharedNorm};
use galen_kernels::{
    Attention, DepthwiseConv, Gelu, Grid, GridSample, GroupedConv, Interpolation, LayerNorm, MaxPool,
    Padding, SelectiveScan, Sink, Source, padded,
};

#[test]
fn depthwise_convolution() {
    for case in cases("depthwise") {
        let (x, w, b, grad) = (case.input("x"), case.input("w"), case.input("b"), case.grad());
        let (channels, grid) = (x.channels(), x.grid());
        let conv = DepthwiseConv { kernel: case.triple("kernel"), stride: case.triple("stride"), channels };
        let (values, g) = (x.channels_last(), grad.channels_last());
        let source = Source::new(&values, channels, None);
        let mut out = vec![f32::NAN; g.len()];
        conv.forward(grid, &source, &w.values, Some(&b.values), &mut out, None);
        case.check_output(&planes(&out, grid.n, channels));
        let mut dx = vec![f32::NAN; values.len()];
        conv.input_gradient(grid, &g, &w.values, Sink { values: &mut dx, channels, add: false });
        case.check_gradient("x", &planes(&dx, grid.n, channels));
        let (mut dw, mut db) = (vec![f32::NAN; w.values.len()], vec![f32::NAN; channels]);
        conv.weight_gradient(grid, &source, &g, &mut dw, Some(&mut db));
        case.check_gradient("w", &dw);
        case.check_gradient("b", &db);
    }
}

#[test]
fn grouped_convolution() {
    for case in cases("grouped") {
        let (x, w, b, grad) = (case.input("x"), case.input("w"), case.input("b"), case.grad());
        let (inputs, outputs, grid) = (x.channels(), grad.channels(), x.grid());
        let (kernel, stride, groups) =
            (case.triple("kernel"), case.triple("stride"), case.number("groups") as usize);
        let conv = GroupedConv { groups, kernel, stride, inputs, outputs };
        let (values, g) = (x.channels_last(), grad.channels_last());
        let source = Source::new(&values, inputs, None);
        let mut out = vec![f32::NAN; g.len()];
        conv.forward(grid, &source, &conv.pack(&w.values, grid), Some(&b.values), &mut out, None);
        case.check_output(&planes(&out, grid.n, outputs));
        let mut dx = vec![f32::NAN; values.len()];
        let sink = Sink { values: &mut dx, channels: inputs, add: false };
        conv.input_gradient(grid, &g, &conv.pack_gradient(&w.values, grid), sink);
        case.check_gradient("x", &planes(&dx, grid.n, inputs));
        let (mut dw, mut db) = (vec![f32::NAN; w.values.len()], vec![f32::NAN; outputs]);
        conv.weight_gradient(grid, &source, &g, &mut dw, Some(&mut db));
        case.check_gradient("w", &dw);
        case.check_gradient("b", &db);
    }
}

#[test]
fn max_pool() {
    for case in cases("max_pool") {
        let (x, grad) = (case.input("x"), case.grad());
        let (channels, grid) = (x.channels(), x.grid());
        let (window, stride, padding) =
            (case.triple("window"), case.triple("stride"), case.triple("padding"));
        let pool = MaxPool { window, stride, padding };
        let (values, g) = (x.channels_last(), grad.channels_last());
        let (mut out, mut taps) = (vec![f32::NAN; g.len()], vec![0; g.len()]);
        pool.forward(grid, &Source::new(&values, channels, None), &mut out, &mut taps);
        case.check_output(&planes(&out, grid.n, channels));
        let mut dx = vec![f32::NAN; values.len()];
        pool.gradient(grid, &g, &taps, Sink { values: &mut dx, channels, add: false });
        case.check_gradient("x", &planes(&dx, grid.n, channels));
    }
}

#[test]
fn interpolation() {
    for case in cases("interpolation") {
        let (x, grad) = (case.input("x"), case.grad());
        let (channels, grid, size) = (x.channels(), x.grid(), case.triple("size"));
        let kind = match (case.attribute("mode").as_str(), case.attribute("align").as_bool()) {
            (Some("nearest"), _) => Interpolation::Nearest,
            (_, Some(true)) => Interpolation::LinearAlignCorners,
            _ => Interpolation::Linear,
        };
        let (values, g) = (x.channels_last(), grad.channels_last());
        let mut out = vec![f32::NAN; g.len()];
        kind.forward(grid, &Source::new(&values, channels, None), size, &mut out);
        case.check_output(&planes(&out, grid.n, channels));
        let mut dx = vec![f32::NAN; values.len()];
        kind.gradient(grid, size, &g, Sink { values: &mut dx, channels, add: false });
        case.check_gradient("x", &planes(&dx, grid.n, channels));
    }
}

#[test]
fn grid_sample() {
    for case in cases("grid_sample") {
        let (x, positions, grad) = (case.input("x"), case.input("positions"), case.grad());
        let (channels, grid, points) = (x.channels(), x.grid(), grad.grid());
        let how = GridSample {
            nearest: case.attribute("mode") == "nearest",
            padding: if case.attribute("padding") == "border" { Padding::Border } else { Padding::Zeros },
            align_corners: case.attribute("align") == true,
        };
        let (values, g) = (x.channels_last(), grad.channels_last());
        let source = Source::new(&values, channels, None);
        let mut out = vec![f32::NAN; g.len()];
        how.forward(grid, &source, points, &positions.values, &mut out);
        case.check_output(&planes(&out, grid.n, channels));
        let mut dx = vec![f32::NAN; values.len()];
        let sink = Sink { values: &mut dx, channels, add: false };
        how.input_gradient(grid, points, &positions.values, &g, sink);
        case.check_gradient("x", &planes(&dx, grid.n, channels));
        let mut by_position = vec![f32::NAN; positions.values.len()];
        how.position_gradient(grid, &source, points, &positions.values, &g, &mut by_position);
        case.check_gradient("positions", &by_position);
    }
}

#[test]
fn layer_norm() {
    for case in cases("layer_norm") {
        let (x, w, b, grad) = (case.input("x"), case.input("w"), case.input("b"), case.grad());
        let channels = w.values.len();
        let norm = LayerNorm { channels, eps: case.number("eps") as f32 };
        let (values, mut g) = (x.rows(), grad.rows());
        let mut out = vec![f32::NAN; values.len()];
        norm.forward(&values, &w.values, &b.values, &mut out);
        case.check_output(&bare(&out, channels));
        let (mut dw, mut db) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
        norm.gradient(&values, &w.values, &mut g, &mut dw, &mut db);
        case.check_gradient("x", &bare(&g, channels));
        case.check_gradient("w", &dw);
        case.check_gradient("b", &db);
    }
}

/// Sum and sum of squares per sample and channel.
fn moments(x: &Stored) -> Vec<f64> {
    let (grid, width, values) = (x.grid(), padded(x.channels()), x.channels_last());
    let mut moments = vec![0.0; grid.n * width * 2];
    for (i, &v) in values.iter().enumerate() {
        let at = i / (grid.voxels() * width) * width + i % width;
        moments[2 * at] += f64::from(v);
        moments[2 * at + 1] += f64::from(v).powi(2);
    }
    moments
}

fn norm_with_shared_statistics(case: &Case, over: Shared) {
    let (x, w, b, grad) = (case.input("x"), case.input("w"), case.input("b"), case.grad());
    let (channels, grid) = (x.channels(), x.grid());
    let (voxels, width, values) = (grid.voxels(), padded(channels), x.channels_last());
    let mut norm = SharedNorm::new(over);
    norm.update(&moments(&x), channels, voxels, Some(&w.values), Some(&b.values), case.number("eps"));
    let scaled = |(i, v): (usize, &f32)| {
        let lane = i / (voxels * width) * width + i % width;
        v * norm.state.scale[lane] + norm.state.shift[lane]
    };
    let out: Vec<f32> = values.iter().enumerate().map(scaled).collect();
    case.check_output(&planes(&out, grid.n, channels));
    let mut g = grad.channels_last();
    let (mut dw, mut db) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
    norm.backward(channels, voxels, 1.0, Some(&w.values), &values, &mut g, Some((&mut dw, &mut db)));
    case.check_gradient("x", &planes(&g, grid.n, channels));
    case.check_gradient("w", &dw);
    case.check_gradient("b", &db);
}

#[test]
fn group_norm() {
    for case in cases("group_norm") {
        norm_with_shared_statistics(&case, Shared::Groups(case.number("groups") as usize));
    }
}

#[test]
fn batch_norm_and_its_running_statistics() {
    for case in cases("batch_norm") {
        norm_with_shared_statistics(&case, Shared::Batch);
        let x = case.input("x");
        let mut running = Running::new(x.channels());
        running.follow(&moments(&x), x.grid().voxels(), case.number("momentum") as f32);
        for (name, found) in [("mean", &running.mean), ("variance", &running.variance)] {
            for (c, found) in found.iter().enumerate() {
                let good = case.attribute(name)[c].as_f64().expect("a number");
                assert!((f64::from(*found) - good).abs() < 1e-6, "{name} {c}: {found} {good}");
            }
        }
    }
}

#[test]
fn gelu() {
    for case in cases("gelu") {
        let kind = if case.attribute("approximate") == "tanh" { Gelu::Tanh } else { Gelu::Exact };
        let (values, mut g) = (case.input("x").rows(), case.grad().rows());
        let mut out = vec![f32::NAN; values.len()];
        kind.forward(&values, &mut out);
        case.check_output(&out[..40]);
        kind.gradient(&values, &mut g);
        case.check_gradient("x", &g[..40]);
    }
}

#[test]
fn attention_of_all_tokens() {
    for case in cases("attention") {
        let inputs = ["q", "k", "v"].map(|name| case.input(name));
        let (heads, channels) = (case.number("heads") as usize, inputs[0].shape[2]);
        let head_channels = channels / heads;
        let of = Attention { heads, head_channels, scale: (head_channels as f32).powf(-0.5) };
        let n = inputs[0].shape[0];
        let tokens = Tokens::All { n, queries: inputs[0].shape[1], keys: inputs[1].shape[1] };
        let [q, k, v] = inputs.map(|input| input.rows());
        let projected = Projected::Apart([&q, &k, &v]);
        let (mut out, mut sums) = (vec![f32::NAN; q.len()], vec![f32::NAN; of.sums_len(&tokens)]);
        of.forward(tokens, projected, &mut out, &mut sums);
        case.check_output(&bare(&out, channels));
        let mut grads = [&q, &k, &v].map(|values| vec![f32::NAN; values.len()]);
        let [dq, dk, dv] = &mut grads;
        let to = ProjectedGradient::Apart([dq, dk, dv]);
        of.gradient(tokens, projected, &out, &sums, &case.grad().rows(), to, None);
        for (name, grad) in ["q", "k", "v"].iter().zip(&grads) {
            case.check_gradient(name, &bare(grad, channels));
        }
    }
}

#[test]
fn attention_in_shifted_windows() {
    for case in cases("windows") {
        let (qkv, table) = (case.input("qkv"), case.input("table"));
        let (heads, size, window) =
            (case.number("heads") as usize, case.triple("size"), case.triple("window"));
        let head_channels = qkv.shape[4] / 3 / heads;
        let of = Attention { heads, head_channels, scale: (head_channels as f32).powf(-0.5) };
        let windows = Windows::new(Grid { n: qkv.shape[0], size }, window, case.triple("shift"));
        let positions = RelativePositions { window, heads };
        let bias = positions.bias(&table.values);
        let tokens = Tokens::Windows(&windows, Some(&bias));
        let (values, g) = (qkv.rows(), case.grad().rows());
        let projected = Projected::Together(&values);
        let (mut out, mut sums) = (vec![f32::NAN; g.len()], vec![f32::NAN; of.sums_len(&tokens)]);
        of.forward(tokens, projected, &mut out, &mut sums);
        case.check_output(&bare(&out, of.channels()));
        let (mut dx, mut of_bias) = (vec![f32::NAN; values.len()], vec![f32::NAN; bias.len()]);
        let to = ProjectedGradient::Together(&mut dx);
        of.gradient(tokens, projected, &out, &sums, &g, to, Some(&mut of_bias));
        case.check_gradient("qkv", &bare(&dx, 3 * of.channels()));
        let mut of_table = vec![f32::NAN; table.values.len()];
        positions.gradient(&of_bias, &mut of_table);
        case.check_gradient("table", &of_table);
    }
}

#[test]
fn selective_scan() {
    for case in cases("selective_scan") {
        let [x, b] = ["x", "b"].map(|name| case.input(name));
        let of =
            SelectiveScan { n: x.shape[0], length: x.shape[1], channels: x.shape[2], states: b.shape[2] };
        let [x, delta, b, c] = ["x", "delta", "b", "c"].map(|name| case.input(name).rows());
        let [bias, a, d] = ["delta_bias", "a", "d"].map(|name| case.input(name).values);
        let input = ScanInput { x: &x, delta: &delta, delta_bias: &bias, a: &a, b: &b, c: &c, d: &d };
        let (mut y, mut kept) = (vec![f32::NAN; x.len()], vec![f32::NAN; of.kept_len()]);
        of.forward(&input, &mut y, &mut kept);
        case.check_output(&bare(&y, of.channels));
        let mut grads = [&x, &delta, &bias, &a, &b, &c, &d].map(|values| vec![f32::NAN; values.len()]);
        let [dx, ddelta, dbias, da, db, dc, dd] = &mut grads;
        let mut to = ScanGradient { x: dx, delta: ddelta, delta_bias: dbias, a: da, b: db, c: dc, d: dd };
        of.gradient(&input, &kept, &case.grad().rows(), &mut to);
        let [dx, ddelta, dbias, da, db, dc, dd] = grads;
        for (name, grad, width) in [
            ("x", dx, of.channels),
            ("delta", ddelta, of.channels),
            ("b", db, of.states),
            ("c", dc, of.states),
        ] {
            case.check_gradient(name, &bare(&grad, width));
        }
        for (name, grad) in [("delta_bias", dbias), ("a", da), ("d", dd)] {
            case.check_gradient(name, &grad);
        }
    }
}
