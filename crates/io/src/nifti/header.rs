//! The NIfTI header: fields in either byte order, and the grid that they describe.
//!
//! Spacing is pixdim widened from float32, as ITK and nibabel give it; axes come from sform or qform as in ITK 5.4.

use crate::Header;
use crate::bytes::Type;
use galen_core::{Error, Geometry, Result};
use std::path::Path;

/// What the header says.
pub struct Parsed {
    version: u8,
    /// Voxels in a file of their own.
    pub paired: bool,
    dim: [i64; 8],
    datatype: i16,
    pixdim: [f64; 8],
    offset: f64,
    slope: f64,
    intercept: f64,
    intent: i32,
    units: u8,
    qform: i32,
    sform: i32,
    quaternion: [f64; 6],
    rows: [[f64; 4]; 3],
    /// Stored in the other byte order than this machine's.
    pub swap: bool,
}

/// Numbers at byte positions, in either byte order.
struct Fields<'a> {
    bytes: &'a [u8],
    swap: bool,
}

impl Fields<'_> {
    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut value: [u8; N] = self.bytes[at..at + N].try_into().expect("the header has full length");
        if self.swap {
            value.reverse();
        }
        value
    }

    fn i16(&self, at: usize) -> i16 {
        i16::from_ne_bytes(self.get(at))
    }

    fn i32(&self, at: usize) -> i32 {
        i32::from_ne_bytes(self.get(at))
    }

    fn i64(&self, at: usize) -> i64 {
        i64::from_ne_bytes(self.get(at))
    }

    fn f32(&self, at: usize) -> f64 {
        f32::from_ne_bytes(self.get(at)).into()
    }

    fn f64(&self, at: usize) -> f64 {
        f64::from_ne_bytes(self.get(at))
    }
}

impl Parsed {
    /// Version, pairing and whether the byte order is the other one, by size field and magic.
    pub fn kind(start: &[u8]) -> Option<(u8, bool, bool)> {
        let size: [u8; 4] = start.get(..4)?.try_into().ok()?;
        let swap = match (i32::from_ne_bytes(size), i32::from_ne_bytes(size).swap_bytes()) {
            (348 | 540, _) => false,
            (_, 348 | 540) => true,
            _ => return None,
        };
        match (start.get(344..348)?, start.get(4..8)?) {
            (_, b"n+2\0") => Some((2, false, swap)),
            (_, b"ni2\0") => Some((2, true, swap)),
            (b"n+1\0", _) => Some((1, false, swap)),
            (b"ni1\0", _) => Some((1, true, swap)),
            _ => None,
        }
    }

