//! Separable Gaussian blur of one channel.
//! Source: batchgeneratorsv2 `GaussianBlurTransform` with its default truncation of 6 in total length
//! (kernel of about 6 sigma, not 6 sigma to each side), normalised kernel, reflected borders.

/// Blurs axis after axis; `sigma` in voxels per axis `(z, y, x)`, axes before `first_axis` are left alone.
pub fn gaussian_blur(channel: &mut [f32], size: [usize; 3], sigma: [f64; 3], first_axis: usize) {
    let mut source = Vec::new();
    for axis in first_axis..3 {
        let kernel = kernel(sigma[axis]);
        let taps = reflected(size[axis], kernel.len() / 2);
        source.clear();
        source.extend_from_slice(channel);
        let inner: usize = size[axis + 1..].iter().product();
        let block = inner * size[axis];
        for (from, to) in source.chunks_exact(block).zip(channel.chunks_exact_mut(block)) {
            if inner == 1 { along(from, to, &kernel) } else { across(from, to, inner, &kernel, &taps) }
        }
    }
}

/// Kernel of nearest odd length to `6·sigma + 0.5`, sum 1.
fn kernel(sigma: f64) -> Vec<f32> {
    let wanted = sigma * 6.0 + 0.5;
    let mut length = wanted.round_ties_even();
    if length % 2.0 == 0.0 {
        length += if wanted >= length { 1.0 } else { -1.0 };
    }
    let half = (length - 1.0) / 2.0;
    let density: Vec<f64> =
        (0..length as usize).map(|i| (-0.5 * ((i as f64 - half) / sigma).powi(2)).exp()).collect();
    let sum: f64 = density.iter().sum();
    density.iter().map(|d| (d / sum) as f32).collect()
}

/// Index behind each padded position: borders reflect without repeating the edge.
fn reflected(n: usize, half: usize) -> Vec<usize> {
    let period = (2 * n).saturating_sub(2).max(1) as isize;
    let fold = |i: isize| {
        let i = i.rem_euclid(period);
        if i < n as isize { i } else { period - i }
    };
    (-(half as isize)..(n + half) as isize).map(|i| fold(i) as usize).collect()
}

/// Weighted sum of whole lines: `inner` neighbours at once, so the loop over them vectorises.
fn across(from: &[f32], to: &mut [f32], inner: usize, kernel: &[f32], taps: &[usize]) {
    for (i, line) in to.chunks_exact_mut(inner).enumerate() {
        line.fill(0.0);
        for (weight, &tap) in kernel.iter().zip(&taps[i..]) {
            for (value, source) in line.iter_mut().zip(&from[tap * inner..(tap + 1) * inner]) {
                *value += weight * source;
            }
        }
    }
}

fn along(from: &[f32], to: &mut [f32], kernel: &[f32]) {
    let half = kernel.len() / 2;
    let padded: Vec<f32> = reflected(from.len(), half).into_iter().map(|i| from[i]).collect();
    to.fill(0.0);
    for (k, weight) in kernel.iter().enumerate() {
        for (value, source) in to.iter_mut().zip(&padded[k..]) {
            *value += weight * source;
        }
    }
}
