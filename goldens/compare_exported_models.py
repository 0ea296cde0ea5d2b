"""Galen's exported models in nnU-Net itself.

For every model folder given (goldens of nnU-Net, or models that Galen trained): Galen imports or opens it, exports
it, and nnunetv2 loads the export (torch.load with and without weights_only, strict state dict) and predicts. The
label maps of the two are compared. Needs nnunetv2; writes only below the work folder.

    python goldens/compare_exported_models.py --galen target/release/galen --work WORK MODEL[:SCAN[,SCAN...]] ...

A golden folder brings its own scan in input/; for other models name the scan's channels behind a colon.
"""
import argparse
import glob
import json
import os
import shutil
import subprocess
import sys

os.environ.setdefault("nnUNet_n_proc_DA", "1")
import numpy as np
import torch
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_file_ending
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def galen(args, *command):
    subprocess.run([args.galen, "--quiet", *map(str, command)], check=True, stdout=subprocess.DEVNULL)


def compare(args, given):
    model, _, scans = given.partition(":")
    name = os.path.basename(model.rstrip("/"))
    work = os.path.join(args.work, name)
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    images = scans.split(",") if scans else sorted(
        f for f in glob.glob(f"{model}/input/*") if not os.path.basename(f).startswith("prev_stage"))
    info = f"{model}/expected/info.json"
    info = json.load(open(info)) if os.path.exists(info) else {}
    previous = glob.glob(f"{model}/input/prev_stage*")
    own, exported = os.path.join(work, "own"), os.path.join(work, "exported")
    if os.path.exists(f"{model}/model.json"):
        own = model
    else:
        galen(args, "import", "nnunet", model, "--out", own)
    galen(args, "export", "nnunet", own, "--out", exported)
    folds = sorted(os.path.basename(f)[len("fold_"):] for f in glob.glob(f"{exported}/fold_*"))
    for fold in folds:
        file = f"{exported}/fold_{fold}/checkpoint_final.pth"
        torch.load(file, weights_only=True)
        torch.load(file, weights_only=False)
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False,
                                use_mirroring=info.get("mirroring", True), tile_step_size=info.get("tile_step_size", 0.5))
    # initialize_from_trained_model_folder loads the state dict strictly.
    predictor.initialize_from_trained_model_folder(exported, tuple(int(f) if f != "all" else f for f in folds))
    if predictor.configuration_manager.previous_stage_name is not None:
        print(f"{name}: strict load ok; a second stage, predicted by the golden tests", flush=True)
        return True
    reader = predictor.plans_manager.image_reader_writer_class()
    image, properties = reader.read_images(images)
    expected = predictor.predict_single_npy_array(image, properties, None, None, False)
    ending = predictor.dataset_json["file_ending"]
    out = os.path.join(work, "galen" + (ending if ending != ".bmp" else ".png"))
    options = ["--step", info.get("tile_step_size", 0.5), "--logits", "f16"]
    if not info.get("mirroring", True):
        options.append("--no-mirroring")
    galen(args, "predict", *images, "--model", own, "--out", out, *options)
    found, _ = reader.read_seg(out)
    found, expected = np.squeeze(found), np.squeeze(expected)
    equal = float((found == expected).mean())
    print(f"{name}: strict load ok; {100 * equal:.4f} % of {expected.size} voxels equal, labels {np.unique(expected)}",
          flush=True)
    return equal >= 0.9999


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--galen", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("models", nargs="+")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    good = [compare(arguments, model) for model in arguments.models]
    sys.exit(0 if all(good) else 1)
