"""Work around the network: Galen beside nnU-Net v2 in Python, the same inputs and threads, by turns in one run.

usage: run.py OUTSIDE_NETWORK_BINARY WORK RESULT.json [--tasks T ...] [--rounds N] [--threads N]

OUTSIDE_NETWORK_BINARY is `cargo build --release -p galen --example outside_network`. Every measurement is a process of
its own: processor seconds and wall of the work, and how far its resident memory rose above what it was before the
work. Rounds take turns, so that load hits both alike; ratios are of medians. Results are compared: labels that are
equal, largest difference of images. Needs nnunetv2, SimpleITK, connected-components-3d.
"""
import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

LOGITS = {"export8": (8, 200), "export104": (104, 30), "regions3": (3, 200)}
SPACING, NEW = (1.0, 1.5, 1.5), (1.0, 0.8, 0.8)
CT_FROM, CT_TO = (1.25, 0.78, 0.78), (1.5, 1.0, 1.0)
# Task of both, rounds; what Python takes minutes for is run less often.
TASKS = {
    "export8": 3, "export8_torch": 3, "export104": 1, "export104_torch": 1, "regions3": 3, "export8_saved": 1,
    "preprocess": 3, "cubic": 3, "labels": 3, "augment": 3, "spatial": 5, "sliding": 5, "holes": 5, "largest": 5,
    "components": 5,
}


