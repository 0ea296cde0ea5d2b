//! Which code runs for each operation on this processor, and why: asked of the code that decides, not written down twice.

use crate::choice::{Algorithm, choose};
use crate::conv::Conv;
use crate::cpu::Cpu;
use crate::weight_view::WeightView;
use crate::winograd::Axis;
use crate::{Grid, LANES};

/// What runs for an operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    /// The operation, with the shape that the answer is for.
    pub operation: String,
    /// What runs.
    pub runs: String,
    /// Why.
    pub because: String,
}

/// Instruction sets of this processor that kernels could use, and whether they do: `(name, found, use)`.
pub fn features() -> Vec<(&'static str, bool, &'static str)> {
    #[cfg(target_arch = "x86_64")]
    return vec![
        ("avx2", is_x86_feature_detected!("avx2"), "the path avx2, with fma"),
        ("fma", is_x86_feature_detected!("fma"), "the path avx2"),
        ("avx512f", is_x86_feature_detected!("avx512f"), "the path avx512"),
        (
            "avx512bf16",
            is_x86_feature_detected!("avx512bf16"),
            "nothing: bf16 is a way to store, all arithmetic is f32",
        ),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    return Vec::new();
}

/// Why this instruction set is in use.
pub fn reason(cpu: Cpu) -> String {
    let names: Vec<_> = Cpu::available().iter().map(|cpu| cpu.name()).collect();
    match std::env::var("GALEN_CPU") {
        Ok(wish) if wish == cpu.name() => {
            format!("GALEN_CPU asks for it; this processor offers {}", names.join(", "))
        }
        _ => format!("the fastest of {}; GALEN_CPU chooses another", names.join(", ")),
    }
}

/// The path of every operation, for shapes as networks have them.
pub fn paths() -> Vec<Path> {
    let mut found = Vec::new();
    for (name, kernel, stride, channels, size) in [
        ("3x3x3", [3; 3], [1; 3], 32, [64; 3]),
        ("3x3x3", [3; 3], [1; 3], 320, [8; 3]),
        ("3x3x3", [3; 3], [1; 3], 320, [4; 3]),
        ("3x3x3", [3; 3], [1; 3], 1, [64; 3]),
        ("3x3x3 stride 2", [3; 3], [2; 3], 32, [64; 3]),
        ("1x3x3", [1, 3, 3], [1; 3], 32, [64; 3]),
        ("3x3", [1, 3, 3], [1; 3], 64, [1, 256, 256]),
        ("3x3 stride 2", [1, 3, 3], [1, 2, 2], 64, [1, 256, 256]),
        ("1x1x1", [1; 3], [1; 3], 32, [64; 3]),
        ("5x5x5", [5; 3], [1; 3], 32, [32; 3]),
    ] {
        found.push(convolution(name, kernel, stride, channels, size));
    }
    let rest = [
        (
            "transposed convolution, kernel = stride",
            "direct, one product per tap",
            "every output voxel has one tap",
        ),
        (
            "depthwise convolution 5x5x5, 7x7x7",
            "F(4,5), F(4,7) along x, sums over y and z",
            "2.5 and 2.8 times fewer multiplications",
        ),
        (
            "depthwise convolution, others",
            "direct, a ring of rows per sixteen channels",
            "no channels to sum over",
        ),
        ("grouped convolution", "as the convolution of one group", "groups are gathered and run one by one"),
        (
            "instance, group, batch norm, leaky ReLU",
            "in the reader's load",
            "the raw tensor is stored once and read once",
        ),
        ("layer norm, GELU", "one pass over memory", "bound by memory"),
        ("max and average pool", "one pass over memory", "bound by memory"),
        (
            "nearest and linear interpolation",
            "rows, then places along a row",
            "rows in reach are summed once",
        ),
        ("sampling at positions", "eight corners; gradient plane by plane", "no two tasks write one voxel"),
        (
            "window and full attention",
            "streaming softmax in blocks of 28 x 128 scores",
            "scores are never stored",
        ),
        ("selective scan", "sixteen channels through time", "states stay in the first-level cache"),
    ];
    let path = |(operation, runs, because): (&str, &str, &str)| Path {
        operation: operation.to_owned(),
        runs: runs.to_owned(),
        because: because.to_owned(),
    };
    found.extend(rest.map(path));
    found
}

fn convolution(
    name: &str,
    kernel: [usize; 3],
    stride: [usize; 3],
    channels: usize,
    size: [usize; 3],
) -> Path {
    let outputs = channels.max(32);
    let conv = Conv { kernel, stride, inputs: vec![channels], outputs };
    let (read, taps) = (Grid { n: 1, size }, kernel.iter().product());
    let view = WeightView::forward(&[channels], outputs, taps);
    let [z, y, x] = size;
    let operation = format!("convolution {name}, {channels} to {outputs} channels on {z} x {y} x {x}");
    let (runs, because) = match choose(kernel, stride, read, conv.output(read), &view) {
        Algorithm::Direct if channels < LANES => {
            ("direct".to_owned(), "fewer channels than lanes are not worth a transform".to_owned())
        }
        Algorithm::Direct => {
            ("direct".to_owned(), "transforms would cost more than they save, or do not exist".to_owned())
        }
        Algorithm::Winograd(tile) => {
            let [z, y, x] = tile.0.map(axis);
            let less =
                (tile.0.map(outputs_per_axis).iter().product::<usize>() * taps) as f64 / tile.volume() as f64;
            (format!("Winograd {z} {y} {x}"), format!("{less:.1} times fewer multiplications"))
        }
    };
    Path { operation, runs, because }
}

/// Output voxels of a tile along an axis.
fn outputs_per_axis(axis: Axis) -> usize {
    match axis {
        Axis::Single => 1,
        Axis::Dense(m) | Axis::Halving(m) | Axis::Doubling(m) => m,
    }
}

fn axis(axis: Axis) -> String {
    match axis {
        Axis::Single => "1".to_owned(),
        Axis::Dense(m) => format!("F({m},3)"),
        Axis::Halving(m) | Axis::Doubling(m) => format!("F({m},3) by parts"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_the_choice_says() {
        let paths = paths();
        let runs = |start: &str| {
            let found = paths.iter().find(|path| path.operation.starts_with(start));
            found.map(|path| path.runs.as_str()).unwrap_or_default().to_owned()
        };
        assert!(runs("convolution 3x3x3, 32").starts_with("Winograd F(4,3) F(4,3) F(4,3)"), "{paths:?}");
        assert_eq!(runs("convolution 1x1x1"), "direct");
        assert_eq!(runs("convolution 3x3x3, 1 "), "direct");
        let less = &paths[0].because;
        assert_eq!(less, "8.0 times fewer multiplications");
    }
}
