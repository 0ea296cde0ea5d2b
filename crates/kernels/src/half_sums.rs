//! Weighted sums and means in half precision: one pass over memory, rounding after every addition.

#![allow(unsafe_code, reason = "rows are read and written sixteen values at a time, inside slices")]

use crate::cpu::{Cpu, Kernel, Task};
use crate::lanes::Lanes;
use std::cell::{Cell, RefCell};

/// Values that are computed together.
const WIDTH: usize = 16;

/// Rows of products that are added to rows of sums.
#[derive(Debug, Clone, Copy)]
pub struct Products<'a> {
    /// Values, rows one after another.
    pub values: &'a [f32],
    /// What they are multiplied with; `None`: one.
    pub weights: Option<&'a [f32]>,
    /// From one row of values (and weights) to the next.
    pub stride: usize,
    /// Columns of a row that count.
    pub width: usize,
    /// Number of rows.
    pub rows: usize,
}

/// Adds products, computed in single precision, to sums (bits of float16) whose rows are `stride` apart.
pub fn add_products(sums: &mut [u16], stride: usize, products: Products) {
    add_products_with(Cpu::detected(), sums, stride, products);
}

fn add_products_with(cpu: Cpu, sums: &mut [u16], stride: usize, products: Products) {
    cpu.run(&Addition { sums: RefCell::new(sums), stride, products });
}

struct Addition<'a> {
    sums: RefCell<&'a mut [u16]>,
    stride: usize,
    products: Products<'a>,
}

impl Task for Addition<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Addition<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let sums = &mut self.sums.borrow_mut()[..];
        let Products { values, weights, stride, width, rows } = self.products;
        for row in 0..rows {
            let sums = &mut sums[row * self.stride..][..width];
            let values = &values[row * stride..][..width];
            let weights = weights.map(|weights| &weights[row * stride..][..width]);
            for x in (0..width).step_by(WIDTH) {
                let count = WIDTH.min(width - x);
                let mut product = part::<V>(&values[x..x + count]);
                if let Some(weights) = weights {
                    product = product.mul(part::<V>(&weights[x..x + count]));
                }
                let sum = part_of_halves::<V>(&sums[x..x + count]).add(product);
                store_part::<V>(sum, &mut sums[x..x + count]);
            }
        }
    }
}

/// Means from sums and weights (bits of float16), rounded to float16. Whether all are finite.
pub fn means(sums: &[u16], weights: &[u16], out: &mut [f32]) -> bool {
    means_with(Cpu::detected(), sums, weights, out)
}

fn means_with(cpu: Cpu, sums: &[u16], weights: &[u16], out: &mut [f32]) -> bool {
    assert!(sums.len() == out.len() && weights.len() == out.len(), "one sum and one weight per mean");
    let task = Means { sums, weights, out: RefCell::new(out), finite: Cell::new(true) };
    cpu.run(&task);
    task.finite.get()
}

struct Means<'a> {
    sums: &'a [u16],
    weights: &'a [u16],
    out: RefCell<&'a mut [f32]>,
    finite: Cell<bool>,
}

impl Task for Means<'_> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl Kernel for Means<'_> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        let out = &mut self.out.borrow_mut()[..];
        // Zero times a value stays zero for finite ones only.
        let mut zeros = V::zero();
        let parts = self.sums.chunks(WIDTH).zip(self.weights.chunks(WIDTH));
        for (out, (sums, weights)) in out.chunks_mut(WIDTH).zip(parts) {
            // Beyond the last value 0 is divided by 1.
            let mut bits = [ONE; WIDTH];
            let weight = if weights.len() == WIDTH {
                part_of_halves::<V>(weights)
            } else {
                bits[..weights.len()].copy_from_slice(weights);
                part_of_halves::<V>(&bits)
            };
            let quotient = part_of_halves::<V>(sums).div(weight);
            zeros = zeros.add(quotient.mul(V::zero()));
            store_part::<V>(quotient, &mut bits);
            let mean = part_of_halves::<V>(&bits);
            let mut values = [0f32; WIDTH];
            // SAFETY: the array, or a whole part of the output, has sixteen values.
            unsafe {
                if out.len() == WIDTH {
                    mean.store(out.as_mut_ptr());
                } else {
                    mean.store(values.as_mut_ptr());
                    out.copy_from_slice(&values[..out.len()]);
                }
            }
        }
        let sum = zeros.sum();
        self.finite.set(sum == 0.0);
    }
}

