"""Dice, HD95, ASSD and NSD of 8 labels: Galen beside surface-distance, MONAI and SimpleITK, by turns.

usage: run.py TIME_MASKS_BINARY RESULT.json [ROUNDS] [--slow METRICS_RELOADED_FOLDER]

Volumes are synthetic (organ-like ellipsoids, the prediction bent by a smooth field), one isotropic and one with thick
slices. CPU seconds of one process on one thread; medians over the rounds; every round runs every tool once, so that
load hits all alike. --slow adds MedPy and MetricsReloaded, once each: they take minutes. Values are compared too.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"]:
    os.environ[name] = "1"

import numpy as np

np.NaN, np.Inf = np.nan, np.inf  # surface-distance 0.1 still uses them
import SimpleITK as sitk
import surface_distance as sd
import torch
from monai import metrics as mm
from scipy import ndimage

torch.set_num_threads(1)
sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
TOLERANCE = 2.0
VOLUMES = {"160^3, 1 mm": ((160, 160, 160), (1.0, 1.0, 1.0)), "64x256x256, 5/0.8/0.8 mm": ((64, 256, 256), (5.0, 0.8, 0.8))}


def scene(size):
    rng = np.random.default_rng(3)
    grid = [np.linspace(-1, 1, n).reshape([-1 if i == k else 1 for i in range(3)]) for k, n in enumerate(size)]
    bend = [0.03 * ndimage.zoom(rng.normal(size=(4, 4, 4)), np.array(size) / 4, order=1) for _ in range(3)]
    reference, prediction = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
    for label in range(1, 9):
        corner = np.array([(label - 1) >> 2 & 1, (label - 1) >> 1 & 1, (label - 1) & 1]) - 0.5
        centre, radius = corner + rng.uniform(-0.08, 0.08, 3), rng.uniform(0.2, 0.32, 3)
        reference[sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radius)) < 1] = label
        prediction[sum(((g + b - c) / r) ** 2 for g, b, c, r in zip(grid, bend, centre, radius)) < 1] = label
    return reference, prediction


def surface_distance_tool(ref, pred, spacing):
    out = []
    for label in range(1, 9):
        r, p = ref == label, pred == label
        d = sd.compute_surface_distances(r, p, spacing)
        there, back = sd.compute_average_surface_distance(d)
        a, b = d["surfel_areas_gt"].sum(), d["surfel_areas_pred"].sum()
        out.append([sd.compute_dice_coefficient(r, p), sd.compute_robust_hausdorff(d, 95), (there * a + back * b) / (a + b), sd.compute_surface_dice_at_tolerance(d, TOLERANCE)])
    return out


def monai_tool(ref, pred, spacing):
    hot = lambda v: torch.stack([torch.from_numpy(v == k) for k in range(1, 9)])[None].float()
    r, p = hot(ref), hot(pred)
    all_of = {"include_background": True}
    values = [mm.compute_dice(p, r, **all_of), mm.compute_hausdorff_distance(p, r, percentile=95, spacing=spacing, **all_of),
              mm.compute_average_surface_distance(p, r, symmetric=True, spacing=spacing, **all_of), mm.compute_surface_dice(p, r, [TOLERANCE] * 8, spacing=spacing, **all_of)]
    return np.stack([v[0].numpy() for v in values], 1).tolist()


def sitk_tool(ref, pred, spacing):
    images = [sitk.GetImageFromArray(v) for v in (ref, pred)]
    [i.SetSpacing(spacing[::-1]) for i in images]
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    out = []
    for label in range(1, 9):
        masks = [i == label for i in images]
        maps = [sitk.Abs(sitk.SignedMaurerDistanceMap(m, squaredDistance=False, useImageSpacing=True)) for m in masks]
        edges = [sitk.GetArrayFromImage(sitk.LabelContour(m)) > 0 for m in masks]
        d = [sitk.GetArrayFromImage(maps[1 - k])[edges[k]] for k in (0, 1)]
        both = np.concatenate(d)
        out.append([overlap.GetDiceCoefficient(label), max(np.percentile(v, 95) for v in d), both.mean(), (both <= TOLERANCE).mean()])
    return out


def medpy_tool(ref, pred, spacing):
    from medpy.metric import binary as mp

    return [[mp.dc(pred == k, ref == k), mp.hd95(pred == k, ref == k, spacing), mp.assd(pred == k, ref == k, spacing)] for k in range(1, 9)]


def reloaded_tool(ref, pred, spacing):
    from MetricsReloaded.metrics.pairwise_measures import BinaryPairwiseMeasures as B

    out = []
    for k in range(1, 9):
        b = B((pred == k).astype(np.uint8), (ref == k).astype(np.uint8), pixdim=list(spacing), dict_args={"nsd": TOLERANCE, "hd_perc": 95})
        out.append([b.dsc(), b.measured_hausdorff_distance_perc(), b.measured_average_distance(), b.normalised_surface_distance()])
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("result", type=Path)
    parser.add_argument("rounds", type=int, nargs="?", default=3)
    parser.add_argument("--slow", help="folder of a MetricsReloaded checkout")
    arguments = parser.parse_args()
    document = {"machine": platform.processor() or platform.machine(), "rounds": arguments.rounds, "volumes": {}}
    for name, (size, spacing) in VOLUMES.items():
        ref, pred = scene(size)
        seconds, values = {}, {}

        def run(tool, call):
            begin = time.process_time()
            values[tool] = call(ref, pred, spacing)
            seconds.setdefault(tool, []).append(time.process_time() - begin)

        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f for f in ("reference", "prediction")]
            [f.write_bytes(v.tobytes()) for f, v in zip(files, (ref, pred))]
            for _ in range(arguments.rounds):
                command = [arguments.binary, *map(str, [*files, *size, *spacing, 20])]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                for kind in ("surfel", "voxel"):
                    seconds.setdefault(f"galen {kind}", []).append(found[kind]["seconds"])
                    values[f"galen {kind}"] = found[kind]["values"]
                run("surface-distance", surface_distance_tool)
                run("MONAI", monai_tool)
                run("SimpleITK", sitk_tool)
        if arguments.slow:
            sys.path.insert(0, arguments.slow)
            run("MedPy", medpy_tool)
            run("MetricsReloaded", reloaded_tool)
        median = {tool: statistics.median(s) for tool, s in seconds.items()}
        difference = lambda a, b: float(np.max(np.abs(np.array(values[a]) - np.array(values[b]))))
        document["volumes"][name] = {
            "foreground": float((ref > 0).mean()), "seconds": seconds, "medians": median,
            "ratio to surfel": {t: s / median["galen surfel"] for t, s in median.items()}, "ratio to voxel": {t: s / median["galen voxel"] for t, s in median.items()},
            "largest difference": {"surface-distance": difference("galen surfel", "surface-distance"), "MONAI": difference("galen voxel", "MONAI"), "SimpleITK": difference("galen voxel", "SimpleITK")},
        }
        print(name, json.dumps(document["volumes"][name]["medians"]), document["volumes"][name]["largest difference"])
    arguments.result.write_text(json.dumps(document, indent=1) + "\n")


main()
