"""Makes the files of this folder but those that `found` lists from plain.pth, the state dict
of the network "conv2 A | fc" for images of 1x4x4 in 3 classes: each is the same network as
other programs save it. Made with Python 3.11, torch 2.15.0 (CPU) and numpy 2.4.6:

    python3 make.py
"""
import argparse
import collections
import datetime
import os
import pathlib
import zipfile

import numpy as np
import torch

# found were saved by programs of their users: plain.pth, compiled.pth, compiled_ddp.pth, swa.pth,
# lightning.ckpt, wrapped.pth, half.pth, bfloat16.pth, double.pth, bf16.safetensors.
os.chdir(os.path.dirname(os.path.abspath(__file__)))
plain = torch.load("plain.pth")


def flat(state):
    """The state dict as views of one storage, as a distributed optimizer keeps it."""
    floats = {k: v for k, v in state.items() if v.dtype == torch.float32}
    buffer, at = torch.cat([v.flatten() for v in floats.values()]), 0
    out = {}
    for k, v in floats.items():
        out[k] = buffer[at:at + v.numel()].view(v.shape)
        at += v.numel()
    return out


def negative(state):
    """The state dict with one weight as PyTorch's negative view: the imaginary part of a
    conjugate."""
    w = state["classifier.1.weight"]
    view = torch.complex(torch.zeros_like(w), -w).conj().imag
    assert view.is_neg() and torch.equal(view, w)
    return {**state, "classifier.1.weight": view}


for protocol in 3, 4, 5:
    torch.save(plain, f"protocol{protocol}.pth", pickle_protocol=protocol)

objects = {
    "epoch": 3,
    "args": argparse.Namespace(lr=0.1, device=torch.device("cpu"), out=pathlib.PurePosixPath("runs")),
    "counter": collections.Counter("abca"),
    "default": collections.defaultdict(list, a=[1]),
    "set": {"a", b"bytes", 3, (1, 2)},
    "frozen": frozenset([1, 2]),
    "size": torch.Size([2, 3]),
    "dtype": torch.float32,
    "array": np.arange(3),
    "scalar": np.float64(0.5),
    "when": datetime.date(2026, 11, 1),
    "seed": 2**70,
    "bytes": b"raw",
    "mutable": bytearray(b"raw"),
    "slice": slice(1, 2),
    "optimizer": {"state": {0: {"step": torch.tensor(3.), "momentum": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    "log": [{"loss": i / 7} for i in range(20)],
    "state_dict": plain,
}
for protocol in 2, 4:
    torch.save(objects, f"objects{protocol}.pth", pickle_protocol=protocol)

torch.save(flat(plain), "shared.pth")
torch.save(negative(plain), "negative.pth")
attributed = {k: v.clone() for k, v in plain.items()}
attributed["classifier.1.bias"].note = "a tensor with an attribute"
attributed["layer1.0.bias"] = torch.nn.Parameter(attributed["layer1.0.bias"])
torch.save(attributed, "attributes.pth")
torch.save({**plain, "total_ops": torch.zeros(1, dtype=torch.float64), "layer1.0.total_params": torch.zeros(1, dtype=torch.float64),
            "lif1.beta": torch.tensor(1.), "lif1.threshold": torch.tensor(1), "lif1.reset_mechanism_val": torch.tensor(1)}, "buffers.pth")

torch.serialization.set_crc32_options(False)
torch.save(plain, "unchecked.pth")
torch.serialization.set_crc32_options(True)

with zipfile.ZipFile("plain.pth") as z:
    with zipfile.ZipFile("zipped.pth", "w", zipfile.ZIP_DEFLATED) as out:
        for name in z.namelist():
            out.writestr(name.split("/", 1)[1], z.read(name))
    with zipfile.ZipFile("lzma.pth", "w", zipfile.ZIP_LZMA) as out:
        for name in z.namelist():
            out.writestr(name, z.read(name))

# These are not read.
torch.save({**plain, "classifier.1.bias": plain["classifier.1.bias"].to(torch.float8_e4m3fn)}, "float8.pth")
torch.save({**plain, "classifier.1.bias": plain["classifier.1.bias"].to(torch.uint16)}, "uint16.pth")
torch.save({**plain, "classifier.1.bias": plain["classifier.1.bias"].to(torch.cfloat).conj()}, "conjugate.pth")
torch.save({**plain, "classifier.1.bias": plain["classifier.1.bias"].numpy()}, "numpy.pth")
torch.save({**plain, "lif1.beta": torch.tensor(0.9)}, "leaky.pth")
torch.save({**{"model." + k: v for k, v in plain.items()}, "model.mean": torch.tensor([[[0.5]]])}, "normalized.pth")
torch.save({**{"model." + k: v for k, v in plain.items()}, **{"ema." + k: v for k, v in plain.items()}}, "twice.pth")
torch.save({**plain, "layer1.0.bias": plain["layer1.0.bias"].double() * 1e300}, "overflow.pth")
torch.save({**plain, "layer1.1.running_var": plain["layer1.1.running_var"] - 1}, "variance.pth")
