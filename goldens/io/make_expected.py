"""Facts about real image files as other readers see them, for the `golden` test of crates/io.

usage: make_expected.py DATA_FOLDER OUT.json

Geometry comes from SimpleITK where it reads the file, else from nibabel or pynrrd; stored values and types from
nibabel (NIfTI), SimpleITK (NRRD, MetaImage), Pillow and tifffile. Arrays are hashed as [channel, z, y, x],
little-endian, in the stored type. Lossy JPEG depends on the decoder: only its mean is kept.
Needs numpy, nibabel, SimpleITK, pynrrd, Pillow, tifffile with imagecodecs.
"""

import hashlib
import json
import sys
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import PIL
import SimpleITK as sitk
import tifffile
from PIL import Image

# What Galen must refuse, whatever others do: why, in words that its error must contain.
REFUSED = {
    "vol3d/nibabel/row_major.dconn.nii": "CIFTI",
    "vol3d/nibabel/analyze.hdr": "Analyze",
    "vol3d/nibabel/nifti1.hdr": "nifti1.img",
    "vol3d/nibabel/nifti2.hdr": "nifti2.img",
    "vol3d/nibabel/test.mgz": "FreeSurfer",
    "vol3d/nibabel/tiny.mnc": "MINC",
    "vol3d/nibabel/small.mnc": "MINC",
    "vol3d/nibabel/minc2_1_scale.mnc": "MINC",
    "vol3d/nifti_variants/not-nifti.nii": "no known image format",
    "vol3d/nifti_variants/air.hdr.gz": "air.img",
    "vol3d/nifti_variants/air2.hdr.gz": "air2.img",
    "vol3d/nrrd_variants/BallBinary30x30x30_bz2.nrrd": "bzip2",
    "vol3d/nrrd_variants/BallBinary30x30x30_byteskip_minus_five.nhdr": "byte skip",
    "img2d/wsi/CMU-1-Small-Region.svs": "pages differ",
    "img2d/wsi/small_HE_levels.tiff": "pages differ",
    "img2d/wsi/tcga_wsi_dicom_jpeg.dcm": "DICOM",
}


