"""Small cases of the kernels' operations with PyTorch's values and gradients, for crates/kernels/tests/all/torch_ops.json.

usage: kernel_ops.py OUTPUT.json      (needs torch)

Everything is computed in 64 bits. Every case has its attributes, its inputs, the output, the gradient given to the output
and the gradient of every input that has one. Tensors are [n, c, z, y, x] or [n, tokens, c], flattened.
"""

import json
import sys

import torch
import torch.nn.functional as F

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)


def flat(tensor):
    return {"shape": list(tensor.shape), "values": [round(v, 6) for v in tensor.detach().flatten().tolist()]}


def rounded(*shape, scale=1.0):
    """Values with few digits, so that the file holds them exactly."""
    return ((torch.randn(*shape) * scale * 256).round() / 256).requires_grad_()


def case(attributes, inputs, output):
    grad = (torch.randn_like(output) * 256).round() / 256
    wanted = {name: value for name, value in inputs.items() if value.requires_grad}
    grads = torch.autograd.grad(output, list(wanted.values()), grad, allow_unused=True)
    return dict(attributes=attributes, inputs={k: flat(v) for k, v in inputs.items()}, output=flat(output), grad=flat(grad),
                gradients={k: flat(g) for k, g in zip(wanted, grads) if g is not None})


