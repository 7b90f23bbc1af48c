#!/bin/sh
# snnTorch 1.0.0 (torch 2.15.0): a learned beta that begins at 1 never trains.
#
# Leaky(beta=1.0, learn_beta=True) begins as an integrate-and-fire neuron. Its forward pass uses
# beta.clamp(0, 1), as its docstring says ("Clipped between 0 and 1 during the forward-pass"). In
# torch 2.15.0 the gradient of clamp is 0 at the bounds themselves, too, not only beyond them.
# So the gradient of beta is exactly 0, and stays so in all further updates without weight decay.
# With beta=0.999 the spikes are the same here, and the gradient is not 0. The same holds for
# alpha = 0 or 1 of Synaptic.
#
# Output seen:
#   beta 1.0    spikes 6.0  gradient 0.0
#   beta 0.999  spikes 6.0  gradient 13.8009
#
# Exits with 0 if they behave like that, with another number if not.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet torch==2.15.0 snntorch==1.0.0
cat > "$dir/run.py" <<'PY'
import sys
import snntorch
import torch


def run(beta):
    node = snntorch.Leaky(beta=beta, learn_beta=True)
    mem, spikes = torch.zeros(3), 0
    for _ in range(5):
        s, mem = node(torch.tensor([0.3, 0.5, 0.7]), mem)
        spikes = spikes + s.sum()
    spikes.backward()
    print(f"beta {beta:<6} spikes {spikes.item()}  gradient {round(node.beta.grad.item(), 4)}")
    return spikes.item(), node.beta.grad.item()


one, less = run(1.0), run(0.999)
sys.exit(0 if one[0] == less[0] and one[1] == 0 and abs(less[1]) > 1 else 1)
PY
"$dir/venv/bin/python" "$dir/run.py"
