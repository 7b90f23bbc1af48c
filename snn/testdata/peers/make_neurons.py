"""Makes glif.safetensors: what neurons with parameters compute in other libraries.

    python3 -m pip install torch==2.15.0 spikingjelly==2.0.0 snntorch==1.0.0 norse==1.1.0 sinabs==3.1.3 safetensors==0.8.0
    python3 make_neurons.py

The file holds, for each case NAME, the neurons' spikes NAME.spikes and the gradient NAME.grad
of sum(spikes * seed) by their currents, both of shape [T, N], and for each parameter P its
value NAME.P and its gradient NAME.P.grad. The currents are `grid`, multiples of 1/4 that put
potentials on the threshold exactly, or `random`. The Go test says which neuron of package snn
each case is.
"""
import math
import os

import norse.torch.functional.lif as norse_lif
import norse.torch.functional.lsnn as norse_lsnn
import sinabs.activation
import sinabs.layers
import snntorch
import snntorch.surrogate
import torch
from safetensors.torch import save_file
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

os.chdir(os.path.dirname(os.path.abspath(__file__)))
T, N = 10, 20
g = torch.Generator().manual_seed(3)
currents = {
    "grid": torch.randint(-1, 5, (T, N), generator=g) / 4,
    "random": torch.rand((T, N), generator=g) * 1.6 - 0.4,
}
seed = torch.randn((T, N), generator=g)
out = {**currents, "seed": seed}


def uniform(lo, hi, *shape):
    return lo + (hi - lo) * torch.rand(shape, generator=g)


def record(name, kind, run, **params):
    x = currents[kind].clone().requires_grad_()
    for p in params.values():
        p.grad = None
    spikes = run(x)
    assert spikes.shape == (T, N), spikes.shape
    (spikes * seed).sum().backward()
    assert 0.05 < spikes.mean() < 0.95 and x.grad.isfinite().all() and x.grad.abs().max() > 0, (name, spikes.mean())
    out[name + ".spikes"], out[name + ".grad"] = spikes.detach(), x.grad
    for key, p in params.items():
        out[f"{name}.{key}"] = p.detach().clone()
        if p.requires_grad:
            assert p.grad.abs().max() > 0, (name, key)
            out[f"{name}.{key}.grad"] = p.grad


# SpikingJelly
def jelly(name, kind, node, **params):
    node.step_mode = "m"
    record("spikingjelly." + name, kind, node, **params)


ATan = surrogate.ATan
for name, kind, settings in [
    ("plif", "random", dict(v_threshold=0.2)),
    ("plif_grid", "grid", dict(init_tau=2.0, v_threshold=0.25)),
    ("plif_plain", "random", dict(decay_input=False, v_threshold=0.8, surrogate_function=ATan(2.0))),
    ("plif_soft", "random", dict(v_threshold=0.2, v_reset=None)),
    ("plif_detach", "random", dict(v_threshold=0.2, v_reset=None, detach_reset=True)),
]:
    plif = neuron.ParametricLIFNode(**{"init_tau": 3.0, **settings})
    jelly(name, kind, plif, w=plif.w)
jelly("qif", "random", neuron.QIFNode(tau=1.5, v_c=0.2, a0=0.7, v_threshold=0.4, v_rest=-0.1, v_reset=-0.2))
jelly("lif", "grid", neuron.LIFNode(tau=2.0, v_threshold=0.25))
jelly("lif_soft", "random", neuron.LIFNode(tau=3.0, v_threshold=0.3, v_reset=None))


def stepwise(net):
    def run(x):
        functional.reset_net(net)
        return torch.cat([net(row.unsqueeze(0)) for row in x])

    return run


weight = (uniform(-1, 1, N, N) / 3).requires_grad_()


class Feedback(nn.Module):  # the weight alone as a parameter, beside the identity
    def forward(self, x):
        return nn.functional.linear(x, torch.cat([torch.eye(N), weight], 1))


container = layer.LinearRecurrentContainer(neuron.LIFNode(tau=2.0, decay_input=False, v_threshold=0.7), N, N, bias=False)
container.rc = Feedback()
record("spikingjelly.linear_recurrent", "random", stepwise(container), **{"recurrent.weight": weight})
plif = neuron.ParametricLIFNode(init_tau=2.0, v_threshold=0.4, v_reset=None)
container = layer.LinearRecurrentContainer(plif, N, N, bias=False)
container.rc = Feedback()
record("spikingjelly.linear_recurrent_plif", "random", stepwise(container), **{"recurrent.weight": weight, "w": plif.w})
v = torch.tensor(-0.6, requires_grad=True)
container = layer.ElementWiseRecurrentContainer(neuron.IFNode(v_threshold=0.7), lambda y, x: x + v * y)
record("spikingjelly.elementwise_recurrent", "random", stepwise(container), V=v)


