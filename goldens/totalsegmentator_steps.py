"""TotalSegmentator's steps around its models, with tiny models that nnunetv2 makes: what `galen predict --model FILE.toml` does.

The steps, with the packages that TotalSegmentator uses for them: crop to a rough mask (numpy), nearest canonical axes (nibabel),
another spacing (scipy.ndimage.zoom, values cut to integers), every part (nnunetv2), part labels to common ones, and back again.
Writes <out>/totalsegmentator: the models, and per case description.toml, scan.nii.gz and expected.nii.gz.

    python goldens/totalsegmentator_steps.py --out ../galen-goldens
    GALEN_GOLDENS=../galen-goldens cargo test --release -p galen golden_assemblies
"""
import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from scipy import ndimage

import nnunet_models
from nnunet_models import BACKGROUND, CUBE

TINY = {"channels": ["CT"], "configuration": "3d_fullres", "features": [6, 8, 8], "kernels": [[3, 3, 3]] * 3, "strides": CUBE,
        "patch": [24, 24, 24], "norm": ["CTNormalization"], "median": [30, 50, 50], "size": [24, 30, 28],
        "scan_spacing": [2.0, 1.5, 1.5]}
MODELS = {
    "part_organs": dict(TINY, labels={**BACKGROUND, "spleen": 1, "kidney": 2, "liver": 3}, spacing=[1.5] * 3),
    "part_bones": dict(TINY, labels={**BACKGROUND, "rib": 1, "sternum": 2}, spacing=[1.5] * 3),
    "rough": dict(TINY, labels={**BACKGROUND, "air": 1, "body": 2}, spacing=[3.0] * 3),
}
PARTS = [("part_organs", {1: 1, 2: 2, 3: 3}), ("part_bones", {1: 4, 2: 5})]
# Array axes of the file in patient directions, voxel size along them, degrees by which the table is tilted, crop.
CASES = {
    "canonical": (("R", "A", "S"), (1.0, 1.0, 1.7), 0, None),
    "sideways": (("S", "L", "P"), (2.1, 0.8, 0.9), 0, None),
    "tilted": (("L", "P", "S"), (0.9, 1.2, 2.0), 12, None),
    "at_spacing": (("L", "A", "S"), (1.5, 1.5, 1.5), 0, None),
    "cropped": (("L", "P", "S"), (1.1, 0.9, 1.9), 0, {"spacing": 3.0, "margin": 4.0}),
    "cubic": (("R", "P", "I"), (1.1, 1.1, 2.6), 0, None),
}


