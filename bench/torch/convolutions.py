"""Single convolutions on a CPU: Galen beside PyTorch, by turns in one run.

usage: convolutions.py CONV_BENCH_BINARY RESULT.json [CASE ...] [--threads N ...] [--rounds N]

CONV_BENCH_BINARY is `cargo build --release -p galen-kernels --example conv_bench`. PyTorch runs in both layouts, in f32
and in bf16; ratios are against the better layout. With one thread the processor time is compared, with more the clock.
That values agree is what `run.py` checks, on whole networks. Needs torch.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time

# Name of Galen's line, its group, kernel, stride, channels in and out, size, transposed.
CASES = [
    ("32-32 @128", "large", (3, 3, 3), 1, 32, 32, (128,) * 3, False),
    ("64-64 @64", "large", (3, 3, 3), 1, 64, 64, (64,) * 3, False),
    ("128-128 @32", "large", (3, 3, 3), 1, 128, 128, (32,) * 3, False),
    ("256-256 @16", "large", (3, 3, 3), 1, 256, 256, (16,) * 3, False),
    ("320-320 @8", "large", (3, 3, 3), 1, 320, 320, (8,) * 3, False),
    ("320-320 @4", "large", (3, 3, 3), 1, 320, 320, (4,) * 3, False),
    ("stride 2 32-64 @128", "large", (3, 3, 3), 2, 32, 64, (128,) * 3, False),
    ("1-32 @128", "large", (3, 3, 3), 1, 1, 32, (128,) * 3, False),
    ("1x3x3 32-32 @128", "large", (1, 3, 3), 1, 32, 32, (128,) * 3, False),
    ("up 64-32 @64", "large", (2, 2, 2), 2, 64, 32, (64,) * 3, True),
    ("32-32 @256", "plane", (1, 3, 3), 1, 32, 32, (1, 256, 256), False),
    ("128-128 @64", "plane", (1, 3, 3), 1, 128, 128, (1, 64, 64), False),
]
PASSES = ["forward", "dx", "dw"]


def galen(binary, case, threads):
    name, group = case[0], case[1]
    out = subprocess.run([binary, group, "1", str(threads), name], check=True, capture_output=True, text=True).stdout
    line = next(line for line in out.splitlines() if line.startswith(name + " "))
    return {part: float(re.search(rf"\| {part} +([\d.]+) ms", line)[1]) for part in PASSES}


def peer(index, threads):
    """Times in milliseconds of one case, as JSON."""
    import torch
    torch.set_num_threads(threads)
    _, _, kernel, stride, inputs, outputs, size, transposed = CASES[index]
    flat = size[0] == 1
    axes = slice(1, None) if flat else slice(None)
    kernel, size = kernel[axes], size[axes]
    stride = [stride] * len(size) if stride > 1 else [1] * len(size)
    pad = [0] * len(size) if transposed else [(k - 1) // 2 for k in kernel]
    shape = [inputs, outputs] if transposed else [outputs, inputs]
    found = {}
    for dtype in ["float32", "bfloat16"]:
        for last in [False, True]:
            layout = torch.contiguous_format if not last else torch.channels_last if flat else torch.channels_last_3d
            kind = dict(dtype=getattr(torch, dtype))
            x = torch.randn([1, inputs, *size], **kind).contiguous(memory_format=layout)
            w = torch.randn([*shape, *kernel], **kind).contiguous(memory_format=layout)
            call = lambda: torch.ops.aten.convolution(x, w, None, stride, pad, [1] * len(size), transposed, [0] * len(size), 1)
            grad = torch.randn_like(call())
            back = lambda mask: torch.ops.aten.convolution_backward(
                grad, x, w, None, stride, pad, [1] * len(size), transposed, [0] * len(size), 1, mask)
            runs = dict(forward=call, dx=lambda: back([True, False, False]), dw=lambda: back([False, True, False]))
            for part, run in runs.items():
                run()
                clock = time.process_time if threads == 1 else time.perf_counter
                seconds, begun = [], time.perf_counter()
                while len(seconds) < 3 or (time.perf_counter() - begun < 0.3 and len(seconds) < 50):
                    start = clock()
                    run()
                    seconds.append(clock() - start)
                found.setdefault(f"{dtype} {part}", []).append(1e3 * statistics.median(seconds))
    print(json.dumps({key: min(values) for key, values in found.items()}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("result")
    parser.add_argument("cases", nargs="*", default=[case[0] for case in CASES])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_intermixed_args()
    results = []
    for threads in options.threads:
        for index, case in enumerate(CASES):
            if case[0] not in options.cases:
                continue
            ours, theirs = [], []
            for _ in range(options.rounds):
                ours.append(galen(options.binary, case, threads))
                command = [sys.executable, __file__, "--peer", str(index), str(threads)]
                theirs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            mine = {part: statistics.median(run[part] for run in ours) for part in PASSES}
            other = {key: statistics.median(run[key] for run in theirs) for key in theirs[0]}
            results.append(dict(case=case[0], group=case[1], threads=threads, galen_ms=mine, torch_ms=other))
            ratio = lambda kind: " / ".join(f"{other[f'{kind} {part}'] / mine[part]:.1f}" for part in PASSES)
            print(f"{threads} threads, {case[0]} ({case[1]}): {mine} f32 {ratio('float32')} bf16 {ratio('bfloat16')}", flush=True)
    import torch
    with open(options.result, "w") as file:
        json.dump(dict(torch=torch.__version__, rounds=options.rounds, results=results), file, indent=1)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--peer":
        peer(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
