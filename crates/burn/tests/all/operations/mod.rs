//! Kernels and their hand-written gradients against Burn's bodies and automatic differentiation of them.

mod convolutions;
mod norms;
mod sampling;
mod tokens;

use crate::layout::off;
use burn_tensor::{Device, Gradients, Tensor, TensorData};
use galen_burn::Place;

/// The kernel's gradient of an input, and where to find that of the body.
struct Gradient {
    name: &'static str,
    found: Box<dyn Fn(&Gradients) -> Vec<f32>>,
    kernel: Vec<f32>,
}

fn gradient<const D: usize>(name: &'static str, leaf: &Tensor<D>, kernel: Vec<f32>) -> Gradient {
    let leaf = leaf.clone();
    let found = Box::new(move |grads: &Gradients| values(leaf.grad(grads).expect("a gradient")));
    Gradient { name, found, kernel }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("values of a tensor")
}

/// Compares the output of a kernel with that of its body `y`, and the kernel's gradients of `sum(y · cotangent)`.
fn compare<const D: usize>(
    what: &str,
    (place, device): &(Place, Device),
    y: Tensor<D>,
    kernel: &[f32],
    cotangent: &[f32],
    gradients: Vec<Gradient>,
) {
    let mut worst = ("output", off(kernel, &values(y.clone())));
    let cotangent = TensorData::new(cotangent.to_vec(), y.dims());
    let grads = (y * Tensor::<D>::from_data(cotangent, device)).sum().backward();
    for Gradient { name, found, kernel } in gradients {
        let found = off(&kernel, &found(&grads));
        if found.is_nan() || found > worst.1 {
            worst = (name, found);
        }
    }
    println!("{what} on {place}: {:.1e} of the RMS ({})", worst.1, worst.0);
    assert!(worst.1 < 1e-4, "{what} on {place}: {} is off by {} of the RMS", worst.0, worst.1);
}
