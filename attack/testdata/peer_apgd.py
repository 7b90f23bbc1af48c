"""The gradient attacks of a battery in PyTorch, as an independent judge of its strength and speed.

    python peer_apgd.py NETWORK.safetensors t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz \
        [--images 100] [--eps 16] [--steps 100] [--threads 2] [--out peer.json]

It rebuilds a network of the form "conv A conv A conv | fc", with or without a last A, of IF neurons
with batch norm, such as those of examples/rat, in plain PyTorch, with a loop over the time steps in
each neuron. It times a gradient step, and runs APGD (Croce and Hein 2020) with cross-entropy and
with DLR, each with ten surrogates. An image leaves once it is broken. The file --out has the indices
of the images that stand. Needs torch and safetensors.
"""
import argparse
import gzip
import json
import math
import time

import numpy
import torch
import torch.nn.functional as F
from safetensors import safe_open

parser = argparse.ArgumentParser()
parser.add_argument("network")
parser.add_argument("pictures")
parser.add_argument("labels")
parser.add_argument("--images", type=int, default=100)
parser.add_argument("--eps", type=float, default=16)
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--out")
args = parser.parse_args()
torch.set_num_threads(args.threads)

SURROGATES = {
    **{f"triangle {w}": (lambda u, w=w: (w - u.abs()).clamp(min=0) / w**2) for w in (0.5, 1, 2)},
    **{f"arctan {a}": (lambda u, a=a: a / 2 / (1 + (math.pi / 2 * a * u) ** 2)) for a in (1, 2, 4)},
    **{f"sigmoid {a}": (lambda u, a=a: a * torch.sigmoid(a * u) * (1 - torch.sigmoid(a * u))) for a in (2, 4)},
    "rectangle 1": lambda u: (u.abs() < 0.5).float(),
    "fast sigmoid 5": lambda u: 1 / (1 + 5 * u.abs()) ** 2,
}


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, surrogate):
        ctx.save_for_backward(u)
        ctx.surrogate = surrogate
        return (u >= 0).float()

    @staticmethod
    def backward(ctx, g):
        (u,) = ctx.saved_tensors
        return g * ctx.surrogate(u), None


with safe_open(args.network, "pt") as f:
    P = {k: f.get_tensor(k) for k in f.keys()}
    settings = json.loads(f.metadata()["snnrat"])
T = settings["steps"]
convolutions = sorted({int(k.split(".")[1]) for k in P if k.startswith("features.") and P[k].dim() == 4})


def neurons(x, surrogate):  # [T, N, C, H, W]
    m, out = 0, []
    for t in range(T):
        m = m + x[t]
        s = Spike.apply(m - settings["threshold"], surrogate)
        m = m * (1 - s)
        out.append(s)
    return torch.stack(out)


def logits(x, surrogate):
    n = x.shape[0]
    x = (x - P["mean"].view(1, -1, 1, 1)) / P["std"].view(1, -1, 1, 1)
    for k, i in enumerate(convolutions):
        b = f"features.{i + 1}."
        x = F.conv2d(x, P[f"features.{i}.weight"], P.get(f"features.{i}.bias"), padding=1)
        x = F.batch_norm(x, P[b + "running_mean"], P[b + "running_var"], P[b + "weight"], P[b + "bias"])
        x = x.expand(T, *x.shape) if k == 0 else x.view(T, n, *x.shape[1:])
        x = neurons(x, surrogate).flatten(0, 1)
        if k < len(convolutions) - 1 or x[0].numel() != P["classifier.0.weight"].shape[1]:
            x = F.avg_pool2d(x, 2)
    z = F.linear(x.flatten(1), P["classifier.0.weight"], P["classifier.0.bias"])
    return z.view(T, n, -1).mean(0)


def ce(z, y):
    return F.cross_entropy(z, y, reduction="none")