def depthwise(kernel, stride, channels):
    x, w, b = rounded(1, channels, 3, 4, 5), rounded(channels, 1, *kernel, scale=0.3), rounded(channels)
    y = F.conv3d(x, w, b, stride, [(k - 1) // 2 for k in kernel], groups=channels)
    return case(dict(kernel=kernel, stride=stride), dict(x=x, w=w, b=b), y)


def grouped():
    x, w, b = rounded(1, 6, 2, 3, 4), rounded(4, 3, 3, 3, 3, scale=0.3), rounded(4)
    return case(dict(kernel=[3] * 3, stride=[1, 2, 1], groups=2), dict(x=x, w=w, b=b),
                F.conv3d(x, w, b, [1, 2, 1], 1, groups=2))


def max_pool(window, stride, padding):
    x = rounded(1, 2, 4, 5, 4)
    return case(dict(window=window, stride=stride, padding=padding), dict(x=x), F.max_pool3d(x, window, stride, padding))


def interpolate(mode, align, size):
    x = rounded(1, 2, 3, 4, 3)
    y = F.interpolate(x, size, mode=mode, **({} if align is None else dict(align_corners=align)))
    return case(dict(mode=mode, align=bool(align), size=size), dict(x=x), y)


def grid_sample(mode, padding, align):
    x, positions = rounded(1, 2, 3, 4, 5), rounded(1, 2, 3, 3, 3, scale=0.7)
    y = F.grid_sample(x, positions, mode=mode, padding_mode=padding, align_corners=align)
    return case(dict(mode=mode, padding=padding, align=align), dict(x=x, positions=positions), y)


def layer_norm():
    x, w, b = rounded(6, 7), rounded(7), rounded(7)
    return case(dict(eps=1e-5), dict(x=x, w=w, b=b), F.layer_norm(x, [7], w, b, 1e-5))


def group_norm():
    x, w, b = rounded(2, 6, 2, 2, 3), rounded(6), rounded(6)
    return case(dict(eps=1e-5, groups=2), dict(x=x, w=w, b=b), F.group_norm(x, 2, w, b, 1e-5))


def batch_norm():
    x, w, b = rounded(2, 3, 2, 2, 3), rounded(3), rounded(3)
    mean, variance = torch.zeros(3), torch.ones(3)
    y = F.batch_norm(x, mean, variance, w, b, True, 0.1, 1e-5)
    return case(dict(eps=1e-5, momentum=0.1, mean=mean.tolist(), variance=variance.tolist()), dict(x=x, w=w, b=b), y)


def gelu(approximate):
    x = rounded(1, 40, scale=3)
    return case(dict(approximate=approximate), dict(x=x), F.gelu(x, approximate=approximate))


def attention():
    q, k, v = rounded(2, 5, 6), rounded(2, 9, 6), rounded(2, 9, 6)
    heads = [t.unflatten(2, (2, 3)).transpose(1, 2) for t in (q, k, v)]
    y = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
    return case(dict(heads=2), dict(q=q, k=k, v=v), y)


def windows(size, window, shift):
    """Shifted windows as Swin does them: roll, cut, bias from the table, mask, put back."""
    heads, d = 2, 3
    tokens = window[0] * window[1] * window[2]
    qkv = rounded(1, *size, 3 * heads * d)
    table = rounded((2 * window[0] - 1) * (2 * window[1] - 1) * (2 * window[2] - 1), heads)
    place = torch.stack(torch.meshgrid(*[torch.arange(w) for w in window], indexing="ij")).flatten(1)
    offset = (place[:, :, None] - place[:, None, :]).permute(1, 2, 0) + torch.tensor(window) - 1
    index = (offset[..., 0] * (2 * window[1] - 1) + offset[..., 1]) * (2 * window[2] - 1) + offset[..., 2]
    bias = table[index].permute(2, 0, 1)

    def cut(t):
        t = t.view(t.shape[0], size[0] // window[0], window[0], size[1] // window[1], window[1], size[2] // window[2],
                   window[2], -1)
        return t.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, tokens, t.shape[-1])

    region, count = torch.zeros(1, *size, 1), 0
    parts = [[slice(0, -w), slice(-w, -s), slice(-s, None)] if s else [slice(None)] for w, s in zip(window, shift)]
    for z in parts[0]:
        for y in parts[1]:
            for x in parts[2]:
                region[:, z, y, x] = count
                count += 1
    region = cut(region).squeeze(2)
    mask = (region[:, None, :] != region[:, :, None]) * -100.0
    back = [-s for s in shift]
    q, k, v = cut(torch.roll(qkv, back, (1, 2, 3))).unflatten(2, (3, heads, d)).permute(2, 0, 3, 1, 4)
    score = d ** -0.5 * q @ k.transpose(-1, -2) + bias + mask[:, None]
    y = (score.softmax(-1) @ v).transpose(1, 2).flatten(2)
    y = y.view(1, size[0] // window[0], size[1] // window[1], size[2] // window[2], *window, -1)
    y = y.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(1, *size, -1)
    y = torch.roll(y, shift, (1, 2, 3))
    return case(dict(heads=heads, size=size, window=window, shift=shift), dict(qkv=qkv, table=table), y)


def scan():
    n, length, channels, states = 1, 9, 3, 2
    x, delta, bias = rounded(n, length, channels), rounded(n, length, channels), rounded(channels)
    b, c, d = rounded(n, length, states), rounded(n, length, states), rounded(channels)
    a = (-rounded(channels, states).detach().abs() - 0.25).requires_grad_()
    step, h, ys = F.softplus(delta + bias), torch.zeros(n, channels, states), []
    for t in range(length):
        h = (step[:, t, :, None] * a).exp() * h + step[:, t, :, None] * b[:, t, None, :] * x[:, t, :, None]
        ys.append((h * c[:, t, None, :]).sum(-1) + d * x[:, t])
    return case({}, dict(x=x, delta=delta, delta_bias=bias, a=a, b=b, c=c, d=d), torch.stack(ys, 1))


CASES = {
    "depthwise": [depthwise([3, 3, 3], [1, 1, 1], 2), depthwise([1, 5, 5], [1, 2, 2], 3), depthwise([7, 3, 5], [2, 1, 2], 1)],
    "grouped": [grouped()],
    "max_pool": [max_pool([2, 2, 2], [2, 2, 2], [0, 0, 0]), max_pool([3, 3, 3], [2, 1, 2], [1, 1, 1])],
    "interpolation": [interpolate(*how, size) for how in (("nearest", None), ("trilinear", False), ("trilinear", True))
                      for size in ([6, 8, 6], [2, 5, 7])],
    "grid_sample": [grid_sample(m, p, a) for m in ("bilinear", "nearest") for p in ("zeros", "border") for a in (False, True)],
    "layer_norm": [layer_norm()],
    "group_norm": [group_norm()],
    "batch_norm": [batch_norm()],
    "gelu": [gelu("none"), gelu("tanh")],
    "attention": [attention()],
    "windows": [windows([2, 4, 4], [2, 2, 2], [0, 0, 0]), windows([2, 4, 4], [2, 2, 2], [1, 1, 1])],
    "selective_scan": [scan()],
}

if __name__ == "__main__":
    with open(sys.argv[1], "w") as out:
        json.dump({"torch": torch.__version__, "cases": CASES}, out, separators=(",", ":"))
        out.write("\n")
