#!/usr/bin/env python3
"""What pydicom sees in every DICOM file of a folder, and how far Galen's pixels are from it.

Writes, for the tests, one line per file (crates/io/tests/dicom_expected.tsv) and, for people, docs/dicom_files.tsv.
Needs pydicom, pylibjpeg with its codecs, SimpleITK; and the example `dicom_pixels` of galen-io, built.

  python goldens/dicom.py ../shared/data/dicom target/debug/examples/dicom_pixels
"""
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pydicom

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)

ROOT = Path(__file__).resolve().parent.parent
# Files whose pixels pydicom cannot decode, and where the same pixels are stored in a form that it can.
TWINS = {
    "pydicom_data/emri_small_jpeg_2k_lossless_too_short.dcm": "pydicom_data/emri_small_jpeg_2k_lossless.dcm",
    "pydicom_data/liver_rle.dcm": "pydicom_data/liver.dcm",
    "pydicom_data/liver_deflate.dcm": "pydicom_data/liver.dcm",
    "pydicom_data/liver_nonbyte_aligned_rle.dcm": "pydicom_data/liver_nonbyte_aligned.dcm",
    "pydicom_data/liver_nonbyte_aligned_deflate.dcm": "pydicom_data/liver_nonbyte_aligned.dcm",
}


def is_dicom(file):
    with open(file, "rb") as f:
        head = f.read(132)
    return head[128:] == b"DICM" or (head[:1] in (b"\x08", b"\x02") and head[1:2] == b"\0") or head[:2] in (b"\0\x08", b"\0\x02")


def shaped(array, ds):
    frames = int(ds.get("NumberOfFrames", 1) or 1)
    samples = int(ds.get("SamplesPerPixel", 1) or 1)
    return array.reshape(frames, int(ds.Rows), int(ds.Columns), samples)


def by_itk(file):
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    image = sitk.ReadImage(str(file))
    return sitk.GetArrayFromImage(image)


def reference(folder, name):
    """(array or None, who decoded it, why not, data set or None)"""
    try:
        ds = pydicom.dcmread(folder / name, force=True)
    except Exception as error:  # noqa: BLE001
        return None, "", f"{type(error).__name__}: {error}", None
    if name in TWINS:
        twin = pydicom.dcmread(folder / TWINS[name])
        return shaped(twin.pixel_array, twin), "pydicom, " + TWINS[name], "", twin
    if not any(tag in ds for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return None, "", "no pixels", ds
    try:
        return shaped(ds.pixel_array, ds), "pydicom", "", ds
    except Exception as error:  # noqa: BLE001
        why = f"{type(error).__name__}: {error}".split("\n")[0]
    try:
        slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
        array = (by_itk(folder / name) - intercept) / slope
        if ds.PhotometricInterpretation == "MONOCHROME1":
            # ITK's JPEG reader turns these around; stored values are meant here.
            array = 2 ** int(ds.BitsStored) - 1 - array
        return shaped(array, ds), "SimpleITK", why, ds
    except Exception:  # noqa: BLE001
        return None, "", why, ds


def main():
    folder, program = Path(sys.argv[1]), Path(sys.argv[2])
    names = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file() and f.suffix not in (".tsv", ".nii", ".gz", ".nrrd", ".json", ".md"))
    names = [name for name in names if is_dicom(folder / name)]
    out = Path(tempfile.mkdtemp())
    run = subprocess.run([program, out, *[folder / name for name in names]], capture_output=True, text=True, check=True)
    galen = {}
    for line in run.stdout.splitlines():
        number, *rest = line.split("\t")
        galen[names[int(number)]] = (int(number), rest)
    expected, table = [], []
    counts = {}
    for name in names:
        array, who, why, ds = reference(folder, name)
        number, found = galen[name]
        syntax = "" if ds is None else str(getattr(getattr(ds, "file_meta", None), "TransferSyntaxUID", "") or "")
        sha, samples, lossy = "", "", ""
        if array is not None:
            kind = "uint8" if int(ds.get("BitsAllocated", 8)) == 1 else array.dtype.newbyteorder("=").name
            flat = np.ascontiguousarray(array).reshape(-1)
            sha = hashlib.sha256(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"))).tobytes()).hexdigest()[:16]
        if found[0] == "none":
            verdict, difference = "no pixels", ""
        elif found[0] == "error":
            verdict, difference = found[1].replace(str(folder) + "/", ""), ""
        else:
            own = np.frombuffer((out / str(number)).read_bytes(), dtype=found[0]).reshape([int(n) for n in found[1].split()])
            lossy = "" if found[3] == "true" else "lossy"
            if array is None:
                verdict, difference = "decoded", "no reference"
            elif own.shape != array.shape:
                verdict, difference = "decoded", f"shape {own.shape} {array.shape}"
            else:
                gap = np.abs(own.astype(np.float64) - array.astype(np.float64))
                # ITK wraps the few lossy samples that swing beyond the bits that count.
                difference = f"{np.nanmax(gap) if who.startswith('pydicom') else np.percentile(gap, 99.999):g}"
                verdict = "decoded"
                if who == "pydicom" and own.dtype.name != kind:
                    difference += f" {own.dtype.name}/{kind}"
        if array is not None and (lossy or not who.startswith("pydicom")):
            step = max(1, len(flat) // 200)
            samples = " ".join(f"{v:g}" for v in flat[::step])
        shape = "" if array is None else " ".join(map(str, array.shape))
        expected.append("\t".join([name, who.split(",")[0], shape, "" if array is None else kind, sha if not samples else "", difference if samples else "", samples]))
        table.append("\t".join([name, syntax, verdict, difference, who, why[:160].replace("\t", " ")]))
        key = (verdict if verdict in ("decoded", "no pixels") else "refused", difference if difference in ("", "0", "no reference") else "other")
        counts[key] = counts.get(key, 0) + 1
    header = f"# pydicom {pydicom.__version__}, {len(names)} files; goldens/dicom.py"
    Path(os.environ.get("EXPECTED", ROOT / "crates/io/tests/dicom_expected.tsv")).write_text(
        header + "\n# file, reference, shape, type, sha256 of its bytes, largest difference allowed, some of its values\n" + "\n".join(expected) + "\n")
    Path(os.environ.get("TABLE", ROOT / "docs/dicom_files.tsv")).write_text(
        header + "\nfile\ttransfer syntax\tGalen\tlargest difference\treference\tpydicom's error\n" + "\n".join(table) + "\n")
    for key, count in sorted(counts.items()):
        print(count, *key)


main()