def facts(array, spacing, origin, direction, flat, slope=1.0, intercept=0.0, lossy=False):
    """`array` is [c, z, y, x]; spacing (z, y, x); direction one row per array axis, LPS."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    entry = {
        "size": list(array.shape[1:]),
        "channels": array.shape[0],
        "type": array.dtype.newbyteorder("=").name,
        "spacing": [float(v) for v in spacing],
        "origin": [float(v) for v in origin],
        "direction": [float(v) for v in np.asarray(direction).ravel()],
        "flat": flat,
    }
    if lossy:
        entry["mean"] = float(array.mean())
    else:
        entry["sha256"] = hashlib.sha256(little.tobytes()).hexdigest()[:16]
    if (slope, intercept) != (1.0, 0.0):
        entry["slope"], entry["intercept"] = float(slope), float(intercept)
    return entry


def sitk_geometry(image):
    """Spacing (z, y, x), origin and direction rows of the first three axes."""
    n = image.GetDimension()
    m = np.asarray(image.GetDirection()).reshape(n, n)
    spacing, origin, direction = np.ones(3), np.zeros(3), np.eye(3)
    k = min(n, 3)
    spacing[:k], origin[:k], direction[:k, :k] = image.GetSpacing()[:k], image.GetOrigin()[:k], m[:k, :k]
    return spacing[::-1], origin, direction.T[::-1], n


def sitk_array(image):
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    elif image.GetDimension() < 4:
        array = array[None]
    while array.ndim < 4:
        array = array[:, None]
    return array.reshape(-1, *array.shape[-3:])


def nifti(path):
    image = nibabel.load(path)
    stored = np.asarray(image.dataobj.get_unscaled())
    flat = stored.ndim < 3
    if stored.dtype.fields:
        stored = np.stack([stored[name] for name in stored.dtype.names], -1)
    while stored.ndim < 4:
        stored = stored[..., None]
    array = stored.T.reshape(-1, *stored.T.shape[-3:])
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    try:
        # Only the header: ITK's reader overruns its memory on vector images (intent 1007).
        theirs = sitk.ImageFileReader()
        theirs.SetFileName(str(path))
        theirs.ReadImageInformation()
        spacing, origin, direction = sitk_geometry(theirs)[:3]
        if theirs.GetNumberOfComponents() == 1:
            values = sitk_array(theirs.Execute())
            finite = np.isfinite(array)  # ITK puts 0 where a voxel is not a number.
            scaled = array.astype(float) * slope + intercept
            assert np.allclose(values[finite], scaled[finite], rtol=1e-6), path
        reader = "SimpleITK"
    except RuntimeError:
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        spacing = np.asarray(image.header["pixdim"][1:4], float)[::-1]
        origin, direction, reader = affine[:3, 3], (affine[:3, :3] / lengths).T[::-1], "nibabel"
    return facts(array, spacing, origin, direction, flat, slope, intercept) | {"reader": reader}


def itk_format(path):
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        data, header = nrrd.read(str(path))
        if data.ndim == 1:
            array, spacing = data[None, None, None], [1.0, 1.0, float(header["spacings"][0])]
            return facts(array, spacing, [0] * 3, np.eye(3)[::-1], True) | {"reader": "pynrrd"}
        assert header["space"] == "right-anterior-superior", path
        steps = np.asarray(header["space directions"][:3]) * [-1, -1, 1]
        lengths = np.linalg.norm(steps, axis=1)
        direction = (steps / lengths[:, None])[::-1]
        return facts(data.T, lengths[::-1], [0] * 3, direction, False) | {"reader": "pynrrd"}
    spacing, origin, direction, n = sitk_geometry(image)
    return facts(sitk_array(image), spacing, origin, direction, n < 3) | {"reader": "SimpleITK"}


def picture(path):
    with Image.open(path) as image:
        array, lossy = np.asarray(image), image.format == "JPEG"
        if image.mode == "1":
            array = array.astype(np.uint8) * 255
        if image.mode == "P":
            array = np.asarray(image.convert("RGB"))
        if array.dtype == np.int32:
            array = array.astype(np.uint16)
    array = np.moveaxis(array[..., None] if array.ndim == 2 else array, -1, 0)[:, None]
    return facts(array, [1] * 3, [0] * 3, np.eye(3)[::-1], True, lossy=lossy) | {"reader": "Pillow"}


def stack(path):
    with tifffile.TiffFile(path) as file:
        pages = np.stack([page.asarray() for page in file.pages])
    array = np.moveaxis(pages, -1, 0) if pages.ndim == 4 else pages[None]
    return facts(array, [1] * 3, [0] * 3, np.eye(3)[::-1], array.shape[1] == 1) | {"reader": "tifffile"}


def files(data):
    """3D files all, of large sets of like files every nth."""
    every = {"msd_hippocampus": 12, "example_seg_fast": 12, "img2d": 8}
    seen = {}
    for path in sorted(data.glob("vol3d/**/*")) + sorted(data.glob("msd_hippocampus*/**/*")) + sorted(data.glob("img2d/**/*")):
        name = path.relative_to(data).as_posix()
        endings = (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".nrrd", ".nhdr", ".mha", ".png", ".jpg", ".bmp", ".tif", ".tiff")
        if not path.is_file() or "zarr" in name or not (name.endswith(endings) or name in REFUSED):
            continue
        part = next((part for part in every if part in name), None)
        seen[part] = seen.get(part, -1) + 1
        if part and name not in REFUSED and seen[part] % every[part] and not name.endswith((".tif", ".bmp")):
            continue
        yield name, path


def main():
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    entries = {}
    for name, path in files(data):
        if name in REFUSED:
            entries[name] = {"refused": REFUSED[name]}
            continue
        make = itk_format
        if ".nii" in name or ".hdr" in name:
            make = nifti
        elif name.endswith((".png", ".jpg", ".bmp")):
            make = picture
        elif name.endswith((".tif", ".tiff")):
            make = stack
        try:
            entries[name] = make(path)
        except Exception as error:  # The oracle's own limits are worth a line each, not a stop.
            print(f"left out: {name}: {type(error).__name__} {error}")
    tools = {m.__name__: m.__version__ for m in (np, nibabel, nrrd, tifffile, PIL)}
    tools["SimpleITK"] = sitk.Version_VersionString()
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry, separators=(',', ':'))}" for name, entry in entries.items())
    out.write_text('{"tools": ' + json.dumps(tools) + ',\n"files": {\n' + lines + "\n}}\n")
    print(f"{len(entries)} files, {out.stat().st_size} bytes")


main()