    /// Fields of a header; `None` when it is cut or no NIfTI.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let (version, paired, swap) = Self::kind(bytes)?;
        let fields = Fields { bytes, swap };
        let eight = [0, 1, 2, 3, 4, 5, 6, 7];
        if version == 1 {
            let row = |at: usize| [0, 1, 2, 3].map(|i| fields.f32(at + 4 * i));
            (bytes.len() >= 348).then(|| Self {
                version,
                paired,
                swap,
                dim: eight.map(|i| fields.i16(40 + 2 * i).into()),
                intent: fields.i16(68).into(),
                datatype: fields.i16(70),
                pixdim: eight.map(|i| fields.f32(76 + 4 * i)),
                offset: fields.f32(108),
                slope: fields.f32(112),
                intercept: fields.f32(116),
                units: bytes[123],
                qform: fields.i16(252).into(),
                sform: fields.i16(254).into(),
                quaternion: [0, 1, 2, 3, 4, 5].map(|i| fields.f32(256 + 4 * i)),
                rows: [row(280), row(296), row(312)],
            })
        } else {
            let row = |at: usize| [0, 1, 2, 3].map(|i| fields.f64(at + 8 * i));
            (bytes.len() >= 540).then(|| Self {
                version,
                paired,
                swap,
                dim: eight.map(|i| fields.i64(16 + 8 * i)),
                intent: fields.i32(504),
                datatype: fields.i16(12),
                pixdim: eight.map(|i| fields.f64(104 + 8 * i)),
                offset: fields.i64(168) as f64,
                slope: fields.f64(176),
                intercept: fields.f64(184),
                units: fields.i32(500) as u8,
                qform: fields.i32(344),
                sform: fields.i32(348),
                quaternion: [0, 1, 2, 3, 4, 5].map(|i| fields.f64(352 + 8 * i)),
                rows: [row(400), row(432), row(464)],
            })
        }
    }

    /// Type and values per voxel; `None` for types that no one segments.
    pub fn voxel_type(&self) -> Option<(Type, usize)> {
        Some(match self.datatype {
            2 => (Type::U8, 1),
            4 => (Type::I16, 1),
            8 => (Type::I32, 1),
            16 => (Type::F32, 1),
            64 => (Type::F64, 1),
            128 => (Type::U8, 3),
            256 => (Type::I8, 1),
            512 => (Type::U16, 1),
            768 => (Type::U32, 1),
            1024 => (Type::I64, 1),
            1280 => (Type::U64, 1),
            2304 => (Type::U8, 4),
            _ => return None,
        })
    }

    /// The header itself when it describes an image.
    pub fn check(self, path: &Path) -> Result<Self> {
        let bad = |what: String, remedy: &str| Err(Error::input(path.display(), what, remedy));
        let damaged = "the header is damaged: copy the file again";
        // Intent codes 3000-3099 are CIFTI-2's.
        if (3000..3100).contains(&self.intent) {
            return bad("is CIFTI (surfaces and parcels), not an image".into(), "give a volume");
        }
        let rank = self.dim[0];
        if !(1..=7).contains(&rank) || self.dim[1..=rank as usize].iter().any(|&size| size < 1) {
            return bad(format!("impossible dimensions {:?}", self.dim), damaged);
        }
        if self.voxel_type().is_none() {
            let name = match self.datatype {
                1 => "one bit",
                32 | 1792 | 2048 => "complex",
                1536 => "128-bit float",
                _ => "unknown",
            };
            let what = format!("voxel type {} ({name}) is not read", self.datatype);
            return bad(what, "convert it to float32");
        }
        if !(0.0..1e12).contains(&self.offset) {
            return bad(format!("voxels at byte {}", self.offset), damaged);
        }
        Ok(self)
    }

    /// Byte of the first voxel; extensions lie before it.
    pub fn voxels_at(&self) -> u64 {
        let least = match (self.paired, self.version) {
            (true, _) => 0,
            (false, 1) => 352,
            (false, _) => 544,
        };
        (self.offset as u64).max(least)
    }

    /// Voxels along x, y, z.
    pub fn size_xyz(&self) -> [usize; 3] {
        [1, 2, 3].map(|axis| if axis as i64 <= self.dim[0] { self.dim[axis] as usize } else { 1 })
    }

    /// Sizes behind the three spatial axes: time points, vector components.
    pub fn frames(&self) -> Vec<usize> {
        (4..=self.dim[0].max(3) as usize).map(|axis| self.dim[axis] as usize).collect()
    }

    /// Grid in LPS millimetres.
    pub fn geometry(&self) -> Geometry {
        let [x, y, z] = self.size_xyz();
        // Metres, micrometres, millimetres or unknown.
        let unit = match self.units & 7 {
            1 => 1e3,
            3 => 1e-3,
            _ => 1.0,
        };
        let spacing = [3, 2, 1].map(|axis| {
            let mm = self.pixdim[axis].abs() * unit;
            if mm > 0.0 && mm.is_finite() { mm } else { 1.0 }
        });
        let (axes, origin) = self.orientation();
        Geometry {
            size: [z, y, x],
            spacing,
            origin: [-origin[0] * unit, -origin[1] * unit, origin[2] * unit],
            direction: [2, 1, 0].map(|axis: usize| [-axes[axis][0], -axes[axis][1], axes[axis][2]]),
            flat: self.dim[0] <= 2,
        }
    }

    /// Unit vectors of x, y, z and the origin, in RAS; ITK's choice where sform and qform differ: sform when it
    /// is a scanner's (code 1) or alone, and has no shear; else qform. With neither, axes run along L, P, S.
    fn orientation(&self) -> ([[f64; 3]; 3], [f64; 3]) {
        let usable = |(axes, origin): &([[f64; 3]; 3], [f64; 3])| {
            axes.iter().flatten().chain(origin).all(|v| v.is_finite())
        };
        let sform = Some(self.affine()).filter(|_| self.sform > 0).filter(usable);
        let qform = Some(self.rotation()).filter(|_| self.qform > 0).filter(usable);
        match (sform, qform) {
            (Some(sform), Some(qform)) => {
                if self.sform == 1 && !sheared(&sform.0) {
                    sform
                } else {
                    qform
                }
            }
            (Some(sform), None) => sform,
            (None, Some(qform)) => qform,
            (None, None) => ([[-1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 1.0]], [0.0; 3]),
        }
    }

    /// Axes and origin of the matrix; a zero column divides to NaN.
    fn affine(&self) -> ([[f64; 3]; 3], [f64; 3]) {
        let axes = [0, 1, 2].map(|axis| {
            let column = [0, 1, 2].map(|row| self.rows[row][axis]);
            let length = column.iter().map(|v| v * v).sum::<f64>().sqrt();
            column.map(|v| v / length)
        });
        (axes, [0, 1, 2].map(|row| self.rows[row][3]))
    }

    /// Axes and origin of the quaternion.
    fn rotation(&self) -> ([[f64; 3]; 3], [f64; 3]) {
        let [b, c, d, x, y, z] = self.quaternion;
        let square = b * b + c * c + d * d;
        // Rounded half turns have a square just above one: they are turned back onto the sphere.
        let (a, [b, c, d]) = if 1.0 - square < 1e-7 {
            (0.0, [b, c, d].map(|v| v / square.sqrt()))
        } else {
            ((1.0 - square).sqrt(), [b, c, d])
        };
        let handed = if self.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
        let axes = [
            [a * a + b * b - c * c - d * d, 2.0 * (b * c + a * d), 2.0 * (b * d - a * c)],
            [2.0 * (b * c - a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d + a * b)],
            [2.0 * (b * d + a * c), 2.0 * (c * d - a * b), a * a + d * d - b * b - c * c].map(|v| v * handed),
        ];
        (axes, [x, y, z])
    }

    /// Summary for people.
    pub fn describe(&self) -> Header {
        let (kind, samples) = self.voxel_type().expect("checked");
        let frames = self.frames().iter().fold(samples, |n, &size| n.saturating_mul(size));
        Header {
            format: if self.version == 2 { "NIfTI-2" } else { "NIfTI-1" },
            geometry: self.geometry(),
            channels: frames,
            voxel_type: kind.name(),
        }
    }

    /// Slope and intercept; zero and non-finite slopes mean "no scaling".
    pub fn scaling(&self) -> (f64, f64) {
        if self.slope == 0.0 || !self.slope.is_finite() || !self.intercept.is_finite() {
            (1.0, 0.0)
        } else {
            (self.slope, self.intercept)
        }
    }
}

/// Do axes meet at other than right angles, by more than rounding?
pub(super) fn sheared(axes: &[[f64; 3]; 3]) -> bool {
    let cosine = |i: usize, j: usize| axes[i].iter().zip(axes[j]).map(|(a, b)| a * b).sum::<f64>().abs();
    cosine(0, 1).max(cosine(0, 2)).max(cosine(1, 2)) > 1e-4
}
