//! Transfer syntaxes: how data sets and pixels are written. Source: DICOM PS3.5, annex A, and PS3.6, table A-1.

use galen_core::Error;

/// How pixels are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrapping {
    /// As they are.
    Native,
    /// As they are, in a data set that is deflated as a whole.
    Deflated,
    /// As they are, in fragments.
    NativeFragments,
    /// Each frame deflated.
    DeflatedFrames,
    /// Run lengths.
    Rle,
    /// JPEG with a discrete cosine transform or without loss, 8 to 16 bits.
    Jpeg,
    /// JPEG-LS.
    JpegLs,
    /// JPEG 2000, high-throughput too.
    Jpeg2000,
}

/// One transfer syntax.
#[derive(Debug)]
pub struct Syntax {
    /// Unique identifier.
    pub uid: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// How its pixels are written.
    pub wrapping: Wrapping,
    /// Most significant byte first.
    pub big: bool,
    /// Decoded pixels are those of the scanner, bit by bit, as far as the syntax decides it.
    pub lossless: bool,
}

const fn syntax(uid: &'static str, name: &'static str, wrapping: Wrapping, lossless: bool) -> Syntax {
    Syntax { uid, name, wrapping, big: false, lossless }
}

/// All transfer syntaxes that are read.
pub static SYNTAXES: &[Syntax] = &[
    syntax("1.2.840.10008.1.2", "implicit VR little endian", Wrapping::Native, true),
    syntax("1.2.840.10008.1.2.1", "explicit VR little endian", Wrapping::Native, true),
    Syntax { big: true, ..syntax("1.2.840.10008.1.2.2", "explicit VR big endian", Wrapping::Native, true) },
    syntax("1.2.840.10008.1.2.1.98", "encapsulated uncompressed", Wrapping::NativeFragments, true),
    syntax("1.2.840.10008.1.2.1.99", "deflated", Wrapping::Deflated, true),
    syntax("1.2.840.10008.1.2.8.1", "deflated image frames", Wrapping::DeflatedFrames, true),
    syntax("1.2.840.10008.1.2.5", "RLE lossless", Wrapping::Rle, true),
    syntax("1.2.840.10008.1.2.4.50", "JPEG baseline", Wrapping::Jpeg, false),
    syntax("1.2.840.10008.1.2.4.51", "JPEG extended", Wrapping::Jpeg, false),
    syntax("1.2.840.10008.1.2.4.57", "JPEG lossless", Wrapping::Jpeg, true),
    syntax("1.2.840.10008.1.2.4.70", "JPEG lossless, first order", Wrapping::Jpeg, true),
    syntax("1.2.840.10008.1.2.4.80", "JPEG-LS lossless", Wrapping::JpegLs, true),
    syntax("1.2.840.10008.1.2.4.81", "JPEG-LS near-lossless", Wrapping::JpegLs, false),
    syntax("1.2.840.10008.1.2.4.90", "JPEG 2000 lossless", Wrapping::Jpeg2000, true),
    syntax("1.2.840.10008.1.2.4.91", "JPEG 2000", Wrapping::Jpeg2000, false),
    syntax("1.2.840.10008.1.2.4.201", "HTJ2K lossless", Wrapping::Jpeg2000, true),
    syntax("1.2.840.10008.1.2.4.202", "HTJ2K lossless RPCL", Wrapping::Jpeg2000, true),
    syntax("1.2.840.10008.1.2.4.203", "HTJ2K", Wrapping::Jpeg2000, false),
];

/// Beginnings of identifiers that are known and not read, with their names.
const NOT_READ: &[(&str, &str)] = &[
    ("1.2.840.10008.1.2.4.92", "JPEG 2000 part 2, several components"),
    ("1.2.840.10008.1.2.4.93", "JPEG 2000 part 2, several components"),
    ("1.2.840.10008.1.2.4.94", "JPIP, pixels on a server"),
    ("1.2.840.10008.1.2.4.95", "JPIP, pixels on a server"),
    ("1.2.840.10008.1.2.4.11", "JPEG XL"),
    ("1.2.840.10008.1.2.4.10", "MPEG or H.264 or HEVC video"),
    ("1.2.840.10008.1.2.4.", "a retired form of JPEG"),
];

impl Syntax {
    /// The syntax with this identifier.
    pub fn find(uid: &str) -> Option<&'static Self> {
        SYNTAXES.iter().find(|syntax| syntax.uid == uid)
    }

    /// The error of an identifier that is none of [`SYNTAXES`].
    pub fn unknown(place: &str, uid: &str) -> Error {
        let name =
            NOT_READ.iter().find(|(start, _)| uid.starts_with(start)).map_or("unknown", |(_, name)| name);
        let what = format!("its transfer syntax {uid} ({name}) is not read");
        Error::input(place, what, "convert it with `gdcmconv --raw` or `dcmconv`, or export it uncompressed")
    }
}
