"""Makes the files of this folder: small networks with the layer names of the reference
implementation of SNN-RAT, their state dicts, and what they put out.

    python3 -m pip install torch safetensors
    python3 reference.py            # write the files here
    python3 reference.py check F    # F, written by SaveTorch, holds vgg.pth's tensors
"""
import os
import sys

import torch
from torch import nn
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
STEPS = 4


class Spike(nn.Module):
    """Integrate-and-fire neurons; the first dimension is steps x images."""

    def forward(self, x):
        x = x.unflatten(0, (STEPS, -1))
        membrane, spikes = torch.zeros_like(x[0]), []
        for current in x:
            membrane = membrane + current
            spike = (membrane >= 1).float()
            membrane = membrane * (1 - spike)
            spikes.append(spike)
        return torch.stack(spikes).flatten(0, 1)


class Network(nn.Module):
    def forward(self, x):
        mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
        std = torch.tensor([0.2023, 0.1994, 0.2010]).view(3, 1, 1)
        x = ((x - mean) / std).repeat(STEPS, 1, 1, 1)
        return self.body(x).unflatten(0, (STEPS, -1)).mean(0)


class VGG(Network):
    """conv8 A conv12 conv17 A conv8 | fc20 fc20 fc5 for 3x8x8"""

    def __init__(self, norm=True):
        super().__init__()
        cin = 3
        for i, group in enumerate([[8, "A"], [12, 17, "A"], [8], [], []]):
            layers = []
            for c in group:
                if c == "A":
                    layers.append(nn.AvgPool2d(2))
                    continue
                layers.append(nn.Conv2d(cin, c, 3, padding=1))
                layers += [nn.BatchNorm2d(c), Spike()] if norm else [Spike(), nn.Dropout(0.1)]
                cin = c
            setattr(self, f"layer{i + 1}", nn.Sequential(*layers))
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(8 * 4, 20), Spike(), nn.Linear(20, 20), Spike(), nn.Linear(20, 5))

    def body(self, x):
        for i in range(1, 6):
            x = getattr(self, f"layer{i}")(x)
        return self.classifier(x)


class Convex(nn.Module):
    def __init__(self):
        super().__init__()
        self.comb = nn.Parameter(torch.tensor([0.5, 0.5]))

    def forward(self, a, b):
        return self.comb[0] * a + self.comb[1] * b


class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.bn1, self.act1 = nn.BatchNorm2d(cin), Spike()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn2, self.act2 = nn.BatchNorm2d(cout), Spike()
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.convShortcut = None if cin == cout else nn.Conv2d(cin, cout, 1, stride, bias=False)
        self.convex = Convex()

    def forward(self, x):
        o = self.act1(self.bn1(x))
        short = self.convShortcut(o) if self.convShortcut else x
        return self.convex(short, self.conv2(self.act2(self.bn2(self.conv1(o)))))


class WRN(Network):
    """WRN widths 4,5,6,7, 2 blocks a group, strides 1,2,2 for 3x32x32, 5 classes"""

    def __init__(self):
        super().__init__()
        w = [4, 5, 6, 7]
        self.conv1 = nn.Conv2d(3, w[0], 3, padding=1, bias=False)
        for i in range(3):
            blocks = [Block(w[i], w[i + 1], 1 if i == 0 else 2), Block(w[i + 1], w[i + 1], 1)]
            setattr(self, f"block{i + 1}", nn.Sequential(*blocks))
        self.bn1, self.act, self.fc = nn.BatchNorm2d(w[3]), Spike(), nn.Linear(w[3], 5)

    def body(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.avg_pool2d(self.act(self.bn1(x)), 8).flatten(1))


def make(name, model, size, gain=1):
    """Draws the parameters, warms the statistics up, and writes the files."""
    for p in model.parameters():
        if p.dim() > 1:
            nn.init.kaiming_normal_(p)
            p.data *= gain
    for key, p in model.named_parameters():
        if key.endswith("comb"):
            p.data = torch.softmax(torch.randn(2), 0)
        elif p.dim() == 1:
            p.data += 0.2 * torch.randn_like(p)
    x = torch.rand(6, 3, size, size)
    with torch.no_grad():
        for _ in range(20):
            model(x)  # in training mode
        model.eval()
        logits = model(x)
    assert logits.std(0).min() > 0.01, "the network says the same of all images"
    state = model.state_dict()
    torch.save(state, os.path.join(HERE, name + ".pth"))
    save_file({"images": x, "logits": logits}, os.path.join(HERE, name + "_outputs.safetensors"))
    return state


if len(sys.argv) == 3 and sys.argv[1] == "check":
    model = VGG()
    model.load_state_dict(load_file(sys.argv[2]))
    for key, value in torch.load(os.path.join(HERE, "vgg.pth")).items():
        assert key.endswith("num_batches_tracked") or torch.equal(value, model.state_dict()[key]), key
    print("ok")
    sys.exit()

torch.manual_seed(1)
state = make("vgg", VGG(), 8)
save_file(state, os.path.join(HERE, "vgg.safetensors"))
make("vgg_nobn", VGG(norm=False), 8, gain=2)
state = make("wrn", WRN(), 32)
# As a training script may keep it: with DataParallel's prefix, among other things, in
# another memory format, and with parameters instead of their values.
state = {"module." + k: v.to(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in state.items()}
state["module.fc.bias"] = nn.Parameter(state["module.fc.bias"])
torch.save({"epoch": 7, "accuracy": 0.5, "history": [1, 2 ** 40, -3], "name": None, "state_dict": state},
           os.path.join(HERE, "wrn_checkpoint.pth"))
