//! Which instruction set the kernels use: found at run time, or forced by the variable `GALEN_CPU`.

#![allow(
    unsafe_code,
    reason = "code for an instruction set is entered only after the processor was asked for it"
)]

use crate::lanes::{Lanes, Portable};
#[cfg(target_arch = "x86_64")]
use crate::lanes::{avx2::Avx2, avx512::Avx512};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// An instruction set that the kernels are compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cpu {
    /// Whatever the compiler makes of plain loops.
    Portable,
    /// AVX2, FMA and F16C: 8 lanes.
    Avx2,
    /// AVX-512F: 16 lanes.
    Avx512,
}

/// A hot loop, written once for every instruction set. `run` must be `#[inline(always)]`.
pub(crate) trait Kernel {
    fn run<V: Lanes>(&self);
}

/// Work that is handed the instruction set as a type, but is itself not hot.
pub(crate) trait Task {
    fn run<V: Lanes>(&self);
}

impl Cpu {
    /// Instruction sets of this processor, the fastest last.
    pub fn available() -> Vec<Self> {
        let mut found = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c")
            {
                found.push(Self::Avx2);
            }
            // The wide kernels are compiled with the narrow ones' instructions too.
            if found.contains(&Self::Avx2) && is_x86_feature_detected!("avx512f") {
                found.push(Self::Avx512);
            }
        }
        found
    }

    /// The choice of the variable `GALEN_CPU` (`portable`, `avx2` or `avx512`), else the fastest; `Err` is one
    /// line that names a choice this processor does not have.
    pub fn from_environment() -> Result<Self, String> {
        let available = Self::available();
        let best = *available.last().expect("portable is always there");
        let Ok(wish) = std::env::var("GALEN_CPU") else { return Ok(best) };
        let found = available.iter().find(|cpu| cpu.name() == wish);
        found.copied().ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|cpu| cpu.name()).collect();
            format!("found `{wish}`, this processor offers {}", names.join(", "))
        })
    }

    /// The instruction set in use, decided once; a wrong `GALEN_CPU` counts as not set.
    pub fn detected() -> Self {
        static CHOICE: OnceLock<Cpu> = OnceLock::new();
        let best = || *Self::available().last().expect("portable is always there");
        *CHOICE.get_or_init(|| Self::from_environment().unwrap_or_else(|_| best()))
    }

    /// The word that `GALEN_CPU` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether activations in bfloat16 make this path faster: they do where a register of them is widened by two
    /// instructions, and single values are not.
    pub fn gains_from_bf16(self) -> bool {
        self != Self::Portable
    }

    /// Output vectors side by side in one register block.
    pub(crate) fn columns(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => Avx512::COLUMNS,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => Avx2::COLUMNS,
            _ => Portable::COLUMNS,
        }
    }

    /// Runs the task for this instruction set.
    pub(crate) fn run(self, task: &impl Task) {
        ENTERED[self as usize].fetch_add(1, Ordering::Relaxed);
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => task.run::<Avx512>(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => task.run::<Avx2>(),
            _ => task.run::<Portable>(),
        }
    }
}

impl Cpu {
    /// Runs plain loops as the compiler makes them for this instruction set.
    pub(crate) fn compile<R>(self, loops: impl FnOnce() -> R) -> R {
        let compiled = Compiled { loops: Cell::new(Some(loops)), result: Cell::new(None) };
        self.run(&compiled);
        compiled.result.into_inner().expect("the loops ran")
    }

    /// Tasks that this process has run by each instruction set so far. What a network computes is in
    /// tasks, so an operation without code for this processor would be counted as portable.
    pub fn entered() -> Vec<(Self, u64)> {
        let all = [Self::Portable, Self::Avx2, Self::Avx512];
        all.into_iter().map(|cpu| (cpu, ENTERED[cpu as usize].load(Ordering::Relaxed))).collect()
    }
}

static ENTERED: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

struct Compiled<F, R> {
    loops: Cell<Option<F>>,
    result: Cell<Option<R>>,
}

impl<F: FnOnce() -> R, R> Task for Compiled<F, R> {
    fn run<V: Lanes>(&self) {
        V::call(self);
    }
}

impl<F: FnOnce() -> R, R> Kernel for Compiled<F, R> {
    #[inline(always)]
    fn run<V: Lanes>(&self) {
        if let Some(loops) = self.loops.take() {
            self.result.set(Some(loops()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_one_that_the_processor_has() {
        assert!(Cpu::available().contains(&Cpu::detected()));
        assert_eq!(Cpu::available()[0].name(), "portable");
    }
}