def dlr(z, y):
    s = z.sort(1)[0]
    mine = z.gather(1, y[:, None])[:, 0]
    other = torch.where(s[:, -1] == mine, s[:, -2], s[:, -1])
    return -(mine - other) / (s[:, -1] - s[:, -3] + 1e-12)


def gradient(x, y, loss, surrogate):
    x = x.clone().requires_grad_()
    z = logits(x, surrogate)
    v = loss(z, y)
    return torch.autograd.grad(v.sum(), x)[0], v.detach(), z.detach()


def apgd(x, y, loss, surrogate, eps, steps):
    """Returns which images are broken."""
    clip = lambda p: torch.min(torch.max(p, x - eps), x + eps).clamp(0, 1)
    each = lambda v: v.view(-1, 1, 1, 1)
    a = clip(x + eps * (2 * torch.rand_like(x) - 1))
    g, v, z = gradient(a, y, loss, surrogate)
    broken = z.argmax(1) != y
    best, best_a, best_g = v.clone(), a.clone(), g.clone()
    eta = torch.full_like(v, 2 * eps)
    old, k, window, raised = a.clone(), 0, max(int(0.22 * steps), 1), torch.zeros_like(v)
    last_best, reduced, previous = v.clone(), torch.ones_like(v), v.clone()
    for i in range(steps):
        drift = a - old
        old = a
        one = clip(a + each(eta) * g.sign())
        w = 0.75 if i > 0 else 1.0
        a = clip(a + (one - a) * w + drift * (1 - w))
        g, v, z = gradient(a, y, loss, surrogate)
        broken |= z.argmax(1) != y
        better = v > best
        best = torch.where(better, v, best)
        best_a, best_g = torch.where(each(better), a, best_a), torch.where(each(better), g, best_g)
        raised += v > previous
        previous = v
        k += 1
        if k == window:
            stuck = (raised <= 0.75 * k) | ((reduced == 0) & (last_best >= best))
            last_best, reduced = best.clone(), stuck.float()
            eta = torch.where(stuck, eta / 2, eta)
            a, g = torch.where(each(stuck), best_a, a), torch.where(each(stuck), best_g, g)
            k, raised, window = 0, torch.zeros_like(v), max(window - int(0.03 * steps), max(int(0.06 * steps), 1))
        if broken.all():
            break
    return broken


with gzip.open(args.pictures) as f:
    x = numpy.frombuffer(f.read(), numpy.uint8, offset=16).reshape(-1, 1, 28, 28)[: args.images]
with gzip.open(args.labels) as f:
    y = torch.from_numpy(numpy.frombuffer(f.read(), numpy.uint8, offset=8)[: args.images].astype(numpy.int64))
x = torch.from_numpy(x.astype(numpy.float32)) / 255
torch.manual_seed(1)

batch = x[:64], y[:64]
for _ in range(3):
    gradient(*batch, ce, SURROGATES["triangle 1"])
times = []
for _ in range(15):
    start = time.perf_counter()
    gradient(*batch, ce, SURROGATES["triangle 1"])
    times.append(1000 * (time.perf_counter() - start) / len(batch[0]))
step = sorted(times)[len(times) // 2]
print(f"a gradient step: {step:.3f} ms an image (median of {len(times)}, batches of {len(batch[0])}, {args.threads} threads)")

standing = torch.arange(len(x))[logits(x, SURROGATES["triangle 1"]).argmax(1) == y]
print(f"clean: {len(standing)} of {len(x)}")
for name, loss in (("CE", ce), ("DLR", dlr)):
    for surrogate, h in SURROGATES.items():
        if len(standing):
            standing = standing[~apgd(x[standing], y[standing], loss, h, args.eps / 255, args.steps)]
        print(f"APGD-{name}, {surrogate}: {len(standing)} of {len(x)} stand", flush=True)
if args.out:
    with open(args.out, "w") as f:
        json.dump({"images": len(x), "step_ms": step, "stand": standing.tolist()}, f)
