"""What nnunetv2 takes over from pretrained weights, for pairs of checkpoint and network.

Writes <out>/nnunet/pretrained/NAME: pretrained.pth, target.json (architecture, inputs, outputs of the network that is to
be trained, and which names were loaded, or why the pair was refused) and after.pth, the state dict that training would begin
with. The pairs whose name begins with nnssl_ hold a self-supervised checkpoint with its adaptation plan; there the reference is
PyTorch loading encoder and stem strictly, as nnssl checks it. Needs nnunetv2.

    python goldens/pretrained.py --out ../galen-goldens
    GALEN_GOLDENS=../galen-goldens cargo test --release -p galen-models golden_pretrained
"""
import argparse
import contextlib
import io
import json
from pathlib import Path

import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_models import CUBE, plans_of

PLAIN = {"features": [6, 8, 8], "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]], "strides": CUBE}
RESIDUAL = {"features": [6, 8, 8], "blocks": [1, 2, 2], "kernels": [[3, 3, 3]] * 3, "strides": CUBE}
PAIRS = {
    "plain_other_classes": (PLAIN, 1, 3, PLAIN, 1, 5),
    "residual_other_classes": (RESIDUAL, 2, 3, RESIDUAL, 2, 2),
    "plain_other_channels": (PLAIN, 1, 3, PLAIN, 2, 3),
    "residual_other_channels": (RESIDUAL, 3, 3, RESIDUAL, 1, 3),
    "plain_for_residual": (PLAIN, 1, 3, RESIDUAL, 1, 3),
    "other_features": (PLAIN, 1, 3, dict(PLAIN, features=[6, 8, 12]), 1, 3),
    "other_kernels": (PLAIN, 1, 3, dict(PLAIN, kernels=[[3, 3, 3]] * 3), 1, 3),
    "other_strides": (PLAIN, 1, 3, dict(PLAIN, strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]]), 1, 3),
    "nnssl_resenc": (RESIDUAL, 1, 1, RESIDUAL, 1, 4),
    "nnssl_primus": (RESIDUAL, 1, 1, RESIDUAL, 1, 4),
}


def architecture(network):
    model = {"channels": ["CT"], "patch": [16, 16, 16], "spacing": [1.0] * 3, "norm": ["CTNormalization"],
             "median": [20] * 3, "configuration": "3d_fullres", **network}
    return plans_of(model)["configurations"]["3d_fullres"]["architecture"]


def build(network, inputs, outputs):
    described = architecture(network)
    return get_network_from_plans(described["network_class_name"], described["arch_kwargs"],
                                  described["_kw_requires_import"], inputs, outputs, allow_init=True,
                                  deep_supervision=True)


def make(name, folder):
    theirs, their_inputs, their_outputs, own, inputs, outputs = PAIRS[name]
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(sorted(PAIRS).index(name))
    source, target = build(theirs, their_inputs, their_outputs), build(own, inputs, outputs)
    with torch.no_grad():  # so that no tensor has the value with which a fresh network begins
        for parameter in source.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    checkpoint = {"network_weights": source.state_dict()}
    if name.startswith("nnssl_"):
        checkpoint["nnssl_adaptation_plan"] = {
            "architecture_plans": {"arch_class_name": "PrimusM" if name == "nnssl_primus" else "ResEncL", "arch_kwargs": None},
            "pretrain_num_input_channels": their_inputs, "recommended_downstream_patchsize": [160, 160, 160],
            "key_to_encoder": "encoder.stages", "key_to_stem": "encoder.stem",
            "keys_to_in_proj": ["encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"], "key_to_lpe": None,
        }
    file = folder / "pretrained.pth"
    torch.save(checkpoint, file)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    told = {"architecture": architecture(own), "inputs": inputs, "outputs": outputs}
    try:
        assert name != "nnssl_primus", "a transformer"
        if name.startswith("nnssl_"):
            for module in ("stages", "stem"):
                start = f"encoder.{module}."
                part = {k[len(start):]: v for k, v in source.state_dict().items() if k.startswith(start)}
                target.encoder.get_submodule(module).load_state_dict(part)
        else:
            with contextlib.redirect_stdout(io.StringIO()):
                load_pretrained_weights(target, str(file))
        after = target.state_dict()
        told["loaded"] = [k for k, v in after.items() if k in source.state_dict() and v.shape == source.state_dict()[k].shape
                          and torch.equal(v, source.state_dict()[k]) and not torch.equal(v, before[k])]
        torch.save({"network_weights": after}, folder / "after.pth")
    except AssertionError as error:
        told["refused"] = str(error)[:200]
    (folder / "target.json").write_text(json.dumps(told, indent=1))
    print(name, len(told.get("loaded", [])), told.get("refused", ""))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    for pair in PAIRS:
        make(pair, out / "nnunet/pretrained" / pair)
