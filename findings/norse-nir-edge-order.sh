#!/bin/sh
# norse 1.1.0 (nir 1.0.8, nirtorch 2.6, torch 2.15.0): the output of a recurrent NIR graph depends on the
# order of its edges.
#
# The edges of a NIR graph are a set. In a graph whose neurons lead to the output and through a Linear
# back to themselves, norse.torch.from_nir returns the spikes if the edges to and from the Linear come
# first. If the edge to the output comes first, it returns the values of the Linear. It calls nirtorch.load,
# whose executor returns the value of the last node of its order of execution, whichever that is
# (nirtorch/graph_executor.py, forward), and that order follows the edges. rockpool 3.1.0 uses the same
# executor. spikingjelly 2.0.0, by nirtorch.nir_to_torch, returns the spikes in both cases. The network
# runs without an error, and the values have the same shape.
#
# Output seen (two IF neurons, input 1 and 2, threshold 1.5; a spike returns as 1/4):
#   norse, back before output: [[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [1.0, 1.0]]
#   norse, output before back: [[0.0, 0.25], [0.25, 0.25], [0.0, 0.25], [0.25, 0.25]]
#   spikingjelly, back before output: [[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [1.0, 1.0]]
#   spikingjelly, output before back: [[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [1.0, 1.0]]
#
# Exits with 0 if they behave like that, with another number if not.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet torch==2.15.0 nir==1.0.8 nirtorch==2.6 norse==1.1.0 spikingjelly==2.0.0
cat > "$dir/run.py" <<'PY'
import sys
import warnings

warnings.simplefilter("ignore")
import nir
import norse.torch
import numpy as np
import torch
from spikingjelly.activation_based import nir_exchange


def full(v):
    return np.full(2, v, dtype=np.float32)


def run(edges, read):
    nodes = {
        "input": nir.Input(np.array([2])),
        "neurons": nir.IF(r=full(1), v_threshold=full(1.5)),
        "back": nir.Linear(np.eye(2, dtype=np.float32) / 4),
        "output": nir.Output(np.array([2])),
    }
    net, state, out = read(nir.NIRGraph(nodes, edges)), None, []
    for _ in range(4):
        y, state = net(torch.tensor([[1.0, 2.0]]), state)
        out.append(y.flatten().tolist())
    return out


first, back, last = ("input", "neurons"), [("neurons", "back"), ("back", "neurons")], ("neurons", "output")
orders = {"back before output": [first, *back, last], "output before back": [first, last, *back]}
readers = {
    "norse": lambda g: norse.torch.from_nir(g, dt=1),
    "spikingjelly": lambda g: nir_exchange.import_from_nir(g, dt=1),
}
got = []
for name, read in readers.items():
    for order, edges in orders.items():
        got.append(run(edges, read))
        print(f"{name}, {order}: {got[-1]}")
spikes = [[0, 1], [1, 1], [0, 1], [1, 1]]
quarter = [[v / 4 for v in row] for row in spikes]
sys.exit(0 if got == [spikes, quarter, spikes, spikes] else 1)
PY
"$dir/venv/bin/python" "$dir/run.py"
