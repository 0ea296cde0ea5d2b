//! NRRD, attached (`.nrrd`) and detached (`.nhdr`): raw, gzip, text and hexadecimal data.
//!
//! Source: the NRRD 5 format definition of Teem. Axes without a direction, or of a kind that is no domain, are
//! channels. Spaces RAS and LAS turn to LPS; spaces without anatomy are taken as they are. bzip2 is refused.

use crate::bytes::{Type, count, layout, planar, raw};
use crate::stored::{Packing, Skip, Stored, named_files};
use crate::text::text_header;
use crate::{Format, Header, gzip};
use galen_core::{Error, Geometry, Result, Volume};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Entry of the format list.
pub const FORMAT: Format = Format {
    name: "NRRD",
    endings: &[".nrrd"],
    other_endings: &[".nhdr"],
    sniff: |start| start.starts_with(b"NRRD000"),
    header: |path| {
        let parsed = open(path)?;
        Ok(Header {
            format: "NRRD",
            channels: parsed.axes.channels(),
            voxel_type: parsed.stored.kind.name(),
            geometry: parsed.axes.geometry,
        })
    },
    files: |path| Ok(crate::with_parts(path, open(path)?.stored.parts)),
    read,
    write: Some(write),
};

/// Grid, and the axes before and behind the spatial ones.
struct Axes {
    geometry: Geometry,
    /// Values per voxel that lie together.
    inner: usize,
    /// Images that follow each other.
    outer: usize,
}

impl Axes {
    fn channels(&self) -> usize {
        self.inner.saturating_mul(self.outer)
    }
}

struct Parsed {
    axes: Axes,
    stored: Stored,
}

/// Lines of a header, and the byte behind it.
struct Fields<'a> {
    path: &'a Path,
    lines: Vec<String>,
    end: u64,
}

impl<'a> Fields<'a> {
    fn read(path: &'a Path) -> Result<Self> {
        let (lines, end) = text_header(path, |line| line.is_empty())?;
        Ok(Self { path, lines, end })
    }

    fn bad(&self, what: impl std::fmt::Display) -> Error {
        Error::input(self.path.display(), what, "write the file again, for example as .nii.gz")
    }

    /// Text behind `name:`; spaces in field names are optional. The first name that is there counts.
    fn get(&self, names: &[&str]) -> Option<&str> {
        let squeezed = |text: &str| text.to_lowercase().replace(' ', "");
        names.iter().find_map(|name| {
            self.lines.iter().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                (!line.starts_with('#') && !value.starts_with('=') && squeezed(key) == squeezed(name))
                    .then(|| value.trim())
            })
        })
    }

    fn need(&self, name: &str) -> Result<&str> {
        self.get(&[name]).ok_or_else(|| self.bad(format!("the header has no `{name}`")))
    }

    fn number(&self, names: &[&str]) -> Result<i64> {
        let Some(text) = self.get(names) else { return Ok(0) };
        text.parse().map_err(|_| self.bad(format!("`{}: {text}` is no whole number", names[0])))
    }
}

fn open(path: &Path) -> Result<Parsed> {
    let fields = Fields::read(path)?;
    let dimension: usize =
        fields.need("dimension")?.parse().map_err(|_| fields.bad("`dimension` is no number"))?;
    let sizes: Vec<usize> =
        fields.need("sizes")?.split_whitespace().map_while(|size| size.parse().ok()).collect();
    if sizes.len() != dimension || !(1..=16).contains(&dimension) {
        return Err(fields.bad(format!("`dimension: {dimension}` with {} sizes", sizes.len())));
    }
    let count = count(path, &sizes)?;
    let axes = axes(&fields, &sizes)?;
    let kind = fields.need("type")?;
    let kind = voxel_type(kind).ok_or_else(|| fields.bad(format!("type `{kind}` is not read")))?;
    let packing = match fields.need("encoding")?.to_lowercase().as_str() {
        "raw" => Packing::Plain,
        "gz" | "gzip" => Packing::Deflate,
        "txt" | "text" | "ascii" => Packing::Text,
        "hex" => Packing::Hex,
        "bz2" | "bzip2" => return Err(fields.bad("is packed with bzip2, which is not read")),
        other => return Err(fields.bad(format!("encoding `{other}` is unknown"))),
    };
    let swap = match fields.get(&["endian"]).map(str::to_lowercase).as_deref() {
        Some("little") => cfg!(target_endian = "big"),
        Some("big") => cfg!(target_endian = "little"),
        None if kind.size() == 1 || packing == Packing::Text => false,
        _ => return Err(fields.bad("the header has no `endian: little` or `endian: big`")),
    };
    let skip = match fields.number(&["byte skip"])? {
        -1 => Skip::ToTail,
        bytes => Skip::Bytes(bytes.try_into().map_err(|_| fields.bad(format!("`byte skip: {bytes}`")))?),
    };
    let lines = fields.number(&["line skip"])?;
    let lines = lines.try_into().map_err(|_| fields.bad(format!("`line skip: {lines}`")))?;
    let (parts, start) = parts(&fields)?;
    Ok(Parsed { axes, stored: Stored { parts, start, lines, skip, packing, kind, count, swap } })
}

