"""Times how fast public tools decode a file of events: python peers.py FILE [RUNS].

Each tool reads the whole file by its fastest call. The run with the least processor time counts,
which other programs on the machine disturb less than the time on the wall.
"""
import sys
import time

import numpy as np

path, runs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
readers = {}


def reader(name):
    def register(fn):
        readers[name] = fn
        return fn
    return register


if path.endswith((".raw", ".dat", ".aedat4")):
    @reader("faery 0.7.1")
    def _():
        import faery
        return sum(len(p) for p in faery.events_stream_from_file(path))

    @reader("evlib 0.13.2")
    def _():
        import evlib
        return evlib.load_events(path).collect().height

if path.endswith((".raw", ".dat")):
    @reader("expelliarmus 1.1.12")
    def _():
        import expelliarmus
        with open(path, "rb") as f:
            head = f.read(100)
        encoding = "dat" if path.endswith(".dat") else "evt3" if b"evt 3.0" in head else "evt2"
        return len(expelliarmus.Wizard(encoding=encoding).read(path))

if path.endswith(".aedat4"):
    @reader("dv-processing 2.0.4")
    def _():
        import dv_processing as dv
        recording, n = dv.io.MonoCameraRecording(path), 0
        while recording.isRunning():
            batch = recording.getNextEventBatch()
            n += 0 if batch is None else batch.size()
        return n

    @reader("aedat 2.3.0")
    def _():
        import aedat
        return sum(len(p["events"]) for p in aedat.Decoder(path) if "events" in p)

if path.endswith(".bin"):
    @reader("tonic 1.7.0")
    def _():
        import tonic.io
        return len(tonic.io.read_mnist_file(path, np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])))

    @reader("spikingjelly 2.0.0")
    def _():
        from spikingjelly.datasets import utils
        return len(utils.load_ATIS_bin(path)["t"])

for name, fn in readers.items():
    best, n = float("inf"), 0
    try:
        for _ in range(runs):
            start = time.process_time()
            n = fn()
            best = min(best, time.process_time() - start)
    except BaseException as e:
        print(f"{name}: {e}")
        continue
    print(f"{name}: {n} events, {n / best / 1e6:.1f} Mevents/cpu-s")
