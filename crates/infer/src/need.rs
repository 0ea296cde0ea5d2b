//! What segmenting a scan costs in memory, reckoned beforehand.

use crate::band::{Band, Extent, Place};
use crate::sliding::Precision;
use galen_core::{Error, Result};

/// Scans that take less than this in all need not be spared.
const ENOUGH: u64 = 2 << 30;

/// Bytes that one scan takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The scan as it was read.
    pub scan: u64,
    /// Weights, activations and one tile, of all folds.
    pub model: u64,
    /// All at the highest point, with the sums of logits in memory.
    pub in_memory: u64,
    /// The same with the sums in a scratch file.
    pub with_scratch: u64,
    /// Size of that file.
    pub scratch: u64,
}

impl Need {
    fn usual(&self) -> u64 {
        ENOUGH.max(3 * self.scan + self.model)
    }

    /// The limit on a machine with this much free memory, for [`Self::place`].
    pub fn limit(&self, free: u64) -> u64 {
        free.min(self.usual().max(self.with_scratch))
    }

    /// Where the sums of logits go. Without a limit, into memory as long as the scan takes no more than thrice its own
    /// size beside the model, or little anyway; an error names the bytes that are missing.
    pub fn place(&self, limit: Option<u64>) -> Result<Place> {
        if self.in_memory <= limit.unwrap_or(self.usual()) {
            return Ok(Place::Memory);
        }
        match limit {
            Some(limit) if self.with_scratch > limit => {
                let what = format!(
                    "needs {} bytes of memory ({} for the scan and what is made of it, {} for the model), the limit is {limit}",
                    self.with_scratch,
                    self.with_scratch - self.model,
                    self.model
                );
                let remedy = "raise --memory, or use fewer --folds and no --save-probabilities";
                Err(Error::input("memory", what, remedy))
            }
            _ if self.scratch == 0 => Ok(Place::Memory),
            _ => Ok(Place::Scratch),
        }
    }
}

/// Sizes that decide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Bytes of the scan.
    pub scan_bytes: u64,
    /// Voxels of the scan.
    pub scan: u64,
    /// Voxels of the scan, in the network's axis order.
    pub scan_size: [usize; 3],
    /// Voxels of the network's grid.
    pub network: [usize; 3],
    /// Channels of the scan, and of the network with labels of a previous stage.
    pub channels: [u64; 2],
    /// Logits per voxel.
    pub classes: usize,
    /// Bytes per label.
    pub label: u64,
    /// Voxels of a patch, and its planes.
    pub patch: [usize; 3],
    /// Mirrored copies are averaged.
    pub mirrors: bool,
    /// Sums of their own: folds that are rounded one by one.
    pub bands: u64,
    /// Bytes of weights and activations.
    pub network_bytes: u64,
    /// The scan is prepared as a whole, with labels or a mask.
    pub whole: bool,
    /// Probabilities are kept.
    pub probabilities: bool,
    /// Float16 sums.
    pub precision: Precision,
    /// Threads that work at a time.
    pub threads: u64,
}

/// Reckons the highest point of memory.
pub(crate) fn need(s: &Sizes) -> Need {
    let voxels = |size: [usize; 3]| size.iter().map(|&n| n as u64).product::<u64>();
    let network = voxels(s.network);
    let area = |size: [usize; 3]| (size[1] * size[2]) as u64;
    let image = network * s.channels[1] * 4;
    // Two axes resampled and one to go, in double precision; a plane and its half-way form per thread.
    let middle = s.scan_size[0] as u64 * area(s.network) * 8;
    let planes = s.threads * (area(s.scan_size) * 12 + area(s.network) * 8);
    let prepare = match s.whole {
        // Per voxel: a channel and its transposed or cut copy, mask, its holes, labels.
        true => s.scan * (s.channels[0] * 8 + 12) + image + middle.max(16 * s.scan),
        false => image + middle + planes,
    };
    let patch = voxels(s.patch);
    let mirrored = if s.mirrors { 2 } else { 1 };
    let tile = patch * 4 * mirrored * (s.channels[1] + s.classes as u64) + patch * 4;
    let height = if s.probabilities { s.network[0] } else { s.network[0].min(s.patch[0] + 2) };
    let extent = Extent { classes: s.classes, size: s.network, height };
    let sums = |place| Band::bytes(extent, s.precision, place).map(|bytes| s.bands * bytes);
    let out = area(s.scan_size);
    // Per thread a slab of labels, winners of a plane with their values, and of up to 16 classes two planes and some of
    // their rows on the scan's columns; voxels that are decided again may be many.
    let held = 2 * s.classes.min(16) as u64;
    let rows = (16 * s.network[1]).div_ceil(s.scan_size[1].max(1)) as u64 + 3;
    let columns = s.scan_size[2].next_multiple_of(16) as u64;
    let export =
        s.threads * (8 * out * 2 + 14 * out + 24 * out + held * 4 * (area(s.network) + rows * columns));
    let labels = s.scan * s.label;
    let probabilities = if s.probabilities { (s.scan + 16 * out) * s.classes as u64 * 4 } else { 0 };
    let archive = probabilities;
    let with = |place| {
        let slide = image + sums(place)[0] + tile + labels + export;
        let whole = if s.probabilities { sums(place)[0] + labels + probabilities + archive } else { 0 };
        s.scan_bytes + s.network_bytes + prepare.max(slide).max(whole)
    };
    Need {
        scan: s.scan_bytes,
        model: s.network_bytes + tile,
        in_memory: with(Place::Memory),
        with_scratch: with(Place::Scratch),
        scratch: sums(Place::Scratch)[1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn some(in_memory: u64, with_scratch: u64) -> Need {
        Need { scan: GIB / 4, model: GIB, in_memory, with_scratch, scratch: 9 * GIB }
    }

    #[test]
    fn sums_go_where_they_fit() {
        assert_eq!(some(2 * GIB, GIB).place(None).unwrap(), Place::Memory);
        assert_eq!(some(4 * GIB, GIB).place(None).unwrap(), Place::Scratch);
        assert_eq!(some(4 * GIB, GIB).place(Some(5 * GIB)).unwrap(), Place::Memory);
        assert_eq!(some(4 * GIB, 2 * GIB).place(Some(2 * GIB)).unwrap(), Place::Scratch);
        let error = some(4 * GIB, 2 * GIB + 1).place(Some(2 * GIB)).unwrap_err().to_string();
        assert!(error.contains("needs 2147483649 bytes"), "{error}");
    }
}
