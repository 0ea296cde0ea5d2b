//! Seconds for reading an image and for writing a label map, one line per run; `bench/io/run.py` compares them with peers.
//!
//! usage: `time_io read IMAGE RUNS` or `time_io write LABELS OUT RUNS`

use std::path::Path;
use std::time::Instant;

fn main() -> galen_core::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["read", image, runs] => {
            for _ in 0..runs.parse().unwrap_or(1) {
                let begin = Instant::now();
                let volume = galen_io::read(Path::new(image))?;
                println!("{} {}", begin.elapsed().as_secs_f64(), volume.voxels.len());
            }
        }
        ["write", labels, out, runs] => {
            let labels = galen_io::read_label_map(Path::new(labels))?;
            for _ in 0..runs.parse().unwrap_or(1) {
                let begin = Instant::now();
                galen_io::write_label_map(Path::new(out), &labels)?;
                println!("{}", begin.elapsed().as_secs_f64());
            }
        }
        _ => eprintln!("usage: time_io read IMAGE RUNS | time_io write LABELS OUT RUNS"),
    }
    Ok(())
}
