//! Files that are no image which Galen reads, told apart so that the error can say what to do.

use std::path::Path;

/// What a file is by its first bytes (gzip removed), and what to do with it.
pub fn name(path: &Path, start: &[u8]) -> (String, &'static str) {
    let at = |position: usize, magic: &[u8]| start.get(position..position + magic.len()) == Some(magic);
    let ends = |ending: &str| path.to_string_lossy().to_lowercase().ends_with(ending);
    let known: &[(bool, &str, &str)] = &[
        (start.is_empty(), "is empty, or ends within its first compressed bytes", "copy it again"),
        (
            at(0, &348i32.to_le_bytes()) || at(0, &348i32.to_be_bytes()),
            "is Analyze 7.5 or a damaged NIfTI: the magic `n+1` is missing",
            "Analyze has no orientation: convert it to NIfTI with care",
        ),
        (at(0, b"CDF") || (at(0, b"\x89HDF") && ends(".mnc")), "is MINC", "convert it with mnc2nii"),
        (at(0, b"\x89HDF"), "is HDF5", "export the image as NIfTI"),
        (at(0, &1i32.to_be_bytes()), "looks like FreeSurfer MGH", "convert it with mri_convert"),
        (at(0, b"PK\x03\x04"), "is a zip archive", "unpack it"),
        (at(0, b"\x93NUMPY"), "is a numpy array, which has no geometry", "save it as NIfTI"),
        (ends(".img") || ends(".raw"), "holds voxels without a header", "give the header file beside it"),
    ];
    let found = known.iter().find(|(is, ..)| *is).map(|&(_, what, remedy)| (what.to_owned(), remedy));
    found.unwrap_or_else(|| {
        let what =
            format!("begins with {:02x?}, which is no known image format", &start[..start.len().min(8)]);
        (what, "give DICOM, NIfTI, NRRD, MetaImage, PNG, JPEG, BMP or TIFF")
    })
}