# snnTorch
def torch_neuron(name, kind, node, states, **params):
    def run(x):
        state, spikes = [torch.zeros(N)] * states, []
        for row in x:
            s, *state = node(row, *state)
            if isinstance(node, snntorch.RLeaky):
                state = [s, *state]
            spikes.append(s)
        return torch.stack(spikes)

    record("snntorch." + name, kind, run, **params)


learned = dict(learn_beta=True, learn_threshold=True)
node = snntorch.Leaky(beta=uniform(0.4, 1.1, N), threshold=uniform(0.6, 1.2, N), reset_mechanism="zero", **learned)
node.beta.data[:2] = torch.tensor([-0.25, 1.5])  # beyond [0,1]
torch_neuron("leaky", "random", node, 1, beta=node.beta, threshold=node.threshold)
node = snntorch.Leaky(beta=0.9, threshold=0.75, reset_mechanism="zero", spike_grad=snntorch.surrogate.fast_sigmoid(5), **learned)
torch_neuron("leaky_layer", "grid", node, 1, beta=node.beta, threshold=node.threshold)
node = snntorch.Leaky(beta=1.0, threshold=uniform(0.6, 1.2, N), learn_threshold=True)
torch_neuron("leaky_subtract_if", "random", node, 1, beta=node.beta, threshold=node.threshold)

now = dict(reset_mechanism="zero", reset_delay=False)
node = snntorch.Synaptic(alpha=uniform(0.2, 0.9, N), beta=uniform(0.3, 0.9, N), threshold=uniform(0.8, 1.5, N), learn_alpha=True, **learned, **now)
torch_neuron("synaptic", "random", node, 2, alpha=node.alpha, beta=node.beta, threshold=node.threshold)
node = snntorch.Synaptic(alpha=0.5, beta=0.75, threshold=1.25, learn_alpha=True, **learned, **now)
torch_neuron("synaptic_layer", "grid", node, 2, alpha=node.alpha, beta=node.beta, threshold=node.threshold)

node = snntorch.RLeaky(beta=uniform(0.4, 0.9, N), V=uniform(-0.7, 0.7, N), all_to_all=False, threshold=0.8, **learned, **now)
torch_neuron("rleaky", "random", node, 2, beta=node.beta, V=node.V, threshold=node.threshold)
torch.manual_seed(4)
node = snntorch.RLeaky(beta=0.8, linear_features=N, threshold=0.8, **learned, **now)
nn.init.zeros_(node.recurrent.bias)
node.recurrent.bias.requires_grad = False
torch_neuron("rleaky_all", "random", node, 2, beta=node.beta, threshold=node.threshold, **{"recurrent.weight": node.recurrent.weight})


# norse. Its LIF adds the input to the current, and then the current to the potential.
def norse_cuba(x):
    p = norse_lif.LIFParameters(tau_syn_inv=torch.tensor(300.0), tau_mem_inv=torch.tensor(400.0), v_th=torch.tensor(0.5), v_reset=torch.tensor(-0.25))
    state, spikes = norse_lif.LIFFeedForwardState(v=torch.zeros(N), i=torch.zeros(N)), []
    for row in x:
        s, state = norse_lif.lif_feed_forward_step(row, state, p)
        spikes.append(s)
    return torch.stack(spikes)


record("norse.lif", "random", norse_cuba)


# Its LSNN adds the input after the potential: the spikes are one step late. The state here
# holds the first input, so that they are in time.
def norse_alif(x):
    p = norse_lsnn.LSNNParameters(
        tau_syn_inv=torch.tensor(500.0), tau_mem_inv=torch.tensor(400.0), tau_adapt_inv=torch.tensor(250.0),
        v_th=torch.tensor(0.4), beta=beta)
    state, spikes = norse_lsnn.LSNNFeedForwardState(v=torch.zeros(N), i=x[0], b=torch.full((N,), 0.4)), []
    for row in torch.cat([x[1:], torch.zeros(1, N)]):
        s, state = norse_lsnn.lsnn_feed_forward_step(row, state, p)
        spikes.append(s)
    return torch.stack(spikes)


beta = torch.tensor(0.3, requires_grad=True)
record("norse.lsnn", "random", norse_alif, adaptation=beta)


# Sinabs. Its spike has no gradient by the threshold, so the adaptation has one by the reset
# alone; the Go test compares the spikes.
def sinabs_neuron(name, node):
    record("sinabs." + name, "random", lambda x: node(x.t().unsqueeze(-1)).squeeze(-1).t())


settings = dict(tau_mem=torch.tensor(3.0), tau_adapt=torch.tensor(5.0), adapt_scale=0.6, spike_threshold=torch.tensor(0.2))
sinabs_neuron("alif", sinabs.layers.ALIF(**settings))
sinabs_neuron("alif_plain", sinabs.layers.ALIF(**{**settings, "spike_threshold": torch.tensor(0.9)}, norm_input=False, reset_fn=sinabs.activation.MembraneReset()))

save_file({k: v.contiguous() for k, v in out.items()}, "glif.safetensors")
print(len(out), "tensors")