def status(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0


def measure(work, repeats=1, less=None):
    """`less`: processor seconds and wall that do not count, filled by the work."""
    open("/proc/self/clear_refs", "w").write("5")
    base, start, wall = status("VmRSS"), resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    result = work()
    wall = time.perf_counter() - wall
    end = resource.getrusage(resource.RUSAGE_SELF)
    cpu = end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime
    if less:
        cpu, wall = cpu - less[0], wall - less[1]
    print(json.dumps({"wall": wall / repeats, "cpu": cpu / repeats, "base": base, "peak": status("VmHWM")}), flush=True)
    return result


# ---- inputs

def smooth(rng, size, step):
    import torch
    coarse = torch.from_numpy(rng.normal(size=(1, 1, *[max(2, n // step) for n in size])).astype(np.float32))
    return torch.nn.functional.interpolate(coarse, size=size, mode="trilinear", align_corners=False)[0, 0].numpy()


def prepare(work):
    import SimpleITK as sitk
    rng = np.random.default_rng(0)
    for name, (classes, planes) in LOGITS.items():
        if not (work / f"{name}.npy").exists():
            field = [smooth(rng, (planes, 273, 273), 8).astype(np.float16) for _ in range(classes)]
            np.save(work / f"{name}.npy", np.stack(field))
    if not (work / "labels.npy").exists():
        z, y, x = np.ogrid[:200, :512, :512]
        body = ((y - 256) / 220) ** 2 + ((x - 256) / 170) ** 2 < 1
        image = np.where(body, 40, -1000) + rng.integers(-30, 31, (200, 512, 512))
        image = np.broadcast_to(image, (200, 512, 512)).astype(np.int16)
        labels = np.zeros((200, 512, 512), np.uint8)
        for value, r in ((1, 90), (2, 50), (3, 20)):
            labels[((z - 100) / (r * .9)) ** 2 + ((y - 256) / r) ** 2 + ((x - 250) / (r * 1.2)) ** 2 < 1] = value
        volume = sitk.GetImageFromArray(image)
        volume.SetSpacing(CT_FROM[::-1])
        sitk.WriteImage(volume, str(work / "ct_0000.nii.gz"))
        np.save(work / "image.npy", (image.astype(np.float32) - 20) / 400)
        np.save(work / "labels.npy", labels)
    if not (work / "mask.npy").exists():
        mask = (smooth(rng, (200, 256, 256), 6) > 0.1) ^ (rng.random((200, 256, 256)) < 0.002)
        np.save(work / "mask.npy", mask.astype(np.uint8))
    if not (work / "patch.npy").exists():
        n = initial_patch()
        np.save(work / "patch.npy", rng.normal(size=n).astype(np.float32))
        z, y, x = np.ogrid[:n[0], :n[1], :n[2]]
        r = np.sqrt((z - n[0] // 2) ** 2 + (y - n[1] // 2) ** 2 + (x - n[2] // 2) ** 2)
        np.save(work / "patch_labels.npy", ((r < 60).astype(np.uint8) + (r < 30)))
        np.save(work / "tile.npy", rng.normal(size=(8, 128, 128, 128)).astype(np.float32))
    if not (work / "plans.json").exists():
        (work / "plans.json").write_text(json.dumps(plans()))


def initial_patch():
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    angle = (-30. / 360 * 2. * np.pi, 30. / 360 * 2. * np.pi)
    return tuple(int(v) for v in get_patch_size((128, 128, 128), angle, angle, angle, (0.85, 1.25)))


def plans():
    spline = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    name = "resample_data_or_seg_to_shape"
    configuration = {
        "data_identifier": "x", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": [128] * 3,
        "median_image_size_in_voxels": [200.0] * 3, "spacing": list(CT_TO), "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False], "batch_dice": False,
        "resampling_fn_data": name, "resampling_fn_data_kwargs": spline,
        "resampling_fn_seg": name, "resampling_fn_seg_kwargs": dict(spline, is_seg=True, order=1),
        "resampling_fn_probabilities": name, "resampling_fn_probabilities_kwargs": dict(spline, order=1),
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 8, "unet_max_num_features": 16,
        "n_conv_per_stage_encoder": [1, 1], "n_conv_per_stage_decoder": [1], "num_pool_per_axis": [1] * 3,
        "pool_op_kernel_sizes": [[1] * 3, [2] * 3], "conv_kernel_sizes": [[3] * 3] * 2,
    }
    ct = {"max": 900.0, "mean": 20.0, "median": 20.0, "min": -800.0, "percentile_00_5": -700.0, "percentile_99_5": 700.0,
          "std": 400.0}
    return {"dataset_name": "Dataset777_Made", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
            "original_median_shape_after_transp": [200] * 3, "original_median_spacing_after_transp": [1.0] * 3,
            "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
            "configurations": {"3d_fullres": configuration}, "foreground_intensity_properties_per_channel": {"0": ct}}


# ---- Python's side

def export(work, name):
    import torch
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
    from nnunetv2.preprocessing.resampling.resample_torch import resample_torch_fornnunet
    base = name.removesuffix("_torch").removesuffix("_saved")
    logits = torch.from_numpy(np.load(work / f"{base}.npy"))
    to = (logits.shape[1], 512, 512)

    def work_():
        if name.endswith("_torch"):
            out = resample_torch_fornnunet(logits, to, SPACING, NEW, is_seg=False, force_separate_z=False,
                                           num_threads=torch.get_num_threads(), device=torch.device("cpu"))
        else:
            out = resample_data_or_seg_to_shape(logits, to, SPACING, NEW, is_seg=False, order=1, order_z=0,
                                                force_separate_z=None)
        out = torch.as_tensor(out)
        if base == "regions3":
            p = torch.sigmoid(out.float())
            seg = np.zeros(to, np.uint8)
            for i in range(len(p)):
                seg[(p[i] > 0.5).numpy()] = i + 1
            return seg
        if name.endswith("_saved"):
            return torch.softmax(out.float(), 0).argmax(0).numpy().astype(np.uint8)
        return out.argmax(0).numpy().astype(np.uint8)

    return measure(work_)


def preprocess(work):
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    manager = PlansManager(json.loads((work / "plans.json").read_text()))
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    preprocessor = DefaultPreprocessor(verbose=False)
    return measure(lambda: preprocessor.run_case([str(work / "ct_0000.nii.gz")], None, manager,
                                                 manager.get_configuration("3d_fullres"), dataset)[0])


def resample(work, kind):
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
    array = np.load(work / ("image.npy" if kind == "cubic" else "labels.npy"))[None]
    to = [round(a / b * n) for a, b, n in zip(CT_FROM, CT_TO, array.shape[1:])]
    if kind == "labels":
        array = array.astype(np.int8)
    return measure(lambda: resample_data_or_seg_to_shape(array, to, CT_FROM, CT_TO, is_seg=kind == "labels",
                                                         order=3 if kind == "cubic" else 1, order_z=0))


def augment(work, kind):
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    image = torch.from_numpy(np.load(work / "patch.npy")[None])
    seg = torch.from_numpy(np.load(work / "patch_labels.npy")[None].astype(np.int16))
    torch.manual_seed(1)
    np.random.seed(1)
    if kind == "augment":
        angle = (-30. / 360 * 2. * np.pi, 30. / 360 * 2. * np.pi)
        transform = nnUNetTrainer.get_training_transforms(
            (128, 128, 128), angle, None, (0, 1, 2), False, use_mask_for_norm=[False], is_cascaded=False,
            foreground_labels=(1, 2), regions=None, ignore_label=None)
        n = 60
    else:
        from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
        transform = SpatialTransform((128, 128, 128), patch_center_dist_from_border=0, random_crop=False,
                                     p_elastic_deform=0, p_rotation=1, rotation=(-0.5, 0.5), p_scaling=1,
                                     scaling=(0.75, 1.3), p_synchronize_scaling_across_axes=1)
        n = 10

    def work_():
        for _ in range(n):
            transform(image=image.clone(), segmentation=seg.clone())

    measure(work_, n)


def sliding(work):
    import torch
    from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
    tile = torch.from_numpy(np.load(work / "tile.npy"))
    size = (200, 273, 273)
    steps = compute_steps_for_sliding_window(size, (128,) * 3, 0.5)

    def work_():
        logits = torch.zeros((8, *size), dtype=torch.half)
        n = torch.zeros(size, dtype=torch.half)
        gaussian = compute_gaussian((128,) * 3, sigma_scale=1. / 8, value_scaling_factor=10, device=torch.device("cpu"))
        for z in steps[0]:
            for y in steps[1]:
                for x in steps[2]:
                    sl = (slice(z, z + 128), slice(y, y + 128), slice(x, x + 128))
                    # What nnU-Net multiplies in place; the copy that keeps the tile for the next turn is not counted.
                    start, wall = time.process_time(), time.perf_counter()
                    prediction.copy_(tile)
                    copying[0] += time.process_time() - start
                    copying[1] += time.perf_counter() - wall
                    prediction.mul_(gaussian)
                    logits[(slice(None), *sl)] += prediction
                    n[sl] += gaussian
        torch.div(logits, n, out=logits)
        if torch.any(torch.isinf(logits)):
            raise RuntimeError("inf")

    prediction, copying = tile.clone(), [0.0, 0.0]
    measure(work_, 1, copying)


def mask(work, kind):
    array = np.load(work / "mask.npy").astype(bool)
    if kind == "holes":
        from scipy.ndimage import binary_fill_holes
        return measure(lambda: binary_fill_holes(array)).astype(np.uint8)
    if kind == "largest":
        from acvl_utils.morphology.morphology_helper import remove_all_but_largest_component
        return measure(lambda: remove_all_but_largest_component(array)).astype(np.uint8)
    import cc3d
    return measure(lambda: cc3d.connected_components(array, connectivity=26))


def child(task, work, threads):
    import torch
    torch.set_num_threads(threads)
    if task.startswith(("export", "regions")):
        result = export(work, task)
    elif task == "preprocess":
        result = preprocess(work)
    elif task in ("cubic", "labels"):
        result = resample(work, task)
    elif task in ("augment", "spatial"):
        result = augment(work, task)
    elif task == "sliding":
        result = sliding(work)
    else:
        result = mask(work, task)
    if result is not None:
        np.save(work / f"python_{task}.npy", result)


# ---- both

def compared(task, work):
    """How equal the two results are."""
    file = work / f"python_{task}.npy"
    if not file.exists():
        return None
    theirs = np.load(file)
    kind = {"preprocess": np.float32, "cubic": np.float32, "components": np.uint32}.get(task, np.uint8)
    ours = np.fromfile(work / f"galen_{task}.raw", kind).reshape(theirs.shape)
    if kind == np.float32:
        return {"largest difference": float(np.abs(ours - theirs).max())}
    if task == "components":
        pairs = np.unique(np.stack([ours.ravel(), theirs.ravel().astype(np.uint32)]), axis=1).shape[1]
        return {"components": [int(ours.max()), int(theirs.max())], "same partition": pairs == int(ours.max()) + 1}
    return {"equal": float((ours == theirs.astype(np.uint8)).mean()), "differing": int((ours != theirs.astype(np.uint8)).sum())}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("work", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--rounds", type=int, help="instead of the task's own number")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    prepare(args.work)
    threads = str(args.threads)
    environment = {**os.environ, **{f"{p}_NUM_THREADS": threads for p in ("OMP", "MKL", "OPENBLAS")}}
    results = json.loads(args.result.read_text()) if args.result.exists() else {"tasks": {}}
    results["machine"] = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(),
                          "python": platform.python_version()}
    for task in args.tasks:
        runs = {"python": [], "galen": []}
        for _ in range(args.rounds or TASKS[task]):
            commands = {"python": [sys.executable, __file__, "--child", task, str(args.work), threads],
                        "galen": [args.binary, task, str(args.work), threads]}
            for who, command in commands.items():
                out = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout
                runs[who].append(json.loads([line for line in out.splitlines() if line.startswith("{")][-1]))
        median = {who: {k: statistics.median(r[k] for r in rs) for k in ("wall", "cpu")} for who, rs in runs.items()}
        for who, rs in runs.items():
            median[who]["extra"] = statistics.median(max(0, r["peak"] - r["base"]) for r in rs)
        entry = {"threads": args.threads, "rounds": len(runs["galen"]), "median": median, "runs": runs,
                 "compared": compared(task, args.work),
                 "ratio": {k: median["python"][k] / max(median["galen"][k], 1e-9) for k in ("wall", "cpu", "extra")}}
        results["tasks"][f"{task} @{threads}"] = entry
        args.result.write_text(json.dumps(results, indent=1))
        p, g, r = median["python"], median["galen"], entry["ratio"]
        print(f"{task:16} cpu {p['cpu']:8.3f} s / {g['cpu']:7.3f} s = {r['cpu']:6.1f}   wall {r['wall']:6.1f}   extra "
              f"{p['extra'] / 2**20:6.0f} / {g['extra'] / 2**20:5.0f} MB = {r['extra']:5.1f}   {entry['compared']}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
