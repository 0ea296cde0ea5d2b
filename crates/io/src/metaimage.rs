//! MetaImage, attached (`.mha`) and detached (`.mhd`).
//!
//! Source: the MetaIO documentation; field names that older writers used are understood too. Direction and offset
//! are LPS as in ITK; of images with more than three axes, the fourth and later are channels.

use crate::bytes::{Type, count, interleaved, planar, raw};
use crate::stored::{Packing, Skip, Stored, named_files};
use crate::text::text_header;
use crate::{Format, Header, gzip};
use galen_core::{Error, Geometry, Result, Volume};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Entry of the format list.
pub const FORMAT: Format = Format {
    name: "MetaImage",
    endings: &[".mha"],
    other_endings: &[".mhd"],
    sniff: |start| {
        let text = String::from_utf8_lossy(start);
        let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim().to_owned());
        let first = text.lines().next().and_then(key);
        first.is_some_and(|key| KEYS.contains(&key.as_str()))
            && text.lines().any(|line| key(line).as_deref() == Some("NDims"))
    },
    header: |path| {
        let parsed = open(path)?;
        Ok(Header {
            format: "MetaImage",
            channels: parsed.samples.saturating_mul(parsed.frames),
            voxel_type: parsed.stored.kind.name(),
            geometry: parsed.geometry,
        })
    },
    files: |path| Ok(crate::with_parts(path, open(path)?.stored.parts)),
    read,
    write: Some(write),
};

/// Fields that a header may begin with.
const KEYS: &[&str] = &["ObjectType", "NDims", "Comment", "ObjectSubType", "Name", "ID", "TransformType"];

struct Parsed {
    geometry: Geometry,
    samples: usize,
    frames: usize,
    stored: Stored,
}

struct Fields<'a> {
    path: &'a Path,
    lines: Vec<String>,
    end: u64,
}

impl<'a> Fields<'a> {
    fn read(path: &'a Path) -> Result<Self> {
        let (lines, end) = text_header(path, |line| line.starts_with("ElementDataFile"))?;
        Ok(Self { path, lines, end })
    }

    fn bad(&self, what: impl std::fmt::Display) -> Error {
        Error::input(self.path.display(), what, "write the file again, for example as .nii.gz")
    }

    fn get(&self, names: &[&str]) -> Option<&str> {
        let find = |name: &&str| {
            let pairs = self.lines.iter().filter_map(|line| line.split_once('='));
            pairs
                .map(|(key, value)| (key.trim(), value.trim()))
                .find(|(key, _)| key == name)
                .map(|(_, value)| value)
        };
        names.iter().find_map(find)
    }

    fn yes(&self, names: &[&str]) -> bool {
        self.get(names).is_some_and(|value| value.starts_with(['T', 't', '1', 'Y', 'y']))
    }

    fn numbers<T: std::str::FromStr>(&self, names: &[&str]) -> Result<Option<Vec<T>>> {
        let Some(text) = self.get(names) else { return Ok(None) };
        let all: Option<Vec<T>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
        all.map(Some).ok_or_else(|| self.bad(format!("`{} = {text}` are no numbers", names[0])))
    }

    fn number(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.numbers(&[name])?.and_then(|all| all.first().copied()).unwrap_or(default))
    }
}

fn open(path: &Path) -> Result<Parsed> {
    let fields = Fields::read(path)?;
    let n = usize::try_from(fields.number("NDims", 0)?).unwrap_or(0);
    let sizes: Vec<usize> = fields.numbers(&["DimSize"])?.unwrap_or_default();
    if sizes.len() != n || !(1..=10).contains(&n) {
        return Err(fields.bad(format!("`NDims = {n}` with {} sizes", sizes.len())));
    }
    let samples = usize::try_from(fields.number("ElementNumberOfChannels", 1)?).unwrap_or(0);
    let frames = count(path, &sizes[n.min(3)..])?;
    let count = count(path, &[sizes.as_slice(), &[samples]].concat())?;
    let kind = fields.get(&["ElementType"]).unwrap_or_default();
    let kind = voxel_type(kind).ok_or_else(|| fields.bad(format!("ElementType `{kind}` is not read")))?;
    let binary = fields.get(&["BinaryData"]).is_none() || fields.yes(&["BinaryData"]);
    let packing = match (binary, fields.yes(&["CompressedData"])) {
        (false, _) => Packing::Text,
        (true, true) => Packing::Deflate,
        (true, false) => Packing::Plain,
    };
    let big = fields.yes(&["ElementByteOrderMSB", "BinaryDataByteOrderMSB"]);
    let (parts, start) = parts(&fields)?;
    let skip = match fields.number("HeaderSize", 0)? {
        -1 => Skip::ToTail,
        bytes => Skip::Bytes(bytes.try_into().map_err(|_| fields.bad(format!("HeaderSize = {bytes}")))?),
    };
    let swap = big != cfg!(target_endian = "big") && packing != Packing::Text;
    let stored = Stored { parts, start, lines: 0, skip, packing, kind, count, swap };
    Ok(Parsed { geometry: geometry(&fields, &sizes)?, samples, frames, stored })
}

