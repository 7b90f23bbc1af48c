"""Writes graphs with nir, and what each library makes of them, to the folder peers beside this file.

pip install --no-deps nir==1.0.8 nirtorch==2.6 snntorch==1.0.0 spikingjelly==2.0.0 norse==1.1.0 sinabs==3.1.3 rockpool==3.1.0
and torch, numpy, h5py.

peers.json has for each graph its time step dt, the input of each step, and by library what it puts out at each
step, or its error. "said" is what the library printed, logged or warned about while it read the graph.
"""
import contextlib
import io
import json
import logging
import os
import warnings

import nir
import nirtorch
import numpy as np
import torch

STEPS, DT = 16, 1e-4
torch.manual_seed(1)
frames = (torch.rand(STEPS, 4) < 0.5).float()


def full(v, n=4):
    return np.full(n, v, dtype=np.float64)


def affine(seed, *shape, bias=True):
    # Multiples of 1/16: sums of them are exact in float32.
    r = np.random.default_rng(seed)
    w = r.integers(-1, 6, shape).astype(np.float32) / 16
    return nir.Affine(w, r.integers(1, 3, shape[0]).astype(np.float32) / 16) if bias else nir.Linear(w)


def lif(dt=DT, tau=4, r=4.0, v_leak=0.0, v_threshold=1.015625, v_reset=0.0):
    return nir.LIF(tau=full(tau * dt), r=full(r), v_leak=full(v_leak), v_threshold=v_threshold + full(0.0), v_reset=full(v_reset))


def cuba(r=4.0, w_in=2.0, v_leak=0.0, v_threshold=1.515625):
    return nir.CubaLIF(tau_syn=full(2 * DT), tau_mem=full(4 * DT), r=full(r), v_leak=full(v_leak), v_threshold=full(v_threshold), w_in=full(w_in))


def chain(*nodes, edges=(), **more):
    names = {"input": nir.Input(np.array([4])), **{chr(97 + i): n for i, n in enumerate(nodes)}, "output": nir.Output(np.array([4])), **more}
    row = [n for n in names if n not in more]
    return nir.NIRGraph(names, list(zip(row, row[1:])) + list(edges))


half = nir.Affine(np.eye(4, dtype=np.float32) / 2, np.full(4, 0.5, dtype=np.float32))  # 1/2 or 1
GRAPHS = {
    "lif": (DT, chain(affine(1, 4, 4), lif())),
    "lif_steps": (1, chain(affine(1, 4, 4), lif(dt=1))),  # time in steps
    "lif_r": (DT, chain(affine(1, 4, 4), lif(r=6.0))),
    "lif_r1": (DT, chain(affine(1, 4, 4), lif(r=1.0, v_threshold=0.265625))),
    "lif_leak": (DT, chain(affine(1, 4, 4), lif(v_leak=0.125, v_reset=0.125))),
    "lif_reset": (DT, chain(affine(1, 4, 4), lif(v_reset=-0.25))),
    "lif_vary": (DT, chain(affine(1, 4, 4), lif(v_threshold=np.array([0.515625, 1.015625, 1.515625, 2.015625])))),
    "lif_tie": (DT, chain(half, lif(v_threshold=1.0))),
    "if": (DT, chain(affine(1, 4, 4), nir.IF(r=full(1 / DT), v_threshold=full(1.015625), v_reset=full(0.0)))),
    "if_tie": (DT, chain(half, nir.IF(r=full(1 / DT), v_threshold=full(1.0), v_reset=full(0.0)))),
    "if_r1": (DT, chain(affine(1, 4, 4), nir.IF(r=full(1.0), v_threshold=full(1.015625), v_reset=full(0.0)))),
    "if_reset": (DT, chain(affine(1, 4, 4), nir.IF(r=full(1 / DT), v_threshold=full(1.015625), v_reset=full(-0.25)))),
    "cuba": (DT, chain(affine(1, 4, 4), cuba())),
    "cuba_w": (DT, chain(affine(1, 4, 4), cuba(w_in=3.0))),
    "cuba_leak": (DT, chain(affine(1, 4, 4), cuba(v_leak=0.125))),
    "li": (DT, chain(affine(1, 4, 4), lif(r=1.0, v_threshold=0.265625), affine(2, 4, 4, bias=False), nir.LI(tau=full(4 * DT), r=full(1.0), v_leak=full(0.0)))),
    "skip": (DT, chain(affine(1, 4, 4), lif(r=1.0, v_threshold=0.265625), affine(2, 4, 4, bias=False), lif(r=1.0, v_threshold=0.265625), edges=[("b", "d")])),
    "recurrent": (DT, chain(affine(1, 4, 4), cuba(), back=affine(3, 4, 4, bias=False), edges=[("b", "back"), ("back", "b")])),
}


def steps(net, x):
    """Runs a network of nirtorch step by step, with the state of the step before."""
    out, state = [], None
    for t in range(STEPS):
        y, state = net(x[t : t + 1], state) if state is not None else net(x[t : t + 1])
        if isinstance(y, tuple):  # spikes and potential
            y = y[0]
        out.append(y)
    return torch.cat(out)


def snntorch_(graph, dt):
    from snntorch.import_nir import import_from_nir

    net = import_from_nir(graph)  # has no dt: 1e-4
    return lambda x: steps(net, x)


def spikingjelly_(graph, dt):
    from spikingjelly.activation_based import nir_exchange

    net = nir_exchange.import_from_nir(graph, dt=dt)
    return lambda x: steps(net, x)


def norse_(graph, dt):
    import norse.torch

    net = norse.torch.from_nir(graph, dt=dt)
    return lambda x: steps(net, x)


def sinabs_(graph, dt):
    import sinabs.nir

    net = sinabs.nir.from_nir(graph, batch_size=1)  # has no dt
    return lambda x: net(x)[0]


def rockpool_(graph, dt):
    import rockpool.nn.modules.torch.nir

    net = rockpool.nn.modules.torch.nir.from_nir(graph)  # has no dt
    return lambda x: steps(net, x.reshape(STEPS, 1, 4))


def outcome(library, path, dt):
    text, log = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)
    result = {}
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            run = library(nir.read(path), dt)
            said = text.getvalue() + log.getvalue() + "".join(str(w.message) + "\n" for w in warned)
            result["said"] = " ".join(said.split())
            y = run(frames).detach().numpy()
            result["out"] = [[float(np.float32(v)) for v in row] for row in y.reshape(STEPS, -1)]
    except Exception as e:
        result["error"] = f"{type(e).__name__}: " + " ".join(str(e).split())
    finally:
        logging.getLogger().removeHandler(handler)
    return result


folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers")
os.makedirs(folder, exist_ok=True)
table = {}
for name, (dt, graph) in GRAPHS.items():
    path = os.path.join(folder, name + ".nir")
    nir.write(path, graph)
    table[name] = {"dt": dt, "in": frames.tolist(), "peers": {}}
    for library in (snntorch_, spikingjelly_, norse_, sinabs_, rockpool_):
        r = outcome(library, path, dt)
        table[name]["peers"][library.__name__.strip("_")] = r
        print(name, library.__name__, r.get("error", ""), np.sum(r.get("out", 0)), r.get("said", "")[:150], sep="  ")
with open(os.path.join(folder, "peers.json"), "w") as f:
    json.dump(table, f, indent=None, separators=(",", ":"))
