//! GELU, attention and selective scan.

use super::{compare, gradient};
use crate::layout::{bare, devices, leaf, noise, wide};
use galen_burn::bodies::scan::{Scanned, selective_scan};
use galen_burn::bodies::tokens;
use galen_kernels::attention::{Projected, ProjectedGradient, Tokens, Windows};
use galen_kernels::selective_scan::{ScanGradient, ScanInput};
use galen_kernels::{Attention, Gelu, Grid, SelectiveScan};

#[test]
fn gelu() {
    let (rows, c) = (12, 21);
    let (x, g) = (noise(rows * c, 0.1), noise(rows * c, 0.2));
    let wide_x = wide(&x, c);
    for kind in [Gelu::Exact, Gelu::Tanh] {
        let (mut out, mut dx) = (vec![0.0; wide_x.len()], wide(&g, c));
        kind.forward(&wide_x, &mut out);
        kind.gradient(&wide_x, &mut dx);
        for at in devices() {
            let image = leaf(&x, [1, rows, c], &at.1);
            let y = tokens::gelu(image.clone(), kind);
            let gradients = vec![gradient("input", &image, bare(&dx, c))];
            compare(&format!("{kind:?} GELU"), &at, y, &bare(&out, c), &g, gradients);
        }
    }
}

#[test]
fn attention_of_all_tokens() {
    let (heads, head_channels, n, queries, keys) = (2, 7, 2, 30, 41);
    let c = heads * head_channels;
    let of = Attention { heads, head_channels, scale: (head_channels as f32).powf(-0.5) };
    let all = [(queries, 0.1), (keys, 0.2), (keys, 0.3)].map(|(len, seed)| noise(n * len * c, seed));
    let g = noise(n * queries * c, 0.4);
    let [q, k, v] = [0, 1, 2].map(|i| wide(&all[i], c));
    let who = Tokens::All { n, queries, keys };
    let projected = Projected::Apart([&q, &k, &v]);
    let (mut out, mut sums) = (vec![0.0; q.len()], vec![0.0; of.sums_len(&who)]);
    of.forward(who, projected, &mut out, &mut sums);
    let mut grads = [&q, &k, &v].map(|values| vec![0.0; values.len()]);
    let [dq, dk, dv] = &mut grads;
    let to = ProjectedGradient::Apart([dq, dk, dv]);
    of.gradient(who, projected, &out, &sums, &wide(&g, c), to, None);
    for at in devices() {
        let lengths = [queries, keys, keys];
        let leaves = [0, 1, 2].map(|i| leaf(&all[i], [n, lengths[i], c], &at.1));
        let y = tokens::attention(&of, leaves.clone(), None);
        let named = ["queries", "keys", "values"].into_iter().zip(&leaves).zip(&grads);
        let gradients = named.map(|((name, leaf), grad)| gradient(name, leaf, bare(grad, c))).collect();
        compare("attention", &at, y, &bare(&out, c), &g, gradients);
    }
}

#[test]
fn attention_in_shifted_windows() {
    let (heads, head_channels, window, grid) = (2, 5, [2, 2, 3], Grid { n: 2, size: [4, 4, 6] });
    let (c, tokens) = (heads * head_channels, window.iter().product::<usize>());
    let of = Attention { heads, head_channels, scale: (head_channels as f32).powf(-0.5) };
    let qkv = noise(2 * grid.voxels() * 3 * c, 0.1);
    let (bias, g) = (noise(heads * tokens * tokens, 0.2), noise(2 * grid.voxels() * c, 0.3));
    let (values, wide_g) = (wide(&qkv, 3 * c), wide(&g, c));
    for shift in [[0; 3], [1, 1, 2]] {
        let windows = Windows::new(grid, window, shift);
        let who = Tokens::Windows(&windows, Some(&bias));
        let projected = Projected::Together(&values);
        let (mut out, mut sums) = (vec![0.0; wide_g.len()], vec![0.0; of.sums_len(&who)]);
        of.forward(who, projected, &mut out, &mut sums);
        let (mut dx, mut db) = (vec![0.0; values.len()], vec![0.0; bias.len()]);
        let to = ProjectedGradient::Together(&mut dx);
        of.gradient(who, projected, &out, &sums, &wide_g, to, Some(&mut db));
        for at in devices() {
            let image = leaf(&qkv, [2, grid.voxels(), 3 * c], &at.1);
            let added = leaf(&bias, [heads, tokens, tokens], &at.1);
            let y = tokens::window_attention(&of, &windows, image.clone(), Some(added.clone()), &at.1);
            let gradients =
                vec![gradient("projections", &image, bare(&dx, 3 * c)), gradient("bias", &added, db.clone())];
            compare(&format!("windows, shift {shift:?}"), &at, y, &bare(&out, c), &g, gradients);
        }
    }
}

#[test]
fn scans() {
    let of = SelectiveScan { n: 2, length: 37, channels: 5, states: 3 };
    let (rows, c, s) = (of.n * of.length, of.channels, of.states);
    let (x, delta, g) = (noise(rows * c, 0.1), noise(rows * c, 0.2), noise(rows * c, 0.3));
    let (b_values, c_values) = (noise(rows * s, 0.4), noise(rows * s, 0.5));
    let (bias, d) = (noise(c, 0.6), noise(c, 0.7));
    let a: Vec<f32> = noise(c * s, 0.8).iter().map(|v| -0.2 - v.abs()).collect();
    let [wide_x, wide_delta, wide_b, wide_c] =
        [wide(&x, c), wide(&delta, c), wide(&b_values, s), wide(&c_values, s)];
    let input =
        ScanInput { x: &wide_x, delta: &wide_delta, delta_bias: &bias, a: &a, b: &wide_b, c: &wide_c, d: &d };
    let (mut out, mut kept) = (vec![0.0; wide_x.len()], vec![0.0; of.kept_len()]);
    of.forward(&input, &mut out, &mut kept);
    let mut grads =
        [&wide_x, &wide_delta, &bias, &a, &wide_b, &wide_c, &d].map(|values| vec![0.0; values.len()]);
    let [dx, ddelta, dbias, da, db, dc, dd] = &mut grads;
    let mut to = ScanGradient { x: dx, delta: ddelta, delta_bias: dbias, a: da, b: db, c: dc, d: dd };
    of.gradient(&input, &kept, &wide(&g, c), &mut to);
    let [dx, ddelta, dbias, da, db, dc, dd] = grads;
    for at in devices() {
        let steps = [of.n, of.length, c];
        let scanned = Scanned {
            x: leaf(&x, steps, &at.1),
            delta: leaf(&delta, steps, &at.1),
            delta_bias: leaf(&bias, [c], &at.1),
            a: leaf(&a, [c, s], &at.1),
            b: leaf(&b_values, [of.n, of.length, s], &at.1),
            c: leaf(&c_values, [of.n, of.length, s], &at.1),
            d: leaf(&d, [c], &at.1),
        };
        let gradients = vec![
            gradient("x", &scanned.x, bare(&dx, c)),
            gradient("delta", &scanned.delta, bare(&ddelta, c)),
            gradient("bias of delta", &scanned.delta_bias, dbias.clone()),
            gradient("A", &scanned.a, da.clone()),
            gradient("B", &scanned.b, bare(&db, s)),
            gradient("C", &scanned.c, bare(&dc, s)),
            gradient("D", &scanned.d, dd.clone()),
        ];
        compare("selective scan", &at, selective_scan(scanned), &bare(&out, c), &g, gradients);
    }
}