fn voxel_type(name: &str) -> Option<Type> {
    let name = name.to_lowercase();
    let name = name.trim_end_matches("_t");
    Some(match name {
        "uchar" | "unsigned char" | "uint8" => Type::U8,
        "signed char" | "int8" => Type::I8,
        "ushort" | "unsigned short" | "unsigned short int" | "uint16" => Type::U16,
        "short" | "short int" | "signed short" | "signed short int" | "int16" => Type::I16,
        "uint" | "unsigned int" | "uint32" => Type::U32,
        "int" | "signed int" | "int32" => Type::I32,
        "ulonglong" | "unsigned long long" | "unsigned long long int" | "uint64" => Type::U64,
        "longlong"
        | "long long"
        | "long long int"
        | "signed long long"
        | "signed long long int"
        | "int64" => Type::I64,
        "float" => Type::F32,
        "double" => Type::F64,
        _ => return None,
    })
}

/// Files with the voxels, and the byte of each where they begin.
fn parts(fields: &Fields) -> Result<(Vec<PathBuf>, u64)> {
    let Some(place) = fields.get(&["data file", "datafile"]) else {
        return Ok((vec![fields.path.to_owned()], fields.end));
    };
    let list = || {
        let named = |line: &String| {
            let (key, value) = line.split_once(':')?;
            let key = key.to_lowercase().replace(' ', "");
            (key == "datafile" && value.trim().starts_with("LIST")).then_some(())
        };
        let after = fields.lines.iter().position(|line| named(line).is_some()).map_or(0, |at| at + 1);
        let names = fields.lines[after..].iter().map(|line| line.trim().to_owned());
        Ok(names.filter(|line| !line.is_empty()).collect())
    };
    let files = named_files(fields.path, place, list)?;
    Ok((files.ok_or_else(|| fields.bad(format!("`data file: {place}` names no files")))?, 0))
}

fn axes(fields: &Fields, sizes: &[usize]) -> Result<Axes> {
    let vectors = directions(fields, sizes.len())?;
    let spatial = spatial(fields, sizes, vectors.as_deref());
    let first = spatial.iter().position(|&s| s).ok_or_else(|| fields.bad("no axis is spatial"))?;
    let n = spatial[first..].iter().take_while(|&&s| s).count();
    if spatial[first + n..].contains(&true) || n > 3 {
        return Err(fields.bad("more than three spatial axes, or channels between them"));
    }
    let product = |part: &[usize]| part.iter().product::<usize>();
    let (inner, outer) = (product(&sizes[..first]), product(&sizes[first + n..]));
    if inner > 1 && outer > 1 {
        return Err(fields.bad("channels both before and behind the spatial axes"));
    }
    let mut geometry = Geometry::axis_aligned([1; 3], [1.0; 3]);
    geometry.flat = n < 3;
    let flips = flips(fields)?;
    let plain: Vec<f64> = fields
        .get(&["spacings"])
        .map(|text| text.split_whitespace().map(|s| s.parse().unwrap_or(f64::NAN)).collect())
        .unwrap_or_default();
    for i in 0..n {
        let axis = 2 - i;
        geometry.size[axis] = sizes[first + i];
        if let Some(vector) = vectors.as_ref().and_then(|all| all[first + i]) {
            let length = vector.iter().map(|v| v * v).sum::<f64>().sqrt();
            if !(length > 0.0 && length.is_finite()) {
                return Err(fields.bad("a space direction has no length"));
            }
            geometry.spacing[axis] = length;
            geometry.direction[axis] = [0, 1, 2].map(|w| vector[w] * flips[w] / length);
        } else if let Some(&mm) = plain.get(first + i).filter(|mm| mm.is_finite() && **mm != 0.0) {
            geometry.spacing[axis] = mm.abs();
        }
    }
    if n == 2 && vectors.is_some() {
        let [_, y, x] = geometry.direction;
        geometry.direction[0] =
            [0, 1, 2].map(|w| x[(w + 1) % 3] * y[(w + 2) % 3] - x[(w + 2) % 3] * y[(w + 1) % 3]);
    }
    if let Some(origin) = fields.get(&["space origin"]).and_then(vector) {
        geometry.origin = [0, 1, 2].map(|w| origin[w] * flips[w]);
    }
    Ok(Axes { geometry, inner, outer })
}

