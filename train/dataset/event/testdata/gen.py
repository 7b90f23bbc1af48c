"""Writes the files of this folder, and beside each NAME the events in it, NAME.csv, as t,x,y,p in
our conventions (µs, origin at the top left, 1 for ON). The files are written by public tools
where one writes the format, else by the format's description. The events are those that at
least one public tool reads; the comments name it.

    pip install tonic==1.7.0 spikingjelly==2.0.0 aedat==2.3.0 dv-processing==2.0.4 \
        expelliarmus==1.1.12 evlib==0.13.2 faery==0.7.1
    python gen.py
"""
import pathlib
import struct

import aedat
import dv_processing as dv
import evlib
import expelliarmus
import faery
import numpy as np
import tonic.io
from spikingjelly.datasets import cifar10_dvs, utils as sj

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(21)
N = 300


def events(width, height, end, n=N):
    t = np.sort(rng.integers(0, end, n))
    return np.stack([t, rng.integers(0, width, n), rng.integers(0, height, n), rng.integers(0, 2, n)], 1)


def save(name, rows, readers):
    """Checks that the readers agree, and writes the events."""
    want = np.asarray(rows, dtype=np.int64)
    for who, got in readers.items():
        got = np.asarray(got, dtype=np.int64)
        assert got.shape == want.shape and (got == want).all(), (name, who, got[:4], want[:4], got.shape, want.shape)
    np.savetxt(here / (name + ".csv"), want, fmt="%d", delimiter=",")
    print(f"{name}: {len(want)} events, read by {', '.join(readers)}")


def columns(a, t="t", x="x", y="y", p="p"):
    return np.stack([np.asarray(a[k]).astype(np.int64) for k in (t, x, y, p)], 1)


# N-MNIST, two overflows. spikingjelly returns the markers as events; tonic does not.
ev = events(34, 34, 3 * 8192)
b, base = b"", 0
for t, x, y, p in ev:
    while t - base >= 8192 and base < 2 * 8192:
        b += bytes([0, 240, 0, 0, 0])
        base += 8192
    t -= base
    b += bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255])
(here / "nmnist.bin").write_bytes(b)
dtype = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])
save("nmnist.bin", ev, {"tonic": columns(tonic.io.read_mnist_file(str(here / "nmnist.bin"), dtype))})

# AEDAT 2 of a DVS128. spikingjelly follows jAER's polarity, and turns the picture: its x is from
# y and its y from x. tonic has the polarity of the raw bit.
ev = events(128, 128, 200000)
b = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n"
for t, x, y, p in ev:
    b += struct.pack(">II", (127 - y) << 8 | (127 - x) << 1 | (1 - p), t)
(here / "dvs128.aedat").write_bytes(b)
got = cifar10_dvs._load_origin_data(here / "dvs128.aedat")
save("dvs128.aedat", ev, {"spikingjelly": columns({"t": got["t"], "x": got["y"], "y": got["x"], "p": got["p"]})})

# AEDAT 2 of a DAVIS346.
ev = events(346, 260, 200000)
b = b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.Davis346B\r\n"
for t, x, y, p in ev:
    b += struct.pack(">II", (259 - y) << 22 | (345 - x) << 12 | p << 11, t)
(here / "davis346.aedat").write_bytes(b)
save("davis346.aedat", ev, {"tonic": columns(tonic.io.read_davis_346(str(here / "davis346.aedat"))[2])})

