#!/bin/sh
# norse 1.1.0 (torch 2.15.0): alpha of the default surrogate gradient has no effect.
#
# LIFParameters(method="super", alpha=100), the defaults, name a "hyper parameter to use in
# surrogate gradient computation" (norse/torch/functional/lif.py). The derivative of SuperSpike
# is grad / (|x| + 1)^2 whatever alpha is (norse/torch/functional/superspike.py, backward, which
# reads only the input). Zenke and Ganguli 2018, whom it cites, have grad / (alpha |x| + 1)^2.
# Whoever tunes alpha, or compares norse's gradients with fast_sigmoid(slope=100) of snnTorch,
# compares with slope 1. method="tanh" reads alpha.
#
# Output seen:
#   super  alpha 1 0.0292    alpha 100 0.0292
#   tanh   alpha 1 0.0522    alpha 100 0.0
#
# Exits with 0 if norse behaves like that, with another number if not.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet torch==2.15.0 norse==1.1.0
cat > "$dir/run.py" <<'PY'
import sys
import warnings

warnings.simplefilter("ignore")
import norse.torch.functional.lif as lif
import torch


def gradient(method, alpha):
    x = torch.tensor([1.5], requires_grad=True)
    state = lif.LIFFeedForwardState(v=torch.zeros(1), i=torch.zeros(1))
    spikes, _ = lif.lif_feed_forward_step(x, state, lif.LIFParameters(method=method, alpha=alpha))
    spikes.sum().backward()
    return round(x.grad.item(), 4)


got = {m: [gradient(m, a) for a in (1.0, 100.0)] for m in ("super", "tanh")}
for method, (one, hundred) in got.items():
    print(f"{method:<6} alpha 1 {one}    alpha 100 {hundred}")
sys.exit(0 if got["super"][0] == got["super"][1] and got["tanh"][0] != got["tanh"][1] else 1)
PY
"$dir/venv/bin/python" "$dir/run.py"
