"""Galen's find-best beside nnUNetv2_find_best_configuration on the same small results folder.

Makes a dataset with references and two models whose folds predicted label maps and probabilities (with islands, so
that post-processing has something to decide), once with labels and once with regions; lets both search; compares
every file that both wrote. Needs nnunetv2.

    python goldens/compare_find_best.py --galen target/release/galen --work WORK
"""
import argparse
import filecmp
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

SIZE = (14, 20, 22)
CASES = [f"case_{i}" for i in range(7)]
FOLDS = (0, 1, 2)


def write(file, array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.9, 1.1, 2.0))
    sitk.WriteImage(image, str(file))


def reference(rng):
    z, y, x = np.indices(SIZE)
    centre = rng.uniform(5, 9), rng.uniform(7, 12), rng.uniform(8, 13)
    r = np.sqrt((z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2)
    return ((r < 5).astype(np.uint8) + (r < 3)).astype(np.uint8)


def probabilities(truth, rng, regions, islands):
    """A soft version of the truth with noise and islands."""
    guess = truth.copy()
    for _ in range(islands):
        at = [rng.integers(0, n - 2) for n in SIZE]
        guess[at[0]:at[0] + 2, at[1]:at[1] + 2, at[2]:at[2] + 2] = rng.integers(1, 3)
    channels = [guess > 0, guess > 1] if regions else [guess == v for v in range(3)]
    p = np.stack(channels).astype(np.float32) + rng.uniform(0, 0.9, (len(channels), *SIZE)).astype(np.float32)
    if regions:
        return (p / 2).astype(np.float32)
    return (p / p.sum(0)).astype(np.float32)


def prepare(root, regions):
    name = "Dataset009_Made"
    labels = {"background": 0, "whole": [1, 2], "core": 2} if regions else {"background": 0, "a": 1, "b": 2}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": len(CASES), "file_ending": ".nii.gz"}
    if regions:
        dataset["regions_class_order"] = [1, 2]
    plans = {"dataset_name": name, "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
             "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
             "configurations": {}, "foreground_intensity_properties_per_channel": {}}
    for configuration, patch in (("2d", [32, 32]), ("3d_fullres", [16, 32, 32])):
        n = len(patch)
        plans["configurations"][configuration] = {
            "data_identifier": "x", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": patch,
            "median_image_size_in_voxels": [float(p) for p in patch], "spacing": [1.0] * n,
            "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False], "batch_dice": False,
            "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_data_kwargs": {},
            "resampling_fn_seg": "resample_data_or_seg_to_shape", "resampling_fn_seg_kwargs": {},
            "resampling_fn_probabilities": "resample_data_or_seg_to_shape", "resampling_fn_probabilities_kwargs": {"order": 1},
            "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 8, "unet_max_num_features": 16,
            "n_conv_per_stage_encoder": [1, 1], "n_conv_per_stage_decoder": [1], "num_pool_per_axis": [1] * n,
            "pool_op_kernel_sizes": [[1] * n, [2] * n], "conv_kernel_sizes": [[3] * n] * 2,
        }
    raw, pre, results = (root / d / name for d in ("raw", "preprocessed", "results"))
    for folder in (raw / "labelsTr", pre / "gt_segmentations", results):
        folder.mkdir(parents=True)
    (pre / "nnUNetPlans.json").write_text(json.dumps(plans))
    (raw / "dataset.json").write_text(json.dumps(dataset))
    rng = np.random.default_rng(5 + regions)
    truths = {case: reference(rng) for case in CASES}
    for case, truth in truths.items():
        write(raw / "labelsTr" / f"{case}.nii.gz", truth)
        write(pre / "gt_segmentations" / f"{case}.nii.gz", truth)
    for configuration, islands in (("2d", 3), ("3d_fullres", 1)):
        model = results / f"nnUNetTrainer__nnUNetPlans__{configuration}"
        model.mkdir()
        (model / "plans.json").write_text(json.dumps(plans, indent=4))
        (model / "dataset.json").write_text(json.dumps(dataset, indent=4))
        for i, case in enumerate(CASES):
            validation = model / f"fold_{i % 3}" / "validation"
            validation.mkdir(parents=True, exist_ok=True)
            torch.save({"network_weights": {}, "trainer_name": "nnUNetTrainer", "current_epoch": 1,
                        "init_args": {"configuration": configuration, "fold": i % 3},
                        "inference_allowed_mirroring_axes": (0, 1)}, validation.parent / "checkpoint_final.pth")
            p = probabilities(truths[case], rng, regions, islands)
            if regions:
                seg = np.zeros(SIZE, np.uint8)
                for c, value in enumerate((1, 2)):
                    seg[p[c] > 0.5] = value
            else:
                seg = p.argmax(0).astype(np.uint8)
            write(validation / f"{case}.nii.gz", seg)
            np.savez_compressed(validation / f"{case}.npz", probabilities=p)
            stuff = {"spacing": (0.9, 1.1, 2.0), "origin": (0.0, 0.0, 0.0), "direction": tuple(np.eye(3).ravel())}
            pickle.dump({"sitk_stuff": stuff, "spacing": [2.0, 1.1, 0.9]}, open(validation / f"{case}.pkl", "wb"))
    return name


def environment(root):
    own = {"nnUNet_raw": root / "raw", "nnUNet_preprocessed": root / "preprocessed", "nnUNet_results": root / "results"}
    return {**os.environ, **{k: str(v) for k, v in own.items()}, "nnUNet_n_proc_DA": "1"}


def files(root):
    return sorted(str(f.relative_to(root)) for f in root.rglob("*") if f.is_file())


def canonical(text, root):
    """Where a file lies is not compared; nnU-Net names a temporary folder that it then removes."""
    text = text.replace(str(root), "ROOT")
    for temporary in ("temp/keep_largest_fg/", "temp/keep_largest_perClassOrRegion/"):
        text = text.replace(temporary, "")
    return text


def same(name, theirs, ours, roots):
    if name.endswith("inference_instructions.txt"):
        return True, "commands of each program"
    if name.endswith(".json"):
        texts = [canonical((r / name).read_text(), root) for r, root in zip((theirs, ours), roots)]
        if texts[0].strip() == texts[1].strip():
            return True, "same text"
        return json.loads(texts[0]) == json.loads(texts[1]), "same values"
    if name.endswith(".nii.gz"):
        read = lambda r: sitk.ReadImage(str(r / name))
        a, b = read(theirs), read(ours)
        equal = np.array_equal(sitk.GetArrayFromImage(a), sitk.GetArrayFromImage(b))
        return equal and np.allclose(a.GetSpacing(), b.GetSpacing()), "same voxels and spacing"
    if name.endswith(".pkl"):
        plain = lambda r: [(f.__name__, k) for f, k in zip(*pickle.load(open(r / name, "rb")))]
        return plain(theirs) == plain(ours), "same functions and arguments"
    return filecmp.cmp(theirs / name, ours / name, shallow=False), "same bytes"


def compare(galen, work, regions):
    roots = [work / f"{program}_{'regions' if regions else 'labels'}" for program in ("nnunet", "galen")]
    for root in roots:
        shutil.rmtree(root, ignore_errors=True)
        name = prepare(root, regions)
    folds = [str(f) for f in FOLDS]
    command = [str(Path(sys.executable).parent / "nnUNetv2_find_best_configuration"), "9", "-c", "2d", "3d_fullres",
               "-np", "1", "-f", *folds]
    subprocess.run(command, check=True, env=environment(roots[0]), stdout=subprocess.DEVNULL)
    command = [galen, "--quiet", "find-best", "9", "--folds", ",".join(folds)]
    print(subprocess.run(command, check=True, env=environment(roots[1]), stdout=subprocess.PIPE, text=True).stdout)
    theirs, ours = (root / "results" / name for root in roots)
    there = [f for f in files(theirs) if "/validation/" not in f]
    here = [f for f in files(ours) if "/validation/" not in f]
    only = sorted(set(there) ^ set(here))
    # Where no step helped, nnU-Net copies description files along; they are beside it anyway.
    only = [f for f in only if not f.endswith(("postprocessed/plans.json", "postprocessed/dataset.json"))]
    good = not only
    print("files of only one program:", only)
    for file in sorted(set(there) & set(here)):
        equal, how = same(file, theirs, ours, roots)
        good &= equal
        if not equal:
            print("DIFFERENT", file)
    print(len(set(there) & set(here)), "files compared:", "all equal" if good else "NOT equal", flush=True)
    return good


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--galen", required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    results = [compare(os.path.abspath(arguments.galen), arguments.work.resolve(), regions) for regions in (False, True)]
    sys.exit(0 if all(results) else 1)
