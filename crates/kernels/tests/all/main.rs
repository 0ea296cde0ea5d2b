//! The kernels as other crates see them, on the instruction set that this machine or `GALEN_CPU` chooses.

mod torch_case;
mod torch_values;
