"""Networks on a CPU: Galen beside PyTorch, the same weights and inputs, by turns in one run.

usage: run.py TIME_NETWORK_BINARY RESULT.json [CASE ...]

TIME_NETWORK_BINARY is `cargo build --release -p galen-models --example time_network`. For each case and for 1 and 2
threads: PyTorch eager f32 (contiguous and channels_last_3d), bf16 autocast (both), torch.compile where a compiler is
there (`--compile`), and Galen with activations in f32 and in bf16, each in a process of its own, so that peak memory is its own; rounds take turns, so that
load hits all alike. Ratios are of medians, against the better layout. Checks that logits (or the first loss) agree.
With one thread the processor time is told too: on a machine that others use it says more than the clock.
Needs torch, dynamic-network-architectures, nnunetv2 (its loss), safetensors, numpy.
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

import numpy as np

BIG = dict(features=[32, 64, 128, 256, 320, 320], depth=2)
HIPPO = dict(features=[32, 64, 128, 256], depth=2)
CASES = {
    "infer-unet6-128": dict(mode="infer", net=BIG, size=[128] * 3, batch=1, runs=3, rounds=3),
    "infer-hippocampus": dict(mode="infer", net=HIPPO, size=[40, 56, 40], batch=1, runs=5, rounds=5),
    "infer-2d-512": dict(mode="infer", net=dict(features=[32, 64, 128, 256, 512, 512, 512], depth=2), size=[1, 512, 512],
                         batch=1, runs=5, rounds=3),
    "train-unet6-2x64": dict(mode="train", net=BIG, size=[64] * 3, batch=2, runs=3, rounds=3),
    "train-unet6-2x128": dict(mode="train", net=BIG, size=[128] * 3, batch=2, runs=1, rounds=3),
    "train-hippocampus-9": dict(mode="train", net=HIPPO, size=[40, 56, 40], batch=9, runs=2, rounds=3),
    "train-hippocampus-2": dict(mode="train", net=HIPPO, size=[40, 56, 40], batch=2, runs=3, rounds=3),
}
PEERS = ["f32", "f32-cl", "bf16", "bf16-cl"]


def network(case):
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    flat = case["size"][0] == 1
    conv, norm = (torch.nn.Conv2d, torch.nn.InstanceNorm2d) if flat else (torch.nn.Conv3d, torch.nn.InstanceNorm3d)
    features, axes = case["net"]["features"], 2 if flat else 3
    n = len(features)
    torch.manual_seed(0)
    return PlainConvUNet(1, n, features, conv, [[3] * axes] * n, [[1] * axes] + [[2] * axes] * (n - 1),
                         [case["net"]["depth"]] * n, 3, [case["net"]["depth"]] * (n - 1), conv_bias=True, norm_op=norm,
                         norm_op_kwargs=dict(eps=1e-5, affine=True), nonlin=torch.nn.LeakyReLU,
                         nonlin_kwargs=dict(inplace=True), deep_supervision=case["mode"] == "train")


def make(case, folder):
    """Weights, image, labels and the description that Galen reads."""
    from safetensors.torch import save_file
    net = network(case)
    with_heads = network(dict(case, mode="train"))
    with_heads.load_state_dict(net.state_dict())
    keep = {k: v.contiguous() for k, v in with_heads.state_dict().items()
            if "all_modules" not in k and not k.startswith("decoder.encoder")}
    save_file(keep, folder / "weights.safetensors")
    rng = np.random.default_rng(0)
    size, n = case["size"], len(case["net"]["features"])
    rng.standard_normal([case["batch"], 1, *size], np.float32).tofile(folder / "image.f32")
    blocks = rng.integers(0, 3, [case["batch"], *[-(-s // 8) for s in size]])
    labels = np.kron(blocks, np.ones([1, 8, 8, 8], int))[:, :size[0], :size[1], :size[2]].astype(np.int16)
    labels.tofile(folder / "labels.i16")
    axes = 2 if size[0] == 1 else 3
    depth = case["net"]["depth"]
    architecture = {"class": "PlainConvUNet", "features": case["net"]["features"], "kernels": [[3] * axes] * n,
                    "strides": [[1] * axes] + [[2] * axes] * (n - 1), "encoder_depth": [depth] * n,
                    "decoder_depth": [depth] * (n - 1), "bias": True, "norm_eps": 1e-5, "norm_affine": True, "leak": 0.01}
    (folder / "case.json").write_text(json.dumps(dict(architecture=architecture, size=size, batch=case["batch"], inputs=1,
                                                      outputs=3)))


def now():
    """Clock and processor time, seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def peer(name, folder, kind, threads):
    """One process of PyTorch: prints what Galen's binary prints."""
    import torch
    case, folder = CASES[name], Path(folder)
    torch.set_num_threads(threads)
    net = network(case)
    size, batch = case["size"], case["batch"]
    flat = size[0] == 1
    shape = size[1:] if flat else size
    image = torch.from_numpy(np.fromfile(folder / "image.f32", np.float32).reshape([batch, 1, *shape]))
    if "cl" in kind:
        layout = torch.channels_last if flat else torch.channels_last_3d
        net, image = net.to(memory_format=layout), image.to(memory_format=layout)
    run = torch.compile(net) if "compile" in kind else net
    half = torch.autocast("cpu", torch.bfloat16, enabled="bf16" in kind)
    seconds, loss_value = [], None
    if case["mode"] == "infer":
        net.eval()
        with torch.inference_mode(), half:
            for turn in range(case["runs"] + 1):
                start = now()
                logits = run(image)
                seconds.append(now() - start)
        logits.float().contiguous().numpy().tofile(folder / f"logits-{kind}.f32")
    else:
        from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
        from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
        from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
        scales = len(case["net"]["features"]) - 1
        weights = np.array([1 / 2 ** i for i in range(scales)])
        weights[-1] = 0
        loss = DeepSupervisionWrapper(DC_and_CE_loss(
            {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, weight_ce=1, weight_dice=1,
            ignore_label=None, dice_class=MemoryEfficientSoftDiceLoss), weights / weights.sum())
        labels = torch.from_numpy(np.fromfile(folder / "labels.i16", np.int16).reshape([batch, 1, *shape]).astype(np.float32))
        targets = [labels]
        for scale in range(1, scales):
            step = 2 ** scale
            targets.append(labels[(..., *[slice(step // 2, None, step)] * len(shape))])
        optimiser = torch.optim.SGD(net.parameters(), 1e-3, weight_decay=3e-5, momentum=0.99, nesterov=True)
        for turn in range(case["runs"] + 1):
            start = now()
            optimiser.zero_grad(set_to_none=True)
            with half:
                value = loss(run(image), targets)
            value.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 12)
            optimiser.step()
            seconds.append(now() - start)
            loss_value = float(value) if loss_value is None else loss_value
    # Not `ru_maxrss`, which a process inherits from the one that started it.
    peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM:"))
    clock, processor = zip(*(run.tolist() for run in seconds[1:]))
    print(json.dumps(dict(seconds=clock, processor_seconds=processor, peak_bytes=peak, loss=loss_value)))


def once(command, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), RAYON_NUM_THREADS=str(threads))
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{command}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    if sys.argv[1] == "--peer":
        return peer(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("result", type=Path)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--compile", action="store_true", help="torch.compile too (takes minutes, needs a C++ compiler)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, help="instead of the number that the case names")
    options = parser.parse_args()
    kinds = PEERS + (["f32-compile"] if options.compile else [])
    import torch
    found = {"machine": {"platform": platform.platform(), "torch": torch.__version__, "cpu": next(
        (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")}, "cases": {}}
    for name in options.cases:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            make(case, folder)
            for threads in options.threads:
                results = {}
                for _ in range(options.rounds or case["rounds"]):
                    for kind in ["galen", "galen-bf16", *kinds]:
                        command = [sys.executable, __file__, "--peer", name, folder, kind, str(threads)]
                        if kind.startswith("galen"):
                            command = [options.binary, folder, case["mode"], str(case["runs"]), str(threads), *kind.split("-")[1:]]
                        results.setdefault(kind, []).append(once(command, threads))
                        if case["mode"] == "infer" and kind.startswith("galen"):
                            (folder / "logits.f32").rename(folder / f"logits-{kind}.f32")
                median, processor = ({k: statistics.median(s for r in v for s in r[key]) for k, v in results.items()}
                                     for key in ("seconds", "processor_seconds"))
                memory = {k: statistics.median(r["peak_bytes"] for r in v) for k, v in results.items()}
                row = {"seconds": median, "processor_seconds": processor, "peak_bytes": memory, "load": os.getloadavg()[0]}
                for which, times in (("", median), ("processor_", processor)):
                    for kind in ("f32", "bf16"):
                        best = min(times[kind], times[kind + "-cl"])
                        row[f"{which}ratio_{kind}"] = best / times["galen"]
                        row[f"{which}ratio_{kind}_of_bf16_storage"] = best / times["galen-bf16"]
                row["memory_of_f32"], row["memory_of_f32_of_bf16_storage"] = (
                    memory[kind] / min(memory["f32"], memory["f32-cl"]) for kind in ("galen", "galen-bf16"))
                if case["mode"] == "infer":
                    ours, half, theirs = (np.fromfile(folder / f"logits-{k}.f32", np.float32) for k in ("galen", "galen-bf16", "f32"))
                    row["largest_difference"] = float(np.abs(ours - theirs).max())
                    row["largest_difference_of_bf16_storage"] = float(np.abs(half - theirs).max())
                    agree = row["largest_difference"] < 1e-3 and row["largest_difference_of_bf16_storage"] < 0.2
                else:
                    row["loss_difference"] = abs(results["galen"][0]["loss"] - results["f32"][0]["loss"])
                    agree = row["loss_difference"] < 1e-4
                if not agree:
                    raise SystemExit(f"{name}: Galen and PyTorch compute different things: {row}")
                found["cases"][f"{name}, {threads} threads"] = row
                show = {k: f"{v:.3f}" for k, v in median.items()}
                own = f" (processor {row['processor_ratio_f32']:.2f}x {row['processor_ratio_bf16']:.2f}x)" * (threads == 1)
                print(f"{name}, {threads} threads: {show} f32 {row['ratio_f32']:.2f}x bf16 {row['ratio_bf16']:.2f}x{own} memory "
                      f"{row['memory_of_f32']:.2f}, bf16 storage: f32 {row['ratio_f32_of_bf16_storage']:.2f}x bf16 "
                      f"{row['ratio_bf16_of_bf16_storage']:.2f}x memory {row['memory_of_f32_of_bf16_storage']:.2f}, difference {row.get('largest_difference', row.get('loss_difference')):.2g}",
                      flush=True)
                options.result.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
