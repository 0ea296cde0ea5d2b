"""A 512 x 512 x 600 CT and two models with random weights, for the peak of memory: 8 and 104 classes, patch 128^3.

    python goldens/large_scan.py WORK
    /usr/bin/time -v galen predict WORK/ct_0000.nii.gz --model WORK/classes_104 --out WORK/labels.nii.gz --no-mirroring --step 1
"""
import copy
import sys
from pathlib import Path

import numpy as np

import nnunet_models as made


def scan(file):
    import SimpleITK as sitk
    rng = np.random.default_rng(0)
    y, x = np.ogrid[:512, :512]
    body = ((y - 256) / 220) ** 2 + ((x - 256) / 170) ** 2 < 1
    planes = [np.where(body, 40, -1000) + rng.integers(-30, 31, (512, 512)) for _ in range(600)]
    image = sitk.GetImageFromArray(np.stack(planes).astype(np.int16))
    image.SetSpacing((0.78, 0.78, 1.0))
    sitk.WriteImage(image, str(file))


def model(folder, classes):
    """Strides as in TotalSegmentator's models, few features: memory of the sums is what counts."""
    import json
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    description = copy.deepcopy(made.MODELS["old_plans_104_classes"])
    description.update(patch=[128] * 3, features=[8, 16, 16], median=[400, 270, 270], old=False)
    labels = {"background": 0, **{f"organ_{i}": i for i in range(1, classes)}}
    description["labels"] = labels
    plans = made.plans_of(description)
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 10, "file_ending": ".nii.gz"}
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    configuration = PlansManager(plans).get_configuration("3d_fullres")
    network = get_network_from_plans(configuration.network_arch_class_name, configuration.network_arch_init_kwargs,
                                     configuration.network_arch_init_kwargs_req_import, 1, classes, allow_init=True,
                                     deep_supervision=False)
    torch.save({"network_weights": network.state_dict(), "trainer_name": "nnUNetTrainer", "current_epoch": 1,
                "init_args": {"plans": plans, "configuration": "3d_fullres", "fold": 0, "dataset_json": dataset},
                "inference_allowed_mirroring_axes": (0, 1, 2)}, folder / "fold_0/checkpoint_final.pth")


if __name__ == "__main__":
    work = Path(sys.argv[1])
    work.mkdir(parents=True, exist_ok=True)
    scan(work / "ct_0000.nii.gz")
    for classes in (8, 104):
        model(work / f"classes_{classes}", classes)
