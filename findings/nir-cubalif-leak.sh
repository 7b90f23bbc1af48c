#!/bin/sh
# norse 1.1.0 and rockpool 3.1.0 (nir 1.0.8, torch 2.15.0): the resting potential of a NIR CubaLIF drives it.
#
# NIR's CubaLIF is tau_syn dI/dt = -I + w_in S and tau_mem dv/dt = (v_leak - v) + R I (nir/ir/neuron.py).
# Without input, v rests at v_leak. norse's from_nir also gives v_leak to the synapse
# (norse/torch/utils/import_nir.py: LIBoxParameters(..., v_leak)), so that I rests at v_leak, and v at
# v_leak (1 + R). rockpool's from_nir passes v_leak on as the bias of LIFTorch
# (rockpool/nn/modules/torch/nir.py), which is added to v at every step and not scaled by dt / tau_mem.
# In both, neurons that rest at a third of their threshold fire without any input. norse reads v_leak
# of a LIF as NIR defines it. snntorch 1.0.0 and spikingjelly 2.0.0 refuse a CubaLIF with v_leak.
#
# Output seen (30 steps without input, v_leak = 0.3, threshold 1, R = 4):
#   NIR's equation: 0 spikes, v rests at 0.3
#   norse: LIF 0 spikes, CubaLIF 7
#   rockpool: CubaLIF 6 spikes; with v_leak = 0: 0
#
# Exits with 0 if they behave like that, with another number if not.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet torch==2.15.0 nir==1.0.8 nirtorch==2.6 norse==1.1.0 rockpool==3.1.0
cat > "$dir/run.py" <<'PY'
import sys
import warnings

warnings.simplefilter("ignore")
import nir
import norse.torch
import numpy as np
import rockpool.nn.modules.torch.nir
import torch

STEPS, DT = 30, 1e-4


def full(v):
    return np.full(2, v, dtype=np.float32)


def graph(node):
    nodes = {"input": nir.Input(np.array([2])), "neurons": node, "output": nir.Output(np.array([2]))}
    return nir.NIRGraph(nodes, [("input", "neurons"), ("neurons", "output")])


def cuba(v_leak=0.3):
    return nir.CubaLIF(tau_syn=full(2 * DT), tau_mem=full(4 * DT), r=full(4), v_leak=full(v_leak), v_threshold=full(1), w_in=full(2))


def count(net, x):
    state, spikes = None, 0
    for _ in range(STEPS):
        y, state = net(x, state) if state is not None else net(x)
        spikes += int(y.flatten()[0])
    return spikes


lif = nir.LIF(tau=full(4 * DT), r=full(4), v_leak=full(0.3), v_threshold=full(1))
by_norse = [count(norse.torch.from_nir(graph(n), ignore_warnings=True, dt=DT), torch.zeros(1, 2)) for n in (lif, cuba())]
by_rockpool = [count(rockpool.nn.modules.torch.nir.from_nir(graph(cuba(v))), torch.zeros(1, 1, 2)) for v in (0.3, 0.0)]
v, spikes = 0.3, 0
for _ in range(STEPS):
    v += DT / (4 * DT) * (0.3 - v)
    spikes += v > 1
print(f"NIR's equation: {spikes} spikes, v rests at {v:.1f}")
print(f"norse: LIF {by_norse[0]} spikes, CubaLIF {by_norse[1]}")
print(f"rockpool: CubaLIF {by_rockpool[0]} spikes; with v_leak = 0: {by_rockpool[1]}")
right = spikes == 0 and by_norse[0] == 0 and by_norse[1] > 0 and by_rockpool[0] > 0 and by_rockpool[1] == 0
sys.exit(0 if right else 1)
PY
"$dir/venv/bin/python" "$dir/run.py"
