#!/usr/bin/env python3
"""What SimpleITK makes of DICOM series: grid and values, for crates/io/tests/dicom_series.json.

  python goldens/dicom_series.py ../shared/data/dicom
"""
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

sitk.ProcessObject.SetGlobalWarningDisplay(False)
ROOT = Path(__file__).resolve().parent.parent
FOLDERS = [
    "series_ct_totalsegmentator",
    "series_mr_hippocampus_crop/Study1",
    "series_mr_hippocampus_crop/Study2",
    "series_mr_hippocampus_crop/Study3",
    "rt_utils/oriented_data",
    "dicom2nifti/generic/compressed_rle/001",
    "dicom2nifti/generic/compressed_jpeg/001",
    "dicom2nifti/generic/compressed_jpegls/001",
    "dicom2nifti/generic/anatomical/002_non_isotropic",
    "dicom2nifti/hitachi/anatomical/001",
    "dicom2nifti/hyperfine/anatomical/001",
    "dcmqi/segmentations/23x38x3/image",
    "dcmqi/segmentations/24x38x3/image",
]


def main():
    root, found = Path(sys.argv[1]), {}
    for name in FOLDERS:
        folder = root / name
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
        image = sitk.ReadImage(files if len(files) > 1 else files[0])
        values = sitk.GetArrayFromImage(image).astype(np.float32)
        d = np.array(image.GetDirection()).reshape(3, 3)
        found[name] = {
            "size": list(values.shape),
            "spacing": list(image.GetSpacing())[::-1],
            "origin": list(image.GetOrigin()),
            "direction": [list(d[:, 2]), list(d[:, 1]), list(d[:, 0])],
            "sha256": hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()[:16],
        }
    out = {"SimpleITK": sitk.Version_VersionString(), "series": found}
    (ROOT / "crates/io/tests/dicom_series.json").write_text(json.dumps(out, indent=1) + "\n")


main()
