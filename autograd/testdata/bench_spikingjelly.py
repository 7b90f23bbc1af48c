"""Times layers of neurons in SpikingJelly, forward and backward, as BenchmarkNeurons does.

pip install torch==2.15.0 spikingjelly==2.0.0
python bench_spikingjelly.py [threads [repetitions]]

The layers are in multi-step mode with the torch backend. Where SpikingJelly has no such
neuron, one is built from its parts: ALIF is a subclass of its BaseNode, and the recurrent
layer is its ElementWiseRecurrentContainer around a LIFNode. "channels" has a 1×1 convolution
in that container, and "plain" is a loop in plain PyTorch. Three surrogates are tried; the
fastest counts and is named in the output. Times are in milliseconds a call: the median and
the range, and the median of the processor time.
"""

import statistics
import sys
import time

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate

T, N, C, H, W = 8, 16, 128, 16, 16


class ALIF(neuron.BaseNode):
    """Adaptive threshold of Bellec et al. 2018, hard reset."""

    def __init__(self, decay, adaptation, adaptation_decay, **kwargs):
        super().__init__(**kwargs)
        self.decay, self.adaptation, self.adaptation_decay = decay, adaptation, adaptation_decay
        self.register_memory("a", 0.0)

    def materialize_states(self, inputs, states, step_mode):
        states = super().materialize_states(inputs, states, step_mode)
        x, a = states[0], states[1]
        if isinstance(a, float):
            a = torch.full_like(x, a, requires_grad=False)
        return (x, a, *states[2:])

    def single_step_functional_forward(self, inputs, states, **kwargs):
        v, a = states[0], states[1]
        v = self.decay * v + inputs[0]
        s = self.surrogate_function(v - (self.v_threshold + self.adaptation * a))
        v = v * (1.0 - s)
        a = self.adaptation_decay * a + (1.0 - self.adaptation_decay) * s
        return (s,), (v, a, *states[2:])


class Recurrence(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(-0.2))

    def forward(self, y, x):
        return x + self.w * y


class Recurrent(torch.nn.Module):
    def __init__(self, f, **kwargs):
        super().__init__()
        self.f = f
        self.layer = layer.ElementWiseRecurrentContainer(neuron.LIFNode(tau=2.0, **kwargs), self.f, step_mode="m")

    def forward(self, x):
        return self.layer(x)


class Channels(torch.nn.Module):
    """Recurrence over all channels of a pixel."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(C, C, 1, bias=False)

    def forward(self, y, x):
        return x if isinstance(y, float) else x + self.conv(y)


class Loop(torch.nn.Module):
    """A LIF neuron as a loop over steps in plain PyTorch, with a surrogate of SpikingJelly."""

    def __init__(self, surrogate_function):
        super().__init__()
        self.surrogate_function = surrogate_function

    def forward(self, x):
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            v = 0.5 * v + current
            s = self.surrogate_function(v - 1)
            v = v * (1 - s)
            spikes.append(s)
        return torch.stack(spikes)


def cuba(surrogate_function):
    node = neuron.CUBALIFNode(c_decay=0.5, v_decay=0.75, v_threshold=1.0, v_reset=0.0, surrogate_function=surrogate_function)
    node.step_mode = "m"
    return node


LAYERS = {
    "PLIF": lambda s: neuron.ParametricLIFNode(surrogate_function=s, step_mode="m"),
    "ALIF": lambda s: ALIF(0.9, 0.5, 0.8, surrogate_function=s, step_mode="m"),
    "CuBaLIF": cuba,
    "recurrent": lambda s: Recurrent(Recurrence(), surrogate_function=s),
    "LIF": lambda s: neuron.LIFNode(surrogate_function=s, step_mode="m"),
    "channels": lambda s: Recurrent(Channels(), surrogate_function=s),
    "plain": Loop,
}
SURROGATES = {
    "Sigmoid": lambda: surrogate.Sigmoid(),
    "ATan": lambda: surrogate.ATan(),
    "PiecewiseQuadratic": lambda: surrogate.PiecewiseQuadratic(alpha=1.0),
}


def main():
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    repetitions = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    torch.manual_seed(0)
    x = torch.randn(T, N, C, H, W, requires_grad=True)
    seed = torch.randn(T, N, C, H, W)
    for name, make in LAYERS.items():
        best = None
        for kind, surrogate_function in SURROGATES.items():
            net = make(surrogate_function())
            times, used = [], []
            for i in range(repetitions + 2):
                functional.reset_net(net)
                x.grad = None
                net.zero_grad()
                start, cpu = time.perf_counter(), time.process_time()
                y = net(x)
                y.backward(seed)
                if i >= 2:
                    times.append(1e3 * (time.perf_counter() - start))
                    used.append(1e3 * (time.process_time() - cpu))
            result = (statistics.median(times), min(times), max(times), statistics.median(used), kind, y.mean().item())
            best = min(best or result, result)
        print("{:10} {:8.1f} ({:.1f} to {:.1f})  cpu {:.1f}  {}, rate {:.3f}".format(name, *best), flush=True)


main()
