"""Reading a CT and writing a label map, 512 x 512 x 200: Galen beside nibabel and SimpleITK, by turns.

usage: run.py TIME_IO_BINARY RESULT.json [RUNS]

The image is synthetic (smooth bodies and noise, int16), compressed once as nibabel does by default and once at
level 6 as scanners' converters do. Peers use their defaults. Runs take turns, so that load hits all alike; times are
of the call alone, without starting a process. Ratios are of medians. Files lie in TMPDIR: on a disk, Galen's time
for writing holds two syncs, which the peers leave out; in memory (/dev/shm) it is the work alone. Needs numpy,
nibabel, SimpleITK.
"""

import gzip
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

SIZE = (512, 512, 200)


def scene():
    """CT-like int16 image and its label map (uint8), axes x, y, z."""
    rng = np.random.default_rng(0)
    x, y, z = (np.linspace(-1, 1, n, dtype=np.float32).reshape(shape)
               for n, shape in zip(SIZE, [(-1, 1, 1), (1, -1, 1), (1, 1, -1)]))
    image = np.full(SIZE, -1000, np.float32)
    labels = np.zeros(SIZE, np.uint8)
    for label in range(25):
        centre, radius = rng.uniform(-0.5, 0.5, 3), rng.uniform(0.08, 0.3, 3)
        if label == 0:
            centre, radius = np.zeros(3), np.array([0.85, 0.7, 2])
        inside = sum(((v - c) / r) ** 2 for v, c, r in zip((x, y, z), centre, radius)) < 1
        image[inside] = rng.uniform(-100, 300)
        labels[inside] = label
    image += rng.normal(0, 12, SIZE).astype(np.float32)
    return image.round().astype(np.int16), labels


def timed(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def with_nibabel(path):
    array = np.asanyarray(nibabel.load(path).dataobj)
    # A plain file is only mapped: copying it is what reads it.
    return array.copy() if isinstance(array, np.memmap) else array


def galen(binary, *args):
    out = subprocess.run([binary, *map(str, args), "1"], check=True, capture_output=True, text=True).stdout
    return float(out.split()[0])


def main():
    binary, result, runs = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 9
    times, sizes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        image, labels = scene()
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / "level1.nii.gz")
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / "plain.nii")
        (folder / "level6.nii.gz").write_bytes(gzip.compress((folder / "plain.nii").read_bytes(), 6))
        nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), folder / "labels.nii.gz")
        itk_labels = sitk.ReadImage(str(folder / "labels.nii.gz"))
        tasks = {}
        for name in ("level1.nii.gz", "level6.nii.gz", "plain.nii"):
            path = folder / name
            tasks[f"read {name}"] = {
                "galen": lambda path=path: galen(binary, "read", path),
                "nibabel": lambda path=path: timed(lambda: with_nibabel(path)),
                "SimpleITK": lambda path=path: timed(lambda: sitk.ReadImage(str(path))),
            }
        tasks["write labels.nii.gz"] = {
            "galen": lambda: galen(binary, "write", folder / "labels.nii.gz", folder / "galen.nii.gz"),
            "nibabel": lambda: timed(lambda: nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), folder / "nibabel.nii.gz")),
            "SimpleITK": lambda: timed(lambda: sitk.WriteImage(itk_labels, str(folder / "SimpleITK.nii.gz"), True)),
        }
        for task, peers in tasks.items():
            for _ in range(runs):
                for peer, run in peers.items():
                    times.setdefault(task, {}).setdefault(peer, []).append(run())
        sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        back = np.asarray(nibabel.load(folder / "galen.nii.gz").dataobj)
        assert (back == labels).all(), "what Galen wrote is not what nibabel reads"
    medians = {task: {peer: statistics.median(all) for peer, all in peers.items()} for task, peers in times.items()}
    for task, peers in medians.items():
        ratios = {peer: f"{seconds / peers['galen']:.2f}" for peer, seconds in peers.items()}
        print(f"{task}: " + ", ".join(f"{peer} {s * 1e3:.0f} ms (x {ratios[peer]})" for peer, s in peers.items()))
    print(sizes)
    machine = {"system": platform.platform(), "processor": platform.processor(), "python": platform.python_version(),
               "numpy": np.__version__, "nibabel": nibabel.__version__, "SimpleITK": sitk.Version_VersionString()}
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps({"machine": machine, "files_in": tempfile.gettempdir(), "seconds": times,
                                  "bytes": sizes}, indent=1) + "\n")


if __name__ == "__main__":
    main()
