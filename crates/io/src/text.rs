//! Headers that are lines of text, before the voxels or in a file of their own.

use galen_core::{Error, Result};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// No header is longer; text without an end is not read into memory whole.
const MOST: u64 = 1 << 20;

/// Lines up to the one that `last` accepts, or to the end of the file, and the byte behind them.
pub fn text_header(path: &Path, last: impl Fn(&str) -> bool) -> Result<(Vec<String>, u64)> {
    let failed = |error: std::io::Error| Error::system(path.display(), &error);
    let mut file = BufReader::new(File::open(path).map_err(failed)?).take(MOST);
    let (mut lines, mut end) = (Vec::new(), 0);
    loop {
        if end == MOST {
            let what = "its text header is longer than 1 MiB";
            return Err(Error::input(path.display(), what, "write the file again, for example as .nii.gz"));
        }
        let mut line = Vec::new();
        let n = file.read_until(b'\n', &mut line).map_err(failed)?;
        end += n as u64;
        if n == 0 {
            break;
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let stop = last(&line);
        lines.push(line);
        if stop {
            break;
        }
    }
    Ok((lines, end))
}