def scan(axes, voxel, tilt, air, rng):
    """A smooth phantom in a file whose axes run as told."""
    size = [int(round(60 / mm)) for mm in voxel]
    field = ndimage.zoom(rng.normal(size=[7] * 3), np.array(size) / 7, order=1)
    field = field[tuple(slice(0, n) for n in size)]
    field = np.pad(field, [(0, n - m) for n, m in zip(size, field.shape)], mode="edge")
    values = np.round(field * 250 + 40 + rng.normal(size=size) * 20).astype(np.int16)
    if air:  # a body in even air, so that a rough model can leave something out
        values = np.pad(values, [(n // 3, n // 4) for n in size], constant_values=-900)
    column = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    affine = np.eye(4)
    turn = np.deg2rad(tilt)
    rotation = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    affine[:3, :3] = rotation @ np.array([column[a] for a in axes], float).T * np.array(voxel)
    affine[:3, 3] = (-20, 31, 7)
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    return image


def change_spacing(image, wanted, shape, order, dtype):
    """Corner voxels stay corner voxels."""
    data, own = image.get_fdata(), np.array(image.header.get_zooms())
    zoom = np.array(shape) / np.array(data.shape) if shape is not None else own / np.array([wanted] * 3)
    if np.array_equal(own, own / zoom):
        return image
    affine = image.affine.copy()
    affine[:3, :3] = affine[:3, :3] / zoom
    return nib.Nifti1Image(ndimage.zoom(data, zoom, mode="nearest", order=order).astype(dtype), affine)


def predict(folder, image):
    """A model's labels of an image, through a file."""
    predictor = nnUNetPredictor(tile_step_size=0.8, use_mirroring=False, device=torch.device("cpu"),
                                perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), (0,))
    with tempfile.TemporaryDirectory() as temporary:
        file = f"{temporary}/s_0000.nii.gz"
        nib.save(image, file)
        data, properties = predictor.plans_manager.image_reader_writer_class().read_images([file])
    return predictor.predict_single_npy_array(data, properties, None, None, False).transpose(2, 1, 0)


def segment(image, parts, models, spacing, order):
    """Labels of all parts on the grid of the image."""
    canonical = nib.as_closest_canonical(image)
    there = change_spacing(canonical, spacing, None, order, np.int32)
    joined = np.zeros(there.shape, np.uint8)
    for name, numbers in parts:
        table = np.zeros(256, np.uint8)
        for value, number in numbers.items():
            table[value] = number
        labels = table[predict(models / name, there)]
        np.copyto(joined, labels, where=labels != 0)
    back = change_spacing(nib.Nifti1Image(joined, there.affine), None, canonical.shape, 0, np.uint8)
    there_to_file = ornt_transform(axcodes2ornt("RAS"), io_orientation(image.affine))
    back = nib.Nifti1Image(back.get_fdata(), canonical.affine).as_reoriented(there_to_file)
    return back.get_fdata().astype(np.uint8)


def box_of(mask, margin, zooms):
    addon = (np.array([margin] * 3) / np.array(zooms)).astype(int)
    return tuple(slice(max(0, int(c.min()) - a), min(n, int(c.max()) + 1 + a))
                 for c, a, n in zip(np.where(mask), addon, mask.shape))


def make(name, out, models):
    axes, voxel, tilt, crop = CASES[name]
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    image = scan(axes, voxel, tilt, crop is not None, np.random.default_rng(sorted(CASES).index(name) + 50))
    nib.save(image, folder / "scan.nii.gz")
    image = nib.load(folder / "scan.nii.gz")
    image = nib.Nifti1Image(image.get_fdata(), image.affine)
    order = 3 if name == "cubic" else 1
    lines = ["spacing = 1.5", f"order = {order}", "step = 0.8"]
    for part, _ in PARTS:
        lines += ["[[parts]]", f'model = "../../nnunet/models/{part}"']
    inside = tuple(slice(0, n) for n in image.shape)
    if crop:
        # The rough model's bias against `body` grows until it sees that in a part of the scan only.
        checkpoint = models / "rough/fold_0/checkpoint_final.pth"
        state = torch.load(checkpoint, weights_only=False)
        for _ in range(20):
            mask = segment(image, [("rough", {2: 1})], models, crop["spacing"], order)
            inside = box_of(mask, crop["margin"], image.header.get_zooms())
            part = np.prod([side.stop - side.start for side in inside]) / mask.size
            print("rough box", inside, round(part, 3), int(mask.sum()), flush=True)
            if part < 0.6:
                break
            bias = max(k for k in state["network_weights"] if "seg_layers" in k and k.endswith("bias"))
            state["network_weights"][bias][2] -= 0.3
            torch.save(state, checkpoint)
        lines += ["[crop]", 'model = "../../nnunet/models/rough"', f"spacing = {crop['spacing']}", 'labels = ["body"]',
                  f"margin = {crop['margin']}"]
        affine = image.affine.copy()
        affine[:3, 3] = (affine @ np.array([s.start for s in inside] + [1]))[:3]
        image = nib.Nifti1Image(image.get_fdata()[inside].astype(np.int32), affine)
    whole = nib.load(folder / "scan.nii.gz")
    expected = np.zeros(whole.shape, np.uint8)
    expected[inside] = segment(image, PARTS, models, 1.5, order)
    nib.save(nib.Nifti1Image(expected, whole.affine), folder / "expected.nii.gz")
    (folder / "description.toml").write_text("\n".join(lines) + "\n")
    print(name, whole.shape, inside, np.unique(expected, return_counts=True), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    root = parser.parse_args().out / "totalsegmentator"
    torch.set_num_threads(1)
    nnunet_models.MODELS.update(MODELS)
    for model in MODELS:
        nnunet_models.make(model, MODELS[model], root)
    for case in CASES:
        make(case, root / "cases", root / "nnunet/models")
