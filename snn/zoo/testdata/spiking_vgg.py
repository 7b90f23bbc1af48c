"""Makes spiking_vgg.pth, the state dict of a narrow spiking_vgg11_bn of SpikingJelly, and
spiking_vgg_outputs.safetensors: for images of SIZE x SIZE pixels its logits.SIZE, and for
the smallest the gradient of sum(logits * seed) by the images, grad.SIZE. spiking_plif.pth and
spiking_plif_outputs.safetensors are the same of a network of ParametricLIFNode, and have the
gradients w.LAYER of its parameters w, too.

    python3 -m pip install torch==2.15.0 torchvision==0.29.2 spikingjelly==2.0.0 safetensors==0.8.0
    python3 spiking_vgg.py
"""
import os

import torch
from safetensors.torch import save_file
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model import spiking_vgg
from torch import nn

os.chdir(os.path.dirname(os.path.abspath(__file__)))
STEPS, CLASSES = 4, 5


def images(n, size):
    """Pixels that the Go test computes, too."""
    i = torch.arange(n * 3 * size * size)
    return ((i * 2654435761 & 0xFFFFFFFF) >> 24).float().div(255).view(n, 3, size, size)


def make(name, sizes, **node):
    torch.manual_seed(1)
    # The class itself, with fewer channels than its "A", and a narrower classifier.
    spiking_vgg.cfgs["A"] = [4, "M", 6, "M", 8, 8, "M", 8, 8, "M", 8, 8, "M"]
    net = spiking_vgg.spiking_vgg11_bn(**node)
    for i, (cin, cout) in {0: (8 * 7 * 7, 10), 3: (10, 12), 6: (12, CLASSES)}.items():
        net.classifier[i] = layer.Linear(cin, cout)
        nn.init.normal_(net.classifier[i].weight, 0, 1.5 / cin**0.5)
    for i, (key, p) in enumerate(net.named_parameters()):
        if key.endswith(".w"):
            nn.init.constant_(p, 0.04 * (i % 7) - 0.1)
    functional.set_step_mode(net, "m")

    def run(x):
        functional.reset_net(net)
        return net(x.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1)).mean(0)

    with torch.no_grad():
        for _ in range(30):
            run(torch.rand(4, 3, 64, 64))
    net.eval()
    rates = []
    for m in net.modules():
        if isinstance(m, neuron.BaseNode):
            m.register_forward_hook(lambda _, __, y: rates.append(y.mean().item()))
    out = {"seed": torch.randn(2, CLASSES)}
    for size in sizes:
        rates.clear()
        x = images(2, size).requires_grad_()
        logits = run(x)
        assert 0.02 < min(rates) and max(rates) < 0.98 and not torch.equal(logits[0], logits[1]), (size, rates)
        out[f"logits.{size}"] = logits.detach()
        if size == 32:
            (logits * out["seed"]).sum().backward()
            out["grad.32"] = x.grad
            for key, p in net.named_parameters():
                if key.endswith(".w"):
                    out["w." + key[:-2]] = p.grad
    torch.save(net.state_dict(), name + ".pth")
    save_file(out, name + "_outputs.safetensors")


make("spiking_vgg", (32, 64, 96, 224, 256), spiking_neuron=neuron.LIFNode, tau=2.0, v_threshold=0.25)
make("spiking_plif", (32,), spiking_neuron=neuron.ParametricLIFNode, init_tau=2.0, v_threshold=0.25)
