#!/bin/sh
# snnTorch 1.0.0 (torch 2.15.0): reset_delay of Leaky changes gradients where it changes no spike.
#
# With reset_mechanism="zero", a Leaky neuron fires at the same steps with reset_delay=True, the
# default, and with reset_delay=False. Its gradients differ. The delayed reset is detached from
# the graph (snntorch/_neurons/neurons.py, mem_reset: "Returns detached reset signal"). The
# reset of reset_delay=False multiplies the potential by 1 - spk, which is not detached
# (snntorch/_neurons/leaky.py, forward). The docstring of reset_delay speaks of the spike's
# delay alone. Who compares attacks or trainings over the two settings compares two surrogate
# gradients of one network.
#
# Output seen:
#   spikes        [0.0, 1.0, 0.0, 1.0] [0.0, 1.0, 0.0, 1.0]
#   gradient      delayed [1.1209, 0.657, 1.326, 0.6767]
#   gradient      at once [0.4994, -0.0533, 0.9767, 0.6767]
#
# Exits with 0 if snnTorch behaves like that, with another number if not.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet torch==2.15.0 snntorch==1.0.0
cat > "$dir/run.py" <<'PY'
import sys
import snntorch
import torch


def run(reset_delay):
    node = snntorch.Leaky(beta=0.9, reset_mechanism="zero", reset_delay=reset_delay)
    x = torch.tensor([0.7, 0.6, 0.8, 0.5], requires_grad=True)
    spikes, mem = [], torch.zeros(1)
    for t in range(4):
        s, mem = node(x[t : t + 1], mem)
        spikes.append(s)
    spikes = torch.cat(spikes)
    spikes.sum().backward()
    return spikes.tolist(), x.grad


delayed, at_once = run(True), run(False)
print("spikes       ", delayed[0], at_once[0])
for name, (_, grad) in ("delayed", delayed), ("at once", at_once):
    print("gradient     ", name, [round(g, 4) for g in grad.tolist()])
same_spikes = delayed[0] == at_once[0] == [0, 1, 0, 1]
other_gradients = not torch.allclose(delayed[1], at_once[1], rtol=0.1)
sys.exit(0 if same_spikes and other_gradients else 1)
PY
"$dir/venv/bin/python" "$dir/run.py"
