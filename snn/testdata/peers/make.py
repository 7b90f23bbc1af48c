"""Makes the files of this folder: what SpikingJelly and snnTorch compute.

    python3 -m pip install torch==2.15.0 spikingjelly==2.0.0 snntorch==1.0.0 nir==1.0.8 nirtorch==2.6 safetensors==0.8.0
    python3 make.py

neurons.safetensors holds, for each case NAME, the neurons' spikes NAME.spikes and the
gradient NAME.grad of sum(spikes * seed) by their currents, all of shape [T, N]. The
currents are `grid`, multiples of 1/4 that put potentials on the threshold exactly, or
`random`. The Go test says which neuron of package snn each case is. NAME.nir is tau, r,
v_threshold and v_leak of the NIR graph that SpikingJelly exports with dt = 1e-4; IF has
neither tau nor v_leak, here 0.

convnet.pth and rates.safetensors are state dicts of whole SpikingJelly networks,
leaky.safetensors the layers with weights of one of snnTorch; networks.safetensors holds the images, the logits (the mean over T of the output), and the
gradient of sum(logits * seed) by the images.
"""
import os

import snntorch
import snntorch.surrogate
import torch
from safetensors.torch import save_file
from spikingjelly.activation_based import functional, layer, neuron, nir_exchange, surrogate
from torch import nn

os.chdir(os.path.dirname(os.path.abspath(__file__)))
T, N = 10, 32
g = torch.Generator().manual_seed(1)
currents = {
    "grid": torch.randint(-1, 5, (T, N), generator=g) / 4,
    "random": torch.rand((T, N), generator=g) * 1.6 - 0.4,
}
# The first neurons' currents, where snnTorch's rules are told apart: a potential on the
# threshold; a reset that the decay comes before or after; a potential above twice the threshold.
for i, x in enumerate([[0.5, 0.75, 0, 0], [1.5, 1, 0, 0], [3, 0, 0, 0.5]]):
    currents["grid"][:4, i] = torch.tensor(x)
seed = torch.randn((T, N), generator=g)
out = {**currents, "seed": seed}


def record(name, kind, run):
    x = currents[kind].clone().requires_grad_()
    spikes = run(x)
    (spikes * seed).sum().backward()
    assert 0.05 < spikes.mean() < 0.95 and x.grad.isfinite().all() and x.grad.abs().max() > 0, name
    out[name + ".spikes"], out[name + ".grad"] = spikes.detach(), x.grad


def spikingjelly(name, kind, node):
    if node.v_reset is not None:  # NIR has no other reset
        graph = nir_exchange.export_to_nir(nn.Sequential(layer.Linear(3, 2), node), torch.zeros(1, 3), dt=1e-4)
        lif = next(n for n in graph.nodes.values() if hasattr(n, "v_threshold"))
        values = [getattr(lif, key, [0])[0] for key in ("tau", "r", "v_threshold", "v_leak")]
        assert lif.v_reset[0] == node.v_reset and values[3] in (0, node.v_reset)
        out[f"spikingjelly.{name}.nir"] = torch.tensor(values).float()
        functional.reset_net(node)
    node.step_mode = "m"
    record("spikingjelly." + name, kind, node)


def leaky(name, kind, **settings):
    node = snntorch.Leaky(**settings)

    def run(x):
        spikes, mem = [], node.reset_mem()
        for current in x:
            s, mem = node(current, mem)
            spikes.append(s)
        return torch.stack(spikes)

    record("snntorch." + name, kind, run)


Sigmoid, ATan = surrogate.Sigmoid, surrogate.ATan
spikingjelly("if", "grid", neuron.IFNode())
spikingjelly("if_soft", "grid", neuron.IFNode(v_threshold=0.75, v_reset=None, surrogate_function=ATan(2.0), detach_reset=True))
spikingjelly("if_reset", "random", neuron.IFNode(v_threshold=0.5, v_reset=-0.25))
spikingjelly("lif_plain", "grid", neuron.LIFNode(tau=2.0, decay_input=False))
spikingjelly("lif_plain_soft", "random", neuron.LIFNode(tau=3.0, decay_input=False, v_reset=None, detach_reset=True, surrogate_function=ATan(3.0)))
spikingjelly("lif_plain_reset", "random", neuron.LIFNode(tau=4.0, decay_input=False, v_threshold=0.5, v_reset=-0.25))
spikingjelly("lif", "grid", neuron.LIFNode(tau=2.0, v_threshold=0.25))
spikingjelly("lif_soft", "random", neuron.LIFNode(tau=3.0, v_threshold=0.3, v_reset=None))
spikingjelly("lif_reset", "random", neuron.LIFNode(tau=2.5, v_threshold=0.5, v_reset=0.25, surrogate_function=ATan(2.0)))
plif = neuron.ParametricLIFNode(init_tau=3.0, v_threshold=0.2)
out["plif.w"] = plif.w.detach().clone()
spikingjelly("plif", "random", plif)
spikingjelly("piecewise_quadratic", "random", neuron.LIFNode(tau=2.0, v_threshold=0.25, surrogate_function=surrogate.PiecewiseQuadratic(2.0)))
spikingjelly("rect", "random", neuron.IFNode(surrogate_function=surrogate.Rect(2.0)))
spikingjelly("soft_sign", "random", neuron.IFNode(surrogate_function=surrogate.SoftSign(2.0)))