# AEDAT 3.1: two packets of polarity events, one of them after an overflow of time, and one of
# special events between them. All places are in use and valid: spikingjelly returns the others.
ev = events(128, 128, 100000)
ev[N // 2 :, 0] += 1 << 31
b = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2017-01-01 00:00:00 (TZ+0000)\r\n#!END-HEADER\r\n"
for k, part in enumerate((ev[: N // 2], ev[N // 2 :])):
    b += struct.pack("<HHIIIIII", 1, 1, 8, 4, k, len(part), len(part), len(part))
    for t, x, y, p in part:
        b += struct.pack("<II", x << 17 | y << 2 | p << 1 | 1, t & (1 << 31) - 1)
    b += struct.pack("<HHIIIIII", 0, 1, 8, 4, k, 2, 2, 2) + struct.pack("<IIII", 3, 5, 3, 6)
(here / "gesture.aedat").write_bytes(b)
save("gesture.aedat", ev, {"spikingjelly": columns(sj.load_aedat_v3(here / "gesture.aedat"))})

# AEDAT 4, written by dv-processing and faery.
ev = events(346, 260, 300000)
ev[:, 0] += 1_600_000_000_000_000
store = np.zeros(N, dtype=faery.EVENTS_DTYPE)
store["t"], store["x"], store["y"], store["on"] = ev.T


def read_aedat(path):
    rows = [p["events"] for p in aedat.Decoder(str(path)) if "events" in p]
    return columns(np.concatenate(rows), p="on")


def read_dv(path):
    recording, rows = dv.io.MonoCameraRecording(str(path)), []
    while recording.isRunning():
        batch = recording.getNextEventBatch()
        if batch is not None:
            rows.append(columns(batch.numpy(), t="timestamp", p="polarity"))
    return np.concatenate(rows)


def read_faery(path, **kwargs):
    return columns(np.concatenate(list(faery.events_stream_from_file(path, **kwargs))), p="on")


for compression in ("NONE", "LZ4", "LZ4_HIGH", "ZSTD", "ZSTD_HIGH"):
    path = here / f"dv-{compression.lower().replace('_', '-')}.aedat4"
    config = dv.io.MonoCameraWriter.Config("camera")
    config.addEventStream((346, 260))
    config.addTriggerStream()
    config.compression = getattr(dv.CompressionType, compression)
    writer = dv.io.MonoCameraWriter(str(path), config)
    for part in (ev[:100], ev[100:]):
        batch = dv.EventStore()
        for t, x, y, p in part:
            batch.push_back(int(t), int(x), int(y), bool(p))
        writer.writeEvents(batch)
        writer.writeTrigger(dv.Trigger(int(part[-1, 0]), dv.TriggerType.EXTERNAL_SIGNAL_RISING_EDGE))
    del writer
    save(path.name, ev, {"dv-processing": read_dv(path), "aedat": read_aedat(path), "faery": read_faery(path)})
faery.events_stream_from_array(store, (346, 260)).to_file(here / "faery.aedat4", compression=("zstd", 3))
save("faery.aedat4", ev, {"aedat": read_aedat(here / "faery.aedat4"), "dv-processing": read_dv(here / "faery.aedat4"), "faery": read_faery(here / "faery.aedat4")})

# EVT2 and DAT, written by expelliarmus and by faery. faery writes times from 0 on and keeps the
# origin in a header line of its own; zero_t0=False writes the times themselves.
ev = events(640, 480, 2_000_000)
ev[:, 0] += 5000
array = np.zeros(N, dtype=[("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1")])
array["t"], array["x"], array["y"], array["p"] = ev.T
store = np.zeros(N, dtype=faery.EVENTS_DTYPE)
store["t"], store["x"], store["y"], store["on"] = ev.T
for encoding, extension in (("evt2", "raw"), ("dat", "dat")):
    name = f"expelliarmus-{encoding}.{extension}"
    expelliarmus.Wizard(encoding=encoding).save(fpath=str(here / name), arr=array)
    save(name, ev, {"expelliarmus": columns(expelliarmus.Wizard(encoding=encoding).read(str(here / name)))})
for version, name in (("evt2", "faery-evt2.raw"), ("evt3", "faery-evt3.raw"), ("dat2", "faery-2.dat"), ("dat1", "faery-1.dat")):
    rows = ev
    if version == "dat1":  # of 304×240 pixels
        rows = ev.copy()
        rows[:, 1] %= 304
        rows[:, 2] %= 240
        store["x"], store["y"] = rows[:, 1], rows[:, 2]
    size = (304, 240) if version == "dat1" else (640, 480)
    faery.events_stream_from_array(store, size).to_file(here / name, version=version, zero_t0=False)
    readers = {"faery": read_faery(here / name)}
    if version in ("evt2", "dat2"):
        readers["expelliarmus"] = columns(expelliarmus.Wizard(encoding=version[:4].rstrip("2") if version == "dat2" else version).read(str(here / name)))
    save(name, rows, readers)

# EVT3 with vectors, triggers and an overflow of time, by Prophesee's description.
words, rows, high, low = [], [], None, None
times = np.sort(rng.integers((1 << 24) - 3000, (1 << 24) + 3000, 60))
for t in times:
    if t >> 12 != high:
        high, low = t >> 12, None
        words.append(0x8000 | high & 0xFFF)
    if t & 0xFFF != low:
        low = t & 0xFFF
        words.append(0x6000 | low)
    y, x, p = (int(v) for v in rng.integers((480, 600, 2)))
    words.append(y)
    kind = rng.integers(0, 3)
    if kind == 0:
        words.append(0x2000 | p << 11 | x)
        rows.append((t, x, y, p))
    else:
        words.append(0x3000 | p << 11 | x)
        for width, tag in ((12, 4), (12, 4), (8, 5))[: int(rng.integers(1, 4))]:
            valid = int(rng.integers(0, 1 << width))
            words.append(tag << 12 | valid)
            rows += [(t, x + k, y, p) for k in range(width) if valid >> k & 1]
            x += width
    if kind == 2:
        words.append(0xA000 | 1)  # an external trigger
header = b"% evt 3.0\n% format EVT3;height=480;width=640\n% end\n"
(here / "vectors-evt3.raw").write_bytes(header + struct.pack(f"<{len(words)}H", *words))
frame = evlib.load_events(str(here / "vectors-evt3.raw")).collect()  # polarities −1 and 1
got = np.stack([frame["t"].dt.total_microseconds(), frame["x"], frame["y"], frame["polarity"] > 0], 1)
save("vectors-evt3.raw", rows, {"evlib": got})

# .npz as SpikingJelly writes it.
ev = events(34, 34, 300000)
for name, write in (("stored.npz", np.savez), ("packed.npz", np.savez_compressed)):
    write(here / name, t=ev[:, 0], x=ev[:, 1].astype(np.uint8), y=ev[:, 2].astype(np.int16), p=ev[:, 3].astype(bool))
    with np.load(here / name) as a:
        save(name, ev, {"numpy": columns(a)})

# EVT 2.1, by Prophesee's description: words of 32 pixels, and triggers. evlib reads the lower half first,
# which is the order without "endianness=legacy".
rng21 = np.random.default_rng(22)
words, rows, high = [], [], None
for t in np.sort(rng21.integers(0, 20000, 60)):
    t = int(t)
    if t >> 6 != high:
        high = t >> 6
        words.append(8 << 60 | high << 32)
    y, x, p = int(rng21.integers(480)), 32 * int(rng21.integers(20)), int(rng21.integers(2))
    valid = int(rng21.integers(1, 1 << 32)) & int(rng21.integers(1, 1 << 32)) | 1 << int(rng21.integers(32))
    words.append(p << 60 | (t & 63) << 54 | x << 43 | y << 32 | valid)
    rows += [(t, x + k, y, p) for k in range(32) if valid >> k & 1]
    if rng21.integers(0, 8) == 0:
        words.append(10 << 60 | (t & 63) << 54 | 1 << 32)  # an external trigger
header = b"% evt 2.1\n% geometry 640x480\n% format EVT21;height=480;width=640\n% end\n"
(here / "vectors-evt21.raw").write_bytes(header + struct.pack(f"<{len(words)}Q", *words))
frame = evlib.load_events(str(here / "vectors-evt21.raw")).collect()
got = np.stack([frame["t"].dt.total_microseconds(), frame["x"], frame["y"], frame["polarity"] > 0], 1)
save("vectors-evt21.raw", rows, {"evlib": got})
