"""The parts of a RAT training step in plain PyTorch, for -against of examples/bench.

    python3 -m pip install torch numpy
    go run ./examples/bench -against examples/bench/testdata/peer.py -arch vgg11 -T 8 -batch 16

Another Python, or more flags, are part of the command:

    -against "venv/bin/python examples/bench/testdata/peer.py -compile"

The program builds the network of -arch in the usual way, with a loop over the time steps in
each layer of neurons. It loads the parameters, images and expected results from the folder
-peer. A line of JSON says what it computes and how far its results are from the expected
ones. Then it reads names of parts from standard input, runs each once and answers with its
time. -compile compiles the layers of neurons with torch.compile, which needs a C++ compiler.

-spikingjelly takes the layers of neurons from SpikingJelly (python3 -m pip install
spikingjelly==2.0.0): IFNode in multi-step mode. On a CPU it has the torch backend alone. Its
surrogate PiecewiseQuadratic(alpha=1) is the triangle of width 1. SpikingJelly has no gradient
through the firing rate, so fgsm_bptr has the forward pass of IFNode and the rule of this file.
ReLUs, convolutions and the rest are PyTorch's.
"""

import argparse
import json
import re
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

try:
    import resource
except ImportError:  # Windows
    resource = None

NAMED = {
    "vgg11": "conv64 A conv128 conv256 A conv512 conv512 conv512 A conv512 conv512 | fc4096 fc4096 fc",
    "wrn-16-4": "WRN widths 16,64,128,256, 2 blocks a group, strides 1,2,2",
}


class Spike(torch.autograd.Function):
    """1 where the membrane potential has reached the threshold 1. The surrogate derivative is
    a triangle of width 1."""

    @staticmethod
    def forward(ctx, membrane):
        ctx.save_for_backward(membrane)
        return (membrane >= 1).float()

    @staticmethod
    def backward(ctx, grad):
        (membrane,) = ctx.saved_tensors
        return grad * (1 - (membrane - 1).abs()).clamp(min=0)


class RateSpikes(torch.autograd.Function):
    """The spikes of IF neurons. The gradient passes where a neuron fired at least once."""

    @staticmethod
    def forward(ctx, currents):
        spikes = Neurons.spikes(currents)
        ctx.save_for_backward(spikes.amax(0))
        return spikes

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0]


def fire(currents, spike):
    """The spikes [T, N, ...] of IF neurons with hard reset."""
    membrane, spikes = torch.zeros_like(currents[0]), []
    for current in currents:
        membrane = membrane + current
        s = spike(membrane)
        membrane = membrane * (1 - s)
        spikes.append(s)
    return torch.stack(spikes)


def fire_plain(currents):
    return fire(currents, lambda membrane: (membrane >= 1).float())


def fire_bptt(currents):
    return fire(currents, Spike.apply)


def fire_bptr(currents):
    return RateSpikes.apply(currents)


class Neurons(nn.Module):
    """IF neurons; the first dimension is steps x images. With mode "cba", ReLU."""

    mode, steps = "bptt", 0
    fire = {"bptt": fire_bptt, "bptr": fire_bptr}
    spikes = staticmethod(fire_plain)  # without a gradient

    def forward(self, x):
        if Neurons.mode == "cba":
            return F.relu(x)
        return Neurons.fire[Neurons.mode](x.unflatten(0, (Neurons.steps, -1))).flatten(0, 1)


def use_spikingjelly():
    """Makes IFNode of SpikingJelly fire, and returns the version of SpikingJelly."""
    from importlib.metadata import version

    from spikingjelly.activation_based import neuron, surrogate

    node = neuron.IFNode(surrogate_function=surrogate.PiecewiseQuadratic(alpha=1.0), step_mode="m")

    def fire_node(currents):
        spikes = node(currents)
        node.reset()  # the next layer begins anew
        return spikes

    Neurons.fire["bptt"], Neurons.spikes = fire_node, staticmethod(fire_node)
    return version("spikingjelly")


