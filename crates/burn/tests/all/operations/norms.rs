//! Layer, group and batch norm.

use super::{compare, gradient, values};
use crate::layout::{bare, channels_last, devices, leaf, moments, noise, off, planes, wide};
use galen_burn::bodies::norm;
use galen_kernels::shared_norm::{Running, Shared, SharedNorm};
use galen_kernels::{LayerNorm, padded};

const EPS: f64 = 1e-5;

#[test]
fn layer_norm() {
    let (rows, c) = (12, 21);
    let (x, w, b, g) = (noise(rows * c, 0.1), noise(c, 0.2), noise(c, 0.3), noise(rows * c, 0.4));
    let of = LayerNorm { channels: c, eps: EPS as f32 };
    let (wide_x, mut dx) = (wide(&x, c), wide(&g, c));
    let (mut out, mut dw, mut db) = (vec![0.0; wide_x.len()], vec![0.0; c], vec![0.0; c]);
    of.forward(&wide_x, &w, &b, &mut out);
    of.gradient(&wide_x, &w, &mut dx, &mut dw, &mut db);
    for at in devices() {
        let image = leaf(&x, [1, rows, c], &at.1);
        let (scale, shift) = (leaf(&w, [c], &at.1), leaf(&b, [c], &at.1));
        let y = norm::layer_norm(image.clone(), scale.clone(), shift.clone(), EPS);
        let gradients = vec![
            gradient("input", &image, bare(&dx, c)),
            gradient("scale", &scale, dw.clone()),
            gradient("shift", &shift, db.clone()),
        ];
        compare("layer norm", &at, y, &bare(&out, c), &g, gradients);
    }
}

#[test]
fn group_and_batch_norm() {
    let (c, voxels, width) = (6, 2 * 3 * 4, padded(6));
    let (x, w, b, g) = (noise(2 * c * voxels, 0.1), noise(c, 0.2), noise(c, 0.3), noise(2 * c * voxels, 0.4));
    let raw = channels_last(&x, 2, c);
    for over in [Shared::Groups(3), Shared::Batch] {
        let mut of = SharedNorm::new(over);
        of.update(&moments(&raw, 2, c), c, voxels, Some(&w), Some(&b), EPS);
        let applied = |(i, v): (usize, &f32)| {
            let lane = i / (voxels * width) * width + i % width;
            v * of.state.scale[lane] + of.state.shift[lane]
        };
        let out: Vec<f32> = raw.iter().enumerate().map(applied).collect();
        let (mut dx, mut dw, mut db) = (channels_last(&g, 2, c), vec![0.0; c], vec![0.0; c]);
        of.backward(c, voxels, 1.0, Some(&w), &raw, &mut dx, Some((&mut dw, &mut db)));
        for at in devices() {
            let image = leaf(&x, [2, c, 2, 3, 4], &at.1);
            let (scale, shift) = (leaf(&w, [c], &at.1), leaf(&b, [c], &at.1));
            let y = norm::shared_norm(image.clone(), over, Some(scale.clone()), Some(shift.clone()), EPS);
            let gradients = vec![
                gradient("input", &image, planes(&dx, 2, c)),
                gradient("scale", &scale, dw.clone()),
                gradient("shift", &shift, db.clone()),
            ];
            compare(&format!("norm over {over:?}"), &at, y, &planes(&out, 2, c), &g, gradients);
        }
    }
}

#[test]
fn batch_norm_in_prediction() {
    let (c, voxels, width) = (6, 2 * 3 * 4, padded(6));
    let (x, w, b) = (noise(2 * c * voxels, 0.1), noise(c, 0.2), noise(c, 0.3));
    let raw = channels_last(&x, 2, c);
    let mut running = Running::new(c);
    running.follow(&moments(&raw, 2, c), voxels, 0.3);
    let of = running.norm(2, Some(&w), Some(&b), EPS);
    let applied = |(i, v): (usize, &f32)| {
        let lane = i / (voxels * width) * width + i % width;
        v * of.scale[lane] + of.shift[lane]
    };
    let out: Vec<f32> = raw.iter().enumerate().map(applied).collect();
    for (place, device) in devices() {
        let image = leaf(&x, [2, c, 2, 3, 4], &device);
        let (scale, shift) = (leaf(&w, [c], &device), leaf(&b, [c], &device));
        let y = norm::running_norm(image, &running, Some(scale), Some(shift), EPS, &device);
        let found = off(&planes(&out, 2, c), &values(y));
        println!("batch norm in prediction on {place}: {found:.1e} of the RMS");
        assert!(found < 1e-4, "{place}: {found}");
    }
}
