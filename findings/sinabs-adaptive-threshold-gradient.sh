#!/bin/sh
# Sinabs 3.1.3 (torch 2.15.0): the adaptive threshold of ALIF gets no gradient from the spike.
#
# ALIF fires where v_mem >= b0 + adapt_scale * b, and a spike raises b (Bellec et al. 2018). The
# derivative of the spike by that threshold is minus the surrogate gradient. Sinabs' spike
# functions return None for it (sinabs/activation/spike_generation.py, BackwardClass.backward),
# so with a reset that does not use the threshold, no gradient crosses the adaptation: an
# adapt_scale that is a parameter never trains. norse 1.1.0's LSNN passes the gradient.
#
# Output seen:
#   adapt_scale 0.5 fires [1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 0 fires [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
#   gradient by adapt_scale: None
#   gradient by norse's beta: -2.7305
#
# Exits with 0 if Sinabs behaves like that, with another number if not.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip install --quiet torch==2.15.0 sinabs==3.1.3 norse==1.1.0
cat > "$dir/run.py" <<'PY'
import sys
import warnings

warnings.simplefilter("ignore")
import norse.torch.functional.lsnn as lsnn
import sinabs.activation
import sinabs.layers
import torch


def run(scale):
    node = sinabs.layers.ALIF(
        tau_mem=torch.tensor(2.0), tau_adapt=torch.tensor(5.0), adapt_scale=scale, norm_input=False,
        reset_fn=sinabs.activation.MembraneReset(), spike_threshold=torch.tensor(1.0))
    x = torch.full((1, 6, 1), 1.05, requires_grad=True)
    return node(x).flatten()


scale = torch.tensor(0.5, requires_grad=True)
spikes, flat = run(scale), run(torch.tensor(0.0))
spikes.sum().backward()
print(f"adapt_scale 0.5 fires {spikes.tolist()}, 0 fires {flat.tolist()}")
print("gradient by adapt_scale:", scale.grad)

beta = torch.tensor(0.5, requires_grad=True)
p = lsnn.LSNNParameters(beta=beta, tau_mem_inv=torch.tensor(500.0))
state = lsnn.LSNNFeedForwardState(v=torch.zeros(1), i=torch.zeros(1), b=torch.ones(1))
total = 0
for _ in range(6):
    s, state = lsnn.lsnn_feed_forward_step(torch.full((1,), 1.5), state, p)
    total = total + s.sum()
total.backward()
print(f"gradient by norse's beta: {beta.grad.item():.4f}")
matters = spikes.tolist() != flat.tolist()
sys.exit(0 if matters and scale.grad is None and beta.grad < 0 else 1)
PY
"$dir/venv/bin/python" "$dir/run.py"