class Network(nn.Module):
    """The mean over time of the logits of body."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))

    def forward(self, images):
        x = (images - self.mean.view(3, 1, 1)) / self.std.view(3, 1, 1)
        if Neurons.mode == "cba":
            return self.body(x)
        x = x.unsqueeze(0).expand(Neurons.steps, *x.shape).flatten(0, 1)
        return self.body(x).unflatten(0, (Neurons.steps, -1)).mean(0)


class VGG(Network):
    def __init__(self, arch, wide, classes, size):
        super().__init__()
        left, right = (words.split() for words in arch.split("|"))
        features, channels = [], 3
        for word in left:
            if word in ("A", "M"):
                features.append(nn.AvgPool2d(2) if word == "A" else nn.MaxPool2d(2))
                size //= 2
            else:
                n = wide(int(word.removeprefix("conv")))
                features += [nn.Conv2d(channels, n, 3, padding=1), nn.BatchNorm2d(n), Neurons()]
                channels = n
        classifier, inputs = [], channels * size * size
        for word in right[:-1]:
            n = wide(int(word.removeprefix("fc")))
            classifier += [nn.Linear(inputs, n), Neurons()]
            inputs = n
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(*classifier, nn.Linear(inputs, classes))

    def body(self, x):
        return self.classifier(self.features(x).flatten(1))


class Convex(nn.Module):
    def __init__(self):
        super().__init__()
        self.comb = nn.Parameter(torch.ones(2) / 2)

    def forward(self, a, b):
        return self.comb[0] * a + self.comb[1] * b


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1, self.n1 = nn.BatchNorm2d(inputs), Neurons()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2, self.n2 = nn.BatchNorm2d(outputs), Neurons()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.short = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.convex = Convex()

    def forward(self, x):
        spikes = self.n1(self.bn1(x))
        x = x if self.short is None else self.short(spikes)
        return self.convex(x, self.conv2(self.n2(self.bn2(self.conv1(spikes)))))


class WRN(Network):
    def __init__(self, arch, wide, classes):
        super().__init__()
        numbers = [int(n) for n in re.findall(r"\d+", arch)]
        widths, blocks, strides = [wide(n) for n in numbers[:4]], numbers[4], numbers[5:]
        self.conv1, self.blocks = nn.Conv2d(3, widths[0], 3, padding=1, bias=False), nn.Sequential()
        channels = widths[0]
        for width, stride in zip(widths[1:], strides):
            for i in range(blocks):
                self.blocks.append(Block(channels, width, stride if i == 0 else 1))
                channels = width
        self.bn, self.n, self.fc = nn.BatchNorm2d(channels), Neurons(), nn.Linear(channels, classes)

    def body(self, x):
        return self.fc(self.n(self.bn(self.blocks(self.conv1(x)))).mean((-1, -2)))


def read(path):
    """The tensors of a safetensors file."""
    with open(path, "rb") as f:
        (size,) = struct.unpack("<Q", f.read(8))
        header, data, tensors = json.loads(f.read(size)), f.read(), {}
    for name, t in header.items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            values = np.frombuffer(data[begin:end], {"F32": np.float32, "I64": np.int64}[t["dtype"]])
            tensors[name] = torch.tensor(values.reshape(t["shape"]))
    return tensors


def input_gradient(net, x, y, mode):
    net.eval()
    x = x.clone().requires_grad_()
    Neurons.mode = mode
    (grad,) = torch.autograd.grad(F.cross_entropy(net(x), y), x)
    Neurons.mode = "bptt"
    return grad


def firing(net, x):
    """The logits, and the mean firing rate and the number of values of each layer of neurons."""
    rates, sizes = [], []

    def note(_module, _inputs, spikes):
        rates.append(spikes.mean(dtype=torch.float64).item())
        sizes.append(spikes.numel())

    net.eval()
    hooks = [m.register_forward_hook(note) for m in net.modules() if isinstance(m, Neurons)]
    with torch.no_grad():
        logits = net(x)
    for hook in hooks:
        hook.remove()
    return logits, rates, sizes


def check(name, got, want):
    """The comparison with one expected tensor, as examples/bench prints it."""
    differ, scale = (got - want).abs().flatten(1), want.abs().flatten(1)
    images = int((differ.amax(1) > 1e-4 * scale.amax(1)).sum())
    return {"name": name, "relative_error": differ.max().item() / max(scale.max().item(), 1e-45), "images_differ": images}


def jobs(net, x, y):
    """What runs each part. The learning rate is zero and the step of the projection is below
    rounding, so the parameters stay the same."""

    def forward():
        net.eval()
        with torch.no_grad():
            net(x)

    def fgsm(mode):
        return lambda: (x + 8 / 255 * input_gradient(net, x, y, mode).sign()).clamp(0, 1)

    optimizer = torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9)

    def train():
        net.train()
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

    def regularize(beta=1e-12):
        with torch.no_grad():
            for m in net.modules():
                if isinstance(m, (nn.Conv2d, nn.Linear)):
                    w = m.weight.flatten(1)
                    m.weight.copy_((w - beta * (w @ w.t() @ w - w)).view_as(m.weight))

    return {"forward": forward, "fgsm_bptt": fgsm("bptt"), "fgsm_bptr": fgsm("bptr"), "fgsm_cba": fgsm("cba"),
            "train": train, "regularize": regularize}


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-serve", action="store_true", required=True, help="run the parts that standard input names")
    parser.add_argument("-peer", required=True, help="folder of the network, the images and the expected results")
    parser.add_argument("-arch", default="vgg11", help="network, in the notation of package zoo")
    parser.add_argument("-width", type=float, default=1, help="multiplier of the network's width")
    parser.add_argument("-T", type=int, default=8, help="time steps")
    parser.add_argument("-batch", type=int, help="images that are expected")
    parser.add_argument("-threads", type=int, default=2)
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("-compile", action="store_true", help="compile the layers of neurons")
    kinds.add_argument("-spikingjelly", action="store_true", help="take the layers of neurons from SpikingJelly")
    a = parser.parse_args()

    torch.set_num_threads(a.threads)
    Neurons.steps = a.T
    batch, expect = read(a.peer + "/batch.safetensors"), read(a.peer + "/expect.safetensors")
    x, y = batch["x"], batch["y"]
    if a.batch not in (None, len(x)):
        sys.exit(f"-batch {a.batch}: {a.peer} has {len(x)} images")
    arch = NAMED.get(a.arch.lower(), a.arch)
    classes, wide = expect["logits"].shape[1], lambda n: max(1, int(n * a.width + 0.5))
    if arch.startswith("WRN"):
        net = WRN(arch, wide, classes)
    elif "|" in arch:
        net = VGG(arch, wide, classes, x.shape[-1])
    else:
        sys.exit(f"-arch {a.arch}: expected {', '.join(NAMED)}, or a network written out")
    lacks = net.load_state_dict(read(a.peer + "/state.safetensors"), strict=False)
    lacks = lacks.unexpected_keys + [k for k in lacks.missing_keys if not k.endswith("num_batches_tracked")]
    if lacks:
        sys.exit(f"{a.peer}/state.safetensors: tensors of only one of file and network: {', '.join(lacks)}")
    neurons = ""
    if a.spikingjelly:
        neurons = f", SpikingJelly {use_spikingjelly()}"
    if a.compile:
        neurons = ", compiled neurons"
        Neurons.fire = {mode: torch.compile(f) for mode, f in Neurons.fire.items()}

    logits, rates, sizes = firing(net, x)
    expected = expect["rates"].tolist()
    checks = [check("logits", logits, expect["logits"]),
              {"name": "rates", "relative_error": max(abs(r - e) for r, e in zip(rates, expected)) / max(*expected, 1e-45),
               "spikes_differ": sum(abs(round(n * r) - round(n * e)) for r, e, n in zip(rates, expected, sizes))}]
    checks += [check("grad_x." + mode, input_gradient(net, x, y, mode), expect["grad_x." + mode])
               for mode in ("bptt", "bptr", "cba")]
    kernel = f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}" + neurons
    print(json.dumps({"arch": a.arch, "T": a.T, "batch": len(x), "threads": torch.get_num_threads(), "kernel": kernel,
                      "rates": [round(r, 3) for r in rates], "checks": checks}), flush=True)

    parts = jobs(net, x, y)
    for line in sys.stdin:
        part = line.strip()
        if part not in parts:
            sys.exit(f"part {part!r}: expected one of {', '.join(parts)}")
        start = time.perf_counter()
        parts[part]()
        ms = (time.perf_counter() - start) * 1e3
        answer = {"part": part, "ms": ms if part == "regularize" else ms / len(x)}
        if resource:
            unit = 20 if sys.platform == "darwin" else 10  # of ru_maxrss: bytes or KB
            answer["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << unit)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