/// Direction per axis, `None` for axes that have none; nothing at all when the header gives no directions.
fn directions(fields: &Fields, dimension: usize) -> Result<Option<Vec<Option<[f64; 3]>>>> {
    let Some(text) = fields.get(&["space directions"]) else { return Ok(None) };
    let mut all = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = if rest.starts_with('(') {
            rest.find(')').map(|at| at + 1)
        } else {
            rest.find(char::is_whitespace)
        };
        let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
        all.push(match vector(word) {
            Some(vector) => Some(vector),
            None if word == "none" || word.to_lowercase().contains("nan") => None,
            None => return Err(fields.bad(format!("`{word}` is no direction"))),
        });
        rest = behind.trim_start();
    }
    if all.len() != dimension {
        return Err(fields.bad(format!("{} space directions for {dimension} axes", all.len())));
    }
    Ok(Some(all))
}

/// `(1,2,3)` or `(1,2)`, the third then 0.
fn vector(text: &str) -> Option<[f64; 3]> {
    let inside = text.trim().strip_prefix('(')?.strip_suffix(')')?;
    let numbers: Vec<f64> = inside.split(',').map(|v| v.trim().parse().ok()).collect::<Option<_>>()?;
    let finite = numbers.iter().all(|v| v.is_finite());
    match *numbers.as_slice() {
        [x, y, z] if finite => Some([x, y, z]),
        [x, y] if finite => Some([x, y, 0.0]),
        _ => None,
    }
}

/// Which axes are spatial: those with a direction; else those whose kind is a domain; else the first three.
fn spatial(fields: &Fields, sizes: &[usize], vectors: Option<&[Option<[f64; 3]>]>) -> Vec<bool> {
    let first_three = |i: usize| i < 3;
    if let Some(vectors) = vectors {
        return vectors.iter().map(Option::is_some).collect();
    }
    let kinds: Vec<&str> =
        fields.get(&["kinds"]).map(|text| text.split_whitespace().collect()).unwrap_or_default();
    let domain: Vec<bool> = kinds.iter().map(|kind| ["domain", "space"].contains(kind)).collect();
    if domain.len() == sizes.len() && (1..=3).contains(&domain.iter().filter(|&&d| d).count()) {
        return domain;
    }
    (0..sizes.len()).map(first_three).collect()
}

/// Signs that turn the header's space to LPS.
fn flips(fields: &Fields) -> Result<[f64; 3]> {
    let space = fields.get(&["space"]).unwrap_or_default().to_lowercase();
    Ok(match space.as_str() {
        "right-anterior-superior" | "ras" => [-1.0, -1.0, 1.0],
        "left-anterior-superior" | "las" => [1.0, -1.0, 1.0],
        other if other.contains("time") => return Err(fields.bad(format!("space `{other}` is not read"))),
        _ => [1.0; 3],
    })
}

fn read(path: &Path) -> Result<Volume> {
    let Parsed { axes, stored } = open(path)?;
    let voxels = stored.read()?;
    let voxels = if axes.inner > 1 { planar(&voxels, axes.inner) } else { voxels };
    Ok(Volume { channels: axes.channels(), geometry: axes.geometry, voxels, slope: 1.0, intercept: 0.0 })
}

/// Gzip behind the header; several channels become a last axis without direction.
fn write<'a>(_: &Path, volume: &'a Volume) -> Result<Vec<Cow<'a, [u8]>>> {
    let volume = &crate::true_values(volume);
    let g = &volume.geometry;
    let n = if g.flat { 2 } else { 3 };
    let spaced = |parts: Vec<String>| parts.join(" ");
    let mut sizes: Vec<String> = (0..n).map(|i| g.size[2 - i].to_string()).collect();
    let numbers = |v: &[f64]| format!("({})", v.iter().map(f64::to_string).collect::<Vec<_>>().join(","));
    let mut directions: Vec<String> =
        (0..n).map(|i| numbers(&g.direction[2 - i].map(|v| v * g.spacing[2 - i]))).collect();
    let mut kinds = vec!["domain".to_owned(); n];
    if volume.channels > 1 {
        sizes.push(volume.channels.to_string());
        directions.push("none".into());
        kinds.push("list".into());
    }
    let kind = match Type::of(&volume.voxels) {
        Type::F32 => "float",
        Type::F64 => "double",
        other => other.name(),
    };
    let header = format!(
        "NRRD0004\ntype: {kind}\ndimension: {}\nspace: left-posterior-superior\nsizes: {}\nspace directions: {}\n\
         kinds: {}\nendian: {}\nencoding: gzip\nspace origin: {}\n\n",
        sizes.len(),
        spaced(sizes),
        spaced(directions),
        spaced(kinds),
        if cfg!(target_endian = "little") { "little" } else { "big" },
        numbers(&g.origin),
    );
    Ok(vec![header.into_bytes().into(), gzip::gzip(&[], raw(&volume.voxels), layout(volume)).into()])
}
