"""More model folders made by nnunetv2, with what it predicts: the layout that Galen's golden tests read.

Writes <out>/nnunet/models/NAME: plans.json, dataset.json, fold_N/checkpoint_final.pth, input/, expected/. Weights are
seeded random numbers; the last layer is scaled so that every class occurs. Needs nnunetv2; no training is done.

    python goldens/nnunet_models.py --out ../galen-goldens
    GALEN_GOLDENS=../galen-goldens cargo test --release -p galen-infer golden
"""
import argparse
import copy
import json
import os
from pathlib import Path

os.environ.setdefault("nnUNet_n_proc_DA", "1")
import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

CT = {"max": 900.0, "mean": 60.0, "median": 55.0, "min": -800.0, "percentile_00_5": -700.0, "percentile_99_5": 700.0,
      "std": 180.0}
SPLINE = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


def plans_of(model):
    """plans.json of a model description."""
    channels = len(model["channels"])
    dimension = len(model["patch"])
    residual = "blocks" in model
    n = len(model["features"])
    arch = {
        "n_stages": n, "features_per_stage": model["features"],
        "conv_op": f"torch.nn.modules.conv.Conv{dimension}d",
        "kernel_sizes": model["kernels"], "strides": model["strides"],
        ("n_blocks_per_stage" if residual else "n_conv_per_stage"): model.get("blocks", [2] * n),
        "n_conv_per_stage_decoder": [1 if residual else 2] * (n - 1),
        "conv_bias": True, "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimension}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
    }
    torch_fn = {"is_seg": False, "force_separate_z": model.get("force_separate_z")}
    if model.get("torch"):
        functions = {k: "resample_torch_fornnunet" for k in ("data", "seg", "probabilities")}
        kwargs = {"data": torch_fn, "probabilities": torch_fn, "seg": dict(torch_fn, is_seg=True)}
    else:
        functions = {k: "resample_data_or_seg_to_shape" for k in ("data", "seg", "probabilities")}
        kwargs = {"data": SPLINE, "seg": dict(SPLINE, is_seg=True, order=1), "probabilities": dict(SPLINE, order=1)}
    configuration = {
        "data_identifier": f"nnUNetPlans_{model['configuration']}", "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2, "patch_size": model["patch"], "median_image_size_in_voxels": [float(p) for p in model["patch"]],
        "spacing": model["spacing"], "normalization_schemes": model["norm"],
        "use_mask_for_norm": model.get("mask", [False] * channels), "batch_dice": False,
    }
    for kind in functions:
        configuration[f"resampling_fn_{kind}"] = functions[kind]
        configuration[f"resampling_fn_{kind}_kwargs"] = kwargs[kind]
    if model.get("old"):
        configuration.update({
            "UNet_class_name": "ResidualEncoderUNet" if residual else "PlainConvUNet",
            "UNet_base_num_features": model["features"][0], "unet_max_num_features": model["features"][-1],
            "n_conv_per_stage_encoder": arch["n_blocks_per_stage" if residual else "n_conv_per_stage"],
            "n_conv_per_stage_decoder": arch["n_conv_per_stage_decoder"],
            "num_pool_per_axis": [sum(s[a] == 2 for s in model["strides"]) for a in range(dimension)],
            "pool_op_kernel_sizes": model["strides"], "conv_kernel_sizes": model["kernels"],
        })
    else:
        configuration["architecture"] = {
            "network_class_name": "dynamic_network_architectures.architectures.unet."
                                  + ("ResidualEncoderUNet" if residual else "PlainConvUNet"),
            "arch_kwargs": arch, "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    configurations = {model["configuration"]: configuration}
    if "previous" in model:
        lowres = copy.deepcopy(configuration)
        lowres.update({"next_stage": model["configuration"], "spacing": model["previous"]})
        configuration["previous_stage"] = "3d_lowres"
        configurations = {"3d_lowres": lowres, model["configuration"]: configuration}
    forward = model.get("transpose", [0, 1, 2])
    return {
        "dataset_name": "Dataset777_Made", "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0] * 3, "original_median_shape_after_transp": model["median"],
        "image_reader_writer": model.get("reader", "SimpleITKIO"),
        "transpose_forward": forward, "transpose_backward": [forward.index(i) for i in range(3)],
        "configurations": configurations, "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(c): dict(CT, mean=CT["mean"] + 10 * c) for c in range(channels)},
    }


BACKGROUND = {"background": 0}
CUBE = [[1, 1, 1], [2, 2, 2], [2, 2, 2]]
MODELS = {
    "resenc_l_like": {
        "channels": ["CT"], "labels": {**BACKGROUND, "a": 1, "b": 2, "c": 3, "d": 4}, "configuration": "3d_fullres",
        "features": [8, 16, 16, 16], "blocks": [1, 3, 4, 6], "kernels": [[3, 3, 3]] * 4, "strides": CUBE + [[1, 2, 2]],
        "patch": [24, 32, 32], "spacing": [2.0, 1.1, 1.1], "norm": ["CTNormalization"], "median": [30, 50, 50],
        "size": [28, 44, 46], "scan_spacing": [2.5, 0.9, 0.9], "folds": ["0", "1"],
    },
    "cascade_transposed": {
        "channels": ["CT"], "labels": {**BACKGROUND, "a": 1, "b": 2}, "configuration": "3d_cascade_fullres",
        "features": [6, 8, 8], "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "patch": [16, 28, 28], "spacing": [3.0, 1.0, 1.3], "norm": ["CTNormalization"], "median": [30, 50, 50],
        "previous": [6.0, 2.0, 2.6], "transpose": [1, 2, 0],
        "size": [40, 24, 38], "scan_spacing": [1.2, 3.1, 1.0],
    },
    "regions_with_ignore": {
        "channels": ["T1", "noNorm"], "labels": {**BACKGROUND, "whole": [1, 2, 3], "core": [2, 3], "inner": 3, "ignore": 4},
        "order": [1, 2, 3], "configuration": "3d_fullres",
        "features": [6, 8, 8], "kernels": [[3, 3, 3]] * 3, "strides": CUBE, "patch": [20, 24, 28],
        "spacing": [1.4, 1.0, 1.2], "norm": ["ZScoreNormalization", "NoNormalization"], "mask": [True, False],
        "median": [30, 50, 50], "size": [26, 33, 31], "scan_spacing": [1.7, 1.2, 1.0], "zero_border": 4,
    },
    "old_plans_104_classes": {
        "channels": ["CT"], "labels": {**BACKGROUND, **{f"organ_{i}": i for i in range(1, 105)}},
        "configuration": "3d_fullres", "old": True,
        "features": [8, 16, 16], "kernels": [[3, 3, 3]] * 3, "strides": CUBE, "patch": [32, 32, 32],
        "spacing": [1.5, 1.5, 1.5], "norm": ["CTNormalization"], "median": [30, 50, 50],
        "size": [30, 40, 42], "scan_spacing": [2.0, 0.9, 0.9], "probabilities": False,
    },
    "torch_resampling_ct2": {
        "channels": ["CT", "CT", "rescale_to_0_1"], "labels": {**BACKGROUND, "a": 1, "b": 2, "c": 3},
        "configuration": "3d_fullres", "torch": True,
        "features": [6, 8, 8], "kernels": [[3, 3, 3]] * 3, "strides": CUBE, "patch": [20, 28, 24],
        "spacing": [1.6, 1.1, 1.1], "norm": ["CTNormalization", "CTNormalization", "RescaleTo01Normalization"],
        "median": [30, 50, 50], "size": [22, 36, 35], "scan_spacing": [5.0, 0.9, 0.9],
    },
    "lowres_thick_slices": {
        "channels": ["MR"], "labels": {**BACKGROUND, "a": 1, "b": 2}, "configuration": "3d_lowres",
        "features": [6, 8, 8], "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "patch": [10, 32, 32], "spacing": [6.0, 1.6, 1.6], "norm": ["ZScoreNormalization"], "median": [12, 50, 50],
        "size": [14, 60, 52], "scan_spacing": [5.5, 0.9, 0.9],
    },
    "planar_rgb_and_gray": {
        "channels": ["rgb_to_0_1", "zscore"], "labels": {**BACKGROUND, "a": 1, "b": 2}, "configuration": "2d",
        "features": [8, 16, 16], "kernels": [[3, 3]] * 3, "strides": [[1, 1], [2, 2], [2, 2]], "patch": [32, 40],
        "spacing": [1.0, 1.1], "norm": ["RGBTo01Normalization", "ZScoreNormalization"], "median": [9, 50, 50],
        "size": [9, 44, 47], "scan_spacing": [4.0, 0.9, 0.8], "byte": True,
    },
}


def phantom(model, rng):
    """Smooth random blobs per channel, `[c, z, y, x]`."""
    size = model["size"]
    channels = []
    for name in model["channels"]:
        coarse = torch.from_numpy(rng.normal(size=(1, 1, *[max(2, n // 6) for n in size])))
        smooth = torch.nn.functional.interpolate(coarse, size=size, mode="trilinear", align_corners=True)[0, 0].numpy()
        values = smooth * 250 + 40 + rng.normal(size=size) * 25
        channels.append(values)
    image = np.stack(channels)
    if model.get("byte"):
        image = np.clip(image * 0.3 + 100, 0, 255)
    image = np.round(image).astype(np.int16)
    if border := model.get("zero_border"):
        keep = np.zeros(size, bool)
        keep[border:-border, border:-border, border:-border] = True
        image[:, ~keep] = 0
    return image


def weights(network, rng):
    """Seeded values for every parameter, the same for duplicates of one storage."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            values = torch.from_numpy(rng.normal(size=tuple(parameter.shape))).float()
            if parameter.ndim == 1:
                values = values * 0.1 + (1.0 if name.endswith("norm.weight") else 0.0)
            else:
                values *= (2.0 / parameter[0].numel()) ** 0.5
            parameter.copy_(values)


def make(name, model, out):
    folder = out / "nnunet/models" / name
    (folder / "input").mkdir(parents=True, exist_ok=True)
    (folder / "expected").mkdir(exist_ok=True)
    plans = plans_of(model)
    dataset = {"channel_names": {str(i): c for i, c in enumerate(model["channels"])}, "labels": model["labels"],
               "numTraining": 10, "file_ending": ".nii.gz"}
    if "order" in model:
        dataset["regions_class_order"] = model["order"]
    (folder / "plans.json").write_text(json.dumps(plans, indent=4))
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=4))
    rng = np.random.default_rng(sorted(MODELS).index(name) + 100)
    image = phantom(model, rng)
    files = []
    for channel, values in enumerate(image):
        file = folder / "input" / f"case_{channel:04d}.nii.gz"
        volume = sitk.GetImageFromArray(values)
        volume.SetSpacing(model["scan_spacing"][::-1])
        sitk.WriteImage(volume, str(file))
        files.append(str(file))
    manager = PlansManager(plans)
    labels = manager.get_label_manager(dataset)
    configuration = manager.get_configuration(model["configuration"])
    previous = None
    inputs = len(model["channels"])
    if "previous" in model:
        inputs += len(labels.foreground_labels)
        previous = folder / "input" / "prev_stage.nii.gz"
        drawn = (np.abs(image[0]) // 60 % 3).astype(np.uint8)
        volume = sitk.GetImageFromArray(drawn)
        volume.SetSpacing(model["scan_spacing"][::-1])
        sitk.WriteImage(volume, str(previous))
    folds = model.get("folds", ["0"])
    states = []
    for fold in folds:
        network = get_network_from_plans(
            configuration.network_arch_class_name, configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import, inputs, labels.num_segmentation_heads,
            allow_init=True, deep_supervision=False)
        weights(network, rng)
        states.append(network)
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)

    def save():
        for fold, network in zip(folds, states):
            (folder / f"fold_{fold}").mkdir(exist_ok=True)
            torch.save({
                "network_weights": network.state_dict(), "optimizer_state": {}, "grad_scaler_state": None,
                "logging": {}, "_best_ema": None, "current_epoch": 1,
                "init_args": {"plans": plans, "configuration": model["configuration"], "fold": fold,
                              "dataset_json": dataset, "device": torch.device("cpu")},
                "trainer_name": "nnUNetTrainer",
                "inference_allowed_mirroring_axes": tuple(range(len(model["patch"]))),
            }, folder / f"fold_{fold}" / "checkpoint_final.pth")

    reader = manager.image_reader_writer_class()
    data, properties = reader.read_images(files)
    seg = reader.read_seg(str(previous))[0] if previous else None
    # One tile decides the scale of the last layer: logits of every class with mean 0 and the same spread.
    preprocessor = configuration.preprocessor_class(verbose=False)
    prepared, prepared_seg, _ = preprocessor.run_case_npy(data, seg, copy.deepcopy(properties), manager, configuration, dataset)
    sample = torch.from_numpy(np.ascontiguousarray(prepared)).float()
    if previous is not None:
        hot = np.stack([prepared_seg[0] == v for v in labels.foreground_labels]).astype(np.float32)
        sample = torch.cat([sample, torch.from_numpy(hot)])
    patch = model["patch"]
    if len(patch) == 2:
        sample = sample[:, sample.shape[1] // 2]
    pads = [(0, max(0, p - s)) for p, s in zip(patch, sample.shape[1:])]
    sample = torch.nn.functional.pad(sample, [v for pad in pads[::-1] for v in pad])
    sample = sample[(slice(None), *[slice(0, p) for p in patch])][None]
    with torch.no_grad():
        for network in states:
            logits = network.eval()(sample)
            axes = tuple(i for i in range(logits.ndim) if i != 1)
            mean, spread = logits.mean(axes), logits.std(axes).clamp(min=1e-3)
            head = network.decoder.seg_layers[-1]
            head.weight.div_(spread.reshape(-1, *[1] * (head.weight.ndim - 1)))
            head.bias.sub_(mean).div_(spread)
    save()
    predictor.initialize_from_trained_model_folder(str(folder), tuple(int(f) for f in folds))
    keep = model.get("probabilities", True)
    result = predictor.predict_single_npy_array(data, properties, seg, None, keep)
    segmentation, probabilities = result if keep else (result, None)
    reader.write_seg(segmentation, str(folder / "expected/segmentation.nii.gz"), properties)
    if keep:
        np.savez_compressed(folder / "expected/probabilities_f16.npz", probabilities=probabilities.astype(np.float16))
    info = {"configuration": model["configuration"], "folds": folds, "checkpoint": "checkpoint_final.pth",
            "tile_step_size": 0.5, "mirroring": True, "trainer": "nnUNetTrainer"}
    (folder / "expected/info.json").write_text(json.dumps(info, indent=1))
    values, counts = np.unique(segmentation, return_counts=True)
    print(name, segmentation.shape, dict(zip(values.tolist()[:6], counts.tolist()[:6])), len(values), "labels", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(MODELS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for model in arguments.only:
        make(model, MODELS[model], arguments.out)
