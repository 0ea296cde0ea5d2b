"""Single operations on a CPU: Galen beside PyTorch, the same inputs, by turns in one run.

usage: ops.py OP_BENCH_BINARY RESULT.json [CASE ...]

OP_BENCH_BINARY is `cargo build --release -p galen-kernels --example op_bench`. PyTorch runs eagerly in f32, images contiguous
and channels_last_3d; ratios are of medians against the faster of the two, of the clock and of processor time (on a machine
that others use the latter says more). "backward" is all gradients together. Outputs are compared. Needs torch, numpy.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CASES = {
    "depthwise 7^3 32@64^3": dict(op="depthwise", channels=32, size=[64] * 3, kernel=[7] * 3, stride=[1] * 3),
    "depthwise 5^3 64@32^3": dict(op="depthwise", channels=64, size=[32] * 3, kernel=[5] * 3, stride=[1] * 3),
    "depthwise 3^3 32@64^3": dict(op="depthwise", channels=32, size=[64] * 3, kernel=[3] * 3, stride=[1] * 3),
    "depthwise 3^3 s2 32@64^3": dict(op="depthwise", channels=32, size=[64] * 3, kernel=[3] * 3, stride=[2] * 3),
    "trilinear x2 32@64^3": dict(op="interpolation", mode="trilinear", channels=32, size=[64] * 3, to=[128] * 3),
    "nearest x2 32@64^3": dict(op="interpolation", mode="nearest", channels=32, size=[64] * 3, to=[128] * 3),
    "grid_sample 32@64^3": dict(op="grid_sample", channels=32, size=[64] * 3),
    "max_pool 2^3 32@128^3": dict(op="max_pool", channels=32, size=[128] * 3),
    "layer_norm 96@32^3": dict(op="layer_norm", channels=96, rows=32 ** 3),
    "gelu 384@32^3": dict(op="gelu", channels=384, rows=32 ** 3),
    "windows 7^3 3x16@28^3": dict(op="attention", heads=3, head_channels=16, size=[28] * 3, window=[7] * 3, shift=[3] * 3),
    "attention 12x64@1728": dict(op="attention", heads=12, head_channels=64, rows=1728),
}


def make(case, folder):
    rng = np.random.default_rng(0)
    write = lambda name, *shape: rng.standard_normal(shape, np.float32).tofile(folder / f"{name}.f32")
    op, channels = case["op"], case.get("channels")
    if op == "attention":
        rows = case.get("rows") or int(np.prod(case["size"]))
        write("x", rows, 3 * case["heads"] * case["head_channels"])
        if "window" in case:
            write("table", int(np.prod([2 * w - 1 for w in case["window"]])), case["heads"])
    elif "rows" in case:
        write("x", case["rows"], channels)
    else:
        write("x", channels, *case["size"])
    if op == "depthwise":
        write("w", channels, *case["kernel"])
    if op == "layer_norm":
        write("w", channels), write("b", channels)
    if op == "grid_sample":
        axes = [(np.arange(s, dtype=np.float32) * 2 + 1) / s - 1 for s in case["size"]]
        z, y, x = np.meshgrid(*axes, indexing="ij")
        still = np.stack([x, y, z], -1)
        (still + 0.05 * rng.standard_normal(still.shape, np.float32)).astype(np.float32).tofile(folder / "positions.f32")
    (folder / "case.json").write_text(json.dumps(case))


def operation(case, folder, layout):
    """Inputs with gradients, and a function of them whose result is channels last after `last`."""
    import torch
    import torch.nn.functional as F
    load = lambda name, *shape: torch.from_numpy(np.fromfile(folder / f"{name}.f32", np.float32).reshape(shape)).requires_grad_()
    op, channels = case["op"], case.get("channels")
    if op == "attention":
        heads, d = case["heads"], case["head_channels"]
        if "window" not in case:
            x = load("x", 1, case["rows"], 3, heads, d)

            def full(x):
                q, k, v = x.permute(2, 0, 3, 1, 4)
                return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return [x], full, lambda y: y
        size, window, shift = case["size"], case["window"], case["shift"]
        tokens = int(np.prod(window))
        x, table = load("x", 1, *size, 3 * heads * d), load("table", int(np.prod([2 * w - 1 for w in window])), heads)
        place = torch.stack(torch.meshgrid(*[torch.arange(w) for w in window], indexing="ij")).flatten(1)
        offset = (place[:, :, None] - place[:, None, :]).permute(1, 2, 0) + torch.tensor(window) - 1
        index = (offset[..., 0] * (2 * window[1] - 1) + offset[..., 1]) * (2 * window[2] - 1) + offset[..., 2]
        cuts = [v for s, w in zip(size, window) for v in (s // w, w)]
        cut = lambda t: t.view(t.shape[0], *cuts, -1).permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, tokens, t.shape[-1])
        region = torch.zeros(1, *size, 1)
        count = 0
        for z in (slice(0, -window[0]), slice(-window[0], -shift[0]), slice(-shift[0], None)):
            for y in (slice(0, -window[1]), slice(-window[1], -shift[1]), slice(-shift[1], None)):
                for w in (slice(0, -window[2]), slice(-window[2], -shift[2]), slice(-shift[2], None)):
                    region[:, z, y, w] = count
                    count += 1
        region = cut(region).squeeze(2)
        mask = ((region[:, None, :] != region[:, :, None]) * -100.0)[:, None]

        def windows(x, table):
            bias = table[index.flatten()].view(tokens, tokens, heads).permute(2, 0, 1)
            rolled = torch.roll(x, [-s for s in shift], (1, 2, 3))
            q, k, v = cut(rolled).unflatten(2, (3, heads, d)).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask + bias).transpose(1, 2).flatten(2)
            y = y.view(1, *[s // w for s, w in zip(size, window)], *window, -1)
            y = y.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(1, *size, -1)
            return torch.roll(y, shift, (1, 2, 3))
        return [x, table], windows, lambda y: y
    if op in ("layer_norm", "gelu"):
        x = load("x", case["rows"], channels)
        if op == "gelu":
            return [x], F.gelu, lambda y: y
        w, b = load("w", channels), load("b", channels)
        return [x, w, b], lambda x, w, b: F.layer_norm(x, [channels], w, b), lambda y: y
    x = load("x", 1, channels, *case["size"]).detach()
    x = (x.to(memory_format=torch.channels_last_3d) if layout == "channels_last" else x).requires_grad_()
    last = lambda y: y.permute(0, 2, 3, 4, 1)
    if op == "depthwise":
        w = load("w", channels, 1, *case["kernel"]).detach()
        w = (w.to(memory_format=torch.channels_last_3d) if layout == "channels_last" else w).requires_grad_()
        pad = [(k - 1) // 2 for k in case["kernel"]]
        return [x, w], lambda x, w: F.conv3d(x, w, None, case["stride"], pad, groups=channels), last
    if op == "interpolation":
        how = {} if case["mode"] == "nearest" else dict(align_corners=False)
        return [x], lambda x: F.interpolate(x, case["to"], mode=case["mode"], **how), last
    if op == "max_pool":
        return [x], lambda x: F.max_pool3d(x, 2), last
    positions = load("positions", 1, *case["size"], 3)
    return [x, positions], lambda x, p: F.grid_sample(x, p, padding_mode="border", align_corners=False), last


def peer(case, folder, layout, runs, threads):
    """One process of PyTorch: prints what Galen's binary prints."""
    import torch
    torch.set_num_threads(threads)
    inputs, run, last = operation(case, Path(folder), layout)
    found = {}
    for kind in ("forward", "backward"):
        clock, processor = [], []
        for turn in range(runs + 1):
            if kind == "forward":
                with torch.no_grad():
                    start, before = time.perf_counter(), time.process_time()
                    y = run(*inputs)
            else:
                y = run(*inputs)
                grad = y.detach().clone()
                start, before = time.perf_counter(), time.process_time()
                torch.autograd.grad(y, inputs, grad)
            if turn > 0:
                clock.append(time.perf_counter() - start)
                processor.append(time.process_time() - before)
        found[kind] = dict(seconds=clock, processor_seconds=processor)
    last(y.detach()).contiguous().numpy().tofile(Path(folder) / f"out-{layout}.f32")
    print(json.dumps(found))


