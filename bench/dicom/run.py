"""Reading a CT series of 200 slices, 512 x 512: Galen beside SimpleITK, by turns.

usage: run.py TIME_IO_BINARY SERIES_FOLDER RESULT.json [RUNS]

SERIES_FOLDER holds a few slices (the CT series of the test data); they are repeated with pydicom to 200 in a temporary
folder, once uncompressed and once as they are compressed. Each run reads headers, sorts, decodes: SimpleITK with
GetGDCMSeriesFileNames and ImageSeriesReader, Galen with `galen_io::read` of the folder. Runs take turns, so that load hits
both alike; ratios are of medians. Files lie in TMPDIR and are in the page cache. Needs pydicom with its codecs, SimpleITK.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pydicom
import SimpleITK as sitk
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

COUNT = 200


def make(source, folder, raw):
    files = sorted(source.iterdir())
    series = generate_uid()
    for k in range(COUNT):
        ds = pydicom.dcmread(files[k % len(files)])
        if raw:
            ds.decompress()
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        x, y, _ = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, 2.0 * k]
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.InstanceNumber = series, series, k + 1
        ds.save_as(folder / f"{(k * 37) % COUNT:03d}.dcm")


def with_itk(folder):
    begin = time.perf_counter()
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    assert image.GetSize()[2] == COUNT
    return time.perf_counter() - begin


def with_galen(binary, folder):
    out = subprocess.run([binary, "read", folder, "1"], check=True, capture_output=True, text=True).stdout
    return float(out.split()[0])


def main():
    binary, source, result = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    runs = int(sys.argv[4]) if len(sys.argv) > 4 else 5
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    found = {"cpu": platform.processor() or platform.machine(), "threads": os.cpu_count(), "runs": runs,
             "SimpleITK": sitk.Version_VersionString(), "load": os.getloadavg()[0]}
    for name, raw in [("uncompressed", True), ("JPEG 2000", False)]:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            make(source, folder, raw)
            times = {"galen": [], "SimpleITK": []}
            for _ in range(runs):
                times["galen"].append(with_galen(binary, folder))
                times["SimpleITK"].append(with_itk(folder))
        medians = {who: statistics.median(all_) for who, all_ in times.items()}
        found[name] = {"seconds": medians, "ratio": medians["SimpleITK"] / medians["galen"], "all": times}
        print(name, medians, f"{found[name]['ratio']:.2f} times faster")
    result.write_text(json.dumps(found, indent=1) + "\n")


main()
