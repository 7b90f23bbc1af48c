"""Writes losses.json: losses and gradients by PyTorch 2.15.0's autograd.

The formulas are those of the papers, written with torch's own losses:
python3 losses.py > losses.json
"""
import json
import torch
import torch.nn.functional as F

torch.manual_seed(0)
N, T, C = 4, 3, 5
labels = torch.tensor([0, 3, 2, 4])
clean = torch.randn(N, T, C, dtype=torch.float64) * 2
adv = torch.randn(N, T, C, dtype=torch.float64) * 2
adv[0, :, 0] += 6      # sure of the label
adv[1, :, 1] += 6      # sure of another class
clean, adv = clean.float().double(), adv.float().double()  # as float32 has them


def kl(p, q):
    return F.kl_div(F.log_softmax(q, 1), F.softmax(p, 1), reduction="none").sum(1)


def trades(c, a, beta=6.0):
    c, a = c.mean(1), a.mean(1)
    return F.cross_entropy(c, labels, reduction="none") + beta * kl(c, a)


def mart(c, a, lam=5.0):
    c, a = c.mean(1), a.mean(1)
    q = F.softmax(a, 1)
    other = q.clone()
    other[torch.arange(N), labels] = -1
    margin = torch.log(1 - q[torch.arange(N), other.argmax(1)])
    p = F.softmax(c, 1)[torch.arange(N), labels]
    return F.cross_entropy(a, labels, reduction="none") - margin + lam * kl(c, a) * (1 - p)


def tet(_, a, lam=0.1, mean=1.0):
    ce = F.cross_entropy(a.flatten(0, 1), labels.repeat_interleave(T), reduction="none").view(N, T).mean(1)
    mse = F.mse_loss(a, torch.full_like(a, mean), reduction="none").mean((1, 2))
    return (1 - lam) * ce + lam * mse


def mix(c, a, share=0.25):
    c, a = c.mean(1), a.mean(1)
    return share * F.cross_entropy(c, labels, reduction="none") + (1 - share) * F.cross_entropy(a, labels, reduction="none")


out = {"labels": labels.tolist(), "steps": T, "classes": C,
       "clean": clean.flatten().tolist(), "perturbed": adv.flatten().tolist(), "losses": {}}
for name, loss in {"TRADES": trades, "MART": mart, "TET": tet, "CleanMix": mix}.items():
    c, a = clean.clone().requires_grad_(), adv.clone().requires_grad_()
    v = loss(c, a)
    v.sum().backward()
    out["losses"][name] = {"loss": v.tolist(), "grad": a.grad.flatten().tolist(),
                           "clean": [] if c.grad is None else c.grad.flatten().tolist()}
print(json.dumps(out))