fn voxel_type(name: &str) -> Option<Type> {
    Some(match name.strip_suffix("_ARRAY").unwrap_or(name) {
        "MET_UCHAR" => Type::U8,
        "MET_CHAR" => Type::I8,
        "MET_USHORT" => Type::U16,
        "MET_SHORT" => Type::I16,
        // Files give a long four bytes, whatever the machine that wrote them.
        "MET_UINT" | "MET_ULONG" => Type::U32,
        "MET_INT" | "MET_LONG" => Type::I32,
        "MET_ULONG_LONG" => Type::U64,
        "MET_LONG_LONG" => Type::I64,
        "MET_FLOAT" => Type::F32,
        "MET_DOUBLE" => Type::F64,
        _ => return None,
    })
}

fn type_name(kind: Type) -> &'static str {
    match kind {
        Type::U8 => "MET_UCHAR",
        Type::I8 => "MET_CHAR",
        Type::U16 => "MET_USHORT",
        Type::I16 => "MET_SHORT",
        Type::U32 => "MET_UINT",
        Type::I32 => "MET_INT",
        Type::U64 => "MET_ULONG_LONG",
        Type::I64 => "MET_LONG_LONG",
        Type::F32 => "MET_FLOAT",
        Type::F64 => "MET_DOUBLE",
    }
}

/// Files with the voxels, and the byte of each where they begin.
fn parts(fields: &Fields) -> Result<(Vec<PathBuf>, u64)> {
    let place =
        fields.get(&["ElementDataFile"]).ok_or_else(|| fields.bad("the header has no `ElementDataFile`"))?;
    if matches!(place, "LOCAL" | "Local" | "local") {
        return Ok((vec![fields.path.to_owned()], fields.end));
    }
    let list = || {
        let file = std::fs::read(fields.path).map_err(|e| Error::system(fields.path.display(), &e))?;
        let behind =
            String::from_utf8_lossy(file.get(fields.end as usize..).unwrap_or_default()).into_owned();
        Ok(behind.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
    };
    let files = named_files(fields.path, place, list)?;
    Ok((files.ok_or_else(|| fields.bad(format!("`ElementDataFile = {place}` names no files")))?, 0))
}

fn geometry(fields: &Fields, sizes: &[usize]) -> Result<Geometry> {
    let n = sizes.len();
    let wanted = |names: &[&str], length: usize| -> Result<Option<Vec<f64>>> {
        match fields.numbers::<f64>(names)? {
            Some(all) if all.len() < length || all.iter().any(|v| !v.is_finite()) => {
                Err(fields.bad(format!("`{}` has {} numbers, not {length} finite ones", names[0], all.len())))
            }
            found => Ok(found),
        }
    };
    let mut geometry = Geometry::axis_aligned([1; 3], [1.0; 3]);
    geometry.flat = n < 3;
    let spacing = wanted(&["ElementSpacing", "ElementSize"], n)?;
    let offset = wanted(&["Offset", "Position", "Origin"], n)?;
    let matrix = wanted(&["TransformMatrix", "Rotation", "Orientation"], n * n)?;
    for i in 0..n.min(3) {
        let axis = 2 - i;
        geometry.size[axis] = sizes[i];
        if let Some(mm) = spacing.as_ref().map(|all| all[i].abs()).filter(|&mm| mm > 0.0) {
            geometry.spacing[axis] = mm;
        }
        if let Some(offset) = &offset {
            geometry.origin[i] = offset[i];
        }
        if let Some(matrix) = &matrix {
            geometry.direction[axis] = [0, 1, 2].map(|w| if w < n { matrix[i * n + w] } else { 0.0 });
        }
    }
    Ok(geometry)
}

fn read(path: &Path) -> Result<Volume> {
    let Parsed { geometry, samples, frames, stored } = open(path)?;
    let mut voxels = stored.read()?;
    if samples > 1 {
        voxels = planar(&voxels, samples);
    }
    Ok(Volume { geometry, channels: samples * frames, voxels, slope: 1.0, intercept: 0.0 })
}

fn write<'a>(_: &Path, volume: &'a Volume) -> Result<Vec<Cow<'a, [u8]>>> {
    let volume = &crate::true_values(volume);
    let g = &volume.geometry;
    let n = if g.flat { 2 } else { 3 };
    let spaced = |parts: Vec<String>| parts.join(" ");
    let matrix = (0..n).flat_map(|i| g.direction[2 - i][..n].to_vec());
    let data = if volume.channels > 1 {
        gzip::zlib(raw(&interleaved(&volume.voxels, volume.channels)))
    } else {
        gzip::zlib(raw(&volume.voxels))
    };
    let header = format!(
        "ObjectType = Image\nNDims = {n}\nBinaryData = True\nBinaryDataByteOrderMSB = {}\nCompressedData = True\n\
         CompressedDataSize = {}\nTransformMatrix = {}\nOffset = {}\nCenterOfRotation = {}\nElementSpacing = {}\n\
         DimSize = {}\nElementNumberOfChannels = {}\nElementType = {}\nElementDataFile = LOCAL\n",
        if cfg!(target_endian = "big") { "True" } else { "False" },
        data.len(),
        spaced(matrix.map(|v| v.to_string()).collect()),
        spaced(g.origin[..n].iter().map(f64::to_string).collect()),
        spaced(vec!["0".into(); n]),
        spaced((0..n).map(|i| g.spacing[2 - i].to_string()).collect()),
        spaced((0..n).map(|i| g.size[2 - i].to_string()).collect()),
        volume.channels,
        type_name(Type::of(&volume.voxels)),
    );
    Ok(vec![header.into_bytes().into(), data.into()])
}
