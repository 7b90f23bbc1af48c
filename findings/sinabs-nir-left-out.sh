#!/bin/sh
# Sinabs 3.1.3 and norse 1.1.0 (nir 1.0.4, nirtorch 2.0): from_nir leaves out nodes that it does not know.
#
# sinabs/nir.py (_import_sinabs_module) has cases for Affine and IF, but none for Linear and CubaLIF, and
# returns None for these. norse/torch/utils/import_nir.py has none for LI. nirtorch.load, which both call,
# takes None for a node without a module (nirtorch/from_nir.py, _map_graph_to_torch), and the executor
# passes over it. So a readout, or all neurons, are missing from the network that comes back, which
# returns the values of the node before. There is no error and no warning that names the node. The same
# happens with nir 1.0.8 and nirtorch 2.6, where nirtorch.nir_to_torch, the successor of load, raises an
# error instead. sinabs 3.1.3 asks for nir up to 1.0.4.
#
# Output seen (one step of input 1, 0, 1; the IF fires for its second neuron):
#   sinabs: Affine [2.0, 3.0]; Affine, IF [0.0, 1.0]
#   sinabs: Affine, IF, Linear to 10 and 20: [0.0, 1.0]
#   sinabs: Affine, CubaLIF: [2.0, 3.0]
#   norse: Affine, IF, Linear [10.0, 20.0]; and LI with tau = 5 dt [10.0, 20.0]
#
# Exits with 0 if they behave like that, with another number if not.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet torch==2.15.0 nir==1.0.4 nirtorch==2.0 sinabs==3.1.3 norse==1.1.0
cat > "$dir/run.py" <<'PY'
import sys
import warnings

warnings.simplefilter("ignore")
import nir
import norse.torch
import numpy as np
import sinabs.nir
import torch


def full(v):
    return np.full(2, v, dtype=np.float32)


affine = nir.Affine(np.array([[1, 5, 1], [2, 6, 1]], dtype=np.float32), full(0))
neurons = nir.IF(r=full(1), v_threshold=full(2.5))
linear = nir.Linear(np.array([[1, 10], [2, 20]], dtype=np.float32))
cuba = nir.CubaLIF(tau_syn=full(5), tau_mem=full(5), r=full(1), v_leak=full(0), v_threshold=full(1))
li = nir.LI(tau=full(0.005), r=full(1), v_leak=full(0))
x = torch.tensor([[1.0, 0.0, 1.0]])


def graph(*nodes):
    names = {"input": nir.Input(np.array([3]))}
    names.update({f"n{i}": n for i, n in enumerate(nodes)}, output=nir.Output(np.array([2])))
    return nir.NIRGraph(names, list(zip(list(names), list(names)[1:])))


def by_sinabs(*nodes):
    return sinabs.nir.from_nir(graph(*nodes), batch_size=1)(x)[0].flatten().tolist()


def by_norse(*nodes):
    return norse.torch.from_nir(graph(*nodes), dt=0.001)(x)[0].flatten().tolist()


got = [by_sinabs(affine), by_sinabs(affine, neurons), by_sinabs(affine, neurons, linear), by_sinabs(affine, cuba)]
print(f"sinabs: Affine {got[0]}; Affine, IF {got[1]}")
print(f"sinabs: Affine, IF, Linear to 10 and 20: {got[2]}")
print(f"sinabs: Affine, CubaLIF: {got[3]}")
other = [by_norse(affine, neurons, linear), by_norse(affine, neurons, linear, li)]
print(f"norse: Affine, IF, Linear {other[0]}; and LI with tau = 5 dt {other[1]}")
right = got == [[2, 3], [0, 1], [0, 1], [2, 3]] and other == [[10, 20], [10, 20]]
sys.exit(0 if right else 1)
PY
"$dir/venv/bin/python" "$dir/run.py"
