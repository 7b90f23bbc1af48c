"""Writes golden.safetensors: image gradients of a small spiking network under RGA, HART, PDSG
and ASSG, by PyTorch's automatic differentiation in float64. Each rule is written from its
equation: a spike has the value 1[u >= 0] and the derivative h, which is a constant.

The network is conv 3x3 (1 -> 3 channels, padding 1), neurons, flatten, linear (-> 5), neurons,
linear (-> 2), mean over time. The gradient is that of sum(logits * seed).

    python make.py        (torch 2, safetensors)
"""

import math

import torch
from safetensors.torch import save_file

torch.set_default_dtype(torch.float64)
T, N, ITERATIONS = 4, 2, 5
HART_WIDTH, ASSG_A = 0.8, 0.4

# decay, gain, threshold, soft reset, reset, start, synaptic decay, adaptation, its decay
NEURONS = {
    "if": dict(),
    "lif": dict(decay=0.875, threshold=0.75, soft=True),
    "general": dict(decay=0.5, gain=0.5, threshold=0.375, reset=-0.25, start=0.125),
    "cuba": dict(decay=0.875, alpha=0.5),
    "alif": dict(decay=0.875, b=0.5, rho=0.75, soft=True),
    "channels": dict(decay=0.875, threshold=[0.5, 0.75, 1.25, 1.0, 0.625]),
}


class Rule:
    """The derivative of a layer's spikes at one step, and the state of the rule."""

    def __init__(self, name):
        self.name, self.seen, self.m, self.d, self.t = name, [], [1.0] * T, [0.0] * T, 0

    def slope(self, u, theta):
        """h, where u is the membrane potential minus the threshold, both in units of theta."""
        w = (u / theta).detach()
        t, self.t = self.t, (self.t + 1) % T
        if self.name == "hart":
            h = torch.clamp(HART_WIDTH - w.abs(), min=0) / HART_WIDTH**2
        elif self.name == "pdsg":
            if t == 0:
                self.seen = []
            self.seen.append(w)
            v = torch.stack(self.seen)
            dims = (0, 3, 4) if v.dim() == 5 else (0, 2)  # of each image
            sigma = v.std(dim=dims, keepdim=True)[0]
            sigma = torch.where(sigma == 0, torch.ones_like(sigma), sigma)
            h = torch.exp(-((w - sigma / 2) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
        elif self.name == "assg":
            self.m[t] = 0.9 * self.m[t] + 0.1 * w.abs()
            self.d[t] = 0.9 * self.d[t] + 0.1 * (w.abs() - self.m[t]).abs()
            alpha = 2 / math.pi * math.tan(math.pi * ASSG_A) / (self.m[t] + 1.5 * self.d[t] + 1e-4)
            h = alpha / 2 / (1 + (math.pi * alpha * w / 2) ** 2)
        return h / theta


class Mean(torch.autograd.Function):
    """The identity, with the mean of the gradient over time."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        return g.mean(0, keepdim=True).expand_as(g)


margin = math.inf


def fire(x, rule, decay=1.0, gain=1.0, threshold=1.0, soft=False, reset=0.0, start=0.0, alpha=0.0, b=0.0, rho=0.0):
    """Spikes [T, N, ...] of the currents x."""
    global margin
    theta = torch.tensor(threshold)
    if theta.dim():
        theta = theta[: x.shape[2]] if x.dim() == 3 else theta[: x.shape[2]].view(-1, 1, 1)
    cut = (lambda v: v.detach()) if rule.name == "hart" else (lambda v: v)
    if rule.name == "hart":
        x = Mean.apply(x)
    m, i, a = torch.full_like(x[0], start), torch.zeros_like(x[0]), torch.zeros_like(x[0])
    currents = []
    for t in range(T):
        i = alpha * cut(i) + x[t]
        currents.append(i)
    z = gain * torch.stack(currents).mean(0).detach() / theta
    rate = torch.where((z >= 0) & (z < 1 - decay), torch.tensor(0.2), torch.tensor(0.0))
    rate = torch.where((z >= 1 - decay) & (z <= 2), torch.tensor((0.8 + 0.2 * decay) / (1 + decay)), rate)
    out = []
    for t in range(T):
        m = decay * cut(m) + gain * currents[t]
        level = theta + b * cut(a)
        u = m - level
        margin = min(margin, u.abs().min().item())
        fired = (u >= 0).double()
        if rule.name == "rga":
            way = gain * currents[t] * rate / theta
        else:
            way = u * rule.slope(u, theta)
        s = fired + way - way.detach()
        if rule.name == "rga":
            m = m.detach()
        r = fired if rule.name == "rga" else s
        m = m - level * r if soft else reset * r + m * (1 - r)
        a = rho * a + (1 - rho) * r
        out.append(s)
    return torch.stack(out)


torch.manual_seed(7)
single = lambda v: v.float().double()
out = {
    "conv": single(torch.randn(3, 1, 3, 3) * 0.6), "conv_bias": single(torch.rand(3) * 0.4),
    "hidden": single(torch.randn(5, 48) * 0.3), "hidden_bias": single(torch.rand(5) * 0.4),
    "last": single(torch.randn(2, 5)), "seed": single(torch.randn(N, 2)),
    "images": single(torch.rand(ITERATIONS, N, 1, 4, 4)),
}
for neuron, settings in NEURONS.items():
    for name in ("rga", "hart", "pdsg", "assg"):
        first, second = Rule(name), Rule(name)
        grads = []
        for iteration in range(ITERATIONS if name == "assg" else 1):
            image = out["images"][iteration].clone().requires_grad_()
            x = torch.nn.functional.conv2d(image, out["conv"], out["conv_bias"], padding=1)
            s = fire(x.expand(T, *x.shape), first, **settings)
            h = s.flatten(2) @ out["hidden"].T + out["hidden_bias"]
            logits = (fire(h, second, **settings) @ out["last"].T).mean(0)
            (logits * out["seed"]).sum().backward()
            grads.append(image.grad)
        out[f"{neuron}.{name}"] = torch.stack(grads)
        assert out[f"{neuron}.{name}"].abs().max() > 1e-3
assert margin > 1e-5, f"a potential is {margin} from its threshold: take another seed"
save_file({k: v.float().contiguous() for k, v in out.items()}, "golden.safetensors")
