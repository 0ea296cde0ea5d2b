"""Single tasks: Galen beside the packages that people use for them, by turns.

usage: tasks.py TIME_TASKS_BINARY RESULT.json [--rounds 3] [--only edt components skeleton ssim fid auroc cindex masks]

CPU seconds on one thread, medians over rounds; every round runs every tool once. Peers that take very long run once
(sqrtm), or on a part that is scaled up (scikit-learn: 10 of 1000 draws; said in the result). Answers are compared.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"]:
    os.environ[name] = "1"

import numpy as np
from scipy import ndimage

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("result", type=Path)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--only", nargs="*")
arguments = parser.parse_args()
rng = np.random.default_rng(5)
folder = Path(tempfile.mkdtemp())
results = json.loads(arguments.result.read_text()) if arguments.result.exists() else {}


def galen(task, size, repetitions, *arrays):
    files = []
    for i, array in enumerate(arrays):
        files.append(folder / f"{task}{i}")
        if not files[-1].exists():
            files[-1].write_bytes(np.ascontiguousarray(array).tobytes())
    command = [arguments.binary, task, str(size), str(repetitions), *map(str, files)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found["seconds"], found["values"]


def spent(call):
    begin = time.process_time()
    value = call()
    return time.process_time() - begin, value


def run(name, ours, peers, goals, note="", once=()):
    """ours() -> seconds, values; peers: name -> call() -> value to note."""
    if arguments.only and name.split()[0] not in arguments.only:
        return
    seconds, values = {"Galen": []}, {}
    for turn in range(arguments.rounds):
        s, values["Galen"] = ours()
        seconds["Galen"].append(s)
        for peer, call in peers.items():
            if peer in once and turn:
                continue
            s, values[peer] = spent(call)
            seconds.setdefault(peer, []).append(s)
    median = {k: statistics.median(v) for k, v in seconds.items()}
    ratios = {k: v / median["Galen"] for k, v in median.items() if k != "Galen"}
    results[name] = {"medians": median, "ratios": ratios, "goals": goals, "values": {k: np.ravel(v).tolist() for k, v in values.items()}, "note": note}
    print(name, {k: round(v, 5) for k, v in median.items()}, {k: (round(v, 1), goals.get(k)) for k, v in ratios.items()}, results[name]["values"], flush=True)
    arguments.result.write_text(json.dumps(results, indent=1) + "\n")


def wanted(name):
    return not arguments.only or name in arguments.only


def blobs(n, share, sigma):
    field = ndimage.gaussian_filter(rng.normal(size=(n,) * 3).astype(np.float32), sigma)
    return (field > np.quantile(field, 1 - share)).astype(np.uint8)


if wanted("edt"):
    import edt
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    for name, mask in {"edt 256^3, blobs": blobs(256, 0.5, 4), "edt 256^3, a ball": (sum((np.indices((256,) * 3) - 128.0) ** 2) < 110**2).astype(np.uint8)}.items():
        for file in folder.glob("edt*"):
            file.unlink()
        summary = lambda d: [float(d.sum(dtype=np.float64)), float(d.max())]
        image = sitk.GetImageFromArray(1 - mask)
        peers = {
            "edt": lambda: summary(edt.edt(mask, parallel=1)),
            "SimpleITK Maurer": lambda: summary(np.maximum(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)), 0)),
            "scipy": lambda: summary(ndimage.distance_transform_edt(mask)),
        }
        run(name, lambda: galen("edt", 256, 5, mask), peers, {"edt": 2.5, "SimpleITK Maurer": 8, "scipy": 25}, once=("scipy",), note="distance of every voxel of the mask to the background; edt counts the volume's border as foreground too")

if wanted("components"):
    import cc3d

    mask = blobs(256, 0.18, 2)
    peers = {"cc3d": lambda: cc3d.connected_components(mask, connectivity=26, return_N=True)[1], "scipy": lambda: ndimage.label(mask, np.ones((3, 3, 3)))[1]}
    run("components 256^3, 26", lambda: galen("components", 256, 10, mask), peers, {"cc3d": 2}, once=("scipy",))

if wanted("skeleton"):
    from skimage.morphology import skeletonize

    z, y, x = np.indices((160,) * 3)
    tubes = np.zeros((160,) * 3, bool)
    for k in range(10):
        a, b, c, d = rng.uniform(20, 140, 4)
        tubes |= (y - a - 15 * np.sin(z / (12 + k))) ** 2 + (x - b - 10 * np.cos(z / (9 + k))) ** 2 < (3 + k % 3) ** 2
        tubes |= (z - c - 12 * np.sin(x / (10 + k))) ** 2 + (y - d - 9 * np.cos(x / 14)) ** 2 < 9
    organs = blobs(160, 0.1, 9) > 0
    for name, mask in {"skeleton 160^3, tubes": tubes, "skeleton 160^3, organ-like": organs}.items():
        for file in folder.glob("skeleton*"):
            file.unlink()
        run(name, lambda: galen("skeleton", 160, 3, mask.astype(np.uint8)), {"skimage": lambda: (skeletonize(mask, method="lee") > 0).sum()}, {"skimage": 5})

if wanted("ssim"):
    import torch
    from monai.metrics import SSIMMetric
    from skimage.metrics import structural_similarity

    torch.set_num_threads(1)
    a = ndimage.gaussian_filter(rng.normal(size=(128,) * 3), 2)
    a = (a - a.min()) / np.ptp(a)
    b = np.clip(a + 0.05 * rng.normal(size=a.shape), 0, 1)
    t = lambda v: torch.tensor(v[None, None].astype(np.float32))
    gauss = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    monai = lambda kind, **k: float(SSIMMetric(spatial_dims=3, data_range=1.0, kernel_type=kind, **k)(t(b), t(a))[0, 0])
    for index, (name, options, call) in enumerate([("ssim 128^3, uniform 7", {}, lambda: monai("uniform", win_size=7)), ("ssim 128^3, gaussian 11", gauss, lambda: monai("gaussian"))]):
        peers = {"skimage": lambda: structural_similarity(a, b, data_range=1.0, **options), "MONAI": call}

        def ours():
            seconds, values = galen("ssim", 128, 3, a, b)
            return seconds[index], values[index]

        run(name, ours, peers, {"skimage": 8, "MONAI": 60}, once=("MONAI",))

if wanted("fid"):
    from scipy.linalg import sqrtm

    basis = rng.normal(size=(2048, 2048)) * (1 / np.sqrt(1 + np.arange(2048)))
    x, y = rng.normal(size=(2000, 2048)) @ basis, rng.normal(0.1, 1.1, size=(2000, 2048)) @ basis

    def recipe():
        c, d = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
        return ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c) + np.trace(d) - 2 * np.trace(sqrtm(c @ d)).real

    run("fid N = 2000, d = 2048", lambda: galen("fid", 2000, 1, x, y), {"sqrtm recipe": recipe}, {"sqrtm recipe": 10}, once=("sqrtm recipe",))

if wanted("auroc"):
    from sklearn.metrics import roc_auc_score

    n = 100_000
    labels = (rng.random(n) < 0.3).astype(np.uint8)
    scores = rng.normal(size=n) + labels

    def sklearn():
        draws = [rng.integers(0, n, n) for _ in range(10)]
        return np.quantile([roc_auc_score(labels[d], scores[d]) for d in draws], [0.025, 0.975])

    def presorted():
        order = np.argsort(scores)
        sorted_labels = labels[order].astype(bool)
        found = []
        for _ in range(100):
            counts = np.bincount(rng.integers(0, n, n), minlength=n)
            positive, negative = counts * sorted_labels, counts * ~sorted_labels
            found.append((positive * np.cumsum(negative)).sum() / (positive.sum() * negative.sum()))
        return np.quantile(found, [0.025, 0.975])

    def ours():
        seconds, values = galen("auroc", n, 3, labels, scores)
        return seconds / 1000, values

    name = "auroc bootstrap n = 10^5, one draw of 1000"
    run(name, ours, {"scikit-learn, 10 draws": sklearn, "presorted numpy, 100 draws": presorted}, {"scikit-learn, 10 draws": 150, "presorted numpy, 100 draws": 6})
    if name in results:
        for peer, draws in {"scikit-learn, 10 draws": 10, "presorted numpy, 100 draws": 100}.items():
            results[name]["medians"][peer] /= draws
            results[name]["ratios"][peer] /= draws
        print(name, results[name]["medians"], results[name]["ratios"])
        arguments.result.write_text(json.dumps(results, indent=1) + "\n")

if wanted("cindex"):
    from lifelines.utils import concordance_index

    n = 10_000
    risk = rng.normal(size=n)
    times, censored = rng.exponential(np.exp(-risk)), rng.exponential(1.5, n)
    events, times = (times <= censored).astype(np.uint8), np.minimum(times, censored)
    run("cindex n = 10^4", lambda: galen("cindex", n, 50, times, events, risk), {"lifelines": lambda: concordance_index(times, -risk, events)}, {"lifelines": 30})

if wanted("masks"):
    size = (160,) * 3
    grid = [np.linspace(-1, 1, 160).reshape([-1 if i == k else 1 for i in range(3)]) for k in range(3)]
    reference, good = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    far = np.zeros(size, np.uint8)
    for label in range(1, 9):
        corner = np.array([(label - 1) >> 2 & 1, (label - 1) >> 1 & 1, (label - 1) & 1]) - 0.5
        radius = rng.uniform(0.2, 0.32, 3)
        ball = lambda centre: sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius)) < 1
        reference[ball(corner)] = label
        good[ball(corner + 0.03)] = label
        far[ball(-corner)] = label
    noise = np.where(rng.random(size) < 0.5, rng.integers(0, 9, size), 0).astype(np.uint8)
    speckled = np.where(rng.random(size) < 0.02, rng.integers(0, 9, size), good).astype(np.uint8)
    timings = {}
    for name, prediction in {"good": good, "empty": np.zeros(size, np.uint8), "far away": far, "speckled": speckled, "noise": noise}.items():
        for file in folder.glob("masks*"):
            file.unlink()
        timings[name] = statistics.median(galen("masks", 160, 10, reference, prediction)[0] for _ in range(arguments.rounds))
    results["bad predictions, 8 labels, 160^3"] = {"seconds": timings, "ratios to the good one": {k: v / timings["good"] for k, v in timings.items()}, "goal": "at most 3"}
    print(results["bad predictions, 8 labels, 160^3"])
    arguments.result.write_text(json.dumps(results, indent=1) + "\n")