leaky("zero", "grid", beta=0.5, reset_mechanism="zero")
leaky("zero_random", "random", beta=0.9, threshold=0.7, reset_mechanism="zero", spike_grad=snntorch.surrogate.fast_sigmoid(25))
leaky("zero_now", "random", beta=0.9, reset_mechanism="zero", reset_delay=False, spike_grad=snntorch.surrogate.sigmoid(5))
leaky("subtract_if", "grid", beta=1.0)
leaky("subtract", "grid", beta=0.5)
leaky("subtract_now", "random", beta=0.5, reset_delay=False)  # no potential exceeds 2
leaky("subtract_now_stuck", "grid", beta=0.9, reset_delay=False)
save_file({k: v.contiguous() for k, v in out.items()}, "neurons.safetensors")


# Whole networks, in evaluation mode; the batch norms have seen other images.
def run(net, images, steps):
    functional.reset_net(net)
    return net(images.unsqueeze(0).repeat(steps, 1, 1, 1, 1)).mean(0)


def finish(name, net, images, steps, seed):
    functional.set_step_mode(net, "m")
    spikes = {}  # of each layer of neurons, in evaluation

    def note(node, _, y):
        if not net.training:
            spikes.setdefault(node, []).append((y[0] if type(y) is tuple else y).detach().flatten())

    for m in net.modules():
        if isinstance(m, (neuron.BaseNode, snntorch.Leaky)):
            m.register_forward_hook(note)
    net.train()
    with torch.no_grad():
        for _ in range(30):
            run(net, torch.rand(8, *images.shape[1:]), steps)
    net.eval()
    x = images.clone().requires_grad_()
    logits = run(net, x, steps)
    (logits * seed).sum().backward()
    rates = [torch.cat(s).mean().item() for s in spikes.values()]
    assert 0.02 < min(rates) and max(rates) < 0.98, rates
    networks[name + ".logits"], networks[name + ".grad"] = logits.detach(), x.grad


torch.manual_seed(2)
networks = {"images": torch.rand(6, 2, 8, 8), "seed": torch.randn(6, 5)}
convnet = nn.Sequential(
    layer.Conv2d(2, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), neuron.IFNode(surrogate_function=ATan(2.0)),
    layer.MaxPool2d(2),
    layer.Conv2d(8, 12, 3, padding=1), layer.BatchNorm2d(12), neuron.IFNode(surrogate_function=ATan(2.0)),
    layer.AvgPool2d(2), layer.Flatten(), layer.Linear(48, 20), neuron.IFNode(surrogate_function=ATan(2.0)),
    layer.Dropout(0.5), layer.Linear(20, 5))
finish("convnet", convnet, networks["images"], 4, networks["seed"])
torch.save(convnet.state_dict(), "convnet.pth")

rates = nn.Sequential(
    layer.Conv2d(2, 8, 3, padding=1), layer.BatchNorm2d(8), neuron.LIFNode(tau=2.0, v_threshold=0.5),
    layer.AvgPool2d(4), layer.Flatten(), layer.Linear(32, 5), neuron.LIFNode(tau=2.0, v_threshold=0.1))
finish("rates", rates, networks["images"], 4, networks["seed"])
save_file(rates.state_dict(), "rates.safetensors")


class Leaky(nn.Module):
    def __init__(self):
        super().__init__()
        settings = dict(beta=0.9, threshold=0.5, reset_mechanism="zero")
        self.conv1, self.bn1, self.lif1 = nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), snntorch.Leaky(**settings)
        self.pool, self.fc1, self.lif2 = nn.AvgPool2d(2), nn.Linear(128, 20), snntorch.Leaky(**settings)
        self.fc2 = nn.Linear(20, 5)

    def forward(self, x_seq):
        mem1, mem2, out = self.lif1.reset_mem(), self.lif2.reset_mem(), []
        for x in x_seq:
            spikes, mem1 = self.lif1(self.bn1(self.conv1(x)), mem1)
            spikes, mem2 = self.lif2(self.fc1(self.pool(spikes).flatten(1)), mem2)
            out.append(self.fc2(spikes))
        return torch.stack(out)


leaky = Leaky()
finish("leaky", leaky, networks["images"], 4, networks["seed"])
weights = {k: v for k, v in leaky.state_dict().items() if not k.startswith("lif")}
save_file(weights, "leaky.safetensors")
save_file(networks, "networks.safetensors")
