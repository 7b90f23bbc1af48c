"""Writes the NIR files of this folder, and what the libraries that wrote them put out.

pip install --no-deps nir==1.0.8 nirtorch==2.6 snntorch==1.0.0 spikingjelly==2.0.0 norse==1.1.0 sinabs==3.1.3 rockpool==3.1.0
and torch, numpy, h5py. NAME.json has dt, the input of each step, and the output of each step.
"""
import json
import sys
import warnings

warnings.filterwarnings("ignore")
import nir
import numpy as np
import torch

STEPS = 12


def save(name, graph, dt, x, y, **extra):
    nir.write(name + ".nir", graph)
    rounded = lambda a: [[float(np.float32(v)) for v in row] for row in np.asarray(a).reshape(len(a), -1)]
    with open(name + ".json", "w") as f:
        json.dump({"dt": dt, "in": rounded(x), "out": rounded(y), **extra}, f)
    print(name, "spikes or values", np.asarray(y).sum())


def frames(*shape):
    return (torch.rand(STEPS, 1, *shape) < 0.5).float()


def snntorch_():
    import snntorch as snn
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(1)
    beta, theta = torch.full((5,), 0.75), torch.full((5,), 0.6)
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), snn.Leaky(beta=beta, threshold=theta, reset_mechanism="zero", reset_delay=False, init_hidden=False))
    x, mem, out = frames(6), net[1].init_leaky(), []
    for t in range(STEPS):
        spk, mem = net[1](net[0](2 * x[t]), mem)
        out.append(spk.detach().numpy())
    net[0].weight.data *= 2  # of the doubled input
    graph = export_to_nir(net, torch.zeros(1, 6), ignore_dims=[0])
    save("snntorch_leaky", graph, 1e-4, x, out)

    torch.manual_seed(2)
    syn = snn.Synaptic(alpha=torch.full((5,), 0.5), beta=torch.full((5,), 0.75), threshold=torch.full((5,), 0.9), reset_mechanism="zero", reset_delay=False)
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), syn)
    x, (cur, mem), out = frames(6), syn.init_synaptic(), []
    for t in range(STEPS):
        spk, cur, mem = syn(net[0](x[t]), cur, mem)
        out.append(spk.detach().numpy())
    save("snntorch_synaptic", export_to_nir(net, torch.zeros(1, 6), ignore_dims=[0]), 1e-4, x, out)


def spikingjelly_():
    from spikingjelly.activation_based import functional, layer, neuron, nir_exchange

    torch.manual_seed(3)
    net = torch.nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1, bias=True), neuron.IFNode(v_threshold=0.3, v_reset=0.0),
        layer.AvgPool2d(2), layer.Flatten(), layer.Linear(16, 5), neuron.LIFNode(tau=2.0, decay_input=True, v_threshold=0.05, v_reset=0.0))
    x, out = frames(2, 4, 4), []
    functional.reset_net(net)
    for t in range(STEPS):
        out.append(net(x[t]).detach().numpy())
    functional.reset_net(net)
    save("spikingjelly", nir_exchange.export_to_nir(net, torch.zeros(1, 2, 4, 4)), 1e-4, x, out)


def norse_():
    import norse.torch as norse
    from norse.torch.utils.export_nir import to_nir

    torch.manual_seed(4)
    p = norse.LIFBoxParameters(tau_mem_inv=torch.full((5,), 250.0), v_th=torch.full((5,), 0.2), v_leak=torch.zeros(5))
    cell = norse.LIFBoxCell(p, dt=0.001)
    net = norse.SequentialState(torch.nn.Linear(6, 5), cell)
    x, state, out = frames(6), None, []
    for t in range(STEPS):
        y, state = net(x[t], state)
        out.append(y.detach().numpy())
    # The file's tau is dt divided by tau_mem_inv in place of 1/tau_mem_inv: it means the steps of dt².
    save("norse_lifbox", to_nir(net, torch.zeros(1, 6)), 1e-6, x, out)


def sinabs_():
    import sinabs.layers as sl
    from sinabs.nir import to_nir

    torch.manual_seed(5)
    lif = sl.LIFSqueeze(tau_mem=torch.full((5,), 4.0), spike_threshold=torch.full((5,), 0.05), norm_input=True, batch_size=1, reset_fn=__import__("sinabs").activation.MembraneReset(), spike_fn=__import__("sinabs").activation.SingleSpike)
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), lif)
    x, out = frames(6), []
    out = lif(net[0](x.reshape(STEPS, 6))).reshape(STEPS, 1, 5).detach().numpy()
    lif.reset_states()
    save("sinabs_lif", to_nir(net, torch.zeros(1, 6)), 1, x, out)


def rockpool_():
    from rockpool.nn.modules import LIFTorch, LinearTorch
    from rockpool.nn.combinators import Sequential
    from rockpool.nn.modules.torch.nir import to_nir

    torch.manual_seed(6)
    net = Sequential(LinearTorch((6, 5), has_bias=False), LIFTorch((5,), tau_mem=0.02, tau_syn=0.01, threshold=0.3, dt=1e-3))
    x = frames(6)
    y, _, _ = net(x.reshape(1, STEPS, 6))
    save("rockpool_lif", to_nir(net, torch.zeros(1, 6)), 1e-3, x, y.detach().numpy().reshape(STEPS, 1, 5))


for f in (snntorch_, spikingjelly_, norse_, sinabs_, rockpool_):
    try:
        f()
    except Exception as e:  # the others are written
        print(f.__name__, type(e).__name__, e, file=sys.stderr)
