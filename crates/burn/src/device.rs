//! Where a network runs.

use burn_tensor::Device;
#[cfg(feature = "vulkan")]
use burn_tensor::{DeviceKind, DeviceType, wgpu::WgpuBackend};
#[cfg(feature = "vulkan")]
use galen_core::Error;
use galen_core::Result;
use std::fmt;
#[cfg(feature = "vulkan")]
use std::sync::Mutex;

/// A place that computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Burn's own CPU backend.
    #[cfg(feature = "flex")]
    Flex,
    /// A device of the Vulkan loader by its number: graphics cards first, then integrated and virtual ones, software
    /// renderers last.
    #[cfg(feature = "vulkan")]
    Vulkan(usize),
}

impl Place {
    /// Opens the device; an error where there is none of that number, or it cannot be opened.
    pub fn device(self) -> Result<Device> {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => Ok(Device::flex()),
            #[cfg(feature = "vulkan")]
            Self::Vulkan(number) => opened(number),
        }
    }

    /// All places of this build and machine.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(feature = "flex")]
        all.push(Self::Flex);
        #[cfg(feature = "vulkan")]
        all.extend((0..kinds().len()).map(Self::Vulkan));
        all
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "flex")]
            Self::Flex => write!(f, "flex"),
            #[cfg(feature = "vulkan")]
            Self::Vulkan(number) => write!(f, "vulkan:{number}"),
        }
    }
}

/// What can be opened, best first.
#[cfg(feature = "vulkan")]
fn kinds() -> Vec<DeviceKind> {
    let found: Vec<Device> = Device::enumerate(DeviceType::Vulkan).into_iter().collect();
    let numbered = [DeviceKind::DiscreteGpu, DeviceKind::IntegratedGpu, DeviceKind::VirtualGpu];
    let all = numbered.into_iter().flat_map(|kind| (0..found.len()).map(kind));
    all.chain([DeviceKind::Cpu]).filter(|kind| found.contains(&Device::vulkan(kind.clone()))).collect()
}

/// Devices that were opened: each can be initialised once in a process.
#[cfg(feature = "vulkan")]
static OPENED: Mutex<Vec<(usize, Device)>> = Mutex::new(Vec::new());

#[cfg(feature = "vulkan")]
fn opened(number: usize) -> Result<Device> {
    let mut opened = OPENED.lock().map_err(|_| Error::bug("Vulkan", "opening a device failed before"))?;
    if let Some((_, device)) = opened.iter().find(|(own, _)| *own == number) {
        return Ok(device.clone());
    }
    let kinds = kinds();
    let Some(kind) = kinds.get(number) else {
        let what = match kinds.len() {
            0 => "there is no Vulkan device on this machine".to_owned(),
            n => format!("there is no device {number}, only 0 to {}", n - 1),
        };
        return Err(Error::input("Vulkan", what, "install a Vulkan driver, or run on the CPU"));
    };
    let options = Device::wgpu_options().device_kind(kind.clone()).graphics_api(WgpuBackend::Vulkan);
    let device = options.init().map_err(|error| {
        Error::input(format!("Vulkan device {number}"), error, "update its driver, or run on the CPU")
    })?;
    opened.push((number, device.clone()));
    Ok(device)
}
