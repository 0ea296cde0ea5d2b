//! Mean, spread and range of a channel, summed in double precision in a fixed order.

/// Lanes that sums are spread over, so that the loop vectorises; fixed, so that results do not move.
const LANES: usize = 16;

/// Mean of the values; 0 for none.
pub(super) fn mean(values: &[f32]) -> f64 {
    sum(values, |v| v) / values.len().max(1) as f64
}

/// Standard deviation with n - 1 in the denominator.
pub(super) fn deviation(values: &[f32], mean: f64) -> f64 {
    let squares = sum(values, |v| (v - mean) * (v - mean));
    (squares / (values.len() as f64 - 1.0)).sqrt()
}

/// Smallest and largest value.
pub(super) fn range(values: &[f32]) -> (f32, f32) {
    let mut low = [f32::INFINITY; LANES];
    let mut high = [f32::NEG_INFINITY; LANES];
    for chunk in values.chunks(LANES) {
        for (i, &value) in chunk.iter().enumerate() {
            low[i] = if value < low[i] { value } else { low[i] };
            high[i] = if value > high[i] { value } else { high[i] };
        }
    }
    (low.into_iter().fold(f32::INFINITY, f32::min), high.into_iter().fold(f32::NEG_INFINITY, f32::max))
}

fn sum(values: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    let mut lanes = [0.0f64; LANES];
    for chunk in values.chunks(LANES) {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += term(f64::from(value));
        }
    }
    lanes.iter().sum()
}