def once(command, threads):
    environment = dict(os.environ, OMP_NUM_THREADS=str(threads), RAYON_NUM_THREADS=str(threads))
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"{command}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    if sys.argv[1] == "--peer":
        folder, layout, runs, threads = sys.argv[2:]
        return peer(json.loads((Path(folder) / "case.json").read_text()), folder, layout, int(runs), int(threads))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("result", type=Path)
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    found = json.loads(options.result.read_text()) if options.result.exists() else {"cases": {}}
    for name in options.cases:
        case = CASES[name]
        layouts = ["contiguous"] + ["channels_last"] * ("size" in case and case["op"] != "attention")
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            make(case, folder)
            for threads in options.threads:
                results = {}
                for _ in range(options.rounds):
                    for kind in ["galen", *layouts]:
                        tail = [str(options.runs), str(threads)]
                        command = [options.binary, str(folder), *tail] if kind == "galen" else [
                            sys.executable, __file__, "--peer", str(folder), kind, *tail]
                        results.setdefault(kind, []).append(once(command, threads))
                ours, theirs = (np.fromfile(folder / f, np.float32) for f in ("out.f32", "out-contiguous.f32"))
                row = {"largest_difference": float(np.abs(ours - theirs).max()), "load": os.getloadavg()[0]}
                if not row["largest_difference"] < 1e-3:
                    raise SystemExit(f"{name}: Galen and PyTorch compute different things: {row}")
                for part in ("forward", "backward"):
                    for key in ("seconds", "processor_seconds"):
                        medians = {k: statistics.median(s for r in v for s in r[part][key]) for k, v in results.items()}
                        row[f"{part}_{key}"] = medians
                        row[f"{part}_{key.replace('seconds', 'ratio')}"] = min(medians[k] for k in layouts) / medians["galen"]
                found["cases"][f"{name}, {threads} threads"] = row
                show = [f"{part} {row[part + '_seconds']['galen'] * 1e3:.2f} ms {row[part + '_ratio']:.2f}x (processor "
                        f"{row[part + '_processor_ratio']:.2f}x)" for part in ("forward", "backward")]
                print(f"{name}, {threads} threads: {', '.join(show)}, difference {row['largest_difference']:.1e}", flush=True)
                options.result.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
