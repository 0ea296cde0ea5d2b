//! Writes NIfTI-1, single file; sform and qform say the same, unless the axes are sheared.

use super::header::sheared;
use crate::bytes::{Type, layout, raw};
use crate::gzip;
use galen_core::{Error, Result, Volume};
use std::borrow::Cow;
use std::path::Path;

/// Content of a file, in pieces; compressed when the name ends in `.gz`.
pub fn write<'a>(path: &Path, volume: &'a Volume) -> Result<Vec<Cow<'a, [u8]>>> {
    let g = &volume.geometry;
    if g.size.iter().chain([&volume.channels]).any(|&size| size > i16::MAX as usize) {
        let what = format!("{:?} voxels, but NIfTI-1 holds at most 32767 a side", g.size);
        return Err(Error::input(path.display(), what, "write .nrrd or .mha"));
    }
    let header = header(volume);
    let compress = path.file_name().is_some_and(|n| n.to_string_lossy().to_lowercase().ends_with(".gz"));
    Ok(if compress {
        vec![gzip::gzip(&header, raw(&volume.voxels), layout(volume)).into()]
    } else {
        vec![header.into(), raw(&volume.voxels).into()]
    })
}

/// 352 bytes: header and four zero bytes (no extension), in this machine's byte order like the voxels.
fn header(volume: &Volume) -> Vec<u8> {
    let g = &volume.geometry;
    let mut b = vec![0u8; 352];
    let mut put = |at: usize, value: &[u8]| b[at..at + value.len()].copy_from_slice(value);
    let float = |v: f64| (v as f32).to_ne_bytes();
    put(0, &348i32.to_ne_bytes());
    let rank: i16 = match (g.flat, volume.channels) {
        (true, 1) => 2,
        (_, 1) => 3,
        _ => 4,
    };
    let dim = [rank, g.size[2] as i16, g.size[1] as i16, g.size[0] as i16, volume.channels as i16, 1, 1, 1];
    dim.iter().enumerate().for_each(|(i, size)| put(40 + 2 * i, &size.to_ne_bytes()));
    let kind = Type::of(&volume.voxels);
    put(70, &code(kind).to_ne_bytes());
    put(72, &(8 * kind.size() as i16).to_ne_bytes());
    // RAS axes of x, y, z.
    let axes =
        [2, 1, 0].map(|axis: usize| [-g.direction[axis][0], -g.direction[axis][1], g.direction[axis][2]]);
    let origin = [-g.origin[0], -g.origin[1], g.origin[2]];
    let spacing = [g.spacing[2], g.spacing[1], g.spacing[0]];
    let (quaternion, handed) = quaternion(&axes);
    let pixdim = [handed, spacing[0], spacing[1], spacing[2], 1.0, 1.0, 1.0, 1.0];
    pixdim.iter().enumerate().for_each(|(i, &mm)| put(76 + 4 * i, &float(mm)));
    put(108, &352f32.to_ne_bytes());
    put(112, &float(volume.slope));
    put(116, &float(volume.intercept));
    put(123, &[2]); // millimetres
    put(148, b"Galen");
    // A quaternion cannot say that axes are sheared; then only the matrix speaks.
    put(252, &i16::from(!sheared(&axes)).to_ne_bytes());
    put(254, &1i16.to_ne_bytes());
    quaternion.iter().chain(&origin).enumerate().for_each(|(i, &v)| put(256 + 4 * i, &float(v)));
    for row in 0..3 {
        for axis in 0..3 {
            put(280 + 16 * row + 4 * axis, &float(axes[axis][row] * spacing[axis]));
        }
        put(280 + 16 * row + 12, &float(origin[row]));
    }
    put(344, b"n+1\0");
    b
}

fn code(kind: Type) -> i16 {
    match kind {
        Type::U8 => 2,
        Type::I16 => 4,
        Type::I32 => 8,
        Type::F32 => 16,
        Type::F64 => 64,
        Type::I8 => 256,
        Type::U16 => 512,
        Type::U32 => 768,
        Type::I64 => 1024,
        Type::U64 => 1280,
    }
}

/// Quaternion (b, c, d) of orthonormal axes, and the handedness that qfac stores.
fn quaternion(axes: &[[f64; 3]; 3]) -> ([f64; 3], f64) {
    let [x, y, z] = axes;
    let determinant = x[0] * (y[1] * z[2] - y[2] * z[1]) - y[0] * (x[1] * z[2] - x[2] * z[1])
        + z[0] * (x[1] * y[2] - x[2] * y[1]);
    let handed = if determinant < 0.0 { -1.0 } else { 1.0 };
    let z = z.map(|v| v * handed);
    // Four times the squares of a, b, c, d; the largest is divided by, so that nothing small is.
    let trace = x[0] + y[1] + z[2];
    let squares = [1.0 + trace, 1.0 + x[0] - y[1] - z[2], 1.0 + y[1] - x[0] - z[2], 1.0 + z[2] - x[0] - y[1]];
    let big = (0..4).max_by(|&i, &j| squares[i].total_cmp(&squares[j])).unwrap_or(0);
    let s = 0.5 * squares[big].max(0.0).sqrt();
    let [ab, ac, ad] = [y[2] - z[1], z[0] - x[2], x[1] - y[0]].map(|v| v / (4.0 * s));
    let [bc, bd, cd] = [x[1] + y[0], x[2] + z[0], y[2] + z[1]].map(|v| v / (4.0 * s));
    let (a, v) = match big {
        0 => (s, [ab, ac, ad]),
        1 => (ab, [s, bc, bd]),
        2 => (ac, [bc, s, cd]),
        _ => (ad, [bd, cd, s]),
    };
    // The standard wants a >= 0; a quaternion and its negative are the same turn.
    (if a < 0.0 { v.map(|q| -q) } else { v }, handed)
}