/// One, as float16.
const ONE: u16 = 0x3c00;

/// Up to sixteen values, zeros behind them.
#[inline(always)]
fn part<V: Lanes>(values: &[f32]) -> V {
    let mut whole = [0f32; WIDTH];
    let from = if values.len() == WIDTH {
        values
    } else {
        whole[..values.len()].copy_from_slice(values);
        &whole[..]
    };
    // SAFETY: sixteen values.
    unsafe { V::load(from.as_ptr()) }
}

/// The same of halves.
#[inline(always)]
fn part_of_halves<V: Lanes>(values: &[u16]) -> V {
    let mut whole = [0u16; WIDTH];
    let from = if values.len() == WIDTH {
        values
    } else {
        whole[..values.len()].copy_from_slice(values);
        &whole[..]
    };
    // SAFETY: sixteen values.
    unsafe { V::load_half(from.as_ptr()) }
}

#[inline(always)]
fn store_part<V: Lanes>(values: V, to: &mut [u16]) {
    let mut whole = [0u16; WIDTH];
    // SAFETY: sixteen values.
    unsafe {
        if to.len() == WIDTH {
            values.store_half(to.as_mut_ptr());
        } else {
            values.store_half(whole.as_mut_ptr());
            to.copy_from_slice(&whole[..to.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    fn half_to_single(bits: u16) -> f32 {
        f16::from_bits(bits).to_f32()
    }

    fn single_to_half(value: f32) -> u16 {
        f16::from_f32(value).to_bits()
    }

    #[test]
    fn every_instruction_set_rounds_alike() {
        let (stride, wide, rows) = (53, 60, 3);
        for width in [1, 15, 16, 37, 50] {
            let values: Vec<f32> = (0..rows * wide).map(|i| (i as f32 * 0.37).sin() * 900.0).collect();
            let weights: Vec<f32> = (0..rows * wide).map(|i| (i as f32 * 0.11).cos().abs() * 10.0).collect();
            let start: Vec<u16> =
                (0..rows * stride).map(|i| single_to_half(i as f32 * 1.7 - 100.0)).collect();
            let products = Products { values: &values, weights: Some(&weights), stride: wide, width, rows };
            let mut expected = start.clone();
            for (row, x) in (0..rows).flat_map(|row| (0..width).map(move |x| (row, x))) {
                let sum = &mut expected[row * stride + x];
                let product = values[row * wide + x] * weights[row * wide + x];
                *sum = single_to_half(half_to_single(*sum) + product);
            }
            let divisors: Vec<u16> =
                (0..rows * stride).map(|i| single_to_half(i as f32 * 0.3 + 0.1)).collect();
            for cpu in Cpu::available() {
                let mut sums = start.clone();
                add_products_with(cpu, &mut sums, stride, products);
                assert_eq!(sums, expected, "{}", cpu.name());
                let mut out = vec![0f32; width];
                assert!(means_with(cpu, &sums[..width], &divisors[..width], &mut out));
                for (i, mean) in out.iter().enumerate() {
                    let quotient = half_to_single(sums[i]) / half_to_single(divisors[i]);
                    assert_eq!(*mean, half_to_single(single_to_half(quotient)), "{}", cpu.name());
                }
                sums[width - 1] = 0x7c00;
                assert!(!means_with(cpu, &sums[..width], &divisors[..width], &mut out));
            }
        }
    }
}
