"""Writes files of random events, and times how fast public tools decode them.

    python peers.py make FILE EVENTS
    python peers.py FILE [RUNS [TOOL ...]]

The name of FILE says what is written: single.raw (EVT3), vectors.raw (EVT3), nmnist.bin, and
plain.aedat4, lz4.aedat4 and zstd.aedat4, which faery writes in packets of 4096 events.

Each tool reads the whole file by its fastest call. The fastest run counts, by the processor's time
and by the time on the wall.
"""
import sys
import time

import numpy as np

W, H = 640, 480


def evt3(t, *columns):
    """Words of events in the order of time. A time and a row are written where they change."""
    high, low, (y, *rest) = t >> 12, t & 0xFFF, columns
    changed = np.r_[True, high[1:] != high[:-1]]
    words = [0x8000 | high & 0xFFF, 0x6000 | low, y, *rest]
    keep = [changed, changed | np.r_[True, low[1:] != low[:-1]], np.r_[True, y[1:] != y[:-1]]]
    keep += [np.ones(len(t), bool)] * len(rest)
    return np.stack(words, 1)[np.stack(keep, 1)].astype("<u2")


def make(path, n, part=4_000_000):
    rng = np.random.default_rng(3)
    if path.endswith(".aedat4"):
        import faery
        ev = np.zeros(n, dtype=faery.EVENTS_DTYPE)
        ev["t"] = np.cumsum(rng.integers(0, 5, n, np.uint8), dtype=np.uint64)
        ev["x"], ev["y"], ev["on"] = rng.integers(0, W, n, np.uint16), rng.integers(0, H, n, np.uint16), rng.integers(0, 2, n, np.uint8)
        compression = {"plain": None, "lz4": ("lz4", 1), "zstd": ("zstd", 3)}[path.split("/")[-1][:-7]]
        faery.events_stream_from_array(ev, (W, H)).to_file(path, compression=compression)
        return
    with open(path, "wb") as f:
        if path.endswith(".raw"):
            f.write(b"% evt 3.0\n% format EVT3;height=480;width=640\n% end\n")
        for begin in range(0, n, part):
            k = min(part, n - begin)
            p = rng.integers(0, 2, k)
            if path.endswith(".bin"):
                t = (begin + np.arange(k)) * (1 << 23) // n
                f.write(np.stack([rng.integers(0, 34, k), rng.integers(0, 34, k), p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tobytes())
            elif path.endswith("single.raw"):
                t = 2 * begin + np.sort(rng.integers(0, 2 * k, k))
                f.write(evt3(t, rng.integers(0, H, k), 0x2000 | p << 11 | rng.integers(0, W, k)).tobytes())
            else:  # 16 events on average in vectors of 12, 12 and 8
                k //= 16
                t = 2 * begin + np.sort(rng.integers(0, 32 * k, k))
                f.write(evt3(t, rng.integers(0, H, k), 0x3000 | p[:k] << 11 | rng.integers(0, W - 32, k), 0x4000 | rng.integers(1, 4096, k),
                             0x4000 | rng.integers(1, 4096, k), 0x5000 | rng.integers(1, 256, k)).tobytes())


if sys.argv[1] == "make":
    make(sys.argv[2], int(sys.argv[3]))
    sys.exit()
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
    if len(sys.argv) > 3 and name.split()[0] not in sys.argv[3:]:
        continue
    cpu, wall, n = float("inf"), float("inf"), 0
    try:
        for _ in range(runs):
            start = time.process_time(), time.perf_counter()
            n = fn()
            cpu, wall = min(cpu, time.process_time() - start[0]), min(wall, time.perf_counter() - start[1])
    except BaseException as e:
        print(f"{name}: {e}")
        continue
    print(f"{name}: {n} events, {n / cpu / 1e6:.1f} Mevents/cpu-s, {n / wall / 1e6:.1f} Mevents/s")
