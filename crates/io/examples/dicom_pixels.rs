//! Stored pixels of DICOM files as raw little-endian bytes, for comparison with other readers (`goldens/dicom.py`).
//!
//! Arguments: a folder to write to, then files. One line each: number of the output file, type and shape, or the error.

use galen_core::with_voxels;
use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let folder = arguments.next().unwrap_or_else(|| PathBuf::from("."));
    for (number, file) in arguments.enumerate() {
        println!("{number}\t{}", line(&folder.join(number.to_string()), &file)?);
    }
    Ok(())
}

fn line(out: &Path, file: &Path) -> std::io::Result<String> {
    let pixels = match galen_io::dicom::read_pixels(file) {
        Ok(Some(pixels)) => pixels,
        Ok(None) => return Ok("none".into()),
        Err(error) => return Ok(format!("error\t{error}")),
    };
    let bytes: Vec<u8> = with_voxels!(&pixels.values, v => v.iter().flat_map(|x| x.to_le_bytes()).collect());
    std::fs::write(out, bytes)?;
    let shape = pixels.shape.map(|n| n.to_string()).join(" ");
    Ok(format!("{}\t{shape}\t{}\t{}", pixels.values.type_name(), pixels.syntax, pixels.lossless))
}
