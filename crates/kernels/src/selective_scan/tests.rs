//! The scan against its definition in 64 bits, and the gradients against finite differences of it.

use super::*;
use crate::conv_tests::{agree, noise, tensor};

/// `[x, delta, delta_bias, a, b, c, d]`, tensors without pad lanes.
type Values = [Vec<f64>; 7];

fn plain(of: &SelectiveScan, [x, delta, bias, a, b, c, d]: &Values) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for n in 0..of.n {
        for ch in 0..of.channels {
            let mut h = vec![0.0; of.states];
            for t in 0..of.length {
                let row = n * of.length + t;
                let at = row * of.channels + ch;
                let step = (delta[at] + bias[ch]).exp().ln_1p();
                y[at] = d[ch] * x[at];
                for s in 0..of.states {
                    let place = row * of.states + s;
                    h[s] = (step * a[ch * of.states + s]).exp() * h[s] + step * b[place] * x[at];
                    y[at] += c[place] * h[s];
                }
            }
        }
    }
    y
}

fn bare(values: &[f32], channels: usize) -> Vec<f64> {
    values.chunks(padded(channels)).flat_map(|row| &row[..channels]).map(|&x| f64::from(x)).collect()
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&x| x as f32).collect()
}

#[test]
fn values_and_gradients_are_those_of_64_bits() {
    for (n, length, channels, states) in [(2, 70, 5, 3), (1, 33, 20, 16), (1, 5, 300, 2), (2, 64, 16, 17)] {
        let of = SelectiveScan { n, length, channels, states };
        let rows = n * length;
        let (x, delta) = (tensor(rows, channels, 1), tensor(rows, channels, 2));
        let (b, c) = (tensor(rows, states, 3), tensor(rows, states, 4));
        let bias: Vec<f32> = noise(channels, 5).iter().map(|x| 2.0 * x - 1.0).collect();
        let a: Vec<f32> = noise(channels * states, 6).iter().map(|x| -(2.0 * x).exp()).collect();
        let (d, grad) = (noise(channels, 7), tensor(rows, channels, 8));
        let input = ScanInput { x: &x, delta: &delta, delta_bias: &bias, a: &a, b: &b, c: &c, d: &d };
        let wide = |v: &[f32]| v.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let values: Values = [
            bare(&x, channels),
            bare(&delta, channels),
            wide(&bias),
            wide(&a),
            bare(&b, states),
            bare(&c, states),
            wide(&d),
        ];
        let (good, cotangent) = (plain(&of, &values), bare(&grad, channels));
        for cpu in Cpu::available() {
            let name = format!("{of:?} {}", cpu.name());
            let (mut y, mut kept) = (vec![f32::NAN; x.len()], vec![f32::NAN; of.kept_len()]);
            of.forward_with(cpu, &input, &mut y, &mut kept);
            agree(&name, &narrow(&bare(&y, channels)), &narrow(&good));
            let mut found = [&x[..], &delta, &bias, &a, &b, &c, &d].map(|v| vec![f32::NAN; v.len()]);
            let [dx, ddelta, dbias, da, db, dc, dd] = &mut found;
            let mut out =
                ScanGradient { x: dx, delta: ddelta, delta_bias: dbias, a: da, b: db, c: dc, d: dd };
            of.gradient_with(cpu, &input, &kept, &grad, &mut out);
            for (which, found) in found.iter().enumerate() {
                let found = match which {
                    0 | 1 => bare(found, channels),
                    4 | 5 => bare(found, states),
                    _ => wide(found),
                };
                let size = (found.iter().map(|x| x * x).sum::<f64>() / found.len() as f64).sqrt();
                for i in (0..found.len()).step_by(1 + found.len() / 12) {
                    let at = |step: f64| {
                        let mut values = values.clone();
                        values[which][i] += step;
                        plain(&of, &values).iter().zip(&cotangent).map(|(y, g)| y * g).sum::<f64>()
                    };
                    let slope = (at(1e-4) - at(-1e-4)) / 2e-4;
                    let error = (found[i] - slope).abs() / size;
                    assert!(error < 1e-4, "{name} input {which} at {i}: {} {slope}", found[i]);
                }
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let of = SelectiveScan { n: 2, length: 50, channels: 290, states: 4 };
    let (x, b) = (tensor(100, 290, 1), tensor(100, 4, 2));
    let (a, d) = (vec![-0.5; 290 * 4], vec![0.1; 290]);
    let input = ScanInput { x: &x, delta: &x, delta_bias: &d, a: &a, b: &b, c: &b, d: &d };
    let all = || {
        let (mut y, mut kept) = (vec![0.0; x.len()], vec![0.0; of.kept_len()]);
        of.forward(&input, &mut y, &mut kept);
        let mut found = [&x[..], &x, &d, &a, &b, &b, &d].map(|v| vec![0.0; v.len()]);
        let [dx, ddelta, dbias, da, db, dc, dd] = &mut found;
        let mut out = ScanGradient { x: dx, delta: ddelta, delta_bias: dbias, a: da, b: db, c: dc, d: dd };
        of.gradient(&input, &kept, &y, &mut out);
        (y, kept, found)
    };
    let run = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads").install(all)
    };
    let one = run(1);
    assert!(one == run(2) && one == run(5));
}
